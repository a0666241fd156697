"""Learning a calibration: a classifier is asked about texts, and what its answers tell becomes a `Calibration`.

Without labels, the prior of batch calibration; with labels, what `calibration.fit` finds, and a threshold where an
error target is given. What cannot be meant is refused before the model is asked anything. The arithmetic is
`calibration`'s; `classifiers` is the only caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_stormtrooper.calibration import (
    DECIDES_NOTHING,
    Calibration,
    Threshold,
    check_promise,
    choose_threshold,
    divide_by_prior,
    fewest_texts,
    fit,
    mean_distribution,
    one_sided,
    prior_beside_option,
    require_packages,
)
from langchain_stormtrooper.calibration.priors import FLOOR
from langchain_stormtrooper.errors import CalibrationWarning, ConfigurationError, PromptError
from langchain_stormtrooper.labelled import read_items, read_scoped
from langchain_stormtrooper.learnt import Learnt, left_out, rendered
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.tasks import run_all

if TYPE_CHECKING:
    from langchain_stormtrooper.answering import Answering
    from langchain_stormtrooper.classifiers import TextClassifier
    from langchain_stormtrooper.prompts import Prompt
    from langchain_stormtrooper.rows import RowInput

C = TypeVar("C", bound="TextClassifier")

AS_THEY_ARE = {"calibration": None, "prior": None, "min_confidence": None, "min_margin": None, "min_covered_mass": None}
"""Settings of a classifier that answers with the model's own probabilities, which a calibration starts from."""

_SHOWN = 5
_ONE_LABEL = "{} have the same label: add texts of the others, or pass no labels."


async def learn(
    classifier: TextClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None] | None,
    *,
    target_error: float | None,
    confidence: float,
) -> Learnt[Calibration]:
    """Ask a classifier about texts, and learn from its answers; arguments and errors as in `acalibrate`."""
    check_promise(0.5 if target_error is None else target_error, confidence)
    if target_error is not None and labels is None:
        raise ConfigurationError("`target_error=` needs labelled texts: pass `labels`, one for each text.")
    if classifier.shortlist is not None:
        raise ConfigurationError(
            "Calibrating needs the probability of every label, and a shortlist leaves some out, whether or not its "
            "recall is known: calibrate without `shortlist=`."
        )
    names, option = classifier._choices.names, classifier._option
    if labels is None:
        rows = read_items("texts", texts)
        if not rows:
            raise ConfigurationError("There is nothing to calibrate on: `texts` is empty.")
        truths = None
    else:
        require_packages()
        rows, right = read_scoped(texts, labels, classifier.labels, purpose="calibrate", option=option)
        # Without the option, what answers to texts of no label should be cannot be fitted.
        truths = [names.index(label or option) if label or option else None for label in right]
        if len(set(truths) - {None}) < 2:
            raise ConfigurationError(_ONE_LABEL.format("All texts"))
    asking = await _Asking.of(classifier)
    remarks: list[str] = []
    scored = await asking.scores(asking.render(rows), remarks)
    kept = [probabilities for probabilities in scored if probabilities is not None]
    task = asking.arranged.fingerprint(names)
    if truths is None:
        await asking.remark_sides(kept, remarks)
        prior = asking.lean(kept)
        calibration = Calibration(
            labels=names, task=task, model_id=asking.model_id, kind="prior", prior=_positive(prior)
        )
        return Learnt(calibration, tuple(remarks))
    pairs = [(row, truth) for row, truth in zip(scored, truths, strict=True) if row is not None]
    fitting = [(row, truth) for row, truth in pairs if truth is not None]
    beside = [row for row, truth in pairs if truth is None]
    if len({truth for _, truth in fitting}) < 2:
        raise ConfigurationError(_ONE_LABEL.format(f"{' '.join(remarks)} All others"))
    fitted_truths = [truth for _, truth in fitting]
    _remark_absent(names, fitted_truths, remarks)
    fitted = fit([row for row, _ in fitting], fitted_truths, prior=asking.known_prior(classifier.calibration, task))
    calibration = fitted.calibration(names, task, asking.model_id)
    if target_error is not None:
        # Texts of no label have had no part in the fit, so that it is to them as to any text that is still to come.
        judged = [
            *zip(fitted.out_of_fold, fitted_truths, strict=True),
            *((calibration.apply(row), None) for row in beside),
        ]
        calibration = calibration.model_copy(
            update={"threshold": _threshold(judged, target_error, confidence, remarks)}
        )
    elif beside:
        remarks.append(
            f"{len(beside)} of {len(pairs)} texts have no label and were left out of the calibration: a threshold "
            "learns from them (`target_error=`), and so does a classifier with an option for them (`out_of_scope=`)."
        )
    return Learnt(calibration, tuple(remarks))


