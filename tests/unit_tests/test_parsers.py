"""`LabelOutputParser` alone and in chains: labels, warnings, schemas, streams, copies."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.language_models.fake import FakeListLLM, FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_stormtrooper.errors import ConfigurationError, LabelError, OverlongInputWarning, UnmatchedLabelWarning
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.messages import BaseMessage

SECRET = "the patient's name is in here"
PROMPT = PromptTemplate.from_template("Classify: {text}")


@pytest.fixture
def parser() -> LabelOutputParser:
    """A parser for two labels."""
    return LabelOutputParser(labels=["sport", "politics"])


def respond(text: dict[str, str]) -> str:
    """What an LLM of this package returns: an Unanswered for an overlong text."""
    return Unanswered(Reason.OVERLONG) if text["text"] == "long" else text["text"]


async def test_one(parser: LabelOutputParser) -> None:
    """Texts, messages and generations give a label, in every way of calling."""
    for said in ("Sport.", AIMessage("Sport."), AIMessage([{"type": "text", "text": "Sport."}])):
        assert parser.invoke(said) == "sport"
        assert await parser.ainvoke(said) == "sport"
    assert parser.parse("Sport.") == "sport"
    assert await parser.aparse("Sport.") == "sport"
    assert parser.parse_result([Generation(text="Sport.")]) == "sport"
    assert await parser.aparse_result([ChatGeneration(message=AIMessage("Sport."))]) == "sport"
    assert list(parser.stream("Sport.")) == ["sport"]
    assert [label async for label in parser.astream("Sport.")] == ["sport"]


async def test_one_without_label(parser: LabelOutputParser) -> None:
    """No label is None and one warning, which does not show the text and points here."""
    calls: list[Callable[[], Any]] = [
        lambda: parser.invoke(SECRET),
        lambda: parser.invoke(AIMessage(SECRET)),
        lambda: parser.parse(SECRET),
        lambda: parser.parse_result([Generation(text=SECRET)]),
        lambda: next(parser.stream(SECRET)),
        lambda: parser.batch([SECRET])[0],
        lambda: (PROMPT | RunnableLambda(lambda _: SECRET) | parser).invoke({"text": "x"}),
    ]
    for call in calls:
        with pytest.warns(UnmatchedLabelWarning) as caught:
            assert call() is None
        assert [str(warning.message) for warning in caught] == [
            "The text got no label: what the model answered names none of the labels, or more than one."
        ]
        assert caught[0].filename == __file__
    for coroutine in (parser.ainvoke(SECRET), parser.aparse(SECRET), parser.aparse_result([Generation(text=SECRET)])):
        with pytest.warns(UnmatchedLabelWarning) as caught:
            assert await coroutine is None
        assert len(caught) == 1
        assert caught[0].filename == __file__


async def test_batch_warns_once(parser: LabelOutputParser) -> None:
    """A batch keeps order and length, and warns once with a count and the first few rows."""
    said: list[str | BaseMessage] = ["sport", SECRET, AIMessage("politics"), SECRET, "", *["x"] * 5]
    labels = ["sport", None, "politics", None, None, *[None] * 5]
    with pytest.warns(UnmatchedLabelWarning) as caught:
        assert parser.batch(said) == labels
    with pytest.warns(UnmatchedLabelWarning) as acaught:
        assert await parser.abatch(said) == labels
    for warning in (*caught, *acaught):
        assert str(warning.message).startswith("8 of 10 texts got no label")
        assert str(warning.message).endswith("(rows 1, 3, 4, 5, 6, …).")
        assert SECRET not in str(warning.message)
        assert warning.filename == __file__
    assert len(caught) == len(acaught) == 1
    assert parser.batch([]) == await parser.abatch([]) == []


async def test_return_exceptions(parser: LabelOutputParser) -> None:
    """An input that is no text fails alone where exceptions are returned."""
    said: Any = ["sport", None, "politics"]
    labels: Any = parser.batch(said, return_exceptions=True)
    assert labels[0::2] == ["sport", "politics"]
    assert isinstance(labels[1], TypeError)
    labels = await parser.abatch(said, return_exceptions=True)
    assert labels[0::2] == ["sport", "politics"]
    assert isinstance(labels[1], TypeError)
    with pytest.raises(TypeError, match="takes a text or a message, not NoneType"):
        parser.batch(said)
    with pytest.raises(TypeError, match="not NoneType"):
        await parser.ainvoke(said[1])


def test_warnings_as_errors_reach_the_caller(parser: LabelOutputParser) -> None:
    """Where warnings are errors, a batch raises the warning instead of hiding it in rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnmatchedLabelWarning):
            parser.batch(["sport", "x"], return_exceptions=True)


