"""The row contract through every face of a classifier, against a server: the same rows give the same answers."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_stormtrooper import (
    AuthenticationError,
    FailedRequestWarning,
    FewShotClassifier,
    OverlongInputWarning,
    TextGenerationInference,
    UnmatchedLabelWarning,
    ZeroShotClassifier,
)
from langchain_stormtrooper.errors import StormtrooperWarning
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

StartServer = Callable[..., TGIServer]
Face: TypeAlias = Callable[[Any, list[Any], Any], list[Any]]

LABELS = ["politics", "science", "other"]
ENGINE = ScriptedEngine(
    when_contains({"president": "Politics", "atom": "the label is science", "mumble": "hard to tell"}, default="other")
)
LONG = "so " * 3000
ROWS: list[Any] = [
    "The president spoke.",
    LONG + "first",
    "An atom broke.",
    "mumble",
    "An atom is small.",
    "The president spoke.",
    {"text": "Nothing of note."},
    LONG + "second",
    "mumble",
    "Another atom broke.",
]
ANSWERS = ["politics", None, None, None, "science", "politics", "other", None, None, None]
WARNED: dict[type[Warning], str] = {
    OverlongInputWarning: r"2 of 10 texts got no label: the prompt is longer .* \(rows 1, 7\)\.",
    UnmatchedLabelWarning: r"2 of 10 texts got no label: what the model answered .* \(rows 3, 8\)\.",
    FailedRequestWarning: r"2 of 10 texts got no label: no answer could be had \(The server .*\) \(rows 2, 9\)\.",
}


def in_order(completed: list[tuple[int, Any]]) -> list[Any]:
    """Rows as they completed, sorted; each came once."""
    rows = dict(completed)
    assert sorted(index for index, _ in completed) == list(range(len(ROWS)))
    return [rows[index] for index in range(len(ROWS))]


async def _acompleted(task: Runnable[Any, Any], rows: list[Any], config: Any) -> list[tuple[int, Any]]:
    return [pair async for pair in task.abatch_as_completed(rows, config)]


async def _astreamed(task: Runnable[Any, Any], rows: list[Any], config: Any) -> list[Any]:
    streams = [[piece async for piece in task.astream(row, config)] for row in rows]
    assert all(len(pieces) == 1 for pieces in streams)
    return [pieces[0] for pieces in streams]


async def _ainvoked(task: Runnable[Any, Any], rows: list[Any], config: Any) -> list[Any]:
    return [await task.ainvoke(row, config) for row in rows]


async def _sync_in_a_loop(task: Runnable[Any, Any], rows: list[Any], config: Any) -> list[Any]:
    return task.batch(rows, config)


TOGETHER: dict[str, Face] = {
    "batch": lambda task, rows, config: task.batch(rows, config),
    "batch with return_exceptions": lambda task, rows, config: task.batch(rows, config, return_exceptions=True),
    "batch with a config per row": lambda task, rows, config: task.batch(rows, [{**config} for _ in rows]),
    "abatch": lambda task, rows, config: asyncio.run(task.abatch(rows, config)),
    "abatch with return_exceptions": lambda task, rows, config: asyncio.run(
        task.abatch(rows, config, return_exceptions=True)
    ),
    "batch_as_completed": lambda task, rows, config: in_order(list(task.batch_as_completed(rows, config))),
    "abatch_as_completed": lambda task, rows, config: in_order(asyncio.run(_acompleted(task, rows, config))),
    "batch in a running loop": lambda task, rows, config: asyncio.run(_sync_in_a_loop(task, rows, config)),
}
ONE_BY_ONE: dict[str, Face] = {
    "invoke": lambda task, rows, config: [task.invoke(row, config) for row in rows],
    "ainvoke": lambda task, rows, config: asyncio.run(_ainvoked(task, rows, config)),
    "stream": lambda task, rows, config: [piece for row in rows for piece in task.stream(row, config)],
    "astream": lambda task, rows, config: asyncio.run(_astreamed(task, rows, config)),
}
PLACES: dict[str, Callable[[Runnable[Any, Any]], Runnable[Any, Any]]] = {
    "alone": lambda task: task,
    "with a config": lambda task: task.with_config({"tags": ["t"], "max_concurrency": 4}),
    "in a sequence": lambda task: RunnableLambda(lambda row: row) | task | RunnableLambda(lambda label: label),
}


def make(server: TGIServer, kind: str = "zero-shot") -> ZeroShotClassifier | FewShotClassifier:
    """A classifier for a server on which some rows fail for good."""
    server.faults.add(Fault("text_422", times=None, when=lambda prompt: "broke" in prompt))
    llm = TextGenerationInference(base_url=server.url, max_concurrency=16)
    if kind == "zero-shot":
        return ZeroShotClassifier(LABELS, llm=llm, method="generate")
    return FewShotClassifier(LABELS, [("A vote.", "politics")], llm=llm, method="generate")


def asked(server: TGIServer) -> dict[str, int]:
    """How often the server was asked about each kind of row that it can answer."""
    marks = ("The president spoke.", "mumble", "An atom is small.", "Nothing of note.")
    return {mark: sum(n for prompt, n in server.counters.by_prompt.items() if mark in prompt) for mark in marks}


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("face", TOGETHER)
def test_rows_together(tgi_server: StartServer, face: str, place: str, watched: bool) -> None:
    """However a batch is asked for, each row has its answer in its place, and each kind of trouble is said once."""
    server = tgi_server("3.3.7", ENGINE)
    collector = RunCollectorCallbackHandler()
    config: dict[str, Any] = {"callbacks": [collector]} if watched else {}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert TOGETHER[face](PLACES[place](make(server)), ROWS, config) == ANSWERS
    if face.endswith("as_completed") and place == "in a sequence":
        # LangChain answers the rows of such a sequence one by one.
        assert {warning.category for warning in seen} == set(WARNED)
    else:
        said = {warning.category: str(warning.message) for warning in seen}
        assert len(seen) == len(said)
        assert said.keys() == WARNED.keys()
        for category, message in said.items():
            assert re.fullmatch(WARNED[category], message)
        # Equal rows share a request, also where somebody who watches sees a run for each.
        assert set(asked(server).values()) == {1}
    if watched:
        assert [run.error for run in collector.traced_runs] == [None] * len(collector.traced_runs)
        assert len(collector.traced_runs) == len(ROWS)


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("face", ONE_BY_ONE)
def test_rows_one_by_one(tgi_server: StartServer, face: str, place: str, watched: bool) -> None:
    """A row asked for alone has the answer that it has in a batch, with one warning if it has no label."""
    collector = RunCollectorCallbackHandler()
    config: dict[str, Any] = {"callbacks": [collector]} if watched else {}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert ONE_BY_ONE[face](PLACES[place](make(tgi_server("3.3.7", ENGINE))), ROWS, config) == ANSWERS
    kinds = [OverlongInputWarning, FailedRequestWarning, UnmatchedLabelWarning]
    assert [warning.category for warning in seen] == [kinds[n] for n in (0, 1, 2, 0, 2, 1)]
    assert all(str(warning.message).startswith("The text got no label: ") for warning in seen)
    assert len(collector.traced_runs) == (len(ROWS) if watched else 0)


@pytest.mark.parametrize("kind", ["zero-shot", "few-shot"])
def test_details_and_labels_agree(tgi_server: StartServer, kind: str) -> None:
    """With details, the same rows have the same labels, and those without one their reasons."""
    task = make(tgi_server("3.3.7", ENGINE), kind)
    with pytest.warns(StormtrooperWarning) as seen:
        rows = task.with_details().batch(ROWS)
    assert [row.label for row in rows] == ANSWERS
    reasons = [None, "overlong", "failed", "unmatched", None, None, None, "overlong", "unmatched", "failed"]
    assert [row.reason for row in rows] == reasons
    assert {warning.category for warning in seen} == set(WARNED)


@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("place", ["alone", "in a sequence"])
@pytest.mark.parametrize("face", TOGETHER)
def test_max_concurrency_is_obeyed(tgi_server: StartServer, face: str, place: str, watched: bool) -> None:
    """With `max_concurrency` in the config, the server has that many requests at once: no more, and no fewer."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.01)
    config: dict[str, Any] = {"max_concurrency": 3}
    if watched:
        config["callbacks"] = [RunCollectorCallbackHandler()]
    rows = [f"Row {number} of note." for number in range(len(ROWS))]
    assert TOGETHER[face](PLACES[place](make(server)), rows, config) == ["other"] * len(rows)
    assert server.peak_permits == 3


@pytest.mark.parametrize("face", ["abatch", "abatch_as_completed"])
def test_what_is_wrong_for_all_rows_is_raised_or_returned(tgi_server: StartServer, face: str) -> None:
    """A server error ends the batch at once, or stands in every row's place where exceptions are asked for."""
    server = tgi_server("3.3.7", ENGINE, api_key="right")
    task = make(server)
    with pytest.raises(AuthenticationError, match="refused the credentials"):
        TOGETHER[face](task, ROWS, {"max_concurrency": 1})
    assert sum(server.counters.by_prompt.values()) <= 1
    returned: list[Any] = task.batch(["a", "b", "c"], {"max_concurrency": 1}, return_exceptions=True)
    assert [type(row) for row in returned] == [AuthenticationError] * 3
