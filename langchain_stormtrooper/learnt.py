"""`Learnt`: what calibrating or measuring has found, with what its user should know, such as which texts it left out.

Pure but for the warnings. `calibrating`, `recalling` and `multi_label.learning` make it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_stormtrooper.errors import CalibrationWarning, PromptError
from langchain_stormtrooper.row_warnings import SHOWN, warn_caller

if TYPE_CHECKING:
    from langchain_stormtrooper.rows import RowInput

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Learnt(Generic[T]):
    """What texts taught.

    Attributes:
        state: What is to be kept: a calibration, the evidence of thresholds, or what was counted.
        remarks: What its user should know, in whole sentences.
    """

    state: T
    remarks: tuple[str, ...]

    def warn(self) -> T:
        """The state, after one warning for each remark; to be called in the user's own thread."""
        for remark in self.remarks:
            warn_caller(CalibrationWarning, remark)
        return self.state


def rendered(render: Callable[[RowInput], R], rows: Iterable[RowInput]) -> list[R | PromptError]:
    """What is made of each row, such as its prompt, or why nothing is."""

    def one(row: RowInput) -> R | PromptError:
        try:
            return render(row)
        except PromptError as error:
            return error

    return [one(row) for row in rows]


def left_out(reasons: Mapping[int, str], total: int, what: str) -> str:
    """A remark about texts that nothing could be learnt from.

    Args:
        reasons: Why, by row, in order; at least one.
        total: How many texts there are.
        what: What they did not get, such as "no answer".
    """
    rows = list(reasons)
    shown = ", ".join(map(str, rows[:SHOWN])) + (", …" if len(rows) > SHOWN else "")
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(reasons.values()).items())
    return (
        f"{len(rows)} of {total} texts got {what} and were left out of the calibration ({counts}; "
        f"{'row' if len(rows) == 1 else 'rows'} {shown})."
    )
