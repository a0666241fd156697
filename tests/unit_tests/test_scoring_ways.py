"""The arithmetic of each way of scoring, against a random model whose distribution is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.scoring import (
    anchored_groups,
    chain_groups,
    end_where_needed,
    path_scores,
    prefill_scores,
    read_shares,
    walk,
)
from langchain_stormtrooper.scoring.groups import _Chain

END = -1
SEEDS = st.integers(0, 10_000)
LABEL_SETS = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), min_size=2, max_size=8, unique=True
)


def next_tokens(seed: int, prefix: tuple[int, ...]) -> dict[int, float]:
    """A random distribution over what follows a prefix: the end, four tokens of labels, and others."""
    generator = random.Random(f"{seed}{prefix}")
    weights = [generator.random() ** 3 for _ in range(7)]
    return {token - 1: weight / sum(weights) for token, weight in enumerate(weights)}


def reached(seed: int, tokens: Sequence[int]) -> float:
    """Probability that an answer starts with some tokens."""
    return math.prod(next_tokens(seed, tuple(tokens[:n]))[token] for n, token in enumerate(tokens))


class Grammar:
    """Lists of the likeliest tokens that groups allow: wanted ones, pieces of them, and tokens of a family besides."""

    def __init__(
        self, weights: dict[int, float], size: int, pieces: dict[int, float], families: Sequence[Sequence[int]] = ()
    ) -> None:
        self.weights, self.size, self.pieces, self.families = weights, size, pieces, families
        self.asked: list[tuple[int, ...]] = []

    def list(self, group: tuple[int, ...]) -> dict[int, float]:
        """The likeliest tokens that a group allows; tokens share pieces by their last digit."""
        assert 1 <= len(group) <= self.size
        self.asked.append(group)
        allowed = {token: self.weights[token] for token in group}
        for family in self.families:
            if set(family) & set(group):
                allowed |= {token: self.weights[token] for token in family}
        allowed |= {-10 - token % 10: self.pieces[token % 10] for token in group if self.pieces.get(token % 10)}
        total = sum(allowed.values())
        best = sorted(allowed, key=lambda token: -allowed[token])[: self.size]
        return {token: math.log(allowed[token] / total) for token in best}

    def chain(self, told: Sequence[Sequence[int]] = ()) -> tuple[dict[int, float], float, float]:
        """What comes out, how far the worst is off, and the covered mass."""
        steps = chain_groups(self.weights, self.size, told)
        groups = next(steps)
        try:
            while True:
                groups = steps.send([self.list(group) for group in groups])
        except StopIteration as end:
            chained = end.value
        total = sum(self.weights.values())
        assert sum(chained.probabilities.values()) == pytest.approx(1)
        error = max(abs(chained.probabilities[token] - weight / total) for token, weight in self.weights.items())
        return chained.probabilities, error, chained.covered


@given(SEEDS, st.integers(2, 40), st.integers(2, 6))
def test_groups_chain_into_the_distribution(seed: int, tokens: int, size: int) -> None:
    """Odds against a common anchor lead back to the distribution, with ceil((n - 1) / (size - 1)) groups."""
    generator = random.Random(seed)
    grammar = Grammar({token: generator.random() + 0.01 for token in range(tokens)}, size, {})
    _, error, covered = grammar.chain()
    assert error < 1e-9
    assert covered == pytest.approx(1)
    assert len(grammar.asked) == math.ceil((tokens - 1) / (size - 1))


@given(SEEDS, st.integers(2, 40), st.integers(2, 5), st.floats(0, 12), st.booleans())
def test_what_covered_mass_leaves_open(seed: int, tokens: int, size: int, spread: float, told: bool) -> None:
    """However odd the model, no token is off by more than the covered mass leaves open, and requests are bounded."""
    generator = random.Random(seed)
    weights = {token: math.exp(-spread * generator.random() ** 2 * 2) for token in range(tokens)}
    pieces = {digit: math.exp(-spread * generator.random() - 1) for digit in range(10) if generator.random() < 0.5}
    order = generator.sample(sorted(weights), tokens)
    families = [order[start : start + 3] for start in range(0, tokens // 2, 3)]
    grammar = Grammar(weights, size, pieces, families)
    _, error, covered = grammar.chain(families if told else ())
    assert error <= 1 - covered + 1e-9
    assert len(grammar.asked) <= math.ceil((tokens - 1) / (size - 1)) + 36


@pytest.mark.parametrize("unlikely", range(8))
@pytest.mark.parametrize("piece", [1e-3, 1e-4, 1e-5])
def test_an_unlikely_token_ties_no_groups(unlikely: int, piece: float) -> None:
    """Where pieces of labels hide a token, nothing is divided by a guess of it."""
    weights = dict.fromkeys(range(8), 0.02)
    weights |= {(unlikely + 1) % 8: 0.3, (unlikely + 6) % 8: 0.55, unlikely: 1e-6}
    _, error, covered = Grammar(weights, 5, dict.fromkeys(range(8), piece)).chain()
    assert error < 1e-3
    assert covered > 0.98


def test_a_first_group_of_no_weight() -> None:
    """Where all of the first group is hidden in the others, these are tied together without it."""
    weights = dict.fromkeys(range(5), 1e-08) | {token: 0.01 + token / 1000 for token in range(5, 40)}
    _, error, covered = Grammar(weights, 5, dict.fromkeys(range(10), 1e-4)).chain()
    assert error < 1e-3
    assert covered > 0.99


def test_families_share_a_group() -> None:
    """A token that the grammar lists beside another is asked with it, and otherwise taken for what it is."""
    weights = {token: 0.1 + token / 100 for token in range(10)}
    families = [[4, 9], [0, 7, 8], [5, 6]]
    groups = anchored_groups(weights, 5, families)
    assert sorted(token for group in groups for token in group) == sorted(weights)
    assert all(any(set(family) <= set(group) for group in groups) for family in families)
    for told in (families, []):
        _, error, covered = Grammar(weights, 5, {}, families).chain(told)
        assert error < 1e-3
        # Untold, what a list has no room for may be anything.
        assert covered > (0.999 if told else 0.5)


def test_lists_that_tell_nothing() -> None:
    """Without any list all tokens are alike, and nothing is covered."""
    steps = chain_groups(range(7), 5)
    groups = next(steps)
    try:
        while True:
            groups = steps.send([{} for _ in groups])
    except StopIteration as end:
        assert end.value.probabilities == pytest.approx(dict.fromkeys(range(7), 1 / 7))
        assert end.value.covered == 0


@pytest.mark.parametrize(
    ("tokens", "size", "families", "groups"),
    [
        ([2, 1], 5, (), [(1, 2)]),
        ([1, 2, 3, 4, 5], 3, (), [(1, 2, 3), (4, 5)]),
        ([1, 2, 3, 4, 5, 6], 3, (), [(1, 2, 3), (4, 5), (6,)]),
        ([3, 1, 2], 1, (), [(1, 2), (3,)]),
        # Larger families first, then the smaller numbers; one that fits nowhere is split.
        ([1, 2, 3, 4, 5], 3, [(4, 5)], [(1, 4, 5), (2, 3)]),
        ([1, 2, 3, 4, 5, 6], 4, [(1, 2), (4, 6, 5)], [(3, 4, 5, 6), (1, 2)]),
        ([1, 2, 3, 4, 5, 6], 3, [(2, 4, 5, 6)], [(2, 4, 5), (1, 6), (3,)]),
        ([1, 2, 3, 4, 5], 3, [(4, 5), (2, 3)], [(1, 2, 3), (4, 5)]),
    ],
)
def test_groups_of_tokens(
    tokens: list[int], size: int, families: Sequence[Sequence[int]], groups: list[tuple[int, ...]]
) -> None:
    """The first group fills a list, the others leave room for the anchor, and families stay together."""
    assert anchored_groups(tokens, size, families) == groups


def chained(
    tokens: Sequence[int], size: int, lists: dict[tuple[int, ...], dict[int, float]]
) -> tuple[dict[int, float], float]:
    """What comes out of lists, all of which are asked for, and nothing else."""
    steps, left = chain_groups(tokens, size), dict(lists)
    groups = next(steps)
    try:
        while True:
            answers = [left.pop(group) for group in groups]
            groups = steps.send([{token: math.log(p) for token, p in answer.items()} for answer in answers])
    except StopIteration as end:
        assert not left
        return end.value.probabilities, end.value.covered


@pytest.mark.parametrize(
    ("tokens", "size", "lists", "odds", "covered"),
    [
        # Of one list: what is not of the labels, listed or not, is not covered.
        ([1, 2], 5, {(1, 2): {1: 0.4, 2: 0.2, -7: 0.3}}, {1: 0.4, 2: 0.2}, 0.6),
        # Of two: a piece is the same in both, as large as either shows it; so is what is left.
        (
            [1, 2, 3, 4],
            3,
            {(1, 2, 3): {1: 0.4, 2: 0.2, 3: 0.2, -7: 0.1}, (1, 4): {1: 0.5, 4: 0.25, -7: 0.125}},
            {1: 0.4, 2: 0.2, 3: 0.2, 4: 0.2},
            1.0 / 1.2,
        ),
        (
            [1, 2, 3, 4],
            3,
            {(1, 2, 3): {1: 0.4, 2: 0.3, 3: 0.3}, (1, 4): {1: 0.5, 4: 0.25, -7: 0.1, -8: 0.1}},
            {1: 0.4, 2: 0.3, 3: 0.3, 4: 0.2},
            1.2 / (1.2 + 0.16 + 0.04),
        ),
        # The likeliest of the first group is the anchor, the smallest among equals.
        (
            [1, 2, 3, 4],
            3,
            {(1, 2, 3): {1: 0.2, 2: 0.4, 3: 0.4}, (2, 4): {2: 0.8, 4: 0.2}},
            {1: 0.2, 2: 0.4, 3: 0.4, 4: 0.1},
            1.0,
        ),
        # A hidden token is asked again, beside the anchor; what the first list left is then known to be its.
        (
            [1, 2, 3],
            3,
            {(1, 2, 3): {1: 0.5, 2: 0.3, -7: 0.15}, (1, 3): {1: 0.8, 3: 0.08, -7: 0.12}},
            {1: 0.5, 2: 0.3, 3: 0.05},
            0.85,
        ),
        # The anchor may be hidden itself; then the likeliest of what stands apart is asked beside the new one.
        (
            [1, 2, 3, 4, 5, 6, 7],
            4,
            {
                (1, 2, 3, 4): {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1},
                (1, 5, 6, 7): {5: 0.6, 6: 0.3, 7: 0.05, -7: 0.05},
                (5, 1): {5: 0.9375, 1: 0.0625},
            },
            {1: 0.04, 2: 0.03, 3: 0.02, 4: 0.01, 5: 0.6, 6: 0.3, 7: 0.05},
            1.05 / 1.1,
        ),
        # One that can have next to nothing is not.
        ([1, 2, 3], 3, {(1, 2, 3): {1: 0.5, 2: 0.4998, -7: 0.0002}}, {1: 0.5, 2: 0.4998, 3: 0.0001}, 0.9998 / 1.0002),
    ],
)
def test_what_lists_say_of_groups(
    tokens: list[int],
    size: int,
    lists: dict[tuple[int, ...], dict[int, float]],
    odds: dict[int, float],
    covered: float,
) -> None:
    """Lists are tied by their common token; the covered mass leaves open what is not the labels', or hidden."""
    probabilities, found = chained(tokens, size, lists)
    total = sum(odds.values())
    assert probabilities == pytest.approx({token: weight / total for token, weight in odds.items()})
    assert found == pytest.approx(covered)


