"""The figures of the cookbook's page on examples are the measured ones."""

from __future__ import annotations

from pathlib import Path

import render

PAGE = Path(__file__).parents[3] / "cookbook" / "examples.md"


def test_the_cookbooks_figures_are_the_measured_ones() -> None:
    """The table is what the result file renders to, and examples chosen for each row are as much better as it says."""
    page = PAGE.read_text(encoding="utf-8")
    assert render.render_page("examples", page) == page
    accuracy = {line["examples"]: line["accuracy"] for line in render.figures("examples")}
    seconds = {line["examples"]: line["cpu_seconds_per_row"] for line in render.figures("examples")}
    assert accuracy["four nearest, all-MiniLM-L6-v2"] > accuracy["fixed, one an intent"] + 0.15
    assert seconds["four nearest, all-MiniLM-L6-v2"] > 2 * seconds["fixed, one an intent"]
