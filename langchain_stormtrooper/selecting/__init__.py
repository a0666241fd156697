"""Which examples stand in the prompt of a row: a balanced set that is the same for all, or the nearest to each text.

`similarity` is pure: how near texts are by their words. `vectors` asks an embedding model for many texts at once;
`nearness` is either. `choosers` has a class for each way of choosing, `shortlisting` ranks labels in the same way. How
many examples there is room for is `answering.choosing`'s business; `classifiers` is the only other caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors.base import BaseExampleSelector

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.selecting.choosers import Among as Among
from langchain_stormtrooper.selecting.choosers import Balanced, Nearest, Selected
from langchain_stormtrooper.selecting.choosers import ExampleChooser as ExampleChooser
from langchain_stormtrooper.selecting.shortlisting import LabelRanking as LabelRanking
from langchain_stormtrooper.selecting.shortlisting import Shortlist as Shortlist
from langchain_stormtrooper.selecting.shortlisting import read_shortlist as read_shortlist
from langchain_stormtrooper.selecting.vectors import Ahead as Ahead

SelectName: TypeAlias = Literal["balanced", "fuzzy", "bm25"]
"""The ways of choosing examples that need nothing else."""

NEAREST = 8
"""Examples for each row where the user does not say how many."""


def check_select(select: Any) -> None:
    """See to it that something says how to choose examples.

    Raises:
        ConfigurationError: It does not.
    """
    if isinstance(select, Embeddings | BaseExampleSelector) or (
        isinstance(select, str) and select in get_args(SelectName)
    ):
        return
    names = get_args(SelectName)
    given = repr(select) if isinstance(select, str) else type(select).__name__
    raise ConfigurationError(
        f"`select=` must be {', '.join(map(repr, names))}, a LangChain `Embeddings` or a LangChain example selector, "
        f"not {given}."
    )


def chooser(
    select: SelectName | Embeddings | BaseExampleSelector,
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    n: int | None,
    max_per_label: int | None,
    option: str | None = None,
) -> ExampleChooser:
    """What chooses the examples of a classifier.

    Args:
        select: How.
        examples: The examples to choose from; none where a selector has them.
        labels: The labels.
        n: How many stand in a prompt at most; None for the default.
        max_per_label: How many of one label at most, as long as there are others; None for the default.
        option: The one of the labels that None stands for where a selector names it; None if nothing does.
    """
    if isinstance(select, BaseExampleSelector):
        return Selected(select, labels, n, option)
    if select == "balanced":
        return Balanced(examples, labels, n)
    number = NEAREST if n is None else n
    of_label = number if max_per_label is None else max_per_label
    return Nearest(select, examples, labels, number, of_label)
