"""The agent's tool: what the model reads, what the program gets, and what it makes of trouble."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, Recorder, label_of
from langchain_core.exceptions import ModelAuthenticationError
from langchain_core.load import dumps
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import ToolException
from pydantic import BaseModel
from typing_extensions import override

from langchain_stormtrooper import (
    Classification,
    ClassifierTool,
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    LowConfidenceWarning,
    OverlongInputWarning,
    Reason,
    StormtrooperWarning,
    UnmatchedLabelWarning,
    ZeroShotClassifier,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.tools import MAX_TEXTS

Call = Callable[..., Awaitable[ToolMessage]]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Give what calls a tool as an agent does, by both faces."""

    async def invoke(tool: ClassifierTool, /, config: Any = None, **arguments: Any) -> ToolMessage:
        asked: Any = {"type": "tool_call", "id": "7", "name": tool.name, "args": arguments}
        message = await tool.ainvoke(asked, config) if request.param == "async" else tool.invoke(asked, config)
        assert isinstance(message, ToolMessage)
        return message

    return invoke


def classifier(llm: Any = None, **settings: Any) -> ZeroShotClassifier:
    """A classifier over a fake."""
    return ZeroShotClassifier(LABELS, llm=llm or FakeLLM(), **settings)


async def test_the_model_reads_the_label_and_the_program_gets_the_rest(call: Call) -> None:
    """The content is the label alone, and the artifact is the classification that has it."""
    tool = classifier(FakeScoringLLM(), prior=None).as_tool()
    message = await call(tool, text="a text")
    assert message.content in LABELS
    assert isinstance(message.artifact, Classification)
    assert message.artifact.label == message.content
    assert sum((message.artifact.probabilities or {}).values()) == pytest.approx(1)
    assert (message.status, message.name, message.tool_call_id) == ("success", tool.name, "7")


@pytest.mark.parametrize(
    ("text", "settings", "category", "reason", "advice"),
    [
        ("OVERLONG", {}, OverlongInputWarning, Reason.OVERLONG, "shorter part"),
        ("MUTTER", {}, UnmatchedLabelWarning, Reason.UNMATCHED, "more of the context"),
        ("unsure", {"min_confidence": 1.0}, LowConfidenceWarning, Reason.LOW_CONFIDENCE, "a person"),
        ("FAIL", {}, FailedRequestWarning, Reason.FAILED, "again once"),
    ],
)
async def test_a_missing_label_is_told_in_words(
    call: Call, text: str, settings: dict[str, Any], category: type[Warning], reason: Reason, advice: str
) -> None:
    """Each reason has a sentence with what the model may do; the warning comes as always; no text, no `null`."""
    llm = FakeScoringLLM() if settings else FakeLLM()
    with pytest.warns(category):
        message = await call(classifier(llm, **settings).as_tool(), text=f"{text} {SECRET}")
    assert isinstance(message.content, str)
    assert message.content.startswith("No label. ")
    assert advice in message.content
    assert (message.artifact.label, message.artifact.reason, message.status) == (None, reason, "success")
    assert not re.search(rf"null|None\b|{SECRET}", message.content)


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_a_blank_text_is_not_asked_about(call: Call, text: str) -> None:
    """A blank text has no label, the model reads why, and the LLM is never asked."""
    llm = FakeLLM()
    message = await call(classifier(llm).as_tool(), text=text)
    assert "is blank" in message.content
    assert message.artifact.reason is Reason.FAILED
    assert not llm.log.prompts


