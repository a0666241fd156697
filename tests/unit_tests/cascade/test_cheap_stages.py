"""What a cheap stage may do wrong, and what is known of it: what it raises, another fit, what is announced to it."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from two_stages import asked, cascade, cheap_one, strong_one

from langchain_stormtrooper import (
    CalibrationError,
    CalibrationWarning,
    Cascade,
    Classification,
    ConfigurationError,
    PromptError,
)
from langchain_stormtrooper.cascade import CascadeEvidence
from langchain_stormtrooper.cascade.answering import CascadeAnswering
from langchain_stormtrooper.cascade.stages import Ready
from langchain_stormtrooper.mishaps import Mishaps
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.rows import RowAnswering


def clumsy(text: str) -> Classification:
    """A function that raises for some texts, and quotes them."""
    if "RAISE" in text:
        raise ValueError(f"no number in {text!r}")
    label, confidence, *_ = text.split()
    return Classification(label=label, confidence=int(confidence) / 100)


class Clumsy:
    """A fitted estimator that does the same."""

    classes_ = ("sport", "politics")

    def predict_proba(self, texts: list[str]) -> list[list[float]]:
        """Probabilities for each text."""
        answers = [clumsy(text) for text in texts]
        return [[answer.confidence or 0.0, 1 - (answer.confidence or 0.0)] for answer in answers]


@pytest.mark.parametrize("cheap", [Clumsy(), clumsy, RunnableLambda(clumsy)], ids=lambda cheap: type(cheap).__name__)
def test_a_cheap_stage_that_raises_for_a_text_loses_none(cheap: Any) -> None:
    """The text goes to the strong stage, and its neighbours do not notice."""
    whole = cascade(cheap=cheap).with_details()
    texts = ["sport 90 x", *(f"RAISE {number} science" for number in range(20)), "sport 90 y"]
    rows = whole.batch(texts)
    assert [row.stage for row in rows] == [0, *[1] * 20, 0]
    assert {row.label for row in rows[1:-1]} == {"science"}
    assert [row.stage for row in whole.batch(texts[1:8])] == [1] * 7


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_cheap_stage_that_raises_for_every_text_is_told(one_by_one: bool) -> None:
    """What is broken does not send everything to the strong stage: neither in a batch nor text by text."""
    texts = [f"RAISE {number} science" for number in range(30)]
    whole = cascade(cheap=clumsy)
    with pytest.raises(ConfigurationError, match="raised ValueError, and has failed for each of the first 8") as caught:
        [whole.invoke(text) for text in texts] if one_by_one else whole.batch(texts)
    shown = "".join(traceback.format_exception(caught.value))
    assert "RAISE" not in shown
    if one_by_one:
        assert len(asked(whole.strong)) == 7
    assert whole.invoke("sport 90 x") == "sport"


def test_a_cheap_stage_that_raises_while_it_is_calibrated() -> None:
    """A text that it raises for never stays; one that raises for all is told."""
    texts = [f"sport 9{number % 10} sport {number}" for number in range(60)] + ["RAISE 1 sport"] * 3
    whole = cascade(cheap=clumsy, target_error=0.1)
    with pytest.warns(CalibrationWarning, match="3 of 63 texts got no answer from the cheap stage"):
        calibrated = whole.calibrate(texts, ["sport"] * 63)
    assert calibrated.evidence is not None
    assert calibrated.evidence.kept == 60
    with pytest.raises(ConfigurationError, match="raised ValueError"):
        whole.calibrate([f"RAISE {number} sport" for number in range(63)], ["sport"] * 63)
    with pytest.raises(PromptError, match=r"Row 2 of `texts`, counted from 0: .*not NoneType"):
        whole.calibrate([*texts[:2], None, *texts[3:]], ["sport"] * 63)  # type: ignore[list-item]


def test_an_estimator_that_is_fitted_again_is_noticed() -> None:
    """Evidence is of one fit: after another in the same object the next call is refused, however deep it lies."""
    texts = [f"play song {number}" for number in range(30)] + [f"score goal {number}" for number in range(30)]
    labels = ["politics"] * 30 + ["sport"] * 30
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(texts, labels)
    calibrated = cascade(cheap=pipeline, target_error=0.2).calibrate(texts, labels)
    assert calibrated.batch(texts[:2]) == ["politics"] * 2
    assert calibrated.batch(texts[-2:]) == ["sport"] * 2
    pipeline.fit(texts, labels[::-1])
    with pytest.raises(CalibrationError, match="another cheap stage"):
        calibrated.invoke(texts[0])


def test_what_is_asked_about_is_announced_to_the_stage_that_gets_all_rows() -> None:
    """Looking ahead pays there alone: for the cheap one, and for the strong one where nothing stays."""
    told: dict[str, list[str]] = {"cheap": [], "strong": []}

    async def answer(prompt: Prompt, callbacks: Any) -> Classification:
        return Classification(label="sport", confidence=0.9)

    def ready(stage: str) -> Any:
        return RowAnswering(
            lambda row: Prompt(text=str(row)), answer, lambda prompts: told[stage].extend(p.text for p in prompts)
        )

    first = ready("cheap")
    cheap = Ready(lambda row, text: Prompt(text=text), first.answer, first.announce)
    for cut in (0.5, 1.1):
        both = CascadeAnswering(cheap, ready("strong"), cut, first=1, second=1, before=1, mishaps=Mishaps())
        both.announce(both.render(text) for text in (f"{cut} a", f"{cut} b"))
    assert told == {"cheap": ["0.5 a", "0.5 b"], "strong": ["1.1 a", "1.1 b"]}


def test_what_a_cascade_is_not_is_told_in_a_sentence() -> None:
    """It has no estimator, and shows its evidence in short."""
    with pytest.raises(ConfigurationError, match="A cascade is no estimator"):
        cascade().as_estimator()
    assert "threshold=0.7" in repr(cascade())
    evidence = CascadeEvidence(
        compared_with="labels", threshold=0.83, target_error=0.1, confidence=0.9, texts=70, kept=40, errors=1
    )
    shown = repr(Cascade(cheap_one(), strong_one(), evidence=evidence))
    assert "evidence='from 0.83 on: 40 of 70 stay, 1 of them wrong'" in shown
    assert "threshold=" not in shown


@pytest.mark.parametrize("shares", [[0.5], [0.2, 0.3, 0.5], [1.5, -0.5]])
def test_an_estimator_that_gives_no_probabilities_is_told(shares: list[float]) -> None:
    """Fewer or more numbers than classes, or numbers that are no probabilities, are an error and no row's answer."""

    class Wrong(Clumsy):
        def predict_proba(self, texts: list[str]) -> list[list[float]]:
            return [shares for _ in texts]

    with pytest.raises(ConfigurationError, match="does not give one probability a class"):
        cascade(cheap=Wrong()).invoke("sport 90 x")