def test_a_token_that_stays_hidden_counts_half_of_what_it_can_have() -> None:
    """Hidden behind a piece in every list, it has at most a list's rounding, against the likeliest token shown."""
    lists = {(1, 2, 3): {1: 0.5, 2: 0.3, -7: 0.15}, (1, 3): {1: 0.9, -7: 0.1}}
    probabilities, covered = chained([1, 2, 3], 3, lists)
    most = 0.5 * (1 / 256) / 0.9
    assert probabilities[3] == pytest.approx(most / 2 / (0.8 + most / 2))
    assert covered == pytest.approx(0.8 / (0.8 + 0.15 + 0.05 + most))


def test_tokens_that_stay_apart_keep_their_odds() -> None:
    """A list that nothing ties to the others tells the odds within it; all of it has at most what is left to one."""
    lists = {
        (1, 2, 3, 4): {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1},
        (1, 5, 6, 7): {5: 0.6, 6: 0.3, 7: 0.05, -7: 0.05},
        (5, 1): {5: 0.96, -8: 0.04},
    }
    probabilities, covered = chained(range(1, 8), 4, lists)
    most = 0.6 * (1 / 256) / 0.96 / 0.4
    apart = {token: share * most / 2 for token, share in lists[1, 2, 3, 4].items()}
    odds = {**apart, 5: 0.6, 6: 0.3, 7: 0.05}
    assert probabilities == pytest.approx({token: share / sum(odds.values()) for token, share in odds.items()})
    assert covered == pytest.approx(0.95 / (0.95 + 0.05 + 0.04 * 0.6 / 0.96 + most))


