"""A cascade is a classifier: every face, each row by itself, and one stage or the other."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, Recorder
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.runnables import RunnableLambda
from two_stages import TEXTS, asked, cascade, cheap_one, strong_one

from langchain_stormtrooper import (
    Cascade,
    Classification,
    ConfigurationError,
    Ledger,
    LedgerError,
    OverlongInputWarning,
    PromptError,
    ServerUnreachableError,
    StormtrooperWarning,
    TextGenerationInference,
    ZeroShotClassifier,
    evaluate,
    load,
)
from langchain_stormtrooper.cascade import CascadeEvidence

ROWS = st.lists(
    st.sampled_from([*TEXTS, "sport 70 politics", "sport 69 STRONG-FAIL"])
    | st.sampled_from(["CHEAP-FAIL 90 sport", "CHEAP-OVERLONG 90 sport", "sport 90 STRONG-OVERLONG"])
    | st.builds("{} {} {}".format, st.sampled_from(LABELS), st.integers(34, 99), st.sampled_from(LABELS)),
    min_size=1,
    max_size=25,
)


def alone(text: str, threshold: float) -> Classification:
    """The slow reference: one classifier after the other, with nothing between them."""
    first = cheap_one().with_details().invoke(text)
    if first.label is not None and (first.confidence or 0) >= threshold:
        return first.model_copy(update={"stage": 0})
    return strong_one().with_details().invoke(text).model_copy(update={"stage": 1})


@given(ROWS, st.sampled_from([0.0, 0.7, 0.9, 1.0]), st.sampled_from(["batch", "completed", "stream"]), st.booleans())
@settings(max_examples=40)
def test_every_face_says_what_a_loop_says(rows: list[str], threshold: float, face: str, traced: bool) -> None:
    """Whatever the rows, the threshold and the face: each row is answered as it is by itself."""
    whole = cascade(threshold=threshold)
    detailed = whole.with_details()
    config: Any = {"callbacks": [Recorder()]} if traced else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StormtrooperWarning)
        expected = [alone(text, threshold) for text in rows]
        if face == "batch":
            found = detailed.batch(rows, config)
        elif face == "completed":
            found = [row for _, row in sorted(detailed.batch_as_completed(rows, config), key=lambda row: row[0])]
        else:
            streamed = whole.stream_rows(rows, config, in_order=True)
            found = [Classification(**row.model_dump(exclude={"index", "row"})) for row in streamed]
    assert found == expected


async def test_labels_of_all_faces_agree() -> None:
    """One text, many, sync and async: the same labels."""
    whole = cascade()
    expected = ["sport", "politics", "politics", "science"]
    assert whole.batch(TEXTS) == await whole.abatch(TEXTS) == expected
    assert [whole.invoke(text) for text in TEXTS] == [await whole.ainvoke({"text": text}) for text in TEXTS] == expected
    assert [row.stage for row in whole.with_details().batch(TEXTS)] == [0, 1, 0, 1]


def test_only_what_is_not_sure_goes_on() -> None:
    """The strong stage is asked about the other rows alone, and about equal ones once."""
    whole = cascade()
    whole.batch(TEXTS * 3)
    assert sorted(asked(whole.cheap)) == sorted(TEXTS)
    assert sorted(asked(whole.strong)) == ["science 40 science", "sport 60 politics"]


@pytest.mark.parametrize("mishap", ["CHEAP-FAIL", "CHEAP-OVERLONG"])
@pytest.mark.parametrize("on_overlong", ["none", "raise"])
def test_a_mishap_of_the_cheap_stage_is_no_row_lost(mishap: str, on_overlong: str) -> None:
    """What the cheap stage cannot answer, the strong one does, without a warning."""
    whole = cascade(cheap=cheap_one(on_overlong=on_overlong))
    row = whole.with_details().invoke(f"{mishap} 90 science")
    assert (row.label, row.stage) == ("science", 1)


def test_a_row_that_is_not_confident_enough_for_the_cheap_stage_itself_goes_on() -> None:
    """A demand of the cheap classifier's own leaves the row to the strong one."""
    row = cascade(cheap=cheap_one(min_confidence=0.95), threshold=0.5).with_details().invoke("sport 90 politics")
    assert (row.label, row.stage) == ("politics", 1)


