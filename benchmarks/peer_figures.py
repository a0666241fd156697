"""From peers' kept answers to figures: quality with intervals, speed and tokens, flips, attacks. Asks nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from langchain_stormtrooper.evaluation.metrics import expected_calibration_error, risk_coverage

SEED, RESAMPLES, SPLITS, TARGET_ERROR = 0, 10_000, 50, 0.05

Rows = Sequence[Sequence[Any]]
"""Of each text: the label answered, whether the model itself had said a label, how sure the peer is."""


def marks(rows: Rows, truths: Sequence[str]) -> str:
    """For each text whether it was answered rightly."""
    return "".join(str(int(row[0] == truth)) for row, truth in zip(rows, truths, strict=True))


def values(one: str) -> Any:
    """Marks as numbers."""
    return np.array([int(mark) for mark in one], float)


def macro(sets: Sequence[str], others: Sequence[str] | None = None) -> dict[str, Any]:
    """Mean over sets of the share of ones, with a 95 % bootstrap interval over the texts within each set.

    Args:
        sets: Marks, for each set.
        others: Marks of the same texts, which are subtracted, text by text.
    """
    generator = np.random.default_rng(SEED)
    differences = [values(one) for one in sets]
    if others is not None:
        differences = [one - values(other) for one, other in zip(differences, others, strict=True)]
    draws = [one[generator.integers(len(one), size=(RESAMPLES, len(one)))].mean(axis=1) for one in differences]
    ends = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    return {"mean": float(np.mean([one.mean() for one in differences])), "interval": [float(end) for end in ends]}


def f1(rows: Rows, truths: Sequence[str], labels: Sequence[str]) -> float:
    """Macro-F1 over the labels; no answer is a wrong one."""
    answers = ["" if row[0] is None else row[0] for row in rows]
    return float(f1_score(truths, answers, labels=[*labels], average="macro", zero_division=0))


def decided(confidences: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """How much is decided at no more than 5 % error, thresholds chosen on one half of the texts, used on the other.

    The threshold is the lowest confidence above which no more than the target was wrong among the texts it is chosen
    on: the same rule for every peer, and no promise. Means over seeded splits.
    """
    shares, wrong, total = [], 0, 0
    for seed in range(SPLITS):
        order = random.Random(seed).sample(range(len(right)), len(right))  # noqa: S311
        known, other = order[: len(order) // 2], order[len(order) // 2 :]
        curve = risk_coverage([confidences[i] for i in known], [right[i] for i in known], len(known))
        fit = [point.confidence for point in curve if point.error <= TARGET_ERROR]
        taken = [i for i in other if fit and confidences[i] >= fit[-1]]
        shares.append(len(taken) / len(other))
        wrong += sum(not right[i] for i in taken)
        total += len(taken)
    return {"share": float(np.mean(shares)), "error": wrong / total if total else 0.0}


def quality(answers: Mapping[str, Rows], texts: Mapping[str, tuple[list[str], list[str]]]) -> dict[str, Any]:
    """How good one peer's answers are.

    Args:
        answers: Of each set.
        texts: Labels and the texts' right ones, of each set.
    """
    right = {name: marks(rows, texts[name][1]) for name, rows in answers.items()}
    valid = ["".join(str(int(row[1])) for row in rows) for rows in answers.values()]
    f1s = {name: f1(rows, texts[name][1], texts[name][0]) for name, rows in answers.items()}
    figures = {
        "accuracy": {name: values(one).mean() for name, one in right.items()},
        "macro_accuracy": macro([*right.values()]),
        "macro_f1": f1s,
        "mean_macro_f1": float(np.mean([*f1s.values()])),
        "valid": macro(valid),
        "right": right,
    }
    confidences = [row[2] for rows in answers.values() for row in rows]
    if None not in confidences:
        together = [mark == "1" for one in right.values() for mark in one]
        figures["ece"] = expected_calibration_error(confidences, together)
        figures["decided"] = decided(confidences, together)
    return figures


def speed(jobs: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows a second against those of a reference that was given the same rows at nearly the same time; tokens a row.

    Args:
        jobs: What was measured for each batch of rows.
        reference: The same for the reference, in the same order.
    """
    rows = sum(len(job["rows"]) for job in jobs)
    seconds = np.array([job["seconds"] for job in jobs])
    against = np.array([job["seconds"] for job in reference])
    drawn = np.random.default_rng(SEED).integers(len(jobs), size=(RESAMPLES, len(jobs)))
    ratios = against[drawn].sum(axis=1) / seconds[drawn].sum(axis=1)
    tokens = {name: sum(job["tokens"][name] for job in jobs) for name in jobs[0]["tokens"]} if jobs[0]["tokens"] else {}
    first = sum(job["first"] for job in jobs) / sum(job["first"] for job in reference)
    return {
        "rows": rows,
        "seconds": float(seconds.sum()),
        "rows_per_second": rows / float(seconds.sum()),
        "ratio_to_original": float(against.sum() / seconds.sum()),
        "ratio_interval": [float(end) for end in np.percentile(ratios, [2.5, 97.5])],
        "first_answer_of_the_originals": first,
        "tokens_per_row": {name: count / rows for name, count in tokens.items()},
    }


def flips(before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, Any]:
    """The share of texts whose answer is another one, mean over sets."""
    changed = [
        "".join(str(int(old[0] != new[0])) for old, new in zip(before[name], rows, strict=False))
        for name, rows in after.items()
    ]
    return {"texts": sum(map(len, changed)), **macro(changed)}


def attacks(
    before: Mapping[str, Rows], after: Mapping[str, Rows], targets: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What an attack achieved: answers changed at all, and to the attacker's label, where that was not the answer."""
    changed, taken = [], []
    for name, rows in after.items():
        for old, new, target in zip(before[name], rows, targets[name], strict=False):
            changed.append(str(int(old[0] != new[0])))
            if old[0] != target:
                taken.append(str(int(new[0] == target)))
    return {"changed": pooled(changed), "taken": pooled(taken)}


def pooled(ones: Sequence[str]) -> dict[str, Any]:
    """A share over all texts, with its interval."""
    return {"texts": len(ones), **macro(["".join(ones)])}
