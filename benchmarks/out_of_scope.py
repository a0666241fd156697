"""Texts that no label fits: an option for them, beside a threshold, on clinc150 with the embedded 135M model.

The 300 texts of `many_labels.py`, of which a fifth has none of the 150 labels, and the best of its ways: a shortlist
and examples by MiniLM. Once without the option, once with it, once with it and the 20 training texts out of scope
among the examples. Beside them, without the option: all labels scored, with examples by words, and the regression on
MiniLM's vectors. A text is answered rightly when it gets its label, or None where it has none. Thresholds (of
confidence, and of the option's probability) are chosen on four fifths of the texts and looked at on the fifth, five
times.

    PYTHONPATH=tests/unit_tests python benchmarks/out_of_scope.py --data DIR --keep FILE

Forty minutes on one thread, a third less with what `many_labels.py` has kept.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import accuracy, interval, mini_lm, right
from kept import Kept, RememberingLlamaCpp
from many_labels import OUT, SEED, TASKS, TEXTS, load, ways
from record import write
from six_sets import Rows, split
from sklearn.metrics import roc_auc_score

from langchain_stormtrooper import Classification
from langchain_stormtrooper.text_classifier import TextClassifier

FOLDS = 5
OPTION = "none of these"
Answers = Sequence[str | None]


def training_texts_out_of_scope(folder: Path) -> Rows:
    """The training texts that have no label, with the option as theirs."""
    rows = [json.loads(line) for line in (folder / "clinc150_oos.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["text"], OPTION) for row in rows if row["split"] == "train" and row["label"] == OUT]


def thresholded(best: Answers, sure: Sequence[float], truths: Answers) -> list[str | None]:
    """The best labels, but None below the threshold that is right most often on the other folds."""

    def decide(index: int, threshold: float) -> str | None:
        return best[index] if sure[index] >= threshold else None

    decided: list[str | None] = [None] * len(best)
    for fold in range(FOLDS):
        known = [index for index in range(len(best)) if index % FOLDS != fold]
        cuts = [0.0, *sorted({sure[index] for index in known}), 1.1]
        chosen = max(cuts, key=lambda cut: sum(decide(index, cut) == truths[index] for index in known))
        for index in range(fold, len(best), FOLDS):
            decided[index] = decide(index, chosen)
    return decided


def quality(answers: Answers, truths: Answers, sure: Sequence[float]) -> dict[str, Any]:
    """How often answers are right, and how well they tell texts with a label from those without."""
    marks = right(answers, truths)
    without = [answer is None for answer, truth in zip(answers, truths, strict=True) if truth is None]
    withheld = sum(answer is None for answer in answers)
    labelled = right(*zip(*[pair for pair in zip(answers, truths, strict=True) if pair[1] is not None], strict=True))
    return {
        "accuracy": accuracy(marks),
        "interval": interval(marks),
        "accuracy_in_scope": accuracy(labelled),
        "recall_out_of_scope": sum(without) / len(without),
        "precision_out_of_scope": sum(without) / withheld if withheld else None,
        "area_under_curve": float(roc_auc_score([truth is not None for truth in truths], list(sure))),
        "right": marks,
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with clinc150_oos.jsonl")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    given = parser.parse_args()
    kept = Kept(given.keep)
    llm = RememberingLlamaCpp(n_threads=1, n_parallel=1)
    llm._scored, llm._save = kept.content["scores"], kept.save
    warnings.simplefilter("ignore")  # rows without a label are counted
    task = TASKS[1]
    labels, train, test = load(task, given.data, given.texts)
    inputs, named = split(test)
    truths = [None if label == OUT else label for label in named]
    model = mini_lm()
    compared = ways(labels, train, model, task, llm)
    plain = compared["shortlist and examples by MiniLM"]
    option = plain.model_copy(update={"out_of_scope": OPTION})
    shown = option.with_examples(training_texts_out_of_scope(given.data))  # type: ignore[attr-defined]  # few-shot
    arms: dict[str, Any] = {}

    def ask(classifier: TextClassifier) -> list[Classification]:
        answers = classifier.with_details().batch([*inputs])
        kept.save()
        return answers

    def take(name: str, answers: Answers, sure: Sequence[float]) -> None:
        arms[name] = quality(answers, truths, sure)
        print(name, {key: value for key, value in arms[name].items() if key != "right"}, flush=True)

    def take_both(name: str, best: Answers, sure: Sequence[float]) -> None:
        take(name, best, sure)
        take(f"{name}, threshold", thresholded(best, sure, truths), sure)

    everything = compared["all labels, examples by words"]
    for name, classifier in (("shortlist", plain), ("all labels", everything)):
        answers = ask(classifier)
        take_both(name, [answer.label for answer in answers], [answer.confidence or 0.0 for answer in answers])
    take_both("regression", *model.by_regression_with_confidence(train, inputs))
    for name, classifier in (("shortlist and option", option), ("shortlist and option, shown", shown)):
        answers = ask(classifier)
        in_scope = [1.0 - (answer.out_of_scope or 0.0) for answer in answers]
        best = [max(answer.probabilities or {}, key=(answer.probabilities or {}).__getitem__) for answer in answers]
        take(name, [answer.label for answer in answers], in_scope)
        take(f"{name}, threshold", thresholded(best, in_scope, truths), in_scope)
    for arm in arms.values():
        arm["above_shortlist_interval"] = interval(arm["right"], arms["shortlist"]["right"])
    if given.texts == TEXTS:
        out = sum(truth is None for truth in truths)
        figures = {"texts": len(test), "texts_out_of_scope": out, "labels": len(labels), "arms": arms}
        write("out_of_scope", figures, seed=SEED, n_threads=1, folds=FOLDS, option=OPTION)


if __name__ == "__main__":
    main()
