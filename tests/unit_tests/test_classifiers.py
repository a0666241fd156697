"""Classifiers as objects: labels, arguments, schemas, copies, pickles, reprs."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Any, Literal

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, label_of
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from pydantic import ValidationError

from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, LabelError, PromptError
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.parsers import LabelOutputParser

Topic = enum.Enum("Topic", {"SPORT": "sport", "POLITICS": "politics", "SCIENCE": "science"})
SHOTS = [("A goal!", "sport"), ("A vote.", "politics"), ("An atom.", "science"), (SECRET, "sport")]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        tuple(LABELS),
        {"sport": "games", "politics": None, "science": None},
        Topic,
        Literal["sport", "politics", "science"],
        LabelSet.of(LABELS),
    ],
)
def test_labels_of_any_kind(labels: Any) -> None:
    """Labels may be a list, a dict, an Enum or a Literal; what comes back is a plain string, in any classifier."""
    for task in (
        ZeroShotClassifier(labels, llm=FakeLLM()),
        ZeroShotClassifier(labels=labels, llm=FakeLLM()),
        FewShotClassifier(labels=labels, examples=SHOTS, llm=FakeLLM()),
    ):
        assert task.labels.names == tuple(LABELS)
        label = task.invoke("x")
        assert label == label_of("x")
        assert type(label) is str


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least two labels"),
        (["only"], "at least two labels"),
        (["a", "a"], "given twice"),
        (["a", ""], "blank"),
        (["Sport", "sport"], "differ only in case"),
        ("a,b", "did you mean"),
        ({"b", "a"}, "in an order"),
        (3, "must be a list"),
    ],
)
@pytest.mark.parametrize("kind", [ZeroShotClassifier, FewShotClassifier])
def test_labels_that_make_no_task(kind: Any, labels: Any, message: str) -> None:
    """What makes no classification is refused when the classifier is made, by an error of ours."""
    more = {"examples": SHOTS} if kind is FewShotClassifier else {}
    with pytest.raises(LabelError, match=message):
        kind(labels=labels, llm=FakeLLM(), **more)


def test_bad_examples() -> None:
    """Examples are checked when the classifier is made."""
    with pytest.raises(LabelError, match=r"examples\[0\] has the label 'economy'"):
        FewShotClassifier(LABELS, [("x", "economy")], llm=FakeLLM())
    with pytest.raises(ConfigurationError, match="empty"):
        FewShotClassifier(LABELS, [], llm=FakeLLM())
    with pytest.raises(ConfigurationError, match="no pair"):
        FewShotClassifier(LABELS, ["x"], llm=FakeLLM())  # type: ignore[list-item]  # what a newcomer may write


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("kind", "neither a preset .*stable-beluga.* nor a template"),
        ("", "neither a preset"),
        ("{labels}", r"no \{text\}"),
        ("{text", "no template"),
        ("{text} {", "no template"),
        ("{0} {text}", "no template"),
        ("{text}{text}", "exactly once"),
        (PromptTemplate.from_template("{labels}"), r"no \{text\}"),
    ],
)
def test_bad_prompts(prompt: Any, message: str) -> None:
    """What is wrong with a prompt is said when the classifier is made, not at the first row."""
    with pytest.raises(PromptError, match=message):
        ZeroShotClassifier(LABELS, llm=FakeLLM(), prompt=prompt)


def test_few_shot_templates_need_a_place_for_examples() -> None:
    """A template without `{examples}` would drop them in silence."""
    with pytest.raises(PromptError, match=r"no \{examples\}"):
        FewShotClassifier(LABELS, SHOTS, llm=FakeLLM(), prompt="{labels} {text}")


@pytest.mark.parametrize(
    "arguments",
    [
        {"methods": "score"},
        {"method": "guess"},
        {"prior": "numbers"},
        {"on_overlong": "ignore"},
        {"text_kind": ""},
        {"label_kind": ""},
        {"max_new_tokens": 0},
        {"llm": "gpt2"},
        {"parser": len},
        {"prompt": 3},
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any]) -> None:
    """Unknown arguments and values are refused at once."""
    with pytest.raises(ConfigurationError, match=f"^ZeroShotClassifier: [^\n]*`{next(iter(arguments))}`[^\n]*$"):
        ZeroShotClassifier(LABELS, **{"llm": FakeLLM(), **arguments})


def test_parser_of_other_labels() -> None:
    """A parser of other labels could return what is none of the classifier's."""
    with pytest.raises(ConfigurationError, match="parser has other labels"):
        ZeroShotClassifier(LABELS, llm=FakeLLM(), parser=LabelOutputParser(["a", "b"]))


