"""`Calibration`: what was learnt about a model's probabilities on one task, and its file.

A value: it is bound to the labels, the prompt and the model that it was learnt with, is applied to rows without numpy,
and holds numbers and names only, never a text. Made by `fitting` or from a prior; kept by a classifier.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langchain_stormtrooper.calibration.priors import FLOOR
from langchain_stormtrooper.calibration.report import CalibrationReport
from langchain_stormtrooper.calibration.thresholds import Threshold
from langchain_stormtrooper.errors import CalibrationError
from langchain_stormtrooper.whole_files import write_whole

FORMAT = "langchain-stormtrooper calibration"
FORMAT_VERSION = 1
_NEEDS = {"prior": {"prior"}, "temperature": {"temperature", "bias"}, "logistic": {"weights", "bias"}}

Numbers = tuple[float, ...]


class Calibration(BaseModel):
    """A map from the probabilities that a model gives to calibrated ones, for one task.

    With z the natural logarithms of K probabilities, each at least 1e-9, the calibrated ones are the softmax of

    - `kind="prior"`: z − ln prior (Zhao et al. 2021, arXiv 2102.09690; Zhou et al. 2023, arXiv 2309.17249);
    - `kind="temperature"`: z / temperature + bias (Guo et al. 2017, arXiv 1706.04599);
    - `kind="logistic"`: weights · z + bias (Kull et al. 2019, arXiv 1910.12656).

    Attributes:
        labels: The K labels, in the order of the probabilities.
        task: Fingerprint of the task, as the caller makes it: hexadecimal SHA-256 of the prompt with all but the text.
        model_id: The model that gave the probabilities; None if it is not known.
        kind: Which of the maps.
        prior: For "prior": K probabilities, all above 0.
        temperature: For "temperature": above 0; above 1 makes answers less sure.
        bias: For "temperature" and "logistic": K numbers, in natural logarithms.
        weights: For "logistic": K rows of K numbers; a row makes one label's score from the z of all.
        threshold: From which confidence on answers count; None if all do.
        report: What fitting with labels showed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    labels: tuple[str, ...] = Field(min_length=2)
    task: str = Field(pattern=r"^[0-9a-f]{64}$")
    model_id: str | None = None
    kind: Literal["prior", "temperature", "logistic"]
    prior: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    temperature: float | None = Field(default=None, gt=0)
    bias: Numbers | None = None
    weights: tuple[Numbers, ...] | None = None
    threshold: Threshold | None = None
    report: CalibrationReport | None = None

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        given = {name for name in ("prior", "temperature", "bias", "weights") if getattr(self, name) is not None}
        if given != _NEEDS[self.kind]:
            raise ValueError(f"kind={self.kind!r} has {sorted(_NEEDS[self.kind])} and no other parameters")
        size = len(self.labels)
        if len(set(self.labels)) < size:
            raise ValueError("a label is there twice")
        rows = [numbers for numbers in (self.prior, self.bias, *(self.weights or ())) if numbers is not None]
        if any(len(numbers) != size for numbers in rows) or (self.weights is not None and len(self.weights) != size):
            raise ValueError(f"there are {size} labels, and the parameters are for another number")
        if self.report is not None and len(self.report.per_class) != size:
            raise ValueError(f"there are {size} labels, and the report is on another number")
        return self

    def apply(self, probabilities: Sequence[float]) -> tuple[float, ...]:
        """Calibrate the probabilities of one row.

        Args:
            probabilities: K numbers of at least 0, in the order of the labels; they need not sum to 1.

        Returns:
            K probabilities that sum to 1.

        Raises:
            CalibrationError: There are not K, or one is negative or not a number.
        """
        if len(probabilities) != len(self.labels):
            raise CalibrationError(
                f"The calibration is for {len(self.labels)} labels, and there are {len(probabilities)} probabilities."
            )
        if not all(0 <= value < math.inf for value in probabilities):
            raise CalibrationError("Probabilities to calibrate must be finite numbers of at least 0.")
        logs = [math.log(max(value, FLOOR)) for value in probabilities]
        return _softmax(self._scores(logs))

    def _scores(self, logs: Sequence[float]) -> list[float]:
        if self.prior is not None:
            return [value - math.log(lean) for value, lean in zip(logs, self.prior, strict=True)]
        bias = self.bias or ()
        if self.temperature is not None:
            return [value / self.temperature + shift for value, shift in zip(logs, bias, strict=True)]
        return [
            math.fsum(weight * value for weight, value in zip(row, logs, strict=True)) + shift
            for row, shift in zip(self.weights or (), bias, strict=True)
        ]

    def check(self, labels: Sequence[str], task: str, model_id: str | None) -> None:
        """Refuse another task than the one that the calibration was learnt on.

        Args:
            labels: The classifier's labels, in order.
            task: Its task's fingerprint.
            model_id: Its model; None if it is not known, which only a calibration of an unknown model allows.

        Raises:
            CalibrationError: Labels, prompt or model differ; the message says which, and what to do.
        """
        differences = []
        if tuple(labels) != self.labels:
            order = " in another order" if sorted(labels) == sorted(self.labels) else ""
            differences.append(f"labels ({list(self.labels)} there, {list(labels)} here{order and ':' + order})")
        # Other labels are another prompt as well: that would only hide what is to be corrected.
        elif task != self.task:
            differences.append("prompt (instruction, kinds, descriptions or examples)")
        if model_id != self.model_id:
            there, here = (repr(name) if name else "unknown" for name in (self.model_id, model_id))
            differences.append(f"model ({there} there, {here} here)")
        if differences:
            raise CalibrationError(
                f"The calibration was made for other {' and '.join(differences)}: calibrate this classifier with "
                "texts of its own task, or give it what the calibration was made with."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration to a JSON file, whole or not at all.

        Args:
            path: Where to; an older file there is replaced.

        Raises:
            OSError: The file cannot be written.
        """
        content = {"format": FORMAT, "version": FORMAT_VERSION, "calibration": self.model_dump(mode="json")}
        write_whole(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a calibration that `save` wrote.

        Raises:
            CalibrationError: The file is broken, is something else, or comes from a newer release.
            OSError: The file cannot be read.
        """
        content = _read(Path(path))
        try:
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            what = _explain(error)
            raise CalibrationError(f"{path} holds a calibration that is not valid ({what}): make it anew.") from None


def _read(path: Path) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise CalibrationError(f"{path} is not a calibration: it is no JSON, or was cut short.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CalibrationError(f"{path} is not a calibration: pass a file written by `Calibration.save`.")
    version = content.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
        raise CalibrationError(
            f"{path} was written by a newer release (format {version}, this one reads {FORMAT_VERSION}): upgrade "
            "langchain-stormtrooper, or calibrate again."
        )
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CalibrationError(f"{path} has no format version that this release reads: calibrate again.")
    return content.get("calibration")


def _explain(error: ValidationError) -> str:
    """The first thing wrong, without the file's content."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _softmax(scores: Sequence[float]) -> tuple[float, ...]:
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)
