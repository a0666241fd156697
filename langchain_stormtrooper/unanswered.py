"""`Unanswered`: the text in place of an answer that a server never gave.

A language model has to return a text for every row. For a row that was too long, or failed, ours returns this one,
having warned already; `parsers` makes it None without a second warning. It does no more than carry the reason.
"""

from __future__ import annotations

from typing import Self

from langchain_stormtrooper.results import Reason


class Unanswered(str):
    """The empty text that an LLM of this package returns for a row it has warned about.

    Args:
        reason: Why there is no answer.
    """

    reason: Reason

    def __new__(cls, reason: Reason | str = Reason.OVERLONG) -> Self:
        """Make the empty text."""
        text = super().__new__(cls, "")
        text.reason = Reason(reason)
        return text

    def __getnewargs__(self) -> tuple[Reason]:
        """What copies and pickles are made from: the reason, where a plain str has its text."""
        return (self.reason,)

    def __repr__(self) -> str:
        return f"Unanswered({self.reason.value!r})"
