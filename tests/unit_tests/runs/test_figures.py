"""The figures of the cookbook's page on long runs say what was measured."""

from __future__ import annotations

import render


def test_what_the_page_says_was_measured() -> None:
    """A million rows were as fast and in as little memory as is promised."""
    measured = render.figures("ledger")
    assert measured["rows"] == 1_000_000
    assert measured["different_rows"] < 0.91 * measured["rows"]
    assert measured["ratio_to_abatch"] >= 0.6
    assert measured["peak_megabytes_above_start"] < 400
