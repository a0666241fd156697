"""What all our LLMs share, on one that answers from memory."""

from __future__ import annotations

import asyncio
import copy
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes import SECRET, FakeLLM, Recorder, label_of
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableConfig

from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    RequestFailedError,
    ServerUnreachableError,
    StormtrooperWarning,
)
from langchain_stormtrooper.llms.generations import RenderedPrompt, plain
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method, Reason
from langchain_stormtrooper.unanswered import Unanswered

PROMPT = PromptTemplate.from_template("Sort: {text}")


def never_there(prompt: Prompt) -> str:
    """A server that is not there."""
    raise ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection.")


def say_nothing(prompt: Prompt) -> str:
    """An empty answer."""
    return ""


@pytest.fixture
def cache() -> Iterator[InMemoryCache]:
    """LangChain's cache of answers, for all LLMs."""
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


async def test_one_prompt() -> None:
    """A prompt gives its text, in all four ways of asking for one, also inside a running loop."""
    llm = FakeLLM()
    for text in (await llm.ainvoke("x"), llm.invoke("x"), (await llm.abatch(["x"]))[0], llm.batch(["x"])[0]):
        assert text == label_of("x")
    assert await llm.abatch([]) == llm.batch([]) == []


async def test_batch_is_concurrent_and_in_order() -> None:
    """All rows of a batch are under way at once, `max_concurrency` bounds them, and the order is kept."""
    texts: list[Any] = [f"text {number}" for number in range(20)]
    for config, peak in ((RunnableConfig(), 20), (RunnableConfig(max_concurrency=5), 5)):
        llm = FakeLLM(delay=0.01)
        assert await llm.abatch(texts, config) == list(map(label_of, texts))
        assert llm.log.peak == peak


async def test_rows_are_isolated() -> None:
    """With `return_exceptions`, a failing row has its own exception in its place and its neighbours their texts."""
    for rows in (
        await FakeLLM().abatch(["a", "FAIL", "b"], return_exceptions=True),
        FakeLLM().batch(["a", "FAIL", "b"], return_exceptions=True),
    ):
        assert [rows[0], rows[2]] == [label_of("a"), label_of("b")]
        assert isinstance(rows[1], RequestFailedError)


@pytest.mark.parametrize("sync", [False, True])
def test_a_failing_row_is_its_own_affair(sync: bool) -> None:
    """A row that fails is an empty text with one warning for the batch, also in a sequence; one prompt alone raises."""
    rows: list[Any] = ["a", f"FAIL {SECRET}", "b", "OVERLONG"]
    llm = FakeLLM()
    with pytest.warns(StormtrooperWarning) as seen:
        texts = llm.batch(rows) if sync else asyncio.run(llm.abatch(rows))
    assert texts == [label_of("a"), "", label_of("b"), ""]
    assert [row.reason for row in texts if isinstance(row, Unanswered)] == [Reason.FAILED, Reason.OVERLONG]
    said = {warning.category: str(warning.message) for warning in seen}
    assert said.keys() == {FailedRequestWarning, OverlongInputWarning}
    assert "1 of 4 texts got no answer" in said[FailedRequestWarning]
    assert "424" in said[FailedRequestWarning]
    assert SECRET not in said[FailedRequestWarning]
    for ask in (llm.invoke, lambda prompt: asyncio.run(llm.ainvoke(prompt)), lambda prompt: list(llm.stream(prompt))):
        with pytest.raises(RequestFailedError, match="424"):
            ask("FAIL")


def test_a_failing_row_in_a_sequence() -> None:
    """Composed by hand, a failing row becomes None, warned about once and not again as unmatched."""
    chain = PROMPT | FakeLLM() | LabelOutputParser(["sport", "politics", "science"])
    with pytest.warns(FailedRequestWarning) as seen:
        labels = chain.batch([{"text": "a"}, {"text": "FAIL"}])
    assert labels == [label_of("Sort: a"), None]
    assert len(seen) == 1
    with pytest.raises(RequestFailedError):
        chain.invoke({"text": "FAIL"})


def test_fallbacks_take_failing_rows_over() -> None:
    """With a fallback, a failing row is answered by it, alone or in a batch."""
    llm = FakeLLM().with_fallbacks([FakeLLM(answer=say_nothing)])
    assert llm.batch(["a", "FAIL"]) == [label_of("a"), ""]
    assert llm.invoke("FAIL") == ""


async def test_what_is_wrong_for_all_rows_ends_the_batch() -> None:
    """A server that was never there is raised at once, and no request is left running."""
    llm = FakeLLM(delay=0.01)
    with pytest.raises(ServerUnreachableError):
        await llm.abatch(["DOWN", *(f"text {number}" for number in range(50))], {"max_concurrency": 3})
    assert llm.log.running == 0
    assert len(llm.log.prompts) < 10
    with pytest.raises(ServerUnreachableError):
        FakeLLM(answer=never_there).batch(["a", "b"])


