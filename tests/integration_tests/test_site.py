"""The documentation's site builds without a warning, has no dead link, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import langchain_stormtrooper
from langchain_stormtrooper import evaluation, testing, tuning

ROOT = Path(__file__).parent.parent.parent
# Elements that make a browser fetch something by themselves; an <a> does not, nor do links between pages.
FETCHING = {"img", "script", "iframe", "source", "video", "audio", "object", "embed"}
LEADING = {"canonical", "prev", "next"}


@dataclass
class _Page(HTMLParser):
    """What a page links to, what it can be linked at, and its text outside of code."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    _depth_of_code: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        is_leading = tag == "a" or (tag == "link" and found.get("rel") in LEADING)
        for name in ("href", "src", "data"):
            if name in found and (is_leading or tag == "link" or tag in FETCHING):
                (self.links if is_leading else self.fetched).append(found[name])
        self._depth_of_code += tag in {"code", "pre", "script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._depth_of_code -= tag in {"code", "pre", "script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._depth_of_code:
            self.text.append(data)


def _read(site: Path) -> dict[Path, _Page]:
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def _dead(site: Path, pages: dict[Path, _Page]) -> list[tuple[str, str]]:
    """Links to files that are not there, and to places that these do not have."""
    dead = []
    for path, page in pages.items():
        for link in [*page.links, *page.fetched]:
            if re.match(r"(https?|mailto|data):", link):
                continue
            way, _, place = unquote(link).partition("#")
            way = way.partition("?")[0]
            # The page for what is not found does not know where it is shown.
            start = site if way.startswith("/") or path.name == "404.html" else path.parent
            target = (start / way.lstrip("/")).resolve() if way else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (place and target in pages and place not in pages[target].ids):
                dead.append((path.relative_to(site).as_posix(), link))
    return dead


def test_the_site_builds_strictly_and_no_link_of_it_is_dead(tmp_path: Path) -> None:
    """A build warns of nothing; all pages are there, and all that they link to; nothing comes from other hosts."""
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = _read(site)
    for path in [*(ROOT / "docs").rglob("*.md"), *(ROOT / "cookbook").glob("*.md")]:
        uri = path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/").removesuffix("README")
        assert site / uri / "index.html" in pages, uri
    assert _dead(site, pages) == []
    elsewhere = [link for page in pages.values() for link in page.fetched if re.match(r"(https?:)?//", link)]
    assert elsewhere == []
    assert not [path for path in site.rglob("*.css") if re.search(r"url\(.?(https?:)?//", path.read_text("utf-8"))]
    # What was not understood as a table, a list or code would be shown as it was written.
    for path, page in pages.items():
        unread = re.search(r"\| ---|```|^\s*[-*] \S|:::", "".join(page.text), re.MULTILINE)
        assert unread is None, (path, unread)


def test_every_public_name_is_in_the_reference() -> None:
    """What the package and its public rooms export has a place in the pages of the reference, and one only."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    named = [
        name
        for page in pages
        for name in re.findall(r"^::: langchain_stormtrooper\.(\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(named) == len(set(named))
    # Of what is also public from the package itself, that is the place.
    rooms = {"evaluation": evaluation, "testing": testing, "tuning": tuning}
    public = {*langchain_stormtrooper.__all__, "TGIFewShotClassifier", "TGIZeroShotClassifier"}
    public |= {f"{room}.{name}" for room, module in rooms.items() for name in module.__all__ if name not in public}
    assert public - set(named) == set()
