"""Recipes of the page beyond_one_machine.md: each runs as it stands there, where its engine is installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

PAGE = Path(__file__).parent.parent.parent / "cookbook" / "beyond_one_machine.md"
ENGINE = ScriptedEngine(when_contains({"senate": " politics", "nucleus": " science"}, default="other"))


def recipe(heading: str) -> str:
    """The classifier of the page and the code below a heading, whose last line is made an assertion."""
    page = PAGE.read_text(encoding="utf-8")
    first = re.search(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (code,) = re.findall(
        r"^```py\n(.*?)^```$", page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0], re.DOTALL | re.MULTILINE
    )
    assert first is not None
    *lines, last = code.splitlines()
    expression, _, promised = last.rpartition("  # ")
    assert ast.literal_eval(promised)
    lines.append(f"assert ({expression}) == {promised}, ({expression})")
    # Engines start processes that import the script.
    body = textwrap.indent("\n".join(lines), "    ")
    return f"{first[1]}\nif __name__ == '__main__':\n{body}\n    print('as promised')\n"


@pytest.mark.skipif(os.environ.get("STORMTROOPER_LONG") != "1", reason="starting the engines takes minutes")
@pytest.mark.parametrize(("heading", "package"), [("Ray Data", "ray"), ("Spark", "pyspark"), ("Daft", "daft")])
def test_a_recipe_runs(heading: str, package: str, tgi_server: Callable[..., TGIServer], tmp_path: Path) -> None:
    """The code of a recipe gives what the page says, and asks for no text twice."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    server = tgi_server("3.3.7", ENGINE)
    script = tmp_path / "recipe.py"
    script.write_text(recipe(heading), encoding="utf-8")
    local = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "DAFT_ANALYTICS_ENABLED": "0"}
    local |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **local, "TGI_BASE_URL": server.url}
    done = subprocess.run(
        [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "as promised" in done.stdout
    assert [count for prompt, count in server.counters.by_prompt.items() if "The senate votes." in prompt] == [1]
