"""Priors, label rotation and abstaining: what becomes of the probabilities that a model gives."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, hashed_scores
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typing_extensions import override

from langchain_stormtrooper.calibration import (
    Calibration,
    content_free_texts,
    divide_by_prior,
    geometric_mean,
    mean_distribution,
)
from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.errors import (
    ConfigurationError,
    LowConfidenceWarning,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.wire import Generated

SPACED = tuple(f" {label}" for label in LABELS)


def as_named(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """The probabilities that the text itself names."""
    return tuple(map(float, prompt.text.split()[: len(answers)]))


class Telling(FakeScoringLLM):
    """Tells the covered mass that a text ends with, "?" for none, and whether a grammar masked the rest."""

    masked: bool = False

    @override
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        mass = prompt.text.split()[-1]
        return LabelScores(as_named(prompt, answers), None if mass == "?" else float(mass), masked=self.masked)


class FakeConstrainingLLM(FakeLLM):
    """Constrains its answer to the likeliest label, and tells as much as it is made to."""

    methods: ClassVar[tuple[Method, ...]] = (Method.CONSTRAIN, Method.GENERATE)

    confidence: float | None = None
    shows: bool = Field(default=True)

    @override
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        shares = as_named(prompt, answers)
        best = answers[shares.index(max(shares))]
        return Constrained(Generated(best), self.confidence, LabelScores(shares, 0.9) if self.shows else None)


def at_most_60(prompt: Prompt) -> str:
    """A server that takes 60 characters."""
    if (length := len(str(prompt))) > 60:
        raise OverlongInputError("Too long.", tokens=length, limit=60)
    return "sport"


def ask(text: str, **settings: Any) -> Classification:
    """One row, with details."""
    task = ZeroShotClassifier(LABELS, **{"llm": Telling(), "prompt": "kinds", "prior": None, **settings})
    return task.with_details().invoke(text)


class TestPriors:
    """What stands for a model's lean."""

    async def test_content_free(self) -> None:
        """`prior="content-free"` divides by the mean over three texts without content, asked once."""
        llm = FakeScoringLLM()
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="kinds", prior="content-free")
        rows = await task.with_details().abatch(["x", "y"])
        assert llm.log.texts[:3] == content_free_texts() == ["N/A", "", "[MASK]"]
        assert sorted(llm.log.texts[3:]) == ["x", "y"]
        prior = mean_distribution([hashed_scores(Prompt(text=text), SPACED) for text in content_free_texts()])
        expected = divide_by_prior(hashed_scores(Prompt(text="x"), SPACED), prior)
        assert list((rows[0].probabilities or {}).values()) == pytest.approx(list(expected))

    async def test_none(self) -> None:
        """`prior=None` asks for nothing but the rows."""
        llm = FakeScoringLLM()
        await ZeroShotClassifier(LABELS, llm=llm, prior=None).abatch(["x", "y"])
        assert sorted(llm.log.texts) == ["x", "y"]


