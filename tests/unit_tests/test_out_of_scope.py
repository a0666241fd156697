"""The option that none of the labels fits: asked about like a label, and no label for whoever reads the answer."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps

from langchain_stormtrooper import (
    CalibrationWarning,
    Cascade,
    Classification,
    ConfigurationError,
    FewShotClassifier,
    HierarchicalClassifier,
    Label,
    LabelError,
    LabelSet,
    LowConfidenceWarning,
    MultiLabelClassifier,
    OutOfScopeWarning,
    Shortlist,
    TextGenerationInference,
    ZeroShotClassifier,
    evaluate,
    load,
)
from langchain_stormtrooper.answering.scoping import in_scope, recall_beside
from langchain_stormtrooper.calibration import mean_distribution, prior_beside_option
from langchain_stormtrooper.normalizing import normalize
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method, Reason

NONE = "none of these"
CHOICES = [*LABELS, NONE]
SHARES = st.floats(0.0, 1.0)


def weighed(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """A model that finds the label that a text begins with four times as likely as any other, and the option likewise.

    A text may bring how sure the model is, as a number at its end.
    """
    first, *rest = prompt.text.split()
    sure = float(rest[-1]) if rest and rest[-1].replace(".", "").isdigit() else 4.0
    wanted = {"far": NONE}.get(first, first)
    weights = [sure if answer.strip() == wanted else 1.0 for answer in answers]
    return tuple(weight / sum(weights) for weight in weights)


def make(**changes: Any) -> ZeroShotClassifier:
    """A classifier with such a model and the option."""
    return ZeroShotClassifier(
        LABELS, **{"llm": FakeScoringLLM(score=weighed), "prior": None, "out_of_scope": NONE, **changes}
    )


@pytest.fixture(autouse=True)
def _quiet(request: pytest.FixtureRequest) -> Any:
    """Rows out of scope warn; only where a test is about that, it matters."""
    with warnings.catch_warnings():
        if "warns" not in request.node.name:
            warnings.simplefilter("ignore", OutOfScopeWarning)
        yield


class TestAnswers:
    """What a row is told."""

    def test_the_option_is_the_last_choice_and_scored_with_the_labels(self) -> None:
        """The prompt lists it behind the labels, and the model is asked for its probability with theirs."""
        task = make(prompt="task")
        row = task.with_details().invoke("sport")
        assert f"exactly one of: {', '.join(CHOICES)}." in task.get_prompt().invoke({"text": "x"}).to_string()
        assert task.llm.asked == [tuple(f" {name}" for name in CHOICES)]  # type: ignore[attr-defined]
        assert (row.label, row.reason) == ("sport", None)

    def test_probabilities_of_labels_and_option_sum_to_one(self) -> None:
        """Labels are the keys of `probabilities`, the option has a field of its own, and together they are all."""
        row = make().with_details().invoke("sport")
        assert list(row.probabilities or ()) == LABELS
        assert row.probabilities == pytest.approx({"sport": 4 / 7, "politics": 1 / 7, "science": 1 / 7})
        assert row.out_of_scope == pytest.approx(1 / 7)
        assert row.confidence == pytest.approx(4 / 7)

    def test_a_row_for_which_the_option_is_the_best_has_no_label(self) -> None:
        """Its reason says so, its confidence is the option's, and the labels keep their probabilities."""
        row = make().with_details().invoke("far off")
        assert (row.label, row.reason, row.method) == (None, Reason.OUT_OF_SCOPE, Method.SCORE)
        assert row.confidence == row.out_of_scope == pytest.approx(4 / 7)
        assert row.probabilities == pytest.approx(dict.fromkeys(LABELS, 1 / 7))

    def test_a_batch_warns_once_for_all_its_rows(self) -> None:
        """One warning counts the rows and names the first, and shows no text."""
        with pytest.warns(OutOfScopeWarning) as caught:
            assert make().batch(["far off", "sport", "far away"]) == [None, "sport", None]
        (warning,) = caught
        assert str(warning.message).startswith("2 of 3 texts got no label: the model found none of the labels to fit")
        assert "(rows 0, 2)" in str(warning.message)
        assert warning.filename == __file__

    def test_without_the_option_nothing_is_told_of_it(self) -> None:
        """A classifier without it asks for the labels alone, and `out_of_scope` is None."""
        task = make(out_of_scope=None)
        row = task.with_details().invoke("far off")
        assert row.label in LABELS
        assert row.out_of_scope is None
        assert task.llm.asked == [tuple(LABELS)]  # type: ignore[attr-defined]

    def test_demands_are_on_the_option_as_well(self) -> None:
        """Whoever wants sure answers is not told that a text is out of scope by one that is not sure."""
        task = make(min_confidence=0.6)
        with pytest.warns(LowConfidenceWarning):
            assert task.with_details().invoke("far 4").reason is Reason.LOW_CONFIDENCE
        assert task.with_details().invoke("far 40").reason is Reason.OUT_OF_SCOPE
        with pytest.warns(LowConfidenceWarning):
            assert make(min_margin=0.9).with_details().invoke("far 4").reason is Reason.LOW_CONFIDENCE

    def test_codes_have_one_for_the_option(self) -> None:
        """Where labels are answered by letters, the option has the letter behind theirs."""
        llm = FakeScoringLLM(score=lambda prompt, answers: tuple(float(answer.strip() == "D") for answer in answers))
        assert make(llm=llm, prompt="codes").with_details().invoke("x").reason is Reason.OUT_OF_SCOPE

    @pytest.mark.parametrize("said", [NONE, "None of these.", "Label: **none of these**", "It is none of these"])
    def test_generated_text_may_name_the_option(self, said: str) -> None:
        """It is matched as labels are, although it begins with a word that takes labels back."""
        row = make(llm=FakeLLM(answer=lambda _: said)).with_details().invoke("x")
        assert (row.label, row.reason, row.method) == (None, Reason.OUT_OF_SCOPE, Method.GENERATE)
        assert row.match is not None
        assert (row.confidence, row.probabilities, row.out_of_scope) == (None, None, None)

    def test_a_foreign_llm_may_name_the_option(self) -> None:
        """It is listed for LLMs of other packages too, and what names no choice stays unmatched."""
        llm = FakeListChatModel(responses=[NONE, "sport", "who knows"])
        rows = [make(llm=llm).with_details().invoke("x") for _ in range(2)]
        assert [row.reason for row in rows] == [Reason.OUT_OF_SCOPE, None]

    def test_a_parser_of_ones_own_returns_the_name(self) -> None:
        """The name of the option is as good as a label's where the user parses."""
        from langchain_core.output_parsers import StrOutputParser

        row = make(llm=FakeLLM(answer=lambda _: NONE), parser=StrOutputParser()).with_details().invoke("x")
        assert row.reason is Reason.OUT_OF_SCOPE


