"""The scikit-learn estimators: scikit-learn's own checks, its tools around them, and what `fit` makes of `y`."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, label_of
from langchain_core.language_models import FakeListLLM
from langchain_core.prompts import PromptTemplate
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError, SkipTestWarning
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import validate_data

from langchain_stormtrooper import (
    CalibrationWarning,
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    Label,
    LabelError,
    LabelOutputParser,
    LabelSet,
    LowConfidenceWarning,
    Method,
    MissingExtraError,
    OverlongInputWarning,
    PromptError,
    Shortlist,
    StormtrooperWarning,
    TextGenerationInference,
    TGIFewShotClassifier,
    TGIZeroShotClassifier,
    ZeroShotClassifier,
)
from langchain_stormtrooper.estimators.base import SETTINGS
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt

TEXTS = [f"text {number}" for number in range(24)]
TRUTHS = [label_of(text) for text in TEXTS]
KINDS = [TGIZeroShotClassifier, TGIFewShotClassifier]

EXCLUDED = {
    "check_fit2d_1sample": "One row has one class; it is refused as it should be, in words that are not looked for.",
}
"""Checks that need not pass, and why; one that passes fails the test."""


class _OfNumbers:
    """Lets scikit-learn's checks, which are all about tables of numbers, into an estimator of texts.

    Tables are checked as a step before it would check them, and each row is written as a text.
    """

    _is_fitting = False

    def _texts(self, table: Any) -> list[str]:
        numbers = validate_data(self, table, dtype=None, ensure_all_finite=False, reset=self._is_fitting)
        return [" ".join(map(str, row)) for row in numbers.tolist()]

    def _learn(self, *arguments: Any, again: bool = False) -> Any:
        self._is_fitting = not (again and hasattr(self, "classes_"))
        try:
            return super()._learn(*arguments, again=again)  # type: ignore[misc]
        finally:
            del self._is_fitting

    def _settings(self, labels: LabelSet) -> dict[str, Any]:
        return {**super()._settings(labels), "llm": FakeScoringLLM()}  # type: ignore[misc]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


class ZeroShotOfNumbers(_OfNumbers, TGIZeroShotClassifier):
    """Zero-shot, for scikit-learn's checks."""