def test_a_list_that_tells_nothing_leaves_what_the_others_leave() -> None:
    """An empty answer bounds no token; the first list's rest stays open."""
    lists: dict[tuple[int, ...], dict[int, float]] = {(1, 2, 3): {1: 0.5, 2: 0.3, -7: 0.15}, (1, 3): {}}
    probabilities, covered = chained([1, 2, 3], 3, lists)
    assert probabilities == pytest.approx({1: 0.5 / 0.825, 2: 0.3 / 0.825, 3: 0.025 / 0.825})
    assert covered == pytest.approx(0.8 / (0.8 + 0.15 + 0.05 + 0.05))


def test_no_tokens_have_no_distribution() -> None:
    """Where nothing is asked for, nothing comes out."""
    assert chained((), 5, {(): {}}) == ({}, 0.0)


def test_a_token_of_which_nothing_is_told_counts_like_others() -> None:
    """It has what the tokens that are known have on average, and nothing is covered."""
    probabilities, covered = chained([1, 2, 3], 2, {(1, 2): {1: 0.6, 2: 0.2}, (1, 3): {}})
    assert probabilities == pytest.approx({1: 0.5, 2: 1 / 6, 3: 1 / 3})
    assert covered == 0


def test_the_likeliest_set_counts_wherever_it_is_asked() -> None:
    """A token that hides the anchor is what all else is held against, though later lists show the anchor again."""
    # The truth is 60 for token 3, 30 for 1, 20 for 2, 15 for 4, and 39 for a piece of 3.
    lists: dict[tuple[int, ...], dict[int, float]] = {
        (1, 2): {1: 0.6, 2: 0.4},
        (1, 3): {3: 60 / 129, -7: 39 / 129},
        (1, 4): {1: 2 / 3, 4: 1 / 3},
    }
    probabilities, covered = chained([1, 2, 3, 4], 2, lists)
    odds = {1: 15, 2: 10, 3: 60, 4: 7.5}
    assert probabilities == pytest.approx({token: share / 92.5 for token, share in odds.items()})
    # Token 1 has at most what the second list leaves, 30, by which the others of its set have 35 more.
    assert covered == pytest.approx(60 / (60 + 39 + 30 + 65))


