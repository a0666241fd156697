"""Texts and labels as scikit-learn's users have them: arrays, columns, and classes that may be numbers.

A class is whatever stands in `y`; a label is the name that a model is asked for. Both are kept as a dict from class to
`Label`, in the order of the prompt. No model is asked here; `base` is the only caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labelled import read_items
from langchain_stormtrooper.labels import Label, LabelSet, LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

Classes: TypeAlias = dict[Any, Label]
"""The label of each class, in the order in which a prompt lists them."""


def read_texts(X: Any) -> list[Any]:
    """The rows of `X`, from a list, an array, a column of a table, or a table with one column.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(X, Set):
        raise ConfigurationError("Rows are answered in their order, and a set has none: pass a list.")
    shape = getattr(X, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        if len(shape) != 2 or shape[1] != 1:
            raise ConfigurationError(
                f"`X` must be a list of texts, or one column of them, and has the shape {shape}: pass one column."
            )
        X = np.asarray(X).ravel()
    return read_items("X", X.tolist() if isinstance(X, np.ndarray) else X)


def read_targets(y: Any) -> list[Any]:
    """The class of each row.

    Raises:
        ConfigurationError: A row has none, or they are of several types.
        ValueError: As scikit-learn's own: no rows, numbers that are no classes, several columns.
    """
    if not hasattr(y, "__array__"):
        y = read_items("y", y)
        if any(isinstance(value, float) and value != value for value in y):
            raise ConfigurationError("`y` has a row without a class (NaN): leave such rows out.")
    values = column_or_1d(check_array(keep_members(y), ensure_2d=False, dtype=None, input_name="y"), warn=True)
    if values.dtype.kind in "fc":
        check_classification_targets(values)
    targets: list[Any] = values.tolist()
    _check_types(targets)
    return targets


def keep_members(y: Any) -> Any:
    """`y`, as an array of objects if it is a list with members of an Enum, of which numpy makes texts or numbers."""
    if hasattr(y, "__array__") or not isinstance(y, list | tuple):
        return y
    if not any(isinstance(value, Enum) for row in y for value in (row if isinstance(row, list | tuple) else [row])):
        return y
    return np.array(y, dtype=object)


def read_classes(spec: LabelSpec) -> Classes:
    """The classes of a specification of labels or of a column of classes: each once, in the order given.

    Raises:
        LabelError: The specification is no list of labels.
        ConfigurationError: As for `read_targets`.
    """
    if isinstance(spec, str | bytes | Set | LabelSet) or _has_labels(spec):
        return {label.name: label for label in LabelSet.of(spec).labels}
    if isinstance(spec, Mapping):
        _check_types(spec)
        return {value: Label(class_name(value), description) for value, description in spec.items()}
    if get_origin(spec) is Literal:
        spec = list(get_args(spec))
    elif isinstance(spec, type) and issubclass(spec, Enum):
        return {member: Label(name) for member, name in zip(spec, LabelSet.of(spec), strict=True)}
    return {value: Label(class_name(value)) for value in read_targets(spec)}


def _has_labels(spec: Any) -> bool:
    return isinstance(spec, Sequence) and any(isinstance(item, Label | Mapping) for item in spec)


def _check_types(values: Iterable[Any]) -> None:
    kinds = {Enum if isinstance(value, Enum) else type(value) for value in values}
    if type(None) in kinds:
        raise ConfigurationError("`y` has a row without a class (None): leave such rows out.")
    if bytes in kinds:
        raise ConfigurationError("The classes are bytes: decode them.")
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ConfigurationError(f"The classes are of several types ({names}): make all of them texts, or all numbers.")


def class_name(value: Any) -> str:
    """The label that a class is asked for: a text as it is, an Enum's member as its value or name, others by `str`."""
    if isinstance(value, Enum):
        # As `LabelSet.of` reads the class: by values only if all of them are texts.
        return str(value.value) if all(isinstance(one.value, str) for one in type(value)) else value.name
    return str(value)


def sort_classes(classes: Iterable[Any]) -> NDArray[Any]:
    """The classes in the order of `classes_`: sorted, as everywhere in scikit-learn; an Enum's by their labels.

    Raises:
        ConfigurationError: They are of several types.
    """
    values = list(classes)
    _check_types(values)
    if not isinstance(values[0], Enum):
        return np.unique(np.array(values))
    members = np.empty(len(values), dtype=object)
    members[:] = sorted(values, key=class_name)
    return members


def check_fill(fill: Any, classes: NDArray[Any]) -> None:
    """Refuse a value for rows without a label that does not go into an array with the classes.

    Raises:
        ConfigurationError: It is of another type.
    """
    if fill is not None and np.asarray(keep_members([fill])).dtype.kind != classes.dtype.kind:
        raise ConfigurationError(
            f"`fill_label` must be of the same type as the classes, {type(classes.tolist()[0]).__name__}, not "
            f"{type(fill).__name__}: scikit-learn's metrics do not take a mixture."
        )


def take_classes(places: Sequence[int | None], classes: NDArray[Any], fill: Any) -> NDArray[Any]:
    """The class at each place of `classes`, and `fill` where there is no place.

    Returns:
        An array of the classes' type; of objects if None is in it.
    """
    pool = np.append(classes, keep_members([fill])) if None in places else classes
    return pool[[len(classes) if place is None else place for place in places]] if places else pool[:0]
