"""`walk` and `end_where_needed` against the plain definition of a label's probability."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.errors import LabelError
from langchain_stormtrooper.scoring import Branch, end_where_needed, starting_pairs, walk

END = 0
TOKENS = st.integers(1, 4)
LABEL_SETS = st.lists(st.lists(TOKENS, min_size=1, max_size=5).map(tuple), min_size=2, max_size=8, unique=True)


class Model:
    """A random next-token model over a small vocabulary."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def next(self, prefix: tuple[int, ...]) -> dict[int, float]:
        """The distribution of the token after a prefix."""
        generator = random.Random(f"{self._seed}{prefix}")  # not for secrets
        weights = [generator.random() ** 4 for _ in range(7)]
        return {token: weight / sum(weights) for token, weight in enumerate(weights)}


def ask(labels: Sequence[tuple[int, ...]], model: Model) -> tuple[list[float], list[list[Branch]]]:
    """Drive `walk` with a model, and keep what it asked."""
    steps, asked = walk(labels), []
    try:
        branches = next(steps)
        while True:
            asked.append(branches)
            answers: list[Mapping[int, float]] = [
                {token: model.next(branch.prefix)[token] for token in branch.children} for branch in branches
            ]
            branches = steps.send(answers)
    except StopIteration as end:
        return end.value, asked


def brute_force(labels: Sequence[tuple[int, ...]], model: Model) -> list[float]:
    """Each label's product of conditional probabilities, renormalised at every token over what labels go on with."""
    probabilities = []
    for label in labels:
        probability = 1.0
        for depth in range(len(label)):
            siblings = {other[depth] for other in labels if other[:depth] == label[:depth] and len(other) > depth}
            distribution = model.next(label[:depth])
            probability *= distribution[label[depth]] / sum(distribution[token] for token in siblings)
        probabilities.append(probability)
    return probabilities


def parting_prefixes(labels: Sequence[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """The prefixes after which labels go on with different tokens."""
    prefixes = {label[:depth] for label in labels for depth in range(len(label))}
    return {
        prefix
        for prefix in prefixes
        if len({label[len(prefix)] for label in labels if label[: len(prefix)] == prefix and len(label) > len(prefix)})
        > 1
    }


@given(LABEL_SETS, st.integers())
def test_walk_is_the_product_of_conditional_probabilities(labels: list[tuple[int, ...]], seed: int) -> None:
    """Labels get the product of the next-token probabilities on their path, and these sum to 1."""
    labels = end_where_needed(labels, END)
    model = Model(seed)
    probabilities, _ = ask(labels, model)
    assert probabilities == pytest.approx(brute_force(labels, model), rel=1e-9)
    assert math.isclose(sum(probabilities), 1.0)


@given(LABEL_SETS, st.integers(), st.randoms(use_true_random=False))
def test_order_of_labels_only_orders_the_result(
    labels: list[tuple[int, ...]], seed: int, generator: random.Random
) -> None:
    """Labels in another order have the same probabilities, in that order."""
    model = Model(seed)
    order = list(range(len(labels)))
    generator.shuffle(order)
    probabilities, _ = ask(end_where_needed(labels, END), model)
    shuffled, _ = ask(end_where_needed([labels[i] for i in order], END), model)
    assert shuffled == pytest.approx([probabilities[i] for i in order], rel=1e-9)


@given(LABEL_SETS)
def test_only_branching_nodes_are_asked_and_each_once(labels: list[tuple[int, ...]]) -> None:
    """What is asked is exactly the set of nodes at which labels part, with the tokens they part into."""
    labels = end_where_needed(labels, END)
    asked = [branch for branches in ask(labels, Model(0))[1] for branch in branches]
    assert len(asked) == len({branch.prefix for branch in asked})
    assert {branch.prefix for branch in asked} == parting_prefixes(labels)
    for branch in asked:
        depth = len(branch.prefix)
        assert branch.children == tuple(
            sorted({label[depth] for label in labels if label[:depth] == branch.prefix and len(label) > depth})
        )


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=2, max_size=4, unique_by=lambda label: label[0]))
def test_labels_that_differ_at_once_cost_one_request(labels: list[tuple[int, ...]]) -> None:
    """Labels with different first tokens are told apart by a single branch."""
    assert ask(labels, Model(0))[1] == [[Branch((), tuple(sorted(label[0] for label in labels)))]]


