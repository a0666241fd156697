"""Files of records: what goes in comes out, whatever the format, with the answers beside it."""

from __future__ import annotations

import csv
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.tables.answer_files import AnswerFile, check_output
from langchain_stormtrooper.tables.answers import AnswerColumns
from langchain_stormtrooper.tables.csv_files import CsvTable
from langchain_stormtrooper.tables.formats import open_table
from langchain_stormtrooper.tables.records import Kind, Outline, kind_of, plain
from langchain_stormtrooper.text_files import Columns, Row, look_through, read_examples, read_rows

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ENDINGS = ("csv", "jsonl", "parquet")
ANSWER = Classification(label="a", confidence=0.75, probabilities={"a": 0.75, "b": 0.25})
NAMES = st.text('ab ",.', min_size=1, max_size=6).filter(lambda name: name != "text")
VALUES = st.sampled_from(
    [
        st.text(max_size=8),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns of one kind each, with gaps, and one of texts."""
    count = draw(st.integers(1, 12))
    # A text at least must be there.
    columns: dict[str, list[Any]] = {"text": ["x", *draw(st.lists(st.text(), min_size=count, max_size=count))]}
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        values = st.none() | draw(VALUES)
        columns[name] = draw(st.lists(values, min_size=count + 1, max_size=count + 1))
    return columns


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The same by rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def as_field(value: Any) -> str:
    """What a field of a .csv says."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def save(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write a table by other means than ours."""
    if path.suffix == ".parquet":
        parquet.write_table(arrow.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows_of(columns)))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([list(columns), *([as_field(v) for v in row.values()] for row in rows_of(columns))])


def load(path: Path) -> list[dict[str, Any]]:
    """Read a table by other means than ours."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def classify(source: Path, output: Path, answer: Classification = ANSWER) -> None:
    """Give every row of a file the same answer."""
    survey = look_through(source, Columns(), reports=True)
    file = AnswerFile(output, survey, AnswerColumns(["a", "b"], "my "))
    write(file, read_rows(source, Columns(), reports=True), answer)


def write(file: AnswerFile, rows: Iterable[Row], answer: Classification = ANSWER) -> None:
    """Write rows with an answer."""
    with file:
        for row in rows:
            file.write(row, answer)


def ends_early(source: Path) -> Iterator[Row]:
    """Three rows, and then an error."""
    yield from islice(read_rows(source, Columns()), 3)
    raise RuntimeError


@given(tables(), st.sampled_from(ENDINGS), st.sampled_from(ENDINGS))
@settings(max_examples=60, deadline=None)
def test_any_table_keeps_its_columns(columns: dict[str, list[Any]], before: str, after: str) -> None:
    """Whatever strings and numbers a file holds, they come out as they were, or as text where there is text only."""
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory, f"in.{before}"), Path(directory, f"out.{after}")
        save(source, columns)
        classify(source, output)
        found = load(output)
    rows = rows_of(columns)
    if "csv" in (before, after):
        rows = [{name: as_field(value) for name, value in row.items()} for row in rows]
    if after == "jsonl":
        added: dict[str, Any] = {"my probabilities": {"a": 0.75, "b": 0.25}}
    else:
        added = {"my probability:a": 0.75, "my probability:b": 0.25}
    added = {"my label": "a", "my confidence": 0.75, "my reason": None, "my error": None, **added}
    if after == "csv":
        added = {name: as_field(value) for name, value in added.items()}
    assert found == [{**row, **added} for row in rows]
    assert [list(row) for row in found] == [[*columns, *added]] * len(rows)


def test_parquet_keeps_types_and_what_is_known_of_columns(tmp_path: Path) -> None:
    """Dates, decimals, categories, lists and metadata go from Parquet to Parquet as they are, also of chosen rows."""
    from datetime import datetime
    from decimal import Decimal

    table = arrow.table(
        {
            "when": arrow.array([datetime(2020, 1, n) for n in range(1, 5)], arrow.timestamp("us", "UTC")),
            "text": arrow.array(["x", "y", None, "z"], arrow.large_string()),
            "price": [Decimal("1.10"), None, Decimal("3.30"), Decimal("4.40")],
            "kind": arrow.array(["p", "q", "p", "q"]).dictionary_encode(),
            "tags": [["a"], [], None, ["b", "c"]],
        }
    ).replace_schema_metadata({"made by": "a test"})
    parquet.write_table(table, tmp_path / "in.parquet")
    survey = look_through(tmp_path / "in.parquet", Columns())
    rows = list(read_rows(tmp_path / "in.parquet", Columns()))
    for chosen in ([0, 1, 2, 3], [3, 0, 2]):
        file = AnswerFile(tmp_path / "out.parquet", survey, AnswerColumns(["a", "b"]))
        write(file, [rows[index] for index in chosen])
        found = parquet.read_table(tmp_path / "out.parquet")
        own = found.select(table.column_names)
        assert own.schema.equals(parquet.read_schema(tmp_path / "in.parquet"), check_metadata=True)
        assert own.to_pylist() == table.take(chosen).to_pylist()
    classify(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first = load(tmp_path / "out.jsonl")[0]
    assert (first["when"], first["price"], first["tags"]) == ("2020-01-01T00:00:00+00:00", "1.10", ["a"])


def test_json_goes_through_as_it_was_written(tmp_path: Path) -> None:
    """Digits, escapes, spaces and keys that are there twice are those of the input."""
    lines = ['{"text": "x", "n": 1.10, "n": 1e400}', '{ "text":"\\u00e9\\ud800" }', "{}"]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    classify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    written = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [line.partition('"my label"')[0] for line in written] == [
        '{"text": "x", "n": 1.10, "n": 1e400, ',
        '{ "text":"\\u00e9\\ud800", ',
        "{",
    ]


def test_json_of_many_shapes_goes_into_columns(tmp_path: Path) -> None:
    """Columns are all there are, in the order they came; what has no common kind is written as JSON text."""
    records: list[Any] = [
        {"text": "x", "mixed": 1, "number": 1, "large": 2**53 + 1, "odd": "\ud800"},
        {"mixed": "one", "number": 0.5, "large": 0.5, "nested": {"a": [1]}},
        5,
        {"text": "y", "late": True, "huge": 2**70},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, records)))
    names = ["text", "mixed", "number", "large", "odd", "nested", "late", "huge"]
    for ending in ("parquet", "csv"):
        classify(tmp_path / "in.jsonl", tmp_path / f"out.{ending}")
        rows = load(tmp_path / f"out.{ending}")
        assert all(list(row)[: len(names)] == names for row in rows)
        assert [row["nested"] or None for row in rows] == [None, '{"a": [1]}', None, None]
        assert [row["huge"] or None for row in rows] == [None, None, None, str(2**70)]
        assert rows[0]["odd"] == "\\ud800"
    rows = load(tmp_path / "out.parquet")
    assert [row["mixed"] for row in rows] == ["1", "one", None, None]
    assert [row["number"] for row in rows] == [1.0, 0.5, None, None]
    assert [row["large"] for row in rows] == [str(2**53 + 1), "0.5", None, None]
    assert [row["late"] for row in rows] == [None, None, None, True]


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """A column that holds something else than at first sight is an error, and nothing takes the output's place."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "x", "n": 1}\n')
    survey = look_through(path, Columns())
    path.write_text('{"text": "x", "n": "one"}\n')
    file = AnswerFile(tmp_path / "out.parquet", survey, AnswerColumns(["a", "b"]), keeps=False)
    with pytest.raises(ConfigurationError, match="'n' holds something else"):
        write(file, read_rows(path, Columns()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("content", "texts", "problems"),
    [
        (b"id,text\n1,a\n2,b,c\n3,d\n", ["a", None, "d"], {1: "line 3: there are 3 fields instead of 2"}),
        (b"id,text\n1,a\n2,caf\xe9\n3,d\n", ["a", None, "d"], {1: "line 3: this is not UTF-8"}),
        (b'id,text\n1,"a\nb"\n2,"c\n3,d\n4,e\n', ["a\nb", None, "d", "e"], {1: "line 4: this is not valid CSV"}),
        (
            b"id,text\n1,a\n2,b\rc\n3,d\n",
            ["a", None, "d"],
            {1: "line 3: a carriage return stands alone; end lines with"},
        ),
        (b'id,text\n1,"a"b\n2,"c"\n', [None, "c"], {0: "line 2: this is not valid CSV"}),
        (b'id,text\n1,"a\n\n2,b\n3,"c"\n', [None, "b", "c"], {0: "line 2: this is not valid CSV"}),
        (b"id,text\n1,a\n2\n\n3,d", ["a", None, "d"], {1: "line 3: there is 1 field instead of 2"}),
    ],
)
def test_a_bad_row_of_a_csv_costs_itself(
    tmp_path: Path, content: bytes, texts: list[str | None], problems: dict[int, str]
) -> None:
    """Wrong fields, bytes and quotes are told with their line, and all rows around them are read."""
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    rows = list(read_rows(path, Columns(), reports=True))
    assert [row.text for row in rows] == texts
    assert [row.index for row in rows if row.problem is not None] == list(problems)
    assert all(part in str(rows[index].problem) for index, part in problems.items())
    with pytest.raises(ConfigurationError, match=next(iter(problems.values()))):
        list(read_rows(path, Columns()))


def test_rows_that_cannot_be_read_are_reported_whatever_the_condition(tmp_path: Path) -> None:
    """Nobody knows whether a broken row meets a condition, so it is not passed over."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a", "split": "x"}\nbroken\n{"text": "b", "split": "y"}\n')
    rows = list(read_rows(path, Columns(where=(("split", "y"),)), reports=True))
    assert [(row.index, row.text) for row in rows] == [(1, None), (2, "b")]


def test_a_quote_that_never_ends_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines after such a quote are given up as one record before there are too many, and are read again."""
    monkeypatch.setattr("langchain_stormtrooper.tables.csv_files._MAX_RECORD", 1000)
    path = tmp_path / "in.csv"
    path.write_text('text\n"a\n' + "b\n" * 5000)
    records = iter(CsvTable(path).records())
    first = next(records)
    assert first.problem is not None
    assert "a quote that does not end" in first.problem
    assert [record.fields["text"] for record in records] == ["b"] * 5000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"no Parquet at all", r"t\.parquet cannot be read as Parquet"),
        ("t.parquet", None, r"There is no file .*t\.parquet"),
        ("t.csv", b"", "does not begin with the names of its columns"),
        ("t.csv", b"caf\xe9,text\n", "line 1: this is not UTF-8"),
        ("t.csv", b'"a,text\n', "line 1: this is not valid CSV"),
        ("t.csv", b"id,body\n1,x\n", "no column 'text'; the columns are 'id', 'body'"),
        ("t.csv", b"id,text\n1,caf\xe9\n", "line 2: this is not UTF-8"),
        ("t.csv", b"id,text\n", "holds no text"),
        ("t.jsonl", b"\n\n", "holds no text"),
        ("t.jsonl", b"broken\n5\n", "line 1: this is not valid JSON"),
        ("t.jsonl", '{"text": "x"}'.encode("utf-16"), "iconv -f utf-16"),
        ("t.txt", b"caf\xe9\n", "line 1: this is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_an_error(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """Also where single rows are reported: no column, no header, another format, and no row that can be read."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        look_through(tmp_path / name, Columns(), reports=True)


def test_a_missing_column_of_parquet_is_named(tmp_path: Path) -> None:
    """The error lists the columns, and a column that is there twice cannot be meant."""
    parquet.write_table(arrow.table({"id": [1], "body": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(ConfigurationError, match="no column 'text'; the columns are 'id', 'body'"):
        look_through(tmp_path / "t.parquet", Columns())
    twice = arrow.Table.from_arrays([arrow.array(["x"])] * 2, names=["text", "text"])
    parquet.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(ConfigurationError, match="more than one column 'text'"):
        look_through(tmp_path / "t.parquet", Columns())


def test_examples_may_come_from_parquet(tmp_path: Path) -> None:
    """Whatever reads texts with labels reads them from Parquet as from other files."""
    parquet.write_table(arrow.table({"text": ["x", "y"], "of.what": ["p", "q"]}), tmp_path / "t.parquet")
    assert read_examples(tmp_path / "t.parquet", Columns(label="of.what")) == [("x", "p"), ("y", "q")]


def test_a_column_that_is_there_twice_would_be_lost(tmp_path: Path) -> None:
    """Such a file can be read for its texts, and not be written with all of its columns."""
    (tmp_path / "in.csv").write_text("id,text,id\n1,x,2\n")
    with pytest.raises(ConfigurationError, match="more than one column 'id'"):
        classify(tmp_path / "in.csv", tmp_path / "out.csv")


def test_added_columns_overwrite_none(tmp_path: Path) -> None:
    """A column of such a name is an error that says how to name the others; a prefix sets it right."""
    (tmp_path / "in.jsonl").write_text('{"text": "x"}\n{"text": "y", "reason": "z", "probabilities": 1}\n')
    survey = look_through(tmp_path / "in.jsonl", Columns())
    for ending, taken in (("jsonl", "'reason', 'probabilities'"), ("csv", "'reason'")):
        with pytest.raises(ConfigurationError, match=rf"overwrite \({taken}\): name the added columns.*`prefix=`"):
            AnswerFile(tmp_path / f"out.{ending}", survey, AnswerColumns(["a", "b"]))
        AnswerFile(tmp_path / f"out.{ending}", survey, AnswerColumns(["a", "b"], "my_"))


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    """Directories, the input, pipes and other endings are refused with what to do."""
    source = tmp_path / "in.csv"
    source.write_text("text\nx\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(source)
    os.link(source, tmp_path / "same.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, message in (
        ("folder.csv", "is a directory: name a file"),
        ("absent/out.csv", "There is no directory .*absent"),
        ("in.csv", "would overwrite"),
        ("link.csv", "would overwrite"),
        ("same.csv", "would overwrite"),
        ("pipe.csv", "no regular file"),
        ("out.xml", r"must end with \.csv, \.jsonl, \.parquet"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            check_output(tmp_path / name, source)
    check_output(tmp_path / "out.csv", source, None)


def test_pyarrow_is_asked_for_by_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, reading and writing Parquet name the extra; nothing else needs it."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for refused in (lambda: open_table(tmp_path / "in.parquet"), lambda: check_output(tmp_path / "out.parquet")):
        with pytest.raises(MissingExtraError, match=r"langchain-stormtrooper\[parquet\]"):
            refused()
    (tmp_path / "in.csv").write_text("text\nx\n")
    classify(tmp_path / "in.csv", tmp_path / "out.jsonl")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_error_leaves_the_older_file(tmp_path: Path, ending: str) -> None:
    """What was written before it is kept under another name, whole, or not at all."""
    source, output = tmp_path / "in.csv", tmp_path / f"out.{ending}"
    source.write_text("text\n" + "x\n" * 5)
    output.write_text("precious")
    survey = look_through(source, Columns())
    for number, keeps in enumerate((True, True, False)):
        file = AnswerFile(output, survey, AnswerColumns(["a", "b"]), keeps=keeps)
        with pytest.raises(RuntimeError):
            write(file, ends_early(source))
        if keeps:
            assert file.kept == tmp_path / f"out.{'partial' if number == 0 else 'partial-2'}.{ending}"
            assert [row["label"] for row in load(file.kept)] == ["a"] * 3
        else:
            assert file.kept is None
    assert output.read_text() == "precious"
    names = {"in.csv", f"out.{ending}", f"out.partial.{ending}", f"out.partial-2.{ending}"}
    assert {entry.name for entry in tmp_path.iterdir()} == names


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)))
def test_the_kind_of_a_column_holds_all_of_its_values(values: list[Any]) -> None:
    """A kind is common to all values, none of which changes by it, and does not depend on their order."""
    outlines = [Outline(), Outline()]
    for outline, given_ in zip(outlines, (values, reversed(values)), strict=True):
        for value in given_:
            outline.add({"c": value})
    kind = outlines[0].kind("c")
    assert outlines[1].kind("c") is kind
    kinds = {kind_of(value) for value in values} - {Kind.NOTHING}
    if kind is Kind.NUMBER:
        assert all(float(value) == value for value in values if value is not None)
        assert Kind.NUMBER in kinds
    elif kind is not Kind.JSON:
        assert kinds <= {kind}


def _resident() -> int:
    """Bytes that the process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Only Linux tells.")
def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    """Of 50,000 rows in one row group only a few thousand are there at once, in and out."""
    count, size = 50_000, 2400
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    # Texts that do not compress, and so cannot hide.
    noise = os.urandom(count * size // 2).hex()
    texts = arrow.array(noise[start : start + size] for start in range(0, count * size, size))
    parquet.write_table(arrow.table({"text": texts}), source, row_group_size=count, use_dictionary=False)
    del texts, noise
    survey = look_through(source, Columns())
    before, peak, arrows = _resident(), 0, 0

    def rows() -> Iterator[Row]:
        nonlocal peak, arrows
        for row in read_rows(source, Columns()):
            if row.index % 2000 == 0:
                peak, arrows = max(peak, _resident()), max(arrows, arrow.total_allocated_bytes())
            yield row

    write(AnswerFile(output, survey, AnswerColumns(["a", "b"])), rows())
    assert parquet.ParquetFile(output).metadata.num_rows == survey.rows == count
    assert parquet.ParquetFile(output).metadata.num_row_groups >= 5
    assert arrows < count * size / 2
    # Of which a third is there where nothing else is going on.
    assert peak - before < count * size * 0.6, (before, peak)


def test_reasons_are_written_with_what_went_wrong(tmp_path: Path) -> None:
    """A row without a label has its reason and the error, and no probabilities where there are none."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    answer = Classification(reason=Reason.OVERLONG, error="too long")
    for ending in ENDINGS:
        classify(tmp_path / "in.csv", tmp_path / f"out.{ending}", answer)
        row = load(tmp_path / f"out.{ending}")[0]
        assert (row["my label"] or None, row["my reason"], row["my error"]) == (None, "overlong", "too long")
        assert not row.get("my probability:a")
        assert not row.get("my probabilities")


def test_values_become_what_json_holds() -> None:
    """Moments, bytes and numbers that are none have a place in JSON, however deep they lie."""
    given = {"at": datetime(2026, 1, 2, 3, 4), "raw": (b"\x01\xff", [math.nan, math.inf, 1.5]), 5: date(2026, 1, 2)}
    assert plain(given) == {"at": "2026-01-02T03:04:00", "raw": ["01ff", [None, None, 1.5]], "5": "2026-01-02"}


def test_a_file_of_another_kind_is_no_table(tmp_path: Path) -> None:
    """What is read as a table must have the ending of one."""
    with pytest.raises(ConfigurationError, match=r"must end with \.csv"):
        open_table(tmp_path / "texts.txt")
