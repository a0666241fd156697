"""The figures of the cookbook's page on several labels say what was measured."""

from __future__ import annotations

import render


def test_what_the_page_says_was_measured() -> None:
    """The sentences around the table are true."""
    figures = render.figures("multi_label")
    arms = figures["arms"]
    assert (figures["texts"], figures["known_texts"], len(figures["labels"])) == (200, 200, 28)
    # On macro-F1 one scoring wins over the constant answer and over the original, by more than chance.
    for other in ("above_constant", "above_original"):
        assert arms["once"]["macro"][other]["interval"][0] > 0
        assert arms["once default"]["macro"][other]["interval"][0] > 0
    assert all(arms["once"]["macro"]["f1"] > arms[name]["macro"]["f1"] for name in ("each", "each centred"))
    # On micro-F1 nothing is above the constant answer by more than chance.
    assert all(arm["micro"]["above_constant"]["interval"][0] <= 0 for name, arm in arms.items() if name != "constant")
    assert arms["once"]["micro"]["above_original"]["interval"][0] > 0
    # A label's own question tells next to nothing; the embedding model's regression tells the most, and is cheaper.
    assert abs(arms["each"]["auc"] - 0.5) < 0.06
    assert abs(arms["each centred"]["auc"] - 0.5) < 0.1
    assert arms["regression"]["auc"] > arms["once"]["auc"] > arms["cosine"]["auc"] > arms["each"]["auc"]
    low, high = arms["once"]["macro"]["above_regression"]["interval"]
    assert low < 0 < high
    assert arms["regression"]["cost"]["seconds"] < arms["once"]["cost"]["seconds"] / 5
    assert arms["each"]["cost"]["seconds"] > 5 * arms["once"]["cost"]["seconds"]
