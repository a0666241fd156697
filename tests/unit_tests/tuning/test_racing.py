"""Racing: the test, the plan, who is dropped, who is chosen, and that the promise holds."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.tuning.racing import Plan, Race, plan, sign_test


@given(st.integers(0, 7), st.integers(0, 7))
def test_the_sign_test_counts_outcomes(wins: int, losses: int) -> None:
    """The p-value is the share of all equally likely outcomes of fair coins with at least as many wins."""
    outcomes = [sum(coins) for coins in product((0, 1), repeat=wins + losses)]
    expected = Fraction(sum(heads >= wins for heads in outcomes), len(outcomes))
    assert sign_test(wins, losses) == float(expected)


def test_without_disagreement_nothing_is_shown() -> None:
    """No pairs, no evidence."""
    assert sign_test(0, 0) == 1


confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


@given(st.integers(1, 400), st.integers(2, 30), confidences, st.none() | st.integers(1, 3000))
def test_a_plan_keeps_within_texts_budget_and_level(
    texts: int, candidates: int, confidence: float, budget: int | None
) -> None:
    """Looks double, can show something, and all tests together keep to the promised level."""
    try:
        looks, early, final = plan(texts, candidates, confidence=confidence, budget=budget)
    except ConfigurationError:
        # Refused only where one round cannot show anything or cannot be paid.
        fewest = next(n for n in range(1, 99) if 0.5**n * (candidates - 1) <= (1 - confidence) * (1 + 1e-9))
        assert texts < fewest or (budget is not None and budget < candidates * fewest)
        return
    assert (early * (len(looks) - 1) + final) * (candidates - 1) == pytest.approx(1 - confidence)
    assert looks[-1] <= texts
    assert sign_test(looks[0], 0) <= (early or final)
    for before, after in pairwise(looks):
        assert after / before == pytest.approx(2, abs=0.2)
    if budget is None:
        assert looks[-1] == texts
    else:
        assert candidates * looks[0] + 2 * (looks[-1] - looks[0]) <= budget


def test_the_refusals_say_what_would_do() -> None:
    """The numbers that the messages name are the smallest that are accepted."""
    with pytest.raises(ConfigurationError, match=r"5 texts to compare 5 candidates.*at least 6"):
        plan(5, 5, confidence=0.9)
    assert plan(6, 5, confidence=0.9).looks == (6,)
    with pytest.raises(ConfigurationError, match=r"`budget=29` is too small: 5 candidates .* 6 texts .* at least 30"):
        plan(100, 5, confidence=0.9, budget=29)
    assert plan(100, 5, confidence=0.9, budget=30).looks == (6,)


class SlowRace:
    """The same rules, looked up in the whole table at each look."""

    def __init__(self, table: list[list[bool]], tiers: list[int], planned: Plan) -> None:
        self.alive = list(range(len(table)))
        self.gone: dict[int, int] = {}
        for look in planned.looks:
            worse = set()
            for one, other in product(self.alive, self.alive):
                pairs = [(table[one][text], table[other][text]) for text in range(look)]
                different = [a for a, b in pairs if a != b]
                outcomes = Fraction(
                    sum(math.comb(len(different), heads) for heads in range(sum(different), len(different) + 1)),
                    2 ** len(different),
                )
                if float(outcomes) <= (planned.final if look == planned.looks[-1] else planned.early):
                    worse.add(other)
            for one in worse:
                self.gone[one] = look
            self.alive = [one for one in self.alive if one not in worse]
        shown = [sum(row[: planned.looks[-1]]) for row in table]
        simplest = min(tiers[one] for one in self.alive)
        among = [one for one in self.alive if tiers[one] == simplest]
        most = max(shown[one] for one in among)
        self.chosen = next(one for one in among if shown[one] == most)


@given(st.randoms(use_true_random=False), st.integers(2, 6), st.integers(12, 120), st.sampled_from([0.5, 0.8, 0.9]))
def test_a_race_is_what_the_whole_table_says(
    generator: random.Random, candidates: int, texts: int, confidence: float
) -> None:
    """Who is dropped when, who stays and who is chosen are as a slow recomputation from all answers has it."""
    planned = plan(texts, candidates, confidence=confidence)
    skills = [generator.choice([0.1, 0.4, 0.6, 0.95]) for _ in range(candidates)]
    table = [[generator.random() < skill for _ in range(texts)] for skill in skills]
    tiers = [generator.choice([0, 2, 4]) for _ in range(candidates)]
    race = Race(tiers, planned)
    for start, end in pairwise((0, *planned.looks)):
        race.add({one: table[one][start:end] for one in race.alive})
    slow = SlowRace(table, tiers, planned)
    assert race.alive == slow.alive
    assert {one: drop.after for one, drop in race.drops.items()} == slow.gone
    assert race.choice([0.0] * candidates) == slow.chosen
    for one, drop in race.drops.items():
        assert drop.p_value == sign_test(drop.wins, drop.losses) <= planned.final
        assert drop.wins - drop.losses == sum(table[drop.by][: drop.after]) - sum(table[one][: drop.after])


@given(st.randoms(use_true_random=False), st.integers(2, 5), st.integers(10, 50))
def test_the_one_with_the_most_right_answers_stays(generator: random.Random, candidates: int, texts: int) -> None:
    """The race is never empty, and whoever leads at a look is in the next round."""
    planned = plan(texts, candidates, confidence=0.5)
    race = Race([0] * candidates, planned)
    for start, end in pairwise((0, *planned.looks)):
        before = race.alive
        race.add({one: [generator.random() < 0.2 + one / 10 for _ in range(start, end)] for one in race.alive})
        assert max(before, key=lambda one: sum(race.right[one])) in race.alive


def test_choice() -> None:
    """Fewer examples first, then more right answers, then fewer tokens, then the order given."""
    race = Race([0, 0, 2, 0], Plan((4,), 0.0, 0.001))
    right = [True, False, True, False]
    race.add({0: [True, False, False, False], 1: right, 2: [True] * 4, 3: right})
    assert race.choice([9, 5, 1, 4]) == 3
    assert race.choice([9, 4, 1, 5]) == 1
    assert race.choice([9, 5, 1, 5]) == 1


def test_it_can_end_when_nothing_is_left_to_be_shown() -> None:
    """Candidates that agree, and those that are behind by much, cannot win in a short rest, but in a long one."""

    def race(one: list[bool], other: list[bool], texts: int) -> Race:
        made = Race([0, 2], Plan((len(one), texts), 0.001, 0.01))
        made.add({0: one, 1: other})
        return made

    same = [True, False] * 20
    assert not race(same, same, 60).can_change(0)
    assert race(same, same, 4000).can_change(0)
    behind = [True] * 10 + [False] * 30
    assert not race(same, behind, 60).can_change(0)
    ahead = [True] * 25 + [False] * 15
    assert race(same, ahead, 60).can_change(0)


@given(st.randoms(use_true_random=False), st.integers(12, 60), st.integers(0, 60))
def test_what_cannot_be_shown_for_sure_never_is(generator: random.Random, texts: int, rest: int) -> None:
    """Where even winning every further text would show nothing, the race may end."""
    one = [generator.random() < 0.5 for _ in range(texts)]
    other = [generator.random() < 0.5 for _ in range(texts)]
    race = Race([0, 1], Plan((texts, texts + rest), 0.001, 0.01))
    race.add({0: one, 1: other})
    if len(race.alive) == 2:
        wins, losses = race.compare(1, 0)
        if sign_test(wins + rest, losses) > 0.01:
            assert not race.can_change(0)


@pytest.mark.parametrize("budget", [None, 100, 150, 200])
@pytest.mark.parametrize(
    ("skills", "shared"), [((0.7, 0.7, 0.7, 0.7), 0.0), ((0.7, 0.7, 0.7, 0.7), 0.8), ((0.6, 0.55, 0.55, 0.5), 0.5)]
)
def test_the_best_is_rarely_dropped(skills: tuple[float, ...], shared: float, budget: int | None) -> None:
    """Over many simulated searches the best candidate leaves the race at most as often as promised.

    The answers of candidates depend on each other: a share of texts is as hard for all. A budget ends most of its
    searches at another time than was planned, in the middle of a round.
    """
    confidence, repeats = 0.8, 500
    planned = plan(80, len(skills), confidence=confidence, budget=budget)
    assert len(planned.looks) >= 3 - (budget is not None)
    generator = random.Random(1)
    dropped = 0
    for _ in range(repeats):
        race, answered = Race([0] * len(skills), planned), 0
        for start, look in pairwise((0, *planned.looks)):
            end = race.reach(look, None if budget is None else budget - answered)
            if end == start:
                race.finish()
                break
            answered += len(race.alive) * (end - start)
            answers: list[list[bool]] = [[] for _ in skills]
            for _ in range(start, end):
                luck = generator.random()
                for own, skill in zip(answers, skills, strict=True):
                    own.append((luck if generator.random() < shared else generator.random()) < skill)
            race.add({one: answers[one] for one in race.alive}, is_last=end < look)
            if end < look:
                break
        dropped += 0 not in race.alive
    assert dropped / repeats <= 1 - confidence


def test_at_the_last_look_less_has_to_be_shown() -> None:
    """What is not enough on the way is enough at the end, also where the end comes early; and only for who is there."""

    def race(texts: int) -> Race:
        made = Race([0, 1, 2], Plan((10, texts), 0.001, 0.05))
        made.add({0: [True] * 5 + [False] * 5, 1: [True] * 10, 2: [True] * 10})
        return made

    assert race(20).alive == [0, 1, 2]
    assert not race(20).is_shown(1, 0)
    cut = race(20)
    cut.finish()
    assert cut.alive == [1, 2]
    assert (cut.drops[0].after, cut.drops[0].p_value) == (10, sign_test(5, 0))
    assert cut.is_shown(1, 0)
    assert race(10).alive == [1, 2]
    early = Race([0, 1], Plan((10, 20), 0.001, 0.05))
    early.add({0: [False] * 10, 1: [True] * 10})
    assert early.alive == [1]
    assert early.is_shown(1, 0)


def test_the_last_round_is_as_long_as_the_budget_pays_for() -> None:
    """A round ends at its look, or after as many texts as those in the race can still be asked; then all is decided."""
    race = Race([0] * 4, plan(28, 4, confidence=0.9, budget=100))
    assert race.reach(14, 100) == 14
    race.add(dict.fromkeys(range(4), [True] * 14))
    assert race.reach(28, 44) == 25
    assert race.reach(28, 3) == 14
    assert race.reach(28, None) == 28
    race.add({0: [False] * 11, 1: [True] * 11, 2: [True] * 11, 3: [True] * 11}, is_last=True)
    assert (race.alive, race.texts, race.drops[0].after) == ([1, 2, 3], 25, 25)


def test_a_much_better_one_is_found() -> None:
    """The promise is not kept by dropping nobody: a clear winner is alone at the end, and most leave early."""
    generator = random.Random(2)
    planned = plan(120, 5, confidence=0.9)
    alone = 0
    for _ in range(100):
        race = Race([0] * 5, planned)
        for start, end in pairwise((0, *planned.looks)):
            race.add(
                {
                    one: [generator.random() < (0.9 if one == 3 else 0.5) for _ in range(start, end)]
                    for one in race.alive
                }
            )
        alone += race.alive == [3]
    assert alone >= 95
