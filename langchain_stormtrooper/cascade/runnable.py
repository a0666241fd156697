"""`Cascade`: rows that a cheap classifier is sure of stay with it, the others go to a strong one.

A Runnable like the classifiers, on the same machinery (`row_classifier`, `rows`). What may be cheap is `stages`'
business, how a row goes through is `answering`'s, what a threshold rests on is `evidence`'s and `learning`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import partial
from operator import is_not
from typing import Any, NoReturn, Self

from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.cascade import learning
from langchain_stormtrooper.cascade.answering import CascadeAnswering, StagePrompts
from langchain_stormtrooper.cascade.evidence import CascadeEvidence
from langchain_stormtrooper.cascade.stages import Stage, as_classifier, stage_of
from langchain_stormtrooper.drawing import Graph, cascade_graph
from langchain_stormtrooper.errors import CalibrationError, ConfigurationError
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.learnt import Learnt
from langchain_stormtrooper.mishaps import Mishaps
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.row_classifier import Keys, RowClassifier
from langchain_stormtrooper.rows import RowAnswering, RowInput, RowRunnable
from langchain_stormtrooper.tasks import Once


class Cascade(RowClassifier):
    """Asks a cheap classifier first, and a strong one about the rows that the cheap one is not sure of.

    A Runnable from a text (or a dict that holds it) to one of the labels, like the classifiers; `with_details()` says
    in `stage` who answered: 0 is the cheap one. It has to be calibrated first: `calibrate` finds the confidence from
    which on answers of the cheap one may stay, so that at most a share `target_error` of them is wrong. A row that the
    cheap one has no label for (failed, overlong, not sure), or raises for, goes to the strong one. A cheap server that
    is down, or refuses the key, is an error, as everything would go to the strong one; so is a function or an estimator
    that raises for each of the first eight rows.

    Args:
        cheap: What is asked first: a classifier; another cascade; a fitted scikit-learn estimator that takes texts and
            has `predict_proba`, which is asked text by text in a thread; or a Runnable or function from a text to a
            `Classification` with `label` and `confidence`.
        strong: The classifier that answers the rest, with the same labels; may be a cascade.
        target_error: The share of the rows that stay that may be wrong, such as 0.05.
        confidence: How sure that is to be, over the texts that `calibrate` might have been given.
        threshold: The confidence from which on answers stay, set by hand and with nothing promised.
        evidence: What `calibrate` has learnt, for one that was saved; refused with a `CalibrationError` before the
            first row if a stage is another now.

    Attributes:
        stages: What answers, from cheap to strong; those of cascades within it one by one.

    Raises:
        ConfigurationError: The arguments do not go together.

    Examples:
        >>> from langchain_stormtrooper import Cascade, LlamaCpp, ZeroShotClassifier
        >>> cheap = ZeroShotClassifier(["politics", "science"], llm=LlamaCpp())
        >>> strong = ZeroShotClassifier(["politics", "science"])  # a TGI server
        >>> cascade = Cascade(cheap, strong, threshold=1.0)  # or target_error=0.05, and .calibrate(texts, labels)
        >>> answer = cascade.with_details().invoke("The senate votes today.")
        >>> answer.label, answer.stage
        ('politics', 1)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    cheap: Any
    strong: InstanceOf[RowClassifier]
    target_error: float | None = Field(default=None, gt=0, lt=1)
    confidence: float = Field(default=0.95, gt=0, lt=1)
    threshold: float | None = Field(default=None, ge=0, le=1)
    evidence: CascadeEvidence | None = Field(default=None, repr=False)

    _checked: Once[None] = PrivateAttr(default_factory=Once)
    _learnt: Sequence[object] = PrivateAttr(default=())
    _mishaps: Mishaps = PrivateAttr(default_factory=Mishaps)

    def __init__(self, cheap: Any, strong: Any, **kwargs: Any) -> None:
        cheap, strong = as_classifier(cheap), as_classifier(strong)
        if not isinstance(strong, RowClassifier):
            raise ConfigurationError(
                f"`strong` must be a ZeroShotClassifier, FewShotClassifier or Cascade, not a {type(strong).__name__}."
            )
        stage_of(cheap, strong)
        with checked(type(self).__name__, type(self).model_fields):
            if kwargs.get("evidence") is not None:
                evidence = CascadeEvidence.model_validate(kwargs["evidence"])
                promised = {"target_error": evidence.target_error, "confidence": evidence.confidence}
                kwargs = {**promised, **kwargs, "evidence": evidence}
            super().__init__(cheap=cheap, strong=strong, **kwargs)
        if self.evidence is None:
            return
        if self.threshold is not None:
            raise ConfigurationError(
                "`threshold=` and `evidence=` both say which rows stay: give one (evidence=None with a threshold)."
            )
        if (self.target_error, self.confidence) != (self.evidence.target_error, self.evidence.confidence):
            raise ConfigurationError(
                f"The evidence is for target_error={self.evidence.target_error:g} with a confidence of "
                f"{self.evidence.confidence:g}: calibrate again for another promise, or leave them out."
            )

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._checked, copied._learnt, copied._mishaps = Once(), (), Mishaps()
        return copied

    @property
    def stages(self) -> tuple[Any, ...]:
        """What answers, from cheap to strong."""
        return tuple(
            stage
            for part in (self.cheap, self.strong)
            for stage in (part.stages if isinstance(part, Cascade) else (part,))
        )

    @property
    @override
    def labels(self) -> LabelSet:
        """The strong classifier's."""
        return self.strong.labels

    @property
    @override
    def _option(self) -> str | None:
        return self.strong._option

    @property
    @override
    def text_key(self) -> str:
        """The strong classifier's, and the cheap one's."""
        return self.strong.text_key

    @property
    @override
    def text_kind(self) -> str:
        """The strong classifier's."""
        return self.strong.text_kind

    @property
    @override
    def label_kind(self) -> str:
        """The strong classifier's."""
        return self.strong.label_kind

    @override
    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """As pydantic shows it, with the evidence in short in the place of a threshold."""
        known = self.evidence
        for name, value in super().__repr_args__():
            if name != "threshold" or known is None:
                yield name, value
        if known is not None:
            kept = f"{known.kept} of {known.texts} stay, {known.errors} of them wrong"
            yield "evidence", f"from {known.threshold:.4g} on: {kept}"

    def as_estimator(self) -> NoReturn:
        """Not there: a cascade does not learn from labelled texts as `fit` is to.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "A cascade is no estimator, since `calibrate` learns a threshold and no labels: use `as_estimator` on one "
            "of its `stages`."
        )

    async def acalibrate(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None] | None = None,
        *,
        target_error: float | None = None,
        confidence: float | None = None,
    ) -> Self:
        """A cascade that knows which rows may stay with the cheap stage; this one stays as it is.

        Learnt is the lowest threshold for which the promise holds (fixed-sequence testing with exact binomial tests):
        with a probability of at least `confidence` over the draw of these texts, at most a share `target_error` of all
        further rows that stay is wrong. The texts have to be drawn like the rows to come, and the cheap stage must not
        have learnt from them. What was seen is in `evidence`.

        Args:
            texts: Texts of the task, or dicts that hold them; at least 59 for an error of 5 %, some hundreds for more
                rows to stay.
            labels: The right label of each text. With them, "wrong" is what differs from these, and only the cheap
                stage is asked. Without, both are asked, and "wrong" is what differs from the strong one's answer, be
                it right or not. None is for a text that no label fits: whatever label stays is wrong.
            target_error: Another than the cascade's.
            confidence: Another than the cascade's.

        Raises:
            ConfigurationError: The arguments do not go together, or the cheap stage gives no confidences.
            LabelError: A label is not one of the cascade's.
            ServerError: Something is wrong for every row.
        """
        return self._having((await self._alearn(texts, labels, target_error, confidence)).warn())

    def calibrate(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None] | None = None,
        *,
        target_error: float | None = None,
        confidence: float | None = None,
    ) -> Self:
        """Like `acalibrate`."""
        return self._having(bridge.run(partial(self._alearn, texts, labels, target_error, confidence)).warn())

    async def _alearn(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None] | None,
        target_error: float | None,
        confidence: float | None,
    ) -> Learnt[CascadeEvidence]:
        target_error = self.target_error if target_error is None else target_error
        confidence = self.confidence if confidence is None else confidence
        return await learning.learn(self, texts, labels, target_error=target_error, confidence=confidence)

    def _having(self, evidence: CascadeEvidence) -> Self:
        promised = {"target_error": evidence.target_error, "confidence": evidence.confidence}
        return self.model_copy(update={"threshold": None, "evidence": evidence, **promised})

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """The evidence as plain data, since LangChain serialises no other."""
        return {} if self.evidence is None else {"evidence": self.evidence.model_dump(mode="json")}

    @property
    def _stage(self) -> Stage:
        return stage_of(self.cheap, self.strong)

    @property
    def _cut(self) -> float:
        """From which confidence on rows stay.

        Raises:
            ConfigurationError: That is not known yet.
        """
        if self.evidence is not None:
            return self.evidence.threshold
        if self.threshold is None:
            raise ConfigurationError(
                "It is not known yet which rows may stay with the cheap stage: call `calibrate` with texts first, or "
                "set `threshold=`, of which nothing is promised."
            )
        return self.threshold

    @override
    async def _aprepare(self) -> RowAnswering:
        cut = self._cut
        if self.evidence is not None:
            learnt = self._stage.learnt()
            if len(learnt) != len(self._learnt) or any(map(is_not, learnt, self._learnt)):
                # An estimator that was fitted again is the same object.
                self._checked, self._learnt = Once(), learnt
            await self._checked.get(self._acheck)
        answering = await self._aarrange(cut)
        return RowAnswering(answering.render, answering.answer, answering.announce)

    async def _aarrange(self, cut: float) -> CascadeAnswering:
        stage = self._stage
        return CascadeAnswering(
            await stage.aprepare(),
            await self.strong._aprepare(),
            cut,
            first=stage.concurrency,
            second=self.strong._concurrency,
            before=len(self.cheap.stages) if isinstance(self.cheap, Cascade) else 1,
            mishaps=self._mishaps,
        )

    async def _acheck(self) -> None:
        """Refuse evidence of other stages."""
        if self.evidence is None:
            return
        for name, known, now in zip(
            ("cheap", "strong"), (self.evidence.cheap, self.evidence.strong), await self._atells(), strict=True
        ):
            if None not in (known, now) and known != now:
                raise CalibrationError(
                    f"The evidence is of another {name} stage than this one (another prompt, model, setting, or "
                    "another fit): calibrate again."
                )

    async def _atells(self) -> tuple[str | None, str | None]:
        """Hashes of both stages, as `CascadeEvidence` has them."""
        cheap, strong = await self._stage.akeys(), await self.strong._akeys()
        return (None if cheap is None else _digest(cheap[0])), (None if strong is None else _digest(strong[0]))

    @override
    async def _akeys(self) -> Keys | None:
        cheap, strong = await self._stage.akeys(), await self.strong._akeys()
        if cheap is None or strong is None:
            return None
        (cheap_task, cheap_row), (strong_task, strong_row) = cheap, strong

        def row_key(prompt: Prompt) -> bytes:
            assert isinstance(prompt, StagePrompts)  # noqa: S101  # from this cascade's own `render`
            first = b"" if prompt.cheap is None else cheap_row(prompt.cheap)
            return b"%d:%b%b" % (len(first), first, strong_row(prompt.strong))

        return _digest(["cascade", cheap_task, strong_task, self._cut]), row_key

    @override
    def _graph_of(self, runnable: RowRunnable[Any], config: RunnableConfig | None) -> Graph:
        return cascade_graph(runnable, self.cheap, self.strong, config)

    @property
    @override
    def _concurrency(self) -> int:
        return self._stage.concurrency + self.strong._concurrency


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()
