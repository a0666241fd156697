"""Documents: code runs with the results that are written, figures are the measured ones, what is named exists."""

from __future__ import annotations

import ast
import asyncio
import codeop
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

ROOT = Path(__file__).parent.parent.parent
HOW_TO = [ROOT / "README.md", *sorted((ROOT / "cookbook").glob("*.md")), ROOT / "docs" / "tutorial.md"]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [
    path
    for path in dict.fromkeys([*HOW_TO, *PAGES])
    if path != ROOT / "cookbook" / "README.md" and (path in HOW_TO or "```python" in path.read_text(encoding="utf-8"))
]
DECISIONS = ROOT / "docs" / "decisions"
HEADINGS = ["Context", "Options weighed", "Decision", "Consequences", "Evidence"]
LINKED = sorted(
    path
    for pattern in ("*.md", "benchmarks/*.md", "cookbook/**/*.md", "docs/**/*.md", "tests/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)


def promised(line: str) -> tuple[bool, Any]:
    """Whether a line ends with a comment that is a literal, and that literal."""
    _, mark, comment = line.rpartition("  # ")
    try:
        return bool(mark), ast.literal_eval(comment)
    except (ValueError, SyntaxError):
        return False, None


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.usefixtures("_asked_once")
@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_code_of_a_document_runs(
    document: Path, tgi_server: Callable[..., TGIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block runs in order, and every expression gives the literal beside it; how-tos have four."""
    engine = ScriptedEngine(
        when_contains({"senate": " politics", "Electoral": " politics", "nucleus": "Science."}, default="other")
    )
    monkeypatch.setenv("TGI_BASE_URL", tgi_server("3.3.7", engine).url)
    monkeypatch.chdir(ROOT)
    checked = asyncio.run(_run(document, document.read_text(encoding="utf-8")))
    assert checked >= (4 if document in HOW_TO else 1)


def test_the_tutorial_can_be_typed() -> None:
    """Every line of the tutorial can be typed, or pasted, into the interpreter that it has the reader start."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        typed: list[str] = []
        for line in [*block.splitlines(), ""]:
            typed.append(line)
            # A SyntaxError is what the interpreter would say, None that it waits for more.
            if codeop.compile_command("\n".join(typed), symbol="single") is not None:
                typed = []
        assert not typed


async def _run(document: Path, text: str) -> int:
    """Run all blocks and return how many results were compared."""
    namespace: dict[str, Any] = {}
    checked = 0
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            is_expression = isinstance(node, ast.Expr)
            unit = ast.Expression(node.value) if isinstance(node, ast.Expr) else ast.Module([node], [])
            mode = "eval" if is_expression else "exec"
            code = compile(unit, str(document), mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            value = eval(code, namespace)  # noqa: S307  # our own documents
            if inspect.iscoroutine(value):
                value = await value
            is_promise, literal = promised(lines[(node.end_lineno or 1) - 1])
            if is_expression and is_promise:
                assert value == literal, lines[node.lineno - 1]
                checked += 1
    return checked


def test_the_figures_are_the_measured_ones() -> None:
    """The README's tables are exactly what the result files render to, and hold what the project promises."""
    spec = importlib.util.spec_from_file_location("render", ROOT / "benchmarks" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert render.render(readme) == readme
    assert render.embedded() in readme
    assert render.concurrency() in readme
    concurrency = render.figures("concurrency")
    assert concurrency["classifier_ratio"] >= 15
    assert concurrency["classifier_abatch_seconds"] < 0.6
    foreign = render.figures("foreign")
    assert foreign["classifier_abatch_seconds"] < 2
    assert foreign["own_abatch_seconds"] >= 10
    summary = render.figures("six_sets")["summary"]
    for arm, points in (("score", 0.12), ("unlabelled", 0.18), ("labelled", 0.25)):
        assert summary["arms"][arm]["above_original"] >= points
        assert summary["arms"][arm]["share_of_the_originals_tokens"] <= 1 / 3
    assert summary["sets_with_ece_halved"] >= 4
    assert min(summary["promises_held"]["0.05"].values()) >= 18
    assert render.figures("permits")["ratio"] >= 0.85
    overhead = render.figures("client_overhead")
    assert overhead["clients"]["classifier"]["ratio_to_bare"] >= 0.75
    assert render.figures("slow_server")["classifier_to_ideal"] <= 1.15
    small, *larger = overhead["growth"]
    for size in larger:
        assert size["cpu_microseconds_per_row"] <= small["cpu_microseconds_per_row"] * 1.15
        assert size["peak_bytes_per_row"] <= max(small["peak_bytes_per_row"], 1024) * 1.15


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of every document names a file that exists, and a heading of it where it says one."""
    assert {"README.md", "CONTRIBUTING.md", "releasing.md", "0001-one-fused-runnable.md"} <= {
        document.name for document in LINKED
    }
    for document in LINKED:
        for link in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", document.read_text(encoding="utf-8")):
            path, _, heading = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), (document.name, link)
            assert not heading or heading in _anchors(target.read_text(encoding="utf-8")), (document.name, link)


def _anchors(text: str) -> set[str]:
    """What hosts make of the headings of a document, to link to."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_are_written_alike_and_listed() -> None:
    """They are numbered without a gap, have the same headings, and stand in the index under their titles."""
    pages = sorted(DECISIONS.glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS, page.name
        title = text.partition("\n")[0].removeprefix(f"# {number}. ")
        assert f"| [{number}]({page.name}) | {title} |" in index


@pytest.mark.parametrize("document", PAGES, ids=_name)
def test_what_a_document_names_is_there(document: Path) -> None:
    """Every file and every test that docs name in code exists; of the package, paths may begin within it."""
    named = [
        word
        for span in re.findall(
            r"`([^`]+)`",
            re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE),
        )
        for word in span.split()
        if re.fullmatch(
            r"[.\w*/-]+\.(py|md|json|yml|toml)(::\w+)?|(\.ci|tests|benchmarks|cookbook|docs)/[\w./-]*", word
        )
    ]
    for name in named:
        path, _, test = name.partition("::")
        roots = [ROOT, ROOT / "langchain_stormtrooper", ROOT / "benchmarks"]
        found = [one for root in roots for one in root.glob(path)]
        assert found, name
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), name
    if document.parent == DECISIONS and document.name != "README.md":
        evidence = document.read_text(encoding="utf-8").partition("## Evidence")[2]
        assert sum(f"`{name}`" in evidence for name in named) >= 2