async def test_many_texts_are_numbered_lines(call: Call) -> None:
    """Every text has its line and its classification, in order; each kind of missing label is explained once."""
    llm = FakeLLM(delay=0.01)
    texts = ["one", "OVERLONG", "two", " ", "OVERLONG too"]
    with pytest.warns(StormtrooperWarning) as caught:
        message = await call(ClassifierTool(classifier(llm), many=True), texts=texts)
    assert isinstance(message.content, str)
    lines = message.content.split("\n")
    assert lines[:5] == [
        f"1. {label_of('one')}",
        "2. (no label: overlong)",
        f"3. {label_of('two')}",
        "4. (no label: blank)",
        "5. (no label: overlong)",
    ]
    assert [line.split(":")[0] for line in lines[5:]] == ["(overlong", "(blank"]
    assert [answer.label for answer in message.artifact] == [label_of("one"), None, label_of("two"), None, None]
    assert [answer.error for answer in message.artifact][3] == "holds no text"
    # Of the texts that were asked about: what is blank warns of nothing.
    assert ["2 of 4 texts" in str(warning.message) for warning in caught] == [True]
    assert llm.log.peak > 1


async def test_only_blank_texts(call: Call) -> None:
    """A list of blank texts is answered without the LLM."""
    llm = FakeLLM()
    message = await call(ClassifierTool(classifier(llm), many=True), texts=["", " "])
    assert [answer.reason for answer in message.artifact] == [Reason.FAILED, Reason.FAILED]
    assert not llm.log.prompts


@pytest.mark.parametrize(
    ("many", "arguments", "said"),
    [
        (False, {}, "`text`: field required"),
        (False, {"text": 7}, "`text`: input should be a valid string"),
        (False, {"text": None}, "`text`: input should be a valid string"),
        (False, {"text": [SECRET]}, "`text`: input should be a valid string"),
        (True, {"texts": SECRET}, "`texts`: input should be a valid list"),
        (True, {"texts": []}, "at least 1"),
        (True, {"texts": [SECRET, 7]}, "`texts`: input should be a valid string"),
        (True, {"texts": [SECRET] * (MAX_TEXTS + 1)}, f"more than {MAX_TEXTS}"),
    ],
)
async def test_wrong_arguments_are_told(call: Call, many: bool, arguments: dict[str, Any], said: str) -> None:
    """Arguments that the schema refuses are a message with what is wrong, and never with a text."""
    message = await call(ClassifierTool(classifier(), many=many), **arguments)
    assert message.status == "error"
    assert said in message.content
    assert SECRET not in message.content


async def test_further_arguments_do_no_harm(call: Call) -> None:
    """What a model makes up beside the text is passed over."""
    message = await call(classifier().as_tool(), text="one", language="en")
    assert message.content == label_of("one")


async def test_a_server_that_is_down_does_not_end_the_agent(call: Call) -> None:
    """What is wrong for every row is a message with what to do, unless the program wants the exception."""
    message = await call(classifier().as_tool(), text=f"DOWN {SECRET}")
    assert message.status == "error"
    assert "go on without it" in message.content
    assert "http://127.0.0.1:9 refused the connection" in message.content
    assert SECRET not in message.content
    with pytest.raises(ToolException, match="refused the connection"):
        await call(ClassifierTool(classifier(), handle_tool_error=False), text="DOWN")


async def test_another_llms_refusal_shows_nothing(call: Call) -> None:
    """The message of a foreign error, which may hold a key, is not shown: its kind is."""

    def refuse(prompt: Prompt) -> str:
        raise ModelAuthenticationError(f"wrong key {SECRET}")

    message = await call(classifier(FakeLLM(answer=refuse)).as_tool(), text="one")
    assert message.status == "error"
    assert "ModelAuthenticationError" in message.content
    assert SECRET not in message.content


async def test_an_overlong_text_that_is_to_raise(call: Call) -> None:
    """With `on_overlong="raise"` the model reads the same advice, marked as an error."""
    message = await call(classifier(on_overlong="raise").as_tool(), text="OVERLONG")
    assert message.status == "error"
    assert "shorter part" in message.content


