"""`MultiLabelClassifier`: which labels apply, what is asked for that, and what happens when it cannot be."""

from __future__ import annotations

import dataclasses
import pickle
import re
import warnings
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from fakes import SECRET, FakeLLM, FakeScoringLLM, Recorder
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.load import dumps
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_stormtrooper import (
    CalibrationError,
    CalibrationWarning,
    ConfigurationError,
    FailedRequestWarning,
    LabelError,
    MultiLabelClassification,
    MultiLabelClassifier,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    ServerUnreachableError,
    TextGenerationInference,
    UnmatchedLabelWarning,
    classify_file,
    load,
)
from langchain_stormtrooper.evaluation.running import check
from langchain_stormtrooper.multi_label import MultiLabelEvidence
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Reason

LABELS = ["joy", "anger", "surprise"]
TEXTS = ["joy 90 anger 60", "surprise 80", "nothing", "joy 40"]
WANTED = [["joy", "anger"], ["surprise"], [], []]


def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """Yes to a label as surely as the text says: "joy 90"; ten per cent where it says nothing."""
    assert [answer.strip() for answer in answers] == ["yes", "no"]
    label = next(label for label in LABELS if label in prompt.tail)
    told = re.search(rf"\b{label} (\d+)", prompt.text)
    sure = int(told[1]) / 100 if told else 0.1
    return sure, 1 - sure


def fake(**given: Any) -> FakeScoringLLM:
    """The model."""
    return FakeScoringLLM(**{"score": score, "model_id": "small-135m", "places": 4, "delay": 0.001, **given})


def classifier(**given: Any) -> MultiLabelClassifier:
    """A classifier without a prior."""
    return MultiLabelClassifier(given.pop("labels", LABELS), **{"llm": fake(), "prior": None, **given})


async def test_all_faces_agree() -> None:
    """Every way to call it gives the same lists, in order; an empty one is an answer and warns of nothing."""
    one = classifier()
    assert one.batch(TEXTS) == await one.abatch(TEXTS) == WANTED
    assert [one.invoke(text) for text in TEXTS] == [await one.ainvoke({"text": text}) for text in TEXTS] == WANTED
    assert dict(one.batch_as_completed(TEXTS)) == dict(enumerate(WANTED))
    assert dict([row async for row in one.abatch_as_completed(TEXTS)]) == dict(enumerate(WANTED))
    assert list(one.stream(TEXTS[0])) == [["joy", "anger"]]
    assert (one | (lambda labels: len(labels or []))).batch([*TEXTS]) == [2, 1, 0, 0]


def test_details() -> None:
    """A probability for each label in the order given, and tokens of all requests together."""
    one = classifier().with_details()
    row = one.invoke(TEXTS[0])
    assert row.labels == ["joy", "anger"]
    assert row.probabilities == pytest.approx({"joy": 0.9, "anger": 0.6, "surprise": 0.1})
    assert list(row.probabilities or ()) == LABELS
    assert (row.reason, row.method, row.prompt_tokens, row.generated_tokens) == (None, "score", 21, 3)
    assert one.with_details() is one
    with pytest.raises(ValueError, match="never both"):
        MultiLabelClassification()
    with pytest.raises(ValueError, match="never both"):
        MultiLabelClassification(labels=[], reason=Reason.FAILED)


def test_thresholds_by_hand() -> None:
    """One for all, some for single labels, and another for one call; what is equal to a threshold applies."""
    assert classifier(threshold=0.4).batch(TEXTS)[3] == ["joy"]
    one = classifier(thresholds={"joy": 0.95, "surprise": 0.1})
    assert one.batch(TEXTS) == [["anger", "surprise"], ["surprise"], ["surprise"], ["surprise"]]
    assert one.invoke(TEXTS[3], thresholds={"joy": 0.4}) == ["joy"]
    assert one.bind(threshold=0.05).invoke("nothing") == ["anger", "surprise"]


