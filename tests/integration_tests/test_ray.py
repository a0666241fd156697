"""Ray Data on a cluster of its own: actors answer as one process does, and ask no more of the server at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

# All of them take a minute: CI has fewer.
ROWS = 20_000 if os.environ.get("STORMTROOPER_LONG") == "1" else 2_000
PLACES, ACTORS = 33, 2
KEY = "hush-hush"
LABELS = ["sport", "politics", "science"]


def text_of(number: int) -> str | None:
    """A text; some are there twice, some get no label, and some are none."""
    if number % 101 == 0:
        return None
    kind = number // 2 if number % 10 == 0 else number
    return f"report {kind}{' nobody knows' if kind % 97 == 0 else ''}"


def rule(prompt: str) -> str:
    """What the model says: it depends on the text alone."""
    number, _, rest = prompt.rpartition("report ")[2].partition(" ")
    return " hard to say" if "nobody" in rest else f" {LABELS[int(number.split()[0]) % 3]}"


def classifier(url: str, **settings: Any) -> ZeroShotClassifier:
    """What classifies, here and in the cluster."""
    llm = TextGenerationInference(base_url=url, max_concurrency=PLACES, max_downtime=0, **settings)
    return ZeroShotClassifier(LABELS, llm=llm, method="generate", prompt="task")


def work(url: str, path: str) -> None:
    """Classify in a cluster, and write down what came out and what was refused; run in a process of its own."""
    import ray

    from langchain_stormtrooper.ray import classify_dataset

    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ray") as temporary:
        ray.init(num_cpus=ACTORS, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=temporary)
        rows = [
            {"id": number, "text": text_of(number), "note": number if number % 2 else None} for number in range(ROWS)
        ]
        dataset = ray.data.from_items(rows)
        # The key is in the environment of the actors, and not in what is sent to them.
        started = time.perf_counter()
        answered = classify_dataset(dataset, classifier(url, api_key=KEY), actors=ACTORS, batch_size=512)
        told["rows"] = sorted(answered.take_all(), key=lambda row: row["id"])
        told["seconds"] = time.perf_counter() - started
        told["refused"] = []
        wrong: list[dict[str, Any]] = [{"actors": PLACES + 1}, {"text_column": "body"}, {"columns": "lable"}]
        for arguments in [*wrong, {"concurrency": 3}, {"prefix": "", "columns": ["label"], "actors": 0}]:
            try:
                classify_dataset(dataset, classifier(url), **arguments)
            except ConfigurationError as error:
                told["refused"].append(str(error))
        try:
            classify_dataset(rows, classifier(url))
        except ConfigurationError as error:
            told["no dataset"] = str(error)
        no_server = classifier("http://127.0.0.1:9")
        try:
            classify_dataset(dataset.limit(4), no_server, actors=1).take_all()
        except Exception as error:  # noqa: BLE001  # one of Ray's
            told["failure"] = str(error)
        ray.shutdown()
    Path(path).write_text(json.dumps(told), encoding="utf-8")


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
def test_two_actors_answer_as_one_process_does(tgi_server: Callable[..., TGIServer], tmp_path: Path) -> None:
    """Every row has the label, reason and error that `abatch` gives, and both actors together keep to the limit."""
    server = tgi_server("3.3.7", ScriptedEngine(rule), record=0, api_key=KEY, latency_per_request=0.01)
    path = tmp_path / "told.json"
    local = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TGI_API_KEY": KEY}
    command = [sys.executable, __file__, server.url, str(path)]
    done = subprocess.run(command, env={**os.environ, **local}, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    told = json.loads(path.read_text(encoding="utf-8"))

    # Shares of 17 and 16: one actor alone could not have come as far.
    assert 17 < server.peak_permits <= PLACES
    assert set(server.counters.by_status) == {200}

    rows = told["rows"]
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["text"] for row in rows] == [text_of(number) for number in range(ROWS)]
    assert [row["note"] for row in rows] == [number if number % 2 else None for number in range(ROWS)]
    asked = [row for row in rows if row["text"] is not None]
    with pytest.warns(UserWarning, match="got no label"):
        expected = classifier(server.url, api_key=KEY).with_details().batch([row["text"] for row in asked])
    assert [(row["label"], row["reason"], row["error"]) for row in asked] == [
        (answer.label, answer.reason, answer.error) for answer in expected
    ]
    assert {row["reason"] for row in rows if row["text"] is None} == {"failed"}

    assert told["no dataset"] == "`dataset=` must be a ray.data.Dataset, not a list."
    many, column, field, option, none = told["refused"]
    assert many.startswith(f"{PLACES + 1} actors cannot share {PLACES} requests")
    assert column.startswith("There is no column 'body' but ['id', 'text', 'note']")
    assert field.startswith("`columns=` has ['lable']")
    assert option.startswith("['concurrency'] are not for you to set")
    assert none.startswith("`actors=` is 0")
    assert "The server at http://127.0.0.1:9 refused or dropped the connection: start" in told["failure"]

    # Ray shows what its processes write: connections were closed, and no batch has warned.
    for output in (done.stdout, done.stderr):
        assert "Unclosed" not in output
        assert "got no label" not in output
        assert KEY not in output


def test_a_loop_that_is_left_running_leaves_no_connection_open(tgi_server: Callable[..., TGIServer]) -> None:
    """A process whose loop runs in a daemon thread to the end, as an actor's does, ends without a word."""
    server = tgi_server("3.3.7", ScriptedEngine(rule))
    code = (
        "import asyncio, sys, threading\n"
        "import numpy\n"
        "from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier\n"
        "from langchain_stormtrooper import ClassifyBatches\n"
        "llm = TextGenerationInference(base_url=sys.argv[1])\n"
        "classifier = ZeroShotClassifier(['sport', 'politics', 'science'], llm=llm, method='generate', prompt='task')\n"
        "classify_batch = ClassifyBatches(classifier, columns='label')\n"
        "loop = asyncio.new_event_loop()\n"
        "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
        "batch = {'text': numpy.array(['report 1'])}\n"
        "answered = asyncio.run_coroutine_threadsafe(classify_batch(batch), loop).result(30)\n"
        "print(answered['label'].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("['politics']\n", "")


if __name__ == "__main__":
    work(*sys.argv[1:])