def test_bounds_that_rest_on_bounds() -> None:
    """A token hidden behind one that is itself hidden behind a third is bounded by way of both."""
    lists: dict[tuple[int, ...], dict[int, float]] = {
        (1, 2): {1: 0.6, -7: 0.399},
        (1, 3): {3: 0.6, -8: 0.399},
    }
    probabilities, covered = chained([1, 2, 3], 2, lists)
    ratio = 1 / 256 / 0.6
    odds = {1: ratio / 2, 2: ratio**2 / 2, 3: 1}
    assert probabilities == pytest.approx({token: share / sum(odds.values()) for token, share in odds.items()})
    assert covered == pytest.approx(1 / (1 + 0.4 / 0.6 + ratio + ratio**2))


def test_hidden_tokens_are_asked_side_by_side() -> None:
    """As many at once as half a list takes, beside the anchor, and none twice."""
    steps = chain_groups(range(1, 7), 6)
    assert next(steps) == [(1, 2, 3, 4, 5, 6)]
    shown = {1: math.log(0.6), -7: math.log(0.3)}
    assert steps.send([shown]) == [(1, 2, 3, 4), (1, 5, 6)]


def test_what_is_worth_asking() -> None:
    """The likeliest token of each set that leaves a fair share of what may stay open, the most open set first."""
    main = {1: 1.0}
    sets = [({2: 0.1, 3: 0.1}, 1e-2), ({4: 4.0}, 1e-3), ({5: 0.01}, 1e-2), ({6: 1.0}, 1e-3)]
    assert _Chain(main, sets).worth_asking() == [4, 2, 6]
    assert _Chain(main, [({2: 1.0}, 4e-4)]).worth_asking() == []
    # It is a share of what is known, which may be little.
    assert _Chain({1: 0.1}, [({2: 1.0}, 2e-4)]).worth_asking() == [2]