class ToolRecorder(Recorder):
    """Notes tools' runs, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tools: dict[UUID, Any] = {}

    @override
    async def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **kwargs: Any) -> None:
        self.tools[run_id] = {"name": serialized["name"]}

    @override
    async def on_tool_end(self, output: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.tools[run_id]["output"] = output


@pytest.mark.parametrize("many", [False, True])
async def test_a_tracer_sees_the_classifier_below_the_tool(call: Call, many: bool) -> None:
    """Callbacks and tags reach the classifier: its rows are runs below the tool's, and the LLM's below these."""
    recorder = ToolRecorder()
    tool = ClassifierTool(classifier(), many=many)
    arguments: dict[str, Any] = {"texts": ["one", "two"]} if many else {"text": "one"}
    await call(tool, {"callbacks": [recorder], "tags": ["triage"]}, **arguments)
    ((tool_run, tool_seen),) = recorder.tools.items()
    rows = {run: seen for run, seen in recorder.chains.items() if seen["parent"] == tool_run}
    assert len(rows) == (2 if many else 1)
    assert {seen["parent"] for seen in recorder.llms.values()} == set(rows)
    assert all("triage" in seen["tags"] for seen in rows.values())
    assert tool_seen["output"].tool_call_id == "7"


def test_a_call_without_a_dict() -> None:
    """As in every LangChain tool of one argument, the text alone will do, and the answer is the content alone."""
    assert classifier().as_tool().invoke("one") == label_of("one")
    assert classifier().as_tool().invoke({"text": "one"}) == label_of("one")


def test_the_description_explains_the_task() -> None:
    """By default the model is told what is found, in what, and all labels with their descriptions."""
    spec = {"bug": "something is\n  broken", "praise": None}
    tool = ZeroShotClassifier(spec, llm=FakeLLM(), text_kind="support ticket", label_kind="type").as_tool()
    assert tool.name == "classify_support_ticket_type"
    assert tool.description.startswith("Find the type of one support ticket.")
    assert tool.description.endswith("\n- bug: something is broken\n- praise")
    many = ClassifierTool(tool.classifier, many=True)
    assert many.name == "classify_support_ticket_type_list"
    assert f"at most {MAX_TEXTS}" in many.description
    assert list(tool.args) == ["text"]
    assert list(many.args) == ["texts"]
    assert many.args["texts"]["items"] == {"type": "string"}


@pytest.mark.parametrize(
    ("text_kind", "label_kind", "name"),
    [
        ("text", "label", "classify_text"),
        ("Überschrift", "Thema (grob)", "classify_uberschrift_thema_grob"),
        ("评论", "情感", "classify_text"),
        ("x" * 200, "y", "classify_" + "x" * 55),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_default_names_fit_providers(text_kind: str, label_kind: str, name: str, many: bool) -> None:
    """Whatever the kinds are, the name has at most 64 letters, digits and underscores; the list's differs."""
    made = ClassifierTool(classifier(text_kind=text_kind, label_kind=label_kind), many=many).name
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", made)
    assert made == (f"{name[:59]}_list" if many else name)


@pytest.mark.parametrize(
    ("count", "description", "expected"),
    [
        (20, "short", "- label 19: short"),
        (20, "long " * 20, "- label 19"),
        (2000, "long " * 20, "more."),
    ],
)
def test_long_descriptions_are_cut_to_what_providers_take(count: int, description: str, expected: str) -> None:
    """Over 1024 characters the labels' descriptions are left out, then labels, whose number is told."""
    labels = {f"label {number}": description for number in range(count)}
    made = ZeroShotClassifier(labels, llm=FakeLLM()).as_tool().description
    assert len(made) <= 1024
    assert made.endswith(expected)
    if count == 2000:
        shown = made.count("\n- ")
        assert shown > 50
        assert made.endswith(f"… and {2000 - shown} more.")


def test_names_and_descriptions_of_ones_own() -> None:
    """What the caller gives replaces the defaults."""
    tool = classifier().as_tool(name="sort-mail", description="Sorts mail.")
    assert (tool.name, tool.description) == ("sort-mail", "Sorts mail.")


class Topic(BaseModel):
    """Arguments with a further variable of the prompt."""

    text: str
    audience: str = "experts"


