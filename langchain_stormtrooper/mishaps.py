"""`Mishaps`: whether a user's own part, such as a cheap stage, a selector or an embedding model, fails for every text.

A text that it fails for is that row's trouble; a part that has failed for each text so far is broken, and that is an
error of the call. Pure. `cascade` and `selecting` count by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from langchain_stormtrooper.errors import ConfigurationError, RowError

T = TypeVar("T")

_BROKEN = 8
"""Texts in succession, from the first on, that a part fails for before it counts as broken."""


class Mishaps:
    """Counts what a part fails for: one text may be too odd for it, not all of them."""

    def __init__(self) -> None:
        self._failed = 0
        self._has_answers = False

    def answered(self) -> None:
        """Note that it answered a text."""
        self._has_answers = True

    def failed(self, complaint: str) -> None:
        """Note that it failed for a text.

        Args:
            complaint: What it did, as a sentence with or without its full stop, which quotes no text.

        Raises:
            ConfigurationError: It has failed for every text so far, and for some already.
        """
        self._failed += 1
        if self._failed >= _BROKEN and not self._has_answers:
            raise ConfigurationError(
                f"{complaint.rstrip('.')}, and has failed for each of the first {self._failed} texts: call it with one "
                "of them yourself to see why."
            )


async def watched(ask: Callable[[], Awaitable[T]], *counts: Mishaps) -> T:
    """Ask a part about a text, and count whether it answers.

    Args:
        ask: Asks it.
        *counts: Where to count: of this call, and of all.

    Raises:
        RowError: The part fails for this text.
        ConfigurationError: It has failed for every text so far, and for some already.
    """
    try:
        answer = await ask()
    except RowError as error:
        refusal = error
    else:
        for mishaps in counts:
            mishaps.answered()
        return answer
    # Out here: raised up there, ours would have theirs as its context, which may quote the text.
    for mishaps in counts:
        mishaps.failed(str(refusal))
    raise refusal
