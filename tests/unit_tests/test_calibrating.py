"""`calibrate`: what texts teach a classifier, what it then answers, and what is refused."""

from __future__ import annotations

import asyncio
import enum
import pickle
import random
import sys
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, hashed_scores
from langchain_core.language_models.fake import FakeListLLM

from langchain_stormtrooper.calibration import Calibration, divide_by_prior, fit, mean_distribution
from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import (
    CalibrationError,
    CalibrationWarning,
    ConfigurationError,
    LabelError,
    LowConfidenceWarning,
    MissingExtraError,
    OverlongInputError,
)
from langchain_stormtrooper.evaluation import evaluate
from langchain_stormtrooper.fingerprints import task_fingerprint
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.presets import PRESETS
from langchain_stormtrooper.prompts import Prompt, task_prompt
from langchain_stormtrooper.results import Method, Reason

SPACED = tuple(f" {label}" for label in LABELS)
MIXED = [f"{label} {number}" for number in range(12) for label in LABELS]
TRUTH = [text.split()[0] for text in MIXED]
OTHERS = [f"{label} {number}" for number in range(100, 140) for label in LABELS]
LEAN = {" sport": 0.9, " politics": 0.06, " science": 0.04}


def leaning(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """A model that sees what a text is about, mostly, but leans so much to sport that it hardly says anything else."""
    weights = [
        LEAN.get(answer, 0.1)
        * (6 if prompt.text.startswith(answer.strip()) else 1)
        * 25 ** (random.Random(prompt.text + answer).random() - 0.5)
        for answer in answers
    ]
    return tuple(weight / sum(weights) for weight in weights)


def make(**changes: Any) -> ZeroShotClassifier:
    """A classifier with such a model."""
    return ZeroShotClassifier(LABELS, **{"llm": FakeScoringLLM(score=leaning), "prompt": "kinds", **changes})


def accuracy(task: ZeroShotClassifier, texts: Sequence[str] = OTHERS) -> float:
    """Share of right answers."""
    answers = task.batch([*texts])
    return sum(answer == text.split()[0] for answer, text in zip(answers, texts, strict=True)) / len(texts)


class TestUnlabelled:
    """Batch calibration."""

    def test_the_mean_answer_becomes_the_prior(self) -> None:
        """The state is the mean of the model's own probabilities, rows are divided by it, and the old one stays."""
        task = make()
        learnt = task.calibrate(MIXED)
        prior = mean_distribution([leaning(Prompt(text=text), SPACED) for text in MIXED])
        assert learnt.calibration is not None
        assert (learnt.calibration.kind, learnt.calibration.labels) == ("prior", tuple(LABELS))
        assert learnt.calibration.prior == pytest.approx(prior)
        assert learnt.calibration.report is None
        assert learnt.calibration.threshold is None
        assert type(learnt) is ZeroShotClassifier
        assert task.calibration is None
        row = learnt.with_details().invoke("politics 7")
        expected = divide_by_prior(leaning(Prompt(text="politics 7"), SPACED), prior)
        assert list((row.probabilities or {}).values()) == pytest.approx(expected)

    def test_it_answers_better(self) -> None:
        """A model that hardly says anything but one label becomes right."""
        task = make(prior=None)
        assert accuracy(task) < 0.6
        assert accuracy(task.calibrate(MIXED)) > 0.7

    def test_a_calibration_replaces_the_prior(self) -> None:
        """A calibrated classifier asks for no words, whatever its prior."""
        learnt = make().calibrate(MIXED)
        assert isinstance(learnt.llm, FakeScoringLLM)
        learnt.llm.log.prompts.clear()
        learnt.invoke("x")
        assert learnt.llm.log.texts == ["x"]

    def test_few_shot(self) -> None:
        """A few-shot classifier comes back as one, with its examples."""
        task = FewShotClassifier(LABELS, [("A goal!", "sport")], llm=FakeScoringLLM(score=leaning), prompt="kinds")
        learnt = task.calibrate(MIXED)
        assert isinstance(learnt, FewShotClassifier)
        assert learnt.examples == task.examples
        assert learnt.batch(OTHERS[:9]) == make().calibrate(MIXED).batch(OTHERS[:9])

    async def test_async_is_the_same(self) -> None:
        """`acalibrate` learns what `calibrate` learns, also inside a running event loop."""
        assert (await make().acalibrate(MIXED)).calibration == make().calibrate(MIXED).calibration

    def test_requests(self) -> None:
        """Equal texts share a request, texts may come in dicts, and no more are asked at once than there are places."""
        llm = FakeScoringLLM(score=leaning, places=3, delay=0.001)
        task = make(llm=llm, text_key="body")
        learnt = task.calibrate({"body": text} for text in MIXED * 2)
        assert len(llm.log.texts) == len(MIXED) + 8
        assert llm.log.peak == 3
        assert learnt.calibration is not None
        plain = make().calibrate(MIXED).calibration
        assert plain is not None
        assert learnt.calibration.prior == pytest.approx(plain.prior)

    def test_one_sided_texts(self) -> None:
        """Texts that look as if most were of one label are warned about, with the label and where they were passed."""
        texts = [f"sport {number}" for number in range(40)] + [f"politics {number}" for number in range(4)]
        with pytest.warns(CalibrationWarning, match=r"takes [89]\d% of the texts for 'sport'") as caught:
            make().calibrate(texts)
        assert Path(caught[0].filename) == Path(__file__)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make().calibrate(MIXED)

    def test_texts_without_scores(self) -> None:
        """Overlong and failed texts are left out with one warning that counts them and shows none."""
        texts = [*MIXED, f"OVERLONG {SECRET}", f"FAIL {SECRET}", "FAIL 2"]
        with pytest.warns(CalibrationWarning, match="3 of 39 texts .*1 overlong, 2 failed; rows 36, 37, 38") as caught:
            learnt = make().calibrate(texts)
        assert len(caught) == 1
        assert SECRET not in str(caught[0].message)
        assert learnt.calibration == make().calibrate(MIXED).calibration
        with pytest.raises(OverlongInputError):
            make(on_overlong="raise").calibrate(texts)

    def test_no_text_with_scores(self) -> None:
        """If no text is left there is nothing to learn from, and the error says what happened."""
        with pytest.raises(ConfigurationError, match=r"None of the 2 texts .*2 failed.*424.*pass other texts"):
            make().calibrate(["FAIL 1", "FAIL 2"])

    def test_zero_probabilities(self) -> None:
        """A label that never gets any probability has a floor, and does not win for being divided by nothing."""

        def blind(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            return (0.7, 0.3, 0.0) if zlib.crc32(prompt.text.encode()) % 2 else (0.3, 0.7, 0.0)

        for labels in (None, TRUTH):
            learnt = make(llm=FakeScoringLLM(score=blind), prior=None).calibrate(MIXED, labels)
            for text in OTHERS[:6]:
                row = learnt.with_details().invoke(text)
                assert row.probabilities is not None
                assert sum(row.probabilities.values()) == pytest.approx(1, abs=1e-12)
                assert all(0 < value < 1 for value in row.probabilities.values())


class TestLabelled:
    """Fits to labelled texts."""

    def test_the_fit_is_the_one_of_the_pure_room(self) -> None:
        """The model's own probabilities are fitted to the labels; the report is visible."""
        learnt = make().calibrate(MIXED, TRUTH)
        fitted = fit([leaning(Prompt(text=text), SPACED) for text in MIXED], [LABELS.index(label) for label in TRUTH])
        calibration = learnt.calibration
        assert calibration is not None
        assert calibration.kind == fitted.kind
        assert calibration.bias == pytest.approx(fitted.parameters["bias"])
        assert calibration.report is not None
        assert (calibration.report.texts, calibration.report.per_class) == (36, (12, 12, 12))
        assert calibration.report.after.accuracy > calibration.report.before.accuracy + 0.2
        assert calibration.report.after.log_loss < calibration.report.before.log_loss

    def test_it_answers_better(self) -> None:
        """Also on texts that it has not seen."""
        assert accuracy(make(prior=None).calibrate(MIXED, TRUTH)) > accuracy(make(prior=None)) + 0.2

    def test_a_prior_that_was_learnt_before_is_the_start(self) -> None:
        """Unlabelled texts first, labelled ones then: the fit knows the prior of the first."""
        first = make().calibrate(OTHERS)
        again = first.calibrate(MIXED, TRUTH).calibration
        assert first.calibration is not None
        assert again is not None
        assert again.report is not None
        assert "given prior" in [candidate.name for candidate in again.report.candidates]
        other = first.model_copy(update={"text_kind": "note"}).calibrate(MIXED, TRUTH).calibration
        assert other is not None
        assert other.report is not None
        assert "given prior" not in [candidate.name for candidate in other.report.candidates]

    def test_texts_without_scores(self) -> None:
        """A text that is left out takes its label with it."""
        with pytest.warns(CalibrationWarning, match="1 of 37 texts"):
            learnt = make().calibrate(["FAIL", *MIXED], ["science", *TRUTH])
        assert learnt.calibration == make().calibrate(MIXED, TRUTH).calibration

    def test_a_label_without_texts(self) -> None:
        """It is possible, and warned about."""
        texts = [text for text in MIXED if not text.startswith("science")]
        with pytest.warns(CalibrationWarning, match=r"1 of 3 labels have no text \('science'\)"):
            make().calibrate(texts, [text.split()[0] for text in texts])

    def test_error_target(self) -> None:
        """Rows under the threshold are None, those above it right, and the share decided is known."""
        texts = [f"{label} {number}" for number in range(60) for label in LABELS]
        learnt = make().calibrate(texts, [text.split()[0] for text in texts], target_error=0.1)
        calibration = learnt.calibration
        assert calibration is not None
        threshold = calibration.threshold
        assert threshold is not None
        assert (threshold.target_error, threshold.confidence, threshold.texts) == (0.1, 0.9, 180)
        assert 0.2 < threshold.share_decided < 1
        with pytest.warns(LowConfidenceWarning):
            rows = learnt.with_details().batch([*OTHERS])
        decided = [row for row in rows if row.label is not None]
        assert abs(len(decided) / len(rows) - threshold.share_decided) < 0.2
        for row in rows:
            assert row.confidence is not None
            assert (row.label is None) == (row.confidence < threshold.min_confidence)
            assert row.reason is (None if row.label else Reason.LOW_CONFIDENCE)
            assert row.probabilities is not None
            assert row.confidence == max(row.probabilities.values())

    def test_a_target_that_nothing_reaches(self) -> None:
        """With too few texts no row is decided, which is said at once."""
        with pytest.warns(CalibrationWarning, match="no row will get a label: that takes at least 45 .*36 in all"):
            learnt = make().calibrate(MIXED, TRUTH, target_error=0.05)
        assert learnt.calibration is not None
        assert learnt.calibration.threshold is not None
        assert learnt.calibration.threshold.share_decided == 0
        with pytest.warns(LowConfidenceWarning, match="2 of 2"):
            assert learnt.batch(["sport 1", "science 2"]) == [None, None]

    def test_needs_an_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without scikit-learn labels are refused before the model is asked; unlabelled texts need nothing."""
        monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
        task = make()
        with pytest.raises(MissingExtraError, match=r"langchain-stormtrooper\[sklearn\]"):
            task.calibrate(MIXED, TRUTH)
        assert isinstance(task.llm, FakeScoringLLM)
        assert task.llm.log.prompts == []
        assert task.calibrate(MIXED).calibration is not None


@pytest.mark.parametrize("bad", [None, float("nan"), {"txt": SECRET}])
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_without_a_text(bad: Any, labelled: bool) -> None:
    """A row without a text is left out with a warning that names it, and changes nothing else."""
    rows: list[Any] = [*MIXED[:3], bad, *MIXED[3:]]
    labels = [*TRUTH[:3], "sport", *TRUTH[3:]] if labelled else None
    with pytest.warns(CalibrationWarning, match=r"1 of 37 texts got no probabilities .* \(1 failed; row 3\)") as seen:
        learnt = make().calibrate(rows, labels)
    assert len(seen) == 1
    assert SECRET not in str(seen[0].message)
    assert learnt.calibration == make().calibrate(MIXED, TRUTH if labelled else None).calibration
    with pytest.raises(ConfigurationError, match="An input must be a text"):
        make().calibrate([bad, bad])


def test_labels_from_an_enum() -> None:
    """Members of the Enum of the labels are labels of texts, for calibrating and for evaluating."""
    kinds = enum.Enum("kinds", {"SPORT": "sport", "POLITICS": "politics", "SCIENCE": "science"})
    task = ZeroShotClassifier(kinds, llm=FakeScoringLLM(score=leaning), prompt="kinds")
    members = [kinds(label) for label in TRUTH]
    assert task.calibrate(MIXED, members).calibration == make().calibrate(MIXED, TRUTH).calibration
    assert evaluate(task, MIXED, members, bootstrap=0).accuracy == evaluate(make(), MIXED, TRUTH, bootstrap=0).accuracy


def test_one_label_is_left() -> None:
    """When only texts of one label got scores, it is said that others were left out."""
    with pytest.raises(ConfigurationError, match=r"1 of 3 texts got no .*All others have the same label"):
        make().calibrate(["sport 1", "sport 2", "OVERLONG"], ["sport", "sport", "science"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"texts": {"text": MIXED}},
            ConfigurationError,
            "not dict: pass one of its columns",
        ),
        ({"texts": {*MIXED}, "labels": TRUTH}, ConfigurationError, "a set has none: pass lists"),
        ({"texts": MIXED, "confidence": None}, ConfigurationError, "confidence=None must be a number"),
        ({"texts": MIXED, "labels": TRUTH, "target_error": "x"}, ConfigurationError, "must be a number"),
        ({"texts": []}, ConfigurationError, "nothing to calibrate on"),
        ({"texts": [], "labels": []}, ConfigurationError, "nothing to calibrate on"),
        ({"texts": "text"}, ConfigurationError, "`texts` must be a list"),
        ({"texts": ["a", "b"], "labels": ["sport"]}, ConfigurationError, r"differ \(2 and 1\)"),
        ({"texts": ["a"], "labels": ["economy"]}, LabelError, "'economy' is not one of"),
        ({"texts": ["a", "b"], "labels": ["sport", "sport"]}, ConfigurationError, "All texts have the same label"),
        ({"texts": ["a"], "target_error": 0.05}, ConfigurationError, "needs labelled texts"),
        (
            {"texts": MIXED, "labels": TRUTH, "target_error": 5},
            ConfigurationError,
            "target_error=5 must be a number",
        ),
        (
            {"texts": MIXED, "labels": TRUTH, "target_error": 0.1, "confidence": 1},
            ConfigurationError,
            "confidence=1 must be a number between",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """What cannot be meant is refused before the model is asked anything."""
    task = make()
    with pytest.raises(error, match=message):
        task.calibrate(**arguments)
    assert isinstance(task.llm, FakeScoringLLM)
    assert task.llm.log.prompts == []


@pytest.mark.parametrize("llm", [FakeLLM(), FakeListLLM(responses=["sport"])])
def test_a_method_without_probabilities(llm: Any) -> None:
    """Generated text has no probabilities to calibrate."""
    with pytest.raises(ConfigurationError, match="method='auto' generates text with this LLM: set method='score'"):
        ZeroShotClassifier(LABELS, llm=llm).calibrate(MIXED)


class TestBinding:
    """A calibration belongs to a task."""

    @pytest.fixture
    def calibration(self, tmp_path: Path) -> Calibration:
        """One that went through a file."""
        calibration = make().calibrate(MIXED).calibration
        assert calibration is not None
        calibration.save(tmp_path / "calibration.json")
        return Calibration.load(tmp_path / "calibration.json")

    def test_the_same_task_takes_it(self, calibration: Calibration) -> None:
        """Settings that do not change scores may differ."""
        learnt = make().calibrate(MIXED)
        for task in (make(), make(prior=None), make(on_overlong="truncate", min_margin=0.0), make(method="score")):
            loaded = task.model_copy(update={"calibration": calibration})
            assert loaded.batch(OTHERS[:9]) == learnt.batch(OTHERS[:9])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"text_kind": "note"}, "other prompt"),
            ({"label_kind": "topic"}, "other prompt"),
            ({"prompt": "task"}, "other prompt"),
            ({"prompt": "task", "rotations": 2}, "other prompt"),
            ({"llm": FakeScoringLLM(score=leaning, model_id="acme/other-1B")}, "other model .*unknown there"),
        ],
    )
    def test_another_task_refuses_it(self, calibration: Calibration, changes: dict[str, Any], message: str) -> None:
        """Before the first row is answered; the error says what differs."""
        task = make(calibration=calibration, **changes)
        with pytest.raises(CalibrationError, match=message):
            task.invoke("x")
        assert isinstance(task.llm, FakeScoringLLM)
        assert "x" not in task.llm.log.texts

    @pytest.mark.parametrize(
        "labels",
        [["politics", "sport", "science"], ["sport", "politics"], {"sport": "games", "politics": "", "science": ""}],
    )
    def test_other_labels_refuse_it(self, calibration: Calibration, labels: Any) -> None:
        """So does another order, or a description that the prompt shows."""
        with pytest.raises(CalibrationError):
            ZeroShotClassifier(labels, llm=FakeScoringLLM(), prompt="kinds", calibration=calibration).invoke("x")

    def test_examples_are_part_of_the_task(self, calibration: Calibration) -> None:
        """A few-shot classifier is another task, and so is one with other examples."""
        with pytest.raises(CalibrationError, match="other prompt"):
            FewShotClassifier(
                LABELS, [("A goal!", "sport")], llm=FakeScoringLLM(), prompt="kinds", calibration=calibration
            ).invoke("x")

    def test_copies_keep_it(self) -> None:
        """`with_details`, copies with other settings and pickles stay calibrated."""
        learnt = make().calibrate(MIXED)
        expected = learnt.batch(OTHERS[:9])
        assert [row.label for row in learnt.with_details().batch(OTHERS[:9])] == expected
        assert learnt.model_copy(update={"on_overlong": "truncate"}).batch(OTHERS[:9]) == expected
        assert pickle.loads(pickle.dumps(learnt)).calibration == learnt.calibration  # noqa: S301  # our own
        assert SECRET not in repr(learnt)
        assert "calibration" not in repr(learnt)

    def test_generating_has_no_use_for_it(self, calibration: Calibration) -> None:
        """A calibration that would do nothing is refused."""
        with pytest.raises(ConfigurationError, match="`calibration=` cannot be used with method='generate'"):
            make(calibration=calibration, method="generate").invoke("x")


class TestEvaluation:
    """Calibrated classifiers can be measured."""

    def test_low_confidence_counts_as_undecided(self) -> None:
        """Rows that the threshold keeps back are undecided, not wrong answers, and have a confidence."""
        texts = [f"{label} {number}" for number in range(60) for label in LABELS]
        learnt = make().calibrate(texts, [text.split()[0] for text in texts], target_error=0.1)
        with pytest.warns(LowConfidenceWarning):
            found = evaluate(learnt, OTHERS, [text.split()[0] for text in OTHERS], bootstrap=0)
        assert found.reasons == {Reason.LOW_CONFIDENCE: round((1 - found.decided) * len(OTHERS))}
        assert 0 < found.decided < 1
        assert found.accuracy_of_decided is not None
        assert found.accuracy_of_decided > 0.85
        assert found.risk_coverage is not None
        assert found.risk_coverage.points[-1].coverage == found.decided

    @pytest.mark.parametrize("prompt", ["kinds", "task"])
    @pytest.mark.parametrize("labelled", [False, True])
    def test_flip_rate(self, prompt: str, labelled: bool) -> None:
        """With labels in another order each keeps its own correction: a model that does not mind never flips."""
        learnt = make(prompt=prompt).calibrate(MIXED, TRUTH if labelled else None)
        found = evaluate(learnt, OTHERS, [text.split()[0] for text in OTHERS], rotations=2, bootstrap=0)
        assert found.flip_rates == (0, 0)
        assert found.accuracy > 0.7


async def test_fingerprints() -> None:
    """The fingerprint is stable, and differs with what the prompt shows, the order of labels and the method."""
    assert await make().afingerprint() == await make(prior=None, on_overlong="raise").afingerprint()
    others = await asyncio.gather(
        make().afingerprint(),
        make(text_kind="note").afingerprint(),
        make(prompt="{text} {x}").afingerprint(),
        make(prompt="task").afingerprint(),
        make(prompt="task", rotations=2).afingerprint(),
        make(method="generate").afingerprint(),
        ZeroShotClassifier([*reversed(LABELS)], llm=FakeScoringLLM(), prompt="kinds").afingerprint(),
    )
    assert len(set(others)) == len(others)
    known = make(prompt="{labels} {text} is", llm=FakeScoringLLM(score=hashed_scores))
    assert await known.afingerprint() == "3df6a5fe21577dfa030582fa457e8db03c41b0f7a35ffaaa920298906291a323"


def test_details_are_part_of_a_fingerprint() -> None:
    """What else changes answers can be bound as well; its order does not matter, lone surrogates do no harm."""
    labels = LabelSet.of(["a", "b\ud7ff"])
    prompt = task_prompt(PRESETS["task"], labels, examples=(), text_kind="\ud800", label_kind="label")
    plain = task_fingerprint(prompt, labels.names, Method.GENERATE)
    bound = task_fingerprint(prompt, labels.names, Method.GENERATE, stop=("\n",), max_new_tokens=9)
    assert bound == task_fingerprint(prompt, labels.names, Method.GENERATE, max_new_tokens=9, stop=["\n"])
    assert len({plain, bound, task_fingerprint(prompt, labels.names, Method.GENERATE, max_new_tokens=8)}) == 3


async def test_a_chat_template_with_a_date_is_the_same_tomorrow() -> None:
    """Some templates write today's date, which does not make another task; other words do."""

    def chat(before: str) -> ZeroShotClassifier:
        return make(llm=FakeScoringLLM(chat=(before, "\n"), model_id="acme/big-70B"), prompt="chat")

    today = await chat("Today Date: 24 Nov 2026\nuser: ").afingerprint()
    assert await chat("Today Date: 25 Nov 2026\nuser: ").afingerprint() == today
    assert await chat("Date: 24 Nov 2026\nuser: ").afingerprint() != today
