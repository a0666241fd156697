"""How peers are compared: attacks on texts, shares with intervals, speed by turns; nothing is asked."""

from __future__ import annotations

from typing import Any

import peer_figures
import pytest
from peer_texts import ATTACKS, WRITINGS, attacked, changed_texts

LABELS = ["news", "sport", "weather"]
ROWS = [("it {rains} again", "weather"), ("they won {text}", "sport")]


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_attack_keeps_the_text_and_wants_a_wrong_label(kind: str) -> None:
    """The whole text is in it, the wanted label is named and is not the right one, and a seed gives the same again."""
    for seed in range(20):
        for text, truth in ROWS:
            made, target = attacked(kind, text, truth, LABELS, seed)
            assert text in made
            assert target != truth
            assert target in made.replace(text, "")
            assert "{target}" not in made
            assert attacked(kind, text, truth, LABELS, seed) == (made, target)
            assert {attacked(other, text, truth, LABELS, seed)[1] for other in ATTACKS} == {target}


def test_changes_of_a_text_come_together() -> None:
    """Every text has each writing and each attack once, in the texts' order; writings have no attacker."""
    made = changed_texts(ROWS, LABELS)
    kinds = [*WRITINGS, *ATTACKS]
    assert [kind for kind, *_ in made] == kinds * 2
    assert all((target is None) == (kind in WRITINGS) for kind, _, target in made)
    assert all("rains" in text.lower() for _, text, _ in made[: len(kinds)])


def rows(*labels: str | None) -> list[list[Any]]:
    """Answers without confidence."""
    return [[label, label is not None, None] for label in labels]


def test_what_an_attack_took_is_counted_where_the_answer_was_another() -> None:
    """An answer that was the wanted one before is no success of the attacker; nor is one that merely changes."""
    made = {"one": [("case", "A", None), ("bait", "a!", "sport"), ("case", "B", None), ("bait", "b!", "sport")]}
    before = {"one": rows("news", "sport", "news")}
    got = peer_figures.changed(before, {"one": rows("news", "sport", "weather", "sport")}, made)
    assert (got["case"]["mean"], got["case"]["texts"]) == (0.5, 2)
    assert got["bait"]["mean"] == 0.5
    assert (got["taken"]["mean"], got["taken"]["texts"]) == (1.0, 1)
    other = peer_figures.changed(before, {"one": rows("news", "weather", "news", None)}, made)
    assert other["taken"]["mean"] == 0.0
    assert other["bait"]["mean"] == 1.0


def test_sets_count_alike_and_pairs_are_of_the_same_texts() -> None:
    """The mean is over sets, however many texts they have; where one had fewer texts, only these are compared."""
    assert peer_figures.macro(["1111", "0"])["mean"] == 0.5
    got = peer_figures.above({"one": "1100", "two": "11"}, {"one": "00", "two": "1011"})
    assert (got["texts"], got["mean"]) == (4, 0.75)
    assert got["interval"][0] <= 0.75 <= got["interval"][1]
    assert peer_figures.macro(["1010"], ["1010"])["interval"] == [0.0, 0.0]


def job(seconds: float, count: int, run: int = 1) -> dict[str, Any]:
    """A turn that was measured."""
    return {"rows": rows(*["news"] * count), "seconds": seconds, "first": seconds / 2, "run": run, "tokens": {"n": 10}}


def test_speed_is_by_the_row_and_within_a_run() -> None:
    """A turn with fewer rows counts by the row, and one that the reference took in another run not at all."""
    reference = {1: job(80, 8), 2: job(80, 8), 3: job(800, 8, run=2)}
    got = peer_figures.speed({1: job(2, 2), 2: job(2, 2), 3: job(2, 2)}, reference)
    assert (got["turns"], got["rows"]) == (2, 6)
    assert got["ratio_to_original"] == 10
    assert got["ratio_interval"] == [10, 10]
    assert got["first_answer_by_originals"] == 1 / 40
    assert got["tokens_per_row"] == {"n": 5}


def test_what_is_decided_depends_on_whether_confidence_tells() -> None:
    """Where sure answers are right, these are decided; where all are equally sure and half wrong, none is."""
    right = [number % 2 == 0 for number in range(200)]
    telling = peer_figures.decided([0.9 if one else 0.3 for one in right], right)
    assert telling == {"share": pytest.approx(0.5, abs=0.02), "error": 0.0}
    assert peer_figures.decided([0.5] * 200, right) == {"share": 0.0, "error": 0.0}


def test_no_answer_is_a_wrong_one() -> None:
    """F1 counts a text without an answer as missed, and labels that no text has with nothing."""
    assert peer_figures.f1(rows("news", None), ["news", "sport"], ["news", "sport"]) == 0.5
    assert peer_figures.marks(rows("news", None), ["news", "sport"]) == "10"
