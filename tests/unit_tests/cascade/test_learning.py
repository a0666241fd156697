"""Calibrating a cascade: who is asked what, what counts as wrong, and what its user is told."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM
from two_stages import asked, cascade, cheap_one, strong_one

from langchain_stormtrooper import (
    CalibrationError,
    CalibrationWarning,
    Cascade,
    Classification,
    ConfigurationError,
    FewShotClassifier,
    LabelError,
    PromptError,
)
from langchain_stormtrooper.calibration import DECIDES_NOTHING
from langchain_stormtrooper.cascade import CascadeEvidence


def drawn(count: int, seed: int = 0, extra: str = "") -> list[str]:
    """Different texts on which the stages agree above 70 % and not below."""
    generator = random.Random(seed)
    texts = []
    for number in range(count):
        first, confidence = generator.choice(LABELS), generator.randrange(40, 100)
        second = first if confidence > 70 else LABELS[(LABELS.index(first) + 1) % 3]
        texts.append(f"{first} {confidence} {second} {extra}{number}")
    return texts


def truths(texts: list[str]) -> list[str]:
    """What the strong stage says."""
    return [text.split()[2] for text in texts]


async def test_with_labels_only_the_cheap_stage_is_asked() -> None:
    """The threshold lies where the errors begin, the counts are those of the texts, and the original stays as it is."""
    whole, texts = cascade(target_error=0.1), drawn(300)
    calibrated = await whole.acalibrate(texts, truths(texts))
    evidence = calibrated.evidence
    assert evidence is not None and whole.evidence is None
    staying = [text for text in texts if int(text.split()[1]) / 100 >= evidence.threshold]
    assert (evidence.compared_with, evidence.texts, evidence.kept) == ("labels", 300, len(staying))
    assert evidence.errors == sum(text.split()[0] != text.split()[2] for text in staying)
    # A few wrong ones are borne, as far as the promise allows.
    assert 0.6 < evidence.threshold < 0.72
    assert asked(whole.strong) == [] and sorted(asked(whole.cheap)) == sorted(texts)
    assert evidence.strong is None and evidence.cheap is not None
    assert calibrated == whole.calibrate(texts, truths(texts))
    rows = calibrated.with_details().batch(further := drawn(50, seed=1))
    assert [row.stage for row in rows] == [
        0 if int(text.split()[1]) / 100 >= evidence.threshold else 1 for text in further
    ]


def test_without_labels_the_strong_stage_is_the_truth() -> None:
    """The same threshold as with its answers for labels; it is asked only about what the cheap one has a label for."""
    texts = drawn(300)
    whole = cascade(target_error=0.1, cheap=cheap_one(min_confidence=0.5))
    learnt, known = whole.calibrate(texts).evidence, whole.calibrate(texts, truths(texts)).evidence
    assert learnt is not None and known is not None
    assert (learnt.threshold, learnt.kept, learnt.errors) == (known.threshold, known.kept, known.errors)
    assert (learnt.compared_with, learnt.strong is None) == ("strong", False)
    assert sorted(asked(whole.strong)) == sorted(text for text in texts if int(text.split()[1]) >= 50)


def test_a_row_that_the_strong_stage_leaves_open_is_a_disagreement() -> None:
    """Where it would have said nothing, a label of the cheap one is not what it would have said."""
    texts = [text.replace("x", "STRONG-OVERLONG ") for text in drawn(100, extra="x")]
    with pytest.warns(CalibrationWarning, match="29 of the 29 it is surest of are not"):
        calibrated = cascade(target_error=0.1).calibrate(texts)
    assert calibrated.evidence is not None
    assert (calibrated.evidence.kept, calibrated.evidence.threshold) == (0, DECIDES_NOTHING)


def test_texts_without_an_answer_are_told() -> None:
    """Those that failed in the strong stage are left out, those in the cheap one go on; both with a warning."""
    texts = [*drawn(100), "sport 99 STRONG-FAIL", "CHEAP-FAIL 9 sport", "CHEAP-FAIL 8 sport"]
    with pytest.warns(CalibrationWarning) as told:
        calibrated = cascade(target_error=0.1).calibrate(texts)
    said = [str(warning.message) for warning in told]
    assert said == [
        "2 of 103 texts got no answer from the cheap stage; such rows go to the strong one.",
        "1 of 103 texts got no answer from the strong stage and were left out.",
    ]
    assert calibrated.evidence is not None
    assert calibrated.evidence.texts == 102


def test_too_few_texts_send_everything_to_the_strong_stage() -> None:
    """The warning says how many it takes; nobody is asked in vain, now or for a row."""
    whole, texts = cascade(target_error=0.05), drawn(58)
    with pytest.warns(CalibrationWarning, match="at least 59 texts .* there are 58 texts in all"):
        calibrated = whole.calibrate(texts, truths(texts))
    assert asked(whole.cheap) == []
    assert calibrated.with_details().invoke("sport 99 politics").stage == 1
    assert asked(whole.cheap) == []


def test_errors_at_the_top_send_everything_to_the_strong_stage() -> None:
    """Texts enough, and a cheap stage that is surest where it is wrong."""
    texts = [f"sport {99 - number % 50} politics {number}" for number in range(100)]
    with pytest.warns(CalibrationWarning, match="60 of the 60 it is surest of are not"):
        calibrated = cascade(target_error=0.05).calibrate(texts, truths(texts))
    assert calibrated.evidence is not None and calibrated.evidence.share_kept == 0


def test_another_promise_than_the_cascade_s() -> None:
    """What is given to `calibrate` is what the new cascade promises; evidence of another promise is refused."""
    texts = drawn(200)
    whole = cascade()
    calibrated = whole.calibrate(texts, truths(texts), target_error=0.2, confidence=0.9)
    assert (calibrated.target_error, calibrated.confidence, calibrated.threshold) == (0.2, 0.9, None)
    with pytest.raises(ConfigurationError, match="calibrate again"):
        calibrated.bind(target_error=0.1)
    with pytest.raises(ConfigurationError, match="evidence=None"):
        calibrated.bind(threshold=0.5)
    assert calibrated.bind(threshold=0.5, evidence=None) == whole.bind(threshold=0.5, target_error=0.2, confidence=0.9)


@pytest.mark.parametrize(
    ("given", "arguments", "error", "message"),
    [
        ({}, (["a"],), ConfigurationError, "`target_error=`"),
        ({"target_error": 0.1}, ([],), ConfigurationError, "`texts` is empty"),
        ({"target_error": 0.1}, ("sport 9 sport",), ConfigurationError, "must be a list"),
        ({"target_error": 0.1}, (["a", "b"], ["sport"]), ConfigurationError, "differ"),
        ({"target_error": 0.1}, ([SECRET], ["chess"]), LabelError, "'chess'"),
        ({"target_error": 0.5}, ([None] * 9,), PromptError, "must be a text"),
        ({"target_error": 0.5}, (["CHEAP-FAIL 9 x"] * 9,), ConfigurationError, "none of the 9 texts .*424"),
        ({"target_error": 0.5}, (["sport 9 STRONG-FAIL"] * 9,), ConfigurationError, "strong stage failed"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    given: dict[str, Any], arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    """One sentence that says what to do, and shows no text."""
    with pytest.raises(error, match=message) as told:
        cascade(**given).calibrate(*arguments)
    assert SECRET not in str(told.value)


def test_examples_are_no_texts_to_calibrate_with() -> None:
    """A few-shot stage has seen them."""
    texts = drawn(40)
    seen = FewShotClassifier(LABELS, [(texts[3], "sport")], llm=cheap_one().llm, prior=None, prompt="kinds")
    with pytest.raises(ConfigurationError, match="1 of 40 texts"):
        Cascade(seen, strong_one(), target_error=0.1).calibrate(texts)


def test_evidence_is_kept_and_refused_for_other_stages() -> None:
    """From its JSON it is the same cascade; with another model, prompt or fit it is an error before the first row."""
    texts = drawn(200)
    calibrated = cascade(target_error=0.1).calibrate(texts)
    assert calibrated.evidence is not None
    kept = CascadeEvidence.model_validate_json(calibrated.evidence.model_dump_json())
    again = Cascade(cheap_one(), strong_one(), evidence=kept)
    assert (again.target_error, again.confidence) == (0.1, 0.95)
    assert again.batch(texts) == calibrated.batch(texts)
    for stages in (
        (cheap_one("other"), strong_one()),
        (cheap_one(), strong_one("other")),
        (cheap_one(prompt="task"), strong_one()),
    ):
        other = Cascade(*stages, evidence=kept)
        with pytest.raises(CalibrationError, match=r"another (cheap|strong) stage"):
            other.batch(texts)
    # With labels, nothing was learnt of the strong one.
    labelled = cascade(target_error=0.1).calibrate(texts, truths(texts)).evidence
    assert Cascade(cheap_one(), strong_one("other"), evidence=labelled).invoke(texts[0]) in LABELS


def test_a_function_is_taken_on_trust() -> None:
    """What cannot be told from others is not compared."""

    def cheap(text: str) -> Classification:
        return Classification(label="sport", confidence=int(text.split()[1]) / 100)

    texts = drawn(200)
    calibrated = cascade(cheap=cheap, target_error=0.1).calibrate(texts, ["sport"] * 200)
    assert calibrated.evidence is not None and calibrated.evidence.cheap is None
    assert calibrated.with_details().invoke("sport 100 x").stage == 0


def test_a_cheap_stage_that_generates_is_refused() -> None:
    """It gives no confidences to choose among."""
    whole = cascade(cheap=cheap_one(llm=FakeLLM(), method="generate"), target_error=0.5)
    with pytest.raises(ConfigurationError, match="method='score'"):
        whole.calibrate(drawn(20))
