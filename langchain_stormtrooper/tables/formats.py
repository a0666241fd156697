"""Which format a file has: its ending says so."""

from __future__ import annotations

from pathlib import Path

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.tables.answers import AnswerColumns
from langchain_stormtrooper.tables.csv_files import CsvSink, CsvTable
from langchain_stormtrooper.tables.json_files import JsonSink, JsonTable
from langchain_stormtrooper.tables.parquet_files import ParquetSink, ParquetTable, require_pyarrow
from langchain_stormtrooper.tables.records import Outline, Sink, Table

TABLES: dict[str, type[Table]] = {".csv": CsvTable, ".jsonl": JsonTable, ".parquet": ParquetTable}
"""What reads a file, by its ending."""


def is_table(path: Path) -> bool:
    """Whether the ending is that of a file of records."""
    return path.suffix.lower() in TABLES


def open_table(path: Path) -> Table:
    """What reads a file.

    Raises:
        ConfigurationError: Its ending is none of the known ones, or it cannot be opened.
    """
    kind = TABLES.get(path.suffix.lower())
    if kind is None:
        raise ConfigurationError(f"{path} is no file of records: its name must end with {', '.join(TABLES)}.")
    return kind(path)


def check_format(path: Path) -> None:
    """See to it that a file of this name can be written.

    Raises:
        ConfigurationError: Its ending is none of the known ones.
        MissingExtraError: What writes it is not installed.
    """
    if not is_table(path):
        raise ConfigurationError(f"The output {path} must end with {', '.join(TABLES)}.")
    if path.suffix.lower() == ".parquet":
        require_pyarrow()


def open_sink(path: Path, part: Path, source: Table | None, outline: Outline, answers: AnswerColumns) -> Sink:
    """What writes a file.

    Args:
        path: The file, whose ending says how it is written.
        part: Where it is written to until it is whole.
        source: Where records come from.
        outline: The columns that records have.
        answers: The columns that are added.
    """
    columns = tuple(outline.kinds) if source is None or source.columns is None else source.columns
    match path.suffix.lower():
        case ".jsonl":
            return JsonSink(part, answers.probabilities)
        case ".csv":
            return CsvSink(part, columns, tuple(answers.kinds), answers.of_labels)
        case _:
            return ParquetSink(part, source, outline, answers.kinds, answers.of_labels)
