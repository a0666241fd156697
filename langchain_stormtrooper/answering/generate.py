"""`Generating`: free text, matched to the nearest label. For our own LLMs; `foreign` has the others."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.exceptions import OutputParserException
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import LLMResult
from typing_extensions import override

from langchain_stormtrooper.answering.base import Answering
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
    def among(self, prompt: TaskPrompt, labels: LabelSet) -> Self:
        other = super().among(prompt, labels)
        other._labels = labels
        if isinstance(self._parser, LabelOutputParser):
            other._parser = self._parser.model_copy(update={"labels": labels})
        return other

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        return self._classify(await self._generate(prompt, callbacks))

    def _classify(self, generated: Generated) -> Classification:
        """What a generated text says."""
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
    async def count(self, prompt: Prompt) -> int | None:
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

    def _generate(self, prompt: Prompt, callbacks: Callbacks) -> Awaitable[Generated]:
        llm = self._llm
        assert isinstance(llm, SelfHostedLLM)  # noqa: S101  # `arrange` has seen to it
        if callbacks is None and not llm.callbacks and not _has_cache(llm):
            return llm.agenerate_row(prompt, stop=self._stop, max_new_tokens=self._max_new_tokens)
        return self._generate_watched(llm, prompt, callbacks)

    async def _generate_watched(self, llm: SelfHostedLLM, prompt: Prompt, callbacks: Callbacks) -> Generated:
        """Generate through LangChain, with its callbacks and its cache."""
        return _outcome(
            await llm.agenerate(
                [RenderedPrompt(prompt)],
                stop=self._stop,
                callbacks=callbacks,
                max_new_tokens=self._max_new_tokens,
            )
        )


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
