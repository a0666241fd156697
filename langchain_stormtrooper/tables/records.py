"""What a row of a file is, whatever the format, and what reads and writes files of them. Pure."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from langchain_stormtrooper.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: The line where it begins, from 1; in Parquet, its number.
        fields: What its columns hold; nothing where it could not be read.
        problem: What is wrong with it, in one sentence that names file and line; None where nothing is.
        is_broken: Whether the file is damaged there, not only other than it should be.
        origin: The row as the file has it, for a writer of the same format: JSON text, or a place in Parquet.
    """

    line: int
    fields: Mapping[str, Any] = field(repr=False)
    problem: str | None = None
    is_broken: bool = False
    origin: Any = field(default=None, repr=False, compare=False)


class Kind(StrEnum):
    """What the values of a column are, for formats whose columns have types."""

    NOTHING = "nothing"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    JSON = "JSON"
    """Anything else, or kinds that have no common one: written as JSON text."""


_EXACT = 2**53
"""Whole numbers up to here are the same as floating-point numbers."""


def kind_of(value: Any) -> Kind:
    """The kind of one value."""
    match value:
        case None:
            return Kind.NOTHING
        case bool():
            return Kind.BOOLEAN
        case int():
            return Kind.INTEGER if -(2**63) <= value < 2**63 else Kind.JSON
        case float():
            return Kind.NUMBER
        case str():
            return Kind.TEXT
        case _:
            return Kind.JSON


class Outline:
    """The columns of a file as they were found, in order, with their kinds; grows with each record."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self._large: set[str] = set()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Take note of one record."""
        for name, value in fields.items():
            kind, before = kind_of(value), self.kinds.get(name, Kind.NOTHING)
            if kind is Kind.INTEGER and abs(value) > _EXACT:
                self._large.add(name)
            self.kinds[name] = self._common(name, before, kind)

    def _common(self, name: str, one: Kind, other: Kind) -> Kind:
        if one is other or other is Kind.NOTHING:
            return one
        if one is Kind.NOTHING:
            return other
        # A whole number that is too large would become another one.
        if {one, other} == {Kind.INTEGER, Kind.NUMBER} and name not in self._large:
            return Kind.NUMBER
        return Kind.JSON

    def kind(self, name: str) -> Kind:
        """The kind of a column, also of one whose numbers came before it was known to hold large ones."""
        kind = self.kinds.get(name, Kind.NOTHING)
        return Kind.JSON if kind is Kind.NUMBER and name in self._large else kind


class Table(ABC):
    """A file of records.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...] | None:
        """The names of its columns; None where each record has its own.

        Raises:
            ConfigurationError: The file cannot be read, or has no columns.
        """

    @abstractmethod
    def records(self, wanted: Sequence[str] | None = None) -> Iterator[Record]:
        """Its records, read as they are asked for.

        Args:
            wanted: The only columns that will be looked at, so that others need not be read; None for all.

        Raises:
            ConfigurationError: The file as a whole cannot be read. What is wrong with one record is its `problem`.
        """

    def check(self, wanted: Iterable[str]) -> None:
        """See to it that there are columns of these names.

        Raises:
            ConfigurationError: There are not, or one is there twice.
        """
        columns = self.columns
        if columns is None:
            return
        for column in wanted:
            if column not in columns:
                raise ConfigurationError(f"{self.path} has no column {column!r}; the columns are {listed(columns)}.")
            if columns.count(column) > 1:
                raise ConfigurationError(f"{self.path} has more than one column {column!r}: rename the others.")


class Sink(ABC):
    """Where records go with what is added to each.

    Args:
        path: The file; it is there, and empty.
        columns: The names of the columns that records have.
        added: The names of the columns that are added, all but those of probabilities.
        probabilities: Which column each label's probability goes to.
    """

    quote: ClassVar[bytes | None] = b""
    """What stands before and after the end of a line that ends no row, in formats of lines; None for other formats."""

    heads: ClassVar[int] = 0
    """How many rows of names stand before all others."""

    @abstractmethod
    def write(self, record: Record, values: Mapping[str, Any], probabilities: Mapping[str, float]) -> None:
        """Write one record.

        Args:
            record: The record.
            values: Values of the added columns, by name.
            probabilities: The probability of each label; empty where there are none.
        """

    @abstractmethod
    def close(self) -> None:
        """Write what is left, and close the file."""


def listed(columns: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(repr(column) for column in columns) or "none"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dates by ISO 8601, bytes as hexadecimal digits, what is no number as nothing."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            return {str(name): plain(part) for name, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case _:
            # Such as a decimal number.
            return str(value)


def as_text(value: Any) -> str:
    """A value as a field of a format that has text only; nothing is an empty field."""
    value = plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
