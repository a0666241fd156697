"""The row contract: a label or None with a reason, in order, whatever happens to the neighbours."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, Recorder, label_of
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake import FakeListLLM

from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.errors import (
    AuthenticationError,
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
from langchain_stormtrooper.results import Classification, MatchKind, Method, Reason

MIXED: list[Any] = [
    "a goal",
    f"OVERLONG {SECRET}",
    "a vote",
    f"MUTTER {SECRET}",
    f"FAIL {SECRET}",
    "a goal",
    {"text": "an atom"},
    "OVERLONG",
]
MIXED_LABELS = [label_of("a goal"), None, label_of("a vote"), None, None, label_of("a goal"), label_of("an atom"), None]
REASONS = [None, "overlong", None, "unmatched", "failed", None, None, "overlong"]


def classifier(llm: FakeLLM | None = None, **settings: Any) -> ZeroShotClassifier:
    """A classifier on a fake LLM."""
    return ZeroShotClassifier(LABELS, llm=FakeLLM() if llm is None else llm, **settings)


async def test_one_row() -> None:
    """One text gives its label in every way of asking, also inside a running event loop."""
    task = classifier()
    assert task.invoke("x") == await task.ainvoke("x") == label_of("x")
    assert task.batch(["x"]) == await task.abatch(["x"]) == [label_of("x")]
    assert list(task.stream("x")) == [piece async for piece in task.astream("x")] == [label_of("x")]
    assert await task.abatch([]) == task.batch([]) == []


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("sync", [False, True])
def test_mixed_batch(sync: bool, traced: bool) -> None:
    """Each row has its label or None, in order, and each kind of trouble is warned about once, without any text."""
    config: Any = {"callbacks": [Recorder()]} if traced else None
    task = classifier()
    with pytest.warns(StormtrooperWarning) as seen:
        labels = task.batch(MIXED, config) if sync else asyncio.run(task.abatch(MIXED, config))
    assert labels == MIXED_LABELS
    messages = {warning.category: str(warning.message) for warning in seen}
    assert len(seen) == len(messages) == 3
    assert "2 of 8 texts got no label: the prompt is longer" in messages[OverlongInputWarning]
    assert "(rows 1, 7)" in messages[OverlongInputWarning]
    assert "1 of 8 texts got no label: what the model answered" in messages[UnmatchedLabelWarning]
    assert "(row 3)" in messages[UnmatchedLabelWarning]
    assert "1 of 8 texts got no label: no answer could be had" in messages[FailedRequestWarning]
    assert "The model failed while generating (424)." in messages[FailedRequestWarning]
    assert not any(SECRET in message for message in messages.values())
    assert {warning.filename for warning in seen} == {__file__} or not sync


@pytest.mark.parametrize("traced", [False, True])
async def test_details(traced: bool) -> None:
    """With details, each row says what became of it, how, and at what cost; no text is in its repr."""
    task = classifier().with_details()
    with pytest.warns(StormtrooperWarning):
        rows = await task.abatch(MIXED, {"callbacks": [Recorder()]} if traced else None)
    assert [row.label for row in rows] == MIXED_LABELS
    assert [row.reason for row in rows] == REASONS
    assert rows[0].method is Method.GENERATE
    assert rows[0].match is MatchKind.EXACT
    assert rows[0].generation == label_of("a goal")
    assert rows[0].generated_tokens == 2
    assert rows[0].prompt_tokens is not None
    assert rows[1].prompt_tokens == 99
    assert rows[1].error is not None
    assert rows[3].generation == "hard to tell"
    assert rows[4].error == "The model failed while generating (424)."
    assert SECRET not in repr(rows)


async def test_details_of_one_row() -> None:
    """`with_details()` works for one row as well, and its labels are those of the classifier."""
    task = classifier().with_details()
    one = await task.ainvoke("x")
    assert one == task.invoke("x") == task.batch(["x"])[0]
    assert isinstance(one, Classification)
    with pytest.warns(OverlongInputWarning, match="^The text got no label"):
        assert task.invoke("OVERLONG").reason is Reason.OVERLONG


async def test_equal_texts_share_a_request() -> None:
    """Duplicates are sent once and answered each in its place, also where the one answer is none."""
    llm = FakeLLM()
    with pytest.warns(UnmatchedLabelWarning, match="2 of 6"):
        labels = await classifier(llm).abatch(["a", "b", "a", "MUTTER", {"text": "a"}, "MUTTER"])
    assert labels == [label_of("a"), label_of("b"), label_of("a"), None, label_of("a"), None]
    assert sorted(llm.log.texts) == ["MUTTER", "a", "b"]


async def test_equal_texts_with_other_variables_do_not() -> None:
    """Rows that differ in another variable of the template are different prompts."""
    llm = FakeLLM()
    task = classifier(llm, prompt="{who}: {text}")
    await task.abatch([{"text": "a", "who": "me"}, {"text": "a", "who": "you"}, {"text": "a", "who": "me", "more": 1}])
    assert sorted(map(str, llm.log.prompts)) == ["me: a", "you: a"]


async def test_text_key() -> None:
    """The key of the text in dict inputs can be chosen; plain texts stay possible."""
    task = classifier(text_key="body")
    assert await task.abatch([{"body": "x", "text": "y"}, "x"]) == [label_of("x")] * 2
    with pytest.raises(PromptError, match=r"under 'body' .* not a dict with the keys \['text'\]"):
        await task.ainvoke({"text": "y"})


@pytest.mark.parametrize(
    ("bad", "said"),
    [(None, "NoneType"), (3, "int"), (["x"], "list"), ({}, r"keys \[\]"), ({"text": None, 1: SECRET}, "'1', 'text'")],
)
async def test_bad_inputs(bad: Any, said: str) -> None:
    """Where no row holds a text nothing is sent; the error says what an input must be, without its content."""
    llm = FakeLLM()
    for rows in ([bad], [bad, None]):
        with pytest.raises(PromptError, match=f"An input must be a text, or a dict .*{said}") as caught:
            await classifier(llm).abatch(rows)
        assert SECRET not in str(caught.value)
    assert llm.log.prompts == []


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("bad", [None, float("nan"), {"txt": SECRET}])
async def test_bad_inputs_among_others(bad: Any, traced: bool) -> None:
    """An input without a text is None with a warning that names its row, and its neighbours have their labels."""
    config: Any = {"callbacks": [Recorder()]} if traced else None
    for task in (classifier(), classifier().with_details()):
        with pytest.warns(FailedRequestWarning, match=r"An input must be a text.*\(row 1\)") as seen:
            rows: list[Any] = await task.abatch(["a", bad, "b"], config)
        assert len(seen) == 1
        assert SECRET not in str(seen[0].message)
    assert [row.label for row in rows] == [label_of("a"), None, label_of("b")]
    assert rows[1].reason is Reason.FAILED
    assert rows[1].error.startswith("An input must be a text")


@pytest.mark.parametrize("traced", [False, True])
async def test_bad_inputs_as_exceptions(traced: bool) -> None:
    """With `return_exceptions`, a bad input is an exception in its place, and its neighbours have their labels."""
    config: Any = {"callbacks": [Recorder()]} if traced else None
    rows = await classifier().abatch(["a", None, "b"], config, return_exceptions=True)  # type: ignore[list-item]  # bad
    assert [rows[0], rows[2]] == [label_of("a"), label_of("b")]
    assert isinstance(rows[1], PromptError)


@pytest.mark.parametrize("traced", [False, True])
async def test_on_overlong_raise(traced: bool) -> None:
    """With `on_overlong="raise"` an overlong row is raised, or returned in its place; failed rows stay None."""
    config: Any = {"callbacks": [Recorder()]} if traced else None
    task = classifier(on_overlong="raise")
    with pytest.raises(OverlongInputError) as caught:
        await task.abatch(["a", "OVERLONG"], config)
    assert caught.value.tokens == 99
    with pytest.warns(FailedRequestWarning) as seen:
        rows = await task.abatch(["a", "OVERLONG", "FAIL"], config, return_exceptions=True)
    assert rows[::2] == [label_of("a"), None]
    assert isinstance(rows[1], OverlongInputError)
    assert len(seen) == 1


@pytest.mark.parametrize("traced", [False, True])
async def test_server_errors_are_raised_at_once(traced: bool) -> None:
    """What is wrong for every row is raised while others are still waiting; these are cancelled."""
    config: Any = {"callbacks": [Recorder()]} if traced else None
    llm = FakeLLM()
    rows: list[Any] = ["SLOW 1", "SLOW 2", "SLOW 3", "DOWN"]
    with pytest.raises(ServerUnreachableError, match="start it"):
        await asyncio.wait_for(classifier(llm).abatch(rows, config), 10)
    assert (llm.log.cancelled, llm.log.running) == (3, 0)


@pytest.mark.parametrize("traced", [False, True])
async def test_server_errors_as_exceptions(traced: bool) -> None:
    """With `return_exceptions`, no further request is made once the server is known to be gone."""
    config: Any = {"callbacks": [Recorder()], "max_concurrency": 1} if traced else {"max_concurrency": 1}
    llm = FakeLLM()
    rows: list[Any] = await classifier(llm).abatch(["a", "DOWN", "b", "c"], config, return_exceptions=True)
    assert rows[0] == label_of("a")
    assert {type(row) for row in rows[1:]} == {ServerUnreachableError}
    assert llm.log.texts == ["a", "DOWN"]


@pytest.mark.parametrize("traced", [False, True])
async def test_concurrency(traced: bool) -> None:
    """As many rows are in flight as the LLM has places, or as `max_concurrency` allows."""
    for limit, peak in ((None, 8), (3, 3), (20, 20)):
        llm = FakeLLM(places=8, delay=0.2)
        config: Any = {"max_concurrency": limit} | ({"callbacks": [Recorder()]} if traced else {})
        rows: list[Any] = [f"text {number}" for number in range(40)]
        await classifier(llm).abatch(rows, config)
        assert llm.log.peak == peak


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("details", [False, True])
async def test_answers_outlive_the_server(details: bool, traced: bool) -> None:
    """When the server is gone for good after some rows, these keep their labels, and the rest is not asked for."""
    config: Any = {"max_concurrency": 1, "callbacks": [Recorder()] if traced else None}
    llm = FakeLLM()
    task: Any = classifier(llm).with_details() if details else classifier(llm)
    with pytest.warns(FailedRequestWarning, match=r"3 of 4 texts .*refused the connection: start it.*rows 1, 2, 3"):
        rows = await task.abatch(["a", "DOWN", "b", "c"], config)
    assert [row.label if details else row for row in rows] == [label_of("a"), None, None, None]
    assert llm.log.texts == ["a", "DOWN"]


async def test_several_causes_are_told() -> None:
    """Rows that failed for different reasons are warned about together, with each reason and how often it was."""
    with pytest.warns(FailedRequestWarning) as seen:
        await classifier().abatch(["FAIL 1", None, "FAIL 2", "a"])  # type: ignore[list-item]  # bad
    assert len(seen) == 1
    assert "3 of 4 texts" in str(seen[0].message)
    assert "(2 times: The model failed while generating (424).; 1 times: An input must" in str(seen[0].message)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
async def test_senseless_concurrency_is_refused(limit: Any) -> None:
    """A `max_concurrency` that would answer nothing is refused by every face and by an LLM, before any request."""
    llm = FakeLLM()
    for ask in (classifier(llm).abatch, classifier(llm).with_details().abatch, llm.abatch):
        with pytest.raises(ConfigurationError, match="must be a whole number from 1 on"):
            await ask(["a"], {"max_concurrency": limit})
    with pytest.raises(ConfigurationError, match="must be a whole number"):
        list(classifier(llm).batch_as_completed(["a"], {"max_concurrency": limit}))
    assert llm.log.prompts == []


@pytest.mark.parametrize("one", ["text", b"text", {"text": "x"}])
async def test_one_row_is_no_batch(one: Any) -> None:
    """One text or dict in the place of a list is refused, not classified letter by letter."""
    for ask in (classifier().abatch, FakeLLM().abatch):
        with pytest.raises(ConfigurationError, match="A batch is a list of rows, not one"):
            await ask(one)
    for ask_sync in (classifier().batch, FakeLLM().batch):
        with pytest.raises(ConfigurationError, match="use `invoke`"):
            ask_sync(one)


async def test_any_iterable_is_a_batch() -> None:
    """Rows may come from a generator."""
    assert await classifier().abatch(text for text in ("a", "b")) == [label_of("a"), label_of("b")]  # type: ignore[arg-type]  # more than LangChain promises


async def test_arguments_per_call_are_refused() -> None:
    """An argument that would have no effect is refused, instead of being dropped in silence."""
    for call in (classifier().abatch, classifier().with_details().abatch):
        with pytest.raises(ConfigurationError, match=r"takes no \['temperature'\] per call"):
            await call(["x"], temperature=0.5)


async def test_one_run_per_row() -> None:
    """Callbacks see a run per row with the label as its output, and an LLM's run below the first of equal rows."""
    recorder = Recorder()
    with pytest.warns(UnmatchedLabelWarning):
        await classifier().abatch(["a", "a", "MUTTER"], {"callbacks": [recorder], "run_name": "mine", "tags": ["t"]})
    runs = list(recorder.chains.values())
    answers = [("a", label_of("a")), ("a", label_of("a")), ("MUTTER", None)]
    assert [(run["inputs"], run["outputs"]) for run in runs] == answers
    assert {run["name"] for run in runs} == {"mine"}
    assert all(run["tags"] == ["t"] for run in runs)
    first, _, other = recorder.chains
    assert [run["parent"] for run in recorder.llms.values()] == [first, other]


