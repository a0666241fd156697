"""Docstrings: their examples run and show what is written, and every module says what it is for."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import langchain_stormtrooper
from langchain_stormtrooper.testing import OpenAIServer, ScriptedEngine, TGIServer, when_contains

PACKAGE = Path(langchain_stormtrooper.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SHOWN = {
    "Cascade",
    "ClassifyBatches",
    "ClassifierTool",
    "FewShotClassifier",
    "HierarchicalClassifier",
    "LabelOutputParser",
    "Ledger",
    "LlamaCpp",
    "MultiLabelClassifier",
    "OpenAICompletions",
    "OpenAIServer",
    "TGIFewShotClassifier",
    "TGIServer",
    "TGIZeroShotClassifier",
    "TextGenerationInference",
    "ZeroShotClassifier",
    "evaluate",
    "load",
    "tune",
}


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _examples() -> Iterator[doctest.DocTest]:
    """The examples of all docstrings, each with a namespace of its own."""
    finder = doctest.DocTestFinder()
    for path in MODULES:
        # Older releases of langchain-core have no decisions.
        is_there = path.name != "decision_model.py" or find_spec("langchain_core.decisions") is not None
        if is_there and ">>> " in path.read_text(encoding="utf-8"):
            module = import_module(_module_name(path))
            yield from (found for found in finder.find(module, globs={}) if found.examples)


EXAMPLES = list(_examples())


@pytest.mark.usefixtures("_asked_once")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name.removeprefix("langchain_stormtrooper."))
def test_the_example_of_a_docstring_runs(
    example: doctest.DocTest,
    tgi_server: Callable[..., TGIServer],
    openai_server: Callable[..., OpenAIServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who types an example gets what stands below it, from a server at the default address or the embedded model."""
    engine = ScriptedEngine(when_contains({"senate": " politics", "nucleus": " science"}, default=" other"))
    monkeypatch.setenv("TGI_BASE_URL", tgi_server("3.3.7", engine).url)
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", openai_server("vllm", engine).url)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert tried > 0
    assert failed == 0, "".join(said)


def test_what_users_begin_with_has_an_example() -> None:
    """The main public classes and functions show in their docstrings how they are used."""
    assert {example.name.rpartition(".")[2] for example in EXAMPLES} >= SHOWN


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_says_what_it_is_for(path: Path) -> None:
    """The first paragraph of a module's docstring is a sentence of some words."""
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    assert len(re.findall(r"\w+", first)) >= 5, first
    assert first.endswith((".", ":", "?")), first