@pytest.mark.parametrize("chat", [False, True])
async def test_chain(parser: LabelOutputParser, *, chat: bool) -> None:
    """`prompt | llm | parser` works for language and chat models: one, many, streamed, asynchronous."""
    responses = ["**Sport**", "Category: politics"]
    llm: Any = FakeListChatModel(responses=responses) if chat else FakeListLLM(responses=responses)
    chain = PROMPT | llm | parser
    rows = [{"text": "a {b}"}, {"text": "c"}]
    assert chain.invoke(rows[0]) == "sport"
    assert await chain.ainvoke(rows[0]) == "politics"
    assert sorted(map(str, chain.batch(rows))) == ["politics", "sport"]
    assert sorted(map(str, await chain.abatch(rows))) == ["politics", "sport"]
    assert list(chain.stream(rows[0])) == ["sport"]
    assert [label async for label in chain.astream(rows[0])] == ["politics"]


async def test_streams_in_chunks(parser: LabelOutputParser) -> None:
    """However many chunks a model streams, the label comes once, when the text is complete."""
    chain = PROMPT | FakeStreamingListLLM(responses=["The text is not sport, no. "]) | parser
    with pytest.warns(UnmatchedLabelWarning) as caught:
        assert list(chain.stream({"text": "x"})) == [None]
    assert len(caught) == 1
    chain = PROMPT | FakeStreamingListLLM(responses=["It is politics"]) | parser
    assert list(chain.stream({"text": "x"})) == ["politics"]
    assert [label async for label in chain.astream({"text": "x"})] == ["politics"]

    async def chunks() -> AsyncIterator[AIMessageChunk]:
        for part in ("spo", "rt", "."):
            yield AIMessageChunk(content=part)

    assert [label async for label in parser.atransform(chunks())] == ["sport"]
    assert list(parser.transform(iter(["pol", "itics"]))) == ["politics"]


async def test_unanswered(parser: LabelOutputParser) -> None:
    """What a language model has warned about becomes None without another warning, also through a chain."""
    chain = RunnableLambda(respond) | parser
    long, short = {"text": "long"}, {"text": "Sport!"}
    assert parser.invoke(Unanswered()) is None
    assert parser.parse(Unanswered("failed")) is None
    assert chain.invoke(long) is None
    assert await chain.ainvoke(long) is None
    assert chain.batch([short, long, short]) == ["sport", None, "sport"]
    assert await chain.abatch([long, short]) == [None, "sport"]
    assert list(chain.stream(long)) == [None]
    assert [label async for label in chain.astream(long)] == [None]

    def chunks() -> Iterator[str | AIMessage]:
        yield Unanswered()
        yield ""

    assert list(parser.transform(chunks())) == [None]
    with pytest.warns(UnmatchedLabelWarning, match=r"1 of 3 texts .* \(row 2\)"):
        assert chain.batch([long, short, {"text": "x"}]) == [None, "sport", None]