class TestRotations:
    """Labels listed in several orders."""

    @staticmethod
    def placed(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
        """What a text says of each label, times a factor for the label's place in the list."""
        listed = prompt.head.partition("exactly one of: ")[2].partition(".")[0].split(", ")
        content = hashed_scores(prompt, answers)
        weights = [
            share * (10.0, 3.0, 0.2)[listed.index(answer.strip())]
            for share, answer in zip(content, answers, strict=True)
        ]
        return tuple(weight / sum(weights) for weight in weights)

    async def test_the_lean_to_places_cancels(self) -> None:
        """With as many orders as labels, what a place adds is gone: what the text says remains, whatever the order."""
        for labels in (LABELS, [*reversed(LABELS)]):
            llm = FakeScoringLLM(score=self.placed)
            task = ZeroShotClassifier(labels, llm=llm, prompt="task", prior=None, rotations=3)
            row = await task.with_details().ainvoke("x")
            assert row.probabilities is not None
            answers = tuple(f" {label}" for label in labels)
            assert list(row.probabilities.values()) == pytest.approx(hashed_scores(Prompt(text="x"), answers))
            assert list(row.probabilities) == labels
            assert (row.prompt_tokens, row.generated_tokens, row.covered_mass) == (21, 3, 0.5)

    async def test_orders(self) -> None:
        """Each order is asked once, the labels turned by even steps; the text and what is scored stay the same."""
        llm = FakeScoringLLM()
        labels = ["a", "b", "c", "d"]
        await ZeroShotClassifier(labels, llm=llm, prompt="{labels}|{text}", prior=None, rotations=2).ainvoke("x")
        assert [str(prompt) for prompt in llm.log.prompts] == ["a, b, c, d.|x", "c, d, a, b.|x"]
        assert llm.asked == [(" a", " b", " c", " d")] * 2
        assert all(prompt == Prompt(head=prompt.head, text="x") for prompt in llm.log.prompts)

    async def test_prior_in_all_orders(self) -> None:
        """The prior is that of the averaged scores."""
        llm = FakeScoringLLM(score=self.placed)
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="task", prior="content-free", rotations=3)
        row = await task.with_details().ainvoke("x")
        assert len(llm.log.prompts) == 3 * 3 + 3
        prior = mean_distribution([hashed_scores(Prompt(text=text), SPACED) for text in content_free_texts()])
        expected = divide_by_prior(hashed_scores(Prompt(text="x"), SPACED), prior)
        assert list((row.probabilities or {}).values()) == pytest.approx(expected)

    async def test_variables_of_inputs(self) -> None:
        """Further variables of a template are filled into every order."""
        llm = FakeScoringLLM()
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="{hint} {labels} {text}", prior=None, rotations=2)
        await task.ainvoke({"text": "x", "hint": "H"})
        assert [str(prompt) for prompt in llm.log.prompts] == [
            "H sport, politics, science. x",
            "H politics, science, sport. x",
        ]

    async def test_codes(self) -> None:
        """With letters for labels, a label's letter moves with its place in the list, and its score stays its own."""

        def knows_politics(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            (line,) = [line for line in str(prompt).splitlines() if line.endswith(" politics")]
            return tuple(0.9 if line.startswith(answer.strip()) else 0.05 for answer in answers)

        llm = FakeScoringLLM(score=knows_politics)
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="codes", prior=None, rotations=3).with_details()
        row = await task.ainvoke("x")
        assert row.label == "politics"
        assert (row.probabilities or {})["politics"] == pytest.approx(0.9)
        assert len({str(prompt) for prompt in llm.log.prompts}) == 3

    async def test_chat(self) -> None:
        """A chat template wraps every order."""
        llm = FakeScoringLLM(chat=("<", ">"), model_id="acme/big-70B")
        await ZeroShotClassifier(LABELS, llm=llm, prior=None, rotations=3).ainvoke("x")
        assert len({str(prompt) for prompt in llm.log.prompts}) == 3
        assert all((prompt.before, prompt.after) == ("<", ">") for prompt in llm.log.prompts)

    async def test_overlong(self) -> None:
        """An overlong row is overlong in any order, and is cut in all of them."""
        llm = FakeScoringLLM(answer=at_most_60)
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels}|{text}", prior=None, rotations=3)
        with pytest.warns(OverlongInputWarning):
            assert await task.ainvoke("y " * 50) is None
        cut = task.model_copy(update={"on_overlong": "truncate"}).with_details()
        assert (await cut.ainvoke("y " * 50)).truncated
        assert len({prompt.head for prompt in llm.log.prompts[-3:]}) == 3
        (text,) = {prompt.text for prompt in llm.log.prompts[-3:]}
        assert 0 < len(text) < 40

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"prompt": "kinds"}, PromptError, "does not list the labels.*prompt='task'"),
            ({"prompt": "{text} is"}, PromptError, "does not list the labels"),
            ({"prompt": "task", "method": "generate"}, ConfigurationError, "`rotations=` averages scores"),
        ],
    )
    def test_where_it_would_do_nothing(self, settings: Any, error: type[Exception], message: str) -> None:
        """A prompt that does not list the labels, or a method without scores, is refused."""
        with pytest.raises(error, match=message):
            ZeroShotClassifier(LABELS, llm=FakeScoringLLM(), rotations=2, **settings).invoke("x")

    def test_how_many(self) -> None:
        """There are as many rotations as labels."""
        with pytest.raises(ConfigurationError, match="at most 3, the number of labels, not 4"):
            ZeroShotClassifier(LABELS, llm=FakeScoringLLM(), rotations=4)
        with pytest.raises(ConfigurationError):
            ZeroShotClassifier(LABELS, llm=FakeScoringLLM(), rotations=0)

    @given(st.lists(st.tuples(*[st.sampled_from([0.0, 1e-300, 0.1, 0.5, 1.0])] * 3), min_size=1, max_size=5))
    def test_mean_in_log_space(self, rows: list[tuple[float, ...]]) -> None:
        """It is the normalized geometric mean with a floor of 1e-9, also for zeros."""
        products = [
            math.prod(max(value, 1e-9) for value in column) ** (1 / len(rows)) for column in zip(*rows, strict=True)
        ]
        assert geometric_mean(rows) == pytest.approx([product / sum(products) for product in products], rel=1e-6)


