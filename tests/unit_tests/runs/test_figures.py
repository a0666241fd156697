"""The figures of the cookbook's page on long runs are the measured ones."""

from __future__ import annotations

from pathlib import Path

import render

PAGE = Path(__file__).parents[3] / "cookbook" / "long_runs.md"


def test_the_cookbooks_figures_are_the_measured_ones() -> None:
    """The table is what the result file renders to: a million rows, as fast and in as little memory as is promised."""
    page = PAGE.read_text(encoding="utf-8")
    assert render.render_page("long_runs", page) == page
    measured = render.figures("ledger")
    assert measured["rows"] == 1_000_000
    assert measured["different_rows"] < 0.91 * measured["rows"]
    assert measured["ratio_to_abatch"] >= 0.6
    assert measured["peak_megabytes_above_start"] < 400