def test_unanswered_is_an_empty_text_with_a_reason() -> None:
    """The reason survives copies and pickles."""
    text = Unanswered(Reason.FAILED)
    assert text == ""
    for other in (pickle.loads(pickle.dumps(text)), copy.copy(text), copy.deepcopy(text)):  # noqa: S301
        assert isinstance(other, Unanswered)
        assert other.reason is Reason.FAILED
    assert repr(text) == "Unanswered('failed')"


def test_schema(parser: LabelOutputParser) -> None:
    """The schema of the output is the labels, or null, of a chain too."""
    expected = [{"enum": ["sport", "politics"], "type": "string"}, {"type": "null"}]
    assert parser.get_output_jsonschema()["anyOf"] == expected
    assert (PROMPT | FakeListLLM(responses=["x"]) | parser).get_output_jsonschema()["anyOf"] == expected


def test_format_instructions(parser: LabelOutputParser) -> None:
    """The instructions list the labels as given."""
    assert parser.get_format_instructions().endswith("nothing else:\n- sport\n- politics")
    assert parser._type == "label_output_parser"


def test_arguments() -> None:
    """Wrong labels are a LabelError, unknown or impossible arguments a ConfigurationError of one sentence."""
    with pytest.raises(LabelError, match="at least two"):
        LabelOutputParser(labels=["sport"])
    with pytest.raises(ConfigurationError, match="no argument `fuzy_match`; did you mean `fuzzy_match`"):
        LabelOutputParser(labels=["a", "b"], fuzy_match=True)
    with pytest.raises(ConfigurationError, match=r"^LabelOutputParser: `threshold`: [^\n]*$"):
        LabelOutputParser(labels=["a", "b"], threshold=2.0)
    assert LabelOutputParser({"a": "An a.", "b": None}).labels == LabelSet.of({"a": "An a.", "b": None})


def test_fuzzy_match() -> None:
    """Near spelling counts unless it is switched off, by copy too."""
    parser = LabelOutputParser(labels=["science", "sport"])
    assert parser.invoke("sceince") == "science"
    strict = parser.model_copy(update={"fuzzy_match": False})
    with pytest.warns(UnmatchedLabelWarning):
        assert strict.invoke("sceince") is None
    assert parser.model_copy(update={"labels": LabelSet.of(["politics", "x"])}).invoke("politics") == "politics"


def test_copies(parser: LabelOutputParser) -> None:
    """Pickles, copies, dumps and loads give an equal parser that works."""
    parser.invoke("sport")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)  # loads itself is in beta
        loaded = loads(dumps(parser), valid_namespaces=["langchain_stormtrooper"], allowed_objects=[LabelOutputParser])
    for other in (pickle.loads(pickle.dumps(parser)), copy.deepcopy(parser), loaded):  # noqa: S301
        assert isinstance(other, LabelOutputParser)
        assert other.labels == parser.labels
        assert other.asdict() == parser.asdict()
        assert other.invoke("Sport.") == "sport"
    assert LabelOutputParser.model_validate_json(parser.model_dump_json()).labels == parser.labels
    assert json.loads(dumps(parser))["kwargs"]["labels"][0] == {"name": "sport", "description": None}


def test_warning_from_a_task_points_at_the_user(parser: LabelOutputParser) -> None:
    """A chain runs its steps in tasks of their own; the warning still points at the user's file."""
    chain = RunnableLambda(respond) | parser
    with pytest.warns(UnmatchedLabelWarning) as caught:
        asyncio.run(chain.ainvoke({"text": "x"}))
    assert caught[0].filename == __file__


def test_warn_rows() -> None:
    """One sentence for one row, for one of many, and for many; nothing for none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rows, total in (([0], 1), ([17], 200), ([4, 17, 52], 200), ([], 200)):
            warn_rows(OverlongInputWarning, rows, total, "got no label: too long")
    assert [str(warning.message) for warning in caught] == [
        "The text got no label: too long.",
        "1 of 200 texts got no label: too long (row 17).",
        "3 of 200 texts got no label: too long (rows 4, 17, 52).",
    ]
    assert {warning.filename for warning in caught} == {__file__}
