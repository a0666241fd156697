"""What the command line shows on standard output: rows as a table, JSON lines or CSV, the report of a server.

Rows are written one by one, so that nothing grows with their number. Standard output carries rows and nothing else. A
text from outside is never read as markup or as a control sequence of the terminal. Only `cli` calls this module.
"""

from __future__ import annotations

import csv
import errno
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.tables.answers import probabilities_of, short
from langchain_stormtrooper.terminal import plain

if TYPE_CHECKING:
    from langchain_stormtrooper.probing import ServerReport
    from langchain_stormtrooper.probing_openai import OpenAIReport
    from langchain_stormtrooper.text_files import Row

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 6
_PROBABILITY = _BAR + 4
_MIN_TEXT, _MAX_LABEL, _MAX_ALTERNATIVE = 24, 28, 16
_GAP = 2


_FIELDS = set(Classification.model_fields)


def as_record(row: Row, answer: Classification) -> dict[str, Any]:
    """One row as plain data: the label always, other fields where they are set."""
    # Not what a `ClassifiedRow` has besides.
    fields = answer.model_dump(mode="json", include=_FIELDS, exclude_defaults=True)
    fields.pop("label", None)
    if answer.confidence is not None:
        fields["confidence"] = short(answer.confidence)
    if answer.probabilities is not None:
        fields["probabilities"] = probabilities_of(answer)
    if answer.out_of_scope is not None:
        fields["out_of_scope"] = short(answer.out_of_scope)
    if answer.covered_mass is not None:
        fields["covered_mass"] = short(answer.covered_mass)
    expected = {} if row.expected is None else {"expected": row.expected}
    return {"index": row.index, "text": row.text, **expected, "label": answer.label, **fields}


_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON allows as it stands, and a terminal or a reader of lines may obey."""


def as_json(record: dict[str, Any]) -> str:
    """One row on one line, with control characters escaped."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(record, ensure_ascii=False))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do where nothing can be written to a path.

    Raises:
        ConfigurationError: Nothing can.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}): give another path.") from None


