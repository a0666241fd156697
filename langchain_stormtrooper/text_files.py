"""Texts, labels and examples from files: `.txt` (one text a line), `.csv`, `.jsonl` and `.parquet`, all UTF-8.

Rows are read one at a time, so a file may be larger than the memory. Whatever is wrong with a file is a
`ConfigurationError` that names the file, the line and what to do; no message shows a text. What is wrong with single
rows is an error too, or is reported in their place, as the caller asks. The command line and `tables.classifying` call
this module; nothing here knows of language models.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labels import Label
from langchain_stormtrooper.tables.formats import TABLES, is_table, open_table
from langchain_stormtrooper.tables.lines import Line, decoded, lines_of, whole
from langchain_stormtrooper.tables.records import Kind, Outline, Record, Table, listed

ENDINGS = (".txt", *TABLES)
"""The files that hold texts, by ending."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text, or a row that should hold one.

    Attributes:
        index: Its number in the source, from 0: of the line in texts one a line, else of the record.
        text: The text; None where there is something else, such as a number, or nothing.
        expected: Its known label, where there is one: what is empty or blank is none.
        problem: Why it could not be read, where it could not.
        record: The record that it comes from, where there is one.
    """

    index: int
    text: str | None
    expected: str | None = None
    problem: str | None = field(default=None, compare=False)
    record: Record | None = field(default=None, compare=False, repr=False)

    @property
    def blank(self) -> bool:
        """Whether it holds no text: none at all, or white space only."""
        return self.text is None or not self.text.strip()


@dataclass(frozen=True, slots=True)
class Columns:
    """What to read from a file.

    Attributes:
        text: The column that holds the texts.
        label: The column that holds known labels; None to read none.
        where: Columns and the values that they must have; other rows are passed over.
    """

    text: str = "text"
    label: str | None = None
    where: tuple[tuple[str, str], ...] = ()

    def named(self) -> list[str]:
        """The names of all columns that are looked at."""
        return [self.text, *([] if self.label is None else [self.label]), *(column for column, _ in self.where)]

    def __str__(self) -> str:
        """The conditions, for messages."""
        return " and ".join(f"{column}={value}" for column, value in self.where)


def read_where(conditions: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Conditions written as `column=value`.

    Raises:
        ConfigurationError: One has no `=`, or nothing before it.
    """
    pairs: list[tuple[str, str]] = []
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not column or not equals:
            raise ConfigurationError(f"{condition!r} is no condition: write column=value, such as split=test.")
        pairs.append((column, value))
    return tuple(pairs)


def read_rows(path: Path, columns: Columns, *, reports: bool = False) -> Iterator[Row]:
    """The rows of a file that meet the conditions, in order.

    Blank lines of a `.txt` file are passed over, but counted. Records without a text are rows, which are `blank`.

    Args:
        path: The file.
        columns: What to read from it.
        reports: Whether what cannot be read is a blank row with a `problem`, whatever the conditions, and no error.

    Raises:
        ConfigurationError: The file cannot be read, or not as what its ending says.
    """
    return (row for row, _ in _read(path, columns, reports))


def _read(path: Path, columns: Columns, reports: bool = False) -> Iterator[tuple[Row, str]]:
    """The rows, each with what is to be said where it holds no text."""
    if path.suffix.lower() == ".txt":
        yield from _read_texts(path, columns, reports)
        return
    table = _table(path)
    table.check(columns.named())
    yield from _rows(table, table.records(), columns, reports)


def _read_texts(path: Path, columns: Columns, reports: bool) -> Iterator[tuple[Row, str]]:
    if columns != Columns():
        raise ConfigurationError(
            f"{path} has no columns: texts with labels or other columns belong in .csv, .jsonl or .parquet."
        )
    for line in lines_of(path):
        if line.problem is not None and reports:
            yield Row(line.number - 1, None, problem=line.problem), line.problem
        elif whole(line).strip():
            yield _text(line), ""


def _rows(table: Table, records: Iterable[Record], columns: Columns, reports: bool) -> Iterator[tuple[Row, str]]:
    for index, record in enumerate(records):
        if record.is_broken and record.problem is not None:
            if not reports:
                raise ConfigurationError(record.problem)
            yield Row(index, None, problem=record.problem, record=record), record.problem
            continue
        if not _meets(record.fields, columns):
            continue
        text = record.fields.get(columns.text)
        label = None if columns.label is None else _written(record.fields.get(columns.label))
        if label is not None and not label.strip():
            # All that a .csv can have where JSON has null; neither says whether it is missing or out of scope.
            label = None
        row = Row(index, text if isinstance(text, str) else None, label, record.problem, record)
        told = ""
        if row.blank:
            found = f"the column {columns.text!r} holds no text; the columns are {listed(record.fields)}"
            told = record.problem or f"{table.path}, line {record.line}: {found}."
        yield row, told


def holds(path: Path, columns: Columns) -> bool:
    """Whether any row of a file meets the conditions; in a file without such columns none does.

    Raises:
        ConfigurationError: As `read_rows`.
    """
    every = Columns(columns.text, columns.label)
    return any(_meets(row.record.fields, columns) for row in read_rows(path, every) if row.record is not None)


