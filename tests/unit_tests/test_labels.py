"""Labels: what is accepted, what is refused, and what stays as given."""

from __future__ import annotations

import copy
import enum
import json
import pickle
import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from langchain_stormtrooper.errors import LabelError
from langchain_stormtrooper.labels import Label, LabelSet, name_of


class Topic(enum.Enum):
    """Members whose values are strings."""

    SPORT = "sport news"
    POLITICS = "politics"


class Color(enum.StrEnum):
    """Members that are strings."""

    RED = "red"
    BLUE = "blue"


class Code(enum.Enum):
    """Members whose values are no strings."""

    low = 1
    high = 2


class Mixed(enum.Enum):
    """Members of which one has another's name for its value."""

    x = "y"
    y = 1
    z = 2


class Task(BaseModel):
    """A model with labels."""

    labels: LabelSet


class Column:
    """A column of a data frame."""

    def tolist(self) -> list[str]:
        """The values."""
        return ["b", "a"]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (["b", "a"], ("b", "a")),
        (("b", "a"), ("b", "a")),
        ({"b": "Bees", "a": None}, ("b", "a")),
        (Topic, ("sport news", "politics")),
        (Color, ("red", "blue")),
        (Code, ("low", "high")),
        (list(Color), ("red", "blue")),
        (Literal["b", "a"], ("b", "a")),
        ([Label("b"), Label("a", "An a.")], ("b", "a")),
        ([{"name": "b"}, {"name": "a", "description": "An a."}], ("b", "a")),
        (LabelSet.of(["b", "a"]), ("b", "a")),
        (Column(), ("b", "a")),
        ([" Sport ", "R&D", "政治", "👍"], (" Sport ", "R&D", "政治", "👍")),
        (["C", "C++", "C#", ".NET", "A-", "A+", "<=50K", ">50K", ":)", ":("], None),
        (["1", "-1", "1.5", "15", "*", "**"], None),
    ],
)
def test_of(spec: Any, names: tuple[str, ...] | None) -> None:
    """Labels come from lists, dicts, enums, literals and columns, spelled and ordered as given."""
    labels = LabelSet.of(spec)
    assert labels.names == (tuple(spec) if names is None else names)
    assert all(type(name) is str for name in labels)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sport, politics", r"did you mean \['sport', 'politics'\]"),
        ("sport", "must be a list, not one string"),
        ({"a", "b"}, "a set has none"),
        (frozenset({"a", "b"}), "a set has none"),
        ([], "at least two labels, and there is none"),
        (["sport"], "only 'sport'"),
        (["a", "b", "a"], "'a' is given twice"),
        (["a", ""], "label 1 is '', which is blank"),
        (["a", " \t"], "blank"),
        (["a", "\u200b"], "blank"),
        (["a", 1], "label 1 is 1, not a string"),
        (["a", None], "not a string"),
        (["Sport", "sport."], "'Sport' and 'sport.' differ only"),
        (["fußball", "FUSSBALL"], "differ only"),
        (["❤️", "❤"], "differ only"),
        (["ok", "\ud800bad"], "not valid Unicode"),
        ({"a": 1, "b": None}, "description of 'a'"),
        ([{"title": "a"}, "b"], "label 0 is a dict"),
        (7, "not int"),
        (None, "not NoneType"),
        (b"ab", "not bytes"),
        (Literal["a", 1], "not a string"),
    ],
)
def test_refused(spec: Any, message: str) -> None:
    """What makes no classification is refused, saying which label and why."""
    with pytest.raises(LabelError, match=message):
        LabelSet.of(spec)


def test_sequence() -> None:
    """A label set is a sequence of names."""
    labels = LabelSet.of({"b": "Bees", "a": None, "c": None})
    assert len(labels) == 3
    assert list(labels) == ["b", "a", "c"]
    assert "a" in labels
    assert "A" not in labels
    assert labels.__contains__(1) is False
    assert labels.index("a") == 1
    assert labels[0] == "b"
    assert labels[1:] == ("a", "c")
    assert labels.descriptions == {"b": "Bees"}
    with pytest.raises(ValueError, match="'x' is not one of the labels"):
        labels.index("x")
    with pytest.raises(ValueError, match="'b' is not"):
        labels.index("b", 1)


