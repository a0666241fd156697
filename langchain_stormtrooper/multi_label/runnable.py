"""`MultiLabelClassifier`: a Runnable from a text to those of the labels that apply, which may be none.

On the same machinery as the other classifiers (`rows`). How a label is asked about is `asking`'s business, or `once`'s
where all are asked about together; what a threshold rests on is `thresholds`' and `learning`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self, cast

from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseLanguageModel
from langchain_core.prompts import StringPromptTemplate
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, InstanceOf, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.answering import Demands
from langchain_stormtrooper.answering.score import total
from langchain_stormtrooper.answering.settings import PresetName
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.calibration import PriorName
from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.drawing import Graph, classifier_graph
from langchain_stormtrooper.errors import (
    CalibrationError,
    ConfigurationError,
    LabelError,
    OverlongInputError,
    RequestFailedError,
)
from langchain_stormtrooper.labels import LabelSet, LabelSpec
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.multi_label import learning, once
from langchain_stormtrooper.multi_label.asking import Questions, Room, arrange, question_prompt
from langchain_stormtrooper.multi_label.thresholds import Average, MultiLabelEvidence
from langchain_stormtrooper.parts import check_llm, read_prompt
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Method, MultiLabelClassification, Reason
from langchain_stormtrooper.row_calls import text_of
from langchain_stormtrooper.rows import RowAnswering, RowInput, RowRunnable
from langchain_stormtrooper.settable import Settable
from langchain_stormtrooper.tasks import Once

if TYPE_CHECKING:
    from langchain_stormtrooper.multi_label.detailed import DetailedMultiLabelClassifier

_SHARES = 2.0
"""From how many even shares of the probability on a label applies where all are asked about at once."""

_NO_STREAM = (
    "A MultiLabelClassifier has no streams and takes no files, whose ledger keeps one label a row: use "
    "`batch_as_completed`, or `batch` for some thousands of rows at a time."
)


class MultiLabelClassifier(Settable[list[str] | None]):
    """Finds out which of the labels apply to a text: all, some or none of them.

    A Runnable from a text (or a dict that holds it) to the list of its labels, in the order given, or to None with a
    warning where no answer could be had. An empty list is an answer: no label applies. Each label is a yes/no question
    with a probability of its own, and applies from its threshold on. A row takes a request for each label (see
    `asking` on what these share), or with `ask="once"` one for all labels; `max_concurrency` counts requests, whosever
    rows they belong to. Sync methods work inside a running event loop too.

    Args:
        labels: As in `ZeroShotClassifier`. Descriptions are shown with the label's question.
        llm: What scores yes and no: `TextGenerationInference` (default), `OpenAICompletions` or `LlamaCpp`.
        ask: "each" asks whether a label applies, yes or no, for each label. "once" asks which of all labels it is, and
            takes how probable each is as the only one: a row costs what it costs with a `ZeroShotClassifier` and
            `method="score"`, whatever the number of labels. These probabilities sum to 1, so that labels which apply
            together share what one would have: calibrate before you use them. It is the better way with many labels,
            and with small models, which tell labels apart but have no sense of yes and no; "each" with larger ones, and
            where several labels at a time are usual.
        prompt: For "each": a template with `{text}` and, after it, `{label}` or `{description}` (the label itself where
            it has none), to be answered with "yes" or "no"; also `{labels}` (all of them), `{text_kind}`,
            `{label_kind}`, and further variables, taken from dict inputs. For "once": as in `ZeroShotClassifier`.
            Default: a question in the form that suits the model.
        prior: As in `ZeroShotClassifier`; for "each", measured for each label's question: "words" takes eight requests
            a label, once. Thresholds that are fitted to texts need it less: None saves it.
        threshold: The probability from which on a label applies, where `thresholds` says nothing else. Default: 0.5 for
            "each". For "once", twice an even share, 2 / number of labels, and at most 0.5.
        thresholds: That of some labels, by name, set by hand.
        evidence: What `calibrate` has learnt, with a threshold for each label, for one that was saved; refused with a
            `CalibrationError` before the first row if labels, prompt, prior or model are others.
        min_covered_mass: The share of the model's probability that must fall on the answers of a question (yes and no;
            for "once", the labels). A row one of whose questions has less is None with an `UnmatchedLabelWarning`.
            Without it, only one is where nothing at all of what the server tells falls on them. Where a grammar keeps
            the model to the answers (`LlamaCpp`, and TGI by default), that share is not known: no row is None for it,
            and a demand is a `ConfigurationError`. `calibrate` learns from all texts, whatever their share.
        on_overlong: "none" (None with a warning), "truncate" (the text is cut to what fits) or "raise".
        text_key: The key that holds the text in dict inputs.
        text_kind: What the texts are, such as "review".
        label_kind: What the labels are, such as "emotion".

    Raises:
        ConfigurationError: An argument is wrong, or the LLM does not tell probabilities.
        LabelError: The labels make no classification, or `thresholds` has others.
        PromptError: The template lacks a variable.

    Examples:
        >>> from langchain_stormtrooper import LlamaCpp, MultiLabelClassifier
        >>> classifier = MultiLabelClassifier(["joy", "anger"], llm=LlamaCpp(), label_kind="emotion", ask="once")
        >>> answer = classifier.with_details().invoke("What a wonderful day!")
        >>> list(answer.probabilities)
        ['joy', 'anger']
        >>> answer.labels == [name for name, p in answer.probabilities.items() if p >= 0.5]
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    _open_output_type: ClassVar[Any] = list[str] | None

    labels: LabelSet
    llm: InstanceOf[BaseLanguageModel[Any]] = Field(default_factory=TextGenerationInference)
    ask: Literal["each", "once"] = "each"
    prompt: StringPromptTemplate | PresetName | None = None
    prior: PriorName | None = "words"
    threshold: float | None = Field(default=None, ge=0, le=1)
    thresholds: dict[str, float] | None = None
    evidence: MultiLabelEvidence | None = Field(default=None, repr=False)
    min_covered_mass: float | None = Field(default=None, ge=0, le=1)
    on_overlong: Literal["none", "truncate", "raise"] = "none"
    text_key: str = "text"
    text_kind: str = Field(default="text", min_length=1)
    label_kind: str = Field(default="label", min_length=1)

    _deciding: ClassVar[frozenset[str]] = frozenset(
        {"threshold", "thresholds", "evidence", "min_covered_mass", "on_overlong", "text_key"}
    )
    _questions: Once[Questions] = PrivateAttr(default_factory=Once)
    _checked: Once[None] = PrivateAttr(default_factory=Once)
    _basis: MultiLabelClassifier | None = PrivateAttr(default=None)

    def __init__(self, labels: LabelSpec, **kwargs: Any) -> None:
        # Read here, labels raise their own error; inside pydantic it would be wrapped in a ValidationError.
        labels = LabelSet.of(labels)
        if "prompt" in kwargs:
            kwargs["prompt"] = read_prompt(kwargs["prompt"])
        check_llm(kwargs.get("llm"))
        with checked(type(self).__name__, type(self).model_fields):
            super().__init__(labels=labels, **kwargs)
        if not isinstance(self.llm, SelfHostedLLM):
            raise ConfigurationError(
                f"A MultiLabelClassifier needs the probability of yes and no, which {type(self.llm).__name__} does not "
                "tell: use TextGenerationInference, OpenAICompletions or LlamaCpp."
            )
        self._check_thresholds()
        # What is wrong with a template is known now: do not wait for the first row.
        if self.ask == "once":
            self._single()
        elif self._template is not None:
            kinds = {"text_kind": self.text_kind, "label_kind": self.label_kind}
            question_prompt(self._template, labels.labels[0], labels, **kinds)

    @property
    def _template(self) -> StringPromptTemplate | None:
        """The template of a label's question; None for one that suits the model."""
        if isinstance(self.prompt, str):
            raise ConfigurationError(
                f"prompt={self.prompt!r} asks which of the labels it is, and ask='each' whether one applies: set "
                "ask='once', or give a template with {text} and {label}."
            )
        return self.prompt

    def _check_thresholds(self) -> None:
        for label, threshold in (self.thresholds or {}).items():
            if label not in self.labels:
                raise LabelError(f"`thresholds` has {label!r}, which is not one of the labels: spell it as there.")
            if not 0 <= threshold <= 1:
                raise ConfigurationError(f"The threshold of {label!r} must be from 0 to 1, not {threshold!r}.")
        if self.evidence is None:
            return
        if self.thresholds is not None or self.threshold is not None:
            raise ConfigurationError(
                "`evidence=` has a threshold for each label: give evidence=None along with `threshold=` or "
                "`thresholds=`, or leave these out."
            )
        if tuple(self.evidence.thresholds) != self.labels.names:
            raise CalibrationError("The evidence is of other labels than these: calibrate again.")

    def __copy__(self) -> Self:
        copied = super().__copy__()
        # What was learnt from the server belongs to the settings that the copy may be about to change.
        copied._questions, copied._checked, copied._basis = Once(), Once(), None
        return copied

    def with_details(self) -> DetailedMultiLabelClassifier:
        """This classifier, returning a `MultiLabelClassification` per row instead of a list or None."""
        from langchain_stormtrooper.multi_label.detailed import DetailedMultiLabelClassifier

        return DetailedMultiLabelClassifier(classifier=self)

    async def acalibrate(
        self,
        texts: Iterable[RowInput],
        label_lists: Iterable[Iterable[str | Enum]],
        *,
        average: Average = "macro",
    ) -> Self:
        """A classifier with a threshold for each label, fitted to texts of the task; this one stays as it is.

        They are those with the highest F1 on these texts, where the rarer a label is, the more it follows what all
        labels have in common (see `thresholds` for the method and its sources). A label that none of the texts has
        applies only where it is more probable than in any of them. What was learnt is in `evidence`, and takes the
        place of thresholds set by hand. How often labels occur is taken for how often they will.

        Args:
            texts: Texts of the task, or dicts that hold them; some hundreds, drawn like those to come.
            label_lists: The labels of each text, all that apply; perhaps none.
            average: Whose F1 is to be high: each label's own, so that rare labels count as much as frequent ones
                ("macro"), or that of all decisions together ("micro"), which leaves labels out that the model cannot
                tell.

        Raises:
            ConfigurationError: The arguments do not go together, or no text has a label or got an answer.
            LabelError: A label is not one of the classifier's.
            ServerError: Something is wrong for every row.
        """
        return self._having((await learning.learn(self, texts, label_lists, average)).warn())

    def calibrate(
        self,
        texts: Iterable[RowInput],
        label_lists: Iterable[Iterable[str | Enum]],
        *,
        average: Average = "macro",
    ) -> Self:
        """Like `acalibrate`."""
        return self._having(bridge.run(partial(learning.learn, self, texts, label_lists, average)).warn())

    def _having(self, evidence: MultiLabelEvidence) -> Self:
        return self._varied({"evidence": evidence, "threshold": None, "thresholds": None})

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """Labels and evidence as plain data, since LangChain serialises no other."""
        learnt = {} if self.evidence is None else {"evidence": self.evidence.model_dump(mode="json")}
        return {"labels": self.labels.to_list(), **learnt}

    @override
    def _learn_with(self, other: Self) -> None:
        self._basis = other

    @property
    def _scorer(self) -> SelfHostedLLM:
        return cast("SelfHostedLLM", self.llm)  # the constructor has seen to it

    async def _aquestions(self) -> Questions:
        """The questions; learnt by the first of those that ask alike."""
        if self._basis is not None:
            return await self._basis._aquestions()
        return await self._questions.get(self._aarrange)

    async def _aarrange(self) -> Questions:
        if self.ask == "once":
            return await once.arrange(self._single())
        kinds = {"text_kind": self.text_kind, "label_kind": self.label_kind}
        return await arrange(self.labels, self._scorer, self._template, self.prior, **kinds)

    def _single(self) -> ZeroShotClassifier:
        kinds = {"text_kind": self.text_kind, "label_kind": self.label_kind}
        return once.single(self.labels, self._scorer, self.prompt, self.prior, **kinds)

    async def _acheck(self, questions: Questions) -> None:
        """Refuse evidence of another task or model."""
        if self.evidence is None:
            return
        model_id = await self._scorer.amodel_id()
        if questions.task != self.evidence.task:
            raise CalibrationError(
                "The evidence is of another way to ask, prompt or prior than these: calibrate again."
            )
        if None not in (model_id, self.evidence.model_id) and model_id != self.evidence.model_id:
            raise CalibrationError(
                f"The evidence is of the model {self.evidence.model_id!r}, and this is {model_id!r}: calibrate again."
            )

    @override
    async def _aprepare(self) -> RowAnswering:
        questions = await self._aquestions()
        await self._checked.get(lambda: self._acheck(questions))
        if self.min_covered_mass is not None:
            questions = questions.demanding(Demands(covered_mass=self.min_covered_mass))
        room, cuts = Room(), self._cuts()
        return RowAnswering(
            partial(self._render, questions), partial(self._aanswer, questions, cuts, room), spread=room.spread
        )

    def _cuts(self) -> dict[str, float]:
        """The threshold of each label."""
        if self.evidence is not None:
            return self.evidence.thresholds
        common = self.threshold
        if common is None:
            common = 0.5 if self.ask == "each" else min(0.5, _SHARES / len(self.labels))
        return {name: (self.thresholds or {}).get(name, common) for name in self.labels.names}

    def _render(self, questions: Questions, row: Any) -> Prompt:
        return questions.render(text_of(row, self.text_key), row if isinstance(row, Mapping) else None)

    async def _aanswer(
        self, questions: Questions, cuts: Mapping[str, float], room: Room, prompt: Prompt, callbacks: Callbacks
    ) -> MultiLabelClassification:
        try:
            asked = await questions.ask(
                prompt, callbacks, at_once=room.at_once, truncate=self.on_overlong == "truncate"
            )
        except OverlongInputError as error:
            if self.on_overlong == "raise":
                raise
            return MultiLabelClassification(reason=Reason.OVERLONG, error=str(error), prompt_tokens=error.tokens)
        except RequestFailedError as error:
            return MultiLabelClassification(reason=Reason.FAILED, error=str(error))
        return _joined(questions, asked, cuts)

    def astream_rows(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not there: a ledger keeps one label a row.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(_NO_STREAM)

    def stream_rows(self, *args: Any, **kwargs: Any) -> NoReturn:
        """As `astream_rows`.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(_NO_STREAM)

    @override
    def as_tool(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not there: the tool of this package answers with one label.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "A MultiLabelClassifier is no tool, whose answer is one label: call it in a function of your own, and make "
            "that a tool with LangChain's `@tool`."
        )

    @override
    def _graph_of(self, runnable: RowRunnable[Any], config: RunnableConfig | None) -> Graph:
        return classifier_graph(runnable, Method.SCORE, config)

    @property
    @override
    def OutputType(self) -> Any:
        """`list[Literal[labels]] | None`."""
        return list[Literal[self.labels.names]] | None  # type: ignore[name-defined]  # known at run time only

    @override
    def _face(self, classification: MultiLabelClassification | Classification) -> list[str] | None:
        return as_multi(classification).labels

    @property
    @override
    def _concurrency(self) -> int:
        return self._scorer.concurrency


def _joined(
    questions: Questions, asked: Sequence[Classification], cuts: Mapping[str, float]
) -> MultiLabelClassification:
    """What the answers to all questions say together."""
    known: dict[str, Any] = {
        "method": Method.SCORE,
        "truncated": any(answer.truncated for answer in asked),
        "prompt_tokens": total([answer.prompt_tokens for answer in asked]),
        "generated_tokens": total([answer.generated_tokens for answer in asked]),
    }
    refused = next((answer for answer in asked if answer.reason is not None), None)
    if refused is not None:
        return MultiLabelClassification(reason=refused.reason, error=questions.beside or refused.error, **known)
    probabilities = dict(zip(cuts, questions.weigh(asked), strict=True))
    labels = [label for label, cut in cuts.items() if probabilities[label] >= cut]
    return MultiLabelClassification(labels=labels, probabilities=probabilities, **known)


def as_multi(answer: MultiLabelClassification | Classification) -> MultiLabelClassification:
    """An answer; that of a row that failed outside of ours comes as any classifier's does."""
    if isinstance(answer, MultiLabelClassification):
        return answer
    return MultiLabelClassification(reason=answer.reason, error=answer.error)