class TestAbstaining:
    """Rows that do not get a label."""

    @pytest.mark.parametrize(
        ("text", "settings", "reason"),
        [
            ("0.6 0.3 0.1 1", {"min_confidence": 0.6}, None),
            ("0.6 0.3 0.1 1", {"min_confidence": 0.61}, Reason.LOW_CONFIDENCE),
            ("0.5 0.25 0.25 1", {"min_margin": 0.25}, None),
            ("0.1 0.4 0.5 1", {"min_margin": 0.2}, Reason.LOW_CONFIDENCE),
            ("0.6 0.3 0.1 0.5", {"min_covered_mass": 0.5}, None),
            ("0.6 0.3 0.1 0.4", {"min_covered_mass": 0.5}, Reason.UNMATCHED),
            ("0.6 0.3 0.1 0.4", {"min_covered_mass": 0.5, "min_confidence": 0.9}, Reason.UNMATCHED),
            ("0.6 0.3 0.1 0.6", {"min_covered_mass": 0.5, "min_margin": 0.9}, Reason.LOW_CONFIDENCE),
            ("0.6 0.3 0.1 ?", {"min_confidence": 0.1, "min_margin": 0.1}, None),
        ],
    )
    @pytest.mark.filterwarnings("ignore::langchain_stormtrooper.StormtrooperWarning")
    def test_demands(self, text: str, settings: dict[str, Any], reason: Reason | None) -> None:
        """Each demand rejects what falls short of it; the details keep probabilities and the best label's."""
        row = ask(text, **settings)
        shares = [float(share) for share in text.split()[:3]]
        assert row.reason is reason
        assert row.label == (None if reason else LABELS[shares.index(max(shares))])
        assert row.probabilities == dict(zip(LABELS, shares, strict=True))
        assert row.confidence == max(shares)
        assert row.method is Method.SCORE

    def test_warnings(self) -> None:
        """Each kind is warned about once per batch."""
        task = ZeroShotClassifier(
            LABELS, llm=Telling(), prompt="kinds", prior=None, min_confidence=0.5, min_covered_mass=0.5
        )
        rows: list[Any] = ["0.4 0.3 0.3 1", "0.8 0.1 0.1 1", "0.3 0.4 0.3 1", "0.8 0.1 0.1 0"]
        with pytest.warns() as caught:
            assert task.batch(rows) == [None, "sport", None, None]
        assert {warning.category for warning in caught} == {LowConfidenceWarning, UnmatchedLabelWarning}
        assert any(
            "2 of 4 texts got no label: the model was not sure enough (rows 0, 2)" in str(w.message) for w in caught
        )

    @pytest.mark.filterwarnings("ignore::langchain_stormtrooper.LowConfidenceWarning")
    def test_what_counts_is_the_corrected_probability(self) -> None:
        """Confidence and margin are those after prior or calibration."""
        llm = Telling(model_id="m")
        task = ZeroShotClassifier(LABELS, llm=llm, prompt="kinds", prior=None, min_confidence=0.8)
        calibration = Calibration(
            labels=tuple(LABELS), task="0" * 64, model_id="m", kind="prior", prior=(0.8, 0.1, 0.1)
        )
        bound = calibration.model_copy(update={"task": asyncio.run(task.afingerprint())})
        calibrated = task.model_copy(update={"calibration": bound}).with_details()
        assert task.invoke("0.8 0.1 0.1 1") == "sport"
        row = calibrated.invoke("0.8 0.1 0.1 1")
        assert (row.label, row.reason) == (None, Reason.LOW_CONFIDENCE)
        assert row.confidence == pytest.approx(1 / 3)
        assert calibrated.invoke("0.05 0.9 0.05 1").label == "politics"

    @pytest.mark.parametrize("llm", [Telling(), Telling(masked=True)])
    def test_a_mass_that_is_not_told(self, llm: Telling) -> None:
        """Where nothing is known of what falls beside the labels, asking for it is an error, not a no-op."""
        text = "0.6 0.3 0.1 " + ("1" if llm.masked else "?")
        with pytest.raises(ConfigurationError, match=r"`min_covered_mass=` needs to know .*scoring='raw'"):
            ask(text, llm=llm, min_covered_mass=0.5)

    @pytest.mark.parametrize("setting", ["min_confidence", "min_margin", "min_covered_mass"])
    def test_generating_has_no_numbers(self, setting: str) -> None:
        """On generated text a demand can never be met or missed: it is refused."""
        with pytest.raises(ConfigurationError, match=f"`{setting}=` cannot be used with method='generate'"):
            ask("x", method="generate", **{setting: 0.5})

    @pytest.mark.parametrize("setting", ["min_confidence", "min_margin", "min_covered_mass"])
    @pytest.mark.parametrize("value", [-0.1, 1.1, "high"])
    def test_numbers_are_shares(self, setting: str, value: Any) -> None:
        """Demands are numbers from 0 to 1."""
        with pytest.raises(ConfigurationError, match=setting):
            ask("x", **{setting: value})


