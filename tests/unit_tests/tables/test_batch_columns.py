"""Batches of columns: what is read from them, and what is added to them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.tables.columns import (
    FIELDS,
    Column,
    add_columns,
    answer_columns,
    check_fields,
    names_of,
    texts_of,
    values_of,
)

numpy = pytest.importorskip("numpy")
KINDS = ["numpy", "pyarrow", "pandas", "lists"]
ADDED = {"why": Column(str, [None, "failed"]), "sure": Column(float, [0.25, None])}


def batch_of(kind: str, columns: dict[str, list[Any]]) -> Any:
    """A batch of one of the kinds."""
    if kind == "numpy":
        return {name: numpy.array(values, dtype=object) for name, values in columns.items()}
    if kind == "lists":
        return columns
    package = pytest.importorskip(kind)
    return package.table(columns) if kind == "pyarrow" else package.DataFrame(columns)


def nulls(values: list[Any]) -> list[Any]:
    """Values with None for what stands for nothing."""
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_added_behind_those_that_are_there(kind: str) -> None:
    """The batch that comes back has all columns in order and is of the same kind; the one given is as it was."""
    batch = batch_of(kind, {"id": [7, 8], "text": ["a", None]})
    more = add_columns(batch, ADDED)
    assert type(more) is type(batch)
    assert names_of(batch) == ["id", "text"]
    assert names_of(more) == ["id", "text", "why", "sure"]
    assert values_of(more, "id") == [7, 8]
    assert nulls(values_of(more, "text")) == ["a", None]
    assert nulls(values_of(more, "why")) == [None, "failed"]
    assert nulls(values_of(more, "sure")) == [0.25, None]


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_columns_of_nulls_have_their_type(kind: str) -> None:
    """Where all is null, or there is no row, a column has the type that it has in every other batch."""
    for count in (0, 2):
        columns = {name: Column(column.kind, [None] * count) for name, column in ADDED.items()}
        more = add_columns(batch_of(kind, {"text": ["a"] * count}), columns)
        if kind == "pyarrow":
            assert [str(more.schema.field(name).type) for name in ADDED] == ["string", "double"]
        else:
            assert more["sure"].dtype == numpy.float64
            assert more["why"].dtype != numpy.float64


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_text_is_none(kind: str) -> None:
    """Nulls of every kind of batch are None, in their places."""
    batch = batch_of(kind, {"text": ["a", None, "b"]})
    assert texts_of(values_of(batch, "text"), "text") == ["a", None, "b"]
    assert texts_of([None, None], "text") == [None, None]
    assert texts_of([float("nan"), None], "text") == [None, None]


def test_the_null_of_pandas_is_none() -> None:
    """Pandas' own NA counts as nothing, too."""
    pandas = pytest.importorskip("pandas")
    assert texts_of(pandas.Series([pandas.NA, pandas.NA], dtype="string").tolist(), "text") == [None, None]


@pytest.mark.parametrize("values", [[1, 2], [None, 1.5], [b"a"], [True], [["a"]]])
def test_a_column_of_something_else_is_refused(values: list[Any]) -> None:
    """A column without any text but with other values is the wrong one, and its values are not shown."""
    with pytest.raises(
        ConfigurationError, match=r"'price' holds (int|float|bytes|bool|list) and no texts: set `text_c"
    ):
        texts_of(values, "price")


@given(
    st.lists(st.one_of(st.text(), st.none(), st.integers())).filter(lambda row: any(isinstance(x, str) for x in row))
)
def test_texts_keep_their_places(values: list[Any]) -> None:
    """With one text in a column, all its texts are themselves and all else is None."""
    assert texts_of(values, "text") == [value if isinstance(value, str) else None for value in values]


def test_answers_by_column() -> None:
    """Each field is a column of plain texts or numbers, and each label has one for its probabilities."""
    answers = [
        Classification(label="a", method=Method.SCORE, confidence=0.75, probabilities={"a": 0.75, "b": 0.25}),
        Classification(reason=Reason.FAILED, error="The server is ill."),
    ]
    columns = answer_columns(answers, [*check_fields(FIELDS), "method"], ["a", "b"], "my_")
    assert columns == {
        "my_label": (str, ["a", None]),
        "my_reason": (str, [None, "failed"]),
        "my_confidence": (float, [0.75, None]),
        "my_probability:a": (float, [0.75, None]),
        "my_probability:b": (float, [0.25, None]),
        "my_error": (str, [None, "The server is ill."]),
        "my_method": (str, ["score", None]),
    }
    assert all(type(value) in {column.kind, type(None)} for column in columns.values() for value in column.values)


def test_fields() -> None:
    """Fields are checked, and one may be given as it is."""
    assert check_fields("label") == ("label",)
    assert check_fields(["error", "label"]) == ("error", "label")
    with pytest.raises(ConfigurationError, match=r"`columns=` has \['lable'\]: choose from \['label', "):
        check_fields(["lable"])
    for wrong in ([], ["label", "label"]):
        with pytest.raises(ConfigurationError, match="must name one column or more, and none twice"):
            check_fields(wrong)


def test_the_option_has_a_column_where_there_is_one() -> None:
    """The option's probability is told beside those of the labels; without the option, it is refused by name."""
    fields = check_fields(FIELDS, has_option=True)
    assert set(fields) - set(check_fields(FIELDS)) == {"out_of_scope"}
    answer = Classification(label="a", confidence=0.5, probabilities={"a": 0.5, "out_of_scope": 0.2}, out_of_scope=0.3)
    columns = answer_columns([answer, Classification(reason=Reason.FAILED)], fields, ["a", "out_of_scope"], "my_")
    assert columns["my_out_of_scope"] == (float, [0.3, None])
    assert columns["my_probability:out_of_scope"] == (float, [0.2, None])
    assert check_fields(["out_of_scope"], has_option=True) == ("out_of_scope",)
    with pytest.raises(ConfigurationError, match=r"has 'out_of_scope', .* that the classifier does not have: give it"):
        check_fields(["out_of_scope", "label"])


def test_a_name_that_two_columns_have_is_refused() -> None:
    """Which one is meant cannot be known; other columns may be there twice."""
    frame = pytest.importorskip("pandas").DataFrame([["a", "b", "c"]], columns=["text", "text", "id"])
    assert values_of(frame, "id") == ["c"]
    with pytest.raises(ConfigurationError, match="several columns 'text'"):
        values_of(frame, "text")
    table = pytest.importorskip("pyarrow").Table.from_arrays([[1], [2]], names=["text", "text"])
    with pytest.raises(ConfigurationError, match="several columns 'text'"):
        values_of(table, "text")


def test_what_is_no_batch_is_refused() -> None:
    """Rows, one text and a text in the place of a column are told by their type."""
    for batch in ([{"text": "SECRET"}], "SECRET", None):
        with pytest.raises(ConfigurationError, match=f"a pandas.DataFrame, not a {type(batch).__name__}"):
            names_of(batch)
    with pytest.raises(ConfigurationError, match="column 'text' of the batch is a str"):
        values_of({"text": "SECRET"}, "text")
