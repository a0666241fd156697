"""Many labels: all of them scored, against a shortlist, against the nearest examples, against embeddings alone.

banking77 (77 labels) and clinc150 (150, with texts that have none of them), 300 seeded test texts each, the embedded
135M model, everything in one run. The examples are the sets' training texts, 20 of each label; five of them stand in a
prompt. Accuracy is that of the texts that have a label. For those of clinc150 that have none, the area under the ROC
curve says how well confidence tells them from the others.

Seconds are of CPU, on one thread, of the model and of embedding a text, without what is learnt once (a prior, the
examples' vectors). Tokens are those of the
prompt, of which a server that keeps starts of prompts computes only what differs from row to row.

    PYTHONPATH=tests/unit_tests python benchmarks/many_labels.py --data DIR --keep FILE

One and a half hours; with --keep an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines import Embedded, accuracy, interval, mini_lm, right
from kept import Kept, RememberingLlamaCpp
from record import write
from six_sets import Rows, Task, split
from sklearn.metrics import roc_auc_score

from langchain_stormtrooper import Classification, FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.text_classifier import TextClassifier

SEED, TEXTS, SHORTLIST, EXAMPLES = 0, 300, 10, 5
SIZES = (5, 10, 20)
OUT = "out of scope"
TASKS = [Task("banking77", "question", "intent"), Task("clinc150_oos", "command", "intent")]


def load(task: Task, folder: Path, texts: int) -> tuple[list[str], Rows, Rows]:
    """Labels, training texts that have one, and seeded test texts."""
    rows = [json.loads(line) for line in (folder / f"{task.data}.jsonl").read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows} - {OUT})
    train = [(row["text"], row["label"]) for row in rows if row["split"] == "train" and row["label"] != OUT]
    test = [(row["text"], row["label"]) for row in rows if row["split"] == "test"]
    return labels, train, random.Random(SEED).sample(test, texts)  # noqa: S311  # a sample


def ways(
    labels: Sequence[str], train: Rows, model: Embedded, task: Task, llm: RememberingLlamaCpp
) -> dict[str, TextClassifier]:
    """What is compared."""
    settings: dict[str, Any] = {
        "llm": llm,
        "prompt": "kinds",
        "text_kind": task.text_kind,
        "label_kind": task.label_kind,
        "method": "score",
    }

    def near(by: Any, **further: Any) -> FewShotClassifier:
        return FewShotClassifier(labels, train, select=by, n_examples=EXAMPLES, **settings, **further)

    def short(by: Any) -> dict[str, Any]:
        return {"size": SHORTLIST, "by": by}

    return {
        "all labels": ZeroShotClassifier(labels, **settings),
        "all labels, listed": ZeroShotClassifier(labels, **{**settings, "prompt": "task"}),
        "shortlist by words": ZeroShotClassifier(labels, shortlist=short("bm25"), **settings),
        "shortlist by MiniLM": ZeroShotClassifier(labels, shortlist=short(model), **settings),
        "all labels, examples by words": near("bm25"),
        "shortlist and examples by words": near("bm25", shortlist=short("bm25")),
        "shortlist and examples by MiniLM": near(model, shortlist=short(model)),
    }


def recalls(classifiers: dict[str, TextClassifier], test: Rows) -> dict[str, dict[str, float]]:
    """How often the right label is on shortlists of several sizes."""
    texts, labels = split(test)
    measured = {
        name: classifier.measure_shortlist(texts, labels)
        for name, classifier in classifiers.items()
        if classifier.shortlist is not None
    }
    return {name: {str(size): recall.at(size) for size in SIZES} for name, recall in measured.items()}


def measure(
    task: Task, data: Path, model: Embedded, llm: RememberingLlamaCpp, kept: Kept, texts: int
) -> dict[str, Any]:
    """All ways on one set."""
    labels, train, test = load(task, data, texts)
    inputs, truths = split(test)
    known = [row for row in test if row[1] != OUT]
    classifiers = ways(labels, train, model, task, llm)
    arms: dict[str, Any] = {}
    marks: dict[str, str] = {}

    def take(name: str, answers: Sequence[str | None], sure: Sequence[float] | None, **figures: Any) -> None:
        pairs = [(answer, truth) for answer, truth in zip(answers, truths, strict=True) if truth != OUT]
        marks[name] = right([answer for answer, _ in pairs], [truth for _, truth in pairs])
        arms[name] = {"accuracy": accuracy(marks[name]), "interval": interval(marks[name]), **figures}
        if sure is not None and len(known) < len(test):
            arms[name]["area_under_curve_out_of_scope"] = float(
                roc_auc_score([truth != OUT for truth in truths], list(sure))
            )
        print(task.data, name, arms[name], flush=True)

    for name, classifier in classifiers.items():
        classifier.invoke("warm it up please")
        llm.spent()
        answers: list[Classification] = classifier.with_details().batch([*inputs])
        kept.save()
        take(
            name,
            [answer.label for answer in answers],
            [answer.confidence or 0.0 for answer in answers],
            prompt_tokens_per_row=sum(answer.prompt_tokens or 0 for answer in answers) / len(answers),
            n_examples_per_row=sum(answer.n_examples or 0 for answer in answers) / len(answers),
            cpu_seconds_per_row=llm.spent() / len(answers) + (model.seconds_a_text if "MiniLM" in name else 0.0),
        )
    cosine = model.by_label_sentences(labels, inputs)
    embedding = {"cpu_seconds_per_row": model.seconds_a_text}
    take("MiniLM, cosine to label sentences", cosine, None, **embedding)
    take("MiniLM, logistic regression", model.by_regression(train, inputs), None, **embedding)
    plain = max(("all labels", "all labels, listed"), key=lambda name: arms[name]["accuracy"])
    for name, arm in arms.items():
        arm["above_zero_shot"] = arm["accuracy"] - arms[plain]["accuracy"]
        arm["above_zero_shot_interval"] = interval(marks[name], marks[plain])
    return {
        "data": task.data,
        "labels": len(labels),
        "texts": len(test),
        "texts_with_a_label": len(known),
        "training_texts": len(train),
        "zero_shot": plain,
        "recall": recalls(classifiers, known),
        "arms": arms,
        "right": marks,
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the .jsonl files")
    parser.add_argument("--texts", type=int, default=TEXTS, help="test texts a set; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    parser.add_argument("--only", help="one of the sets, for --keep; nothing is recorded")
    given = parser.parse_args()
    kept = Kept(given.keep)
    llm = RememberingLlamaCpp(n_threads=1, n_parallel=1)
    llm._scored, llm._save = kept.content["scores"], kept.save
    warnings.simplefilter("ignore")  # rows without a label are counted
    model = mini_lm()
    tasks = [task for task in TASKS if given.only in (None, task.data)]
    sets = [measure(task, given.data, model, llm, kept, given.texts) for task in tasks]
    if given.texts == TEXTS and given.only is None:
        write(
            "many_labels",
            sets,
            seed=SEED,
            n_threads=1,
            shortlist=SHORTLIST,
            n_examples=EXAMPLES,
        )


if __name__ == "__main__":
    main()