class Ring(Clumsy):
    """An estimator that leads back to itself."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Any]] = [("whole", self), ("part", Clumsy())]
        self.coefficients = [0.5]

    def fit(self) -> None:
        """Learn something else."""
        self.coefficients = [0.25]


def test_an_estimator_that_holds_itself_is_looked_through_once() -> None:
    """Parts that lead back to the whole do not keep another fit from being noticed."""
    ring = Ring()
    texts = [f"sport {99 - number % 40} sport" for number in range(100)]
    calibrated = cascade(cheap=ring, target_error=0.2).calibrate(texts, ["sport"] * 100)
    assert calibrated.with_details().invoke("sport 99 x").stage == 0
    ring.fit()
    with pytest.raises(CalibrationError, match="another cheap stage"):
        calibrated.invoke(texts[0])


def test_a_cheap_stage_that_answers_too_few_texts_is_told() -> None:
    """Where the cheap stage left most texts open, the warning says how many it answered."""
    texts = [f"sport 90 sport {number}" if number < 20 else f"CHEAP-FAIL 90 sport {number}" for number in range(100)]
    with pytest.warns(CalibrationWarning) as told:
        calibrated = cascade(target_error=0.05).calibrate(texts, ["sport"] * 100)
    assert "it answered 20 texts" in str(told[-1].message)
    assert calibrated.evidence is not None
    assert calibrated.evidence.share_kept == 0


def test_a_row_that_the_cheap_stage_cannot_read_goes_to_the_strong_one() -> None:
    """A template of the cheap stage's own may want what a row does not have."""
    whole = cascade(cheap=cheap_one(prompt="{text} of {author}"))
    rows = whole.with_details().batch([{"text": "sport 90 x", "author": "me"}, {"text": "sport 90 science"}])
    assert [(row.label, row.stage) for row in rows] == [("sport", 0), ("science", 1)]
