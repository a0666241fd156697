"""Rows that cannot be read keep what could be, and a file that could not be finished keeps whole rows."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM

from langchain_stormtrooper import ZeroShotClassifier, classify_file
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.tables.answer_files import AnswerFile
from langchain_stormtrooper.tables.answers import AnswerColumns
from langchain_stormtrooper.text_files import Columns, Row, look_through, read_rows


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of an output, without what is added but the error."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [*csv.DictReader(file)]
    return [{name: row.get(name) for name in ("id", "text", "more", "label", "error")} for row in rows]


def write_all(file: AnswerFile, rows: list[Row]) -> None:
    """Write rows that have all the same answer."""
    with file:
        for row in rows:
            file.write(row, Classification(label=LABELS[0]))


@pytest.mark.parametrize("after", ["csv", "jsonl"])
@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_rows_that_cannot_be_read_keep_their_fields(tmp_path: Path, after: str) -> None:
    """Too few or too many fields, bytes that are not UTF-8: what could be read is in its columns, and is not asked."""
    source, output = tmp_path / "in.csv", tmp_path / f"out.{after}"
    source.write_bytes(b"id,text,more\n1,a,b\n2,c\n3,d,e,f,g\n4,h,caf\xe9\n5,i\xff\n")
    llm = FakeLLM(model_id="m")
    summary = classify_file(ZeroShotClassifier(LABELS, llm=llm), source, output)
    assert (summary.rows, summary.labelled, llm.log.texts) == (5, 1, ["a"])
    rows = load(output)
    nothing = "" if after == "csv" else None
    assert [(row["id"], row["text"], row["more"]) for row in rows] == [
        ("1", "a", "b"),
        ("2", "c", nothing),
        ("3", "d", "e"),
        ("4", "h", "caf\ufffd"),
        ("5", "i\ufffd", nothing),
    ]
    for row, told in zip(
        rows[1:],
        ("3: there are 2 fields instead of 3", "4: there are 5 fields", "5: this is not", "6: there"),
        strict=True,
    ):
        assert f"in.csv, line {told}" in row["error"]
        assert not row["label"]


@pytest.mark.parametrize("after", ["csv", "jsonl"])
@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_json_lines_that_are_no_objects_are_named(tmp_path: Path, after: str) -> None:
    """Their line is told, and that they are no object; an object with a bad byte keeps its fields."""
    source, output = tmp_path / "in.jsonl", tmp_path / f"out.{after}"
    source.write_bytes(b'{"id": 1, "text": "a"}\n"row 5 str"\n[1, 2]\n{"id": 4, "text": "caf\xe9"}\n"\xe9"\n{"id\xe9\n')
    llm = FakeLLM(model_id="m")
    classify_file(ZeroShotClassifier(LABELS, llm=llm), source, output)
    rows = load(output)
    assert llm.log.texts == ["a"]
    for row, line in zip(rows[1:3], (2, 3), strict=True):
        assert row["error"] == f'{source}, line {line}: this is not a JSON object such as {{"text": "…"}}.'
    assert [row["text"] or None for row in rows] == ["a", None, None, "caf\ufffd", None, None]
    assert all("this is not UTF-8" in row["error"] for row in rows[3:])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("after", ["csv", "jsonl", "parquet"])
def test_a_file_that_could_not_be_finished_keeps_whole_rows(tmp_path: Path, after: str) -> None:
    """Where the disk is full, no half row is left, and it is told how many there are, of formats that allow for it."""
    import resource

    if after == "parquet":
        pytest.importorskip("pyarrow")
    source, output = tmp_path / "in.jsonl", tmp_path / f"out.{after}"
    texts = [f'some "text"\nof lines, {number}: ä\n' for number in range(4000)]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = list(read_rows(source, Columns()))
    file = AnswerFile(output, look_through(source, Columns()), AnswerColumns(LABELS))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_001 if after == "parquet" else 30_001, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_all(file, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = tmp_path / f"out.partial.{after}"
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.jsonl", *([kept.name] if after != "parquet" else [])}
    if after == "parquet":
        assert (file.kept, file.kept_rows) == (None, 0)
        return
    found = load(kept)
    assert [row["text"] for row in found] == texts[: len(found)]
    assert all(row["label"] == LABELS[0] for row in found)
    assert (file.kept, file.kept_rows) == (kept, len(found))
    assert kept.stat().st_size > 25_000