async def test_runs_of_rows_that_raise() -> None:
    """A row that raises ends its run with the error."""
    recorder = Recorder()
    with pytest.raises(ServerUnreachableError):
        classifier().invoke("DOWN", {"callbacks": [recorder]})
    assert [type(run["error"]) for run in recorder.chains.values()] == [ServerUnreachableError]
    assert [type(run["error"]) for run in recorder.llms.values()] == [ServerUnreachableError]


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_a_failed_start_is_a_run_too(return_exceptions: bool) -> None:
    """A call that fails before its first row is seen by callbacks, with its error, in whatever way it ends."""

    class Nowhere(FakeLLM):
        async def amodel_id(self) -> str | None:
            raise ServerUnreachableError("gone")

    for task, row, kind in ((classifier(Nowhere()), "a", ServerUnreachableError), (classifier(), None, PromptError)):
        recorder = Recorder()
        rows: list[Any] = [row]
        if return_exceptions:
            returned: list[Any] = await task.abatch(rows, {"callbacks": [recorder]}, return_exceptions=True)
            assert [type(error) for error in returned] == [kind]
        else:
            with pytest.raises(kind):
                await task.abatch(rows, {"callbacks": [recorder]})
        assert [type(run["error"]) for run in recorder.chains.values()] == [kind]