def test_the_text_comes_first_and_the_label_last() -> None:
    """All questions about a text share everything up to its end; equal texts are asked about once."""
    llm = fake(places=1)
    one = classifier(llm=llm, text_kind="comment", label_kind="emotion", labels={"joy": "is happy", "anger": None})
    one.batch([TEXTS[0], TEXTS[1], TEXTS[0]])
    assert llm.log.texts == [TEXTS[0]] * 2 + [TEXTS[1]] * 2
    (head,) = {prompt.head for prompt in llm.log.prompts}
    assert "Does the emotion apply to the comment? Answer with yes or no." in head
    assert head.endswith("\nComment: ")
    tails = [prompt.tail for prompt in llm.log.prompts[:2]]
    assert tails == ["\nEmotion: joy (is happy)\nAnswer:", "\nEmotion: anger\nAnswer:"]


@pytest.mark.parametrize(
    ("rows", "places", "config", "peak"),
    [(1, 4, None, 2), (1, 1, None, 1), (2, 4, None, 4), (8, 4, None, 4), (8, 4, {"max_concurrency": 3}, 3)],
)
def test_requests_are_what_is_counted(rows: int, places: int, config: Any, peak: int) -> None:
    """Where rows are few, a row's questions after the first are asked together, but never more than there is room."""
    llm = fake(places=places, delay=0.005)
    classifier(llm=llm).batch([f"joy {number}" for number in range(rows)], config)
    assert llm.log.peak == peak


def test_a_row_s_first_question_goes_alone() -> None:
    """A server keeps the text only when the first question about it has been answered."""
    llm = fake(places=8, delay=0.01)
    seen: list[int] = []

    class Watching(FakeScoringLLM):
        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Any:
            seen.append(self.log.running)
            return await super().ascore_row(prompt, answers)

    classifier(llm=Watching(**dict(llm))).invoke(TEXTS[0])
    assert seen == [0, 0, 1]


def test_mishaps_are_a_row_s_own() -> None:
    """Rows that are too long, fail or hold no text are None with a reason and one warning each; others go on."""
    texts: list[Any] = [TEXTS[0], "OVERLONG", "FAIL", {"body": "x"}, TEXTS[1]]
    with pytest.warns() as told:
        rows = classifier().with_details().batch(texts)
    assert [row.labels for row in rows] == [["joy", "anger"], None, None, None, ["surprise"]]
    assert [row.reason for row in rows] == [None, "overlong", "failed", "failed", None]
    assert rows[1].prompt_tokens == 99
    assert {warning.category for warning in told} == {OverlongInputWarning, FailedRequestWarning}
    assert rows[3].error is not None and "'text'" in rows[3].error
    with pytest.warns(FailedRequestWarning):
        assert classifier().invoke("FAIL") is None
    with pytest.raises(PromptError):
        classifier().invoke({"body": "x"})


def test_overlong_as_asked_for() -> None:
    """A text that is too long is an error or cut, where that was asked for."""
    with pytest.raises(OverlongInputError):
        classifier(on_overlong="raise").invoke("OVERLONG")

    def refuse(prompt: Prompt) -> str:
        if len(str(prompt)) > 130:
            raise OverlongInputError("Too long.", tokens=len(str(prompt)), limit=130)
        return ""

    row = classifier(llm=fake(answer=refuse), on_overlong="truncate").with_details().invoke("joy 90 " + 40 * "very ")
    assert (row.labels, row.truncated) == (["joy"], True)


def test_a_prompt_without_room_leaves_rows_overlong() -> None:
    """Where not even the prior's few words fit, rows are told, and the call does not fail."""

    def refuse(prompt: Prompt) -> str:
        raise OverlongInputError("Too long.", tokens=99, limit=9)

    for on_overlong in ("none", "truncate"):
        with pytest.warns(OverlongInputWarning):
            assert classifier(llm=fake(answer=refuse), prior="words", on_overlong=on_overlong).invoke("x") is None


def test_what_is_wrong_for_every_row_is_raised() -> None:
    """A server that is down is no row's mishap; return_exceptions puts it in the rows' places."""
    with pytest.raises(ServerUnreachableError):
        classifier().batch(["DOWN", "DOWN too"])
    assert isinstance(classifier().batch(["DOWN"], return_exceptions=True)[0], ServerUnreachableError)


