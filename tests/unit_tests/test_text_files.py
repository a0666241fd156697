"""Texts, labels and examples from files: what is read, and how a bad file is refused."""

import io
import json
from pathlib import Path

import pytest

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labels import Label
from langchain_stormtrooper.text_files import (
    Columns,
    Row,
    count_rows,
    holds,
    read_example_rows,
    read_examples,
    read_labels,
    read_rows,
    read_stream,
    read_text,
    read_where,
)

SPLITS = Columns(label="label", where=(("split", "test"),))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Four records with a known label and a split."""
    path = tmp_path / "reviews.jsonl"
    rows = [("a", "good", "train"), ("b", "bad", "test"), ("c", "good", "test"), ("d", "bad", "train")]
    records = [{"text": text, "label": label, "split": split, "year": 1999} for text, label, split in rows]
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    return path


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_txt_is_one_text_a_line(tmp_path: Path) -> None:
    """Blank lines are passed over but counted, and line ends and byte-order marks are no part of a text."""
    path = _write(tmp_path / "texts.txt", b"\xef\xbb\xbffirst \r\n\r\n  \nfourth, with a comma")
    assert list(read_rows(path, Columns())) == [Row(0, "first "), Row(3, "fourth, with a comma")]


def test_jsonl_keeps_matching_rows_and_their_numbers(reviews: Path) -> None:
    """Conditions choose rows, which keep their number in the file and carry their known label."""
    assert list(read_rows(reviews, SPLITS)) == [Row(1, "b", "bad"), Row(2, "c", "good")]


def test_conditions_compare_with_what_json_would_write(reviews: Path) -> None:
    """Numbers in JSON can be compared with, and all conditions must hold."""
    assert count_rows(reviews, Columns(where=(("year", "1999"), ("split", "train")))) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_by_any_usual_delimiter(tmp_path: Path, delimiter: str) -> None:
    """The header tells the delimiter; quoted fields may hold it, and line breaks."""
    quoted = f'"two{delimiter}\nlines ""quoted"""'
    path = _write(tmp_path / "t.csv", f"id{delimiter}text\r\n1{delimiter}{quoted}\r\n\r\n2{delimiter}x\r\n")
    assert [row.text for row in read_rows(path, Columns())] == [f'two{delimiter}\nlines "quoted"', "x"]


