"""`astream_rows` and `stream_rows`: rows of any number, a bounded window, the row contract."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import uuid
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, Recorder, label_of, say_label
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_stormtrooper import Classification, ClassifiedRow, ZeroShotClassifier
from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    ServerUnreachableError,
    StormtrooperWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.runs import stream as stream_module


def classifier(llm: FakeLLM | None = None, **given: Any) -> ZeroShotClassifier:
    """A classifier on a fake LLM."""
    return ZeroShotClassifier(LABELS, llm=FakeLLM() if llm is None else llm, **given)


async def asynchronously(rows: list[Any]) -> AsyncIterator[Any]:
    """The rows, each after a while."""
    for row in rows:
        await asyncio.sleep(0)
        yield row


async def collect(answers: AsyncIterator[ClassifiedRow], found: list[ClassifiedRow]) -> None:
    """Take what comes, also if it ends in an error."""
    async for row in answers:
        found.append(row)  # noqa: PERF401  # seen also if it raises


KINDS: dict[str, Any] = {"list": list, "generator": iter, "async": asynchronously}
TEXTS = st.lists(
    st.sampled_from(["a", "b", "c", "d", "FAIL 1", "MUTTER", "OVERLONG", "e"]) | st.none() | st.just({"text": "a"}),
    max_size=40,
)


@given(TEXTS, st.sampled_from(sorted(KINDS)), st.booleans(), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_a_stream_says_what_a_loop_says(
    rows: list[Any], kind: str, in_order: bool, window: int, at_once: int, traced: bool
) -> None:
    """Whatever the source, order, window and places: each row once, with the answer that it gets by itself."""
    rows = ["a text", *rows]

    class Slow(FakeLLM):
        async def agenerate_row(self, prompt: Prompt, **kwargs: Any) -> Any:
            for _ in range(len(self.log.prompts) * 7 % 4):
                await asyncio.sleep(0)
            return await super().agenerate_row(prompt, **kwargs)

    llm = Slow()
    config: Any = {"max_concurrency": at_once, "callbacks": [Recorder()] if traced else None}

    async def collect() -> list[ClassifiedRow]:
        answers = classifier(llm).astream_rows(KINDS[kind](rows), config, in_order=in_order, window=window)
        return [row async for row in answers]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StormtrooperWarning)
        found = asyncio.run(collect())
        # The slow reference: one row after another, by itself.
        alone = classifier().with_details()
        expected = [Classification(reason=Reason.FAILED) if row is None else alone.invoke(row) for row in rows]
    if in_order:
        assert [row.index for row in found] == list(range(len(rows)))
    found.sort(key=lambda row: row.index)
    assert [row.row for row in found] == rows
    assert [(row.index, row.label, row.reason, row.prompt_tokens) for row in found] == [
        (number, answer.label, answer.reason, answer.prompt_tokens) for number, answer in enumerate(expected)
    ]
    assert llm.log.peak <= at_once
    # Equal texts are asked once, but for those that failed, which may be asked again.
    asked = [text for text in llm.log.texts if "FAIL" not in text]
    assert len(asked) == len(set(asked))


@given(st.sampled_from(["generator", "async"]), st.booleans(), st.integers(1, 20), st.integers(1, 60))
@settings(max_examples=15)
def test_nothing_is_read_beyond_the_window(kind: str, in_order: bool, window: int, taken: int) -> None:
    """A consumer that takes no more rows stops an endless source, after as many rows as the window has."""
    read = 0
    closed = threading.Event()

    def endless() -> Iterator[str]:
        nonlocal read
        try:
            for number in itertools.count():
                read += 1
                yield f"text {number % 7}"
        finally:
            closed.set()

    async def slowly() -> AsyncIterator[str]:
        for row in endless():
            yield row

    async def take() -> None:
        rows: Any = endless() if kind == "generator" else slowly()
        answers = classifier().astream_rows(rows, in_order=in_order, window=window)
        for _ in range(taken):
            await anext(answers)
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        assert taken <= read <= taken + window
        await answers.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(take())
    # What has come since is young: a look at everything else would take longer than the test.
    gc.collect(1)
    assert closed.wait(5)
    assert read <= taken + window


async def test_memory_does_not_grow_with_the_rows() -> None:
    """Of thousands of rows only those of the window are alive, whatever became of the others."""

    class Row(dict[str, str]):
        """A row that can be watched."""

    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    Row.__hash__ = object.__hash__  # type: ignore[assignment]

    def rows() -> Iterator[Row]:
        for number in range(3000):
            row = Row(text=f"{'MUTTER' if number % 3 else 'text'} {number}")
            alive.add(row)
            yield row

    most = 0

    async def consume() -> None:
        nonlocal most
        async for row in classifier().astream_rows(rows(), in_order=True, window=10):
            most = max(most, len(alive))
            del row

    with pytest.warns(UnmatchedLabelWarning, match=r"2000 of 3000 texts .* \(rows 1, 2, 4, 5, 7, …\)"):
        await consume()
    assert 1 <= most <= 10 + 3


async def test_the_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ledger, an equal row is asked again once as many others as are remembered have come in between."""
    monkeypatch.setattr(stream_module, "REMEMBERED", 3)
    llm = FakeLLM()
    rows = ["a", "b", "a", "c", "d", "a", "e", "f", "g", "a"]
    found = [row async for row in classifier(llm).astream_rows(rows, in_order=True, window=1)]
    assert [row.label for row in found] == [label_of(row) for row in rows]
    assert llm.log.texts == ["a", "b", "c", "d", "e", "f", "g", "a"]


