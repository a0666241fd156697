"""`TextClassifier`: what zero-shot and few-shot classifiers share, their settings, inputs and the contract of a row.

Every row of a batch ends as a label or as None with a reason, in order, whatever happens to its neighbours. A
classifier is one fused Runnable, since a sequence of stages costs 1.1 ms a row and puts a barrier behind each stage;
its parts (`prompt`, `llm`, `parser`) can still be replaced. How a row is answered is `answering`'s business; the faces
that LangChain users call are in `row_faces`. `classifiers` holds what users create.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate, StringPromptTemplate
from langchain_core.runnables import RunnableConfig
from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import answering, bridge, calibrating, recalling
from langchain_stormtrooper.answering import Answering, Demands
from langchain_stormtrooper.answering.scoping import in_scope
from langchain_stormtrooper.answering.settings import MethodName, PresetName, TaskSettings
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.calibration import Calibration, PriorName
from langchain_stormtrooper.drawing import Graph, classifier_graph
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError, RequestFailedError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import Label, LabelSet, LabelSpec, read_option
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.foreign import tells_logprobs
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.parts import check_llm, read_prompt
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.recalling import ShortlistRecall
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.row_calls import text_of
from langchain_stormtrooper.row_classifier import Keys, RowClassifier
from langchain_stormtrooper.rows import RowAnswering, RowInput, RowRunnable
from langchain_stormtrooper.selecting import ExampleChooser, Shortlist, read_shortlist
from langchain_stormtrooper.tasks import Once

if TYPE_CHECKING:
    from langchain_stormtrooper.estimators import TGIFewShotClassifier, TGIZeroShotClassifier


class TextClassifier(RowClassifier):
    """What zero-shot and few-shot classifiers share. Not for use by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    labels: LabelSet
    llm: InstanceOf[BaseLanguageModel[Any]] = Field(default_factory=TextGenerationInference)
    prompt: StringPromptTemplate | PresetName | None = None
    parser: InstanceOf[BaseOutputParser[Any]] | None = None
    method: MethodName = "auto"
    prior: PriorName | None = "words"
    rotations: int = Field(default=1, ge=1)
    shortlist: Annotated[Shortlist | None, BeforeValidator(read_shortlist)] = None
    out_of_scope: Label | None = None
    calibration: Calibration | None = Field(default=None, repr=False)
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    min_margin: float | None = Field(default=None, ge=0, le=1)
    min_covered_mass: float | None = Field(default=None, ge=0, le=1)
    on_overlong: Literal["none", "truncate", "raise"] = "none"
    text_key: str = "text"
    text_kind: str = Field(default="text", min_length=1)
    label_kind: str = Field(default="label", min_length=1)
    max_new_tokens: int | None = Field(default=None, ge=1)

    _deciding: ClassVar[frozenset[str]] = frozenset(
        {"min_confidence", "min_margin", "min_covered_mass", "on_overlong", "text_key"}
    )
    _answering: Once[Answering] = PrivateAttr(default_factory=Once)
    _basis: TextClassifier | None = PrivateAttr(default=None)

    def __init__(self, labels: LabelSpec, **kwargs: Any) -> None:
        # Read here, labels raise their own error; inside pydantic it would be wrapped in a ValidationError.
        labels = LabelSet.of(labels)
        if "prompt" in kwargs:
            kwargs["prompt"] = read_prompt(kwargs["prompt"])
        if kwargs.get("parser") is None:
            kwargs["parser"] = LabelOutputParser(labels)
        if "out_of_scope" in kwargs:
            kwargs["out_of_scope"] = read_option(kwargs["out_of_scope"])
        check_llm(kwargs.get("llm"))
        with checked(type(self).__name__, type(self).model_fields):
            super().__init__(labels=labels, **kwargs)
        chooser = self._settings().chooser
        if isinstance(self.prompt, StringPromptTemplate):
            # What is wrong with a template is known now: do not wait for the first row.
            answering.fill_template(self._settings(), self.prompt, () if chooser is None else chooser.shown)

    @override
    def _following(self, update: Mapping[str, Any]) -> Mapping[str, Any]:
        if "labels" not in update or type(self.parser) is not LabelOutputParser:
            return {}
        return {"parser": self.parser.model_copy(update={"labels": LabelSet.of(update["labels"])})}

    def __copy__(self) -> Self:
        copied = super().__copy__()
        # What was learnt from the server belongs to the settings that the copy may be about to change.
        copied._answering, copied._basis = Once(), None
        return copied

    @override
    def _learn_with(self, other: Self) -> None:
        self._basis = other

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """Labels and calibration as plain data, since LangChain serialises no other."""
        learnt = {} if self.calibration is None else {"calibration": self.calibration.model_dump(mode="json")}
        shortlist = {} if self.shortlist is None else {"shortlist": dict(self.shortlist)}
        option = {} if self.out_of_scope is None else {"out_of_scope": asdict(self.out_of_scope)}
        return {"labels": self.labels.to_list(), **learnt, **shortlist, **option}

    @override
    def _graph_of(self, runnable: RowRunnable[Any], config: RunnableConfig | None) -> Graph:
        arranged = self._answering.peek()
        return classifier_graph(runnable, self.method if arranged is None else arranged.method, config)

    def _chooser(self) -> ExampleChooser | None:
        """What chooses the examples of each row; None without examples."""
        return None

    @property
    def _known_examples(self) -> tuple[Example, ...]:
        """The examples that are known by themselves, not by a selector."""
        return ()

    @property
    def _choices(self) -> LabelSet:
        """What the model chooses from: the labels and, after them, the option that none of them fits."""
        return self.labels.with_option(self.out_of_scope)

    @property
    @override
    def _option(self) -> str | None:
        return None if self.out_of_scope is None else self.out_of_scope.name

    def _settings(self) -> TaskSettings:
        choices = self._choices
        parser = self.parser or LabelOutputParser(self.labels)
        if isinstance(self.parser, LabelOutputParser) and self.parser.labels.names != self.labels.names:
            raise ConfigurationError("The parser has other labels than the classifier: build both from the same.")
        if isinstance(parser, LabelOutputParser) and choices is not self.labels:
            parser = parser.model_copy(update={"labels": choices})
        settings = TaskSettings(
            choices=choices,
            option=self._option,
            llm=self.llm,
            prompt=self.prompt,
            parser=parser,
            chooser=self._chooser(),
            examples=self._known_examples,
            shortlist=self.shortlist,
            method=self.method,
            prior=self.prior,
            rotations=self.rotations,
            calibration=self.calibration,
            demands=Demands(self.min_confidence, self.min_margin, self.min_covered_mass),
            text_kind=self.text_kind,
            label_kind=self.label_kind,
            max_new_tokens=self.max_new_tokens,
        )
        settings.check()
        return settings

    async def _aarranged(self) -> Answering:
        return await self._answering.get(self._aarrange)

    async def _aarrange(self) -> Answering:
        if self._basis is None:
            return await answering.arrange(self._settings())
        return answering.demanding(self._settings(), await self._basis._aarranged())

    async def aget_method(self) -> Method:
        """The method in force: what "auto" stands for with this LLM and these labels.

        Asks the server where it depends on it.
        """
        return (await self._aarranged()).method

    @override
    async def _atells_confidence(self) -> bool:
        # Generated text alone has none.
        if await self.aget_method() is not Method.GENERATE:
            return True
        return not isinstance(self.llm, SelfHostedLLM) and tells_logprobs(self.llm)

    def get_method(self) -> Method:
        """Like `aget_method`."""
        return bridge.run(self.aget_method)

    async def aget_prompt(self) -> BasePromptTemplate[Any]:
        """The prompt in force, with everything filled in but the text, for composing by hand.

        With a shortlist, the first labels stand for those of a row, without examples. Asks the server for its model
        where the preset depends on it.
        """
        return (await self._aarranged()).prompt.as_template()

    def get_prompt(self) -> BasePromptTemplate[Any]:
        """Like `aget_prompt`."""
        return bridge.run(self.aget_prompt)

    async def acalibrate(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None] | None = None,
        *,
        target_error: float | None = None,
        confidence: float = 0.9,
    ) -> Self:
        """A classifier that has learnt from texts of the task; this one stays as it is.

        What was learnt is its `calibration`, which can be saved and loaded, replaces the prior, and is refused with
        other labels, another prompt or another model. Needs a method with probabilities.

        Args:
            texts: Texts of the task, or dicts that hold them. Without labels, some dozens that have about as many of
                each label: what the answers to them have in common is taken for the model's lean, and divided out
                (batch calibration, Zhou et al. 2023).
            labels: The right label of each text. With them, temperature and bias are fitted and, from about four texts
                a label on, a logistic head, weighed by cross-validation (extra `sklearn`); `calibration.report` has
                accuracy, macro-F1, calibration error and Brier score before and after. How often labels occur is taken
                for how often they will. A prior that `calibrate(texts)` has taught before is what fits start from. None
                is for a text that no label fits: with `out_of_scope=`, its option is right; without, nothing is, which
                raises the threshold of `target_error`.
            target_error: The share of decided rows that may be wrong, such as 0.05: rows of less confidence than that
                takes are None with a `LowConfidenceWarning`. `calibration.threshold` says what share is decided.
                Needs labels: at least 45 texts for 0.05.
            confidence: How sure it is to be that the target holds for further texts of the same kind.

        Raises:
            ConfigurationError: The arguments do not go together, the method has no probabilities, or there is a
                shortlist.
            LabelError: A label is not one of the classifier's.
            MissingExtraError: The extra `sklearn` is needed and not installed.
            ServerError: Something is wrong for every row.
        """
        learnt = await calibrating.learn(self, texts, labels, target_error=target_error, confidence=confidence)
        return self.model_copy(update={"calibration": learnt.warn()})

    def calibrate(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None] | None = None,
        *,
        target_error: float | None = None,
        confidence: float = 0.9,
    ) -> Self:
        """Like `acalibrate`."""
        learnt = bridge.run(
            partial(calibrating.learn, self, texts, labels, target_error=target_error, confidence=confidence)
        )
        return self.model_copy(update={"calibration": learnt.warn()})

    async def ameasure_shortlist(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None],
        *,
        shortlist: Shortlist | int | None = None,
    ) -> ShortlistRecall:
        """How often the right label is on a shortlist, for every size. Asks no LLM.

        Print it, choose a size, and give what was measured to the classifier, so that its probabilities say how likely
        the right label was left out: `classifier.model_copy(update={"shortlist": recall.shortlist(10)})`.

        Args:
            texts: Texts of the task, or dicts that hold them; one that is an example itself is ranked without it. Rows
                without a text are left out with a `CalibrationWarning`.
            labels: The right label of each; None, or the name of `out_of_scope=`, for a text that no label fits, which
                is left out and counted (`n_out_of_scope`).
            shortlist: What is measured; None for the classifier's own, or the default where it has none.

        Raises:
            ConfigurationError: Texts and labels do not go together, or no text has a label.
            LabelError: A label is not one of the classifier's.
            PromptError: No row holds a text.
            RequestFailedError: The embedding model has no vector for a text.
        """
        return (await recalling.measure(self, texts, labels, shortlist)).warn()

    def measure_shortlist(
        self,
        texts: Iterable[RowInput],
        labels: Iterable[str | Enum | None],
        *,
        shortlist: Shortlist | int | None = None,
    ) -> ShortlistRecall:
        """Like `ameasure_shortlist`."""
        return bridge.run(partial(recalling.measure, self, texts, labels, shortlist)).warn()

    def with_labels(self, labels: LabelSpec) -> Self:
        """This classifier with further labels, after those it has; this one stays as it is.

        A calibration, or the recall of a shortlist, is left behind with a warning, since it knows nothing of them.

        Args:
            labels: The further labels, as when it is created; one is enough. They may have descriptions.

        Raises:
            LabelError: There is none, or one is there already or cannot be told from one that is.
        """
        further = self.labels.with_more(labels)
        return calibrating.without_learnt(self, "labels").model_copy(update={"labels": further})

    async def afingerprint(self) -> str:
        """What tells this task from others, as 64 hexadecimal digits: prompt with all but the text, labels, method.

        The model is not part of it. Asks the server for what the prompt depends on.
        """
        return (await self._aarranged()).fingerprint(self._choices.names)

    @override
    async def _akeys(self) -> Keys | None:
        from langchain_stormtrooper.runs.keys import row_key, task_key

        arranged = await self._aarranged()
        constant = not arranged.prompt.input_variables
        return await task_key(self, arranged), partial(row_key, constant=constant)

    def as_estimator(self) -> TGIZeroShotClassifier | TGIFewShotClassifier:
        """A scikit-learn estimator with these settings, fitted: this classifier is its `classifier_`.

        `fit` keeps the settings and the labels, and a few-shot one takes the texts it is given for its examples. Where
        it is not to be fitted again, as in cross-validation, put it in scikit-learn's `FrozenEstimator`.

        Raises:
            MissingExtraError: The extra `sklearn` is not installed.
        """
        from langchain_stormtrooper.estimators import estimator_of

        return estimator_of(self)

    @override
    async def _aprepare(self) -> RowAnswering:
        arranged = (await self._aarranged()).for_call()
        return RowAnswering(
            partial(self._render, arranged), partial(self._aanswer, arranged), announce=arranged.announce
        )

    def _render(self, arranged: Answering, row: Any) -> Prompt:
        text = text_of(row, self.text_key)
        return arranged.render(text, None if text is row else row)

    async def _aanswer(self, arranged: Answering, prompt: Prompt, callbacks: Callbacks) -> Classification:
        try:
            answer = await arranged.answer_fitting(prompt, callbacks, truncate=self.on_overlong == "truncate")
        except OverlongInputError as error:
            if self.on_overlong == "raise":
                raise
            return Classification(reason=Reason.OVERLONG, error=str(error), prompt_tokens=error.tokens)
        except RequestFailedError as error:
            return Classification(reason=Reason.FAILED, error=str(error))
        return answer if self.out_of_scope is None else in_scope(answer, self.out_of_scope.name)

    @property
    @override
    def _concurrency(self) -> int:
        return answering.concurrency(self.llm)