@given(LABEL_SETS)
def test_branches_of_one_depth_of_branching_come_together(labels: list[tuple[int, ...]]) -> None:
    """There are no more rounds than branchings on the longest path, so that requests run side by side."""
    labels = end_where_needed(labels, END)
    nodes = parting_prefixes(labels)
    most = max(sum(label[:depth] in nodes for depth in range(len(label))) for label in labels)
    assert len(ask(labels, Model(0))[1]) == most


@given(LABEL_SETS)
def test_end_where_needed_makes_labels_prefix_free(labels: list[tuple[int, ...]]) -> None:
    """No result is the start of another, and only labels that are the start of another are marked."""
    ended = end_where_needed(labels, END)
    for index, label in enumerate(ended):
        assert not any(other[: len(label)] == label for n, other in enumerate(ended) if n != index)
        starts = any(other != labels[index] and other[: len(labels[index])] == labels[index] for other in labels)
        assert label == ((*labels[index], END) if starts else labels[index])


@given(st.lists(st.text("ab", min_size=1, max_size=5), max_size=12))
def test_starting_pairs(answers: list[str]) -> None:
    """Each text that goes on from others is paired with the longest of them, and nothing else is."""
    expected = set()
    for answer in answers:
        starts = [other for other in answers if other != answer and answer.startswith(other)]
        if starts:
            expected.add((max(starts, key=len), answer))
    assert sorted(starting_pairs(answers)) == sorted(expected)


def test_impossible_branches_share_evenly() -> None:
    """A branch whose children the model holds impossible tells nothing: what lies under it shares equally."""
    steps = walk([(1, 2), (1, 3), (4,)])
    assert next(steps) == [Branch((), (1, 4))]
    assert steps.send([{1: 0.3, 4: 0.1}]) == [Branch((1,), (2, 3))]
    with pytest.raises(StopIteration) as end:
        steps.send([{2: 0.0, 3: 0.0}])
    assert end.value.value == pytest.approx([0.375, 0.375, 0.25])


@pytest.mark.parametrize(("negligible", "asked"), [(0.25, True), (0.2501, False)])
def test_a_branch_is_asked_from_the_limit_on(negligible: float, asked: bool) -> None:
    """A branch with just as much as is negligible is asked; with less, what lies under it shares equally."""
    steps = walk([(1, 2), (1, 3), (4,)], negligible)
    assert next(steps) == [Branch((), (1, 4))]
    if asked:
        assert steps.send([{1: 0.5, 4: 1.5}]) == [Branch((1,), (2, 3))]
        with pytest.raises(StopIteration) as end:
            steps.send([{2: 3.0, 3: 1.0}])
        assert end.value.value == [0.1875, 0.0625, 0.75]
    else:
        with pytest.raises(StopIteration) as end:
            steps.send([{1: 0.5, 4: 1.5}])
        assert end.value.value == [0.125, 0.125, 0.75]


def test_labels_of_the_same_tokens_are_refused() -> None:
    """A model that reads two labels as the same tokens cannot tell them apart, and the error says so."""
    with pytest.raises(LabelError, match="same tokens"):
        end_where_needed([(1, 2), (3,), (1, 2)], END)


@pytest.mark.parametrize("labels", [[(1,), (1, END)], [(1,), (1, END, 2)], [(1,), (1, 2), (1, END, 2), (1, END)]])
def test_labels_that_contain_the_end_token_are_refused(labels: list[tuple[int, ...]]) -> None:
    """Where a label goes on with the very token that would end another, marking the end does not tell them apart."""
    with pytest.raises(LabelError, match="tokens"):
        end_where_needed(labels, END)