async def test_answers_outlive_the_server() -> None:
    """When the server is gone for good after some rows, these keep their texts, and the rest is not asked for."""
    llm = FakeLLM()
    with pytest.warns(FailedRequestWarning, match="2 of 3 texts"):
        texts = await llm.abatch(["a", "DOWN", "b"], {"max_concurrency": 1})
    assert texts == [label_of("a"), "", ""]
    assert len(llm.log.prompts) == 2


async def test_overlong_rows_are_empty_with_one_warning() -> None:
    """Rows that are too long give an `Unanswered` each, and one warning for the batch, with count and indices."""
    inputs: list[Any] = ["a", f"OVERLONG {SECRET}", "b", "OVERLONG"]
    for ask in (FakeLLM().batch, lambda inputs: asyncio.run(FakeLLM().abatch(inputs))):
        with ThreadPoolExecutor(1) as thread, pytest.warns(OverlongInputWarning, match=r"2 of 4 .*rows 1, 3") as seen:
            rows = thread.submit(ask, inputs).result()
        assert len(seen) == 1
        assert SECRET not in str(seen[0].message)
        assert rows == [label_of("a"), "", label_of("b"), ""]
        assert [row.reason for row in rows if isinstance(row, Unanswered)] == [Reason.OVERLONG] * 2


async def test_single_overlong_prompt() -> None:
    """One prompt that is too long warns once as well."""
    for said in (FakeLLM().invoke, lambda prompt: asyncio.run(FakeLLM().ainvoke(prompt))):
        with ThreadPoolExecutor(1) as thread, pytest.warns(OverlongInputWarning) as seen:
            assert isinstance(thread.submit(said, "OVERLONG").result(), Unanswered)
        assert len(seen) == 1


async def test_on_overlong_raise() -> None:
    """With `on_overlong="raise"` the row is an error like any other."""
    llm = FakeLLM(on_overlong="raise")
    with pytest.raises(OverlongInputError):
        await llm.ainvoke("OVERLONG")
    rows = await llm.abatch(["a", "OVERLONG"], return_exceptions=True)
    assert isinstance(rows[1], OverlongInputError)
    with pytest.raises(OverlongInputError):
        list(llm.stream("OVERLONG"))


async def test_in_a_sequence_with_a_parser() -> None:
    """Composed by hand, an overlong row becomes None, warned about once and not again as unmatched."""
    chain = PROMPT | FakeLLM() | LabelOutputParser(["sport", "politics", "science"])
    with pytest.warns(OverlongInputWarning) as seen:
        labels = await chain.abatch([{"text": "a"}, {"text": "OVERLONG"}])
    assert labels == [label_of("Sort: a"), None]
    assert len(seen) == 1
    assert chain.invoke({"text": "a"}) == label_of("Sort: a")


async def test_prompts_are_meant_whole() -> None:
    """A prompt given to an LLM is the user's own: special tokens in it are meant, so nothing counts as a row's text."""
    llm = FakeLLM()
    await llm.ainvoke("<s>x")
    assert llm.log.prompts == [Prompt(before="<s>x")]


def test_rendered_prompts_keep_their_parts() -> None:
    """A prompt on its way through LangChain is its whole text, and still knows what of it the row's text is."""
    parts = Prompt("<s>", "Sort: ", "<s>x", "?", "</s>")
    for rendered in (RenderedPrompt(parts), copy.deepcopy(RenderedPrompt(parts))):
        assert rendered == "<s>Sort: <s>x?</s>"
        assert plain(rendered) == parts
    llm = FakeLLM()
    llm.generate([RenderedPrompt(parts)])
    assert llm.log.prompts == [parts]


async def test_streams() -> None:
    """A stream gives the answer in pieces, sync and async, inside a running loop too."""
    llm = FakeLLM()
    whole = label_of("x")
    pieces = [whole[start : start + 3] for start in range(0, len(whole), 3)]
    assert [piece async for piece in llm.astream("x") if piece] == pieces
    assert [piece for piece in llm.stream("x") if piece] == pieces


async def test_empty_answers_stream_too() -> None:
    """An empty answer is an answer, in a stream as well."""
    llm = FakeLLM(answer=say_nothing)
    assert "".join([piece async for piece in llm.astream("x")]) == "".join(llm.stream("x")) == llm.invoke("x") == ""


