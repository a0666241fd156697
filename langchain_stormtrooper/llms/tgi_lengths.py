"""`Lengths`: how many tokens a TGI server takes, and which prompts need to be counted before they are sent.

Nothing is asked for a text that cannot be too long, whatever the tokenizer makes of it, and what is the same for all
rows of a task is counted once. Sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

from langchain_stormtrooper.agreement import Agreement
from langchain_stormtrooper.budget import cannot_exceed
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.tasks import OnceEach
from langchain_stormtrooper.wire import tgi as wire

_SPECIAL_TOKENS = 4
"""Room for what a tokenizer adds to a prompt by itself."""

_CONSTANTS_KEPT = 64


class Lengths:
    """What is known of one server's limits, and of the tasks that it is asked about."""

    def __init__(self) -> None:
        self._limits: dict[int, int | None] = {}
        self._constants: OnceEach[Prompt, int | None] = OnceEach(_CONSTANTS_KEPT)

    def limit(self, max_new_tokens: int, info: wire.ServerInfo | None, agreement: Agreement | None) -> int | None:
        """Tokens that a prompt may have; None as long as the server has not told.

        Args:
            max_new_tokens: Tokens that are to be generated after it.
            info: What the server tells; None as long as it has not.
            agreement: What it has in common with others, if it is one of several.
        """
        # Every row comes this way.
        if max_new_tokens in self._limits:
            return self._limits[max_new_tokens]
        told = info
        if agreement is not None:
            # What is too long for a list of servers is too long, wherever it would have gone.
            told = replace(info or wire.ServerInfo(), **cast("dict[str, Any]", agreement.limits))
        if told is None:
            return None
        limit = wire.prompt_limit(told, max_new_tokens)
        if info is not None and (agreement is None or agreement.is_settled):
            self._limits[max_new_tokens] = limit
        return limit

    async def check(self, prompt: Prompt, limit: int, count: Callable[[Prompt], Awaitable[int | None]]) -> None:
        """Refuse what the server would refuse, where it can count.

        Args:
            prompt: The prompt.
            limit: Tokens that it may have.
            count: Has the server count those of a prompt.

        Raises:
            OverlongInputError: The prompt has more.
        """
        if cannot_exceed(str(prompt), limit - _SPECIAL_TOKENS):
            return
        if prompt.text and prompt.text != str(prompt):
            constant = await self._constant_tokens(prompt, count)
            if constant is None or cannot_exceed(prompt.text, limit - constant - _SPECIAL_TOKENS):
                return
        tokens = await count(prompt)
        if tokens is not None and tokens > limit:
            raise wire.overlong(tokens, limit)

    async def _constant_tokens(self, prompt: Prompt, count: Callable[[Prompt], Awaitable[int | None]]) -> int | None:
        """Tokens of what is the same for all rows of a task, asked once; None where the server cannot count."""
        constant = replace(prompt, text="")
        return await self._constants.get(constant, lambda: count(constant))