class _Asking:
    """A classifier that answers with the model's own probabilities."""

    def __init__(self, raw: TextClassifier, arranged: Answering, model_id: str | None) -> None:
        self.arranged = arranged
        self.model_id = model_id
        self._raw = raw

    @classmethod
    async def of(cls, classifier: TextClassifier) -> _Asking:
        """The classifier without what would change probabilities or keep them back."""
        raw = classifier.model_copy(update=AS_THEY_ARE)
        arranged = await raw._aarranged()
        if arranged.method is Method.GENERATE:
            raise ConfigurationError(
                f"Calibrating needs probabilities, and method={raw.method!r} generates text with this LLM: set "
                "method='score'."
            )
        assert isinstance(raw.llm, SelfHostedLLM)  # noqa: S101  # others only generate
        return cls(raw, arranged.for_call(), await raw.llm.amodel_id())

    def render(self, rows: Sequence[RowInput]) -> list[Prompt | PromptError]:
        """The prompt of each row, or why it has none."""
        return rendered(partial(self._raw._render, self.arranged), rows)

    async def scores(
        self, prompts: Sequence[Prompt | PromptError], remarks: list[str]
    ) -> list[tuple[float, ...] | None]:
        """The labels' probabilities for each prompt, None where there are none; equal prompts share one request."""
        distinct = list(dict.fromkeys(prompt for prompt in prompts if not isinstance(prompt, PromptError)))
        self.arranged.announce(distinct)
        answers = await run_all(
            lambda prompt: self._raw._aanswer(self.arranged, prompt, None), distinct, self._raw._concurrency
        )
        by_prompt = dict(zip(distinct, answers, strict=True))
        rows = [
            Classification(reason=Reason.FAILED, error=str(prompt))
            if isinstance(prompt, PromptError)
            else by_prompt[prompt]
            for prompt in prompts
        ]
        without = {
            number: row.reason or "no probabilities"
            for number, row in enumerate(rows)
            if row.probabilities is None or row.reason not in (None, Reason.OUT_OF_SCOPE)
        }
        if len(without) == len(rows):
            reasons = Counter(row.reason or "no probabilities" for row in rows)
            error = next(
                (f": {row.error.rstrip('.')}" for row in rows if row.reason is Reason.FAILED and row.error), ""
            )
            raise ConfigurationError(
                f"None of the {len(rows)} texts got a probability for every label "
                f"({', '.join(f'{count} {reason}' for reason, count in reasons.items())}{error}): there is nothing to "
                "calibrate with; pass other texts, or set method='score'."
            )
        if without:
            remarks.append(left_out(without, len(rows), "no probabilities"))
        return [None if number in without else _all(row) for number, row in enumerate(rows)]

    async def remark_sides(self, scored: Sequence[tuple[float, ...]], remarks: list[str]) -> None:
        """Say so if the texts look as if most were of one label."""
        prompts = self.arranged.neutral_prompts("words")
        lean = self.lean([row for row in await self.scores(prompts, []) if row is not None])
        corrected = [divide_by_prior(row, lean) for row in scored]
        predicted = [max(range(len(row)), key=row.__getitem__) for row in corrected]
        names = self._raw._choices.names
        if one_sided(predicted, len(names)):
            most, count = Counter(predicted).most_common(1)[0]
            remarks.append(
                f"The model takes {count / len(predicted):.0%} of the texts for {names[most]!r}. If most of them are, "
                "this calibration takes the label away from them: calibrate with texts that have about as many of each "
                "label, or with labelled ones. If they are mixed, it is the model that leans, and all is well."
            )

    def lean(self, scored: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """What the answers to texts have in common."""
        mean = mean_distribution(scored)
        return mean if self._raw.out_of_scope is None else prior_beside_option(mean)

    def known_prior(self, calibration: Calibration | None, task: str) -> Sequence[float] | None:
        """The prior that unlabelled texts of this task have taught before, to start from."""
        if calibration is None or (calibration.task, calibration.model_id) != (task, self.model_id):
            return None
        return calibration.prior


def _all(answer: Classification) -> tuple[float, ...]:
    """The probabilities of all that the model chose from."""
    option = () if answer.out_of_scope is None else (answer.out_of_scope,)
    return (*(answer.probabilities or {}).values(), *option)


def _positive(prior: Sequence[float]) -> tuple[float, ...]:
    return tuple(max(value, FLOOR) for value in prior)


def _remark_absent(names: Sequence[str], truths: Sequence[int], remarks: list[str]) -> None:
    absent = [repr(name) for index, name in enumerate(names) if index not in set(truths)]
    if absent:
        shown = ", ".join(absent[:_SHOWN]) + (", …" if len(absent) > _SHOWN else "")
        remarks.append(
            f"{len(absent)} of {len(names)} labels have no text ({shown}) and become unlikely: add texts of "
            f"{'it' if len(absent) == 1 else 'them'} if such texts are to come."
        )


def _threshold(
    judged: Sequence[tuple[Sequence[float], int | None]], target_error: float, confidence: float, remarks: list[str]
) -> Threshold:
    """The threshold on probabilities that fits have not seen, each with what is right; with None, nothing is."""
    confidences = [min(1.0, max(row)) for row, _ in judged]
    right = [max(range(len(row)), key=row.__getitem__) == truth for row, truth in judged]
    threshold = choose_threshold(confidences, right, target_error, confidence)
    if threshold.min_confidence == DECIDES_NOTHING:
        fewest = fewest_texts(target_error, confidence)
        remarks.append(
            f"No threshold keeps the error under {target_error:.3g} with a confidence of {confidence:.3g}, so that no "
            f"row will get a label: that takes at least {fewest} labelled texts that the model is sure about and "
            f"right, and there are {len(judged)} in all; give more, or a higher `target_error=`."
        )
    return threshold


def reorder(calibration: Calibration, labels: Sequence[str], task: str) -> Calibration:
    """The same map for the same labels in another order.

    Args:
        calibration: The calibration.
        labels: Its labels, in another order.
        task: The fingerprint of the task in that order.
    """
    order = [calibration.labels.index(label) for label in labels]

    def turn(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
        return None if values is None else tuple(values[index] for index in order)

    weights = turn(calibration.weights)
    report = calibration.report
    return calibration.model_copy(
        update={
            "labels": tuple(labels),
            "task": task,
            "prior": turn(calibration.prior),
            "bias": turn(calibration.bias),
            "weights": None if weights is None else tuple(turn(row) for row in weights),
            "report": report and report.model_copy(update={"per_class": turn(report.per_class)}),
        }
    )


def without_learnt(classifier: C, changed: str) -> C:
    """A classifier as one of another task can start from it: with a warning, without what was learnt for its own.

    Args:
        classifier: The classifier.
        changed: What is to be other than it was, such as "labels".
    """
    shortlist = classifier.shortlist
    if shortlist is not None and shortlist.recall is not None:
        warn_caller(
            CalibrationWarning,
            f"The recall of the shortlist was measured with other {changed}, and is left behind: measure the new "
            "classifier's.",
        )
        return classifier.model_copy(update={"shortlist": shortlist.model_copy(update={"recall": None})})
    if classifier.calibration is None:
        return classifier
    warn_caller(
        CalibrationWarning,
        f"The calibration was learnt with other {changed}, and is left behind: calibrate the new classifier.",
    )
    return classifier.model_copy(update={"calibration": None})
