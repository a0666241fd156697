"""Texts and their known labels, as users pass them: read into lists, and refused where they do not go together.

Pure. `calibrating` and `evaluation` call it before a model is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_stormtrooper.errors import ConfigurationError, LabelError
from langchain_stormtrooper.labels import LabelSet


def read_items(name: str, values: Iterable[Any]) -> list[Any]:
    """The items of an argument that holds one for each row.

    Args:
        name: What the argument is called.
        values: The argument.

    Raises:
        ConfigurationError: It is one text, or no list.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigurationError(f"`{name}` must be a list with one item per row, not {type(values).__name__}.")
    return list(values)


def read_labelled(
    texts: Iterable[Any], labels: Iterable[str], known: LabelSet, *, purpose: str
) -> tuple[list[Any], list[str]]:
    """Texts and the label of each as lists.

    Args:
        texts: The texts, or dicts that hold them.
        labels: The right label of each text.
        known: The labels of the task.
        purpose: What they are for, as in "There is nothing to … on".

    Raises:
        ConfigurationError: Texts and labels do not go together, or there are none.
        LabelError: A label is not one of the task's.
    """
    rows, right = read_items("texts", texts), read_items("labels", labels)
    if len(rows) != len(right):
        raise ConfigurationError(
            f"The numbers of texts and labels differ ({len(rows)} and {len(right)}): give one label for each text."
        )
    if not rows:
        raise ConfigurationError(f"There is nothing to {purpose} on: `texts` is empty.")
    for row, label in enumerate(right):
        if not isinstance(label, str):
            raise ConfigurationError(f"labels[{row}] must be a string, not {type(label).__name__}.")
        if label not in known:
            raise LabelError(
                f"The known label {label!r} is not one of the classifier's labels: add it to `labels=`, or leave its "
                "rows out."
            )
    return rows, right