def test_neither_yes_nor_no() -> None:
    """Where the model says neither, there is no answer, and the reason says so."""

    class Beside(FakeScoringLLM):
        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Any:
            scores = await super().ascore_row(prompt, answers)
            return type(scores)(scores.probabilities, covered_mass=0.0)

    with pytest.warns(match="yes and no"):
        row = classifier(llm=Beside(**dict(fake()))).with_details().invoke(TEXTS[0])
    assert (row.labels, row.reason, row.probabilities) == (None, "unmatched", None)


@pytest.mark.parametrize("ask", ["each", "once"])
def test_a_demand_on_the_covered_mass(ask: Any) -> None:
    """A row with less of it is unmatched, in all forms of a call; what is learnt from the server is kept."""
    llm = fake(score=lambda _, answers: (1 / len(answers),) * len(answers))
    one = classifier(llm=llm, ask=ask, prior="words")
    assert one.invoke(TEXTS[0], min_covered_mass=0.5) is not None
    asked = len(llm.log.texts)
    bound: Any = one.bind(min_covered_mass=0.51)
    strict = bound.with_details()
    with pytest.warns(UnmatchedLabelWarning, match="too little of the model's probability falls on|names none"):
        row = strict.invoke(TEXTS[0])
    assert (row.labels, row.reason, row.probabilities) == (None, "unmatched", None)
    assert one.invoke(TEXTS[0]) is not None
    assert len(llm.log.texts) == asked + (2 if ask == "once" else 6)
    with pytest.raises(ConfigurationError, match="min_covered_mass"):
        classifier(min_covered_mass=2)


def test_a_demand_that_cannot_be_met_is_refused() -> None:
    """Where a grammar leaves nothing else to say, nobody knows what else the model would have said."""

    class Masked(FakeScoringLLM):
        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Any:
            return dataclasses.replace(await super().ascore_row(prompt, answers), masked=True, covered_mass=0.001)

    one = classifier(llm=Masked(**dict(fake())))
    assert one.invoke(TEXTS[0]) == WANTED[0]
    with pytest.raises(ConfigurationError, match="`min_covered_mass=` needs to know"):
        one.invoke(TEXTS[0], min_covered_mass=0.5)