async def test_overlong_streams() -> None:
    """A stream for an overlong prompt is empty, with one warning."""
    for stream in (FakeLLM().stream, lambda prompt: FakeLLM().stream(prompt, stop=["."])):
        with pytest.warns(OverlongInputWarning) as seen:
            assert "".join(stream("OVERLONG")) == ""
        assert len(seen) == 1
    with pytest.warns(OverlongInputWarning) as seen:
        assert [piece async for piece in FakeLLM().astream("OVERLONG") if piece] == []
    assert len(seen) == 1


async def test_stop_and_length_per_call() -> None:
    """`stop` and `max_new_tokens` may be given per call, bound or not; they reach the row as given."""
    llm = FakeLLM()
    await llm.ainvoke("x", stop=["."], max_new_tokens=3)
    await llm.bind(max_new_tokens=3, stop=["."]).abatch(["x"])
    llm.bind(stop=["."]).invoke("x", max_new_tokens=3)
    _ = list(llm.stream("x", stop=["."], max_new_tokens=3))
    await llm.ainvoke("x")
    assert llm.log.keywords == [{"stop": ["."], "max_new_tokens": 3}] * 4 + [{"stop": None, "max_new_tokens": None}]


async def test_unknown_arguments_are_refused() -> None:
    """An argument without effect is refused, at creation, per call and in streams, before anything is sent."""
    with pytest.raises(ConfigurationError, match=r"^FakeLLM: there is no argument `temperature`\.$"):
        FakeLLM(temperature=0.5)  # type: ignore[call-arg]  # what users of other LLMs write
    llm = FakeLLM()
    with pytest.raises(ConfigurationError, match="takes no \\['temperature'\\] per call"):
        await llm.ainvoke("x", temperature=0.5)
    with pytest.raises(ConfigurationError, match="takes no"):
        llm.batch(["x"], temperature=0.5)
    with pytest.raises(ConfigurationError, match="takes no"):
        list(llm.stream("x", temperature=0.5))
    with pytest.raises(ConfigurationError, match="takes no"):
        _ = [piece async for piece in llm.astream("x", temperature=0.5)]
    assert llm.log.prompts == []


@pytest.mark.parametrize("arguments", [{"max_new_tokens": 0}, {"timeout": 0}, {"on_overlong": "truncate"}])
def test_settings_are_checked(arguments: dict[str, Any]) -> None:
    """Settings that make no sense are refused at once."""
    with pytest.raises(ConfigurationError, match=f"^FakeLLM: `{next(iter(arguments))}`: [^\n]*$"):
        FakeLLM(**arguments)


async def test_empty_stop_strings_are_refused() -> None:
    """What every text ends with would cut every answer: refused at creation and in a call, before anything is sent."""
    with pytest.raises(ConfigurationError, match="A stop string is empty"):
        FakeLLM(stop=[".", ""])
    llm = FakeLLM()
    for ask in (llm.ainvoke, lambda prompt, stop: asyncio.to_thread(lambda: list(llm.stream(prompt, stop=stop)))):
        with pytest.raises(ConfigurationError, match="A stop string is empty"):
            await ask("x", stop=[""])
    assert llm.log.prompts == []


async def test_callbacks_see_one_run_per_row() -> None:
    """Each row of a batch is a run of its own, with its answer and counts, or its error."""
    recorder = Recorder()
    await FakeLLM().abatch(["a", "FAIL"], {"callbacks": [recorder], "tags": ["t"]}, return_exceptions=True)
    runs = {run["prompts"][0]: run for run in recorder.llms.values()}
    assert runs.keys() == {"a", "FAIL"}
    generation = runs["a"]["response"].generations[0][0]
    assert generation.text == label_of("a")
    assert generation.generation_info == {"finish_reason": "stop", "prompt_tokens": 1, "generated_tokens": 2}
    assert runs["a"]["response"].llm_output == {
        "token_usage": {"prompt_tokens": 1, "generated_tokens": 2, "completion_tokens": 2, "total_tokens": 3}
    }
    assert isinstance(runs["FAIL"]["error"], RequestFailedError)
    assert runs["a"]["tags"] == ["t"]


async def test_callbacks_see_tokens() -> None:
    """Pieces of streams reach the callbacks, sync and async."""
    for number in range(2):
        recorder = Recorder()
        if number:
            _ = [piece async for piece in FakeLLM().astream("x", {"callbacks": [recorder]})]
        else:
            await asyncio.to_thread(lambda seen: list(FakeLLM().stream("x", {"callbacks": [seen]})), recorder)
        assert "".join(recorder.tokens) == label_of("x")


async def test_cache_is_honoured(cache: InMemoryCache) -> None:
    """With LangChain's cache set, an equal prompt is not asked again; `cache=False` keeps an LLM out of it."""
    llm = FakeLLM()
    assert await llm.abatch(["x", "y"]) == await llm.abatch(["x", "y"]) == llm.batch(["x", "y"])
    assert len(llm.log.prompts) == 2
    apart = FakeLLM(cache=False)
    await apart.ainvoke("x")
    await apart.ainvoke("x")
    assert len(apart.log.prompts) == 2