def test_a_mishap_of_the_strong_stage_is_the_row_s() -> None:
    """It has a reason and its warning, and its neighbours have labels."""
    with pytest.warns(OverlongInputWarning, match="1 of 2 texts"):
        rows = cascade().with_details().batch(["sport 9 STRONG-OVERLONG", "sport 90 sport"])
    assert [(row.label, row.reason, row.stage) for row in rows] == [(None, "overlong", 1), ("sport", None, 0)]


def test_a_cheap_server_that_is_down_is_told() -> None:
    """Not every row goes to the strong stage unnoticed."""
    whole = cascade()
    with pytest.raises(ServerUnreachableError):
        whole.batch(["CHEAP-DOWN 90 sport", "CHEAP-DOWN 80 sport"])
    assert asked(whole.strong) == []


def test_without_a_threshold_there_is_no_answer() -> None:
    """It says what to do, before any stage is asked; return_exceptions puts it in the rows."""
    whole = cascade(target_error=0.1)
    with pytest.raises(ConfigurationError, match="call `calibrate`"):
        whole.invoke(TEXTS[0])
    assert isinstance(whole.batch(TEXTS[:1], return_exceptions=True)[0], ConfigurationError)
    assert asked(whole.cheap) == asked(whole.strong) == []


def test_an_input_without_a_text_is_a_prompt_error() -> None:
    """As with any classifier."""
    with pytest.raises(PromptError, match="'text'"):
        cascade().invoke({"body": "sport 90 sport"})


def test_each_row_is_a_run_with_the_stages_below_it() -> None:
    """Whoever watches sees one run a row, and a run of each LLM that it was asked of."""

    class Watched(FakeLLM):
        answer: Any = staticmethod(lambda prompt: "sport")

    recorder = Recorder()
    whole = cascade(strong=ZeroShotClassifier(LABELS, llm=Watched(), method="generate"))
    assert whole.batch(["sport 90 x", "science 40 x"], {"callbacks": [recorder]}) == ["sport", "sport"]
    runs = list(recorder.chains.values())
    assert [run["outputs"] for run in runs] == ["sport", "sport"]
    assert all(run["parent"] is None for run in runs)


def test_stages_are_asked_for_no_more_than_they_take() -> None:
    """Each has its own places, and the other goes on meanwhile."""
    whole = cascade()
    whole.batch([f"sport {number} politics" for number in range(40, 90)])
    logs = [stage.llm.log for stage in whole.stages]
    assert [log.peak for log in logs] == [3, 2]


def test_settings_of_one_call() -> None:
    """Another threshold for one call or for good; what is no setting is refused."""
    whole = cascade()
    assert whole.invoke(TEXTS[0], threshold=0.95) == "sport"
    assert whole.with_details().bind(threshold=0.95).invoke(TEXTS[0]).stage == 1
    assert whole.bind(threshold=0.95) is whole.bind(threshold=0.95)
    with pytest.raises(ConfigurationError, match="labels"):
        whole.bind(labels=["a", "b"])


class Proba:
    """A fitted estimator that reads a text as the cheap stage does, and notes threads and sizes of its batches."""

    classes_ = ("sport", "politics")

    def __init__(self) -> None:
        self.calls: list[tuple[bool, list[str]]] = []

    def predict_proba(self, texts: list[str]) -> list[list[float]]:
        """Probabilities for each text."""
        self.calls.append((threading.current_thread() is threading.main_thread(), texts))
        return [[int(text.split()[1]) / 100, 1 - int(text.split()[1]) / 100] for text in texts]