class TestSetting:
    """How the option is given."""

    @pytest.mark.parametrize("given_", [NONE, Label(NONE), {"name": NONE}])
    def test_a_name_a_label_or_a_dict(self, given_: Any) -> None:
        """They make equal classifiers."""
        assert make(llm=FakeLLM(), out_of_scope=given_).out_of_scope == Label(NONE)

    def test_a_description_stands_in_the_prompt(self) -> None:
        """The option is explained where labels are."""
        task = make(out_of_scope=Label(NONE, "about something else"), prompt="task")
        assert f"- {NONE}: about something else" in task.get_prompt().invoke({"text": "x"}).to_string()

    @pytest.mark.parametrize("name", ["Sport", " sport ", "sport."])
    def test_a_label_under_another_spelling_is_refused(self, name: str) -> None:
        """What models do not keep apart cannot be both; the sentence names the two."""
        with pytest.raises(LabelError, match=r"`out_of_scope='.*'` is the label 'sport'"):
            make(out_of_scope=name)

    @pytest.mark.parametrize(("wrong", "said"), [("  ", "blank"), (7, "not int"), (True, "not bool")])
    def test_what_is_no_name_is_refused(self, wrong: Any, said: str) -> None:
        """With what to give instead."""
        with pytest.raises(LabelError, match=said):
            make(out_of_scope=wrong)

    def test_a_further_label_may_not_be_the_option(self) -> None:
        """Also where labels are added to a classifier that has the option."""
        assert make().with_labels(["art"])._choices.names == (*LABELS, "art", NONE)
        with pytest.raises(LabelError, match="out_of_scope"):
            make().with_labels(["None of these"])

    def test_it_is_no_label_of_the_output_type(self) -> None:
        """The type of what comes out is the same with and without it."""
        assert make().OutputType == make(out_of_scope=None).OutputType

    @pytest.mark.parametrize("option", [Label(NONE), Label(NONE, "far off")])
    def test_what_is_saved_is_loaded_again(self, option: Label) -> None:
        """LangChain's `dumps` and our `load` keep it, with its description and its examples."""
        llm = TextGenerationInference(base_url="http://127.0.0.1:9")
        task = FewShotClassifier(LABELS, [("a", "sport"), ("b", None)], out_of_scope=option, llm=llm)
        again = load(dumps(task))
        assert again == task
        assert again.out_of_scope == option

    async def test_it_is_part_of_the_task(self) -> None:
        """What is learnt or kept passes for that of no task without it, with another, or with a label of its name."""
        given_ = [None, NONE, Label(NONE, "far off"), "else"]
        tasks = [make(out_of_scope=one, prompt="kinds") for one in given_]
        tasks.append(ZeroShotClassifier(CHOICES, llm=tasks[0].llm, prompt="kinds", prior=None))
        prints = [await task.afingerprint() for task in tasks]
        assert len(set(prints)) == len(prints)
        keys = [await task._akeys() for task in tasks]
        assert len({key and key[0] for key in keys}) == len(keys)

    def test_a_call_may_bring_it(self) -> None:
        """It is a setting of a call like others, and `bind` has it too."""
        task = make(out_of_scope=None)
        assert task.invoke("far off") is not None
        assert task.invoke("far off", out_of_scope=NONE) is None
        assert task.bind(out_of_scope=NONE).invoke("far off") is None

    @pytest.mark.parametrize("kind", [HierarchicalClassifier, MultiLabelClassifier])
    def test_other_classifiers_have_no_such_option(self, kind: Any) -> None:
        """A tree and a classifier of any number of labels say so."""
        with pytest.raises(ConfigurationError, match="there is no argument `out_of_scope`"):
            kind(["a/sport", "a/politics"], llm=FakeScoringLLM(), out_of_scope=NONE)


