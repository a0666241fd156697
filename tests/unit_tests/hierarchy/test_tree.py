"""Labels in a tree: however they are written, they are the same paths; what is no tree is told."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.errors import LabelError
from langchain_stormtrooper.hierarchy.tree import Node, grow, read_paths, respelled
from langchain_stormtrooper.labels import LabelSet

NESTED = {"sport": {"football": "with feet", "tennis": ["singles", "doubles"]}, "other": None}
PATHS = ["sport/football", "sport/tennis/singles", "sport/tennis/doubles", "other"]


def nested(node: Node) -> dict[str, Any] | None:
    """A tree as dicts again."""
    return {child.path[-1]: nested(child) for child in node.children} or None


def trees() -> st.SearchStrategy[Any]:
    """Nested dicts with at least two labels, whose names differ at each node."""
    names = st.sampled_from(["art", "law", "sea", "sky", "tea", "war"])
    return st.recursive(st.none(), lambda below: st.dictionaries(names, below, min_size=1, max_size=4)).filter(
        lambda tree: tree is not None and len(list(leaves(tree))) > 1
    )


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of a nested dict."""
    return [path] if tree is None else [one for name, below in tree.items() for one in leaves(below, (*path, name))]


@given(trees(), st.sampled_from(["/", " > ", "::"]))
def test_a_nested_dict_comes_back(tree: Any, separator: str) -> None:
    """As paths, which make the same tree; from these paths alone, too, in whatever form labels have."""
    labels = read_paths(tree, separator)
    assert labels.names == tuple(separator.join(path) for path in leaves(tree))
    assert nested(grow(labels, separator)) == tree
    assert read_paths(list(labels), separator) == read_paths(labels, separator) == labels
    assert read_paths(labels.to_list(), separator) == labels


def test_all_ways_of_writing_a_tree() -> None:
    """Dicts, lists in dicts and paths say the same; descriptions are the labels'."""
    labels = read_paths(NESTED, "/")
    assert labels.names == LabelSet.of(PATHS).names
    assert labels.descriptions == {"sport/football": "with feet"}
    assert read_paths({**dict.fromkeys(PATHS), "sport/football": "with feet"}, "/") == labels
    top = grow(labels, "/")
    assert [node.path for node in top.deciding()] == [(), ("sport",), ("sport", "tennis")]
    assert top.child("sport").labels == LabelSet.of({"football": "with feet", "tennis": None})


class Racket(Enum):
    """Names in an Enum."""

    TENNIS = "tennis"
    SQUASH = "squash"


@pytest.mark.parametrize("below", [Racket, ("tennis", "squash"), LabelSet.of(Racket), np.array(["tennis", "squash"])])
@pytest.mark.parametrize("beside", [None, ["a", "b"]])
def test_whatever_holds_names_may_stand_for_a_list(below: Any, beside: Any) -> None:
    """Whether or not another value of the dict is a list as well."""
    labels = read_paths({"sport": below, "other": beside}, "/")
    assert labels.names[:2] == ("sport/tennis", "sport/squash")


def test_another_separator_writes_the_same_tree() -> None:
    """Names and descriptions stay; a name that holds it is refused."""
    labels = read_paths(NESTED, "/")
    assert respelled(labels, "/", " > ") == read_paths(NESTED, " > ")
    with pytest.raises(LabelError, match="'a:b' holds ':'"):
        respelled(LabelSet.of(["a:b/c", "d"]), "/", ":")


def test_white_space_around_names_does_not_count() -> None:
    """Names are without it; labels stay as they were given."""
    top = grow(LabelSet.of(["sport / tennis", "sport/golf", "art"]), "/")
    assert [leaf.path for leaf in top.leaves()] == [("sport", "tennis"), ("sport", "golf"), ("art",)]
    assert [leaf.label for leaf in top.leaves()] == ["sport / tennis", "sport/golf", "art"]


def test_where_there_is_one_child_nothing_is_decided() -> None:
    """It leads on to the first place with a choice, or to the label."""
    top = grow(LabelSet.of(["a/b/c/d", "a/b/e", "a/b/f/g/h"]), "/")
    assert top.settled().path == ("a", "b")
    assert [child.settled().label for child in top.settled().children] == ["a/b/c/d", "a/b/e", "a/b/f/g/h"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sport": {"a/b": None, "c": None}}, "'a/b' holds '/'"),
        ({"sport": ["a/b", "c"]}, "'a/b' holds '/'"),
        ({"sport": {}, "other": None}, "'sport' has nothing below it"),
        ({"sport": [], "other": None}, "'sport' has nothing below it"),
        ({"sport": ["a", {"tennis": ["b"]}]}, "Below 'sport' .* label 1 is a dict: .* in a dict, not in a list"),
        (
            {"sport": {"tennis": {"singles": 1}}, "other": None},
            "Below 'sport/tennis/singles' .* not int.* another dict",
        ),
        ({"sport": {"a", "b"}, "other": None}, "Below 'sport' .* a set has none"),
        ({"sport": {"tennis": [7, "a"]}, "other": None}, "Below 'sport/tennis' .* label 0 is 7"),
        ({"sport": {"tennis": {}}, "other": None}, "'sport/tennis' has nothing below it"),
        ({"sport": {"tennis": {3: None}}, "other": None}, "is 3 below 'sport/tennis'"),
        (["a/sport/tennis", "a/Sport/golf", "b"], "Below 'a': Labels 'sport' and 'Sport'"),
        ({"sport": ["a", "b"], 7: None}, "is 7"),
        ({"sport": {" ": None}, "other": None}, "not blank"),
        ({"sport": ["a", "b"], "other": 7}, "Below 'other' .* not int"),
        ({"sport": 7, "other": None}, "Below 'sport' .* not int"),
        (["a//b", "c"], "empty name"),
        (["/a", "c"], "empty name"),
        (["sport", "sport/tennis"], "'sport' is a label and has others below it"),
        (["sport/tennis", "Sport/golf"], "'sport' and 'Sport'"),
        ({"sport": {"tennis": ["singles"]}}, "at least two labels"),
        (["a/b", "a / b"], "the same path|differ only in case"),
    ],
)
def test_what_is_no_tree_is_told(spec: Any, message: str) -> None:
    """In one sentence that names the place."""
    with pytest.raises(LabelError, match=message):
        grow(read_paths(spec, "/"), "/")
