"""The file that rows go to with their answers: complete in its place at the end, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.tables.answers import AnswerColumns, probabilities_of
from langchain_stormtrooper.tables.formats import check_format, open_sink
from langchain_stormtrooper.tables.records import Kind, Outline, Record, Sink, Table
from langchain_stormtrooper.whole_files import WholeFile

if TYPE_CHECKING:
    from langchain_stormtrooper.text_files import Row, Survey


def check_output(output: Path, *inputs: Path | None) -> None:
    """Refuse what could not be written at the end, while nothing has been asked.

    Args:
        output: The file to write.
        inputs: Files that must not be written over.

    Raises:
        ConfigurationError: It is a directory, is not to be written over, or cannot be written.
        MissingExtraError: What writes it is not installed.
    """
    check_format(output)
    # Not by `Path`, which raises for what is too long to name a file.
    if os.path.isdir(output):  # noqa: PTH112
        raise ConfigurationError(f"`output=` {output} is a directory: name a file.")
    if not output.parent.is_dir():
        raise ConfigurationError(f"There is no directory {output.parent} for `output=`: create it first.")
    if output.exists() and not output.is_file():
        raise ConfigurationError(f"`output=` {output} is no regular file: name one, or leave it out.")
    if not os.access(output.parent.resolve(), os.W_OK):
        raise ConfigurationError(f"The directory of `output=` {output} cannot be written to: name another.")
    for other in inputs:
        if other is not None and (
            output.resolve() == other.resolve() or (output.exists() and other.exists() and output.samefile(other))
        ):
            raise ConfigurationError(f"`output=` would overwrite {other}: give it another name.")


class AnswerFile:
    """Writes rows with their answers; a context manager that lets the file take its place at the end.

    Where an error ends it, an older file there stays.

    Args:
        path: The file.
        survey: What there is to be classified; None for texts that are in no file.
        answers: The columns that are added.
        keeps: Whether the rows are kept under another name where an error ends it.

    Attributes:
        kept: Where rows of a run that an error has ended are.
        kept_rows: How many rows these are.

    Raises:
        ConfigurationError: A column of the file would be overwritten, or is there twice.
    """

    def __init__(self, path: Path, survey: Survey | None, answers: AnswerColumns, *, keeps: bool = True) -> None:
        self.path = path
        self.kept: Path | None = None
        self.kept_rows = 0
        self._answers, self._keeps = answers, keeps
        self._table: Table | None = None if survey is None else survey.table
        self._rows = 0
        if survey is None or self._table is None:
            self._outline = Outline()
            self._outline.kinds |= {"index": Kind.INTEGER, "text": Kind.TEXT}
        else:
            self._outline = survey.outline
            # One of them would be lost.
            self._table.check(self._outline.kinds)
            answers.check(self._table.path, self._outline.kinds, is_json=path.suffix.lower() == ".jsonl")

    def __enter__(self) -> Self:
        try:
            self._file = WholeFile(self.path)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written ({error.strerror}): give another path.") from None
        try:
            self._sink: Sink = open_sink(self.path, self._file.part, self._table, self._outline, self._answers)
        except BaseException:
            self._file.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sink.close()
            if error is None:
                self._file.commit()
                return
        except BaseException:
            self._leave(is_cut=True)
            if error is None:
                raise
        else:
            # What could not be written may be missing, though the file could be closed.
            self._leave(is_cut=isinstance(error, OSError))

    def write(self, row: Row, answer: Classification) -> None:
        """Write one row."""
        record = row.record or Record(row.index + 1, {"index": row.index, "text": row.text})
        self._sink.write(record, self._answers.values(answer), probabilities_of(answer))
        self._rows += 1

    def _leave(self, *, is_cut: bool) -> None:
        rows = self._rows if self._keeps else 0
        if rows and is_cut:
            rows = 0 if self._sink.quote is None else _cut(self._file.part, self._sink)
        if rows:
            self.kept, self.kept_rows = self._file.keep_part(), rows
        else:
            self._file.discard()


def _cut(path: Path, sink: Sink) -> int:
    """Take what is after the last whole row off a file, and count those that stay."""
    rows, end, at, is_quoted = -sink.heads, 0, 0, False
    with path.open("r+b") as file:
        for line in file:
            at += len(line)
            if sink.quote:
                # Within quotes each one is doubled.
                is_quoted ^= line.count(sink.quote) % 2 == 1
            if line.endswith(b"\n") and not is_quoted:
                rows, end = rows + 1, at
        file.truncate(end)
    return max(0, rows)