@given(SEEDS, st.integers(1, 7))
def test_shares_are_within_their_error(seed: int, shown: int) -> None:
    """However short the list, no token is off by more than the error that is told, and listed ones are exact."""
    truth = next_tokens(seed, ())
    best = sorted(truth, key=truth.__getitem__, reverse=True)[:shown]
    children = [1, 2, 3]
    shares = read_shares({token: math.log(truth[token]) for token in best}, children)
    for token in children:
        bound = 1e-12 if token in best else shares.error + 1e-12
        assert abs(shares.probabilities[token] - truth[token]) <= bound
    assert shares.covered == pytest.approx(sum(truth[token] for token in children if token in best))


def test_other_spellings_count() -> None:
    """A token spelled otherwise adds to the one that it stands for, and unknown tokens to none."""
    listed = {1: math.log(0.5), 7: math.log(0.125), 8: math.log(0.25), 9: math.log(0.0625)}
    shares = read_shares(listed, [1, 2], {7: 1, 8: 2, 9: 5})
    assert shares.probabilities == pytest.approx({1: 0.625, 2: 0.25})
    assert shares.error == 0


@pytest.mark.parametrize(
    ("listed", "wanted", "probabilities", "covered", "error"),
    [
        # At most what the smallest listed one has, ...
        ({1: 0.5, 9: 0.2}, [1, 2], {1: 0.5, 2: 0.1}, 0.5, 0.1),
        # ... or what all listed ones leave, ...
        ({1: 0.5, 9: 0.4}, [1, 2], {1: 0.5, 2: 0.05}, 0.5, 0.05),
        # ... and together no more than that.
        ({1: 0.5, 9: 0.4}, [1, 2, 3, 4, 5], {1: 0.5} | dict.fromkeys((2, 3, 4, 5), 0.025), 0.5, 0.075),
        ({}, [1], {1: 0.5}, 0.0, 0.5),
        ({}, [1, 2, 3, 4], dict.fromkeys((1, 2, 3, 4), 0.25), 0.0, 0.75),
        # Rounded up: in sum, and one by one.
        ({1: 0.7, 2: 0.5}, [1, 2, 3], {1: 0.7, 2: 0.5, 3: 0.0}, 1.0, 0.0),
        ({1: 1.01}, [1, 2], {1: 1.0, 2: 0.0}, 1.0, 0.0),
    ],
)
def test_what_a_list_leaves_to_tokens_it_does_not_show(
    listed: dict[int, float], wanted: list[int], probabilities: dict[int, float], covered: float, error: float
) -> None:
    """A token that is not listed counts half of what it can have, or its share of the rest, and the error says so."""
    shares = read_shares({token: math.log(share) for token, share in listed.items()}, wanted)
    assert shares.probabilities == pytest.approx(probabilities)
    assert shares.covered == pytest.approx(covered)
    assert shares.error == pytest.approx(error)


def walked(seed: int, sequences: Sequence[tuple[int, ...]], negligible: float = 0.0) -> list[float]:
    """The labels' probabilities by a walk of the trie."""
    steps = walk(sequences, negligible)
    try:
        branches = next(steps)
        while True:
            branches = steps.send([next_tokens(seed, branch.prefix) for branch in branches])
    except StopIteration as end:
        found: list[float] = end.value
        return found