class FewShotOfNumbers(_OfNumbers, TGIFewShotClassifier):
    """Few-shot, for scikit-learn's checks."""


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [ZeroShotOfNumbers(), FewShotOfNumbers()], expected_failed_checks=lambda _: EXCLUDED
)
def test_scikit_learns_checks_pass(estimator: Any, check: Callable[[Any], None]) -> None:
    """scikit-learn's own checks of estimators and classifiers pass, and those that are excluded fail."""
    check(estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_is_told_that_rows_are_texts(kind: Any) -> None:
    """The tags say: a classifier of one-dimensional strings; so scikit-learn has no data to check it with."""
    tags = get_tags(kind())
    assert is_classifier(kind())
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert tags.target_tags.required
    assert get_tags(kind(labels=LABELS)).target_tags.required == (kind is TGIFewShotClassifier)
    with pytest.warns(SkipTestWarning):
        assert [check.func.__name__ for _, check in estimator_checks_generator(kind())] == ["check_estimator_cloneable"]


def zero_shot(**arguments: Any) -> TGIZeroShotClassifier:
    """A fitted estimator that answers `label_of`."""
    return TGIZeroShotClassifier(**{"llm": FakeLLM(), **arguments}).fit(None, LABELS)


def few_shot(**arguments: Any) -> TGIFewShotClassifier:
    """A fitted estimator that answers `label_of`."""
    return TGIFewShotClassifier(**{"llm": FakeLLM(), **arguments}).fit(TEXTS[:6], LABELS * 2)


@pytest.mark.parametrize("make", [zero_shot, few_shot])
def test_it_answers_what_its_classifier_does(make: Callable[..., Any]) -> None:
    """`classifier_` is a Runnable of the same labels, and `predict` gives its answers."""
    model = make()
    assert isinstance(model.classifier_, ZeroShotClassifier if make is zero_shot else FewShotClassifier)
    assert model.predict(TEXTS).tolist() == model.classifier_.batch(TEXTS) == TRUTHS
    assert model.predict(TEXTS).dtype.kind == "U"
    assert model.predict([]).shape == (0,)
    assert model.score(TEXTS, TRUTHS) == 1.0


@pytest.mark.parametrize("make", [zero_shot, few_shot])
def test_probabilities_are_in_the_order_of_classes(make: Callable[..., Any]) -> None:
    """Columns follow the sorted `classes_`, whatever the order of the labels in the prompt; rows without are NaN."""
    model = make(llm=FakeScoringLLM(), labels=LABELS)
    assert model.classes_.tolist() == sorted(LABELS) != LABELS
    assert model.classifier_.labels.names == tuple(LABELS)
    with pytest.warns(OverlongInputWarning, match="1 of 3"):
        table = model.predict_proba(["one", "OVERLONG", "three"])
    assert np.isnan(table[1]).all()
    for row, text in ((table[0], "one"), (table[2], "three")):
        answer = model.classifier_.with_details().invoke(text)
        assert dict(zip(model.classes_.tolist(), row.tolist(), strict=True)) == answer.probabilities
        assert model.classes_[row.argmax()] == answer.label
    assert model.predict_proba([]).shape == (0, 3)


def test_a_row_that_is_not_sure_enough_keeps_its_probabilities() -> None:
    """With `min_confidence` a row may have no class, and still all its probabilities."""
    model = zero_shot(llm=FakeScoringLLM(), min_confidence=1.0)
    with pytest.warns(LowConfidenceWarning):
        assert model.predict(["one"]).tolist() == [None]
    with pytest.warns(LowConfidenceWarning):
        assert model.predict_proba(["one"]).sum() == pytest.approx(1.0)


def test_generated_text_has_no_probabilities() -> None:
    """Where text is generated for certain there is no `predict_proba`; where that turns out, it says what to set."""
    assert not hasattr(TGIZeroShotClassifier(method="generate"), "predict_proba")
    for model in (zero_shot(), zero_shot(llm=FakeScoringLLM(), max_new_tokens=9)):
        with pytest.raises(ConfigurationError, match="method='score'"):
            model.predict_proba(TEXTS)
        llm: Any = model.classifier_.llm
        assert llm.log.prompts == []


def test_a_server_without_probabilities_is_named_as_the_reason() -> None:
    """Labels without a probability are an error that names the method to set, not a table of NaN."""

    class Constraining(FakeLLM):
        """Constrains, and shows no probabilities."""

        methods: ClassVar[tuple[Method, ...]] = (Method.CONSTRAIN, Method.GENERATE)

        async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
            return Constrained(await self.agenerate_row(prompt))

    model = zero_shot(llm=Constraining())
    assert model.predict(TEXTS).tolist() == TRUTHS
    with pytest.raises(ConfigurationError, match="method='score'"):
        model.predict_proba(TEXTS)


@pytest.mark.parametrize(
    "made", [list, tuple, np.array, lambda x: np.array(x, dtype=object), lambda x: np.array([x]).T]
)
@pytest.mark.parametrize("kind", KINDS)
def test_texts_may_be_a_list_an_array_or_a_column(made: Callable[[list[str]], Any], kind: Any) -> None:
    """Lists, arrays of strings or objects, and arrays of one column are the same texts."""
    model = kind(llm=FakeLLM()).fit(made(TEXTS), TRUTHS)
    assert model.predict(made(TEXTS)).tolist() == TRUTHS
    assert all(type(text) is str for text in model.classifier_.llm.log.texts)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\)"),
        ("a text", "not str"),
        ({"text": ["a"]}, "one of its columns"),
        (np.zeros(3), "An input must be a text"),
        (np.array("text"), r"shape \(\)"),
    ],
)
def test_what_is_no_column_of_texts_is_refused(rows: Any, message: str) -> None:
    """Tables, single texts and columns of numbers are refused in words that say what is wanted."""
    with pytest.raises(ConfigurationError, match=message):
        zero_shot().predict(rows)


def test_dict_rows_are_read_as_by_the_classifier() -> None:
    """A row may be a dict that holds the text under `text_key`."""
    model = zero_shot(text_key="body")
    assert model.predict([{"body": text} for text in TEXTS]).tolist() == TRUTHS


def test_rows_without_a_label_are_none_with_a_warning_at_the_callers_line() -> None:
    """Order and length stay, one warning a kind, which points at the user's code also from within scikit-learn."""
    model = make_pipeline(FunctionTransformer(), TGIZeroShotClassifier(llm=FakeLLM())).fit(TEXTS, TRUTHS)
    with pytest.warns(StormtrooperWarning) as seen:
        predicted = model.predict(["OVERLONG", TEXTS[0], "FAIL", None, "OVERLONG"])
    assert predicted.tolist() == [None, TRUTHS[0], None, None, None]
    assert predicted.dtype == object
    assert {warning.category for warning in seen} == {OverlongInputWarning, FailedRequestWarning}
    assert len(seen) == 2
    assert {warning.filename for warning in seen} == {__file__}
    with pytest.warns(OverlongInputWarning) as seen:
        cross_val_score(model, [*TEXTS, *["OVERLONG"] * 4], [*TRUTHS, *["politics"] * 4], cv=2)
    assert {warning.filename for warning in seen} == {__file__}


