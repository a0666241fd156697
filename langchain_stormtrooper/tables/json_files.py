"""JSON lines: one object a line. A record goes out as it came in, with the answers added before its last brace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

from langchain_stormtrooper.tables.lines import Line, lines_of, readable
from langchain_stormtrooper.tables.records import Record, Sink, Table, plain


class JsonTable(Table):
    """A file of JSON lines."""

    @property
    @override
    def columns(self) -> None:
        return None

    @override
    def records(self, wanted: Sequence[str] | None = None) -> Iterator[Record]:
        return (self._record(line) for line in lines_of(self.path) if line.text.strip())

    def _record(self, line: Line) -> Record:
        if line.problem is not None:
            return Record(line.number, _fields(readable(line.text)), line.problem, is_broken=True)
        text = line.text.strip()
        at = f"{self.path}, line {line.number}"
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            told = f"this is not valid JSON ({error.msg}, column {error.colno}): one object a line"
            return Record(line.number, {}, f"{at}: {told}.", is_broken=True)
        except (RecursionError, ValueError):
            told = "this nests too deeply, or has too long a number, to be read: leave it out"
            return Record(line.number, {}, f"{at}: {told}.", is_broken=True)
        if not isinstance(found, dict):
            return Record(line.number, {}, f'{at}: this is not a JSON object such as {{"text": "…"}}.')
        return Record(line.number, found, origin=text)


def _fields(text: str) -> dict[str, Any]:
    """The fields of a line that is no UTF-8, enough to know the row again; none where it is no JSON either."""
    with suppress(RecursionError, ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


class JsonSink(Sink):
    """Writes JSON lines.

    Args:
        path: The file.
        probabilities: The name that the probabilities of all labels go under.
    """

    def __init__(self, path: Path, probabilities: str) -> None:
        self._probabilities = probabilities
        # A lone surrogate, which JSON can carry, is written as JSON escapes it.
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")

    @override
    def write(self, record: Record, values: Mapping[str, Any], probabilities: Mapping[str, float]) -> None:
        added = json.dumps({**values, self._probabilities: probabilities or None}, ensure_ascii=False)
        # As it was written: reading would round numbers, and lose a key that is there twice.
        own = record.origin if isinstance(record.origin, str) else _written(record.fields)
        start = own.removesuffix("}").rstrip()
        self._file.write(f"{start}{'' if start == '{' else ', '}{added[1:]}\n")

    @override
    def close(self) -> None:
        self._file.close()


def _written(fields: Mapping[str, Any]) -> str:
    return json.dumps(plain(fields), ensure_ascii=False)
