"""Hooks of the site's build: which files are its pages, and what hosts read otherwise than Python-Markdown.

The site is laid out as the repository is, so that the same relative links lead somewhere on both: the README is its
front page, `cookbook/` keeps its name, and pages in `docs/` lose that part of theirs. Whatever a page links to in the
repository becomes part of the site: Markdown as a page, anything else as it is. Nothing is copied in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser
from mkdocs.structure.files import File, Files, InclusionLevel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ASSETS = ("*.css", "*.svg")
LINK = re.compile(r'\]\((?!https?://|mailto:|#)([^)\s#]+)[^)\s]*\)|src="(?!https?://)([^"]+)"')
FENCE = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
CODE_IN_TABLE = re.compile(r"`[^`\n]+`")


class _TwoSpaces(Extension):  # type: ignore[misc]  # untyped
    """What belongs to a list item is indented by two spaces, as everywhere but in Python-Markdown."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.tab_length = 2
        md.parser = build_block_parser(md)  # the parser of lists has read the old length


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read lists as hosts do."""
    # The first, since others add to the parser; and Markdown takes instances, too.
    config.markdown_extensions.insert(0, _TwoSpaces())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the repository's pages, and what they link to, in the place of the files below docs/."""
    of_the_theme = [file for file in files if file.src_dir != config.docs_dir]
    docs = Path(config.docs_dir)
    paths = [ROOT / "README.md", *sorted(docs.rglob("*.md")), *sorted((ROOT / "cookbook").glob("*.md"))]
    paths += [path for pattern in ASSETS for path in sorted(docs.rglob(pattern))]
    found: dict[Path, File] = {}
    while paths:
        path = paths.pop(0)
        if path in found:
            continue
        found[path] = _file(path, config)
        if path.suffix == ".md":
            paths += [target for target in _linked(path) if target.is_file() and target.is_relative_to(ROOT)]
    return Files([*of_the_theme, *found.values()])


def _file(path: Path, config: MkDocsConfig) -> File:
    uri = path.relative_to(ROOT).as_posix()
    on_site = File(uri.removeprefix("docs/"), None, config.site_dir, config.use_directory_urls)
    return File(
        uri,
        str(ROOT),
        config.site_dir,
        config.use_directory_urls,
        dest_uri=on_site.dest_uri,
        # What a page links to is there, also when MkDocs would leave it out for its name, such as .github.
        inclusion=InclusionLevel.UNDEFINED if path.suffix == ".md" else InclusionLevel.INCLUDED,
    )


def _linked(page: Path) -> list[Path]:
    """The files and directories' front pages that a page links to."""
    links = (one or other for one, other in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))))
    targets = [(page.parent / link).resolve() for link in links]
    return [target / "README.md" if target.is_dir() else target for target in targets]


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Write links to directories and pipes within tables as MkDocs wants them; hosts read both ways."""
    folder = (ROOT / page.file.src_uri).parent

    def to_page(link: re.Match[str]) -> str:
        target = folder / (link[1] or link[2])
        return link[0].replace("/)", "/README.md)") if (target / "README.md").is_file() else link[0]

    lines = [
        CODE_IN_TABLE.sub(lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line
        for line in LINK.sub(to_page, markdown).split("\n")
    ]
    return "\n".join(lines)