def test_a_row_without_a_label_counts_as_wrong() -> None:
    """`score`, and with it the default of `cross_val_score`, copes with None; weights count."""
    texts, truths = [*TEXTS[:3], "OVERLONG"], [*TRUTHS[:3], "politics"]
    with pytest.warns(OverlongInputWarning):
        assert zero_shot().score(texts, truths) == 0.75
    with pytest.warns(OverlongInputWarning):
        assert zero_shot().score(texts, truths, sample_weight=[1, 0, 0, 1]) == 0.5
    with pytest.warns(OverlongInputWarning):
        assert zero_shot(fill_label="politics").score(texts, truths) == 1.0


@pytest.mark.parametrize(
    ("classes", "fill"),
    [(LABELS, "unknown, to be looked at"), ([1, 2], -1), ([True, False], False), ([0.0, 1.0], -1.0)],
)
def test_fill_label_stands_where_there_is_no_label(classes: list[Any], fill: Any) -> None:
    """With `fill_label` predictions are of the classes' type, as scikit-learn's metrics want them."""
    model = TGIZeroShotClassifier(llm=FakeLLM(answer=_first), fill_label=fill).fit(None, classes)
    with pytest.warns(OverlongInputWarning):
        predicted = model.predict(["one", "OVERLONG"])
    assert predicted[1] == fill
    assert predicted.dtype.kind == model.classes_.dtype.kind
    with pytest.raises(ConfigurationError, match="`fill_label` must be of the same type"):
        TGIZeroShotClassifier(llm=FakeLLM(), fill_label=1j).fit(None, classes)


def _first(prompt: Any) -> str:
    if "OVERLONG" in prompt.text:
        raise FakeLLM().answer(prompt)  # type: ignore[misc]  # which raises itself
    return "Choose one of: " + str(prompt).partition("one of: ")[2].partition(",")[0]


class Topic(Enum):
    """Labels by their values."""

    POLITICS = "politics"
    SCIENCE = "science"


class Number(Enum):
    """Labels by their names."""

    ONE = 1
    TWO = 2


class Word(StrEnum):
    """Labels that are strings themselves."""

    YES = "yes"
    NO = "no"


class Subject(str, Enum):  # noqa: UP042  # what StrEnum was before there was one
    """Labels that are strings, which `str` prints as members."""

    POLITICS = "politics"
    SCIENCE = "science"


class Grade(IntEnum):
    """Labels by their names, which are numbers themselves."""

    GOOD = 1
    BAD = 2


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [Subject, Word, Grade])
def test_members_that_are_texts_or_numbers_stay_members(classes: Any, kind: Any, fill: bool) -> None:
    """Lists of them are members in `classes_` and predictions; the model is asked for what `LabelSet.of` reads."""
    members = list(classes)
    model = kind(llm=FakeScoringLLM(), method="score", fill_label=members[0] if fill else None)
    model.fit(["one", "two"], members)
    assert set(model.classifier_.labels.names) == set(LabelSet.of(classes).names) == set(LabelSet.of(members).names)
    with pytest.warns(OverlongInputWarning):
        *predicted, last = model.predict([*TEXTS, "OVERLONG"]).tolist()
    assert {type(value) for value in (*predicted, *model.classes_.tolist())} == {classes}
    assert last is (members[0] if fill else None)
    assert model.score(TEXTS, predicted) == 1.0
    if kind is TGIZeroShotClassifier:
        assert [type(value) for value in model.fit(None, members).classes_.tolist()] == [classes] * 2


@pytest.mark.parametrize(
    ("y", "names", "classes"),
    [
        (["b", "a", "b"], ("b", "a"), ["a", "b"]),
        (("b", "a"), ("b", "a"), ["a", "b"]),
        (np.array(["b", "a"], dtype=object), ("b", "a"), ["a", "b"]),
        ([10, 9], ("10", "9"), [9, 10]),
        (np.array([1, -1], dtype=np.int8), ("1", "-1"), [-1, 1]),
        ([True, False], ("True", "False"), [False, True]),
        (np.array([1.0, 0.0]), ("1.0", "0.0"), [0.0, 1.0]),
        ({"b": "second", "a": None}, ("b", "a"), ["a", "b"]),
        ({2: "two", 1: "one"}, ("2", "1"), [1, 2]),
        ([Label("b", "second"), Label("a")], ("b", "a"), ["a", "b"]),
        (LabelSet.of({"b": "second", "a": None}), ("b", "a"), ["a", "b"]),
        (Literal["b", "a"], ("b", "a"), ["a", "b"]),
        (Topic, ("politics", "science"), [Topic.POLITICS, Topic.SCIENCE]),
        ([Topic.SCIENCE, Topic.POLITICS], ("science", "politics"), [Topic.POLITICS, Topic.SCIENCE]),
        ([Number.TWO, Number.ONE], ("TWO", "ONE"), [Number.ONE, Number.TWO]),
        ([Word.YES, Word.NO], ("yes", "no"), ["no", "yes"]),
    ],
)
def test_classes_come_back_as_they_were(y: Any, names: tuple[str, ...], classes: list[Any]) -> None:
    """The prompt has the labels in the order given, `classes_` is sorted, predictions are the classes themselves."""
    model = TGIZeroShotClassifier(llm=FakeScoringLLM(), method="score").fit(None, y)
    assert model.classifier_.labels.names == names
    assert model.classes_.tolist() == classes
    predicted = model.predict(TEXTS)
    assert set(predicted.tolist()) == set(classes)
    assert {type(value) for value in predicted.tolist()} == {type(value) for value in model.classes_.tolist()}
    texts = model.classifier_.batch(TEXTS)
    assert len(set(zip(predicted.tolist(), texts, strict=True))) == len(classes)
    described = model.classifier_.labels.descriptions
    assert bool(described) == (isinstance(y, dict | LabelSet) or (isinstance(y, list) and isinstance(y[0], Label)))
    assert TGIZeroShotClassifier(llm=FakeScoringLLM(), labels=y).fit(None).classes_.tolist() == classes


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_changes_nothing(kind: Any) -> None:
    """With one class for each text, labels are sorted in the prompt: the same rows shuffled are the same task."""
    there = kind(llm=FakeLLM()).fit(TEXTS, TRUTHS)
    back = kind(llm=FakeLLM()).fit(TEXTS[::-1], TRUTHS[::-1])
    assert there.classifier_.labels == back.classifier_.labels == LabelSet.of(sorted(LABELS))