@given(SEEDS, LABEL_SETS, st.integers(0, 7))
def test_prefill_scores(seed: int, labels: list[tuple[int, ...]], shown: int) -> None:
    """Prompts that end with labels tell what a walk tells, ends of labels included as far as they are listed."""
    prompt = [(7, None), (8, -1.5)]
    prompts = [
        [*prompt, *((token, math.log(next_tokens(seed, label[:n])[token])) for n, token in enumerate(label))]
        for label in labels
    ]
    following = []
    for label in labels:
        after = next_tokens(seed, label)
        best = sorted(after, key=after.__getitem__, reverse=True)[:shown]
        following.append({token: math.log(after[token]) for token in best})
    scores = prefill_scores(prompts, [len(label) for label in labels], following)
    assert sum(scores.probabilities) == pytest.approx(1)
    sequences = end_where_needed(labels, END)
    truth = walked(seed, sequences)
    ends = [n for n, sequence in enumerate(sequences) if sequence[-1] == END]
    if all(END in following[n] for n in ends):
        assert scores.probabilities == pytest.approx(truth, abs=1e-9)
        assert scores.covered == pytest.approx(sum(reached(seed, sequence) for sequence in sequences))
    for found, true in zip(scores.probabilities, truth, strict=True):
        assert abs(found - true) <= 1 - scores.covered + 1e-9


def scored(*prompt: tuple[int, float | None]) -> list[tuple[int, float | None]]:
    """A prompt's tokens with their log-probabilities, from probabilities."""
    return [(token, None if share is None else math.log(share)) for token, share in prompt]


def test_labels_start_where_the_prompts_part() -> None:
    """A label that changes the prompt's last token starts with that; a common first token is still the labels' own."""
    merged = [scored((7, None), (8, 0.5), (1, 0.5)), scored((7, None), (9, 0.25), (2, 0.2))]
    scores = prefill_scores(merged, [1, 1], [{}, {}])
    assert scores.probabilities == pytest.approx((2 / 3, 1 / 3))
    assert scores.covered == pytest.approx(0.5 * 0.5 + 0.25 * 0.2)
    common = [scored((7, None), (1, 0.5), (2, 0.25)), scored((7, None), (1, 0.5), (3, 0.5))]
    scores = prefill_scores(common, [2, 2], [{}, {}])
    assert scores.probabilities == pytest.approx((1 / 3, 2 / 3))
    assert scores.covered == pytest.approx(0.5 * 0.75)


def test_a_token_without_a_score_has_nothing() -> None:
    """A label whose token the server gives no number for is impossible; one above 1 counts as 1."""
    scores = prefill_scores([scored((7, None), (1, None)), scored((7, None), (2, 1.01))], [1, 1], [{}, {}])
    assert scores.probabilities == (0.0, 1.0)
    assert scores.covered == 1.0
    scores = prefill_scores([scored((7, None), (1, 0.25)), scored((7, None), (2, 1.01))], [1, 1], [{}, {}])
    assert scores.probabilities == pytest.approx((0.2, 0.8))
    scores = prefill_scores([scored((7, None), (1, 0.75)), scored((7, None), (2, 0.5))], [1, 1], [{}, {}])
    assert scores.probabilities == pytest.approx((0.6, 0.4))
    assert scores.covered == 1.0


@pytest.mark.parametrize(
    ("after", "end", "covered"),
    [
        # Listed, it is what it is; otherwise half of what the least listed one, or all listed ones, leave to it.
        ({END: 0.5, 9: 0.2}, 0.5, 0.5 + 0.25),
        ({9: 0.5, 8: 0.1}, 0.05, 0.25),
        ({9: 0.5, 2: 0.25, 8: 0.2}, 0.025, 0.25),
        ({}, 0.375, 0.25),
        # Rounded up, or from two computations that do not quite agree.
        ({END: 1.01}, 1.0, 1.0),
        ({9: 0.9}, 0.0, 0.25),
    ],
)
def test_the_end_of_a_label_that_starts_another(after: dict[int, float], end: float, covered: float) -> None:
    """The end stands beside the token with which the other goes on, as far as it is shown."""
    prompts = [scored((7, None), (1, 1.0)), scored((7, None), (1, 1.0), (2, 0.25))]
    listed = {token: math.log(share) for token, share in after.items()}
    scores = prefill_scores(prompts, [1, 2], [listed, {}])
    assert scores.probabilities == pytest.approx((end / (end + 0.25), 0.25 / (end + 0.25)))
    assert scores.covered == pytest.approx(covered)


