"""Texts in four languages, labels in English: sib200's 204 test sentences each, with the embedded 135M model.

Zero-shot as it comes, and calibrated with unlabelled texts of the language; beside it MiniLM, which has read English
alone, by cosine to English label sentences and by logistic regression on four labelled texts a label of the language.

    PYTHONPATH=tests/unit_tests python benchmarks/languages.py --data DIR --keep FILE

Ten minutes on one thread; with --keep an interrupted run goes on where it was.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

from arms import Arms
from baselines import Embedded, mini_lm
from example_counts import first
from kept import Kept, RememberingLlamaCpp, options
from record import write
from six_sets import Task, few, load, split

from langchain_stormtrooper import ZeroShotClassifier

SEED, TEXTS, UNLABELLED, SHOTS = 0, 204, 48, 4
LANGUAGES = ("en", "de", "ar", "zh")


def measure(language: str, data: Path, model: Embedded, llm: RememberingLlamaCpp, texts: int) -> Any:
    """All arms in one language."""
    labels, train, test, _ = load(Task(f"sib200_{language}", "sentence", "topic"), data, texts)
    inputs, truths = split(test)
    shown = first(few(train, labels, 8), labels, SHOTS)
    spare = [text for text, _ in train if text not in dict(shown)]
    unlabelled = random.Random(SEED).sample(spare, min(UNLABELLED, len(spare)))  # noqa: S311  # a sample
    arms = Arms(language, inputs, truths, llm)
    plain = ZeroShotClassifier(
        labels, llm=llm, method="score", prompt="kinds", text_kind="sentence", label_kind="topic"
    )
    arms.ask("zero-shot", plain)
    arms.ask("zero-shot, calibrated", plain.calibrate(unlabelled))
    arms.take("MiniLM, cosine", model.by_label_sentences(labels, inputs))
    arms.take("MiniLM, regression", model.by_regression(shown, inputs))
    return {"language": language, "labels": labels, "texts": len(test), "arms": arms.figures}


def main() -> None:
    """Measure and record."""
    given = options(__doc__, TEXTS).parse_args()
    llm = RememberingLlamaCpp.keeping(Kept(given.keep))
    warnings.simplefilter("ignore")  # rows without a label are counted
    model = mini_lm()
    languages = [measure(language, given.data, model, llm, given.texts) for language in LANGUAGES]
    if given.texts == TEXTS:
        write("languages", languages, seed=SEED, n_threads=1, regression_on_texts_a_label=SHOTS)


if __name__ == "__main__":
    main()