async def test_arguments_of_ones_own_fill_the_prompt(call: Call) -> None:
    """Fields of an own schema reach the prompt, with their defaults."""
    llm = FakeLLM()
    task = classifier(llm, prompt="{text} for {audience}: {labels}")
    await call(task.as_tool(Topic), text="one")
    await call(task.as_tool(arg_types={"text": str, "audience": str}), text="one", audience="children")
    assert [str(prompt).split(":")[0] for prompt in llm.log.prompts] == ["one for experts", "one for children"]


async def test_arguments_of_ones_own_for_many(call: Call) -> None:
    """A list may come with variables that hold for all of it."""

    class Topics(BaseModel):
        texts: list[str]
        audience: str

    llm = FakeLLM()
    task = classifier(llm, prompt="{text} for {audience}: {labels}", text_key="body")
    await call(task.as_tool(Topics, many=True), texts=["one", "two"], audience="children")
    assert sorted(str(prompt).split(":")[0] for prompt in llm.log.prompts) == ["one for children", "two for children"]


async def test_another_text_key(call: Call) -> None:
    """The default argument is `text` whatever the classifier's key is."""
    assert (await call(classifier(text_key="body").as_tool(), text="one")).content == label_of("one")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "two words"}, "`name` must be"),
        ({"name": "x" * 65}, "`name` must be"),
        ({"name": ""}, "`name` must be"),
        ({"args_schema": {"type": "object"}}, "pydantic model"),
        ({"args_schema": Topic, "many": True}, "a field `texts`"),
        ({"descripton": "…"}, "did you mean `description`"),
    ],
)
def test_settings_that_make_no_tool(settings: dict[str, Any], said: str) -> None:
    """What providers or the classifier would refuse later is refused at once, in a sentence."""
    with pytest.raises(ConfigurationError, match=said):
        ClassifierTool(classifier(), **settings)


def test_only_classifiers_become_tools() -> None:
    """Anything else is refused, with what is wanted."""
    with pytest.raises(ConfigurationError, match="ZeroShotClassifier, FewShotClassifier or Cascade"):
        ClassifierTool(RunnableLambda(len))  # type: ignore[arg-type]


def test_every_classifier_has_as_tool() -> None:
    """Few-shot ones, and those with details, give the same tool as the plain ones."""
    plain = classifier()
    few = FewShotClassifier(LABELS, [("a", "sport"), ("b", "politics")], llm=FakeLLM())
    for tool in (plain.as_tool(), plain.with_details().as_tool(), few.as_tool(), ClassifierTool(plain.with_details())):
        assert isinstance(tool, ClassifierTool)
        assert tool.response_format == "content_and_artifact"
    assert plain.with_details().as_tool(many=True, name="x").classifier is plain
    assert plain.with_details().as_tool(many=True).many


async def test_messages_can_be_dumped(call: Call) -> None:
    """A message with its artifact is dumped by LangChain, pickled, and dumped by pydantic."""
    message = await call(classifier().as_tool(), text="one")
    assert label_of("one") in dumps(message)
    assert pickle.loads(pickle.dumps(message)).artifact == message.artifact  # noqa: S301  # ours
    assert message.model_dump()["artifact"]["label"] == message.content


def test_the_repr_shows_no_secret() -> None:
    """A tool's repr and dump leave the classifier, and so its LLM, out."""
    tool = classifier().as_tool()
    assert "FakeLLM" not in repr(tool)
    assert "classifier" not in tool.model_dump()


def test_tools_are_copied_and_pickled() -> None:
    """A tool survives pickling and copying with its settings."""
    tool = ZeroShotClassifier(LABELS).as_tool(many=True, name="sort")
    for copied in (pickle.loads(pickle.dumps(tool)), copy.copy(tool), copy.deepcopy(tool)):  # noqa: S301  # ours
        assert (copied.name, copied.many, copied.classifier.labels) == ("sort", True, tool.classifier.labels)


async def test_equal_labels_without_warning(call: Call) -> None:
    """A call whose rows all have labels warns of nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await call(ClassifierTool(classifier(), many=True), texts=["one", "one", "two"])
    assert not caught
