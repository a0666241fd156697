"""The figures of cookbook and docs are the measured ones, and what is said of labels and languages is so."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import provenance
import pytest
import render


@pytest.mark.parametrize("name", sorted(render.PAGES))
def test_the_figures_of_pages_are_the_measured_ones(name: str) -> None:
    """The tables of a page are what the result files render to."""
    page = render.page_path(name).read_text(encoding="utf-8")
    assert render.render_page(name, page) == page


def test_every_table_comes_from_a_result_file_and_its_command() -> None:
    """No page has a table that nothing makes, no result file is without a page or a line, each tells its command."""
    assert provenance.loose_ends() == []
    for path in provenance.RESULTS.glob("*.json"):
        command = provenance.command(path.stem)
        assert command.startswith("python benchmarks/"), path
        assert (render.ROOT / command.split()[1]).is_file()
    plots = {page.stem for page, what, *_ in provenance.traced() if what == "plot"}
    assert plots == {"peers", "steps"}


def test_a_loose_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that nothing makes any more, and what it was made of, are both told."""
    monkeypatch.setitem(render.PAGES, "languages", ())
    assert provenance.loose_ends() == ["cookbook/languages.md: nothing makes the table languages"]


def test_an_invented_table_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second table of a name, which would not be compared, is a loose end, and so is a mark that is misspelt."""
    page, read = render.page_path("tuning"), Path.read_text
    for mark, told in (
        ("figures", "nothing makes the table races"),
        ("figure", "a mark of a table is misspelt, or has no end"),
    ):
        more = f"<!-- {mark}: races -->\n| invented |\n<!-- end of figures -->\n"
        monkeypatch.setattr(
            Path, "read_text", lambda path, more=more, **how: read(path, **how) + (more if path == page else "")
        )
        assert provenance.loose_ends() == [f"cookbook/tuning.md: {told}"]


BEGIN = "<!-- figures: races -->"


@pytest.mark.parametrize(
    "page", ["no mark", f"{BEGIN}\nno end", f"{BEGIN}\n<!-- figures: x -->\n<!-- end of figures -->"]
)
def test_a_page_without_its_marks_is_not_rendered(page: str) -> None:
    """A mark that is missing is named, and nothing is put in the place of another table."""
    with pytest.raises(ValueError, match="The table races has no"):
        render.render_page("tuning", page)


SCRIPTS = ["concurrency", "foreign", "permits", "races", "slow_server", "client_overhead", "serving", "llamacpp_http"]


@pytest.mark.parametrize("script", [*SCRIPTS, "render", "provenance"])
def test_a_script_refuses_what_it_does_not_read(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for help, or gives an option that is none, gets no figures overwritten."""
    for argument, code in (("--help", 0), ("--data", 2)):
        monkeypatch.setattr("sys.argv", [f"{script}.py", argument])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(script).main()
        assert ended.value.code == code


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


def _counted() -> dict[str, Any]:
    return {one["data"]: one for one in render.figures("example_counts")["sets"]}


def test_the_nearest_examples_are_far_above_zero_shot_on_commands() -> None:
    """Few-shot is at least 15 points above zero-shot on snips, beyond chance, and the best way in the mean."""
    figures = render.figures("example_counts")
    nearest = _counted()["snips"]["arms"]["nearest"]
    assert nearest["above_zero_shot"] >= 0.15
    assert nearest["above_zero_shot_interval"][0] > 0.1
    means = figures["means"]
    assert means["nearest"] > max(means[count] for count in ("0", "1", "2", "4", "8")) + 0.05
    assert sum(one["arms"]["nearest"]["above_zero_shot"] < 0 for one in figures["sets"]) == 2


def test_tune_takes_examples_only_where_they_help() -> None:
    """Where examples hurt on other texts as well, `tune` has kept to none; where it took some, they did not hurt."""
    sets = _counted()
    chosen = {name: one["tuning"]["candidates"][one["tuning"]["chosen"]]["n_examples"] for name, one in sets.items()}
    assert chosen == {
        "snips": 4,
        "rotten_tomatoes": 0,
        "subj": 2,
        "toxicity_surge": 0,
        "sib200_en": 0,
        "clinc150_oos": 2,
    }
    hurt = sets["toxicity_surge"]["arms"]
    assert all(hurt[count]["above_zero_shot_interval"][1] < 0 for count in ("1", "2", "4"))
    assert sets["sib200_en"]["tuning"]["remarks"][0].startswith("Examples hurt")
    for name, count in chosen.items():
        tuned = sets[name]["arms"]["tuned"]
        assert tuned["above_zero_shot"] >= 0
        assert tuned["accuracy"] == sets[name]["arms"][str(count)]["accuracy"]


