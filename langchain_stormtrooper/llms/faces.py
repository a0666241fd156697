"""`LLMFaces`: what LangChain's users call of an LLM, made of one coroutine per row, sync and async.

A batch is concurrent and its rows stay apart; what has no answer is an empty text with one warning for each reason.
`base` has the settings and the rest of what a row may ask. Nothing here knows a protocol.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list
from typing_extensions import override

from langchain_stormtrooper import bridge
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
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.unanswered import Unanswered
from langchain_stormtrooper.wire import Generated


class LLMFaces(BaseLLM):
    """LangChain's faces over one coroutine for each row. Not for use by itself."""

    on_overlong: Literal["none", "raise"] = "none"

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
        check_stop(stop)
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
        check_stop(stop)
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


def check_stop(stop: Sequence[str] | None) -> None:
    """Refuse stop strings that every text ends with.

    Raises:
        ConfigurationError: One is empty.
    """
    if "" in (stop or ()):
        raise ConfigurationError("A stop string is empty, which every text ends with: leave it out of `stop=`.")


def _warn_overlong_stream(chunk: GenerationChunk) -> None:
    is_overlong = why_unanswered(chunk) is Reason.OVERLONG
    warn_rows(OverlongInputWarning, [0] if is_overlong else [], 1, OVERLONG)
