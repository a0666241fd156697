"""`Learnt`: what calibrating has found, with what its user should know. Pure but for the warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from langchain_stormtrooper.errors import CalibrationWarning
from langchain_stormtrooper.row_warnings import warn_caller

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Learnt(Generic[T]):
    """What texts taught.

    Attributes:
        state: What is to be kept: a calibration, or the evidence of thresholds.
        remarks: What its user should know, in whole sentences.
    """

    state: T
    remarks: tuple[str, ...]

    def warn(self) -> T:
        """The state, after one warning for each remark; to be called in the user's own thread."""
        for remark in self.remarks:
            warn_caller(CalibrationWarning, remark)
        return self.state