def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    """A text longer than the csv module's own limit is read."""
    path = _write(tmp_path / "t.csv", "text\n" + "x" * 200_000 + "\n")
    assert [row.text for row in read_rows(path, Columns())] == ["x" * 200_000]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"text": "a"}\n{"text": "b"\n', r"t\.jsonl, line 2: this is not valid JSON"),
        ("t.jsonl", '["b"]\n', "line 1: this is not a JSON object"),
        ("t.jsonl", '\n{"body": "b"}\n{"text": null}\n', "line 2: the column 'text' holds no text.*'body'"),
        ("t.jsonl", '{"text": 3}\n', "line 1: the column 'text' holds no text"),
        ("t.csv", 'text,label\n,a\n" ",b\n', "line 2: the column 'text' holds no text"),
        ("t.csv", "body,label\nx,y\n", "no column 'text'; the columns are 'body', 'label'"),
        ("t.csv", "text,label\nx,y\na,b,c\n", "line 3: there are 3 fields instead of 2"),
        ("t.csv", 'text,label\n"x,y\n', "this is not valid CSV"),
        ("t.csv", "", "does not begin with the names of its columns"),
        ("t.csv", "text,text\na,b\n", "more than one column 'text': rename"),
        ("t.jsonl", '{"text": ' + "[" * 100_000 + "\n", "line 1: this nests too deeply"),
        ("t.jsonl", '{"text": "a", "n": ' + "1" * 5000 + "}\n", "too long a number"),
        ("t.txt", "jazz".encode("utf-16"), "line 1: this is not UTF-8.*iconv -f utf-16"),
        ("t.txt", b"fine\ncaf\xe9\n", "line 2: this is not UTF-8"),
        ("t.csv", b"text\nfine\ncaf\xe9\n", "line 3: this is not UTF-8"),
        ("t.txt", "\n \n", "holds no text"),
        ("t.jsonl", "", "holds no text"),
        ("t.parquet", "PAR1", r"t\.parquet cannot be read as Parquet"),
        ("t.xml", "<a/>", r"its name must end with \.txt, \.csv, \.jsonl, \.parquet"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """Whatever is wrong with a file is told with its line, before anything is classified."""
    path = _write(tmp_path / name, content)
    with pytest.raises(ConfigurationError, match=message):
        count_rows(path, Columns())


def test_rows_without_a_text_are_blank_and_keep_their_numbers(tmp_path: Path) -> None:
    """Whatever is no text stands in its place, is counted, and keeps neither the rows before nor those after."""
    records = ["5", '{"text": null}', '{"text": 7}', '{"body": "x"}', '{"text": " "}', '["x"]', '{"text": "a"}']
    path = _write(tmp_path / "t.jsonl", "\n".join(records))
    rows = list(read_rows(path, Columns()))
    assert [row.text for row in rows] == [None, None, None, None, " ", None, "a"]
    assert [row.index for row in rows] == list(range(7))
    assert [row.blank for row in rows] == [True] * 6 + [False]
    assert count_rows(path, Columns()) == 7
    assert list(read_rows(path, Columns(where=(("text", "7"),)))) == [Row(2, None)]


def test_absent_files_and_directories_are_refused(tmp_path: Path) -> None:
    """What cannot be opened gives our error and not an OSError."""
    with pytest.raises(ConfigurationError, match="There is no file"):
        count_rows(tmp_path / "none.txt", Columns())
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        count_rows(tmp_path / "folder.txt", Columns())


def test_txt_has_no_columns(tmp_path: Path) -> None:
    """Options about columns are not silently ignored for a file that has none."""
    path = _write(tmp_path / "t.txt", "x\n")
    with pytest.raises(ConfigurationError, match="has no columns"):
        count_rows(path, Columns(label="label"))


def test_conditions_that_nothing_meets(reviews: Path) -> None:
    """An empty choice is an error that repeats the conditions."""
    with pytest.raises(ConfigurationError, match="has split=tset and lang=en"):
        count_rows(reviews, Columns(where=(("split", "tset"), ("lang", "en"))))


def test_a_label_column_without_labels(reviews: Path) -> None:
    """A misspelt label column is noticed, since no row has a label there."""
    with pytest.raises(ConfigurationError, match="'lable'"):
        count_rows(reviews, Columns(label="lable"))


def test_counting_stops_at_the_limit(tmp_path: Path) -> None:
    """Rows beyond the limit are not read, so they may be broken."""
    path = _write(tmp_path / "t.jsonl", '{"text": "a"}\n{"text": "b"}\nbroken\n')
    assert count_rows(path, Columns(), 2) == 2


def test_examples_are_the_first_of_each_label(reviews: Path) -> None:
    """Without a bound all examples are kept; with one the first of each label."""
    everything = Columns(label="label")
    assert read_examples(reviews, everything) == [("a", "good"), ("b", "bad"), ("c", "good"), ("d", "bad")]
    assert read_examples(reviews, everything, 1) == [("a", "good"), ("b", "bad")]
    assert read_examples(reviews, SPLITS, 5) == [("b", "bad"), ("c", "good")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": null}\n{"text": "c", "label": "y"}\n'),
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n{"text": "c", "label": "y"}\n'),
        ("t.csv", "text,label\na,x\nb,\nc,y\n"),
        ("t.csv", "text,label\na,x\nb, \nc,y\n"),
    ],
)
def test_an_example_without_label_is_refused_or_passed_over(tmp_path: Path, name: str, content: str) -> None:
    """An example with no label, or a blank one, cannot be shown; where they are chosen among rows, others are."""
    path, columns = _write(tmp_path / name, content), Columns(label="label")
    with pytest.raises(ConfigurationError, match=r"row 1: an example needs a label in 'label'; .* `out_of_scope=`"):
        read_examples(path, columns)
    assert read_example_rows(path, columns, pass_blank=True) == [Row(0, "a", "x"), Row(2, "c", "y")]
    assert [row.expected for row in read_rows(path, columns)] == ["x", None, "y"]


def test_an_example_without_a_text_is_refused_or_passed_over(tmp_path: Path) -> None:
    """An example that has no text cannot be shown; where examples are chosen among rows, others are."""
    columns = Columns(label="label")
    path = _write(tmp_path / "t.csv", "text,label\n,x\nb,x\nc,y\n")
    with pytest.raises(ConfigurationError, match="line 2: the column 'text' holds no text"):
        read_examples(path, columns)
    assert read_example_rows(path, columns, 1, pass_blank=True) == [Row(1, "b", "x"), Row(2, "c", "y")]


def test_labels_with_descriptions_and_commas(tmp_path: Path) -> None:
    """A file of labels may describe them after a tab, and names may hold commas."""
    path = _write(tmp_path / "labels.txt", "food, drink\tWhat one eats.\n\nother\r\n")
    assert read_labels(path) == [Label("food, drink", "What one eats."), Label("other")]


def test_a_template_loses_only_its_last_newline(tmp_path: Path) -> None:
    """Editors put a newline at the end of a file; a prompt that ends with one is another prompt."""
    assert read_text(_write(tmp_path / "t.txt", "{text}\n\nLabel:\r\n")) == "{text}\n\nLabel:"


def test_a_stream_is_read_as_it_comes() -> None:
    """The first text is there before the second line has been looked at."""
    rows = read_stream(io.BytesIO(b"one\n\xff\n"))
    assert next(rows) == Row(0, "one")
    with pytest.raises(ConfigurationError, match="stdin, line 2"):
        next(rows)


def test_conditions_are_written_with_an_equals_sign() -> None:
    """Values may be empty and hold further equals signs; a condition without one is refused."""
    assert read_where(["split=test", "formula=a=b", "note="]) == (("split", "test"), ("formula", "a=b"), ("note", ""))
    for bad in ("split", "=test"):
        with pytest.raises(ConfigurationError, match="column=value"):
            read_where([bad])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "text,split\na,test\nb,train\n", True),
        ("t.csv", "text,split\na,test\n", False),
        ("t.csv", "text\na\n", False),
        ("t.jsonl", '{"text": "a"}\n{"text": "b", "split": "train"}\n', True),
        ("t.jsonl", '{"text": "a"}\n', False),
    ],
)
def test_whether_any_row_meets_a_condition(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    """A file holds a split if a row is of it; that there is no such column is no error."""
    path = tmp_path / name
    path.write_text(content)
    assert holds(path, Columns(where=(("split", "train"),))) is expected


def test_a_file_without_labels_is_named(tmp_path: Path) -> None:
    """Blank lines hold no label, and the message says which file it is about."""
    with pytest.raises(ConfigurationError, match=r"labels\.txt holds no label: write one a line"):
        read_labels(_write(tmp_path / "labels.txt", "\n \n"))
