"""The notebooks of the cookbook run, say what is written in them, and hold nothing of the machine that ran them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
COOKBOOK = ROOT / "cookbook"
NOTEBOOKS = sorted(COOKBOOK.glob("*.ipynb"))
RUN = Path(__file__).with_name("notebooks.py")
NUMBER = re.compile(r"\d+\.\d+")
ROUNDING = 0.06
"""By how much a number with digits after the point may be another one where the processor is: it is a probability, or
made of some, or the share of one row in twenty."""
MEASURED = "measured"
"""The tag of cells whose numbers are another machine's business."""


def load(path: Path) -> Any:
    """A notebook as JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def code(notebook: Any) -> list[Any]:
    """The cells with code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def said(cell: Any) -> str:
    """What a cell says in words: what it prints, and how its last value looks."""
    texts = [output["text"] if "text" in output else output["data"].get("text/plain", "") for output in cell["outputs"]]
    return re.sub(r"\x1b\[[\d;]*m", "", "".join("".join(text) for text in texts))  # without colours


def same(now: str, kept: str, *, measured: bool = False) -> bool:
    """Whether two texts have the same words and numbers, but for what the processor may change."""
    pattern = re.compile(r"\d[\d.,]*") if measured else NUMBER
    if [part.split() for part in pattern.split(now)] != [part.split() for part in pattern.split(kept)]:
        return False
    if measured:
        return True
    pairs = zip(NUMBER.findall(now), NUMBER.findall(kept), strict=True)
    return all(abs(float(one) - float(other)) <= ROUNDING for one, other in pairs)


def numbers(pattern: str, text: str) -> list[float]:
    """What stands at the group of a pattern, wherever it fits."""
    return [float(found) for found in re.findall(pattern, text, re.MULTILINE)]


def first_steps(text: str) -> bool:
    """Most sentences have their topic; those that cannot be read have none, and a warning."""
    topics = "sports|travel|politics|science"
    pairs = re.findall(rf"^({topics}) +({topics}) ", text, re.MULTILINE)
    warned = "OverlongInputWarning" in text and "FailedRequestWarning" in text
    return len(pairs) == 12 and sum(a == b for a, b in pairs) >= 10 and warned and "['science', None, None]" in text


def examples_and_calibration(text: str) -> bool:
    """Calibrating and examples help."""
    (alone,), (calibrated,), (shown,) = (
        numbers(rf"'{name}': (\d\.\d+)", text) for name in ("names alone", "calibrated", "with examples")
    )
    before, after = numbers(r"log loss (\d\.\d+)", text)
    return 0.5 < alone < calibrated <= 1 and shown >= 0.85 and after < before


def router(text: str) -> bool:
    """Every branch is taken, the nested one to both its ends, and the command that fits nowhere is asked back about."""
    lines = text.splitlines()
    branches = ("player", "weather service, now", "weather service, later", "bookshelf", "booking service")
    return all(any(line.startswith(branch) for line in lines) for branch in branches) and (
        re.search(r"what do you mean\? +turn off the lights", text) is not None
    )


def triage_agent(text: str) -> bool:
    """The tickets are where they belong, and the empty one is with a person."""
    lines = [("delivery", "My parcel"), ("payment", "I was charged"), ("payment", "Please send me an invoice")]
    lines += [("software", "The app closes"), ("software", "The screen stays"), ("a person", "")]
    return all(re.search(rf"^{queue} +{start}", text, re.MULTILINE) for queue, start in lines)


def langserve(text: str) -> bool:
    """Clients get labels, why a row has none, and an answer among labels of their own; the server has ended."""
    lines = ["'politics'", "sports", "['politics', 'science']", "(200, None, 'overlong')", "'music'"]
    schema = ["[{'enum': ['sports', 'politics', 'science'], 'type': 'string'},", " {'type': 'null'}]"]
    return [line for line in text.splitlines() if line] == [*lines, *schema, "False"]


def million_rows(text: str) -> bool:
    """All rows have their labels, no finished row was asked for again, and a third run asks for none."""
    (handed_out,) = numbers(r"(\d+) rows were handed out, then the power is cut", text)
    ((rows, again),) = re.findall(r"rows: (\d+), asked again: (-?\d+)", text)
    return handed_out < int(rows) and again == "0" and text.rstrip().endswith("True 0")