async def test_no_cache_keeps_that_a_prompt_was_too_long(cache: InMemoryCache) -> None:
    """A row without an answer is asked again: the server may have been started with larger limits meanwhile."""
    llm = FakeLLM()
    for _ in range(2):
        with pytest.warns(OverlongInputWarning):
            assert isinstance(await llm.ainvoke("OVERLONG"), Unanswered)
    assert len(llm.log.prompts) == 2


async def test_generate_with_several_prompts() -> None:
    """LangChain's own `agenerate` works too, with usage summed over the prompts."""
    for result in (await FakeLLM().agenerate(["a", "bb"]), FakeLLM().generate(["a", "bb"])):
        assert [row[0].text for row in result.generations] == [label_of("a"), label_of("bb")]


async def test_settings_cannot_be_changed_afterwards() -> None:
    """The way to a server is kept from the first call on, so a setting changed later would do nothing."""
    llm = FakeLLM()
    with pytest.raises(ConfigurationError, match=r"FakeLLM: `timeout` cannot be changed: use `model_copy\(update="):
        llm.timeout = 3
    assert llm.model_copy(update={"timeout": 3.0}).timeout == 3


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 0, -1])
def test_timeouts_are_numbers_of_seconds(seconds: float) -> None:
    """What no clock can wait for is refused when the LLM is made."""
    with pytest.raises(ConfigurationError, match="`timeout`"):
        FakeLLM(timeout=seconds)


async def test_what_is_no_prompt_is_its_rows_affair() -> None:
    """A row that is no prompt is empty with a warning; its neighbours are answered; where none is one, it is raised."""
    llm = FakeLLM()
    rows: list[Any] = ["a", None, "b"]
    with pytest.warns(FailedRequestWarning, match=r"A prompt must be a text.*\(row 1\)"):
        assert await llm.abatch(rows) == [label_of("a"), "", label_of("b")]
    returned: list[Any] = llm.batch(rows, return_exceptions=True)
    assert isinstance(returned[1], PromptError)
    for bad in ([None, 3], [None]):
        with pytest.raises(PromptError, match="not NoneType"):
            await llm.abatch(bad)  # type: ignore[arg-type]  # what is no prompt
    with pytest.raises(PromptError, match="not NoneType"):
        await llm.ainvoke(None)  # type: ignore[arg-type]  # what is no prompt


def test_from_several_threads() -> None:
    """One LLM may be used from several threads at once."""
    llm = FakeLLM(delay=0.01)
    texts = [f"text {number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(llm.invoke, texts)) == list(map(label_of, texts))


def test_after_a_second_asyncio_run() -> None:
    """One LLM serves several event loops, one after the other."""
    llm = FakeLLM()
    assert asyncio.run(llm.ainvoke("x")) == asyncio.run(llm.ainvoke("x")) == llm.invoke("x")


def test_copies_and_pickles() -> None:
    """Copies and pickles are equal LLMs that work."""
    llm = FakeLLM(max_new_tokens=7, stop=["."])
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(), pickle.loads(pickle.dumps(llm))):  # noqa: S301  # our own
        assert (other.max_new_tokens, other.stop) == (7, ["."])
        assert other.invoke("x") == label_of("x")


async def test_scoring_is_refused_where_there_is_none() -> None:
    """An LLM without scores says which method to use."""
    assert FakeLLM.methods == (Method.GENERATE,)
    with pytest.raises(ConfigurationError, match="FakeLLM cannot score labels: use method='generate'"):
        await FakeLLM().ascore_row(Prompt(text="x"), ("a", "b"))


async def test_no_warnings_without_reason() -> None:
    """Ordinary batches warn about nothing, in the caller's thread or anywhere else, and have their answers."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert await FakeLLM().abatch(["a", "b"]) == [label_of("a"), label_of("b")]
        assert FakeLLM().batch(["a", "b"]) == [label_of("a"), label_of("b")]
    assert seen == []


async def test_overlong_in_a_streamed_sequence() -> None:
    """A sequence that is streamed warns about an overlong row once, as one that is not."""
    chain = PROMPT | FakeLLM() | LabelOutputParser(["sport", "politics", "science"])
    with pytest.warns(OverlongInputWarning) as seen:
        labels = list(chain.stream({"text": "OVERLONG"}))
    with pytest.warns(OverlongInputWarning) as seen_too:
        labels += [label async for label in chain.astream({"text": "OVERLONG"})]
    assert labels == [None, None]
    assert len(seen) == len(seen_too) == 1