def test_value() -> None:
    """Label sets are equal by names, descriptions and order, hash alike, and survive copies and pickles."""
    labels = LabelSet.of({"b": "Bees", "a": None})
    assert labels == LabelSet.of([Label("b", "Bees"), Label("a")])
    assert labels != LabelSet.of(["b", "a"])
    assert LabelSet.of(["a", "b"]) != LabelSet.of(["b", "a"])
    assert labels != ["b", "a"]
    assert len({labels, LabelSet.of(labels.to_list())}) == 1
    for other in (pickle.loads(pickle.dumps(labels)), copy.deepcopy(labels), eval(repr(labels))):  # noqa: S301, S307
        assert other == labels
    assert repr(LabelSet.of(["b", "a"])) == "LabelSet.of(['b', 'a'])"


def test_answer_type() -> None:
    """Schemas say which answers there are."""
    answer_type = LabelSet.of(["b", "a"]).answer_type
    answers: TypeAdapter[str | None] = TypeAdapter(answer_type)
    assert answers.validate_python(None) is None
    assert answers.json_schema() == {"anyOf": [{"enum": ["b", "a"], "type": "string"}, {"type": "null"}]}
    with pytest.raises(ValidationError):
        answers.validate_python("c")


def test_answer_types_keep_the_order_of_their_labels() -> None:
    """The same labels in another order have a schema in that order, whichever was asked for first."""
    for order in (["x", "y", "z"], ["z", "x", "y"], ["y", "z", "x"]):
        answers: TypeAdapter[str | None] = TypeAdapter(LabelSet.of(order).answer_type)
        assert answers.json_schema()["anyOf"][0]["enum"] == order


def test_pydantic_field() -> None:
    """A pydantic field takes any specification and dumps plain data that it takes again."""
    task = Task.model_validate({"labels": {"b": "Bees", "a": None}})
    plain = [{"name": "b", "description": "Bees"}, {"name": "a", "description": None}]
    assert task.model_dump() == {"labels": plain}
    assert json.loads(task.model_dump_json()) == {"labels": plain}
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert Task(labels=LabelSet.of(Topic)).labels.names == ("sport news", "politics")
    with pytest.raises(ValidationError, match="at least two labels"):
        Task.model_validate({"labels": ["a"]})


def test_pydantic_json_schema() -> None:
    """The JSON schemas of a field describe what goes in and what comes out."""
    field = Task.model_json_schema()["properties"]["labels"]
    assert [kind["type"] for kind in field["anyOf"]] == ["array", "array", "object"]
    assert Task.model_json_schema(mode="serialization")["properties"]["labels"]["type"] == "array"


def test_import_is_cheap() -> None:
    """Importing labels imports neither pydantic nor LangChain."""
    modules = ("pydantic", "langchain_core")
    code = f"import sys, langchain_stormtrooper.labels; print([m for m in {modules} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_member_stands_for_its_own_label() -> None:
    """Also where its value is the name of another; and for what single members were made into."""
    names = LabelSet.of(Mixed).names
    assert names == LabelSet.of(list(Mixed)).names == ("x", "y", "z")
    assert [name_of(member, names) for member in Mixed] == ["x", "y", "z"]
    assert [name_of(member, LabelSet.of(Topic).names) for member in Topic] == ["sport news", "politics"]
    assert [name_of(member, ["SPORT", "POLITICS"]) for member in Topic] == ["SPORT", "POLITICS"]
    assert [name_of(member, ["y", "other"]) for member in Mixed] == ["y", "y", "z"]


def test_a_set_of_another_kind_becomes_one_of_this() -> None:
    """A subclass makes its own of any labels, and keeps what is one already."""

    class Ours(LabelSet):
        pass

    ours = Ours.of(LabelSet.of({"a": "Ays", "b": None}))
    assert type(ours) is Ours
    assert ours.labels == (Label("a", "Ays"), Label("b"))
    assert Ours.of(ours) is ours
