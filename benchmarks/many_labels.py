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

import json
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arms import Arms
from baselines import Embedded, mini_lm
from kept import Kept, RememberingLlamaCpp, options
from record import write
from six_sets import Rows, Task, split
from sklearn.metrics import roc_auc_score

from langchain_stormtrooper import FewShotClassifier, ZeroShotClassifier
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


def measure(task: Task, data: Path, model: Embedded, llm: RememberingLlamaCpp, texts: int) -> dict[str, Any]:
    """All ways on one set."""
    labels, train, test = load(task, data, texts)
    inputs, truths = split(test)
    known = [row for row in test if row[1] != OUT]
    classifiers = ways(labels, train, model, task, llm)
    arms = Arms(task.data, inputs, truths, llm, counts=lambda truth: truth != OUT)
    for name, classifier in classifiers.items():
        classifier.invoke("warm it up please")
        answers = arms.ask(name, classifier, seconds=model.seconds_a_text if "MiniLM" in name else 0.0)
        if len(known) < len(test):
            sure = [answer.confidence or 0.0 for answer in answers]
            area = float(roc_auc_score([truth != OUT for truth in truths], sure))
            arms.figures[name]["area_under_curve_out_of_scope"] = area
    cosine = model.by_label_sentences(labels, inputs)
    embedding = {"cpu_seconds_per_row": model.seconds_a_text}
    arms.take("MiniLM, cosine to label sentences", cosine, **embedding)
    arms.take("MiniLM, logistic regression", model.by_regression(train, inputs), **embedding)
    plain = max(("all labels", "all labels, listed"), key=lambda name: arms.figures[name]["accuracy"])
    arms.compare_with_zero_shot(plain)
    return {
        "data": task.data,
        "labels": len(labels),
        "texts": len(test),
        "texts_with_a_label": len(known),
        "training_texts": len(train),
        "zero_shot": plain,
        "recall": recalls(classifiers, known),
        "arms": arms.figures,
        "right": arms.marks,
    }


def main() -> None:
    """Measure and record."""
    parser = options(__doc__, TEXTS)
    parser.add_argument("--only", help="one of the sets, for --keep; nothing is recorded")
    given = parser.parse_args()
    llm = RememberingLlamaCpp.keeping(Kept(given.keep))
    warnings.simplefilter("ignore")  # rows without a label are counted
    model = mini_lm()
    tasks = [task for task in TASKS if given.only in (None, task.data)]
    sets = [measure(task, given.data, model, llm, given.texts) for task in tasks]
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
