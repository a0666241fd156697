"""The rows of a stream: `ClassifiedRow`, one that comes out, and `Ask`, what is asked for all that are alike.

Pure. `stream` makes them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason


class ClassifiedRow(Classification):
    """A row of a stream: where it stood, what it was, and the fields of its `Classification`.

    Attributes:
        index: Its number in the source, from 0.
        row: The row itself. Not shown in the repr.
    """

    index: int = Field(ge=0)
    row: Any = Field(repr=False)


class Ask:
    """One prompt that is being answered, and all rows that have it.

    Args:
        key: What all of them have in common.
        prompt: The prompt.
        row: The first of them, with its number.
    """

    __slots__ = ("key", "prompt", "rows")

    def __init__(self, key: Any, prompt: Prompt, row: tuple[int, Any]) -> None:
        self.key = key
        self.prompt = prompt
        self.rows = [row]


def failed(error: Exception) -> Classification:
    """The answer to a row that an error took."""
    return Classification(reason=Reason.FAILED, error=str(error))