def test_the_prior_of_each_label() -> None:
    """What the model says to texts without content is divided out label by label, and measured once."""

    def lean(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        return (0.8, 0.2) if "joy" in prompt.tail else (0.1, 0.9)

    llm = fake(score=lean, places=1)
    one = classifier(llm=llm, prior="words", labels=["joy", "anger"]).with_details()
    assert one.invoke("x").probabilities == pytest.approx({"joy": 0.5, "anger": 0.5})
    assert len(llm.log.texts) == 2 * 8 + 2
    # Text after text, so that each is read once.
    assert llm.log.texts[::2] == llm.log.texts[1::2]
    one.bind(threshold=0.9).invoke("y")
    assert len(llm.log.texts) == 2 * 8 + 4


def test_templates() -> None:
    """The user's own template is used as it is, with the label or its description, and variables of inputs."""
    llm = fake(places=1)
    prompt = "{text}|{where}|{labels}|{text_kind}|{label}: {description}?"
    one = classifier(llm=llm, labels={"joy": "is {happy}", "anger": None}, prompt=prompt)
    one.invoke({"text": "a {text}", "where": "here"})
    assert [str(asked) for asked in llm.log.prompts] == [
        "a {text}|here|joy, anger|text|joy: is {happy}?",
        "a {text}|here|joy, anger|text|anger: anger?",
    ]
    with pytest.raises(PromptError, match="where"):
        one.invoke("x")


def test_larger_models_are_asked_in_their_chat_format() -> None:
    """The model's own chat template stands around the question, as with the other classifiers."""
    llm = fake(model_id="Big-7B-Instruct", chat=("<user>", "<assistant>"))
    assert classifier(llm=llm).invoke(TEXTS[0]) == ["joy", "anger"]
    prompt = llm.log.prompts[0]
    assert (prompt.before, prompt.after) == ("<user>", "<assistant>")
    assert str(prompt).endswith("\nLabel: joy<assistant>")


class Mood(Enum):
    """Labels."""

    JOY = "joy"
    ANGER = "anger"
    SURPRISE = "surprise"


MANY = [f"joy {number} anger {99 - number} n" for number in range(0, 99, 3)]
MANY_WANTED: list[Any] = [[Mood.JOY] if number >= 30 else {"anger"} for number in range(0, 99, 3)]


def test_calibrating() -> None:
    """Thresholds follow the labels that texts have; this classifier stays as it is, the server is asked once more."""
    one = classifier(threshold=0.9)
    with pytest.warns(CalibrationWarning, match=r"1 of 3 labels occur fewer than 5 times in the 33 texts \('surprise'"):
        learnt = one.calibrate(MANY, MANY_WANTED)
    assert one.evidence is None
    assert learnt.evidence is not None
    assert learnt.evidence.texts == 33
    assert [(each.label, each.positives, each.assigned) for each in learnt.evidence.labels] == [
        ("joy", 23, 23),
        ("anger", 10, 10),
        ("surprise", 0, 0),
    ]
    assert learnt.evidence.thresholds == pytest.approx({"joy": 0.285, "anger": 0.705, "surprise": 0.1})
    assert learnt.batch(["joy 29", "anger 71 joy 10", "x", "surprise 90"]) == [["joy"], ["anger"], [], ["surprise"]]


def test_calibrating_for_all_decisions_together() -> None:
    """A label whose texts the model cannot tell is left out, where it would cost the others; and is told apart."""
    texts = [f"joy {50 + number} anger 50 n" for number in range(40)]
    lists = [[*(["joy"] if number >= 20 else []), *(["anger"] if number % 4 == 0 else [])] for number in range(40)]
    with pytest.warns(CalibrationWarning):
        macro, micro = (classifier().calibrate(texts, lists, average=average) for average in ("macro", "micro"))
    assert macro.batch(texts[-2:]) == [["joy", "anger"]] * 2
    assert micro.batch(texts[-2:]) == [["joy"]] * 2
    assert (macro.evidence.average, micro.evidence.average) == ("macro", "micro")  # type: ignore[union-attr]
    one: Any = classifier()
    with pytest.raises(ConfigurationError, match="'macro' or 'micro', not 'weighted'"):
        one.calibrate(texts, lists, average="weighted")
    assert one.llm.log.texts == []


async def test_calibrating_leaves_out_what_has_no_answer() -> None:
    """Texts that fail are told and left out; if all do, there is nothing to learn."""
    with pytest.warns(CalibrationWarning) as told:
        learnt = await classifier().acalibrate(["FAIL", "joy 90"], [["anger"], ["joy"]])
    assert learnt.evidence is not None
    assert learnt.evidence.texts == 1
    remark = "1 of 2 texts got no answer and were left out of the calibration (1 failed; row 0)."
    assert str(told[0].message) == remark
    with pytest.raises(ConfigurationError, match="None of the 1 texts got an answer"):
        await classifier().acalibrate(["FAIL"], [["anger"]])


def test_calibrating_leaves_out_rows_without_a_text() -> None:
    """What holds no text is told by its row and left out, as a text that fails is; if none does, that is said."""
    texts: list[Any] = ["joy 90", None, "FAIL", {"body": "x"}, "x"]
    with pytest.warns(CalibrationWarning) as told:
        learnt = classifier().calibrate(texts, [["joy"], ["anger"], [], [], []])
    assert learnt.evidence is not None
    assert learnt.evidence.texts == 2
    assert "3 of 5 texts got no answer and were left out of the calibration (3 failed; rows 1, 2, 3)." in [
        str(one.message) for one in told
    ]
    nothing: Any = [None, {"body": SECRET}]
    with pytest.raises(ConfigurationError, match="None of the 2 texts got an answer") as refused:
        classifier().calibrate(nothing, [["joy"], ["anger"]])
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "lists", "error", "message"),
    [
        (["x"], ["joy"], ConfigurationError, r"label_lists\[0\] must be a list"),
        (["x"], [["joy"], []], ConfigurationError, "1 and 2"),
        (["x"], [["fear"]], LabelError, "'fear'"),
        (
            ["x", "y"],
            [[], ["joy", 7]],
            ConfigurationError,
            r"label_lists\[1\] must hold the names .*'anger'\], and not int",
        ),
        (["x"], [[None]], ConfigurationError, r"label_lists\[0\] must hold the names .*, and not NoneType"),
        (["x", "y"], [[], [1, 0, 0]], ConfigurationError, r"label_lists\[1\] .*\['joy', 'anger'\] instead of a 0 or 1"),
        (["x"], [[True, False, False]], ConfigurationError, r"label_lists\[0\] .* instead of a 0 or 1 for each label"),
        (["x", "y"], [[], []], ConfigurationError, "None of the texts has a label"),
        ([], [], ConfigurationError, "empty"),
        ({"x"}, [["joy"]], ConfigurationError, "a set"),
        ("x", [["joy"]], ConfigurationError, "one item per row"),
        (["x"], [None], ConfigurationError, "NoneType"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(texts: Any, lists: Any, error: Any, message: str) -> None:
    """One sentence, before the model is asked anything."""
    one = classifier()
    with pytest.raises(error, match=message):
        one.calibrate(texts, lists)
    assert one.llm.log.texts == []  # type: ignore[attr-defined]  # a fake


def evidence(**given: Any) -> MultiLabelEvidence:
    """What calibrating teaches, with changes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learnt = classifier().calibrate(MANY, MANY_WANTED).evidence
    assert learnt is not None
    return MultiLabelEvidence(**{**learnt.model_dump(), **given})


def test_evidence_belongs_to_its_task() -> None:
    """Saved as JSON it comes back; with another prompt, prior, model or other labels it is refused."""
    kept = MultiLabelEvidence.model_validate_json(evidence().model_dump_json())
    assert classifier(evidence=kept).invoke("joy 29") == ["joy"]
    with pytest.raises(CalibrationError, match="prompt or prior"):
        classifier(evidence=kept, label_kind="mood").invoke("x")
    with pytest.raises(CalibrationError, match="prompt or prior"):
        classifier(evidence=kept, prior="words").invoke("x")
    with pytest.raises(CalibrationError, match="'small-135m'"):
        classifier(evidence=kept, llm=fake(model_id="other")).invoke("x")
    with pytest.raises(CalibrationError, match="other labels"):
        classifier(evidence=kept, labels=["joy", "anger"])
    with pytest.raises(ConfigurationError, match="evidence=None"):
        classifier(evidence=kept).bind(threshold=0.9)
    assert classifier(evidence=kept).bind(threshold=0.9, evidence=None).invoke("joy 89") == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"llm": FakeListLLM(responses=["yes"])}, "probability of yes and no"),
        ({"threshold": 1.5}, "`threshold`"),
        ({"thresholds": {"joy": 2}}, "from 0 to 1"),
        ({"thresholds": {"fear": 0.5}}, "'fear'"),
        ({"treshold": 0.5}, "did you mean `threshold"),
        ({"llm": RunnableLambda(len)}, "not a RunnableLambda"),
        ({"prompt": ChatPromptTemplate.from_template("{text} {label}")}, "not a ChatPromptTemplate"),
        ({"prompt": "kinds"}, "set ask='once'"),
        ({"prompt": "{text}"}, "neither {label} nor {description}"),
        ({"prompt": "{label}"}, "no {text}"),
        ({"prompt": "{text} {label"}, "no template"),
        ({"labels": ["one"]}, "at least two"),
    ],
)
def test_wrong_arguments_are_told(given: dict[str, Any], message: str) -> None:
    """One sentence that says what is wrong, when the classifier is made."""
    with pytest.raises((ConfigurationError, LabelError, PromptError), match=message):
        classifier(**given)


def test_a_model_that_only_generates_is_refused() -> None:
    """Nothing is guessed from text: the first call says what is needed."""
    with pytest.raises(ConfigurationError, match="needs the probability of yes and no"):
        classifier(llm=FakeLLM()).invoke("x")


def test_what_there_is_not() -> None:
    """A ledger, the tool and `evaluate` know one label a row, and say so in one sentence."""
    one = classifier()
    for call in (one.astream_rows, one.stream_rows, one.as_tool, one.with_details().as_tool):
        with pytest.raises(ConfigurationError):
            call(["x"])
    measured: Any = one
    with pytest.raises(ConfigurationError, match="not MultiLabelClassifier"):
        check(measured, ["x"], ["joy"])


def test_a_file_is_refused_with_details_or_without(tmp_path: Path) -> None:
    """In the same sentence, which says what to use."""
    source = tmp_path / "in.csv"
    source.write_text("text\njoy 90\n")
    for one in (classifier(), classifier().with_details()):
        given: Any = one
        with pytest.raises(ConfigurationError, match="A MultiLabelClassifier has no streams and takes no files"):
            classify_file(given, source, tmp_path / "out.csv")


def test_each_row_is_a_run_with_its_questions_below() -> None:
    """Whoever watches sees one run a row, and a run of the LLM for each label."""
    recorder = Recorder()
    assert classifier().batch(TEXTS[:2], {"callbacks": [recorder]}) == WANTED[:2]
    assert [run["outputs"] for run in recorder.chains.values()] == WANTED[:2]
    assert sorted(str(run["parent"]) for run in recorder.llms.values()) == sorted(map(str, [*recorder.chains] * 3))


def test_settings_in_a_config() -> None:
    """`configurable` changes settings from call to call, labels as well, and the schema follows."""
    one: Any = classifier().configurable_fields(threshold=ConfigurableField("cut"), labels=ConfigurableField("labels"))
    assert one.batch(TEXTS[:1] * 2, [{}, {"configurable": {"cut": 0.7}}]) == [["joy", "anger"], ["joy"]]
    assert one.invoke(TEXTS[0], {"configurable": {"labels": ["anger", "joy"]}}) == ["anger", "joy"]
    assert one.with_details().invoke(TEXTS[0], {"configurable": {"cut": 0.7}}).labels == ["joy"]
    assert one.OutputType == list[str] | None


def test_schemas_and_graph() -> None:
    """The output is a list of the labels; the graph has the parts."""
    one = classifier()
    schema: Any = one.get_output_schema()
    shown = schema.model_json_schema()
    assert shown["anyOf"][0] == {"items": {"enum": LABELS, "type": "string"}, "type": "array"}
    assert one.with_details().OutputType is MultiLabelClassification
    for each in (one, one.with_details()):
        assert "LabelProbabilities" in each.get_graph().draw_mermaid()


TGI = TextGenerationInference(base_url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "given",
    [{}, {"thresholds": {"joy": 0.2}, "prompt": "{text} {label}"}, {"evidence": evidence(), "on_overlong": "truncate"}],
)
@pytest.mark.parametrize("details", [False, True])
def test_what_is_saved_comes_back_equal(given: dict[str, Any], details: bool) -> None:
    """Through LangChain's `dumps` and our `load`, and through pickle."""
    whole: Any = MultiLabelClassifier({"joy": "happy", "anger": None, "surprise": None}, llm=TGI, **given)
    if details:
        whole = whole.with_details()
    assert load(dumps(whole)) == whole
    assert pickle.loads(pickle.dumps(whole)) == whole  # noqa: S301  # our own


def test_nothing_shows_a_text() -> None:
    """Neither a repr nor what calibrating has learnt holds a text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learnt = classifier().calibrate([f"joy 90 {SECRET}"], [["joy"]])
    assert learnt.evidence is not None
    assert SECRET not in repr(learnt) + learnt.evidence.model_dump_json() + dumps(
        learnt.model_copy(update={"llm": TGI})
    )