class Writer(ABC):
    """Where rows go; a context manager."""

    @abstractmethod
    def write(self, row: Row, answer: Classification) -> None:
        """Write one row."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class LineWriter(Writer):
    """JSON lines or CSV on standard output.

    Args:
        form: "jsonl" or "csv".
        labels: The labels, for the columns of a CSV.
        has_option: Whether there is an option for texts that no label fits, for its column.
    """

    def __init__(self, form: str, labels: Sequence[str], *, has_option: bool = False) -> None:
        self._form = form
        self._stream: TextIO | None = None
        self._probabilities = {label: f"probability:{label}" for label in labels}
        self._fields = ["index", "text", "expected", "label", "reason", "method", "match", "confidence"]
        self._fields += ["covered_mass", "generation", "error", *(["out_of_scope"] if has_option else [])]
        self._fields += self._probabilities.values()

    @override
    def write(self, row: Row, answer: Classification) -> None:
        stream = self._stream or self._open()
        record = as_record(row, answer)
        if self._form == "csv":
            probabilities = record.pop("probabilities", {})
            record |= {self._probabilities[label]: p for label, p in probabilities.items()}
            if stream.isatty():
                record = {name: plain(value) if isinstance(value, str) else value for name, value in record.items()}
            csv.DictWriter(stream, self._fields, extrasaction="ignore", lineterminator="\n").writerow(record)
        else:
            stream.write(as_json(record) + "\n")
        stream.flush()

    def _open(self) -> TextIO:
        """Standard output, with the names of the columns where it is CSV; before the first row nothing is written."""
        self._stream = sys.stdout
        if hasattr(self._stream, "reconfigure"):
            # A lone surrogate, which JSON input can carry, is written as JSON escapes it instead of ending the run.
            self._stream.reconfigure(encoding="utf-8", errors="backslashreplace")
        if self._form == "csv":
            csv.writer(self._stream, lineterminator="\n").writerow(self._fields)
        return self._stream


class PipeConsole(Console):
    """A console that tells of a reader that has gone away as any other stream does."""

    @override
    def on_broken_pipe(self) -> None:
        """Let the `BrokenPipeError` through: rich would end the process."""
        raise


class TableWriter(Writer):
    """A table for people, row by row.

    Labels have a column with a small bar each where the terminal is wide enough, and are named in one column, best
    first, where it is not.

    Args:
        console: Where to.
        labels: The labels.
        probabilities: Whether rows will have probabilities.
        expected: Whether rows may have known labels.
    """

    def __init__(self, console: Console, labels: Sequence[str], *, probabilities: bool, expected: bool) -> None:
        self._console = console
        self._labels = labels
        self._expected = expected
        widest = min(_MAX_LABEL, max(len("– unmatched"), *map(cell_len, labels)))
        self._widths = [widest]
        heads = ["label"]
        if expected:
            heads.append("expected")
            self._widths.append(widest)
        free = console.width - sum(self._widths) - _GAP * len(self._widths) - _MIN_TEXT
        columns = [max(_PROBABILITY, min(_MAX_ALTERNATIVE, cell_len(label))) for label in labels]
        self._bars = probabilities and sum(columns) + _GAP * len(columns) <= free
        self._best = probabilities and not self._bars
        if self._bars:
            heads += labels
            self._widths += columns
        elif self._best:
            heads += ["", "next"]
            self._widths += [_PROBABILITY, max(10, min(30, (free + _MIN_TEXT - _PROBABILITY - 2 * _GAP) * 2 // 5))]
        self._widths.append(max(8, console.width - sum(self._widths) - _GAP * len(self._widths)))
        self._heads = [*heads, "text"]

    @override
    def write(self, row: Row, answer: Classification) -> None:
        if self._heads:
            self._print([Text(head, style="bold") for head in self._heads])
            self._print([Text("─" * width, style="dim") for width in self._widths])
            self._heads = []
        if answer.label is None:
            cells = [Text(f"– {answer.reason}", style="yellow")]
        else:
            right = row.expected is None or row.expected == answer.label
            cells = [Text(plain(answer.label), style="green" if right else "red")]
        if self._expected:
            cells.append(Text(plain(row.expected or "")))
        probabilities = answer.probabilities or {}
        best = max(probabilities, key=probabilities.__getitem__, default=None)
        if self._bars:
            cells += [_bar(probabilities.get(label), label == best) for label in self._labels]
        elif self._best:
            cells += [_bar(answer.confidence, True), self._alternatives(probabilities, best)]
        self._print([*cells, Text(plain(row.text or ""), style="dim" if answer.label is None else "")])

    def _alternatives(self, probabilities: dict[str, float], best: str | None) -> Text:
        others = sorted((label for label in probabilities if label != best), key=lambda label: -probabilities[label])
        return Text(", ".join(f"{plain(label)} {_number(probabilities[label])}" for label in others[:5]), style="dim")

    def _print(self, cells: Sequence[Text]) -> None:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        for width in self._widths:
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        table.add_row(*cells)
        self._console.print(table)


def _bar(probability: float | None, best: bool) -> Text:
    if probability is None:
        return Text("")
    eighths = round(probability * _BAR * 8)
    bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    # Where the bar ends is only seen against a background.
    cell = Text(bar.ljust(_BAR), style="green on grey23" if best else "blue on grey23")
    return cell.append(f" {_number(probability)}", style="bold default on default" if best else "default on default")


def _number(probability: float) -> str:
    """Two digits: `.62`, and `1.0` for what rounds to one."""
    return "1.0" if probability >= 0.995 else f"{probability:.2f}"[1:]


def show_report(report: ServerReport | OpenAIReport) -> None:
    """Print what was found out about a server."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in report.lines:
        # What a server says of itself may be anything: no markup, no control characters.
        table.add_row(name, Text(plain(value)))
    console = PipeConsole(highlight=False, soft_wrap=True)
    console.print(table)
    for advice in report.advice:
        console.print(Text(plain(f"- {advice}")))
