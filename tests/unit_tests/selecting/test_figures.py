"""The figures of the cookbook's page on examples say what was measured."""

from __future__ import annotations

import render


def test_what_the_page_says_was_measured() -> None:
    """Examples chosen for each row are as much better as the page says."""
    accuracy = {line["examples"]: line["accuracy"] for line in render.figures("examples")}
    seconds = {line["examples"]: line["cpu_seconds_per_row"] for line in render.figures("examples")}
    assert accuracy["four nearest, all-MiniLM-L6-v2"] > accuracy["fixed, one an intent"] + 0.15
    assert seconds["four nearest, all-MiniLM-L6-v2"] > 2 * seconds["fixed, one an intent"]