class TestExamples:
    """Texts out of scope to show."""

    def test_none_stands_for_the_option(self) -> None:
        """An example may have None or the option's name, and is shown under that name."""
        pairs = [("one", "sport"), ("two", None), ("three", NONE)]
        task = FewShotClassifier(LABELS, pairs, out_of_scope=NONE, llm=FakeScoringLLM(), prompt="kinds")
        shown = task.get_prompt().invoke({"text": "x"}).to_string()
        assert f"Text: two\nLabel: {NONE}\n" in shown
        assert f"Text: three\nLabel: {NONE}\n" in shown
        assert make().with_examples(pairs).examples == task.examples
        assert task.with_examples([("four", None)]).examples[-1].label == NONE

    def test_none_needs_the_option(self) -> None:
        """Without it, an example with None is refused, with what to set."""
        with pytest.raises(ConfigurationError, match=r"examples\[0\] .* need `out_of_scope=`"):
            FewShotClassifier(LABELS, [("two", None)], llm=FakeScoringLLM())


class TestShortlist:
    """With few of many labels."""

    def test_the_option_is_asked_about_beside_any_labels(self) -> None:
        """A shortlist has as many labels as without it, the option comes on top, and it is none of the shortlist."""
        task = make(shortlist=2)
        row = task.with_details().invoke("sport science")
        assert task.llm.asked == [("sport", "science", NONE)]  # type: ignore[attr-defined]
        assert row.shortlist == ("sport", "science")
        assert list(row.probabilities or ()) == LABELS
        assert sum((row.probabilities or {}).values()) + (row.out_of_scope or 0) == pytest.approx(1)

    def test_its_examples_are_shown_beside_any_labels(self) -> None:
        """They make no label nearer, and stand in the prompt whatever the text is."""
        task = FewShotClassifier(
            LABELS,
            [("one", "sport"), ("politics sport", None)],
            out_of_scope=NONE,
            llm=FakeScoringLLM(score=weighed),
            prior=None,
            shortlist=2,
            prompt="kinds",
        )
        row = task.with_details().invoke("science sport")
        assert row.shortlist == ("sport", "science")
        assert f"politics sport\nLabel: {NONE}" in str(task.llm.log.prompts[-1])  # type: ignore[attr-defined]

    def test_the_recall_is_that_of_texts_that_have_a_label(self) -> None:
        """Of the texts in scope as many have a label that is on the list as were measured."""
        row = make(shortlist=Shortlist(size=2, recall=(0.5, 0.8))).with_details().invoke("sport science")
        probabilities = row.probabilities or {}
        listed = probabilities["sport"] + probabilities["science"]
        assert listed / sum(probabilities.values()) == pytest.approx(0.8)
        assert row.out_of_scope == pytest.approx(listed / 5)

    @given(st.floats(0, 1), st.floats(0.01, 1))
    def test_recall_beside_the_option(self, option: float, recall: float) -> None:
        """It is what a table of texts gives: in scope on the list, in scope beside it, and out of scope."""
        asked = recall_beside(option, recall)
        on_list, beside = asked * (1 - option), 1 - asked
        assert recall - 1e-12 <= asked <= 1 + 1e-12
        if option < 1 - 1e-6:
            assert on_list / (on_list + beside) == pytest.approx(recall)
        assert recall_beside(0.0, recall) == recall


