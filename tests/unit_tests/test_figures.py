"""The figures of cookbook and docs are the measured ones, and what the pages say of them is so."""

from __future__ import annotations

from typing import Any

import pytest
import render


@pytest.mark.parametrize("name", sorted(render.PAGES))
def test_the_figures_of_pages_are_the_measured_ones(name: str) -> None:
    """The tables of a page are what the result files render to."""
    page = render.page_path(name).read_text(encoding="utf-8")
    assert render.render_page(name, page) == page


def _arms(name: str, data: str) -> Any:
    return next(one for one in render.figures(name) if one["data"] == data)["arms"]


def test_a_shortlist_with_the_nearest_examples_is_far_above_zero_shot() -> None:
    """With 77 labels it is at least 25 points above plain zero-shot, beyond chance, and quicker than all labels."""
    arms = _arms("many_labels", "banking77")
    best = arms["shortlist and examples by MiniLM"]
    assert best["above_zero_shot"] >= 0.25
    assert best["above_zero_shot_interval"][0] >= 0.25
    assert best["cpu_seconds_per_row"] < 0.75 * arms["all labels, examples by words"]["cpu_seconds_per_row"]


@pytest.mark.parametrize("data", ["banking77", "clinc150_oos"])
def test_a_regression_on_vectors_is_above_the_small_model(data: str) -> None:
    """The page's advice for models as small as the embedded one rests on what was measured."""
    arms = _arms("many_labels", data)
    regression = arms["MiniLM, logistic regression"]["accuracy"]
    assert all(regression > arm["accuracy"] + 0.05 for name, arm in arms.items() if not name.startswith("MiniLM"))


def test_the_small_model_does_not_take_the_option() -> None:
    """Thresholds find more of what is out of scope than the option does, most of all where all labels are scored."""
    arms = render.figures("out_of_scope")["arms"]
    found = {name: arm["recall_out_of_scope"] for name, arm in arms.items()}
    assert found["shortlist and option"] <= found["shortlist and option, shown"] < 0.05
    assert 0.2 < found["shortlist, threshold"] < found["all labels, threshold"] < found["regression, threshold"]
    assert arms["all labels"]["area_under_curve"] > arms["shortlist"]["area_under_curve"] + 0.05


def test_languages_that_the_small_model_knows_and_does_not() -> None:
    """It is above chance in three of four languages, in Arabic next to it, and calibrating helps in these three."""
    found = {one["language"]: one["arms"] for one in render.figures("languages")}
    for language in ("en", "de", "zh"):
        arms = found[language]
        assert arms["zero-shot"]["interval"][0] > 2 / 7
        assert arms["zero-shot, calibrated"]["accuracy"] > arms["zero-shot"]["accuracy"] + 0.05
        if language != "en":
            llm = arms["zero-shot, calibrated"]["accuracy"]
            assert llm > max(arms["MiniLM, cosine"]["accuracy"], arms["MiniLM, regression"]["accuracy"])
    assert max(arm["accuracy"] for arm in found["ar"].values()) < 0.25


def test_ours_beside_the_original_on_the_same_server() -> None:
    """In the one table of peers: five times its rows a second, and 15 points above it over the six sets."""
    arms = render.figures("peers")["arms"]
    ours, original = arms["ours"], arms["original"]
    assert ours["texts"] == original["texts"]
    assert len(ours["accuracy"]) == 6
    assert ours["speed"]["rows"] == original["speed"]["rows"]
    assert ours["speed"]["ratio_to_original"] >= 5
    assert ours["speed"]["ratio_interval"][0] >= 5
    for arm in ("ours", "ours, unlabelled"):
        assert arms[arm]["above_original"]["mean"] >= 0.15
    for row in (f"{ours['speed']['ratio_to_original']:.1f}", f"{100 * ours['above_original']['mean']:+.0f}"):
        assert row in render.peers()
