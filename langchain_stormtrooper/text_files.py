"""Texts, labels and examples from files: `.txt` (one text a line), `.csv` and `.jsonl`, all UTF-8.

Rows are read one at a time, so a file may be larger than the memory. Whatever is wrong with a file is a
`ConfigurationError` that names the file, the line and what to do; no message shows a text. The command line is the
caller; nothing here knows of language models.
"""

from __future__ import annotations

import csv
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labels import Label

ENDINGS = (".txt", ".csv", ".jsonl")
"""The files that hold texts, by ending."""

_MAX_CSV_FIELD = 2**31 - 1  # the largest that every platform takes

_Records: TypeAlias = Iterator[tuple[int, dict[str, Any] | None]]
"""Records of a file with columns, each with the number of its line; None where there is JSON, but no object."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text, or a row that should hold one.

    Attributes:
        index: Its number in the source, from 0: of the line in texts one a line, of the record in `.csv` and `.jsonl`.
        text: The text; None where there is something else, such as a number, or nothing.
        expected: Its known label, where there is one.
    """

    index: int
    text: str | None
    expected: str | None = None

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


def read_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a file that meet the conditions, in order.

    Blank lines of a `.txt` file are passed over, but counted. Records without a text are rows, which are `blank`.

    Raises:
        ConfigurationError: The file cannot be read, or not as what its ending says.
    """
    return (row for row, _ in _read(path, columns))


def _read(path: Path, columns: Columns) -> Iterator[tuple[Row, str]]:
    """The rows, each with what is to be said where it holds no text."""
    if path.suffix.lower() == ".txt":
        if columns != Columns():
            raise ConfigurationError(
                f"{path} has no columns: texts with labels or other columns belong in .csv or .jsonl."
            )
        yield from ((row, "") for row in _texts(_lines_of(path)))
        return
    for index, (line, found) in enumerate(_records(path, columns)):
        record = found or {}
        if not _meets(record, columns):
            continue
        text = record.get(columns.text)
        label = None if columns.label is None else _written(record.get(columns.label))
        row = Row(index, text if isinstance(text, str) else None, label)
        if not row.blank:
            yield row, ""
        elif found is None:
            yield row, f'{path}, line {line}: this is not a JSON object such as {{"text": "…"}}.'
        else:
            told = f"the column {columns.text!r} holds no text; the columns are {_names(record)}"
            yield row, f"{path}, line {line}: {told}."


def holds(path: Path, columns: Columns) -> bool:
    """Whether any row of a file meets the conditions; in a file without such columns none does.

    Raises:
        ConfigurationError: As `read_rows`.
    """
    return any(_meets(record or {}, columns) for _, record in _records(path, Columns(columns.text, columns.label)))


def read_stream(stream: IO[bytes]) -> Iterator[Row]:
    """Texts one a line from a stream such as stdin, as they come; blank lines are passed over, but counted."""
    return _texts(_decoded(stream, "stdin"))


def count_rows(path: Path, columns: Columns, limit: int | None = None) -> int:
    """How many rows there are to classify; reads them all, so that a bad line is found before any work is done.

    Raises:
        ConfigurationError: As `read_rows`, or there is no row, or none that holds a text, or no row has a known label
            though a column for it was named.
    """
    labelled = count = texts = 0
    first = ""
    for row, complaint in islice(_read(path, columns), limit):
        count += 1
        labelled += row.expected is not None
        texts += not row.blank
        first = first or complaint
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
    return count


def read_examples(path: Path, columns: Columns, per_label: int | None = None) -> list[tuple[str, str]]:
    """Texts with their labels, for a few-shot prompt, in the file's order.

    Args:
        path: A `.csv` or `.jsonl` file.
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
        pass_blank: Whether to pass over rows without a text, instead of refusing them.

    Raises:
        ConfigurationError: As `read_examples`.
    """
    count_rows(path, columns)
    kept: list[Row] = []
    counts: Counter[str] = Counter()
    for row, complaint in _read(path, columns):
        if row.blank and pass_blank:
            continue
        if row.blank:
            raise ConfigurationError(complaint)
        if row.expected is None:
            raise ConfigurationError(f"{path}, row {row.index}: an example needs a label in {columns.label!r}.")
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
    for line in _lines_of(path):
        name, _, description = line.strip().partition("\t")
        if name:
            labels.append(Label(name.strip(), description.strip() or None))
    if not labels:
        raise ConfigurationError(f"{path} holds no label: write one a line.")
    return labels


def read_text(path: Path) -> str:
    """A whole file, such as a prompt template, without the newline that editors put at its end."""
    return "".join(_lines_of(path)).removesuffix("\n").removesuffix("\r")


def _meets(record: dict[str, Any], columns: Columns) -> bool:
    return all(_written(record.get(column)) == value for column, value in columns.where)


def _lines_of(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            yield from _decoded(file, str(path))
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}: check its name.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def _decoded(file: IO[bytes], name: str) -> Iterator[str]:
    """Lines with their ends. Decoded one by one, so that a message can tell the line."""
    for number, line in enumerate(file, 1):
        try:
            # Spreadsheets put a byte-order mark at the head.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            # Spreadsheets write "Unicode text" as UTF-16, with a mark at its head.
            encoding = "utf-16" if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "latin1"
            raise ConfigurationError(
                f"{name}, line {number}: this is not UTF-8; convert it first, perhaps by `iconv -f {encoding} -t "
                "utf-8`."
            ) from None


def _texts(lines: Iterable[str]) -> Iterator[Row]:
    return (Row(index, line.rstrip("\r\n")) for index, line in enumerate(lines) if line.strip())


def _records(path: Path, columns: Columns) -> _Records:
    match path.suffix.lower():
        case ".jsonl":
            return _json_records(path)
        case ".csv":
            return _csv_records(path, columns)
        case _:
            raise ConfigurationError(f"{path} is not a file of texts: its name must end with {', '.join(ENDINGS)}.")


def _json_records(path: Path) -> _Records:
    for number, line in enumerate(_lines_of(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.strip())
        except json.JSONDecodeError as error:
            raise ConfigurationError(
                f"{path}, line {number}: this is not valid JSON ({error.msg}, column {error.colno}): one object a line."
            ) from None
        except (RecursionError, ValueError):
            raise ConfigurationError(
                f"{path}, line {number}: this nests too deeply, or has too long a number, to be read: leave it out."
            ) from None
        yield number, record if isinstance(record, dict) else None


def _csv_records(path: Path, columns: Columns) -> _Records:
    csv.field_size_limit(_MAX_CSV_FIELD)  # for the whole process: the module knows no other way
    lines = _lines_of(path)
    first = next(lines, "")
    # Spreadsheets of half the world write semicolons.
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        if not header:
            raise ConfigurationError(f"{path} does not begin with the names of its columns: is it the right file?")
        for column in (columns.text, columns.label, *(column for column, _ in columns.where)):
            if column is not None and column not in header:
                raise ConfigurationError(f"{path} has no column {column!r}; the columns are {_names(header)}.")
            if column is not None and header.count(column) > 1:
                raise ConfigurationError(f"{path} has more than one column {column!r}: rename the others.")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise ConfigurationError(
                    f"{path}, line {reader.line_num}: there are {len(fields)} fields instead of {len(header)}; a text "
                    f"that holds {delimiter!r} must stand in double quotes."
                )
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise ConfigurationError(f"{path}, line {reader.line_num}: this is not valid CSV ({error}).") from None


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _names(columns: Iterable[str]) -> str:
    return ", ".join(repr(column) for column in columns) or "none"


def _written(value: Any) -> str | None:
    """A value as one would write it in a condition; None if it is no single value."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) else None