async def test_one_refused_row_is_no_refused_key() -> None:
    """A row that a firewall refuses like a wrong key is its own affair; three in a row are everybody's."""

    def refuse(prompt: Prompt) -> str:
        if "DROP" in prompt.text:
            raise AuthenticationError("The server refused the credentials (403): set `api_key=`.")
        return label_of(prompt.text)

    rows = ["a", "DROP 1", "b", "DROP 2", "c"]
    one_by_one: Any = {"max_concurrency": 1}
    with pytest.warns(FailedRequestWarning, match="2 of 5"):
        labels = await classifier(FakeLLM(answer=refuse)).abatch(rows, one_by_one)
    assert labels == [label_of("a"), None, label_of("b"), None, label_of("c")]
    llm = FakeLLM(answer=refuse)
    with pytest.warns(FailedRequestWarning, match="5 of 6"):
        await classifier(llm).abatch(["a", *(f"DROP {number}" for number in range(5))], one_by_one)
    assert len(llm.log.prompts) == 4
    with pytest.raises(AuthenticationError):
        await classifier(FakeLLM(answer=refuse)).abatch(["DROP", "a"], one_by_one)


async def test_a_foreign_llm_without_a_server_is_raised() -> None:
    """What an HTTP library calls a server that is not there is wrong for every row, whatever class it is."""

    class ConnectError(Exception):
        """As httpx has it."""

    class Away(FakeListLLM):
        async def _acall(self, *args: Any, **kwargs: Any) -> str:
            raise ConnectError(SECRET)

    task = ZeroShotClassifier(LABELS, llm=Away(responses=["sport"]))
    for ask in (task.ainvoke("x"), task.abatch(["x", "y"])):
        with pytest.raises(ServerUnreachableError, match=r"cannot reach its server \(ConnectError\)") as caught:
            await ask
        assert SECRET not in str(caught.value)
    fallback = task.with_fallbacks([classifier()])
    assert await fallback.ainvoke("x") == label_of("x")
    assert await fallback.abatch(["x", "y"]) == [label_of("x"), label_of("y")]


