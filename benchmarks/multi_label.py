"""Several labels for a text: ways to ask the embedded model, the original's way, and a small embedding model.

200 seeded test texts of GoEmotions, 28 labels; thresholds and regressions are fitted to further seeded texts of the
same split, since labels occur otherwise in the training split. Each way has thresholds for a high micro-F1 and others
for a high macro-F1, and is judged by what they were fitted for. So is the best constant answer: it is what the same fit
makes of a model that says the same of every text.

The embedding model is that of the tests, 84 MB to fetch, and pip fetches the original's wheel as well. With --keep what
the LLM said outlives an interrupted run. Half an hour of CPU, nearly all of it a question for each label and the
original's 256 tokens:

    PYTHONPATH=tests/unit_tests python benchmarks/multi_label.py --data DIR --keep FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kept import Kept, RememberingLlamaCpp
from minilm import MiniLM, fetch
from original import STORMTROOPER, ask_original, nearest, original_parts, original_prompt
from record import write
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from langchain_stormtrooper import LlamaCpp, MultiLabelClassifier
from langchain_stormtrooper.multi_label.thresholds import AVERAGES, Average, fit_thresholds
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.tasks import run_all

DATA = "goemotions"
SEED, TEXTS, KNOWN, RESAMPLES, FOLDS = 0, 200, 200, 10_000, 5
KINDS: dict[str, Any] = {"text_kind": "comment", "label_kind": "emotion"}
COMPARED = ("constant", "original", "regression")
"""What the others are compared with, text by text."""

PATIENCE = 3600.0
"""Seconds that an answer may take on a machine with other work."""

SENTENCE = "This comment expresses {}."


@dataclass
class Texts:
    """Texts, and which labels they have: (texts, labels)."""

    texts: list[str]
    truth: Any


@dataclass
class Arm:
    """A way to answer, and what it costs a text.

    Attributes:
        given: For each average, which text gets which label: (texts, labels).
        scores: What it thresholds on the test texts, (texts, labels); None if nothing.
        cost: Requests, tokens and seconds a text.
    """

    given: dict[Average, Any]
    scores: Any = None
    cost: dict[str, float] = field(default_factory=dict)


def load(path: Path, texts: int, known: int) -> tuple[list[str], Texts, Texts]:
    """Labels, test texts, and further texts to fit to."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labels = sorted({label for row in rows for label in row["labels"]})
    test = [row for row in rows if row["split"] == "test"]
    random.Random(SEED).shuffle(test)  # noqa: S311  # a sample

    def read(part: list[dict[str, Any]]) -> Texts:
        truth = np.array([[label in row["labels"] for label in labels] for row in part])
        return Texts([row["text"] for row in part], truth)

    return labels, read(test[:texts]), read(test[texts : texts + known])


def f1(truth: Any, given: Any, weights: Any, average: Average) -> Any:
    """F1 of resampled texts, one for each row of weights; a label without texts counts as 0."""
    right, has, got = (weights @ each.astype(float) for each in (truth & given, truth, given))
    if average == "micro":
        right, has, got = (each.sum(axis=1, keepdims=True) for each in (right, has, got))
    return (2 * right / np.maximum(has + got, 1)).mean(axis=1)


def cut(known: Texts, scores: Any, test_scores: Any) -> dict[Average, Any]:
    """Which test texts get which label, by thresholds fitted to known ones; scores are in [0, 1]."""
    names = [str(index) for index in range(known.truth.shape[1])]
    given: dict[Average, Any] = {}
    for average in AVERAGES:
        fitted = fit_thresholds(
            dict(zip(names, scores.T.tolist(), strict=True)),
            dict(zip(names, known.truth.T.tolist(), strict=True)),
            average,
        )
        given[average] = test_scores >= np.array([one.threshold for one in fitted])
    return given


def table(answers: Sequence[Mapping[str, float]]) -> Any:
    """Probabilities as (texts, labels)."""
    return np.array([list(answer.values()) for answer in answers])


