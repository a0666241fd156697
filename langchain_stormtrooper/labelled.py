"""Texts and their known labels, as users pass them: read into lists, and refused where they do not go together.

Pure. `calibrating`, `evaluation` and `tuning` call it before a model is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from langchain_stormtrooper.errors import ConfigurationError, LabelError
from langchain_stormtrooper.labels import LabelSet, name_of


def read_items(name: str, values: Iterable[Any]) -> list[Any]:
    """The items of an argument that holds one for each row.

    Args:
        name: What the argument is called.
        values: The argument.

    Raises:
        ConfigurationError: It is one text, or no list.
    """
    given: Any = values
    # A dict or a table would be read as the names of its columns.
    is_table = isinstance(given, Mapping) or hasattr(given, "columns")
    if is_table or isinstance(given, str | bytes) or not isinstance(given, Iterable):
        hint = ": pass one of its columns" if is_table else ""
        raise ConfigurationError(f"`{name}` must be a list with one item per row, not {type(given).__name__}{hint}.")
    return list(values)


def read_scoped(
    texts: Iterable[Any], labels: Iterable[Any], known: LabelSet, *, purpose: str, option: str | None = None
) -> tuple[list[Any], list[str | None]]:
    """Texts and the label of each, or None for one that none of the labels fits, as lists.

    Args:
        texts: The texts, or dicts that hold them.
        labels: The right label of each text, which may be a member of the Enum of the labels; or None.
        known: The labels of the task.
        purpose: What they are for, as in "There is nothing to … on".
        option: A name that stands for None; None for no other.

    Raises:
        ConfigurationError: Texts and labels do not go together, or there are none.
        LabelError: A label is not one of the task's.
    """
    if isinstance(texts, Set) or isinstance(labels, Set):
        raise ConfigurationError("Texts and labels go together by their order, and a set has none: pass lists.")
    rows, right = read_items("texts", texts), read_items("labels", labels)
    if len(rows) != len(right):
        raise ConfigurationError(
            f"The numbers of texts and labels differ ({len(rows)} and {len(right)}): give one label for each text."
        )
    if not rows:
        raise ConfigurationError(f"There is nothing to {purpose} on: `texts` is empty.")
    names: list[str | None] = []
    for row, label in enumerate(right):
        name = name_of(label, known.names)
        if label is None or (name is not None and name == option):
            names.append(None)
            continue
        if name is None:
            raise ConfigurationError(f"labels[{row}] must be a string, not {type(label).__name__}.")
        if name not in known:
            raise LabelError(
                f"The known label {name!r} is not one of the classifier's labels: add it to `labels=`, or leave its "
                "rows out."
            )
        names.append(name)
    return rows, names


def read_label_lists(
    texts: Iterable[Any], label_lists: Iterable[Any], known: LabelSet, *, purpose: str
) -> tuple[list[Any], list[frozenset[str]]]:
    """Texts and the labels of each, which may be none, as lists.

    Args:
        texts: The texts, or dicts that hold them.
        label_lists: The right labels of each text, as a list, a tuple or a set.
        known: The labels of the task.
        purpose: As in `read_scoped`.

    Raises:
        ConfigurationError: Texts and labels do not go together, or there are none.
        LabelError: A label is not one of the task's.
    """
    lists = read_items("label_lists", label_lists)
    for row, labels in enumerate(lists):
        if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable):
            raise ConfigurationError(
                f"label_lists[{row}] must be a list of labels, perhaps an empty one, not {type(labels).__name__}."
            )
    lists = [list(labels) for labels in lists]
    for row, labels in enumerate(lists):
        for label in labels:
            if name_of(label, known.names) is None:
                hint = " instead of a 0 or 1 for each label" if _are_indicators(labels) else ""
                raise ConfigurationError(
                    f"label_lists[{row}] must hold the names of the labels that apply, such as "
                    f"{list(known.names[:2])}{hint}, and not {type(label).__name__}."
                )
    rows = read_items("texts", texts)
    if len(rows) != len(lists):
        raise ConfigurationError(
            f"The numbers of texts and lists of labels differ ({len(rows)} and {len(lists)}): give one list for each "
            "text."
        )
    if isinstance(texts, Set):
        raise ConfigurationError("Texts and labels go together by their order, and a set has none: pass lists.")
    if not rows:
        raise ConfigurationError(f"There is nothing to {purpose} on: `texts` is empty.")
    # Each label beside its text, so that they are read as those of a task with one label a text.
    pairs = [(row, label) for row, labels in enumerate(lists) for label in labels]
    found: list[set[str]] = [set() for _ in rows]
    if pairs:
        owners, names = read_scoped([row for row, _ in pairs], [label for _, label in pairs], known, purpose=purpose)
        for owner, name in zip(owners, names, strict=True):
            assert name is not None  # noqa: S101  # each was seen to have one
            found[owner].add(name)
    return rows, [frozenset(names) for names in found]


def _are_indicators(labels: list[Any]) -> bool:
    known = {"0", "1", "0.0", "1.0", "False", "True"}
    return all(not isinstance(label, str) and str(label) in known for label in labels)
