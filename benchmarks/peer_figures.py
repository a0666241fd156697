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


def above(right: Mapping[str, str], other: Mapping[str, str]) -> dict[str, Any]:
    """By how much one peer is above another, on the texts that both were given."""
    pairs = [(one[: len(other[name])], other[name][: len(one)]) for name, one in right.items()]
    return {"texts": sum(len(one) for one, _ in pairs), **macro(*(list(ones) for ones in zip(*pairs, strict=True)))}


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


def speed(turns: Mapping[Any, Mapping[str, Any]], reference: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds a row against those of a reference in the same turns of the same run, and tokens a row.

    Args:
        turns: What was measured in each turn.
        reference: The same for the reference, which may have had more rows in a turn.
    """
    rows = sum(len(job["rows"]) for job in turns.values())
    names = next(iter(turns.values()))["tokens"]
    seconds = sum(job["seconds"] for job in turns.values())
    together = [turn for turn, job in turns.items() if turn in reference and job["run"] == reference[turn]["run"]]
    pairs = np.array([[_a_row(reference[turn]), _a_row(turns[turn])] for turn in together], float)
    sums = pairs[np.random.default_rng(SEED).integers(len(pairs), size=(RESAMPLES, len(pairs)))].sum(axis=1)
    first = [turns[turn]["first"] / reference[turn]["first"] for turn in together]
    return {
        "rows": rows,
        "rows_per_second": rows / seconds,
        "turns": len(pairs),
        "ratio_to_original": float(pairs[:, 0].sum() / pairs[:, 1].sum()),
        "ratio_interval": [float(end) for end in np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])],
        "first_answer_by_originals": float(np.median(first)),
        "tokens_per_row": {name: sum(job["tokens"][name] for job in turns.values()) / rows for name in names},
    }


def _a_row(job: Mapping[str, Any]) -> float:
    return float(job["seconds"] / len(job["rows"]))


def flips(before: Mapping[str, Rows], after: Mapping[str, Rows]) -> dict[str, Any]:
    """The share of texts whose answer is another one."""
    return pooled(
        [old[0] != new[0] for name, rows in after.items() for old, new in zip(before[name], rows, strict=False)]
    )


def changed(
    before: Mapping[str, Rows], after: Mapping[str, Rows], made: Mapping[str, Sequence[tuple[str, str, str | None]]]
) -> dict[str, Any]:
    """What changes of texts did to answers.

    Args:
        before: Answers to the texts as they are, of each set.
        after: Answers to what was made of the first of them.
        made: What that is: the change, the new text, and the label an attacker wants.

    Returns:
        For each change the share of answers that are other ones; as `taken`, for all attacks together, the share of
        answers that are the attacker's label now, among those that were not before.
    """
    other: dict[str, list[bool]] = {}
    taken: list[bool] = []
    for name, rows in after.items():
        kinds = len({kind for kind, *_ in made[name]})
        old_rows = [row for row in before[name][: len(rows) // kinds] for _ in range(kinds)]
        for old, new, (kind, _, target) in zip(old_rows, rows, made[name], strict=True):
            other.setdefault(kind, []).append(old[0] != new[0])
            if target is not None and old[0] != target:
                taken.append(new[0] == target)
    return {**{kind: pooled(ones) for kind, ones in other.items()}, "taken": pooled(taken)}


def pooled(ones: Sequence[bool]) -> dict[str, Any]:
    """A share over all texts, with its interval."""
    return {"texts": len(ones), **macro(["".join(str(int(one)) for one in ones)])}