@pytest.mark.parametrize("sync", [False, True])
def test_trouble_is_told_once_per_kind_at_the_end(sync: bool) -> None:
    """Rows that fail are results with a reason, the others are answered, and there is one warning per kind."""
    rows: list[Any] = ["a", f"OVERLONG {SECRET}", "MUTTER", f"FAIL {SECRET}", None, "OVERLONG", 7, "b"]
    task = classifier()

    async def collect() -> list[ClassifiedRow]:
        return [row async for row in task.astream_rows(rows, in_order=True)]

    with pytest.warns(StormtrooperWarning) as seen:
        found = list(task.stream_rows(rows, in_order=True)) if sync else asyncio.run(collect())
    assert [row.reason for row in found] == [
        None, "overlong", "unmatched", "failed", "failed", "overlong", "failed", None,
    ]  # fmt: skip
    messages = {warning.category: str(warning.message) for warning in seen}
    assert len(seen) == len(messages) == 3
    assert "2 of 8 texts" in messages[OverlongInputWarning]
    assert "(rows 3, 4, 6)" in messages[FailedRequestWarning]
    assert not any(SECRET in text for text in [*messages.values(), *map(repr, found)])


async def test_a_row_is_frozen_and_has_the_fields_of_its_classification() -> None:
    """A result is a `Classification` with index and row, and cannot be changed."""
    (found,) = [row async for row in classifier().astream_rows([{"body": "a", "id": 3}], text_key="body")]
    assert (found.index, found.row, found.label) == (0, {"body": "a", "id": 3}, label_of("a"))
    assert isinstance(found, Classification)
    assert ClassifiedRow.model_validate(found.model_dump()) == found
    with pytest.raises(ValueError, match="frozen"):
        found.label = "sport"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("rows", ["a text", b"bytes", {"text": "a"}])
async def test_one_row_is_no_source(rows: Any) -> None:
    """A text or a dict in the place of rows is refused, as in batches."""
    with pytest.raises(ConfigurationError, match="put it in a list"):
        await anext(classifier().astream_rows(rows))


@pytest.mark.parametrize("given_settings", [{"window": 0}, {"window": True}, {"colour": "red"}, {"llm": None}])
async def test_wrong_arguments_are_refused(given_settings: dict[str, Any]) -> None:
    """What is no window or no setting is refused before a row is read."""
    with pytest.raises(ConfigurationError):
        await anext(classifier().astream_rows(iter(["a"]), **given_settings))


@pytest.mark.parametrize(
    ("rows", "given_settings", "told"),
    [
        (None, {}, "Rows must be a list or another iterable of them, not NoneType."),
        (7, {}, "Rows must be a list or another iterable of them, not int."),
        (["a"], {"config": [{}]}, "`config=` must be one dict for all rows, not list."),
        (["a"], {"ledger": 7}, "`ledger=` must be a `Ledger` or the path of one, not int."),
    ],
)
def test_what_is_no_argument_is_refused_in_a_sentence(rows: Any, given_settings: dict[str, Any], told: str) -> None:
    """Something else than rows, a config or a ledger is named, also by the one that is not async."""
    with pytest.raises(ConfigurationError) as caught:
        list(classifier().stream_rows(rows, **given_settings))
    assert str(caught.value) == told


async def test_an_empty_source_gives_nothing() -> None:
    """No rows, no results, no warning."""
    assert [row async for row in classifier().astream_rows(iter([]))] == []


@pytest.mark.parametrize("rows", [["DOWN", "a"], iter([{"txt": "a"}] * 9), [None, None]])
async def test_what_is_wrong_for_every_row_is_raised_before_the_first(rows: Any) -> None:
    """A server that is not there, or rows none of which holds a text: an error, and no row handed out before it."""
    found: list[ClassifiedRow] = []
    with pytest.raises((ServerUnreachableError, PromptError)):
        await collect(classifier().astream_rows(rows, window=5), found)
    assert found == []
    assert len(asyncio.all_tasks()) == 1


async def test_a_server_that_dies_fails_the_rest() -> None:
    """As in batches: answers are kept, and once the server is gone nothing more is asked for."""
    llm = FakeLLM()
    rows = ["a", "b", "DOWN", *(f"text {number}" for number in range(50))]
    with pytest.warns(FailedRequestWarning, match="51 of 53"):
        found = [row async for row in classifier(llm).astream_rows(rows, in_order=True, window=1)]
    assert [row.reason for row in found] == [None, None, *["failed"] * 51]
    assert llm.log.texts == ["a", "b", "DOWN"]