def test_a_regression_is_as_good_from_eight_texts_a_label_on() -> None:
    """Where an embedding model wins, the page says so, and where the LLM does, too."""
    means = render.figures("example_counts")["means"]
    assert means["MiniLM, regression on 8"] > means["nearest"] > means["MiniLM, regression on 4"]
    assert abs(means["0"] - means["MiniLM, cosine"]) < 0.02
    arms = {name: one["arms"] for name, one in _counted().items()}
    ahead = {name for name, arm in arms.items() if arm["0"]["accuracy"] > arm["MiniLM, cosine"]["accuracy"]}
    assert ahead == {"rotten_tomatoes", "subj", "toxicity_surge"}


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
        assert arms[arm]["above_original"]["interval"][0] >= 0.15
    for row in (f"{ours['speed']['ratio_to_original']:.1f}", f"{100 * ours['above_original']['mean']:+.0f}"):
        assert row in render.peers()


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _sentences() -> list[tuple[str, str]]:
    """What pages say in words of measured figures, made from the result files."""
    sets = _counted()
    comments = sets["toxicity_surge"]["arms"]["1"]["above_zero_shot"]
    nearest = sets["snips"]["arms"]["nearest"]
    low, high = (100 * end for end in nearest["above_zero_shot_interval"])
    costs = [
        one["arms"]["nearest"]["cpu_seconds_per_row"] / one["arms"]["0"]["cpu_seconds_per_row"] for one in sets.values()
    ]
    least = min(
        (one["splits_within_the_target"], len(one["kept_wrong_and_unseen"]))
        for figures in render.figures("cascade")
        for one in figures["promises"]
        if one["compared_with"] != "strong"
    )
    changed = {name: arm["changed"] for name, arm in render.figures("peers")["arms"].items() if "changed" in arm}
    taken = [round(100 * changed[name]["taken"]["mean"]) for name in ("ours", "original", "regression")]
    assert changed["ours"]["order"]["mean"] == 0
    many = [one["arms"] for one in render.figures("many_labels")]
    all_scored = [arms[f"all labels{how}"]["cpu_seconds_per_row"] for arms in many for how in ("", ", listed")]
    short = [arms[f"shortlist by {way}"]["cpu_seconds_per_row"] for arms in many for way in ("words", "MiniLM")]
    spared = [whole / part for index, part in enumerate(short) for whole in all_scored[index // 2 * 2 :][:2]]
    nearest_wins = sum(
        one["arms"]["nearest"]["accuracy"] >= max(one["arms"][count]["accuracy"] for count in ("0", "1", "2", "4", "8"))
        for one in sets.values()
    )
    part_of = {3: "a third", 8: "an eighth"}
    return [
        (
            "many_labels",
            f"{part_of[round(min(spared))]} to {part_of[round(max(spared))]} of what scoring all labels",
        ),
        ("examples", f"on {_NUMBERS[nearest_wins]} of six sets"),
        (
            "docs/peers",
            f"in {taken[0]} % of attacks on it, in {taken[1]} % of those on the original, and in {taken[2]} % of those",
        ),
        ("docs/peers", f"and {_NUMBERS[round(10 * changed['original']['order']['mean'])]} in ten of the original's"),
        ("examples", f"one example a label costs {-100 * comments:.0f} points"),
        (
            "examples",
            f"they are {100 * nearest['above_zero_shot']:.0f} points above zero-shot "
            f"(95 % interval {low:.0f} to {high:.0f})",
        ),
        ("examples", f"at {_NUMBERS[round(min(costs))]} to {_NUMBERS[round(max(costs))]} times the CPU"),
        ("cascade", f"{_NUMBERS[least[1] - least[0]]} splits of twenty were above the target"),
    ]


@pytest.mark.parametrize(("page", "sentence"), _sentences())
def test_what_is_said_in_words_was_measured(page: str, sentence: str) -> None:
    """A figure in a sentence beside a table is the one of the result file, too."""
    assert sentence in " ".join(render.page_path(page).read_text(encoding="utf-8").split())


def test_a_search_rarely_takes_examples_that_are_no_better() -> None:
    """In simulated searches more texts show more, and useless examples are taken no more often than promised."""
    found = render.figures("races")
    helped = [one["helpful"]["took_the_best"] for one in found]
    assert helped == sorted(helped)
    assert helped[-1] > 0.95
    assert all(one["useless"]["took_examples"] <= 0.1 for one in found)
    assert all(one["helpful"]["dropped_the_best"] <= 0.1 for one in found)


_NUMBER = re.compile(r"(?<![\w.`/-])(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?![\w/])")


def _numbers(value: Any) -> Iterator[float]:
    """All numbers of a result, and how many things its lists have."""
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict | list):
        yield float(len(value))
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)


def _evidence() -> list[tuple[str, tuple[str, ...]]]:
    """What decisions say of result files: each sentence, and its files."""
    items = [
        item
        for page in sorted((render.ROOT / "docs" / "decisions").glob("0*.md"))
        for item in re.split(r"\n(?=- )", page.read_text(encoding="utf-8").partition("## Evidence")[2])
    ]
    return [(item, tuple(files)) for item in items if (files := re.findall(r"`benchmarks/results/(\w+)\.json`", item))]


@pytest.mark.parametrize(("sentence", "files"), _evidence())
def test_a_decisions_evidence_has_the_figures_of_its_file(sentence: str, files: tuple[str, ...]) -> None:
    """Each number beside a result file is one of the file, or of a table made of it, rounded, or in per cent."""
    every = [*render.README, *(table for made in render.PAGES.values() for table in made)]
    tables = [table() for table in every if {*provenance.sources(table)} & {*files}]
    known = [float(number.replace(",", "")) for table in tables for number in _NUMBER.findall(table)]
    for name in files:
        known += _numbers(json.loads((provenance.RESULTS / f"{name}.json").read_text(encoding="utf-8")))
    for said in _NUMBER.findall(re.sub(r"`[^`]*`", "", sentence)):
        digits = len(said.partition(".")[2])
        wanted = float(said.replace(",", ""))
        assert any(round(abs(scale * one), digits) == wanted for one in known for scale in (1, 100, 1000)), said