def asked(
    classifier: MultiLabelClassifier, llm: RememberingLlamaCpp, test: Texts, known: Texts, requests: int
) -> tuple[Arm, Arm, Any]:
    """A classifier with fitted thresholds, the same with its default ones, and its probabilities for known texts."""
    names = classifier.labels.names
    whole = classifier.with_details()
    whole.invoke(test.texts[0])  # the prior
    llm.spent()
    rows = whole.batch(test.texts)
    cost = {
        "requests": requests,
        "prompt_tokens": sum(row.prompt_tokens or 0 for row in rows) / len(rows),
        "generated_tokens": sum(row.generated_tokens or 0 for row in rows) / len(rows),
        "seconds": llm.spent() / len(rows),
    }

    def marks(lists: Sequence[list[str] | None]) -> Any:
        return np.array([[name in (given or ()) for name in names] for given in lists])

    lists = [[name for name, has in zip(names, row, strict=True) if has] for row in known.truth]
    learnt = {
        average: marks(classifier.calibrate(known.texts, lists, average=average).batch(test.texts))
        for average in AVERAGES
    }
    scores = table([row.probabilities or {} for row in rows])
    on_known = table([row.probabilities or {} for row in whole.batch(known.texts)])
    default = marks([row.labels for row in rows])
    return Arm(learnt, scores, cost), Arm(dict.fromkeys(AVERAGES, default), scores, cost), on_known


def centred(scores: Any) -> Any:
    """Probabilities of yes, each text's without its mean log-odds: what it says of all labels alike is taken out."""
    odds = np.log(np.clip(scores, 1e-9, 1 - 1e-9) / (1 - np.clip(scores, 1e-9, 1 - 1e-9)))
    return 1 / (1 + np.exp(odds.mean(axis=1, keepdims=True) - odds))


def by_original(llm: LlamaCpp, labels: Sequence[str], test: Texts, kept: Kept) -> Arm:
    """The original's way: one label a text."""
    template = original_prompt()
    done = kept.content["original"].setdefault(DATA, {})
    ask_original(llm, template, labels, test.texts, done, kept, time.process_time)
    kept.save()
    answers = [done[text] for text in test.texts]
    head, tail = original_parts(template, labels)
    prompts = [Prompt(head=head, text=text, tail=tail) for text in test.texts]
    counts = asyncio.run(run_all(llm.acount_tokens, prompts, llm.concurrency))
    given = np.array([[nearest(said, labels) == label for label in labels] for said, *_ in answers])
    cost = {
        "requests": 1,
        "prompt_tokens": sum(count or 0 for count in counts) / len(counts),
        "generated_tokens": sum(tokens for _, tokens, _ in answers) / len(answers),
        "seconds": sum(seconds for *_, seconds in answers) / len(answers),
    }
    return Arm(dict.fromkeys(AVERAGES, given), cost=cost)


def regress(vectors: Any, truth: Any, others: Any) -> Any:
    """Probabilities of logistic regressions, one against the rest; the share of a label whose texts are all alike."""
    found = np.empty((len(others), truth.shape[1]))
    for index, has in enumerate(truth.T):
        found[:, index] = has.mean()
        if 0 < has.sum() < len(has):
            found[:, index] = LogisticRegression(C=10, max_iter=1000).fit(vectors, has).predict_proba(others)[:, 1]
    return found


def by_embeddings(labels: Sequence[str], test: Texts, known: Texts) -> dict[str, Arm]:
    """Cosines to sentences with the labels, and regressions on the same known texts."""
    with tempfile.TemporaryDirectory() as folder:
        model = MiniLM(fetch(Path(folder)))

    def embed(texts: list[str]) -> Any:
        parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
        return np.array([vector for part in parts for vector in model.embed_documents(part)])

    started = time.process_time()
    vectors = embed(test.texts)
    cost = {"requests": 1, "seconds": (time.process_time() - started) / len(test.texts)}
    on_known = embed(known.texts)
    sentences = embed([SENTENCE.format(label) for label in labels])
    # Thresholds need numbers in [0, 1].
    cosines, known_cosines = ((1 + each @ sentences.T) / 2 for each in (vectors, on_known))
    scores = regress(on_known, known.truth, vectors)
    unseen = np.empty(known.truth.shape)
    for fitting, rest in KFold(FOLDS, shuffle=True, random_state=SEED).split(on_known):
        unseen[rest] = regress(on_known[fitting], known.truth[fitting], on_known[rest])
    return {
        "cosine": Arm(cut(known, known_cosines, cosines), cosines, cost),
        "regression": Arm(cut(known, unseen, scores), scores, cost),
    }


