"""`ask="once"`: the labels of a text out of one scoring of all labels, with thresholds on shares of probability."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import FakeLLM, FakeScoringLLM
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps

from langchain_stormtrooper import (
    CalibrationError,
    CalibrationWarning,
    ConfigurationError,
    FailedRequestWarning,
    MultiLabelClassifier,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    TextGenerationInference,
    UnmatchedLabelWarning,
    ZeroShotClassifier,
    load,
)
from langchain_stormtrooper.prompts import Prompt

LABELS = ["joy", "anger", "surprise", "fear", "envy"]
TEXTS = ["joy 50 anger 40", "surprise 80", "nothing", "joy 35"]
WANTED = [["joy", "anger"], ["surprise"], [], []]


def share(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """What the text says of a label, in per cent, and 20 where it says nothing; normalized."""
    assert [answer.strip() for answer in answers] == LABELS
    told = {label: int(number) for label, number in re.findall(r"(\w+) (\d+)", prompt.text)}
    weights = [told.get(label, (100 - sum(told.values())) / (len(LABELS) - len(told))) for label in LABELS]
    return tuple(weight / sum(weights) for weight in weights)


def fake(**given: Any) -> FakeScoringLLM:
    """The model."""
    return FakeScoringLLM(**{"score": share, "model_id": "small-135m", "places": 4, **given})


def classifier(**given: Any) -> MultiLabelClassifier:
    """A classifier that asks once, without a prior."""
    return MultiLabelClassifier(LABELS, **{"llm": fake(), "prior": None, "ask": "once", **given})


def test_one_request_a_row() -> None:
    """All labels come from one scoring of a row, which is that of a `ZeroShotClassifier` with the same settings."""
    llm = fake()
    kinds = {"text_kind": "comment", "label_kind": "emotion"}
    rows = classifier(llm=llm, **kinds).with_details().batch(TEXTS)
    assert [row.labels for row in rows] == WANTED
    assert [len(llm.asked), {len(answers) for answers in llm.asked}] == [len(TEXTS), {len(LABELS)}]
    assert rows[0].probabilities == pytest.approx({"joy": 0.5, "anger": 0.4, **dict.fromkeys(LABELS[2:], 0.1 / 3)})
    assert (rows[0].method, rows[0].prompt_tokens, rows[0].generated_tokens, rows[0].truncated) == (
        "score",
        7,
        1,
        False,
    )
    other = fake()
    single = ZeroShotClassifier(LABELS, llm=other, method="score", prior=None, **kinds).with_details().batch(TEXTS)
    assert [row.probabilities for row in rows] == [row.probabilities for row in single]
    assert [str(prompt) for prompt in llm.log.prompts] == [str(prompt) for prompt in other.log.prompts]


async def test_all_faces_agree() -> None:
    """Sync, async and single calls give the same lists."""
    one = classifier()
    assert one.batch(TEXTS) == await one.abatch(TEXTS) == [await one.ainvoke(text) for text in TEXTS] == WANTED


@pytest.mark.parametrize(("labels", "cut"), [(["a", "b"], 0.5), (list("abcd"), 0.5), (list("abcdefgh"), 0.25)])
def test_the_default_threshold_is_twice_an_even_share(labels: list[str], cut: float) -> None:
    """Twice an even share and at most a half, the threshold itself included; what is set by hand goes before it."""

    def at(first: float) -> FakeScoringLLM:
        rest = (1 - first) / (len(labels) - 1)
        return fake(score=lambda prompt, answers: (first, *[rest] * (len(labels) - 1)))

    def ask(first: float, **given: Any) -> bool:
        settings = {"llm": at(first), "prior": None, "ask": "once", **given}
        return labels[0] in MultiLabelClassifier(labels, **settings).invoke("x")  # type: ignore[operator]

    assert [ask(cut), ask(cut - 0.01)] == [True, False]
    assert ask(0.2, threshold=0.2)
    assert not ask(cut, thresholds={labels[0]: 0.9})


def test_the_prior_is_divided_out() -> None:
    """What the model says to texts without content is taken out of the shares, and measured once for all rows."""

    def lean(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        return (0.6, 0.1, 0.1, 0.1, 0.1) if "anger" not in prompt.text else (0.6, 0.2, 0.1, 0.05, 0.05)

    llm = fake(score=lean)
    one = classifier(llm=llm, prior="words").with_details()
    rows = one.batch(["x", "anger"])
    assert rows[0].probabilities == pytest.approx(dict.fromkeys(LABELS, 0.2))
    assert rows[1].probabilities == pytest.approx(dict(zip(LABELS, [0.2, 0.4, 0.2, 0.1, 0.1], strict=True)))
    assert len(llm.asked) == 8 + 2
    one.bind(threshold=0.9).invoke("y")
    assert len(llm.asked) == 8 + 3


MANY = [f"joy {number} anger {80 - number} n" for number in range(0, 80, 2)]
MANY_WANTED: list[Any] = [
    [label for label, so in (("joy", number >= 20), ("anger", number < 60)) if so] for number in range(0, 80, 2)
]


def test_calibrating() -> None:
    """Each label gets the threshold that its texts ask for, far below a half where labels share."""
    with pytest.warns(CalibrationWarning, match="3 of 5 labels occur fewer than 5 times"):
        learnt = classifier(threshold=0.9).calibrate(MANY, MANY_WANTED)
    assert learnt.evidence is not None
    assert learnt.evidence.thresholds["joy"] == pytest.approx(0.19)
    assert learnt.evidence.thresholds["anger"] == pytest.approx(0.21)
    texts = ["joy 18 anger 20 fear 62", "joy 20 anger 22", "anger 70 joy 10"]
    assert [set(labels or ()) & {"joy", "anger"} for labels in learnt.batch(texts)] == [
        set(),
        {"joy", "anger"},
        {"anger"},
    ]


def test_evidence_belongs_to_the_way_of_asking() -> None:
    """Thresholds on shares are refused where each label is asked about, with another prompt, kind or prior."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = classifier().calibrate(MANY, MANY_WANTED).evidence

    def yes(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        return 0.5, 0.5

    assert classifier(evidence=kept).invoke("anger 70 joy 10") == ["anger"]
    for other in (
        {"ask": "each", "llm": fake(score=yes)},
        {"label_kind": "mood"},
        {"prior": "words"},
        {"prompt": "task"},
    ):
        with pytest.raises(CalibrationError, match="another way to ask"):
            classifier(evidence=kept, **other).invoke("x")
    with pytest.raises(ConfigurationError, match="evidence=None"):
        classifier(evidence=kept, threshold=0.5)


def test_mishaps_are_a_row_s_own() -> None:
    """Rows that are too long, fail or fall beside the labels are None with their reason; others go on."""
    with pytest.warns((OverlongInputWarning, FailedRequestWarning)):
        rows = classifier().with_details().batch(["OVERLONG", "FAIL", TEXTS[1]])
    assert [row.reason for row in rows] == ["overlong", "failed", None]
    assert [row.labels for row in rows] == [None, None, ["surprise"]]

    class Beside(FakeScoringLLM):
        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Any:
            scores = await super().ascore_row(prompt, answers)
            return type(scores)(scores.probabilities, covered_mass=0.0)

    with pytest.warns(UnmatchedLabelWarning, match="falls on the labels"):
        assert classifier(llm=Beside(**dict(fake()))).invoke("x") is None


def test_overlong_texts_are_cut_where_asked_for() -> None:
    """As with other classifiers: the text loses its end, and the row says so."""

    def refuse(prompt: Prompt) -> str:
        if len(str(prompt)) > 60:
            raise OverlongInputError("Too long.", tokens=len(str(prompt)), limit=60)
        return ""

    row = classifier(llm=fake(answer=refuse), on_overlong="truncate").with_details().invoke("joy 90 " + 20 * "very ")
    assert (row.labels, row.truncated) == (["joy"], True)


def test_prompts() -> None:
    """A preset or a template of a single-label classifier; the question about one label is not asked for."""
    llm = fake()
    classifier(llm=llm, prompt="{text} [{labels}]").invoke("x")
    classifier(llm=llm, prompt="kinds", label_kind="mood").invoke("x")
    first, second = (str(prompt) for prompt in llm.log.prompts)
    assert all(label in first for label in LABELS)
    assert second == "Text: x\nMood:"
    with pytest.raises(PromptError, match="text"):
        classifier(prompt="{labels}")
    with pytest.raises(PromptError, match="neither a preset"):
        classifier(prompt="kind")
    with pytest.raises(ConfigurationError, match="ask='once'"):
        classifier(ask="each", prompt="kinds")
    with pytest.raises(ConfigurationError, match="`ask`"):
        classifier(ask="twice")


def test_the_first_row_goes_alone_after_a_long_instruction() -> None:
    """A server keeps the instruction once the first row is answered; until then the others wait, in `calibrate` too."""
    seen: list[int] = []

    class Watching(FakeScoringLLM):
        @property
        def shares_prefixes(self) -> bool:
            return True

        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Any:
            seen.append(self.log.running)
            return await super().ascore_row(prompt, answers)

    long = "word " * 100 + "{labels} {text}:"
    texts = [f"joy {number} fear 8" for number in range(8)]
    classifier(llm=Watching(**dict(fake(delay=0.01))), prompt=long).batch(texts)
    assert (seen[:2], max(seen)) == ([0, 0], 3)
    seen.clear()
    with pytest.warns(CalibrationWarning):
        classifier(llm=Watching(**dict(fake(delay=0.01))), prompt=long).calibrate(texts, [["joy"]] * 8)
    assert (seen[:2], max(seen)) == ([0, 0], 3)


def test_a_model_that_only_generates_is_refused() -> None:
    """The first call says what is needed, whatever the prior."""
    for prior in (None, "words"):
        with pytest.raises(ConfigurationError, match="needs the probabilities of all labels"):
            classifier(llm=FakeLLM(), prior=prior).invoke("x")


def test_what_is_saved_comes_back_equal() -> None:
    """Through LangChain's `dumps` and our `load`, and through pickle."""
    one: Any = classifier(llm=TextGenerationInference(base_url="http://127.0.0.1:9"), prompt="kinds")
    assert load(dumps(one)) == one == pickle.loads(pickle.dumps(one))  # noqa: S301  # our own
    assert one.ask == "once"


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=5))
def test_labels_are_those_at_their_threshold(weights: list[int]) -> None:
    """Whatever the probabilities, exactly the labels at or above the threshold apply, in the order given."""
    shares = [(weight + 1) / (sum(weights) + len(LABELS)) for weight in weights]
    one = classifier(llm=fake(score=lambda prompt, answers: tuple(shares)), threshold=0.25)
    assert one.invoke("x") == [label for label, value in zip(LABELS, shares, strict=True) if value >= 0.25]
