"""`Generating`: free text, matched to the nearest label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    OutputParserException,
)
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import StringPromptValue
from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering
from langchain_stormtrooper.errors import (
    OverlongInputError,
    RequestFailedError,
    ServerUnreachableError,
    StormtrooperError,
)
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.generations import RenderedPrompt
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.wire import Generated, as_count


class Generating(Answering):
    """Free text, matched to the nearest label."""

    method = Method.GENERATE

    def __init__(
        self,
        prompt: TaskPrompt,
        labels: LabelSet,
        llm: BaseLanguageModel[Any],
        parser: BaseOutputParser[str | None],
        *,
        stop: Sequence[str],
        max_new_tokens: int | None,
    ) -> None:
        super().__init__(prompt)
        self._labels = labels
        self._llm = llm
        self._parser = parser
        self._stop = [*stop] or None
        # Room for the longest label with some words around it, whatever the tokenizer: a token is a byte at least.
        self._max_new_tokens = max_new_tokens or 16 + 2 * max(len(name.encode()) for name in labels)

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        generated = await self._generate(prompt, callbacks)
        label, match = self._match(generated.text)
        return Classification(
            label=label,
            reason=Reason.UNMATCHED if label is None else None,
            method=self.method,
            match=match,
            prompt_tokens=generated.prompt_tokens,
            generated_tokens=generated.generated_tokens,
            generation=generated.text,
        )

    @override
    async def _count(self, prompt: Prompt) -> int | None:
        return await self._llm.acount_tokens(prompt) if isinstance(self._llm, SelfHostedLLM) else None

    def _match(self, text: str) -> tuple[str | None, Any]:
        # A subclass with a parse of its own has more to say than the matcher.
        if isinstance(self._parser, LabelOutputParser) and type(self._parser).parse is LabelOutputParser.parse:
            return self._parser.match(text)
        try:
            label = self._parser.parse(text)
        except OutputParserException:
            return None, None
        return (label, None) if label in self._labels else (None, None)

    async def _generate(self, prompt: Prompt, callbacks: Callbacks) -> Generated:
        if isinstance(self._llm, SelfHostedLLM):
            if callbacks is None and not self._llm.callbacks and not _has_cache(self._llm):
                return await self._llm.agenerate_row(prompt, stop=self._stop, max_new_tokens=self._max_new_tokens)
            return _outcome(
                await self._llm.agenerate(
                    [RenderedPrompt(prompt)],
                    stop=self._stop,
                    callbacks=callbacks,
                    max_new_tokens=self._max_new_tokens,
                )
            )
        try:
            value = StringPromptValue(text=str(prompt))
            return _outcome(await self._llm.agenerate_prompt([value], stop=self._stop, callbacks=callbacks))
        except (StormtrooperError, ModelAuthenticationError, ModelPermissionDeniedError, ModelNotFoundError):
            raise
        except ContextOverflowError:
            raise OverlongInputError("The prompt is longer than the model accepts: shorten the text.") from None
        except Exception as error:  # noqa: BLE001  # a foreign LLM may raise anything, and it concerns one row
            if _is_unreachable(error):
                raise ServerUnreachableError(
                    f"The LLM cannot reach its server ({type(error).__name__}): check that it runs, and the LLM's "
                    "address."
                ) from None
            # Its message may quote the prompt.
            raise RequestFailedError(f"The LLM raised {type(error).__name__}.") from None


_UNREACHABLE = {"ConnectError", "ConnectTimeout", "APIConnectionError", "ClientConnectorError", "NewConnectionError"}
"""What HTTP libraries call it when no server answers; few of them inherit Python's ConnectionError."""


def _is_unreachable(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | ModelConnectionError) or not names.isdisjoint(_UNREACHABLE)


def _outcome(result: LLMResult) -> Generated:
    """What LangChain brought back for one prompt."""
    generation = result.generations[0][0]
    info = generation.generation_info or {}
    return Generated(
        generation.text,
        prompt_tokens=as_count(info.get("prompt_tokens")),
        generated_tokens=as_count(info.get("generated_tokens")),
    )


def _has_cache(llm: SelfHostedLLM) -> bool:
    return llm.cache is not False and (llm.cache is not None or get_llm_cache() is not None)
