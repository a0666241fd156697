"""The rooms of the package: each says what it is for, none is too large, and the map of contributors has them all."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "langchain_stormtrooper"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
MOST_LINES = 400


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for_and_is_not_too_large(module: str) -> None:
    """It starts with a docstring whose first paragraph is a sentence or more, and has at most 400 lines."""
    source = (PACKAGE / module).read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]
    assert len(first.split()) >= 4, "no docstring that says what the module is for"
    assert first.endswith((".", ":")), "the first paragraph of the docstring is no sentence"
    assert len(source.splitlines()) <= MOST_LINES


def test_the_map_has_every_room() -> None:
    """The rows of CONTRIBUTING's map are of the top-level modules and packages: all of them, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \|", text.partition("\n## The map\n")[2].partition("\n## ")[0], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(named) == sorted(modules | packages)
