"""Texts in four languages, labels in English: sib200's 204 test sentences each, with the embedded 135M model.

Zero-shot as it comes, and calibrated with unlabelled texts of the language; beside it MiniLM, which has read English
alone, by cosine to English label sentences and by logistic regression on four labelled texts a label of the language.

    PYTHONPATH=tests/unit_tests python benchmarks/languages.py --data DIR --keep FILE

Ten minutes on one thread; with --keep an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import Embedded, accuracy, interval, mini_lm, right
from example_counts import first
from kept import Kept, RememberingLlamaCpp
from record import write
from six_sets import Task, few, load, split

from langchain_stormtrooper import ZeroShotClassifier
from langchain_stormtrooper.text_classifier import TextClassifier

SEED, TEXTS, UNLABELLED, SHOTS = 0, 204, 48, 4
LANGUAGES = ("en", "de", "ar", "zh")


def measure(language: str, data: Path, model: Embedded, llm: RememberingLlamaCpp, kept: Kept, texts: int) -> Any:
    """All arms in one language."""
    labels, train, test, _ = load(Task(f"sib200_{language}", "sentence", "topic"), data, texts)
    inputs, truths = split(test)
    shown = first(few(train, labels, 8), labels, SHOTS)
    spare = [text for text, _ in train if text not in dict(shown)]
    unlabelled = random.Random(SEED).sample(spare, min(UNLABELLED, len(spare)))  # noqa: S311  # a sample
    arms: dict[str, Any] = {}

    def take(name: str, answers: Sequence[str | None], **figures: Any) -> None:
        marks = right(answers, truths)
        arms[name] = {"accuracy": accuracy(marks), "interval": interval(marks), **figures}
        print(language, name, arms[name], flush=True)

    def ask(name: str, classifier: TextClassifier) -> None:
        llm.spent()
        answers = classifier.with_details().batch([*inputs])
        kept.save()
        take(
            name,
            [answer.label for answer in answers],
            prompt_tokens_per_row=sum(answer.prompt_tokens or 0 for answer in answers) / len(answers),
            cpu_seconds_per_row=llm.spent() / len(answers),
        )

    plain = ZeroShotClassifier(
        labels, llm=llm, method="score", prompt="kinds", text_kind="sentence", label_kind="topic"
    )
    ask("zero-shot", plain)
    ask("zero-shot, calibrated", plain.calibrate(unlabelled))
    take("MiniLM, cosine", model.by_label_sentences(labels, inputs))
    take("MiniLM, regression", model.by_regression(shown, inputs))
    return {"language": language, "labels": labels, "texts": len(test), "arms": arms}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the .jsonl files")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a language; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    given = parser.parse_args()
    kept = Kept(given.keep)
    llm = RememberingLlamaCpp(n_threads=1, n_parallel=1)
    llm._scored, llm._save = kept.content["scores"], kept.save
    warnings.simplefilter("ignore")  # rows without a label are counted
    model = mini_lm()
    languages = [measure(language, given.data, model, llm, kept, given.texts) for language in LANGUAGES]
    if given.texts == TEXTS:
        write("languages", languages, seed=SEED, n_threads=1, regression_on_texts_a_label=SHOTS)


if __name__ == "__main__":
    main()