def test_an_estimator_as_the_cheap_stage() -> None:
    """It is asked text by text, off the event loop's thread; a label that it does not know has no probability."""
    whole = cascade(cheap=Proba())
    rows = whole.with_details().batch(["sport 90 x", "politics 10 x", "sport 60 science"])
    assert [(row.label, row.stage) for row in rows] == [("sport", 0), ("politics", 0), ("science", 1)]
    assert rows[0].probabilities == {"science": 0.0, "politics": pytest.approx(0.1), "sport": 0.9}
    assert rows[1].confidence == pytest.approx(0.9)
    assert [len(texts) for _, texts in whole.cheap.calls] == [1, 1, 1]
    assert not any(in_main for in_main, _ in whole.cheap.calls)


def classify(text: str) -> Classification:
    """A function as the cheap stage."""
    label, confidence, *_ = text.split()
    return Classification(label=label, confidence=int(confidence) / 100)


@pytest.mark.parametrize("cheap", [classify, RunnableLambda(classify), cheap_one().with_details()])
def test_whatever_gives_a_classification_may_be_cheap(cheap: Any) -> None:
    """A function, a Runnable, a classifier with details."""
    assert [row.stage for row in cascade(cheap=cheap).with_details().batch(TEXTS)] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("sport", "not a str"),
        (Classification(label="chess", confidence=1), "one of"),
        (Classification(label="sport"), "`confidence`"),
    ],
)
def test_a_cheap_stage_that_answers_otherwise_is_told(answer: Any, message: str) -> None:
    """What is no Classification with a known label and a confidence is an error, not a row that goes on."""
    with pytest.raises(ConfigurationError, match=message):
        cascade(cheap=lambda _: answer).invoke(TEXTS[0])


def test_cascades_within_cascades() -> None:
    """Three classifiers either way: the number of the stage counts them from cheap to strong."""
    middle = ZeroShotClassifier(LABELS, llm=cheap_one().llm, prior=None, prompt="task")
    inner_strong = Cascade(cheap_one(), Cascade(middle, strong_one(), threshold=0.5), threshold=0.7)
    inner_cheap = Cascade(Cascade(cheap_one(), middle, threshold=0.7), strong_one(), threshold=0.5)
    for whole in (inner_strong, inner_cheap):
        assert [type(stage).__name__ for stage in whole.stages] == ["ZeroShotClassifier"] * 3
        rows = whole.with_details().batch(TEXTS)
        assert [(row.label, row.stage) for row in rows] == [
            ("sport", 0),
            ("sport", 1),
            ("politics", 0),
            ("science", 2),
        ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strong": Proba()}, "`strong` must be"),
        ({"strong": ZeroShotClassifier(["a", "b"], llm=FakeLLM())}, "other labels"),
        ({"strong": strong_one(text_key="body")}, "text_key"),
        ({"cheap": 7}, "`cheap` must be"),
        ({"cheap": type("Unfitted", (), {"fit": None})()}, "fit it first"),
        ({"cheap": type("Other", (Proba,), {"classes_": ("chess", "sport")})()}, "'chess'"),
        ({"threshold": 1.5}, "`threshold`"),
        ({"target_error": 0}, "`target_error`"),
        ({"confidence": 1}, "`confidence`"),
        ({"treshold": 0.5}, "did you mean `threshold`"),
    ],
)
def test_wrong_arguments_are_told(given: dict[str, Any], message: str) -> None:
    """One sentence that names the argument, when the cascade is made."""
    with pytest.raises(ConfigurationError, match=message):
        cascade(**given)


def test_a_cheap_stage_without_confidence_is_told_before_the_first_row() -> None:
    """Generated text says nothing of how sure the model is: everything would go on."""
    whole = cascade(cheap=cheap_one(method="generate"))
    with pytest.raises(ConfigurationError, match="method='score'"):
        whole.invoke(TEXTS[0])
    assert asked(whole.strong) == []