def test_default_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an LLM the server at TGI_BASE_URL is used; nothing is asked of it before the first row."""
    monkeypatch.setenv("TGI_BASE_URL", "http://tgi.example:1234/")
    llm = ZeroShotClassifier(LABELS).llm
    assert isinstance(llm, TextGenerationInference)
    assert llm.base_url == "http://tgi.example:1234"
    monkeypatch.setenv("TGI_BASE_URL", "tgi.example")
    with pytest.raises(ConfigurationError, match="base_url must be an http"):
        ZeroShotClassifier(LABELS)


def test_parts_can_be_seen() -> None:
    """The parts are there to be looked at and replaced: prompt, LLM, parser."""
    task = ZeroShotClassifier(LABELS, llm=FakeLLM(), prompt="{labels}|{text}")
    assert task.parser == LabelOutputParser(LABELS)
    assert isinstance(task.prompt, PromptTemplate)
    assert task.get_prompt().format(text="{x}") == "sport, politics, science.|{x}"


async def test_prompt_in_force() -> None:
    """The prompt that is used can be had as a LangChain template, also where the server decided about it."""
    llm = FakeLLM(model_id="google/flan-t5-xl")
    task = FewShotClassifier(LABELS, SHOTS, llm=llm)
    template = await task.aget_prompt()
    await task.ainvoke("{x}")
    assert template.format(text="{x}") == str(llm.log.prompts[0])
    assert "Which label does the text have?" in str(llm.log.prompts[0])


@pytest.mark.parametrize("kind", [ZeroShotClassifier, FewShotClassifier])
def test_schemas(kind: Any) -> None:
    """The output's schema is the labels or null; the input's a text or a dict."""
    more = {"examples": SHOTS} if kind is FewShotClassifier else {}
    task = kind(["b", "a"], llm=FakeLLM(), **({"examples": [("x", "a")]} if more else {}))
    assert task.OutputType == LabelSet.of(["b", "a"]).answer_type
    schema = task.get_output_jsonschema()
    assert schema["anyOf"] == [{"enum": ["b", "a"], "type": "string"}, {"type": "null"}]
    assert [kind["type"] for kind in task.get_input_jsonschema()["anyOf"]] == ["string", "object"]
    assert "probabilities" in task.with_details().get_output_jsonschema()["properties"]


def test_examples_with_enum_members() -> None:
    """Where the labels come from an Enum, its members are labels of examples, too."""
    kinds = enum.Enum("kinds", {"GOOD": "good", "BAD": "bad"})
    task = FewShotClassifier(kinds, [("x", kinds.GOOD), ("y", "bad")], llm=FakeLLM())
    assert [example.label for example in task.examples] == ["good", "bad"]
    numbers = enum.Enum("numbers", {"ONE": 1, "TWO": 2})
    assert FewShotClassifier(numbers, [("x", numbers.TWO)], llm=FakeLLM()).examples[0].label == "TWO"
    with pytest.raises(LabelError, match="'GOOD', which is not among"):
        FewShotClassifier(numbers, [("x", kinds.GOOD)], llm=FakeLLM())


def test_changed_copies_are_checked() -> None:
    """A copy with other settings is as valid as a new classifier; its own parser follows the labels."""
    task = ZeroShotClassifier(LABELS, llm=FakeLLM(), text_kind="review")
    other = task.model_copy(update={"labels": ["good", "bad"]})
    assert (other.labels.names, other.text_kind) == (("good", "bad"), "review")
    assert isinstance(other.parser, LabelOutputParser)
    assert other.parser.labels == other.labels
    assert other.llm is task.llm
    with pytest.raises(ConfigurationError, match="method"):
        task.model_copy(update={"method": "guess"})
    strict = task.model_copy(update={"parser": LabelOutputParser(LABELS, fuzzy_match=False)})
    assert strict.model_copy(update={"labels": ["good", "bad"]}).parser == LabelOutputParser(
        ["good", "bad"], fuzzy_match=False
    )
    shots = FewShotClassifier(LABELS, SHOTS, llm=FakeLLM())
    assert shots.model_copy(update={"text_kind": "review"}).examples == shots.examples


async def test_labels_change_after_use() -> None:
    """A copy with other labels has their parser, also when the old one has been used."""
    task = ZeroShotClassifier(LABELS, llm=FakeLLM())
    await task.ainvoke("x")
    other = task.model_copy(update={"labels": [*LABELS, "economy"]})
    assert isinstance(other.parser, LabelOutputParser)
    assert other.parser.labels == other.labels


def test_parts_that_do_not_fit_are_told_with_what_does() -> None:
    """Wrapped LLMs and chat prompts, which users of LangChain have at hand, are refused with what to do instead."""
    with pytest.raises(ConfigurationError, match=r"not a RunnableWithFallbacks around one.*on the classifier"):
        ZeroShotClassifier(LABELS, llm=FakeLLM().with_fallbacks([FakeLLM()]))
    with pytest.raises(ConfigurationError, match=r"not a ChatPromptTemplate.*prompt='chat'"):
        ZeroShotClassifier(LABELS, llm=FakeLLM(), prompt=ChatPromptTemplate.from_template("{text}"))
    for bad in (None, 3, "text"):
        with pytest.raises(ConfigurationError, match="`examples` must be a list"):
            FewShotClassifier(LABELS, bad, llm=FakeLLM())  # type: ignore[arg-type]  # what is no list
    detailed = ZeroShotClassifier(LABELS, llm=FakeLLM()).with_details()
    assert detailed.with_details() is detailed


def test_classifiers_are_frozen() -> None:
    """A setting cannot be changed under what was learnt with it."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(ZeroShotClassifier(LABELS, llm=FakeLLM()), "prior", None)  # noqa: B010  # mypy knows that it is frozen