async def test_overlong_rows_raise_where_that_is_wanted() -> None:
    """`on_overlong="raise"` ends the stream with the error."""
    with pytest.raises(OverlongInputError):
        assert [row async for row in classifier(on_overlong="raise").astream_rows(["a", "OVERLONG"])] == []


@pytest.mark.parametrize("kind", ["generator", "async"])
async def test_an_error_of_the_source_comes_after_its_rows(kind: str) -> None:
    """All that was read before a source failed is handed out; then the source's own error is raised."""

    def failing() -> Iterator[str]:
        yield from ("a", "b", "c")
        raise KeyError("line 4")

    async def failing_later() -> AsyncIterator[str]:
        for row in failing():
            yield row

    rows: Any = failing() if kind == "generator" else failing_later()
    found: list[ClassifiedRow] = []
    with pytest.raises(KeyError, match="line 4"):
        await collect(classifier(FakeLLM(delay=0.01)).astream_rows(rows), found)
    assert sorted(row.row for row in found) == ["a", "b", "c"]


async def test_a_source_that_waits_does_not_hold_up_answers() -> None:
    """A row is answered while the generator waits for the next one."""
    go_on = threading.Event()

    def waiting() -> Iterator[str]:
        yield "a"
        assert go_on.wait(10)
        yield "b"

    answers = classifier().astream_rows(waiting())
    assert (await asyncio.wait_for(anext(answers), 5)).row == "a"
    go_on.set()
    assert [row.row async for row in answers] == ["b"]


async def test_a_slow_row_holds_up_no_other() -> None:
    """As they finish means that a slow first row comes last."""
    delays = {"slow": 0.05}

    class Uneven(FakeLLM):
        async def agenerate_row(self, prompt: Prompt, **kwargs: Any) -> Any:
            await asyncio.sleep(delays.get(prompt.text, 0))
            return await super().agenerate_row(prompt, **kwargs)

    found = [row.index async for row in classifier(Uneven()).astream_rows(["slow", "a", "b"])]
    assert found[-1] == 0


@pytest.mark.parametrize("how", ["aclose", "cancel"])
async def test_leaving_early_cancels_what_is_in_flight(how: str) -> None:
    """After `aclose` or a cancellation no task and no request is left."""
    llm = FakeLLM()
    answers = classifier(llm).astream_rows(["a", "SLOW 1", "SLOW 2", "SLOW 3"])
    assert (await anext(answers)).row == "a"
    if how == "cancel":
        waiting = asyncio.ensure_future(anext(answers))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await answers.aclose()
    assert llm.log.running == 0
    assert llm.log.cancelled == len(llm.log.prompts) - 1 >= (how == "cancel")
    assert len(asyncio.all_tasks()) == 1


def test_breaking_out_of_a_sync_stream_cancels_what_is_in_flight() -> None:
    """A loop that is left early leaves no request behind."""
    llm = FakeLLM()
    answers = classifier(llm).stream_rows(itertools.chain(["a"], itertools.repeat("SLOW")))
    for row in answers:
        assert row.row == "a"
        break
    answers.close()  # type: ignore[attr-defined]  # a generator
    assert llm.log.running == 0


async def test_callbacks_see_what_kept_a_stream_from_its_rows() -> None:
    """An error before the first row is a run that failed, as it is where a classifier is invoked."""
    seen = Recorder()
    rows = classifier(method="score").astream_rows(["a"], {"callbacks": [seen]})
    with pytest.raises(ConfigurationError):
        await collect(rows, [])
    (run,) = seen.chains.values()
    assert isinstance(run["error"], ConfigurationError)


async def test_an_id_is_one_runs() -> None:
    """The id that a config gives is the first row's run; the others have ids of their own."""
    seen, known = Recorder(), uuid.uuid4()
    config: Any = {"callbacks": [seen], "run_id": known}
    assert len([row async for row in classifier().astream_rows(["a", "b", "c"], config)]) == 3
    assert len(seen.chains) == 3
    assert seen.chains[known]["inputs"] == "a"


async def test_callbacks_see_every_row() -> None:
    """Each row is a run with tags and metadata of the config; equal texts have one run of the LLM."""
    seen = Recorder()
    config: Any = {"callbacks": [seen], "tags": ["night"]}
    rows: list[Any] = ["a", "b", "a", None]
    with pytest.warns(FailedRequestWarning):
        found = [row async for row in classifier().astream_rows(rows, config, in_order=True)]
    assert [row.label for row in found] == [label_of("a"), label_of("b"), label_of("a"), None]
    assert len(seen.chains) == 4
    assert sorted(str(run["inputs"]) for run in seen.chains.values()) == ["None", "a", "a", "b"]
    assert all("night" in run["tags"] for run in seen.chains.values())
    assert len(seen.llms) == 2
    assert {run["parent"] for run in seen.llms.values()} <= set(seen.chains)
    assert say_label(Prompt(text="a")) == found[0].label
