"""`TGIZeroShotClassifier` and `TGIFewShotClassifier`, and the estimator of a classifier that there is already.

They list their parameters, since scikit-learn reads these from the constructor; all else is in `base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from langchain_stormtrooper.answering.settings import is_default_parser
from langchain_stormtrooper.classifiers import FewShotClassifier, TextClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.estimators.base import SETTINGS, TextEstimator
from langchain_stormtrooper.estimators.classes import class_name, read_classes, sort_classes
from langchain_stormtrooper.labels import LabelSet

_CHOICE = ("select", "n_examples", "max_per_label")
"""Parameters of how examples are chosen, as `FewShotClassifier` has them."""


class TGIZeroShotClassifier(TextEstimator):
    """A scikit-learn classifier of texts by the names of the labels alone.

    Wraps a `ZeroShotClassifier`, which is its `classifier_` once it is fitted. `fit(None, labels)` learns the labels
    and asks no model; `fit(texts, classes)` learns which classes there are. Classes may be texts, whole numbers,
    booleans or members of an Enum; the model is asked for them as texts, and `predict` returns them as they were. Some
    of scikit-learn's ensembles, such as `VotingClassifier`, number the classes first, so that the model would be asked
    for 0 and 1: with `labels=` that is an error.

    In the prompt, labels stand in the order given with `fit(None, labels)` or `labels=`, and sorted where there is one
    for each text. `classes_`, and with it the columns of `predict_proba`, is always sorted.

    Args:
        endpoint: The address of a TGI server; may end in /generate. Default: TGI_BASE_URL or http://127.0.0.1:8080.
        prompt: As in `ZeroShotClassifier`. Templates of stormtrooper, with `{X}` for the text and `{classes}` for the
            labels in quotes, mean what they meant.
        max_new_tokens: As in `ZeroShotClassifier`: with it, method="auto" generates text, which has no probabilities.
        fuzzy_match: Whether nearly spelled labels count in generated text. With False, method="auto" generates text.
        device: Has no effect: the model runs where its server runs. There for callers of stormtrooper.
        base_url: The same as `endpoint`, under the name that `TextGenerationInference` has for it.
        llm: A LangChain language model in the place of a server, such as `LlamaCpp()`. For a server with a key,
            `TextGenerationInference(base_url=..., api_key=...)`.
        labels: The labels, if not those that `fit` sees: a list, a dict from label to description, an Enum class or a
            `Literal`. What `fit` sees must be among them.
        fill_label: What `predict` returns for a row without a label, such as "unknown" or one of the classes, for
            scikit-learn's metrics, which refuse None.
        parser: As in `ZeroShotClassifier`, and so are all parameters that follow.
        method: "score", "constrain", "generate", or "auto".
        prior: "words", "content-free" or None.
        rotations: Orders of the labels to ask with.
        shortlist: How many labels to ask about for each text, or a `Shortlist`; None for all.
        out_of_scope: The name of an option for texts that are of no class: for these, `predict` returns `fill_label`.
        calibration: What `ZeroShotClassifier.calibrate` has taught.
        min_confidence: The probability in [0, 1] that a label must have.
        min_margin: By how much it must be ahead of the second, in [0, 1].
        min_covered_mass: The share of the model's probability that must fall on labels, in [0, 1].
        on_overlong: "none", "truncate" or "raise".
        text_key: The key that holds the text in rows that are dicts.
        text_kind: What the texts are, for the prompt.
        label_kind: What the labels are, for the prompt.

    Attributes:
        classifier_: The Runnable that answers.
        classes_: The classes, sorted.

    Examples:
        >>> from langchain_stormtrooper import TGIZeroShotClassifier
        >>> model = TGIZeroShotClassifier().fit(None, ["politics", "science", "other"])
        >>> model.predict(["The senate votes today.", "Atoms have a nucleus."]).tolist()
        ['politics', 'science']
    """

    def __init__(
        self,
        endpoint: str | None = None,
        prompt: Any = None,
        max_new_tokens: int | None = None,
        fuzzy_match: bool = True,
        device: str | None = None,
        *,
        base_url: str | None = None,
        llm: Any = None,
        labels: Any = None,
        fill_label: Any = None,
        parser: Any = None,
        method: str = "auto",
        prior: str | None = "words",
        rotations: int = 1,
        shortlist: Any = None,
        out_of_scope: Any = None,
        calibration: Any = None,
        min_confidence: float | None = None,
        min_margin: float | None = None,
        min_covered_mass: float | None = None,
        on_overlong: str = "none",
        text_key: str = "text",
        text_kind: str = "text",
        label_kind: str = "label",
    ) -> None:
        self.endpoint = endpoint
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.fuzzy_match = fuzzy_match
        self.device = device
        self.base_url = base_url
        self.llm = llm
        self.labels = labels
        self.fill_label = fill_label
        self.parser = parser
        self.method = method
        self.prior = prior
        self.rotations = rotations
        self.shortlist = shortlist
        self.out_of_scope = out_of_scope
        self.calibration = calibration
        self.min_confidence = min_confidence
        self.min_margin = min_margin
        self.min_covered_mass = min_covered_mass
        self.on_overlong = on_overlong
        self.text_key = text_key
        self.text_kind = text_kind
        self.label_kind = label_kind

    @override
    def _make(
        self, labels: LabelSet, settings: dict[str, Any], rows: Sequence[tuple[Any, Any]], *, again: bool
    ) -> TextClassifier:
        return ZeroShotClassifier(labels, **settings)


class TGIFewShotClassifier(TextEstimator):
    """A scikit-learn classifier of texts by the names of the labels and examples.

    Wraps a `FewShotClassifier`, which is its `classifier_` once it is fitted. All texts that `fit` sees are examples
    and by default stand in the prompt of every row: where there are many, as there are in cross-validation, bound them
    with `examples_per_label`, or choose among them with `select` and `n_examples`. Classes, their order and all other
    parameters are as in `TGIZeroShotClassifier`; a template of one's own needs `{examples}`.

    Args:
        examples_per_label: How many texts of each class are examples at most, the first ones; None for all.
        select: Which of these stand in the prompt of a text, as in `FewShotClassifier`: "balanced", "fuzzy", "bm25" or
            a LangChain `Embeddings`.
        n_examples: How many of them at most.
        max_per_label: How many of the same class, for the nearest.

    Attributes:
        classifier_: The Runnable that answers.
        classes_: The classes, sorted.
        examples_: The texts in the prompt, a list for each class.

    Examples:
        >>> from langchain_stormtrooper import TGIFewShotClassifier
        >>> model = TGIFewShotClassifier(n_examples=2)
        >>> model = model.fit(["A new law is passed.", "The probe has landed."], ["politics", "science"])
        >>> model.predict(["The senate votes today."]).tolist()
        ['politics']
    """

    examples_: dict[Any, list[str]]

    def __init__(
        self,
        endpoint: str | None = None,
        prompt: Any = None,
        max_new_tokens: int | None = None,
        fuzzy_match: bool = True,
        device: str | None = None,
        *,
        examples_per_label: int | None = None,
        select: Any = "balanced",
        n_examples: int | None = None,
        max_per_label: int | None = None,
        base_url: str | None = None,
        llm: Any = None,
        labels: Any = None,
        fill_label: Any = None,
        parser: Any = None,
        method: str = "auto",
        prior: str | None = "words",
        rotations: int = 1,
        shortlist: Any = None,
        out_of_scope: Any = None,
        calibration: Any = None,
        min_confidence: float | None = None,
        min_margin: float | None = None,
        min_covered_mass: float | None = None,
        on_overlong: str = "none",
        text_key: str = "text",
        text_kind: str = "text",
        label_kind: str = "label",
    ) -> None:
        self.endpoint = endpoint
        self.prompt = prompt
        self.max_new_tokens = max_new_tokens
        self.fuzzy_match = fuzzy_match
        self.device = device
        self.examples_per_label = examples_per_label
        self.select = select
        self.n_examples = n_examples
        self.max_per_label = max_per_label
        self.base_url = base_url
        self.llm = llm
        self.labels = labels
        self.fill_label = fill_label
        self.parser = parser
        self.method = method
        self.prior = prior
        self.rotations = rotations
        self.shortlist = shortlist
        self.out_of_scope = out_of_scope
        self.calibration = calibration
        self.min_confidence = min_confidence
        self.min_margin = min_margin
        self.min_covered_mass = min_covered_mass
        self.on_overlong = on_overlong
        self.text_key = text_key
        self.text_kind = text_kind
        self.label_kind = label_kind

    @override
    def _make(
        self, labels: LabelSet, settings: dict[str, Any], rows: Sequence[tuple[Any, Any]], *, again: bool
    ) -> TextClassifier:
        limit: Any = self.examples_per_label
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise ConfigurationError(f"`examples_per_label` must be a whole number from 1 on, or None, not {limit!r}.")
        known: dict[Any, list[str]] = getattr(self, "examples_", {}) if again else {}
        examples = {value: list(texts) for value, texts in known.items()}
        for text, value in rows:
            of_class = examples.setdefault(value, [])
            if limit is None or len(of_class) < limit:
                of_class.append(text)
        pairs = [(text, class_name(value)) for value, texts in examples.items() for text in texts]
        choice = {name: getattr(self, name) for name in _CHOICE}
        made = FewShotClassifier(labels, pairs, **settings, **choice)
        self.examples_ = examples
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def estimator_of(classifier: TextClassifier) -> TGIZeroShotClassifier | TGIFewShotClassifier:
    """A fitted estimator with the settings of a classifier, which is its `classifier_`.

    Args:
        classifier: A `ZeroShotClassifier` or `FewShotClassifier`.
    """
    settings = {name: getattr(classifier, name) for name in (*SETTINGS, "labels", "llm", "prompt")}
    if not is_default_parser(classifier.parser, classifier.labels):
        settings["parser"] = classifier.parser
    made: TGIZeroShotClassifier | TGIFewShotClassifier
    if isinstance(classifier, FewShotClassifier):
        made = TGIFewShotClassifier(**settings, **{name: getattr(classifier, name) for name in _CHOICE})
        made.examples_ = {}
        for example in classifier.examples:
            if example.label not in classifier.labels:
                raise ConfigurationError(
                    "An estimator learns examples of its classes alone, and there are some of `out_of_scope=`: leave "
                    "them out, or make the option a label."
                )
            made.examples_.setdefault(example.label, []).append(example.text)
    else:
        made = TGIZeroShotClassifier(**settings)
    made.classifier_ = classifier
    made.classes_ = sort_classes(read_classes(classifier.labels))
    return made
