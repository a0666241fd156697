"""What holds for every batch: what may be one, how many rows are worked on at once, whose trouble an error is.

`rows` (classifiers) and `llms.base` (language models) keep the same contract by asking here. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig

from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.errors import (
    ConfigurationError,
    OverlongInputError,
    PromptError,
    RowError,
    ServerError,
    ServerUnreachableError,
)

T = TypeVar("T")

_CAUSES_SHOWN = 3

_REFUSED = 3
"""Rows refused one after the other, as with a wrong key, after which no other is asked for."""


def as_rows(inputs: Iterable[T]) -> Sequence[T]:
    """The rows of a batch as a sequence.

    Raises:
        ConfigurationError: It is one text or one dict: its characters or keys would be taken for rows.
    """
    check_rows(inputs)
    return inputs if isinstance(inputs, Sequence) else list(inputs)


def check_rows(given: Any) -> None:
    """Refuse what is one row, or no rows at all, in the place of many.

    Raises:
        ConfigurationError: It is.
    """
    if isinstance(given, str | bytes | Mapping):
        kind = "dict" if isinstance(given, Mapping) else "text"
        raise ConfigurationError(
            f"A batch is a list of rows, not one {kind}: use `invoke` for one, or put it in a list."
        )
    # What has items by number can be gone through, too.
    if not isinstance(given, Iterable | AsyncIterable) and not hasattr(given, "__getitem__"):
        raise ConfigurationError(f"Rows must be a list or another iterable of them, not {type(given).__name__}.")


def places(config: RunnableConfig) -> int | None:
    """How many rows are to be worked on at once; None where the caller does not say.

    Raises:
        ConfigurationError: It is no positive number.
    """
    at_once = config.get("max_concurrency")
    check_count("`max_concurrency` in the config", at_once, optional=True)
    return at_once


class Isolation:
    """Decides what an error of one row means for the others of its batch.

    A row's own error is the row's. One that every row would share ends the batch at once, unless rows were answered
    before it came: these are kept, and the rest is not asked for any more.

    Args:
        return_exceptions: Whether the caller wants errors in the places of their rows.
    """

    def __init__(self, return_exceptions: bool) -> None:
        self.return_exceptions = return_exceptions
        self._has_answers = False
        self._refused = 0
        self._fatal: ServerError | ConfigurationError | None = None

    def begin(self) -> None:
        """To be called before a row is asked for.

        Raises:
            ServerError: No row can be answered any more.
            ConfigurationError: A setting was refused, as it would be for every row.
        """
        if self._fatal is not None:
            raise self._fatal

    def answered(self) -> None:
        """To be called when a row has been answered."""
        self._has_answers, self._refused = True, 0

    def isolates(self, error: Exception) -> bool:
        """Whether a row that raised is to end as failed, so that the batch goes on.

        False means that the error is to be raised, or to be returned in the row's place, as the caller asked.
        """
        if isinstance(error, ServerError):
            # A firewall may refuse one text with the status of a wrong key; a key that was revoked refuses them all.
            self._refused += 1
            if not self._has_answers or self._refused >= _REFUSED or isinstance(error, ServerUnreachableError):
                self._fatal = error
            return self._has_answers and not self.return_exceptions
        if isinstance(error, ConfigurationError) and not isinstance(error, PromptError):
            self._fatal = error
            return False
        # An overlong row raises only where somebody asked for it.
        own = isinstance(error, RowError) and not isinstance(error, OverlongInputError)
        return own and not self.return_exceptions


def with_causes(what: str, causes: Counter[str]) -> str:
    """A warning's words with what caused it, the most frequent first."""
    if not causes:
        return what
    if len(causes) == 1:
        return f"{what} ({next(iter(causes))})"
    told = [f"{count} times: {cause}" for cause, count in causes.most_common(_CAUSES_SHOWN)]
    return f"{what} ({'; '.join(told)}{'; …' if len(causes) > _CAUSES_SHOWN else ''})"
