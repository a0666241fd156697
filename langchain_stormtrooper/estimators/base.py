"""What both estimators do: make a classifier when they are fitted, and hand texts on to it.

They hold parameters as given and read them at `fit`; how a text is answered is the classifier's business alone.
`kinds` adds what tells zero-shot from few-shot.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.errors import ConfigurationError, LabelError, StormtrooperWarning
from langchain_stormtrooper.estimators.classes import (
    Classes,
    check_fill,
    class_name,
    keep_members,
    read_classes,
    read_targets,
    read_texts,
    sort_classes,
    take_classes,
)
from langchain_stormtrooper.estimators.original import server_address, translate_prompt
from langchain_stormtrooper.labels import Label, LabelSet
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.row_warnings import warn_caller

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTINGS = (
    "method",
    "prior",
    "rotations",
    "shortlist",
    "out_of_scope",
    "calibration",
    "min_confidence",
    "min_margin",
    "min_covered_mass",
    "on_overlong",
    "text_key",
    "text_kind",
    "label_kind",
    "max_new_tokens",
)
"""Parameters that the classifier has under the same name, with the same meaning."""


def _may_have_probabilities(estimator: TextEstimator) -> bool:
    return estimator.method != "generate"


class TextEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What zero-shot and few-shot estimators share. Not for use by itself."""

    labels: Any
    prompt: Any
    llm: Any
    endpoint: str | None
    base_url: str | None
    fuzzy_match: bool
    parser: Any
    device: str | None
    fill_label: Any
    method: str

    classifier_: TextClassifier
    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the labels, and examples where they are wanted; no model is asked.

        Args:
            X: The texts, or None where only labels are learnt.
            y: The class of each text. With None for `X`, the labels: a list, or whatever else
                `ZeroShotClassifier` takes for them.

        Raises:
            ConfigurationError: A parameter is wrong; texts and classes do not go together.
            LabelError: The labels do not make a classification, or a class is not among `labels=`.
        """
        return self._learn(X, y, {})

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None) -> Self:
        """Learn further labels and examples, and keep what was learnt before; like `fit` at first.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            classes: Classes that are to come, for a first call that does not have all of them.
        """
        return self._learn(X, y, self._known(), classes, again=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each text.

        Args:
            X: The texts: a list, an array, or a column of a table.

        Returns:
            One class a row, of shape (n,); `fill_label` for rows without a label, after one warning for each kind of
            reason. With None among the rows it is an array of objects.

        Raises:
            NotFittedError: `fit` has not been called.
            PromptError: No row has a text.
            ServerError: Something is wrong for every row.
        """
        check_is_fitted(self)
        answers = self.classifier_.batch(self._texts(X))
        place = {class_name(value): index for index, value in enumerate(self.classes_.tolist())}
        return take_classes([None if name is None else place[name] for name in answers], self.classes_, self.fill_label)

    @available_if(_may_have_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class for each text.

        Args:
            X: As in `predict`.

        Returns:
            Probabilities of shape (n, classes), columns in the order of `classes_`; NaN in rows for which there are
            none. A row that was not sure enough for a label has them. With `out_of_scope`, a row sums to 1 with the
            probability of that option, which has no column.

        Raises:
            NotFittedError: `fit` has not been called.
            ConfigurationError: The method in force gives none.
            ServerError: Something is wrong for every row.
        """
        check_is_fitted(self)
        if self.classifier_.get_method() is Method.GENERATE:
            raise ConfigurationError("Generated text has no probabilities: set method='score'.")
        names = [class_name(value) for value in self.classes_.tolist()]
        answers = self.classifier_.with_details().batch(self._texts(X))
        if any(answer.label is not None for answer in answers) and all(a.probabilities is None for a in answers):
            raise ConfigurationError("The server shows no probabilities beside its answers: set method='score'.")
        nothing = dict.fromkeys(names, np.nan)
        rows = [[(answer.probabilities or nothing)[name] for name in names] for answer in answers]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; a row without a label counts as wrong.

        Args:
            X: The texts.
            y: The right class of each.
            sample_weight: The weight of each row.
        """
        predicted = self.predict(X)
        truths = np.asarray(keep_members(y)).tolist()
        right = [answer == truth for answer, truth in zip(predicted.tolist(), truths, strict=True)]
        # scikit-learn's metrics refuse a column with None in it.
        return float(accuracy_score(np.ones(len(right), dtype=bool), right, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.input_tags.string = tags.input_tags.allow_nan = True
        # What scikit-learn measures to say so are numbers.
        tags.classifier_tags.poor_score = True
        tags.target_tags.required = self.labels is None
        return tags

    @abstractmethod
    def _make(
        self, labels: LabelSet, settings: dict[str, Any], rows: Sequence[tuple[Any, Any]], *, again: bool
    ) -> TextClassifier:
        """The classifier of these labels and settings, and of texts with their classes if it learns from any.

        Args:
            labels: The labels, in the order of the prompt.
            settings: The classifier's other arguments.
            rows: The texts and their classes; none where only labels were given.
            again: Whether what was learnt before is kept.
        """

    def _texts(self, X: Any) -> list[Any]:
        return read_texts(X)

    def _learn(self, X: Any, y: Any, known: Classes, further: Any = None, *, again: bool = False) -> Self:
        if y is None and self.__sklearn_tags__().target_tags.required:
            raise ConfigurationError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: pass the labels."
            )
        found = {} if further is None else read_classes(further)
        rows: list[tuple[Any, Any]] = []
        if X is None:
            found |= {} if y is None else read_classes(y)
        elif isinstance(y, Mapping):
            raise ConfigurationError("Labels with descriptions are for all texts: pass None for `X`, or set `labels=`.")
        elif y is not None:
            texts, targets = self._texts(X), read_targets(y)
            if len(texts) != len(targets):
                raise ConfigurationError(
                    f"There are {len(texts)} texts and {len(targets)} classes: give one class for each text, or pass "
                    "None for `X` to learn labels alone."
                )
            rows = list(zip(texts, targets, strict=True))
            found |= {value: Label(class_name(value)) for value in targets}
        classes = self._combine(known, found, is_ordered=X is None)
        # A member of an IntEnum and its number are the same class: examples are of the one that stands in `classes_`.
        same = {value: value for value in classes}
        rows = [(text, same[value]) for text, value in rows]
        in_order = sort_classes(classes)
        check_fill(self.fill_label, in_order)
        labels = LabelSet.of(list(classes.values()))
        self.classifier_ = self._make(labels, self._settings(labels), rows, again=again)
        self.classes_ = in_order
        return self

    def _combine(self, known: Classes, found: Classes, *, is_ordered: bool) -> Classes:
        """The classes of the task, in the order of the prompt."""
        if self.labels is not None:
            classes = read_classes(self.labels)
            if strange := [value for value in found if value not in classes]:
                raise LabelError(f"y has the class {strange[0]!r}, which is not among `labels=`: add it there.")
            return classes
        classes = known | {value: label for value, label in found.items() if value not in known or label.description}
        # One class a row is in no order that means anything: the same rows shuffled are the same task.
        return (
            classes
            if is_ordered or not classes
            else {value: classes[value] for value in sort_classes(classes).tolist()}
        )

    def _known(self) -> Classes:
        """What was learnt so far, in the order of the prompt."""
        if not hasattr(self, "classifier_"):
            return {}
        value_of = {class_name(value): value for value in self.classes_.tolist()}
        return {value_of[label.name]: label for label in self.classifier_.labels.labels}

    def _settings(self, labels: LabelSet) -> dict[str, Any]:
        """The arguments of a classifier that the parameters stand for."""
        if self.device not in (None, "cpu"):
            warn_caller(StormtrooperWarning, "`device` has no effect: the model runs where its server or `llm` does.")
        settings = {name: getattr(self, name) for name in SETTINGS}
        address = server_address(self.endpoint, self.base_url)
        if self.llm is not None and address is not None:
            raise ConfigurationError("`llm` and the address of a server exclude each other: leave one out.")
        if self.llm is not None:
            settings["llm"] = self.llm
        elif address is not None:
            settings["llm"] = TextGenerationInference(base_url=address)
        if not self.fuzzy_match and self.parser is not None:
            raise ConfigurationError("`fuzzy_match=False` is for the parser there is by default: set it in `parser`.")
        parser = self.parser if self.fuzzy_match else LabelOutputParser(labels, fuzzy_match=False)
        return {**settings, "prompt": translate_prompt(self.prompt, labels), "parser": parser}