async def test_a_level_prior_leaves_the_models_choice() -> None:
    """Where a model says the same of every text, its prior levels all labels, and its own first choice stands."""

    def stubborn(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        return (0.1, 0.2, 0.7)

    row = await classifier(FakeScoringLLM(score=stubborn)).with_details().ainvoke("x")
    assert row.label == LABELS[2]
    assert row.confidence == pytest.approx(1 / 3)


async def test_in_a_sequence() -> None:
    """In a sequence a classifier is a step like any other, and its runs are the sequence's."""
    chain = (lambda text: {"text": text}) | classifier() | (lambda label: f"<{label}>")
    recorder = Recorder()
    assert await chain.abatch(["a", "b"]) == [f"<{label_of('a')}>", f"<{label_of('b')}>"]
    assert chain.invoke("a", {"callbacks": [recorder]}) == f"<{label_of('a')}>"
    assert "ZeroShotClassifier" in [run["name"] for run in recorder.chains.values()]


async def test_configs_per_row() -> None:
    """A list of configs gives each row its own; one of another length is refused."""
    recorders = [Recorder(), Recorder()]
    await classifier().abatch(["a", "b"], [{"callbacks": [recorder]} for recorder in recorders])
    assert [len(recorder.chains) for recorder in recorders] == [1, 1]
    with pytest.raises(ValueError, match="config"):
        await classifier().abatch(["a", "b"], [{}])


TEXTS = st.lists(st.sampled_from("abcdefgh") | st.sampled_from(["OVERLONG", "FAIL", ""]), max_size=12)


@given(TEXTS, st.integers(1, 5), st.none() | st.integers(1, 9), st.booleans(), st.sampled_from([0.0, 0.0005]))
@settings(max_examples=60)
def test_answers_do_not_depend_on_the_batch(
    texts: list[str], size: int, limit: int | None, traced: bool, delay: float
) -> None:
    """A text's answer is the same alone or in any batch, in any order, at any concurrency, traced or not."""
    make: Callable[[], Any] = lambda: classifier(FakeScoringLLM(delay=delay)).with_details()  # noqa: E731
    alone = make()
    config: Any = {"max_concurrency": limit, "callbacks": [Recorder()] if traced else None}

    async def in_batches() -> list[Classification]:
        task = make()
        return [row for n in range(0, len(texts), size) for row in await task.abatch(texts[n : n + size], config)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StormtrooperWarning)
        assert asyncio.run(in_batches()) == [alone.invoke(text) for text in texts]


def test_warning_points_at_the_users_line() -> None:
    """Python shows a warning with the line of the caller's that led to it, which is where it can be acted upon."""
    with pytest.warns(OverlongInputWarning) as seen:
        classifier().invoke("OVERLONG")
    assert seen[0].filename == __file__
