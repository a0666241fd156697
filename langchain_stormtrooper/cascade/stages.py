"""What may be the cheap stage of a cascade, each made to answer one text at a time with a `Classification`.

A classifier of this package, a fitted scikit-learn estimator with `predict_proba`, or a Runnable or function from a
text to a `Classification`. A new kind is one more subclass of `Stage`. Called by `runnable` and `learning`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from langchain_core.callbacks import Callbacks
from langchain_core.runnables import Runnable, RunnableLambda
from typing_extensions import override

from langchain_stormtrooper.detailed_classifier import DetailedClassifier
from langchain_stormtrooper.errors import ConfigurationError, RowError, StormtrooperError
from langchain_stormtrooper.labels import LabelSet, name_of
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Method
from langchain_stormtrooper.row_classifier import Keys, RowClassifier
from langchain_stormtrooper.rows import RowInput

_AT_ONCE = 8
"""Rows that a Runnable of which nothing is known is asked for at once."""


_PARTS_AT_MOST = 1000
"""Items of a list among which parts of an estimator are looked for."""

_UNTOLD = "gives no confidence to go by: set method='score' on it."


class StageFailedError(RowError):
    """The cheap stage raised for a text."""


class Ready(NamedTuple):
    """A stage that can answer.

    Attributes:
        render: What a row is to this stage, from the row and its text; raises `PromptError` if it cannot read the row.
        answer: Answers that.
        announce: As in `RowAnswering`.
    """

    render: Callable[[RowInput, str], Prompt]
    answer: Callable[[Prompt, Callbacks], Awaitable[Classification]]
    announce: Callable[[Iterable[Prompt]], None] = lambda _: None


class Stage(ABC):
    """The cheap stage of a cascade."""

    concurrency: int
    """Rows that it is asked for at once."""

    @abstractmethod
    async def aprepare(self) -> Ready:
        """Get ready for any number of rows."""

    @abstractmethod
    async def akeys(self) -> Keys | None:
        """What tells this stage, and a row of it, from others; None if that cannot be told."""

    def learnt(self) -> Sequence[object]:
        """Objects that are others once the stage, which stays the same object, has learnt something else."""
        return ()


def as_classifier(given: Any) -> Any:
    """A classifier with details as the classifier itself; everything else as it is."""
    return given.classifier if isinstance(given, DetailedClassifier) else given


def stage_of(cheap: Any, strong: RowClassifier) -> Stage:
    """What answers first.

    Args:
        cheap: What the user gave.
        strong: What answers the rest.

    Raises:
        ConfigurationError: It can be no stage, or does not go with the other.
    """
    if isinstance(cheap, RowClassifier):
        return _ClassifierStage(cheap, strong)
    if isinstance(cheap, Runnable):
        return _RunnableStage(cheap, strong.labels)
    if hasattr(cheap, "classes_") and hasattr(cheap, "predict_proba"):
        return _EstimatorStage(cheap, strong.labels)
    if hasattr(cheap, "fit"):
        raise ConfigurationError(
            f"`cheap` is a {type(cheap).__name__} without classes_ and predict_proba: fit it first, or take an "
            "estimator that gives probabilities."
        )
    if callable(cheap):
        return _RunnableStage(RunnableLambda(cheap), strong.labels)
    raise ConfigurationError(
        "`cheap` must be a classifier, a fitted estimator with predict_proba, or a Runnable or function from a text to "
        f"a Classification, not a {type(cheap).__name__}."
    )


class _ClassifierStage(Stage):
    """A classifier of this package."""

    def __init__(self, classifier: RowClassifier, strong: RowClassifier) -> None:
        if set(classifier.labels) != set(strong.labels):
            raise ConfigurationError("The cheap and the strong classifier have other labels: give both the same.")
        if classifier.text_key != strong.text_key:
            raise ConfigurationError(
                f"The cheap classifier reads texts under {classifier.text_key!r} and the strong one under "
                f"{strong.text_key!r}: give both the same `text_key=`."
            )
        self.concurrency = classifier._concurrency
        self._classifier = classifier

    @override
    async def aprepare(self) -> Ready:
        answering = await self._classifier._aprepare()
        classifier = self._classifier
        if not await classifier._atells_confidence():
            raise ConfigurationError(f"The cheap classifier generates text and {_UNTOLD}")

        async def answer(prompt: Prompt, callbacks: Callbacks) -> Classification:
            answer: Classification = await answering.answer(prompt, callbacks)
            # Generated text may come without it now and then.
            if answer.label is not None and answer.confidence is None and answer.method is Method.CONSTRAIN:
                raise ConfigurationError(f"The cheap classifier's server shows no probabilities, so that it {_UNTOLD}")
            return answer

        return Ready(lambda row, _: answering.render(row), answer, answering.announce)

    @override
    async def akeys(self) -> Keys | None:
        return await self._classifier._akeys()


class _TextStage(Stage):
    """What gets the text alone."""

    @override
    async def aprepare(self) -> Ready:
        return Ready(lambda _, text: Prompt(text=text), self._try)

    async def _try(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        try:
            return await self.answer(prompt, callbacks)
        except StormtrooperError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a user's code raises
            kind = type(error).__name__
        # Out here: raised up there, ours would have theirs as its context, which may quote the text.
        raise StageFailedError(kind)

    @abstractmethod
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """The answer to a text."""


class _EstimatorStage(_TextStage):
    """A fitted estimator of scikit-learn's kind; asked text by text, so that no row depends on another's."""

    concurrency = 1

    def __init__(self, estimator: Any, labels: LabelSet) -> None:
        known = [name_of(name, labels.names) for name in estimator.classes_]
        strange = [str(name) for name, label in zip(estimator.classes_, known, strict=True) if label not in labels]
        if strange:
            raise ConfigurationError(
                f"The cheap estimator knows {strange[0]!r}, which is no label of the strong classifier: fit it to the "
                "same labels."
            )
        self._estimator = estimator
        self._classes = [str(label) for label in known]
        self._labels = labels

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        # In a thread: requests to the strong one go on meanwhile.
        shares = await asyncio.to_thread(self._predict, prompt.text)
        if len(shares) != len(self._classes) or not all(0 <= share <= 1 + 1e-6 for share in shares):
            raise ConfigurationError("The cheap estimator's predict_proba does not give one probability a class.")
        by_label = dict.fromkeys(self._labels.names, 0.0) | dict(zip(self._classes, shares, strict=True))
        best = max(by_label, key=by_label.__getitem__)
        return Classification(label=best, confidence=min(1.0, by_label[best]), probabilities=by_label)

    def _predict(self, text: str) -> Sequence[float]:
        return [float(share) for share in self._estimator.predict_proba([text])[0]]

    @override
    def learnt(self) -> Sequence[object]:
        found: list[object] = []
        parts: deque[object] = deque([self._estimator])
        seen: set[int] = set()
        while parts:
            part = parts.popleft()
            if id(part) in seen:
                continue
            seen.add(id(part))
            values = part if isinstance(part, list | tuple) else list(getattr(part, "__dict__", {}).values())
            found.extend(values)
            # Steps of pipelines are pairs in a list; a vocabulary is long, and holds no estimator.
            parts.extend(
                value
                for value in values
                if hasattr(value, "fit") or (isinstance(value, list | tuple) and len(value) <= _PARTS_AT_MOST)
            )
        return found

    @override
    async def akeys(self) -> Keys | None:
        try:
            import joblib  # type: ignore[import-untyped]

            # Not SHA-256, which it does not offer; nobody gains from a collision with their own estimator.
            known = await asyncio.to_thread(joblib.hash, self._estimator, hash_name="sha1")
        except Exception:  # noqa: BLE001  # whatever keeps it from being pickled
            return None
        return f"{type(self._estimator).__qualname__} {known}", _text_bytes


class _RunnableStage(_TextStage):
    """A Runnable from a text to a `Classification`."""

    concurrency = _AT_ONCE

    def __init__(self, runnable: Runnable[Any, Any], labels: LabelSet) -> None:
        self._runnable = runnable
        self._labels = labels

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        answer = await self._runnable.ainvoke(prompt.text, {"callbacks": callbacks})
        if not isinstance(answer, Classification):
            raise ConfigurationError(
                f"The cheap stage must return a Classification for a text, not a {type(answer).__name__}."
            )
        if answer.label is not None and (answer.label not in self._labels or answer.confidence is None):
            raise ConfigurationError(
                "A Classification of the cheap stage needs one of the strong classifier's labels and a `confidence`."
            )
        return answer

    @override
    async def akeys(self) -> Keys | None:
        return None


def _text_bytes(prompt: Prompt) -> bytes:
    return prompt.text.encode("utf-8", "surrogatepass")
