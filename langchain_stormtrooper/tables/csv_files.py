"""CSV with a header, by any usual delimiter. A record that cannot be read costs itself and no other.

Python's reader parses a record at a time from lines that are handed to it here, so that after a quote that never ends
the lines which it has swallowed are read again, each for itself.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

from typing_extensions import override

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.tables.lines import Line, lines_of, readable, whole
from langchain_stormtrooper.tables.records import Record, Sink, Table, as_text

_MAX_FIELD = 2**31 - 1  # the largest that every platform takes

_MAX_RECORD = 2**24
"""Characters in a record of several lines: a quote that does not end would take all that follows."""


class _Source:
    """Lines for Python's reader, which remembers those that it has taken and takes some back."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []
        self._size = 0

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self._size += len(line.text)
        if self._size > _MAX_RECORD and len(self.taken) > 1:
            raise csv.Error("a quote that does not end")
        return line.text

    def begin(self) -> None:
        """Forget the lines of the last record."""
        self.taken, self._size = [], 0

    def give_back(self) -> None:
        """Read all lines but the first of those that were taken again."""
        self._again.extendleft(reversed(self.taken[1:]))


class CsvTable(Table):
    """A file with the names of its columns in the first line.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        csv.field_size_limit(_MAX_FIELD)  # for the whole process: the module knows no other way
        lines = lines_of(path)
        first = whole(next(lines, Line(1, "")))
        lines.close()  # type: ignore[attr-defined]  # a generator
        # Spreadsheets of half the world write semicolons.
        self._delimiter = max(",;\t", key=first.count)
        self._columns: tuple[str, ...] | None = None

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        if self._columns is None:
            self._columns = tuple(self._header(_Source(lines_of(self.path))))
        return self._columns

    def _reader(self, source: _Source) -> Any:
        return csv.reader(source, delimiter=self._delimiter, strict=True)

    def _header(self, source: _Source) -> list[str]:
        try:
            header: list[str] = next(self._reader(source), [])
        except csv.Error as error:
            raise ConfigurationError(f"{self.path}, line 1: {_told(error)}.") from None
        for line in source.taken:
            whole(line)
        if not header:
            raise ConfigurationError(f"{self.path} does not begin with the names of its columns: is it the right file?")
        return header

    @override
    def records(self, wanted: Sequence[str] | None = None) -> Iterator[Record]:
        source = _Source(lines_of(self.path))
        header = self._header(source)
        reader = self._reader(source)
        while True:
            source.begin()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                source.give_back()
                line = source.taken[0].number
                yield Record(line, {}, f"{self.path}, line {line}: {_told(error)}.", True)
                continue
            if fields:
                yield self._record(header, fields, source.taken)

    def _record(self, header: list[str], fields: list[str], taken: list[Line]) -> Record:
        line = taken[0].number
        if len(fields) != len(header):
            found = "is 1 field" if len(fields) == 1 else f"are {len(fields)} fields"
            told = (
                f"there {found} instead of {len(header)}; a text that holds {self._delimiter!r} must stand in double "
                "quotes"
            )
            problem: str | None = f"{self.path}, line {line}: {told}."
        else:
            problem = next((part.problem for part in taken if part.problem is not None), None)
        if problem is not None:
            # Enough to know the row again: fields that are too many have no column.
            fields = [readable(part) for part in fields[: len(header)]]
        return Record(line, dict(zip(header, fields, strict=False)), problem, is_broken=problem is not None)


def _told(error: csv.Error) -> str:
    if "new-line character" in str(error):  # Python's advice is about its own `open`
        return "a carriage return stands alone; end lines with a line feed, or put the field in double quotes"
    return f"this is not valid CSV ({error})"


class _Lines:
    """Takes rows that end with both characters of a line's end, and writes them with one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


class CsvSink(Sink):
    """Writes CSV, with commas.

    Args:
        path: The file.
        columns: The names of the columns that records have.
        added: The names of the columns that are added.
        probabilities: Which column each label's probability goes to.
    """

    quote: ClassVar[bytes | None] = b'"'
    heads: ClassVar[int] = 1

    def __init__(
        self, path: Path, columns: Sequence[str], added: Sequence[str], probabilities: Mapping[str, str]
    ) -> None:
        self._columns, self._added, self._probabilities = columns, added, probabilities
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        # Python 3.11 puts what holds one of these two in quotes, and no other end of a line.
        self._writer = csv.writer(_Lines(self._file), lineterminator="\r\n")
        self._writer.writerow([*columns, *added, *probabilities.values()])

    @override
    def write(self, record: Record, values: Mapping[str, Any], probabilities: Mapping[str, float]) -> None:
        own = [as_text(record.fields.get(name)) for name in self._columns]
        added = [as_text(values.get(name)) for name in self._added]
        self._writer.writerow([*own, *added, *(as_text(probabilities.get(label)) for label in self._probabilities)])

    @override
    def close(self) -> None:
        self._file.close()
