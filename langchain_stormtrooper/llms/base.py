"""What our LLMs share: LangChain's faces over one coroutine per row.

A subclass says how one prompt is answered (`agenerate_row`); everything that LangChain users call is made of that
here, sync and async, so that a batch is concurrent and its rows stay apart. `classifiers` calls the row methods
directly. Nothing here knows a protocol.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list
from pydantic import ConfigDict, Field
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.batches import Isolation, as_rows, places, with_causes
from langchain_stormtrooper.errors import (
    ConfigurationError,
    OverlongInputError,
    OverlongInputWarning,
    PromptError,
)
from langchain_stormtrooper.llms.generations import (
    OVERLONG,
    WARNINGS,
    counted,
    plain,
    token_usage,
    unanswered,
    why_unanswered,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method, Reason
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.unanswered import Unanswered
from langchain_stormtrooper.wire import Generated


@dataclass(frozen=True, slots=True)
class Constrained:
    """A generation that a grammar kept within given answers.

    Attributes:
        generated: What was generated.
        confidence: Probability of the way that the generation took, among all that the grammar allowed; None where the
            engine does not tell.
        scores: What it shows of all answers; None where it shows nothing.
    """

    generated: Generated
    confidence: float | None = None
    scores: LabelScores | None = None


class SelfHostedLLM(BaseLLM):
    """Base class of this package's LLMs: greedy, concurrent, one row's failure never its neighbour's.

    Attributes:
        max_new_tokens: Tokens to generate at most per prompt.
        stop: Texts at which generation ends.
        timeout: Seconds that one answer may take.
        on_overlong: What a prompt longer than the model accepts gives: with `"none"` an empty text (which
            `LabelOutputParser` turns into None) and one `OverlongInputWarning` per batch, with `"raise"` an
            `OverlongInputError`. Cutting the text to fit is a classifier's business: an LLM cannot tell the text from
            the instruction.
    """

    # Names such as `model_path` are no clash: pydantic's own prefix is given up.
    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    max_new_tokens: int = Field(default=256, ge=1)
    stop: list[str] | None = None
    timeout: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    on_overlong: Literal["none", "raise"] = "none"

    methods: ClassVar[tuple[Method, ...]] = (Method.GENERATE,)
    """The methods that this LLM offers a classifier whatever the task, the first of them by default."""

    if not TYPE_CHECKING:  # type checkers go by the fields

        def __init__(self, **kwargs: Any) -> None:
            with checked(type(self).__name__, type(self).model_fields):
                super().__init__(**kwargs)

        def __setattr__(self, name: str, value: Any) -> None:
            # The way to a server is kept from the first call on. LangChain sets fields of its own.
            if name in type(self).model_fields and name not in BaseLLM.model_fields:
                raise ConfigurationError(
                    f"{type(self).__name__}: `{name}` cannot be changed: use `model_copy(update={{{name!r}: ...}})`."
                )
            super().__setattr__(name, value)

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        _check_stop(self.stop)

    def __eq__(self, other: object) -> bool:
        """Whether class and settings are the same, whatever was learnt from a server."""
        if not isinstance(other, SelfHostedLLM):
            return NotImplemented
        return type(self) is type(other) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as for all models that can be changed

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @abstractmethod
    def concurrency(self) -> int:
        """Requests that are in flight at once at most."""

    @property
    def shares_prefixes(self) -> bool:
        """Whether a prompt saves work on those that start alike and come after it was answered."""
        return False

    @property
    def wraps_prompts(self) -> bool:
        """Whether the server puts prompts into its model's chat template itself."""
        return False

    def _generation_settings(self, stop: Sequence[str] | None, max_new_tokens: int | None) -> dict[str, Any]:
        """Arguments of `agenerate_row`, with the LLM's own in place of None."""
        return {
            "stop": (self.stop or ()) if stop is None else stop,
            "max_new_tokens": self.max_new_tokens if max_new_tokens is None else max_new_tokens,
        }

    @abstractmethod
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        """Generate the answer to one prompt.

        Args:
            prompt: The prompt.
            stop: Texts at which generation ends; None for the LLM's own.
            max_new_tokens: Tokens at most; None for the LLM's own.

        Raises:
            RowError: This row cannot be answered.
            ServerError: No row can be answered.
        """

    @abstractmethod
    def astream_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        """Generate like `agenerate_row`, yielding pieces of the text as they come."""

    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        """The methods that this LLM offers for a task, the best first.

        Args:
            prompt: A prompt of the task.
            answers: What could follow it: the labels as they stand in running text.
        """
        return self.methods

    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        """Probabilities of answers to one prompt, for LLMs that have `Method.SCORE`; arguments as in `amethods`."""
        raise ConfigurationError(f"{type(self).__name__} cannot score labels: use method='generate'.")

    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        """One of some answers, for LLMs that have `Method.CONSTRAIN`; arguments as in `amethods`."""
        raise ConfigurationError(f"{type(self).__name__} cannot constrain answers: use method='generate'.")

    async def acount_tokens(self, prompt: Prompt) -> int | None:
        """Tokens of a prompt as the server counts them; None if it cannot tell without answering it."""
        return None

    async def ais_healthy(self) -> bool:
        """Whether the model can be asked at this moment, as far as a look without a prompt tells."""
        return True

    @abstractmethod
    async def amodel_id(self) -> str | None:
        """The model's name as the server tells it; None if it does not."""

    async def amodel_revision(self) -> str | None:
        """Which state of the model is served; None if the server does not tell."""
        return None

    @abstractmethod
    async def arender_chat(self, message: str) -> str | None:
        """A user's message in the model's own chat template, ready for the answer; None if there is no template."""

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> str:
        return cast("str", self._texts([await self._arow(input, config, stop=stop, **kwargs)])[0])

    @override
    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> str:
        return cast("str", self._texts([bridge.run(lambda: self._arow(input, config, stop=stop, **kwargs))])[0])

    @override
    async def abatch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        return self._texts(await self._arows(inputs, config, return_exceptions, **kwargs))

    @override
    def batch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        return self._texts(bridge.run(lambda: self._arows(inputs, config, return_exceptions, **kwargs)))

    async def _arows(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        return_exceptions: bool,
        **kwargs: Any,
    ) -> list[Generation | Exception]:
        """One LangChain run per row: BaseLLM's own batch is one run, in which a failing row spoils the others."""
        rows = as_rows(inputs)
        if not rows:
            return []
        configs = get_config_list(config, len(rows))
        isolation = Isolation(return_exceptions)
        prompts = [self._prompt(row) for row in rows]
        if isinstance(prompts[0], PromptError) and all(isinstance(prompt, PromptError) for prompt in prompts):
            raise prompts[0]

        async def row(item: tuple[PromptValue | PromptError, RunnableConfig]) -> Generation | Exception:
            prompt, row_config = item
            try:
                isolation.begin()
                if isinstance(prompt, PromptError):
                    raise prompt
                generation = await self._arow(prompt, row_config, **kwargs)
            except Exception as error:
                if isolation.isolates(error) or (isinstance(error, PromptError) and not return_exceptions):
                    return unanswered(Reason.FAILED, error=str(error))
                if return_exceptions:
                    return error
                raise
            isolation.answered()
            return generation

        return await run_all(row, zip(prompts, configs, strict=True), places(configs[0]))

    def _prompt(self, input_: LanguageModelInput) -> PromptValue | PromptError:
        """A row's prompt, or why it is none."""
        try:
            return self._convert_input(input_)
        except ValueError:
            return PromptError(f"A prompt must be a text, a prompt value or messages, not {type(input_).__name__}.")

    async def _arow(
        self, input_: LanguageModelInput, config: RunnableConfig | None, *, stop: list[str] | None = None, **kwargs: Any
    ) -> Generation:
        """One prompt through LangChain's callbacks and cache."""
        config = ensure_config(config)
        prompt = self._prompt(input_)
        if isinstance(prompt, PromptError):
            raise prompt
        try:
            return await self._aresult(prompt, config, stop, kwargs)
        except OverlongInputError as error:
            # Raised as far as here, so that callbacks see it and no cache keeps it: another server may take more.
            if self.on_overlong == "raise":
                raise
            return unanswered(Reason.OVERLONG, prompt_tokens=error.tokens)

    async def _aresult(
        self, prompt: PromptValue, config: RunnableConfig, stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Generation:
        result = await self.agenerate_prompt(
            [prompt],
            stop=stop,
            callbacks=config.get("callbacks"),
            tags=config.get("tags"),
            metadata=config.get("metadata"),
            run_name=config.get("run_name"),
            run_id=config.pop("run_id", None),
            **kwargs,
        )
        return result.generations[0][0]

    def _texts(self, rows: Sequence[Generation | Exception]) -> list[Any]:
        """The rows as LangChain returns them, with one warning for each reason why some have no answer."""
        missing: dict[Reason, list[int]] = {reason: [] for reason in WARNINGS}
        causes: Counter[str] = Counter()
        texts: list[Any] = []
        for number, row in enumerate(rows):
            reason = None if isinstance(row, Exception) else why_unanswered(row)
            if reason is None:
                texts.append(row if isinstance(row, Exception) else row.text)
                continue
            missing[reason].append(number)
            texts.append(Unanswered(reason))
            if reason is Reason.FAILED:
                causes[cast("Generation", row).generation_info["error"]] += 1  # type: ignore[index]  # it has one
        for reason, (category, what) in WARNINGS.items():
            warn_rows(
                category,
                missing[reason],
                len(rows),
                with_causes(what, causes if reason is Reason.FAILED else Counter()),
            )
        return texts

    @override
    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        max_new_tokens: int | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        self._refuse(kwargs)
        _check_stop(stop)
        rows = await run_all(lambda prompt: self._generation(prompt, stop, max_new_tokens), prompts)
        usage = token_usage(rows)
        if run_manager is not None and run_manager.handlers:
            rows = [counted(row, self.get_name()) for row in rows]
        return LLMResult(generations=[[row] for row in rows], llm_output=usage)

    def _refuse(self, kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(kwargs)} per call: `stop` and `max_new_tokens` are understood."
            )

    async def _generation(self, prompt: str, stop: list[str] | None, max_new_tokens: int | None) -> Generation:
        generated = await self.agenerate_row(plain(prompt), stop=stop, max_new_tokens=max_new_tokens)
        return Generation(
            text=generated.text,
            generation_info={
                "finish_reason": generated.finish_reason,
                "prompt_tokens": generated.prompt_tokens,
                "generated_tokens": generated.generated_tokens,
            },
        )

    @override
    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return bridge.run(lambda: self._agenerate(prompts, stop, None, **kwargs))

    async def _achunks(
        self, prompt: str, stop: list[str] | None, max_new_tokens: int | None = None, **kwargs: Any
    ) -> AsyncGenerator[GenerationChunk, None]:
        self._refuse(kwargs)
        _check_stop(stop)
        # LangChain takes a stream without any chunk for an error; an empty answer is none.
        nothing = True
        try:
            async for piece in self.astream_row(plain(prompt), stop=stop, max_new_tokens=max_new_tokens):
                nothing = False
                yield GenerationChunk(text=piece)
            if nothing:
                yield GenerationChunk(text="")
        except OverlongInputError:
            if self.on_overlong == "raise":
                raise
            chunk = GenerationChunk(text="", generation_info={"finish_reason": Reason.OVERLONG.value})
            # Set afterwards: a validated text is a plain str, for which a parser would warn again.
            chunk.text = Unanswered(Reason.OVERLONG)
            yield chunk

    @override
    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async for chunk in self._achunks(prompt, stop, **kwargs):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            _warn_overlong_stream(chunk)
            yield chunk

    @override
    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for chunk in bridge.iterate(self._achunks(prompt, stop, **kwargs)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            _warn_overlong_stream(chunk)
            yield chunk


def _check_stop(stop: Sequence[str] | None) -> None:
    if "" in (stop or ()):
        raise ConfigurationError("A stop string is empty, which every text ends with: leave it out of `stop=`.")


def _warn_overlong_stream(chunk: GenerationChunk) -> None:
    is_overlong = why_unanswered(chunk) is Reason.OVERLONG
    warn_rows(OverlongInputWarning, [0] if is_overlong else [], 1, OVERLONG)
