"""The columns that answers go to: `label`, `confidence`, `reason`, `error`, and a probability for each label. Pure.

The probability that none of the labels fits is `out_of_scope`, as in JSON lines on standard output, for classifiers
with an option for it. It is no `probability:…`, so that no name of a label can be in its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.tables.records import Kind, listed


class AnswerColumns:
    """Names of the columns that are added to a file.

    Args:
        labels: The labels.
        prefix: What all names begin with.
        has_option: Whether there is an option for texts that no label fits.

    Attributes:
        kinds: All names but those of labels' probabilities, with what they hold.
        of_labels: The name of the probability of each label.
        probabilities: The name of all probabilities together, in JSON.
    """

    def __init__(self, labels: Sequence[str], prefix: str = "", *, has_option: bool = False) -> None:
        self._prefix = prefix
        self.kinds = {
            f"{prefix}label": Kind.TEXT,
            f"{prefix}confidence": Kind.NUMBER,
            f"{prefix}reason": Kind.TEXT,
            f"{prefix}error": Kind.TEXT,
        }
        self._has_option = has_option
        if has_option:
            self.kinds[f"{prefix}out_of_scope"] = Kind.NUMBER
        self.of_labels = {label: f"{prefix}probability:{label}" for label in labels}
        self.probabilities = f"{prefix}probabilities"

    def check(self, path: Path, columns: Iterable[str], *, is_json: bool) -> None:
        """See to it that no column of a file is overwritten.

        Args:
            path: The file.
            columns: The columns that it has.
            is_json: Whether the output is JSON, which has the probabilities in one column.

        Raises:
            ConfigurationError: A column has the name of one that is added.
        """
        added = {*self.kinds, *([self.probabilities] if is_json else self.of_labels.values())}
        taken = [column for column in columns if column in added]
        if taken:
            raise ConfigurationError(
                f"{path} has columns that the answers would overwrite ({listed(taken)}): name the added columns "
                f"otherwise by `prefix=`, such as 'predicted_' for 'predicted_label'."
            )

    def values(self, answer: Classification) -> dict[str, Any]:
        """What goes to the columns in `kinds`."""
        reason = None if answer.reason is None else answer.reason.value
        values: list[Any] = [answer.label, _shortened(answer.confidence), reason, answer.error]
        if self._has_option:
            values.append(_shortened(answer.out_of_scope))
        return dict(zip(self.kinds, values, strict=True))


def probabilities_of(answer: Classification) -> dict[str, float]:
    """The probability of each label, where there are any."""
    return {label: short(p) for label, p in (answer.probabilities or {}).items()}


def _shortened(probability: float | None) -> float | None:
    return None if probability is None else short(probability)


def short(probability: float) -> float:
    """With the digits that a float32 model can stand for."""
    return float(f"{probability:.6g}")
