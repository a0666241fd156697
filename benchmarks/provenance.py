"""Where every table and plot of README, cookbook and documentation comes from: `python benchmarks/provenance.py`.

A line for each: the page, the table, the result files it is made of, and the command that wrote each of them; plots of
measured figures, which `docs/figures.py` draws, stand under the name of their file. Fails
where a page has a table that nothing makes, or benchmarks/README.md does not name a command, or a result file that is
neither a page's nor named there. What the commands need besides (`--data`, PYTHONPATH) is told there, too.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import render
from record import takes_no_arguments
from rich.console import Console
from rich.table import Table

MARK = re.compile(r"^<!-- figures: (\w+) -->$", re.MULTILINE)
ANY_MARK = re.compile(r"<!-- *fig|<!-- *end of fig")
RESULTS = render.ROOT / "benchmarks" / "results"


def sources(make: Callable[[], str], module: ModuleType = render) -> list[str]:
    """The result files that a table or plot is made of.

    Args:
        make: What makes it.
        module: Where that is, with a function `figures` that reads a result file.
    """
    read: list[str] = []
    figures = module.figures

    def noting(name: str) -> Any:
        read.append(name)
        return figures(name)

    module.figures = noting  # type: ignore[attr-defined]
    try:
        make()
    finally:
        module.figures = figures  # type: ignore[attr-defined]
    return list(dict.fromkeys(read))


def drawing() -> ModuleType:
    """`docs/figures.py`."""
    spec = importlib.util.spec_from_file_location("drawing", render.ROOT / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(name: str) -> str:
    """What wrote a result file."""
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return str(content["command"])


def traced() -> list[tuple[Path, str, str, str]]:
    """Page, table, result file and command, of all tables and plots."""
    pages: dict[Path, tuple[Callable[[], str], ...]] = {render.ROOT / "README.md": render.README}
    pages |= {render.page_path(name): tables for name, tables in render.PAGES.items()}
    made = [
        (page.relative_to(render.ROOT), table.__name__, name)
        for page, tables in pages.items()
        for table in tables
        for name in sources(table)
    ]
    plots = drawing()
    made += [
        (Path("docs") / f"{figure}.svg", "plot", name)
        for figure, draw in plots.FIGURES.items()
        for name in sources(draw, plots)
    ]
    return [(page, what, f"benchmarks/results/{name}.json", command(name)) for page, what, name in made]


def loose_ends() -> list[str]:
    """Tables that nothing makes, and result files that no page shows."""
    found = traced()
    made = Counter({(page, table): 1 for page, table, _, _ in found})
    pages = [render.ROOT / "README.md"]
    pages += [page for folder in ("cookbook", "docs") for page in sorted((render.ROOT / folder).rglob("*.md"))]
    texts = {page.relative_to(render.ROOT): page.read_text(encoding="utf-8") for page in pages}
    shown = Counter((page, name) for page, text in texts.items() for name in MARK.findall(text))
    told = (render.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    used = {result for _, _, result, _ in found}
    scripts = {Path(by.split()[1]).name for _, _, _, by in found}
    return [
        *(f"{page.as_posix()}: nothing makes the table {name}" for page, name in sorted(shown - made)),
        *(
            f"{page.as_posix()}: a mark of a table is misspelt, or has no end"
            for page, text in texts.items()
            if len(ANY_MARK.findall(text)) != 2 * len(MARK.findall(text))
        ),
        *(f"benchmarks/README.md does not name {name}" for name in sorted(scripts) if f"`{name}`" not in told),
        *(
            f"{path.name}: no page shows it, and benchmarks/README.md does not name it"
            for path in sorted(RESULTS.glob("*.json"))
            if f"benchmarks/results/{path.name}" not in used and f"{path.stem}.py" not in told
        ),
    ]


def main() -> None:
    """Print the table, and fail where there is a loose end."""
    takes_no_arguments(__doc__)
    table = Table("page", "table", "result file", "written by")
    for page, name, result, by in traced():
        table.add_row(str(page), name, result, by)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    ends = loose_ends()
    print("\n".join(ends))
    sys.exit(bool(ends))


if __name__ == "__main__":
    main()
