"""One warning for all rows of a batch that ended without a label for the same reason.

It counts rows and names the first few, and never shows a text. Parsers, language models and classifiers call it once
per batch and kind of warning.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from langchain_stormtrooper.errors import StormtrooperWarning

SHOWN = 5
"""How many rows a warning names."""

_MACHINERY = frozenset(
    {
        "asyncio",
        "concurrent",
        "contextvars",
        "joblib",
        "langchain_core",
        "langchain_stormtrooper",
        "sklearn",
        "threading",
    }
)


def warn_rows(
    category: type[StormtrooperWarning], rows: Sequence[int], total: int, what: str, *, count: int | None = None
) -> None:
    """Warn once about rows that have no label; say nothing if there are none.

    Args:
        category: The kind of warning.
        rows: Indices of the rows concerned, in order; where there are more than `SHOWN`, the first of them suffice.
        total: How many rows the batch has.
        what: What happened to them, from the verb on, the same for one and for many ("got no label: …").
        count: How many they are, where not all indices are given.
    """
    if not rows:
        return
    count = count or len(rows)
    if total == 1:
        message = f"The text {what}."
    else:
        shown = ", ".join(map(str, rows[:SHOWN])) + (", …" if count > SHOWN else "")
        message = f"{count} of {total} texts {what} ({'row' if count == 1 else 'rows'} {shown})."
    warn_caller(category, message)


def warn_caller(category: type[StormtrooperWarning], message: str) -> None:
    """Warn at the line of the user's code that led here."""
    frame = _caller()
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__", "__main__"),
        # Where Python keeps what it has shown for a module; without it, a filter "once per place" shows all.
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _caller() -> FrameType:
    """The frame of the user's code that led here."""
    # How many frames of ours, LangChain's and asyncio's lie between differs for invoke, batch, chains and tasks, so
    # that no fixed stacklevel points at the user's line, and Python shows warnings only there by default.
    frame = cast("FrameType", inspect.currentframe())  # None only on other Pythons than CPython and PyPy
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _MACHINERY:
        frame = frame.f_back
    return frame
