"""A cascade on real texts: what stays, how wrong it is, and how good the whole is beside each of its stages.

The cheap stage is a logistic regression, fitted to labelled texts, on TF-IDF or on all-MiniLM-L6-v2's vectors; the
strong one is the embedded 135M model, calibrated with the unlabelled training texts. On 20 seeded splits a threshold
is learnt, with labels (half of the 200 texts that the model was asked about, and 200 further ones, which cost no
request) and without (that half alone), and looked at on all texts that were neither fitted to nor learnt from.
Accuracy is that of the texts among them that the model was asked about.

Scores are asked once a text and kept. With --keep they outlive an interrupted run. Five minutes on one thread.

    PYTHONPATH=tests/unit_tests python benchmarks/cascade.py --data DIR
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sklearn
from baselines import mini_lm
from kept import Kept, RememberingLlamaCpp
from record import write
from six_sets import TASKS, Rows, Task, few, load, split
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

from langchain_stormtrooper import Cascade, ZeroShotClassifier

SEED, TEXTS, SPLITS = 0, 200, 20
FURTHER = 200
TARGETS, CONFIDENCE = (0.05, 0.1, 0.2), 0.95
FITTED = {"rotten_tomatoes": 640, "toxicity_surge": 240, "snips": 28}
"""Labelled texts that the cheap stage is fitted to, for each set."""


class Known:
    """A fitted estimator that has seen all texts at once, which gives the same and is quicker than one by one."""

    def __init__(self, features: Any, fitted: Rows, rows: Rows) -> None:
        texts, labels = split(fitted)
        model = make_pipeline(features, LogisticRegression(C=10, max_iter=1000)).fit(texts, labels)
        self.classes_ = [str(name) for name in model.classes_]
        inputs = split(rows)[0]
        self._known = dict(zip(inputs, model.predict_proba(inputs).tolist(), strict=True))

    def predict_proba(self, texts: Sequence[str]) -> list[list[float]]:
        """The probabilities of each class."""
        return [self._known[text] for text in texts]

    def answer(self, text: str) -> tuple[str, float]:
        """The best class, and how sure."""
        sure, name = max(zip(self._known[text], self.classes_, strict=True))
        return name, sure


def tf_idf() -> Any:
    """Words, pairs of words, and pieces of words."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True))


def share(right: Sequence[bool]) -> float | None:
    """The share of what is right; None of nothing."""
    return sum(right) / len(right) if right else None


def promises(
    cascade: Cascade, cheap: Known, test: Rows, further: Rows, said: dict[str, str | None], with_labels: bool
) -> list[dict[str, Any]]:
    """Thresholds learnt on some texts and looked at on others, for each target."""
    found = []
    for target in TARGETS:
        splits: list[tuple[int, int, int]] = []
        asked = right = answered = 0
        for seed in range(SPLITS):
            generator = random.Random(seed)  # noqa: S311  # samples
            shuffled = generator.sample(test, len(test))
            known, other = shuffled[: len(test) // 2], shuffled[len(test) // 2 :]
            unseen = other
            if with_labels:
                more = generator.sample(further, len(further))
                known, unseen = known + more[:FURTHER], other + more[FURTHER:]
            texts, truths = split(known)
            learnt = cascade.calibrate(texts, truths if with_labels else None, target_error=target)
            evidence = learnt.evidence
            assert evidence is not None
            sought = [(text, truth if with_labels else said[text]) for text, truth in unseen]
            stays = [(text, truth) for text, truth in sought if cheap.answer(text)[1] >= evidence.threshold]
            answers = learnt.with_details().batch([text for text, _ in other])
            splits.append((len(stays), sum(cheap.answer(text)[0] != truth for text, truth in stays), len(unseen)))
            asked += sum(answer.stage == 1 for answer in answers)
            right += sum(answer.label == truth for answer, (_, truth) in zip(answers, other, strict=True))
            answered += len(answers)
        kept, wrong = sum(one for one, _, _ in splits), sum(one for _, one, _ in splits)
        found.append(
            {
                "compared_with": "labels" if with_labels else "strong",
                "target_error": target,
                "texts_to_calibrate_with": len(known),
                "splits_with_kept_rows": sum(stay > 0 for stay, _, _ in splits),
                "splits_within_the_target": sum(bad <= target * stay for stay, bad, _ in splits),
                "mean_share_kept": sum(stay / of for stay, _, of in splits) / SPLITS,
                "error_of_kept": wrong / kept if kept else None,
                "accuracy": right / answered,
                "share_asked_of_strong": asked / answered,
                "kept_wrong_and_unseen": splits,
            }
        )
        print("  ", {name: value for name, value in found[-1].items() if name != "kept_wrong_and_unseen"}, flush=True)
    return found


def measure(
    task: Task, folder: Path, cheap_stage: str, features: Any, llm: RememberingLlamaCpp, kept: Kept, texts: int
) -> dict[str, Any]:
    """One set with one cheap stage."""
    labels, train, test, rest = load(task, folder, texts)
    count = FITTED[task.data]
    if count <= len(train):
        fitted, further = few(train, labels, count // len(labels)), rest
    else:
        fitted, further = train + rest[: count - len(train)], rest[count - len(train) :]
    cheap = Known(features, fitted, test + further)
    model = ZeroShotClassifier(
        labels, llm=llm, method="score", prompt="kinds", text_kind=task.text_kind, label_kind=task.label_kind
    )
    strong = model.calibrate(split(train)[0])
    inputs, truths = split(test)
    answers = strong.batch([*inputs])
    kept.save()
    figures = {
        "data": task.data,
        "cheap": cheap_stage,
        "labels": len(labels),
        "texts": len(test),
        "fitted_texts": len(fitted),
        "cheap_accuracy": share([cheap.answer(text)[0] == truth for text, truth in test]),
        "strong_accuracy": share([one == truth for one, truth in zip(answers, truths, strict=True)]),
        "agreement": share([cheap.answer(text)[0] == one for text, one in zip(inputs, answers, strict=True)]),
    }
    print(figures, flush=True)
    cascade = Cascade(cheap, strong, target_error=TARGETS[0], confidence=CONFIDENCE)
    said = dict(zip(inputs, answers, strict=True))
    both = [promises(cascade, cheap, test, further, said, with_labels) for with_labels in (True, False)]
    return {**figures, "promises": both[0] + both[1]}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the .jsonl files")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a set; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    given = parser.parse_args()
    kept = Kept(given.keep)
    llm = RememberingLlamaCpp(n_threads=1)
    llm._scored, llm._save = kept.content["scores"], kept.save
    warnings.simplefilter("ignore")  # thresholds that keep nothing are counted
    stages = {"TF-IDF": tf_idf(), "MiniLM": FunctionTransformer(mini_lm())}
    sets = [
        measure(task, given.data, name, features, llm, kept, given.texts)
        for task in TASKS
        if task.data in FITTED
        for name, features in stages.items()
    ]
    kept.save()
    if given.texts == TEXTS:
        write(
            "cascade",
            sets,
            seed=SEED,
            n_threads=1,
            confidence=CONFIDENCE,
            splits=SPLITS,
            further_texts=FURTHER,
            scikit_learn=sklearn.__version__,
        )


if __name__ == "__main__":
    main()
