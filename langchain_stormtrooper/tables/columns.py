"""Batches of columns, as engines for tables pass them: texts out of a column, answers into further ones.

A batch is a dict of numpy arrays or lists, a `pyarrow.Table` or a `pandas.DataFrame`; which one is seen by what it can
do, so that none of these packages is imported before there is such a batch. Pure. `batches` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from langchain_stormtrooper.arguments import is_null
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification

_TEXTS = ("label", "reason", "method", "match", "generation", "error")
_OPTION = "out_of_scope"
_NUMBERS = ("confidence", "covered_mass", _OPTION)
_PROBABILITIES = "probabilities"

FIELDS = ("label", "reason", "confidence", _PROBABILITIES, _OPTION, "error")
"""What is told of a row where the caller does not say, as far as the classifier has it."""


class Column(NamedTuple):
    """A new column.

    Attributes:
        kind: What its values are where they are not None: `str` or `float`.
        values: One for each row.
    """

    kind: type
    values: list[Any]


def answer_columns(
    answers: Sequence[Classification], fields: Sequence[str], labels: Sequence[str], prefix: str
) -> dict[str, Column]:
    """Answers by column.

    Args:
        answers: One for each row.
        fields: What is told of them, as `check_fields` returns it.
        labels: The labels, of which each has a column of its probabilities.
        prefix: What the names of all columns begin with.
    """
    columns: dict[str, Column] = {}
    for field in fields:
        if field == _PROBABILITIES:
            known = [answer.probabilities or {} for answer in answers]
            for label in labels:
                columns[f"probability:{label}"] = Column(float, [row.get(label) for row in known])
        else:
            kind: Any = float if field in _NUMBERS else str
            values = [getattr(answer, field) for answer in answers]
            # Some are members of an Enum.
            columns[field] = Column(kind, [None if value is None else kind(value) for value in values])
    return {prefix + name: column for name, column in columns.items()}


def check_fields(columns: Iterable[str], *, has_option: bool = False) -> tuple[str, ...]:
    """What is told of a row, in the order given.

    Args:
        columns: Some fields of a `Classification`.
        has_option: Whether there is an option for texts that no label fits; without, `FIELDS` are all but its own.

    Raises:
        ConfigurationError: One is none of these, or is there twice, or is the option's where there is no option; or
            there is none.
    """
    known = [*_TEXTS, *_NUMBERS, _PROBABILITIES]
    fields = (columns,) if isinstance(columns, str) else tuple(columns)
    if unknown := [field for field in fields if field not in known]:
        raise ConfigurationError(f"`columns=` has {unknown}: choose from {known}.")
    if not fields or len(set(fields)) < len(fields):
        raise ConfigurationError("`columns=` must name one column or more, and none twice.")
    if _OPTION in fields and not has_option:
        if fields != FIELDS:
            raise ConfigurationError(
                f"`columns=` has {_OPTION!r}, the probability of an option that the classifier does not have: give it "
                "`out_of_scope=`, or leave the column out."
            )
        fields = tuple(field for field in fields if field != _OPTION)
    return fields


def names_of(batch: Any) -> list[str]:
    """The columns of a batch.

    Raises:
        ConfigurationError: It is none of the kinds that there are.
    """
    if hasattr(batch, "column_names"):
        return list(batch.column_names)
    if not isinstance(batch, dict) and not (hasattr(batch, "columns") and hasattr(batch, "assign")):
        raise ConfigurationError(
            f"A batch must be a dict of arrays or lists, a pyarrow.Table or a pandas.DataFrame, not a "
            f"{type(batch).__name__}."
        )
    return list(batch)


def values_of(batch: Any, name: str) -> list[Any]:
    """A column as Python's own values.

    Raises:
        ConfigurationError: It is no column of values.
    """
    if names_of(batch).count(name) > 1:
        raise ConfigurationError(
            f"There are several columns {name!r}: rename them, so that it is plain which is meant."
        )
    column = batch[name]
    if isinstance(column, list):
        return column
    if hasattr(column, "to_pylist"):
        return cast("list[Any]", column.to_pylist())
    values = column.tolist() if hasattr(column, "tolist") else None
    if not isinstance(values, list):
        raise ConfigurationError(
            f"The column {name!r} of the batch is a {type(column).__name__}: it must be an array or a list."
        )
    return values


def texts_of(values: Sequence[Any], name: str) -> list[str | None]:
    """The texts of a column, None where there is none.

    Args:
        values: The column.
        name: Its name.

    Raises:
        ConfigurationError: The column has values, and none is a text.
    """
    texts = [str(value) if isinstance(value, str) else None for value in values]
    other = next((value for value in values if not isinstance(value, str) and not is_null(value)), None)
    if other is not None and all(text is None for text in texts):
        raise ConfigurationError(f"The column {name!r} holds {type(other).__name__} and no texts: set `text_column=`.")
    return texts


def add_columns(batch: Any, columns: dict[str, Column]) -> Any:
    """A batch with further columns, of the same types in every batch, whatever is null."""
    if hasattr(batch, "append_column"):
        import pyarrow

        for name, (kind, values) in columns.items():
            arrow = pyarrow.float64() if kind is float else pyarrow.string()
            batch = batch.append_column(name, pyarrow.array(values, arrow))
        return batch
    if isinstance(batch, dict) and all(isinstance(column, list) for column in batch.values()):
        return {**batch, **{name: values for name, (_, values) in columns.items()}}
    import numpy

    arrays = {name: numpy.array(values, float if kind is float else object) for name, (kind, values) in columns.items()}
    return {**batch, **arrays} if isinstance(batch, dict) else batch.assign(**arrays)
