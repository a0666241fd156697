"""Six sets of texts, one small model: the original's way against scores, calibrated without and with labels.

All arms in one run, on the same 200 seeded test texts a set: (1) the original stormtrooper's way, its prompt taken from
its wheel, 256 tokens, greedy, and the nearest label without a threshold; (2) `method="score"` with the default prior;
(3) calibrated with the unlabelled training texts; (4) with eight labelled training texts a label. Then calibration
error after 50 labelled texts, and whether thresholds keep an error target on held-out halves.

Scores are asked once a text and kept, so that a calibration costs what its own texts cost. With --keep they and the
original's answers outlive an interrupted run. An hour on one thread, nearly all of it the original's 256 tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kept import Kept, RememberingLlamaCpp
from original import STORMTROOPER, ask_original, nearest, original_prompt
from record import write

from langchain_stormtrooper import Classification, LlamaCpp, ZeroShotClassifier
from langchain_stormtrooper.calibration import brier_score, expected_calibration_error

SEED, TEXTS, SHOTS, LABELLED, SPLITS = 0, 200, 8, 50, 20
TARGETS, CONFIDENCE = (0.05, 0.2), 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Task:
    """A set, and what the prompt calls its texts and labels; chosen on training texts, where there was a choice."""

    data: str
    text_kind: str
    label_kind: str
    labels: int | None = None


TASKS = [
    Task("snips", "command", "intent"),
    Task("rotten_tomatoes", "review", "sentiment"),
    Task("subj", "sentence", "kind"),
    Task("toxicity_surge", "comment", "label"),
    Task("sib200_en", "sentence", "topic"),
    Task("clinc150_oos", "command", "intent", labels=10),
]
Rows = list[tuple[str, str]]


def load(task: Task, folder: Path, texts: int) -> tuple[list[str], Rows, Rows, Rows]:
    """Labels, training texts, seeded test texts, and the test texts that are left."""
    lines = (folder / f"{task.data}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    labels = sorted({row["label"] for row in rows} - {"out of scope"})
    if task.labels is not None:
        labels = sorted(random.Random(SEED).sample(labels, task.labels))  # noqa: S311  # a sample
    rows = [row for row in rows if row["label"] in labels]
    train = [(row["text"], row["label"]) for row in rows if row["split"] == "train"]
    test = [(row["text"], row["label"]) for row in rows if row["split"] == "test"]
    random.Random(SEED).shuffle(test)  # noqa: S311
    return labels, train, test[:texts], test[texts:]


def few(rows: Rows, labels: Sequence[str], count: int) -> Rows:
    """So many seeded texts of each label."""
    generator = random.Random(SEED)  # noqa: S311
    return [row for label in labels for row in generator.sample([row for row in rows if row[1] == label], count)]


def split(rows: Rows) -> tuple[list[str], list[str]]:
    """Texts and labels."""
    return [text for text, _ in rows], [label for _, label in rows]


def quality(answers: Sequence[Classification], test: Rows) -> dict[str, float]:
    """How far probabilities can be believed."""
    best = [max(answer.probabilities or {}, key=(answer.probabilities or {}).__getitem__) for answer in answers]
    right = [label == truth for label, (_, truth) in zip(best, test, strict=True)]
    names = list(answers[0].probabilities or {})
    return {
        "accuracy": sum(right) / len(right),
        "ece": expected_calibration_error([answer.confidence or 0.0 for answer in answers], right),
        "brier": brier_score(
            [list((answer.probabilities or {}).values()) for answer in answers],
            [names.index(truth) for _, truth in test],
        ),
    }


def promises(classifier: ZeroShotClassifier, rows: Rows, target: float, splits: int) -> dict[str, Any]:
    """Thresholds chosen on one half of the texts, looked at on the other."""
    held, shares, tried = 0, [], []
    for seed in range(splits):
        shuffled = random.Random(seed).sample(rows, len(rows))  # noqa: S311
        known, other = shuffled[: len(rows) // 2], shuffled[len(rows) // 2 :]
        answers = classifier.calibrate(*split(known), target_error=target, confidence=CONFIDENCE).batch(split(other)[0])
        decided = [(answer, truth) for answer, (_, truth) in zip(answers, other, strict=True) if answer is not None]
        wrong = sum(answer != truth for answer, truth in decided)
        held += wrong <= target * len(decided)
        shares.append(len(decided) / len(other))
        tried.append([wrong, len(decided)])
    return {
        "target_error": target,
        "splits": splits,
        "texts_in_half": len(rows) // 2,
        "held": held,
        "splits_with_decided_rows": sum(decided > 0 for _, decided in tried),
        "mean_share_decided": sum(shares) / splits,
        "wrong_and_decided": tried,
    }


def measure(
    task: Task,
    data: Path,
    llm: RememberingLlamaCpp,
    original: LlamaCpp,
    template: str,
    texts: int,
    splits: int,
    kept: Kept,
) -> dict[str, Any]:
    """All arms on one set."""
    labels, train, test, rest = load(task, data, texts)
    inputs, truths = split(test)
    done = kept.content["original"].setdefault(task.data, {})
    ask_original(original, template, labels, inputs, done, kept)
    generated = [done[text] for text in inputs]
    right = {"original": [nearest(said, labels) == label for (said, *_), label in zip(generated, truths, strict=True)]}
    arms: dict[str, Any] = {
        "original": {
            "generated_tokens": sum(tokens for _, tokens, _ in generated),
            "seconds": sum(seconds for *_, seconds in generated),
            "answers_that_are_a_label": sum(said.strip() in labels for said, *_ in generated),
        }
    }
    score = ZeroShotClassifier(
        labels, llm=llm, method="score", prompt="kinds", text_kind=task.text_kind, label_kind=task.label_kind
    )

    def arm(name: str, classifier: ZeroShotClassifier, learning: float = 0.0) -> list[Classification]:
        answers = classifier.with_details().batch([*inputs])
        right[name] = [answer.label == truth for answer, truth in zip(answers, truths, strict=True)]
        arms[name] = {
            "generated_tokens": sum(answer.generated_tokens or 0 for answer in answers),
            "seconds": llm.spent(),
            "seconds_to_learn": learning,
        }
        kept.save()
        return answers

    llm.spent()
    raw = arm("no prior", score.model_copy(update={"prior": None}))
    default = arm("score", score)
    unlabelled = score.calibrate(split(train)[0])
    arm("unlabelled", unlabelled, llm.spent())
    labelled = score.calibrate(*split(few(train, labels, SHOTS)))
    arm("labelled", labelled, llm.spent())
    fifty = random.Random(SEED).sample(train + rest, LABELLED)  # noqa: S311
    calibrated = score.calibrate(*split(fifty))
    after = arm("fifty labelled", calibrated, llm.spent())
    for name, answers in right.items():
        arms[name]["accuracy"] = sum(answers) / len(answers)
    believed = {"raw": quality(raw, test), "words": quality(default, test), "calibrated": quality(after, test)}
    kept_promises = [promises(score, train + test, target, splits) for target in TARGETS]
    figures = {
        "data": task.data,
        "labels": labels,
        "text_kind": task.text_kind,
        "label_kind": task.label_kind,
        "texts": len(test),
        "unlabelled_texts": len(train),
        "arms": arms,
        "calibration": {"labelled_texts": len(fifty), **believed},
        "promises": kept_promises,
        "right": {name: "".join(str(int(one)) for one in answers) for name, answers in right.items()},
    }
    print(task.data, {name: round(values["accuracy"], 3) for name, values in arms.items()}, flush=True)
    print("  ECE", {name: round(values["ece"], 3) for name, values in believed.items()})
    print(
        "  held", [[one["target_error"], one["held"], one["mean_share_decided"]] for one in kept_promises], flush=True
    )
    return figures


def summarize(sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Macro-averages with bootstrap intervals over texts, paired with the original's."""
    names = list(sets[0]["right"])
    generator = np.random.default_rng(SEED)
    samples: dict[str, list[Any]] = {name: [] for name in names}
    for one in sets:
        right = {name: np.array([mark == "1" for mark in one["right"][name]]) for name in names}
        size = len(one["right"][names[0]])
        drawn = generator.integers(size, size=(RESAMPLES, size))
        for name in names:
            samples[name].append(right[name][drawn].mean(axis=1))
    arms: dict[str, Any] = {}
    original = np.mean(samples["original"], axis=0)
    tokens = {name: sum(one["arms"][name]["generated_tokens"] for one in sets) for name in names}
    for name in names:
        drawn_means = np.mean(samples[name], axis=0)
        mean = float(np.mean([one["arms"][name]["accuracy"] for one in sets]))
        before = float(np.mean([one["arms"]["original"]["accuracy"] for one in sets]))
        arms[name] = {
            "macro_accuracy": mean,
            "interval": np.percentile(drawn_means, [2.5, 97.5]).tolist(),
            "above_original": mean - before,
            "above_original_interval": np.percentile(drawn_means - original, [2.5, 97.5]).tolist(),
            "generated_tokens": tokens[name],
            "share_of_the_originals_tokens": tokens[name] / tokens["original"],
            "seconds": sum(one["arms"][name]["seconds"] for one in sets),
        }
    halved = [one["calibration"]["calibrated"]["ece"] <= one["calibration"]["raw"]["ece"] / 2 for one in sets]
    return {
        "arms": arms,
        "sets_with_ece_halved": sum(halved),
        "promises_held": {
            str(target): {one["data"]: one["promises"][index]["held"] for one in sets}
            for index, target in enumerate(TARGETS)
        },
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the six .jsonl files")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a set; fewer are not recorded")
    parser.add_argument("--splits", type=int, default=SPLITS, help="splits for the promised error")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    given = parser.parse_args()
    kept = Kept(given.keep)
    # The original opens all rows at once: eight together is the most that one thread gains from.
    original = LlamaCpp(n_threads=1, n_parallel=8)
    llm = RememberingLlamaCpp(n_threads=1)
    llm._scored = kept.content["scores"]
    template = original_prompt()
    warnings.simplefilter("ignore")  # rows without a label are counted, and thresholds that decide nothing as well
    sets = [measure(task, given.data, llm, original, template, given.texts, given.splits, kept) for task in TASKS]
    kept.save()
    summary = summarize(sets)
    print(json.dumps(summary, indent=1))
    if (given.texts, given.splits) == (TEXTS, SPLITS):
        write(
            "six_sets",
            {"sets": sets, "summary": summary},
            seed=SEED,
            n_threads=1,
            original=STORMTROOPER,
            labelled_texts_a_label=SHOTS,
            promised_with_confidence=CONFIDENCE,
            resamples=RESAMPLES,
        )


if __name__ == "__main__":
    main()