def many_labels(text: str) -> bool:
    """The right label is mostly on the list, the list costs no answers, and saves time."""
    (recall,) = numbers(r" 5 labels: +(\d+\.\d)%", text)
    everything, short = numbers(r"(\d\.\d+) right", text)
    (ratio,) = numbers(r"takes (\d\.\d+) of the time", text)
    return recall >= 95 and short >= everything >= 0.6 and ratio < 1


def multi_label(text: str) -> bool:
    """Fitted thresholds are better than the guess."""
    guess, fitted = numbers(r"macro-F1 (\d\.\d+)", text)
    return fitted >= 0.6 and fitted > guess


def scikit_learn(text: str) -> bool:
    """The names of the topics beat a regression on a handful of texts, and telling the kinds does not hurt."""
    (words,), (names,) = numbers(r"^words: (\d\.\d+)", text), numbers(r"names of the topics: (\d\.\d+)", text)
    plain, told = numbers(r"^(\d\.\d+) \[", text)
    return names >= 0.7 and names > words and told >= plain


def evaluation(text: str) -> bool:
    """The classifier is far better than chance, which is a fifth, and the report can be read again."""
    (accuracy,) = numbers(r"^accuracy +(\d\.\d+)", text)
    return accuracy >= 0.6 and text.rstrip().endswith("True")


CHECKS: dict[str, Callable[[str], bool]] = {
    "01_first_steps": first_steps,
    "02_examples_and_calibration": examples_and_calibration,
    "03_router": router,
    "04_triage_agent": triage_agent,
    "05_langserve": langserve,
    "06_million_rows": million_rows,
    "07_many_labels": many_labels,
    "08_multi_label": multi_label,
    "09_scikit_learn": scikit_learn,
    "10_evaluation": evaluation,
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_is_written_in_it(path: Path, tmp_path: Path) -> None:
    """Run anew, a notebook raises and warns of nothing, says the same, and tells the story that it is there for."""
    done = subprocess.run([sys.executable, RUN, "--into", tmp_path, path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    kept, now = load(path), load(tmp_path / path.name)
    for one, other in zip(code(now), code(kept), strict=True):
        measured = MEASURED in other["metadata"].get("tags", ())
        assert same(said(one), said(other), measured=measured), (said(one), said(other))
        pictures = [[list(output.get("data", ())) for output in cell["outputs"]] for cell in (one, other)]
        assert pictures[0] == pictures[1]
    assert CHECKS[path.stem]("\n".join(said(cell) for cell in code(now)))
    # All else is as the script writes it.
    for cell in [*code(now), *code(kept)]:
        cell["outputs"] = []
    assert now == kept


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_read(path: Path) -> None:
    """Its cells ran in order, its links lead somewhere, nothing in it is of a machine, and the index has its title."""
    notebook = load(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert [cell["execution_count"] for cell in code(notebook)] == [*range(1, len(code(notebook)) + 1)]
    prose = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)\)", "\n".join(prose))
    assert links
    assert [link for link in links if not (COOKBOOK / link).exists()] == []
    words = path.read_text(encoding="utf-8")
    assert [place for place in (str(ROOT), "/tmp/", "/home/", "site-packages") if place in words] == []  # noqa: S108
    assert len(words) < 200_000
    title = prose[0].partition("\n")[0].removeprefix("# ")
    assert f"[{title}]({path.name})" in (COOKBOOK / "README.md").read_text(encoding="utf-8")


def test_the_index_has_every_page() -> None:
    """The cookbook's index links all pages, and all notebooks under the titles that they have, and each is checked."""
    index = (COOKBOOK / "README.md").read_text(encoding="utf-8")
    for page in COOKBOOK.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index
    for path in NOTEBOOKS:
        title = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).partition("\n")[0]
        assert f"[{title.removeprefix('# ')}]({path.name})" in index
    assert sorted(CHECKS) == [path.stem for path in NOTEBOOKS]


def test_what_may_differ() -> None:
    """Words and whole numbers are compared, and decimals up to a rounding; where it is measured, only words."""
    assert same("a 0.51\n b", "a  0.54 b")
    assert not same("a 0.51", "a 0.61")
    assert not same("a 0.51", "b 0.51")
    assert not same("a 3", "a 4")
    assert not same("a 0.5 0.5", "a 0.5")
    assert same("12 rows a second", "1,000 rows a second", measured=True)
    assert not same("12 rows a second", "12 rows a minute", measured=True)
