"""A `TuningEvidence` as a table for people: a line for each candidate, then what to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langchain_stormtrooper.terminal import plain

if TYPE_CHECKING:
    from langchain_stormtrooper.tuning.evidence import CandidateEvidence, TuningEvidence

_STOPPED = {
    "texts": "all texts were answered",
    "one left": "one candidate was left",
    "nothing to show": "no other could still be shown to be better than the chosen one",
    "budget": "the budget paid for no more texts",
}


def render(evidence: TuningEvidence) -> RenderableType:
    """The candidates, and in sentences how it went."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({candidate.descriptions for candidate in evidence.candidates}) > 1
    heads = ["", "prompt", *(["descriptions"] if several else []), "examples", "right", "of", "", "+", "−", "p"]
    # Most searches have none.
    misses = any(candidate.unlabelled for candidate in evidence.candidates)
    for head in [*heads, "tokens", *(["unlabelled"] if misses else [])]:
        table.add_column(head, justify="left" if head == "prompt" else "right", no_wrap=True)
    table.add_column("")
    for number, candidate in enumerate(evidence.candidates):
        is_chosen = number == evidence.chosen
        against = (
            ("", "", "") if is_chosen else (str(candidate.better), str(candidate.worse), f"{candidate.p_value:.2g}")
        )
        table.add_row(
            str(number),
            Text(plain(candidate.prompt)),
            *([str(candidate.descriptions)] if several else []),
            str(candidate.examples),
            str(candidate.right),
            str(candidate.texts),
            f"{candidate.accuracy:.0%}",
            *against,
            "" if candidate.prompt_tokens is None else f"{candidate.prompt_tokens:,.0f}",
            *([str(candidate.unlabelled or "")] if misses else []),
            _fate(candidate, is_chosen=is_chosen),
            style="bold" if is_chosen else "dim" if candidate.drop else "",
        )
    said = [
        f"+ and −: texts on which only this one, and only the chosen one, was right; p: two-sided, by itself. "
        f"{evidence.answered:,} rows on {evidence.texts:,} texts; it ended because {_STOPPED[evidence.stopped]}.",
        *evidence.remarks,
    ]
    return Group(table, Text(), *(Text(plain(line)) for line in said))


def _fate(candidate: CandidateEvidence, *, is_chosen: bool) -> str:
    if is_chosen:
        return "chosen"
    drop = candidate.drop
    return "" if drop is None else f"dropped after {drop.after} by {drop.by}"