def summarize(arms: Mapping[str, Arm], truth: Any) -> dict[str, Any]:
    """F1 with bootstrap intervals over texts, and paired differences."""
    drawn = np.random.default_rng(SEED).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), RESAMPLES)
    weights = np.vstack([np.ones(len(truth)), drawn])
    found: dict[str, Any] = {name: {"cost": arm.cost} for name, arm in arms.items()}
    for average in AVERAGES:
        # The first of each is that of the texts as they are.
        values = {name: f1(truth, arm.given[average], weights, average) for name, arm in arms.items()}
        for name, own in values.items():
            found[name][average] = {"f1": float(own[0]), "interval": _interval(own)}
            for other in COMPARED:
                if name != other:
                    apart = own - values[other]
                    found[name][average][f"above_{other}"] = {"f1": float(apart[0]), "interval": _interval(apart)}
            found[name][average]["labels_a_text"] = float(arms[name].given[average].sum(axis=1).mean())
    for name, arm in arms.items():
        if arm.scores is not None:
            there = truth.any(axis=0)
            found[name]["auc"] = float(np.mean(roc_auc_score(truth[:, there], arm.scores[:, there], average=None)))
    return found


def _interval(values: Any) -> list[float]:
    return [float(end) for end in np.percentile(values[1:], [2.5, 97.5])]


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with goemotions.jsonl")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts; fewer are not recorded")
    parser.add_argument("--known", type=int, default=KNOWN, help="texts to fit to; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    given = parser.parse_args()
    kept = Kept(given.keep)
    llm = RememberingLlamaCpp(n_threads=1, n_parallel=1, timeout=PATIENCE)
    llm._scored, llm._save = kept.content["scores"], kept.save
    labels, test, known = load(given.data / f"{DATA}.jsonl", given.texts, given.known)
    warnings.simplefilter("ignore")  # labels with few texts
    settings: dict[str, Any] = {"llm": llm, **KINDS}
    once, once_default, _ = asked(MultiLabelClassifier(labels, ask="once", **settings), llm, test, known, 1)
    # The original opens all rows at once: eight together is the most that one thread gains from.
    original = by_original(LlamaCpp(n_threads=1, n_parallel=8, timeout=PATIENCE), labels, test, kept)
    embedded = by_embeddings(labels, test, known)
    each, each_default, yes = asked(MultiLabelClassifier(labels, prior=None, **settings), llm, test, known, len(labels))
    kept.save()
    same = np.full(known.truth.shape, 0.5)
    arms = {
        "constant": Arm(cut(known, same, np.full(test.truth.shape, 0.5))),
        "original": original,
        "each default": each_default,
        "each": each,
        "each centred": Arm(cut(known, centred(yes), centred(each.scores)), centred(each.scores), each.cost),
        "once default": once_default,
        "once": once,
        **embedded,
    }
    summary = summarize(arms, test.truth)
    print(json.dumps(summary, indent=1))
    if (given.texts, given.known) == (TEXTS, KNOWN):
        write(
            "multi_label",
            {
                "data": DATA,
                "labels": labels,
                "texts": len(test.texts),
                "labels_a_text": float(test.truth.sum(axis=1).mean()),
                "known_texts": len(known.texts),
                "known_texts_a_label": dict(zip(labels, known.truth.sum(axis=0).tolist(), strict=True)),
                "arms": summary,
            },
            seed=SEED,
            n_threads=1,
            original=STORMTROOPER,
            resamples=RESAMPLES,
            **KINDS,
        )


if __name__ == "__main__":
    main()
