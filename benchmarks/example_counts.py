"""Zero-shot against 1, 2, 4 and 8 examples a label, on six sets, with the embedded 135M model, in one run.

All arms are calibrated with the same unlabelled texts (the training texts that are nobody's example) and answer the
same 100 seeded test texts. Beside them: the four of eight examples a label that are nearest to a text by MiniLM; the
labelled texts spent otherwise, on calibrating the zero-shot classifier or on a logistic regression on MiniLM's
vectors; cosine to label sentences, which wants none; and what `tune` chooses with the same examples and 100 further
labelled texts, calibrated like the others afterwards.

    PYTHONPATH=tests/unit_tests python benchmarks/example_counts.py --data DIR --keep FILE

An hour and a half on one thread; with --keep an interrupted run goes on where it was.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arms import Arms
from baselines import Embedded, mini_lm
from kept import Kept, RememberingLlamaCpp, options
from record import write
from six_sets import TASKS, Rows, Task, few, load, split

from langchain_stormtrooper import FewShotClassifier, ZeroShotClassifier, tune

SEED, TEXTS, UNLABELLED, TUNED_ON = 0, 100, 48, 100
COUNTS = (1, 2, 4, 8)
LABELLED = (4, 8)
"""With how many texts a label a calibration is fitted as well."""
NEAREST = 4
"""How many of the most examples are chosen for each text by MiniLM."""
BUDGET = 500
"""Rows that `tune` may ask about."""


def first(rows: Rows, labels: Sequence[str], count: int) -> Rows:
    """The first texts of each label, so that more examples hold the fewer."""
    return [row for label in labels for row in [row for row in rows if row[1] == label][:count]]


def measure(task: Task, data: Path, model: Embedded, llm: RememberingLlamaCpp, texts: int) -> dict[str, Any]:
    """All arms on one set."""
    labels, train, test, rest = load(task, data, texts)
    inputs, truths = split(test)
    shown = few(train, labels, max(COUNTS))
    spare = [text for text, _ in train if text not in dict(shown)]
    unlabelled = random.Random(SEED).sample(spare, min(UNLABELLED, len(spare)))  # noqa: S311  # a sample
    arms = Arms(task.data, inputs, truths, llm)
    settings: dict[str, Any] = {
        "labels": labels,
        "llm": llm,
        "method": "score",
        "prompt": "kinds",
        "text_kind": task.text_kind,
        "label_kind": task.label_kind,
    }
    plain = ZeroShotClassifier(**settings)
    arms.ask("0", plain.calibrate(unlabelled))
    for count in COUNTS:
        arms.ask(str(count), plain.with_examples(first(shown, labels, count)).calibrate(unlabelled))
    near = FewShotClassifier(**{**settings, "examples": shown, "select": model, "n_examples": NEAREST})
    arms.ask("nearest", near.calibrate(unlabelled))
    for count in LABELLED:
        arms.ask(f"0, calibrated with {count}", plain.calibrate(*split(first(shown, labels, count))))
    others = [row for row in train if row not in shown] + rest
    tuning = random.Random(SEED).sample(others, TUNED_ON)  # noqa: S311  # a sample
    llm.spent()
    tuned = tune(*split(tuning), classifier=plain, examples=shown, n_examples=(0, *COUNTS), budget=BUDGET)
    seconds = llm.spent()
    print(tuned.evidence.model_dump_json(), flush=True)
    arms.ask("tuned", tuned.classifier.calibrate(unlabelled))
    arms.take("MiniLM, cosine", model.by_label_sentences(labels, inputs))
    for count in COUNTS:
        arms.take(f"MiniLM, regression on {count}", model.by_regression(first(shown, labels, count), inputs))
    arms.compare_with_zero_shot("0")
    return {
        "data": task.data,
        "labels": labels,
        "texts": len(test),
        "unlabelled_texts": len(unlabelled),
        "arms": arms.figures,
        "tuning": {**tuned.evidence.model_dump(mode="json"), "cpu_seconds": seconds},
        "right": arms.marks,
    }


def means(sets: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The macro-average of each arm over the sets."""
    return {name: float(np.mean([one["arms"][name]["accuracy"] for one in sets])) for name in sets[0]["arms"]}


def main() -> None:
    """Measure and record."""
    parser = options(__doc__, TEXTS)
    parser.add_argument("--only", help="one of the sets, for --keep; nothing is recorded")
    given = parser.parse_args()
    llm = RememberingLlamaCpp.keeping(Kept(given.keep))
    warnings.simplefilter("ignore")  # rows without a label are counted
    model = mini_lm()
    sets = [measure(task, given.data, model, llm, given.texts) for task in TASKS if given.only in (None, task.data)]
    if given.texts == TEXTS and given.only is None:
        write("example_counts", {"sets": sets, "means": means(sets)}, seed=SEED, n_threads=1)


if __name__ == "__main__":
    main()
