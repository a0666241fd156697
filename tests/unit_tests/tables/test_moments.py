"""Moments in Parquet that Python has no value for."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM

from langchain_stormtrooper import ZeroShotClassifier, classify_file
from langchain_stormtrooper.tables.forecasting import aforecast
from langchain_stormtrooper.tables.parquet_files import _moment
from langchain_stormtrooper.text_files import Columns, read_rows

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FINE, TIME = 1577836800123456789, 45_296_123_456_789
LIST = arrow.list_(arrow.time64("ns"))
STRUCT = arrow.struct([("at", arrow.date32()), ("n", arrow.int64())])
MAP = arrow.map_(arrow.string(), arrow.date32())
CASES: dict[str, tuple[Any, Any, Any]] = {
    "when": (FINE, arrow.timestamp("ns"), "2020-01-01T00:00:00.123456789"),
    "zoned": (FINE, arrow.timestamp("ns", "+01:00"), "2020-01-01T01:00:00.123456789+01:00"),
    "time": (TIME, arrow.time64("ns"), "12:34:56.123456789"),
    "coarse": (TIME // 1000 * 1000, arrow.time64("ns"), "12:34:56.123456"),
    "late": (2932897, arrow.date32(), "10000-01-01"),
    "early": (-1000000, arrow.date32(), "-0768-02-04"),
    "later": (253402300800_007, arrow.timestamp("ms", "UTC"), "10000-01-01T00:00:00.007+00:00"),
    "never": (2**62, arrow.timestamp("us"), f"{2**62} us"),
    "long": (2**62, arrow.duration("s"), f"{2**62} s"),
    "list": ([TIME, None], LIST, ["12:34:56.123456789", None]),
    "struct": ({"at": 2932897, "n": 1}, STRUCT, {"at": "10000-01-01", "n": 1}),
    "map": ([("a", 2932897)], MAP, [["a", "10000-01-01"]]),
}


def column(name: str) -> Any:
    """One value, and a row without it."""
    value, kind, _ = CASES[name]
    if kind is STRUCT:
        parts = [arrow.array([value["at"], None], arrow.int32()).cast(arrow.date32()), arrow.array([1, None])]
        return arrow.StructArray.from_arrays(parts, ["at", "n"])
    if kind is MAP:
        keys, days = arrow.array(["a"]), arrow.array([value[0][1]], arrow.int32()).cast(arrow.date32())
        return arrow.MapArray.from_arrays([0, 1, 1], keys, days)
    if kind == arrow.date32():
        return arrow.array([value, None], arrow.int32()).cast(kind)
    return arrow.array([value, None], kind)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two rows."""
    path = tmp_path / "in.parquet"
    parquet.write_table(arrow.table({"text": ["a", "b"], **{name: column(name) for name in CASES}}), path)
    return path


def test_they_are_text_in_formats_of_text(source: Path, tmp_path: Path) -> None:
    """All digits are there, by ISO 8601; what no calendar has is a number with its unit."""
    for ending in ("jsonl", "csv"):
        classify_file(ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="m")), source, tmp_path / f"out.{ending}")
    row, other = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert {name: row[name] for name in CASES} == {name: expected for name, (*_, expected) in CASES.items()}
    assert {name for name in CASES if other[name] is not None} <= {"struct", "map"}
    with (tmp_path / "out.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert all(row[name] == expected for name, (*_, expected) in CASES.items() if isinstance(expected, str))


def test_they_are_the_same_text_without_pandas() -> None:
    """With pandas, pyarrow has values of its for nanoseconds; without it there are none."""
    for name in ("when", "zoned", "time"):
        value, kind, expected = CASES[name]
        assert _moment(arrow.scalar(value, kind)) == expected


def test_they_stay_as_they_are_in_parquet(source: Path, tmp_path: Path) -> None:
    """From Parquet to Parquet nothing is converted."""
    classify_file(ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="m")), source, tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").select(["text", *CASES]).equals(parquet.read_table(source))


async def test_a_forecast_converts_what_goes_into_prompts(source: Path) -> None:
    """Columns that no prompt has are not looked at."""
    rows = list(read_rows(source, Columns()))
    task = ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="m"), prompt="{labels} {early}: {text}")
    forecast = await aforecast(task, lambda: rows, Columns())
    # The second row has no such moment, and is not asked.
    assert (forecast.different, forecast.without_text) == (1, 1)
    assert rows[0].record is not None
    assert set(rows[0].record.origin.batch._values) == {"text", "early"}


def test_what_python_has_values_for_is_as_before(tmp_path: Path) -> None:
    """A date and a moment are Python's own, also beside ones that are not."""
    path = tmp_path / "in.parquet"
    days = arrow.array([0, 2932897], arrow.int32()).cast(arrow.date32())
    parquet.write_table(arrow.table({"text": ["a", "b"], "day": days}), path)
    values = [row.record.fields["day"] for row in read_rows(path, Columns()) if row.record is not None]
    assert values == [datetime.date(1970, 1, 1), "10000-01-01"]