class TestConstrained:
    """The same with answers that a grammar keeps within the labels."""

    @pytest.mark.filterwarnings("ignore::langchain_stormtrooper.LowConfidenceWarning")
    def test_demands(self) -> None:
        """Confidence and margin work where the server shows probabilities."""
        llm = FakeConstrainingLLM()
        assert ask("0.6 0.3 0.1", llm=llm, min_confidence=0.6, min_margin=0.2).label == "sport"
        for settings in ({"min_confidence": 0.7}, {"min_margin": 0.4}):
            row = ask("0.6 0.3 0.1", llm=llm, **settings)
            assert (row.label, row.reason, row.confidence) == (None, Reason.LOW_CONFIDENCE, 0.6)
            assert (row.method, row.generation) == (Method.CONSTRAIN, " sport")

    @pytest.mark.filterwarnings("ignore::langchain_stormtrooper.LowConfidenceWarning")
    def test_confidence_alone(self) -> None:
        """A server that tells only how probable its answer was can be asked for that, and for nothing else."""
        llm = FakeConstrainingLLM(confidence=0.6, shows=False)
        assert ask("0.6 0.3 0.1", llm=llm, min_confidence=0.6).label == "sport"
        assert ask("0.6 0.3 0.1", llm=llm, min_confidence=0.7).reason is Reason.LOW_CONFIDENCE
        with pytest.raises(ConfigurationError, match=r"`min_margin=` needs to know .*method='score'"):
            ask("0.6 0.3 0.1", llm=llm, min_margin=0.1)
        with pytest.raises(ConfigurationError, match=r"`min_confidence=` needs to know .*method='score'"):
            ask("0.6 0.3 0.1", llm=FakeConstrainingLLM(shows=False), min_confidence=0.1)

    def test_what_makes_no_sense(self) -> None:
        """It never answers beside the labels, and has one prompt only."""
        with pytest.raises(ConfigurationError, match="`min_covered_mass=` tells nothing with method='constrain'"):
            ask("0.6 0.3 0.1", llm=FakeConstrainingLLM(), min_covered_mass=0.5)
        with pytest.raises(ConfigurationError, match="`rotations=` averages scores"):
            ask("0.6 0.3 0.1", llm=FakeConstrainingLLM(), prompt="task", rotations=2)

    def test_calibrated(self) -> None:
        """Probabilities beside a constrained answer can be calibrated: the label is the best one afterwards."""
        shown = {"sport": "0.90 0.05 0.05", "politics": "0.60 0.35 0.05", "science": "0.60 0.05 0.35"}
        task = ZeroShotClassifier(LABELS, llm=FakeConstrainingLLM(), prompt="kinds")
        assert set(task.batch([*shown.values()])) == {"sport"}
        learnt = task.calibrate([*shown.values()] * 8, [*shown] * 8)
        rows = learnt.with_details().batch([*shown.values()])
        assert [row.label for row in rows] == [*shown]
        for row in rows:
            assert row.probabilities is not None
            assert row.confidence == max(row.probabilities.values())
        with pytest.raises(ConfigurationError, match=r"None of the 24 texts .*24 no probabilities.*method='score'"):
            ZeroShotClassifier(LABELS, llm=FakeConstrainingLLM(shows=False), prompt="kinds").calibrate(
                [*shown.values()] * 8, [*shown] * 8
            )
        with pytest.raises(ConfigurationError, match="does not show beside a constrained answer: use method='score'"):
            learnt.model_copy(update={"llm": FakeConstrainingLLM(shows=False)}).invoke("0.6 0.3 0.1")