@pytest.mark.parametrize(
    ("texts", "y", "error", "message"),
    [
        (None, None, ConfigurationError, "the target y is None"),
        (None, "politics", LabelError, "did you mean"),
        (None, {"a", "b"}, LabelError, "a set has none"),
        (None, ["a"], LabelError, "at least two labels"),
        (None, [], ValueError, "0 sample"),
        (None, [b"a", b"b"], ConfigurationError, "decode them"),
        (None, 3, ConfigurationError, "not int"),
        (set(TEXTS), TRUTHS, ConfigurationError, "a set has none"),
        (None, ["a", "A"], LabelError, "differ only in case"),
        (None, ["a", "b", None], ConfigurationError, "row without a class"),
        (["x", "y", "z"], ["a", float("nan"), "b"], ConfigurationError, r"row without a class \(NaN\)"),
        (None, np.array(["a", "b", np.nan], dtype=object), ValueError, "NaN"),
        (None, [0.5, 1.5], ValueError, "continuous"),
        (None, [["a", "b"], ["c", "d"]], ValueError, "1d array"),
        (None, np.array(["a", 1], dtype=object), ConfigurationError, r"several types \(int and str\)"),
        (None, {"a": 1, "b": None}, LabelError, "the description of 'a'"),
        (TEXTS, ["a", "b"], ValueError, "24 texts and 2 classes"),
        (TEXTS, {"a": None, "b": None}, ConfigurationError, "pass None for `X`"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_makes_no_task_is_refused(kind: Any, texts: Any, y: Any, error: type[Exception], message: str) -> None:
    """`fit` says what is wrong, and leaves what was learnt before as it is."""
    model = kind(llm=FakeLLM()).fit(TEXTS, TRUTHS)
    before = dict(vars(model))
    with pytest.raises(error, match=message):
        model.fit(texts, y)
    assert vars(model) == before


def test_few_shot_needs_examples() -> None:
    """Without texts there is nothing to learn from, and a text must be one."""
    with pytest.raises(ConfigurationError, match="`examples` is empty"):
        TGIFewShotClassifier(llm=FakeLLM()).fit(None, LABELS)
    with pytest.raises(ConfigurationError, match=r"examples\[1\]"):
        TGIFewShotClassifier(llm=FakeLLM()).fit(["one", None], ["a", "b"])
    with pytest.raises(ConfigurationError, match="from 1 on"):
        TGIFewShotClassifier(llm=FakeLLM(), examples_per_label=0).fit(TEXTS, TRUTHS)
    with pytest.raises(ConfigurationError, match="y is None"):
        TGIFewShotClassifier(llm=FakeLLM(), labels=LABELS).fit(TEXTS)


def test_data_of_one_column_is_taken_with_scikit_learns_warning() -> None:
    """A column vector of classes is read as classes, with the warning that scikit-learn gives."""
    with pytest.warns(DataConversionWarning):
        model = TGIZeroShotClassifier(llm=FakeLLM()).fit(None, np.array([LABELS]).T)
    assert model.classes_.tolist() == sorted(LABELS)


def test_examples_are_kept_by_class() -> None:
    """`examples_` has the texts in the prompt, of each class at most so many as wanted, the first ones."""
    y = [3, 1, 3, 1, 3]
    model = TGIFewShotClassifier(llm=FakeLLM()).fit(TEXTS[:5], y)
    assert model.examples_ == {3: ["text 0", "text 2", "text 4"], 1: ["text 1", "text 3"]}
    assert isinstance(model.classifier_, FewShotClassifier)
    shown = {(example.text, example.label) for example in model.classifier_.examples}
    assert shown == {(text, str(value)) for text, value in zip(TEXTS[:5], y, strict=True)}
    model.set_params(examples_per_label=2).fit(TEXTS[:5], y)
    assert model.examples_ == {3: ["text 0", "text 2"], 1: ["text 1", "text 3"]}
    model.set_params(examples_per_label=3).partial_fit(["new", "newer"], [1, 2])
    assert model.examples_ == {3: ["text 0", "text 2"], 1: ["text 1", "text 3", "new"], 2: ["newer"]}


def test_labels_without_examples_may_be_named() -> None:
    """With `labels=` a class that no text has is still one of the labels."""
    model = TGIFewShotClassifier(llm=FakeLLM(), labels=LABELS).fit(["a"], ["science"])
    assert model.classes_.tolist() == sorted(LABELS)
    assert model.classifier_.labels.names == tuple(LABELS)
    with pytest.raises(LabelError, match="'art', which is not among"):
        model.fit(["a"], ["art"])


def test_texts_without_classes_teach_nothing_where_labels_are_named() -> None:
    """With `labels=` a zero-shot estimator may be fitted to texts alone, as pipelines do."""
    model = TGIZeroShotClassifier(llm=FakeLLM(), labels=LABELS).fit(TEXTS)
    assert model.classes_.tolist() == sorted(LABELS)


def test_examples_out_of_scope_make_no_estimator() -> None:
    """An estimator's examples are of its classes: one of the option for other texts is told, and what to do."""
    classifier = FewShotClassifier(LABELS, [("a", LABELS[0]), ("b", "other")], llm=FakeLLM(), out_of_scope="other")
    with pytest.raises(ConfigurationError, match="leave them out, or make the option a label"):
        classifier.as_estimator()


@pytest.mark.parametrize(("first", "then"), [(LABELS[:2], LABELS[2:]), (LABELS[:2], LABELS[1:]), (LABELS, LABELS)])
def test_partial_fit_adds_labels(first: list[str], then: list[str]) -> None:
    """Labels learnt one after the other are those learnt at once, in the same order."""
    model = TGIZeroShotClassifier(llm=FakeLLM()).partial_fit(None, first).partial_fit(None, then)
    assert model.classifier_.labels == zero_shot().classifier_.labels
    assert model.classes_.tolist() == sorted(LABELS)
    assert model.fit(None, ["x", "y"]).classes_.tolist() == ["x", "y"]


def test_partial_fit_keeps_descriptions_and_adds_better_ones() -> None:
    """A name alone takes no description away, and a description is added to a name."""
    model = TGIZeroShotClassifier(llm=FakeLLM()).fit(None, {"a": "first", "b": None})
    model.partial_fit(None, ["a", "c"]).partial_fit(None, {"b": "second"})
    assert model.classifier_.labels == LabelSet.of({"a": "first", "b": "second", "c": None})


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_in_pieces_is_fit(kind: Any) -> None:
    """Rows in pieces teach what all rows at once do; a first piece of one class is told the others."""
    whole = kind(llm=FakeLLM()).fit(TEXTS, TRUTHS)
    pieces = kind(llm=FakeLLM())
    pieces.partial_fit(TEXTS[:1], TRUTHS[:1], classes=LABELS)
    for start in range(1, len(TEXTS), 5):
        pieces.partial_fit(TEXTS[start : start + 5], TRUTHS[start : start + 5])
    assert pieces.classifier_.labels == whole.classifier_.labels
    assert getattr(pieces, "examples_", None) == getattr(whole, "examples_", None)
    with pytest.raises(LabelError, match="at least two"):
        kind(llm=FakeLLM()).partial_fit(TEXTS[:1], TRUTHS[:1])


def test_ensembles_that_number_classes_are_found_out() -> None:
    """With `labels=`, classes that somebody has turned into numbers are an error."""
    voting = VotingClassifier([("one", TGIZeroShotClassifier(llm=FakeLLM(), labels=LABELS))])
    with pytest.raises(LabelError, match="not among `labels=`"):
        voting.fit(TEXTS, TRUTHS)
    calibrated = CalibratedClassifierCV(TGIZeroShotClassifier(llm=FakeScoringLLM(), labels=LABELS), cv=2)
    assert calibrated.fit(TEXTS, TRUTHS).classes_.tolist() == sorted(LABELS)


def test_classes_of_another_type_are_not_added() -> None:
    """Numbers do not come to texts, as nothing could be an array of both."""
    with pytest.raises(ConfigurationError, match="several types"):
        zero_shot().partial_fit(None, [1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_classifier(kind: Any) -> None:
    """Every setting of a classifier is a parameter with the same default, and reaches it."""
    fields = {**ZeroShotClassifier.model_fields}
    assert set(SETTINGS) | {"labels", "llm", "prompt", "parser"} == set(fields) - {"name"}
    model = kind()
    for name in SETTINGS:
        assert model.get_params()[name] == fields[name].default
    changed = {
        "method": "score",
        "prior": None,
        "rotations": 2,
        "shortlist": Shortlist(size=2),
        "out_of_scope": Label("none of these"),
        "min_confidence": 0.5,
        "min_margin": 0.1,
        "min_covered_mass": 0.2,
        "on_overlong": "truncate",
        "text_key": "body",
        "text_kind": "review",
        "label_kind": "sentiment",
        "max_new_tokens": 7,
        "prompt": "task",
        "llm": FakeScoringLLM(),
    }
    assert set(SETTINGS) - set(changed) == {"calibration"}
    made = kind(**changed).fit(TEXTS, TRUTHS).classifier_
    assert {name: getattr(made, name) for name in changed} == changed


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "best"},
        {"rotations": 99},
        {"prompt": "nonsense"},
        {"llm": "gpt"},
        {"on_overlong": "cut"},
        {"prior": 3},
    ],
)
def test_wrong_parameters_are_refused_at_fit(arguments: dict[str, Any]) -> None:
    """Constructor and `set_params` take everything, as scikit-learn wants it; `fit` refuses."""
    model = TGIZeroShotClassifier().set_params(**arguments)
    assert model.get_params() == {**TGIZeroShotClassifier().get_params(), **arguments}
    with pytest.raises(ConfigurationError):
        model.fit(None, LABELS)


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"endpoint": "http://127.0.0.1:8081/generate"}, "http://127.0.0.1:8081"),
        ({"endpoint": "http://127.0.0.1:8081/generate/"}, "http://127.0.0.1:8081"),
        ({"endpoint": "http://127.0.0.1:8081/tgi"}, "http://127.0.0.1:8081/tgi"),
        ({"base_url": "http://127.0.0.1:8081"}, "http://127.0.0.1:8081"),
        ({"endpoint": "http://h:1/generate", "base_url": "http://h:1/"}, "http://h:1"),
    ],
)
def test_addresses(arguments: dict[str, Any], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`endpoint` may end in /generate, `base_url` is the same without it, and none is where our LLM looks."""
    monkeypatch.delenv("TGI_BASE_URL", raising=False)
    llm = TGIZeroShotClassifier(**arguments).fit(None, LABELS).classifier_.llm
    assert isinstance(llm, TextGenerationInference)
    assert llm.base_url == address


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoint": "http://a/generate", "base_url": "http://b"}, "different servers"),
        ({"endpoint": "http://a/generate", "llm": FakeLLM()}, "exclude each other"),
        ({"endpoint": 8080}, "`endpoint` must be an address"),
        ({"endpoint": "http://user:pass@a/generate"}, "must not carry credentials"),
        ({"fuzzy_match": False, "parser": LabelOutputParser(LABELS)}, "set it in `parser`"),
    ],
)
def test_parameters_that_contradict_each_other(arguments: dict[str, Any], message: str) -> None:
    """What cannot both be meant is refused."""
    with pytest.raises(ConfigurationError, match=message):
        TGIZeroShotClassifier(**arguments).fit(None, LABELS)


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        ("{X} is one of {classes}.\n", "a {text} is one of 'a{b}', \"c's\".\n"),
        ("{{X}} {{{X}}} {classes}{{", "{X} {a {text}} 'a{b}', \"c's\"{"),
        ("{X}: {classes:>16}{label_kind!r:>8}", "a {text}:    'a{b}', \"c's\" 'label'"),
        ("{X}: {labels}", "a {text}: a{b}, c's."),
        ("{text}? {classes}", "a {text}? 'a{b}', \"c's\""),
        (PromptTemplate.from_template("{text}! {labels}"), "a {text}! a{b}, c's."),
    ],
)
def test_templates_of_the_original(template: Any, sent: str) -> None:
    """`{X}` is the text and `{classes}` the labels in quotes; braces of users stay, and so do templates of ours."""
    model = TGIZeroShotClassifier(llm=FakeLLM(answer=lambda _: "c's"), prompt=template).fit(None, ["a{b}", "c's"])
    assert model.predict(["a {text}"]).tolist() == ["c's"]
    assert str(model.classifier_.llm.log.prompts[0]) == sent  # type: ignore[attr-defined]


def test_a_few_shot_template_of_the_original() -> None:
    """`{examples}` is where the examples stand, with the two others."""
    model = few_shot(prompt="{classes}\n{examples}{X} =")
    model.predict(["new"])
    prompt = str(model.classifier_.llm.log.prompts[0])  # type: ignore[attr-defined]
    assert prompt.startswith("'politics', 'science', 'sport'\n")
    assert prompt.endswith("new =")
    assert all(text in prompt for text in TEXTS[:6])


@pytest.mark.parametrize(
    "template",
    ["{X} {text}", "{X", "{classes}", "{X} {other}", "no text"],
    ids=["both", "open", "no X", "other", "none"],
)
def test_templates_that_are_none(template: str) -> None:
    """A template without a text, with two or with something else is refused before the first answer."""
    with pytest.raises(PromptError):
        TGIZeroShotClassifier(llm=FakeLLM(), prompt=template).fit(None, LABELS).predict(["x"])


def test_fuzzy_match_is_the_parsers() -> None:
    """Without it, a nearly spelled label is none."""
    llm = FakeLLM(answer=lambda _: "polltics")
    assert zero_shot(llm=llm).predict(["x"]).tolist() == ["politics"]
    with pytest.warns(StormtrooperWarning, match="names none of the labels"):
        assert zero_shot(llm=llm, fuzzy_match=False).predict(["x"]).tolist() == [None]


def test_a_device_has_no_effect_and_says_so() -> None:
    """`device` is there for old callers: the default is silent, another place is not promised."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero_shot(device="cpu")
    with pytest.warns(StormtrooperWarning, match="`device` has no effect"):
        assert zero_shot(device="cuda:0").predict(TEXTS).tolist() == TRUTHS


def test_any_langchain_llm_will_do() -> None:
    """`llm` may be one of LangChain's own."""
    model = zero_shot(llm=FakeListLLM(responses=["Science!"]))
    assert model.predict(["x", "y"]).tolist() == ["science", "science"]


@pytest.mark.parametrize("make", [zero_shot, few_shot])
def test_clones_and_copies(make: Callable[..., Any]) -> None:
    """A clone has the same parameters and has learnt nothing; a deep copy and a pickle have learnt the same."""
    model = make(prompt="task", labels=LabelSet.of(LABELS))
    cloned = clone(model)
    assert repr(cloned.get_params()) == repr(model.get_params())
    assert not hasattr(cloned, "classes_")
    with pytest.raises(NotFittedError):
        cloned.predict(TEXTS)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301  # our own
        assert other.predict(TEXTS).tolist() == TRUTHS
        assert other.classes_.tolist() == model.classes_.tolist()
    unfitted = pickle.loads(pickle.dumps(cloned))  # noqa: S301  # our own
    assert unfitted.fit(TEXTS, TRUTHS).predict(TEXTS).tolist() == TRUTHS


def test_pickles_and_reprs_hold_no_key() -> None:
    """Neither a pickle nor a repr, as text or as HTML, has a server's key; a key from the environment is in neither."""
    llm = TextGenerationInference(base_url="http://h", api_key="the-secret", headers={"X-Key": "the-secret"})
    for model in (TGIZeroShotClassifier(llm=llm), zero_shot(llm=llm), few_shot(llm=llm)):
        assert b"the-secret" not in pickle.dumps(model)
        assert "the-secret" not in repr(model) + str(model._repr_mimebundle_())
        assert repr(model).startswith(type(model).__name__)


def test_in_a_pipeline() -> None:
    """Steps before it prepare the texts, and its parameters are reached through it."""
    model = make_pipeline(FunctionTransformer(lambda texts: [text.lower() for text in texts]), TGIZeroShotClassifier())
    model.set_params(tgizeroshotclassifier__llm=FakeLLM(), tgizeroshotclassifier__text_kind="command")
    assert model.fit(TEXTS, TRUTHS).predict([text.upper() for text in TEXTS]).tolist() == TRUTHS
    assert model.classes_.tolist() == sorted(LABELS)
    assert model[-1].classifier_.text_kind == "command"


def test_in_a_grid_search() -> None:
    """A search over prompt and tokens finds the settings that answer right."""
    llm = FakeLLM(answer=lambda prompt: label_of(prompt.text) if "command" in str(prompt) else "sport")
    grid = {
        "text_kind": ["text", "command"],
        "max_new_tokens": [4, 8],
        "prompt": ["task", "{X} is a {text_kind} of {classes}"],
    }
    search = GridSearchCV(TGIZeroShotClassifier(llm=llm), grid, cv=2).fit(TEXTS, TRUTHS)
    assert search.best_score_ == 1.0
    assert search.best_params_["text_kind"] == "command"
    assert search.predict(TEXTS).tolist() == TRUTHS
    assert min(search.cv_results_["mean_test_score"]) < 1.0


def test_in_cross_validation() -> None:
    """Accuracy and F1 cope with rows without a label; losses and tables of probabilities come from scores."""
    texts, truths = [*TEXTS, "OVERLONG", "OVERLONG"], [*TRUTHS, "politics", "politics"]
    model = TGIFewShotClassifier(llm=FakeLLM(), examples_per_label=2, fill_label="unknown")
    f1 = make_scorer(f1_score, average="macro", labels=LABELS, pos_label=None)
    with pytest.warns(OverlongInputWarning):
        assert cross_val_score(model, texts, truths, cv=2).mean() == pytest.approx(24 / 26)
    with pytest.warns(OverlongInputWarning):
        assert 0.9 < cross_val_score(model, texts, truths, cv=2, scoring=f1).mean() < 1
    scoring = TGIFewShotClassifier(llm=FakeScoringLLM(), examples_per_label=2)
    losses = cross_val_score(scoring, TEXTS, TRUTHS, cv=2, scoring="neg_log_loss")
    assert np.isfinite(losses).all()
    table = cross_val_predict(scoring, TEXTS, TRUTHS, cv=2, method="predict_proba")
    assert table.sum(axis=1) == pytest.approx(np.ones(len(TEXTS)))


def settings(classifier: Any) -> dict[str, Any]:
    """Everything that was set, but the LLM and the parser, which are not equal to their used selves."""
    return {name: value for name, value in dict(classifier).items() if name not in ("llm", "parser")}


@pytest.mark.parametrize("make", [zero_shot, few_shot])
def test_the_estimator_of_a_classifier(make: Callable[..., Any]) -> None:
    """`as_estimator` gives one that is fitted with the very classifier, and whose clones fit to an equal one."""
    labels = {"sport": "games", "politics": None, "science": None}
    classifier = make(prompt="task", text_kind="command", labels=labels).classifier_
    model = classifier.as_estimator()
    assert type(model) is (TGIZeroShotClassifier if make is zero_shot else TGIFewShotClassifier)
    assert model.classifier_ is classifier
    assert model.classes_.tolist() == sorted(LABELS)
    assert model.predict(TEXTS).tolist() == TRUTHS
    again = clone(model).fit(TEXTS[:6], LABELS * 2)
    assert settings(again.classifier_) == settings(classifier)
    assert again.classes_.tolist() == model.classes_.tolist()
    if make is few_shot:
        assert again.examples_ == model.examples_
    else:
        assert settings(clone(model).fit(None).classifier_) == settings(classifier)
    frozen = FrozenEstimator(model)
    assert cross_val_score(frozen, TEXTS, TRUTHS, cv=2).tolist() == [1.0, 1.0]
    assert frozen.estimator.classifier_ is classifier


def test_the_estimator_of_a_classifier_chooses_examples_as_it_does() -> None:
    """How examples are chosen is a parameter: fitting again keeps it, and so does adding to what was learnt."""
    classifier = FewShotClassifier(
        LABELS, [(t, t) for t in LABELS], llm=FakeLLM(), select="bm25", n_examples=2, max_per_label=1
    )
    model = classifier.as_estimator()
    for again in (clone(model).fit(LABELS, LABELS), clone(model).partial_fit(LABELS, LABELS)):
        assert again.classifier_ == classifier
    assert len(again.partial_fit(["more"], ["sport"]).classifier_.examples) == 4
    assert again.classifier_.select == "bm25"


def test_the_estimator_of_a_classifier_has_its_parser_and_calibration() -> None:
    """A parser of one's own and a calibration are parameters like the others."""
    parser = LabelOutputParser(LABELS, threshold=0.5)
    model = ZeroShotClassifier(LABELS, llm=FakeLLM(), parser=parser).as_estimator()
    assert model.parser is parser
    assert clone(model).fit(None).classifier_.parser == parser
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        calibrated = ZeroShotClassifier(LABELS, llm=FakeScoringLLM(model_id="m")).calibrate(TEXTS)
    model = calibrated.as_estimator()
    again = clone(model).fit(None, LABELS)
    assert again.classifier_.calibration == calibrated.calibration is not None
    assert again.predict_proba(TEXTS).tolist() == model.predict_proba(TEXTS).tolist()


def test_without_scikit_learn_only_its_names_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra to install, where an estimator is asked for and not before."""
    for name in [name for name in sys.modules if name.startswith(("sklearn", "langchain_stormtrooper.estimators"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    import langchain_stormtrooper

    monkeypatch.delitem(vars(langchain_stormtrooper), "TGIZeroShotClassifier", raising=False)
    classifier = ZeroShotClassifier(LABELS, llm=FakeLLM())
    for ask in (lambda: langchain_stormtrooper.TGIZeroShotClassifier, classifier.as_estimator):
        with pytest.raises(MissingExtraError, match=r"pip install 'langchain-stormtrooper\[sklearn\]'"):
            ask()


def test_an_enum_of_mixed_values_is_asked_by_its_names() -> None:
    """Whether the class itself is fitted or its members, each text gets a member."""

    class Mixed(Enum):
        FIRST = "a"
        SECOND = 2

    for labels in (Mixed, list(Mixed)):
        model = TGIZeroShotClassifier(llm=FakeScoringLLM()).fit(None, labels)
        assert isinstance(model.predict(["x"])[0], Mixed)