def test_a_ledger_keeps_both_stages_answers(tmp_path: Path) -> None:
    """A run that goes on asks nobody again and knows the stages; another threshold is another task."""
    whole = cascade()
    with Ledger(tmp_path / "run.sqlite") as ledger:
        first = [(row.label, row.stage) for row in whole.stream_rows(TEXTS, ledger=ledger, in_order=True)]
        again = cascade()
        kept = [(row.label, row.stage) for row in again.stream_rows(TEXTS, ledger=ledger, in_order=True)]
        assert kept == first == [("sport", 0), ("politics", 1), ("politics", 0), ("science", 1)]
        assert asked(again.cheap) == asked(again.strong) == []
        other = cascade(threshold=0.95)
        list(other.stream_rows(TEXTS, ledger=ledger))
        assert len(asked(other.strong)) == len(TEXTS)


def test_a_ledger_wants_a_stage_that_can_be_told_from_others(tmp_path: Path) -> None:
    """Of a function nobody knows whether it is the same tomorrow; an estimator is known by what it has learnt."""
    with pytest.raises(LedgerError, match="cheap stage"):
        list(cascade(cheap=classify).stream_rows(TEXTS, ledger=tmp_path / "run.sqlite"))
    one, other = Proba(), Proba()
    other.calls.append((True, []))
    keys = [asyncio.run(cascade(cheap=stage)._akeys()) for stage in (one, Proba(), other)]
    assert keys[0] is not None and keys[1] is not None and keys[2] is not None
    assert keys[0][0] == keys[1][0] != keys[2][0]


def test_a_cascade_is_a_tool() -> None:
    """An agent gets the label, the program the stage."""
    tool = cascade(strong=strong_one(text_kind="ticket")).as_tool()
    assert tool.name == "classify_ticket"
    message = tool.invoke({"type": "tool_call", "name": tool.name, "id": "1", "args": {"text": TEXTS[1]}})
    assert (message.content, message.artifact.stage) == ("politics", 1)


def test_a_cascade_can_be_measured() -> None:
    """`evaluate` asks it as it asks any classifier; rotations are a single prompt's."""
    measured = evaluate(cascade(), TEXTS, ["sport", "politics", "politics", "sport"], bootstrap=0)
    assert measured.accuracy == 0.75
    with pytest.raises(ConfigurationError, match="rotations"):
        evaluate(cascade(), TEXTS, ["sport"] * 4, rotations=1)


TGI = TextGenerationInference(base_url="http://127.0.0.1:9")


EVIDENCE = CascadeEvidence(
    compared_with="strong",
    threshold=math.nextafter(1.0, 2.0),
    target_error=0.1,
    confidence=0.9,
    texts=9,
    kept=0,
    errors=0,
    cheap="0" * 64,
)


@pytest.mark.parametrize("given", [{"threshold": 0.5}, {"evidence": EVIDENCE}, {"target_error": 0.1}])
@pytest.mark.parametrize("details", [False, True])
def test_what_is_saved_comes_back_equal(given: dict[str, Any], details: bool) -> None:
    """Through LangChain's `dumps` and our `load`, and through pickle."""
    stages = [ZeroShotClassifier(LABELS, llm=TGI, text_kind=kind) for kind in ("text", "review")]
    whole: Any = Cascade(*stages, **given)
    if details:
        whole = whole.with_details()
    assert load(dumps(whole)) == whole
    assert pickle.loads(pickle.dumps(whole)) == whole  # noqa: S301  # our own


def test_a_stage_that_cannot_be_saved_is_named() -> None:
    """An estimator is not LangChain's to save."""
    with pytest.raises(ConfigurationError, match="Proba"):
        load(dumps(Cascade(Proba(), ZeroShotClassifier(LABELS, llm=TGI), threshold=0.5)))


def test_the_graph_shows_both_stages() -> None:
    """What is sure leaves after the first stage, the rest after the second."""
    drawn = cascade().get_graph().draw_mermaid()
    assert drawn.count("ZeroShotClassifier_1 -.") == 2
    assert "Proba" in cascade(cheap=Proba()).with_details().get_graph().draw_mermaid()


def test_nothing_shows_a_text() -> None:
    """Not what both stages are asked, nor an error."""
    whole = cascade()
    answering = asyncio.run(whole._aprepare())
    assert SECRET not in repr(answering.render(f"sport 9 {SECRET}"))