def read_stream(stream: IO[bytes]) -> Iterator[Row]:
    """Texts one a line from a stream such as stdin, as they come; blank lines are passed over, but counted."""
    return (_text(line) for line in decoded(stream, "stdin") if whole(line).strip())


def count_rows(path: Path, columns: Columns, limit: int | None = None) -> int:
    """How many rows there are to classify; reads them all, so that a bad line is found before any work is done.

    Raises:
        ConfigurationError: As `look_through`.
    """
    return look_through(path, columns, limit).rows


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Attributes:
        rows: How many rows there are to classify.
        table: What reads it; None for a `.txt` file.
        outline: The columns of its rows.
    """

    rows: int
    table: Table | None
    outline: Outline = field(repr=False)


def look_through(path: Path, columns: Columns, limit: int | None = None, *, reports: bool = False) -> Survey:
    """What a file holds; reads all rows up to the limit, so that what is wrong is found before any work is done.

    Args:
        path: The file.
        columns: What to read from it.
        limit: How many rows to read at most; None for all.
        reports: As in `read_rows`.

    Raises:
        ConfigurationError: As `read_rows`, or there is no row, or none that holds a text, or no row has a known label
            though a column for it was named.
    """
    table = _table(path) if path.suffix.lower() != ".txt" else None
    outline = Outline()
    if table is None:
        rows = _read_texts(path, columns, reports)
    else:
        table.check(columns.named())
        rows = _rows(table, table.records(columns.named()), columns, reports)
        outline.kinds |= dict.fromkeys(table.columns or (), Kind.TEXT)
    labelled = count = texts = 0
    first = ""
    for row, complaint in islice(rows, limit):
        count += 1
        labelled += row.expected is not None
        texts += not row.blank
        first = first or complaint
        if table is not None and table.columns is None and row.record is not None:
            outline.add(row.record.fields)
    if not count:
        raise ConfigurationError(
            f"No row of {path} has {columns}: check the condition."
            if columns.where
            else f"{path} holds no text: is it the right file?"
        )
    if not texts:
        raise ConfigurationError(first)
    if columns.label is not None and not labelled:
        raise ConfigurationError(f"No row of {path} has a label in the column {columns.label!r}: check its name.")
    return Survey(count, table, outline)


def read_examples(path: Path, columns: Columns, per_label: int | None = None) -> list[tuple[str, str]]:
    """Texts with their labels, for a few-shot prompt, in the file's order.

    Args:
        path: A `.csv`, `.jsonl` or `.parquet` file.
        columns: Where texts and labels are.
        per_label: How many to keep of each label, the first ones; None for all.

    Raises:
        ConfigurationError: As `read_rows`, or a row has no text or no label, or there is none.
    """
    return as_examples(read_example_rows(path, columns, per_label))


def as_examples(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Texts with their labels."""
    return [(row.text or "", row.expected or "") for row in rows]


def read_example_rows(
    path: Path, columns: Columns, per_label: int | None = None, *, pass_blank: bool = False
) -> list[Row]:
    """Like `read_examples`, with the numbers of the rows.

    Args:
        path: As for `read_examples`.
        columns: As for `read_examples`.
        per_label: As for `read_examples`.
        pass_blank: Whether to pass over rows without a text or without a label, instead of refusing them.

    Raises:
        ConfigurationError: As `read_examples`.
    """
    count_rows(path, columns)
    kept: list[Row] = []
    counts: Counter[str] = Counter()
    for row, complaint in _read(path, columns):
        if pass_blank and (row.blank or row.expected is None):
            continue
        if row.blank:
            raise ConfigurationError(complaint)
        if row.expected is None:
            raise ConfigurationError(
                f"{path}, row {row.index}: an example needs a label in {columns.label!r}; of a text that no label fits "
                "it is the name of `out_of_scope=` (--out-of-scope)."
            )
        counts[row.expected] += 1
        if per_label is None or counts[row.expected] <= per_label:
            kept.append(row)
    return kept


def read_labels(path: Path) -> list[Label]:
    """Labels one a line, each alone or followed by a tab and its description; blank lines are passed over.

    Raises:
        ConfigurationError: The file cannot be read as text, or holds no label.
    """
    labels: list[Label] = []
    for line in lines_of(path):
        name, _, description = whole(line).strip().partition("\t")
        if name:
            labels.append(Label(name.strip(), description.strip() or None))
    if not labels:
        raise ConfigurationError(f"{path} holds no label: write one a line.")
    return labels


def read_text(path: Path) -> str:
    """A whole file, such as a prompt template, without the newline that editors put at its end."""
    return "".join(map(whole, lines_of(path))).removesuffix("\n").removesuffix("\r")


def _meets(record: Mapping[str, Any], columns: Columns) -> bool:
    return all(_written(record.get(column)) == value for column, value in columns.where)


def _text(line: Line) -> Row:
    return Row(line.number - 1, whole(line).rstrip("\r\n"))


def _table(path: Path) -> Table:
    if not is_table(path):
        raise ConfigurationError(f"{path} is not a file of texts: its name must end with {', '.join(ENDINGS)}.")
    return open_table(path)


def _written(value: Any) -> str | None:
    """A value as one would write it in a condition; None if it is no single value."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) else None