@given(SEEDS, LABEL_SETS)
def test_a_path_that_shows_all_alternatives(seed: int, labels: list[tuple[int, ...]]) -> None:
    """What one generation resolves equals the walk of the whole trie; the rest is off by what it leaves open."""
    sequences = end_where_needed(labels, END)
    truth = walked(seed, sequences)
    path: list[int] = []
    shown: list[dict[int, float]] = []
    while tuple(path) not in sequences:
        allowed = {s[len(path)] for s in sequences if s[: len(path)] == tuple(path) and len(s) > len(path)}
        weights = {token: next_tokens(seed, tuple(path))[token] for token in allowed}
        shown.append({token: math.log(weight / sum(weights.values())) for token, weight in weights.items()})
        path.append(max(weights, key=weights.__getitem__))
    scores = path_scores(sequences, path, shown)
    assert sum(scores.probabilities) == pytest.approx(1)
    assert all(
        abs(found - true) <= 1 - scores.resolved + 1e-9 for found, true in zip(scores.probabilities, truth, strict=True)
    )
    taken = sequences.index(tuple(path))
    assert scores.probabilities[taken] == pytest.approx(truth[taken])


@pytest.mark.parametrize(
    ("labels", "path", "lists", "probabilities", "resolved"),
    [
        # What a list does not show belongs to the labels that it does not show, evenly.
        ([1, 2, 3, (4, 5), (4, 6)], [1], [{1: 0.6, 2: 0.1}], [0.6, 0.1, 0.1, 0.1, 0.1], 0.7),
        ([1, 2, 3], [1], [{1: 0.6, 2: 0.1, 9: 0.125}], [24 / 35, 4 / 35, 7 / 35], 28 / 35),
        # Where it shows all, or a little more than there is, it is taken for the whole.
        ([1, 2], [1], [{1: 0.6, 2: 0.2}], [0.75, 0.25], 1.0),
        ([1, 2, 3], [1], [{1: 0.7, 2: 0.3, 9: 0.1}], [0.7, 0.3, 0.0], 1.0),
        ([1, 2], [1], [{1: 1.01, 2: 0.25}], [0.8, 0.2], 1.0),
        # The same within a branch.
        ([(1, 2), (1, 3), 4], [1, 2], [{1: 0.6, 4: 0.2}, {2: 0.3, 3: 0.2}], [0.45, 0.3, 0.25], 1.0),
        ([(1, 2), (1, 3), (1, 5), 4], [1, 2], [{1: 0.5, 4: 0.5}, {2: 0.5}], [0.25, 0.125, 0.125, 0.5], 0.75),
        # A step whose token, or whose list, is not shown resolves no more.
        ([(1, 2), (1, 3), 4], [1, 2], [{1: 0.5, 4: 0.5}, {3: 0.5}], [0.25, 0.25, 0.5], 0.5),
        ([(1, 2), (1, 3), 4], [1, 2], [{1: 0.5, 4: 0.5}], [0.25, 0.25, 0.5], 0.5),
        ([(1, 2), 4], [1, 2], [{1: 0.5, 4: 0.5}, {9: 1.0}], [0.5, 0.5], 1.0),
    ],
)
def test_what_a_path_shows(
    labels: list[int | tuple[int, ...]],
    path: list[int],
    lists: list[dict[int, float]],
    probabilities: list[float],
    resolved: float,
) -> None:
    """Lists that are short, rounded or missing are read for what they are worth."""
    sequences = [label if isinstance(label, tuple) else (label,) for label in labels]
    shown = [{token: math.log(share) for token, share in listed.items()} for listed in lists]
    scores = path_scores(sequences, path, shown)
    assert scores.probabilities == pytest.approx(probabilities)
    assert scores.resolved == pytest.approx(resolved)


def test_an_odd_path_resolves_nothing() -> None:
    """A generation that leaves the labels' own tokens tells them no further apart, and says so."""
    scores = path_scores([(1, 2), (1, 3), (4,)], [1, 9], [{1: math.log(0.75), 4: math.log(0.25)}, {9: 0.0}])
    assert scores.probabilities == pytest.approx((0.375, 0.375, 0.25))
    assert scores.resolved == pytest.approx(0.25)


@given(SEEDS, LABEL_SETS, st.floats(0, 0.2))
def test_negligible_branches(seed: int, labels: list[tuple[int, ...]], negligible: float) -> None:
    """A branch that is not asked for costs no label more than its own probability."""
    sequences = end_where_needed(labels, END)
    rough, exact = walked(seed, sequences, negligible), walked(seed, sequences)
    assert sum(rough) == pytest.approx(1)
    assert all(abs(a - b) <= negligible for a, b in zip(rough, exact, strict=True))