def test_changed_copies_learn_anew() -> None:
    """A copy with another setting does not use what was learnt under the old one; the original still does."""
    llm = FakeScoringLLM()
    task = ZeroShotClassifier(LABELS, llm=llm)
    task.invoke("x")
    learnt = len(llm.log.prompts)
    task.invoke("y")
    assert len(llm.log.prompts) == learnt + 1
    other = task.model_copy(update={"text_kind": "review"})
    assert str(other.get_prompt()) != str(task.get_prompt())
    assert len(llm.log.prompts) > learnt + 1
    reviews = [prompt for prompt in llm.log.prompts if "review" in str(prompt)]
    assert len(reviews) == learnt - 1
    for same in (copy.copy(task), copy.deepcopy(task)):
        assert same.invoke("x") == task.invoke("x")


def test_copies_with_another_llm() -> None:
    """Replacing the LLM asks the new one, for the prompt as well."""
    task = ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="google/flan-t5-xl"))
    task.invoke("x")
    llm = FakeLLM(model_id="acme/small-1B")
    task.model_copy(update={"llm": llm}).invoke("x")
    assert str(llm.log.prompts[0]) == "Text: x\nLabel:"


@pytest.mark.parametrize("detailed", [False, True])
def test_pickles(detailed: bool) -> None:
    """Classifiers go to worker processes, before and after their first row, without what was learnt."""
    task: Any = FewShotClassifier(LABELS, SHOTS, llm=FakeLLM(), text_kind="note")
    task = task.with_details() if detailed else task
    for _ in range(2):
        other = pickle.loads(pickle.dumps(task))  # noqa: S301  # our own
        assert repr(other) == repr(task)
        assert other.invoke("x") == task.invoke("x")


def test_reprs_are_discreet() -> None:
    """No repr shows an example, a key or a text; the settings can be seen."""
    llm = TextGenerationInference(base_url="http://tgi.example", api_key=SECRET, headers={"X-Key": SECRET})
    for task in (
        FewShotClassifier(LABELS, SHOTS, llm=llm, text_kind="note"),
        FewShotClassifier(LABELS, SHOTS, llm=llm, text_kind="note").with_details(),
    ):
        shown = f"{task!r} {task}"
        assert SECRET not in shown
        assert "A goal" not in shown
        assert "tgi.example" in shown
        assert "note" in shown
