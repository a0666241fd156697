"""Labels in a tree: `Node`, and reading nested dicts and path strings.

Pure. Whichever way labels are given, they become a `LabelSet` of paths, which is all that the rest of the package sees
of them, and `grow` makes the tree of it. Called by `runnable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain_stormtrooper.errors import LabelError
from langchain_stormtrooper.labels import Label, LabelSet, LabelSpec, read_labels

_ACCEPTED = (
    "In the dict of a tree a value is None or a description for a label, a list of names, or another dict; what has "
    "names below it stands in a dict, not in a list."
)

TreeSpec: TypeAlias = LabelSpec | Mapping[str, Any]
"""What `read_paths` takes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place in the tree.

    Attributes:
        path: The names that lead there; empty for the root.
        label: The label as it was given; None for what has others below it.
        children: What is below, in the order given.
        labels: The names and descriptions of the children, where there are at least two to choose from.
        position: Which of the labels it is, counted from 0; of an inner node, its first.
    """

    path: tuple[str, ...] = ()
    label: str | None = None
    children: tuple[Node, ...] = ()
    labels: LabelSet | None = None
    position: int = 0

    def child(self, name: str) -> Node:
        """The child of a name."""
        return next(child for child in self.children if child.path[-1] == name)

    def settled(self) -> Node:
        """The first place from here on where there is something to decide, or nothing more."""
        node = self
        while len(node.children) == 1:
            node = node.children[0]
        return node

    def deciding(self) -> Iterator[Node]:
        """This node and those below it where there is something to decide."""
        if self.labels is not None:
            yield self
        for child in self.children:
            yield from child.deciding()

    def leaves(self) -> Iterator[Node]:
        """The labels at and below this node."""
        if self.label is not None:
            yield self
        for child in self.children:
            yield from child.leaves()


def read_paths(spec: TreeSpec, separator: str) -> LabelSet:
    """Labels as paths.

    Args:
        spec: A nested dict, whose values are None, a description, a list of names or another such dict; or whatever
            `LabelSet.of` takes, with paths for names.
        separator: What stands between the names of a path.

    Raises:
        LabelError: A name holds the separator or is none, or the labels do not make a classification.
    """
    if isinstance(spec, Mapping) and any(_is_inner(below) for below in spec.values()):
        return LabelSet(list(_flattened(spec, separator, ())))
    return LabelSet.of(spec)


def grow(labels: LabelSet, separator: str) -> Node:
    """The tree of some paths.

    Args:
        labels: The paths.
        separator: What stands between the names of a path; white space around it does not count.

    Raises:
        LabelError: They make no tree.
    """
    root = _Growing()
    for position, label in enumerate(labels.labels):
        names = [name.strip() for name in label.name.split(separator)]
        if not all(names):
            raise LabelError(
                f"label {label.name!r} has an empty name in its path: give each level one, or set another `separator=`."
            )
        at = root
        for name in names:
            at = at.children.setdefault(name, _Growing(position=position))
        if at.label is not None:
            raise LabelError(f"Labels {at.label.name!r} and {label.name!r} have the same path: leave one out.")
        at.label = label
    return _grown(root, (), separator)


@dataclass(slots=True)
class _Growing:
    children: dict[str, _Growing] = field(default_factory=dict)
    label: Label | None = None
    position: int = 0


def _grown(growing: _Growing, path: tuple[str, ...], separator: str) -> Node:
    label, below = growing.label, growing.children
    if label is not None:
        if below:
            raise LabelError(
                f"{label.name!r} is a label and has others below it: give it one more below itself, perhaps 'other'."
            )
        return Node(path, label.name, position=growing.position)
    choices = [Label(name, None if child.label is None else child.label.description) for name, child in below.items()]
    try:
        labels = LabelSet(choices) if len(choices) > 1 else None
    except LabelError as error:
        raise LabelError(f"Below {separator.join(path)!r}: {error}" if path else str(error)) from None
    return Node(
        path,
        children=tuple(_grown(child, (*path, name), separator) for name, child in below.items()),
        labels=labels,
        position=growing.position,
    )


def respelled(labels: LabelSet, old: str, new: str) -> LabelSet:
    """The same tree, written with another separator.

    Args:
        labels: The paths.
        old: What stands between their names.
        new: What is to stand there.

    Raises:
        LabelError: A name holds it.
    """
    return LabelSet([Label(respell(label.name, old, new), label.description) for label in labels.labels])


def respell(path: str, old: str, new: str) -> str:
    """One path; arguments and errors as in `respelled`."""
    return new.join(_checked(name.strip(), new) for name in path.split(old))


def _is_inner(below: Any) -> bool:
    return below is not None and not isinstance(below, str)


def _flattened(spec: Mapping[Any, Any], separator: str, above: tuple[str, ...]) -> Iterator[Label]:
    for name, below in spec.items():
        if not isinstance(name, str) or not name.strip():
            where = f" below {separator.join(above)!r}" if above else ""
            raise LabelError(f"A name in the tree of labels is {name!r}{where}: it must be a string, and not blank.")
        path = (*above, _checked(name, separator))
        if below is None or isinstance(below, str):
            yield Label(separator.join(path), below)
            continue
        found = _flattened(below, separator, path) if isinstance(below, Mapping) else _listed(below, separator, path)
        label = next(found, None)
        if label is None:
            raise LabelError(
                f"{separator.join(path)!r} has nothing below it: give it names, or None if it is a label itself."
            )
        yield label
        yield from found


def _listed(below: Any, separator: str, path: tuple[str, ...]) -> Iterator[Label]:
    """The labels of a list, or of whatever else holds names alone."""
    try:
        read = read_labels(below)
    except LabelError as error:
        # What it says of labels in general is only half of what may stand here.
        raise LabelError(f"Below {separator.join(path)!r} in the tree of labels: {error} {_ACCEPTED}") from None
    for label in read:
        yield Label(separator.join((*path, _checked(label.name, separator))), label.description)


def _checked(name: str, separator: str) -> str:
    if separator in name:
        raise LabelError(
            f"The name {name!r} holds {separator!r}, which stands between the names of a path: set another "
            "`separator=`, such as ' > '."
        )
    return name