class TestScoping:
    """The pure parts."""

    @given(st.lists(st.floats(1e-6, 1), min_size=3, max_size=6), st.data())
    def test_an_answer_about_choices_becomes_one_about_labels(self, weights: list[float], data: Any) -> None:
        """What the choices had is kept, the labels' in order; only the option is no label."""
        names = [f"label {number}" for number in range(len(weights) - 1)] + [NONE]
        shares = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
        best = data.draw(st.sampled_from(names))
        told = in_scope(Classification(label=best, confidence=shares[best], probabilities=shares), NONE)
        assert [*(told.probabilities or {}).items(), (NONE, told.out_of_scope)] == [*shares.items()]
        assert told.label == (None if best == NONE else best)
        assert told.reason == (Reason.OUT_OF_SCOPE if best == NONE else None)

    @given(st.sampled_from([reason for reason in Reason if reason is not Reason.OUT_OF_SCOPE]))
    def test_other_reasons_stay(self, reason: Reason) -> None:
        """A row that failed, or was rejected, is not out of scope."""
        answer = Classification(reason=reason, error="no")
        assert in_scope(answer, NONE) == answer

    @given(st.lists(st.floats(1e-6, 1), min_size=3, max_size=6))
    def test_a_prior_says_nothing_of_the_option(self, weights: list[float]) -> None:
        """Dividing changes how labels stand to one another as before, and the option has the labels' mean lean."""
        prior = [weight / sum(weights) for weight in weights]
        told = prior_beside_option(prior)
        assert math.fsum(told) == pytest.approx(1)
        assert told[-1] == pytest.approx(math.fsum(told[:-1]) / (len(told) - 1))
        for lean, before in zip(told[:-1], prior[:-1], strict=True):
            assert lean / told[0] == pytest.approx(before / prior[0])
        assert prior_beside_option(told) == pytest.approx(told)

    @given(st.text(min_size=1, max_size=8))
    def test_the_option_is_none_of_the_labels(self, name: str) -> None:
        """A name is taken exactly if it would be taken as a further label."""
        labels = LabelSet.of(LABELS)
        try:
            labels.with_more([name])
        except LabelError:
            with pytest.raises(LabelError):
                labels.with_option(Label(name))
        else:
            assert labels.with_option(Label(name)).names == (*LABELS, name)
            assert normalize(name) not in map(normalize, LABELS)

    def test_a_model_that_calls_texts_without_content_out_of_scope_may_go_on(self) -> None:
        """Measured on such texts, the lean to the option is no reason to doubt it; a lean to a label is."""

        def score(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
            weights = (
                weighed(prompt, answers) if prompt.text.split()[0] in (*LABELS, "far") else (0.08, 0.01, 0.01, 0.9)
            )
            return tuple(weight / sum(weights) for weight in weights)

        task = make(llm=FakeScoringLLM(score=score), prior="words")
        assert task.batch(["far off", "politics", "sport 4", "sport 9"]) == [None, "politics", "politics", "sport"]


class TestKnown:
    """Texts known to be out of scope."""

    TEXTS = [f"{name} {number / 2:.1f}" for number in range(3, 15) for name in [*LABELS, "far"]]
    TRUTHS = [None if text.startswith("far") else text.split()[0] for text in TEXTS]

    def test_calibrating_teaches_the_option(self) -> None:
        """None is the option, which the calibration has as its last label; its name is taken for None."""
        learnt = make().calibrate(self.TEXTS, self.TRUTHS).calibration
        assert learnt is not None
        assert learnt.labels == tuple(CHOICES)
        assert learnt.report is not None
        assert learnt.report.per_class == (12, 12, 12, 12)
        named = make().calibrate(self.TEXTS, [truth or NONE for truth in self.TRUTHS]).calibration
        assert named == learnt

    def test_a_calibration_without_labels_takes_no_stand_on_the_option(self) -> None:
        """The mean over texts is the labels' lean; how many of them are out of scope is not known."""
        learnt = make().calibrate(self.TEXTS).calibration
        assert learnt is not None
        rows = [(*(row.probabilities or {}).values(), row.out_of_scope or 0.0) for row in self.rows(make())]
        assert learnt.prior == pytest.approx(prior_beside_option(mean_distribution(rows)))

    def rows(self, task: ZeroShotClassifier) -> list[Classification]:
        """The answers to all texts."""
        return task.with_details().batch(self.TEXTS)

    def test_a_calibrated_classifier_is_sure_as_it_has_learnt_to_be(self) -> None:
        """Probabilities with the option sum to 1 after the calibration, and it is bound to the option."""
        task = make().calibrate(self.TEXTS, self.TRUTHS)
        for row in self.rows(task):
            assert sum((row.probabilities or {}).values()) + (row.out_of_scope or 0) == pytest.approx(1)
        with pytest.raises(ConfigurationError, match="other labels"):
            task.model_copy(update={"out_of_scope": None}).invoke("sport")

    def test_without_the_option_a_threshold_learns_from_them(self) -> None:
        """Whatever is answered to them is wrong, which asks for more confidence; the fit knows only the others."""
        task = make(out_of_scope=None)
        kept = [pair for pair in zip(self.TEXTS, self.TRUTHS, strict=True) if pair[1] is not None]
        texts, truths = map(list, zip(*kept, strict=True))
        few = task.calibrate(texts, truths, target_error=0.3).calibration
        alike = [f"sport {number / 4}" for number in range(3, 15)]
        all_ = task.calibrate([*texts, *alike], [*truths, *[None] * 12], target_error=0.3).calibration
        assert few is not None
        assert all_ is not None
        assert few.threshold is not None
        assert all_.threshold is not None
        assert (few.threshold.texts, all_.threshold.texts) == (36, 48)
        assert all_.threshold.min_confidence > few.threshold.min_confidence
        assert all_.model_copy(update={"threshold": None}) == few.model_copy(update={"threshold": None})

    def test_without_option_and_threshold_they_teach_nothing(self) -> None:
        """They are left out, and a warning says what would learn from them."""
        with pytest.warns(CalibrationWarning, match=r"12 of 48 texts have no label .*`target_error=`.*`out_of_scope=`"):
            make(out_of_scope=None).calibrate(self.TEXTS, self.TRUTHS)

    @pytest.mark.parametrize("option", [None, NONE])
    def test_labels_are_needed_all_the_same(self, option: str | None) -> None:
        """One label and texts without one are no classification to learn without the option."""
        texts, truths = ["sport", "far"] * 4, ["sport", None] * 4
        task = make(out_of_scope=option)
        if option is None:
            with pytest.raises(ConfigurationError, match="same label"):
                task.calibrate(texts, truths, target_error=0.3)
        else:
            with pytest.warns(CalibrationWarning, match="2 of 4 labels have no text"):
                assert task.calibrate(texts, truths).calibration is not None

    def test_they_are_evaluated_by_hand(self) -> None:
        """Right without a label: found out of scope, or rejected; wrong with one, and where no answer was had."""
        texts = ["far 9", "far 1", "sport 9", "politics 1", "far FAIL 9", "science 0.1"]
        truths = [None, None, "sport", "politics", None, NONE]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = evaluate(make(min_confidence=0.3), texts, truths)
        # None right; None not sure, so right; right; not sure; failed; another label or none.
        assert measured.reasons == {Reason.OUT_OF_SCOPE: 1, Reason.LOW_CONFIDENCE: 2, Reason.FAILED: 1}
        assert measured.accuracy == pytest.approx(3 / 6)
        assert measured.confusion == ((1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0), (1, 0, 0, 3))
        told = measured.out_of_scope
        assert told is not None
        assert (told.support, told.recall) == (4, 2 / 4)
        assert told.precision == pytest.approx(2 / 3)
        assert told.f1 == pytest.approx(4 / 7)
        assert measured.accuracy_of_decided == pytest.approx(1 / 2)

    def test_scores_of_a_right_answer_are_right(self) -> None:
        """Calibration error and Brier score take the option for what it is."""
        sure = evaluate(make(), ["far 1000000", "sport 1000000"], [None, "sport"], bootstrap=0)
        assert [sure.ece, sure.brier] == pytest.approx([0, 0], abs=1e-5)
        wrong = evaluate(make(), ["far 1000000", "sport 1000000"], ["sport", None], bootstrap=0)
        assert [wrong.ece, wrong.brier] == pytest.approx([1, 2], abs=1e-5)
        assert wrong.out_of_scope is not None
        assert wrong.out_of_scope.f1 == 0

    def test_an_evaluation_shows_them(self, tmp_path: Path) -> None:
        """The table has a line for them and the matrix a row, the figure too, and a file keeps all."""
        from rich.console import Console

        from langchain_stormtrooper.evaluation import Evaluation, plot_confusion

        measured = evaluate(make(), self.TEXTS, self.TRUTHS, rotations=1)
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(measured)
        shown = console.export_text()
        assert "out of scope" in shown
        assert "F1 of 12 rows; precision" in shown
        assert [line.split()[0] for line in shown.splitlines() if line.strip()][-1] == "none"
        measured.save(tmp_path / "evaluation.json")
        assert Evaluation.load(tmp_path / "evaluation.json") == measured
        ticks = [label.get_text() for label in plot_confusion(measured).axes[0].get_yticklabels()]
        assert ticks == [*LABELS, "no label"]
        assert measured.flip_rate == 0

    def test_a_cascade_hands_on_what_the_cheap_stage_finds_out_of_scope(self) -> None:
        """Only labels stay with the cheap stage; the strong one has the last word on what has none."""
        cheap = make()
        strong = make(llm=FakeScoringLLM(score=lambda _, answers: (0.0, 0.0, 1.0, 0.0)[: len(answers)]))
        cascade = Cascade(cheap, strong, threshold=0.1)
        rows = cascade.with_details().batch(["far off", "sport"])
        assert [(row.label, row.stage) for row in rows] == [("science", 1), ("sport", 0)]
        assert cascade._option == NONE

    def test_a_cascade_learns_from_texts_that_no_label_fits(self) -> None:
        """Whatever label of the cheap stage stays for them is wrong; its option goes on, and is nothing that stays."""
        whole = Cascade(make(), make(), target_error=0.1, confidence=0.9)
        sure = [f"sport no{number}" for number in range(40)]
        learnt = whole.calibrate([*sure, *(f"far no{number}" for number in range(9))], ["sport"] * 40 + [None] * 9)
        assert learnt.evidence is not None
        assert (learnt.evidence.texts, learnt.evidence.kept, learnt.evidence.errors) == (49, 40, 0)
        with pytest.warns(CalibrationWarning, match="No threshold"):
            wrong = whole.calibrate(sure, [None, NONE] * 20)
        assert wrong.evidence is not None and wrong.evidence.kept == 0
