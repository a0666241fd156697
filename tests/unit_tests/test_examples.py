"""Reading few-shot examples, and putting them in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_stormtrooper.errors import ConfigurationError, LabelError
from langchain_stormtrooper.examples import Example, alternate, read_examples

NAMES = ("a", "b", "c")
EXAMPLES = st.lists(
    st.builds(Example, text=st.integers(0, 99).map(str), label=st.sampled_from(NAMES)), min_size=1, max_size=20
)


@given(EXAMPLES)
def test_each_labels_examples_keep_their_order(examples: list[Example]) -> None:
    """Nothing is lost, added or overtaken by a later example of the same label."""
    ordered = alternate(examples, NAMES)
    for name in NAMES:
        assert [e for e in ordered if e.label == name] == [e for e in examples if e.label == name]
    assert len(ordered) == len(examples)


@given(EXAMPLES)
def test_examples_come_in_rounds_of_one_per_label(examples: list[Example]) -> None:
    """The n-th round holds the n-th example of every label that has so many, and nothing else."""
    ordered = alternate(examples, NAMES)
    counts = {name: sum(e.label == name for e in examples) for name in NAMES}
    for number in range(max(counts.values())):
        round_, ordered = ordered[: (size := sum(count > number for count in counts.values()))], ordered[size:]
        assert sorted(e.label for e in round_) == [name for name in NAMES if counts[name] > number]


@given(EXAMPLES)
def test_order_does_not_depend_on_how_labels_were_mixed(examples: list[Example]) -> None:
    """The same examples per label give the same order, however the labels were interleaved, and whenever asked."""
    by_label = sorted(examples, key=lambda example: example.label)
    assert alternate(examples, NAMES) == alternate(by_label, NAMES) == alternate(tuple(examples), NAMES)


def test_rounds_differ_in_their_order() -> None:
    """Labels do not follow one another in a fixed pattern, which small models would take up."""
    examples = [Example(text=str(n), label=name) for name in NAMES for n in range(8)]
    labels = [e.label for e in alternate(examples, NAMES)]
    assert len({tuple(labels[n : n + 3]) for n in range(0, len(labels), 3)}) > 1


def test_pairs_and_examples_are_read() -> None:
    """Tuples, lists, `Example`s and dicts of text and label may be mixed, and iterators are read once."""
    given_ = [("one", "a"), ["two", "b"], Example(text="three", label="c"), {"text": "four", "label": "a", "id": 4}]
    read = read_examples(iter(given_), NAMES)
    assert [(e.text, e.label) for e in read] == [("one", "a"), ("two", "b"), ("three", "c"), ("four", "a")]


@pytest.mark.parametrize(
    "item",
    ["ab", ("one",), ("one", "a", "b"), (1, "a"), ("one", None), {"text": "one"}, {"text": "one", "label": None}, None],
)
def test_what_is_no_pair_is_refused_by_position(item: Any) -> None:
    """The error names the place of the bad item and what belongs there, and shows no text."""
    with pytest.raises(ConfigurationError, match=r"examples\[1\] is no pair \(text, label\)") as caught:
        read_examples([("fine", "a"), item], NAMES)
    assert "fine" not in str(caught.value)
    assert "one" not in str(caught.value)


def test_foreign_labels_are_refused() -> None:
    """An example's label must be among the labels, spelled as they are; the error shows it, but not the text."""
    with pytest.raises(LabelError, match=r"examples\[0\] has the label 'A'.*`out_of_scope=`") as caught:
        read_examples([("confidential", "A")], NAMES)
    assert "confidential" not in str(caught.value)


def test_no_examples_are_refused() -> None:
    """An empty list is a mistake, and the error says what else to use."""
    with pytest.raises(ConfigurationError, match="use ZeroShotClassifier"):
        read_examples([], NAMES)


def test_example_is_a_value() -> None:
    """An `Example` cannot be changed, takes no further fields, and does not show its text."""
    example = Example(text="confidential", label="a")
    assert "confidential" not in repr(example)
    assert example == Example(text="confidential", label="a")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(example, "text", "other")  # noqa: B010  # mypy knows that it is frozen
    with pytest.raises(ValidationError, match="Extra inputs"):
        Example.model_validate({"text": "one", "label": "a", "weight": 2})
