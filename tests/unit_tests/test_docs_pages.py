"""Pages of the documentation that have to keep up with the code: what can go wrong, and the figures."""

from __future__ import annotations

import re
from pathlib import Path

import provenance
import pytest

from langchain_stormtrooper import errors
from langchain_stormtrooper.errors import StormtrooperError, StormtrooperWarning
from langchain_stormtrooper.results import Reason

DOCS = Path(__file__).parents[2] / "docs"


FIGURES = provenance.drawing()


def test_every_error_and_warning_has_a_row_of_advice() -> None:
    """The page of what can go wrong has each class of `errors` once, in the table of its kind, and no other."""
    text = (DOCS / "failures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) ?\|$", text, re.MULTILINE)
    named = [name for name, _, _ in rows]
    kinds = (StormtrooperError, StormtrooperWarning)
    classes = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, kinds)}
    # The root of all errors is named in a sentence.
    assert sorted(named) == sorted(classes - {"StormtrooperError"})
    assert "`StormtrooperError`" in text
    roots = {"RowError"}
    assert all(len(advice.split()) >= 3 for name, _, advice in rows if name not in roots)
    for heading, root in (
        ("Raised: the task is not one", errors.ConfigurationError),
        ("Raised: nobody can be asked", errors.ServerError),
        ("A row's own", errors.RowError),
    ):
        part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        here = set(re.findall(r"^\| `(\w+)` ", part, re.MULTILINE))
        assert here == {name for name in classes if issubclass(getattr(errors, name), root)}


def test_every_reason_is_told_with_its_warning() -> None:
    """The page names each reason of a row without a label."""
    text = (DOCS / "failures.md").read_text(encoding="utf-8")
    part = text.partition("## Warned of: rows without a label\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `\w+Warning` \| `(\w+)` ", part, re.MULTILINE)) == set(Reason)


@pytest.mark.parametrize("name", sorted(FIGURES.FIGURES))
def test_a_figure_is_what_its_script_draws(name: str) -> None:
    """The figures of the documentation are those that the results and the package give now."""
    assert (DOCS / f"{name}.svg").read_text(encoding="utf-8") == FIGURES.FIGURES[name]()


def test_every_figure_is_shown() -> None:
    """There is no figure that no script draws or no page shows."""
    shown = {
        (page.parent / name).relative_to(DOCS).as_posix()
        for page in DOCS.rglob("*.md")
        for name in re.findall(r"!\[[^\]]+\]\((\w+)\.svg\)", page.read_text(encoding="utf-8"))
    }
    drawn = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.svg")}
    assert shown == set(FIGURES.FIGURES) == drawn - {"favicon"}


def test_the_limit_in_the_figure_finds_the_permits() -> None:
    """What the figure shows is so: the limit falls to the permits at once, and rises when more come free."""
    seen = FIGURES.limits()
    assert seen[0] == (8, 64)
    few = [sent for permits, sent in seen[1:] if permits == 8]
    assert set(few) <= {8, 9}
    assert any(sent == 16 for _, sent in seen)
