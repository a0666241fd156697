"""Parquet by pyarrow, a few thousand rows at a time. Columns of a Parquet file go into another as they are.

pyarrow is imported when a file is opened, so that this module costs nothing before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError
from langchain_stormtrooper.tables.records import Kind, Outline, Record, Sink, Table, as_text

_BATCH = 1000
"""Rows that are read at once."""

_GROUP = 10_000
"""Rows of a row group that is written."""

_GROUP_BYTES = 2**24
"""Memory after which a row group is written though it has less rows."""

_BUFFER = 2**18
"""Bytes that are read of a column at once, instead of all that a row group has of it."""


_FINE_TIME = "time64[ns]"


def require_pyarrow() -> tuple[Any, Any]:
    """The packages `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: They are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Parquet", "parquet") from None
    return pyarrow, parquet


class _Batch:
    """Some rows; the values of a column are made when they are first asked for."""

    def __init__(self, arrow: Any) -> None:
        self.arrow = arrow
        self._values: dict[str, list[Any]] = {}

    @cached_property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.arrow.schema.names)

    def column(self, name: str) -> list[Any]:
        """All values of a column.

        Raises:
            KeyError: There is no such column.
        """
        values = self._values.get(name)
        if values is None:
            values = self._values[name] = _values(self.arrow.column(name))
        return values


class _Place(NamedTuple):
    batch: _Batch
    row: int


class _Fields(Mapping[str, Any]):
    """One row of a batch."""

    __slots__ = ("_place",)

    def __init__(self, place: _Place) -> None:
        self._place = place

    def __getitem__(self, name: str) -> Any:
        batch, row = self._place
        return batch.column(name)[row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place.batch.names)

    def __len__(self) -> int:
        return len(self._place.batch.names)


class ParquetTable(Table):
    """A Parquet file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._arrow, self._parquet = require_pyarrow()

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            # A file of our own, so that a missing one is told as everywhere. Buffered ahead, a row group would be whole
            # in memory.
            with (
                self.path.open("rb") as file,
                self._parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as opened,
            ):
                yield opened
        except FileNotFoundError:
            raise ConfigurationError(f"There is no file {self.path}: check its name.") from None
        except (OSError, self._arrow.ArrowException) as error:
            raise ConfigurationError(f"{self.path} cannot be read as Parquet: {_reason(error)}.") from None

    @cached_property
    def schema(self) -> Any:
        """What pyarrow says of its columns."""
        with self._opened() as file:
            return file.schema_arrow

    @property
    @override
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    @override
    def records(self, wanted: Sequence[str] | None = None) -> Iterator[Record]:
        names = None if wanted is None else [name for name in self.columns if name in wanted]
        # To pyarrow a dot leads into a column.
        if names is not None and any("." in name for name in names):
            names = None
        line = 0
        with self._opened() as file:
            batches = file.iter_batches(_BATCH, columns=names, use_threads=False)
            while True:
                arrow = next(batches, None)
                if arrow is None:
                    return
                batch = _Batch(arrow)
                for row in range(arrow.num_rows):
                    line += 1
                    place = _Place(batch, row)
                    yield Record(line, _Fields(place), origin=place)


class ParquetSink(Sink):
    """Writes Parquet.

    Args:
        path: The file.
        source: Where records come from.
        outline: The columns of records, where these are not from Parquet.
        added: The names of the columns that are added, with their kinds.
        probabilities: Which column each label's probability goes to.
    """

    quote: ClassVar[bytes | None] = None

    def __init__(
        self,
        path: Path,
        source: Table | None,
        outline: Outline,
        added: Mapping[str, Kind],
        probabilities: Mapping[str, str],
    ) -> None:
        self._arrow, parquet = require_pyarrow()
        self._probabilities = probabilities
        self._is_parquet = isinstance(source, ParquetTable)
        if isinstance(source, ParquetTable):
            own = source.schema
            self._kinds: dict[str, Kind] = {}
        else:
            self._kinds = {name: outline.kind(name) for name in outline.kinds}
            own = self._arrow.schema([(name, self._type(kind)) for name, kind in self._kinds.items()])
        self._own = own
        self._added = self._arrow.schema(
            [
                *((name, self._type(kind)) for name, kind in added.items()),
                *((column, self._arrow.float64()) for column in probabilities.values()),
            ]
        )
        self._schema = self._arrow.schema([*own, *self._added], metadata=own.metadata)
        self._rows: list[tuple[Record, Mapping[str, Any], Mapping[str, float]]] = []
        self._tables: list[Any] = []
        self._count = self._bytes = 0
        self._file = path.open("wb")
        self._writer = parquet.ParquetWriter(self._file, self._schema)

    def _type(self, kind: Kind) -> Any:
        match kind:
            case Kind.BOOLEAN:
                return self._arrow.bool_()
            case Kind.INTEGER:
                return self._arrow.int64()
            case Kind.NUMBER:
                return self._arrow.float64()
            case _:
                return self._arrow.string()

    @override
    def write(self, record: Record, values: Mapping[str, Any], probabilities: Mapping[str, float]) -> None:
        if self._rows and (len(self._rows) >= _BATCH or self._batch(record) is not self._batch(self._rows[0][0])):
            self._flush()
        self._rows.append((record, values, probabilities))

    @staticmethod
    def _batch(record: Record) -> _Batch | None:
        return record.origin.batch if isinstance(record.origin, _Place) else None

    def _flush(self) -> None:
        """Turn the rows at hand into columns, and write a row group if there are enough."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        batch = self._batch(rows[0][0])
        if self._is_parquet and batch is not None:
            places = [record.origin.row for record, *_ in rows]
            if places == list(range(places[0], places[0] + len(places))):
                columns = batch.arrow.slice(places[0], len(places)).columns
            else:
                columns = batch.arrow.take(self._arrow.array(places)).columns
        else:
            columns = [self._column(name, kind, rows) for name, kind in self._kinds.items()]
        added = [
            self._arrow.array([values.get(field.name) for _, values, _ in rows], field.type)
            for field in [self._added.field(i) for i in range(len(self._added) - len(self._probabilities))]
        ]
        weights = [
            self._arrow.array([given.get(label) for *_, given in rows], self._arrow.float64())
            for label in self._probabilities
        ]
        table = self._arrow.Table.from_arrays([*columns, *added, *weights], schema=self._schema)
        self._tables.append(table)
        self._count += table.num_rows
        self._bytes += table.nbytes
        if self._count >= _GROUP or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def _column(self, name: str, kind: Kind, rows: Sequence[tuple[Record, Any, Any]]) -> Any:
        values = [record.fields.get(name) for record, *_ in rows]
        if kind is Kind.JSON:
            values = [None if value is None else as_text(value) for value in values]
        elif kind is Kind.NUMBER:
            values = [value if value is None else float(value) for value in values]
        if kind in (Kind.JSON, Kind.TEXT):
            # A lone surrogate, which JSON can carry, is no text to Parquet.
            values = [_encodable(value) for value in values]
        try:
            return self._arrow.array(values, self._own.field(name).type)
        except (self._arrow.ArrowException, TypeError, UnicodeError):
            raise ConfigurationError(
                f"The column {name!r} holds something else than when the file was first looked through: it was changed "
                "while it was read; start again."
            ) from None

    def _write_group(self) -> None:
        if self._tables:
            table = self._arrow.concat_tables(self._tables)
            self._tables, self._count, self._bytes = [], 0, 0
            self._writer.write_table(table, row_group_size=_GROUP)

    @override
    def close(self) -> None:
        with self._file:
            try:
                self._flush()
                self._write_group()
            finally:
                self._writer.close()


def _values(column: Any) -> list[Any]:
    """The values of a column as Python's own; moments that Python has none for as text by ISO 8601."""
    # Of times pyarrow would lose the nanoseconds without a word.
    if _FINE_TIME not in str(column.type):
        with suppress(ValueError, OverflowError):
            return list(column.to_pylist())
    return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    """One value, whose parts may be such moments."""
    kind = scalar.type
    types = require_pyarrow()[0].types
    if not scalar.is_valid:
        return None
    if types.is_struct(kind):
        return {kind.field(i).name: _value(scalar[i]) for i in range(kind.num_fields)}
    if types.is_map(kind):
        return [(_value(pair[0]), _value(pair[1])) for pair in scalar.values]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_value(part) for part in scalar.values]
    if types.is_dictionary(kind):
        return _value(scalar.value)
    if str(kind) == _FINE_TIME and scalar.value % 1000:
        return _moment(scalar)
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return _moment(scalar)


def _moment(scalar: Any) -> str:
    """A date, a time or a duration that Python has no value for."""
    arrow, _ = require_pyarrow()
    if not arrow.types.is_duration(scalar.type):
        days = arrow.types.is_date64(scalar.type)
        said = str((scalar.cast(arrow.date32()) if days else scalar).cast(arrow.string()).as_py())
        if not said.startswith("<"):  # else pyarrow's own words for what no calendar has
            said = re.sub(r"(?<=[+-]\d\d)(?=\d\d$)", ":", said.replace(" ", "T", 1))
            return re.sub("Z$", "+00:00", said)
    return f"{scalar.value} {getattr(scalar.type, 'unit', 'ms')}"


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _reason(error: Exception) -> str:
    """The words of pyarrow, of which some end with a full stop and some have several lines."""
    said = str(error).strip().splitlines()
    return said[0].rstrip(".") if said else type(error).__name__
