"""How often the right label is on a shortlist: `ShortlistRecall`, measured on labelled texts without asking an LLM.

`text_classifier` is the only caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.labelled import read_scoped
from langchain_stormtrooper.learnt import Learnt, rendered
from langchain_stormtrooper.row_calls import text_of
from langchain_stormtrooper.selecting import Ahead, LabelRanking, Shortlist, read_shortlist

if TYPE_CHECKING:
    from langchain_stormtrooper.rows import RowInput
    from langchain_stormtrooper.text_classifier import TextClassifier

_SHOWN = (1, 2, 5, 10, 20, 50, 100)


class ShortlistRecall(BaseModel):
    """How often the right label is among the nearest labels.

    Attributes:
        setting: What was measured.
        n_labels: How many labels there are.
        ranks: For each text the place of its right label among all labels, the nearest first, from 1 on.
        n_out_of_scope: How many texts were left out because no label fits them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: Shortlist
    n_labels: int
    ranks: tuple[int, ...] = Field(repr=False, min_length=1)
    n_out_of_scope: int = Field(default=0, ge=0)

    def at(self, size: int) -> float:
        """The share of texts whose right label is on a shortlist of this size.

        Args:
            size: How many labels are on it.

        Raises:
            ConfigurationError: There is no such shortlist.
        """
        return sum(rank <= self._checked(size) for rank in self.ranks) / len(self.ranks)

    def interval(self, size: int, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson's (1927) score interval of what the recall will be for further texts of the same kind.

        Args:
            size: As in `at`.
            confidence: Probability that the interval has it, between 0 and 1.

        Raises:
            ConfigurationError: An argument is out of its range.
        """
        if not 0 < confidence < 1:
            raise ConfigurationError(f"`confidence` must be between 0 and 1, not {confidence}.")
        share, number = self.at(size), len(self.ranks)
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        middle = share + z * z / (2 * number)
        around = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
        scale = 1 + z * z / number
        return max(0.0, (middle - around) / scale), min(1.0, (middle + around) / scale)

    def shortlist(self, size: int | None = None) -> Shortlist:
        """The setting with what was measured, for `model_copy(update={"shortlist": …})`.

        Args:
            size: How many labels are to be on it; None for as many as before.

        Raises:
            ConfigurationError: There is no such shortlist.
        """
        size = min(self.setting.size, self.n_labels) if size is None else self._checked(size)
        curve = tuple(self.at(number) for number in range(1, size + 1))
        return Shortlist(size=size, by=self.setting.by, recall=curve)

    def _checked(self, size: int) -> int:
        if not 1 <= size <= self.n_labels:
            raise ConfigurationError(f"`size` must be from 1 to {self.n_labels}, the number of labels, not {size}.")
        return size

    def __str__(self) -> str:
        """One line for each size of some."""
        sizes = sorted({size for size in (*_SHOWN, self.setting.size) if size < self.n_labels})
        lines = [f"recall of the right label, {len(self.ranks)} texts, {self.n_labels} labels (95 % interval)"]
        for size in sizes:
            low, high = self.interval(size)
            lines.append(f"{size:>5} labels: {self.at(size):6.1%}  ({low:.1%} to {high:.1%})")
        if self.n_out_of_scope:
            lines.append(f"not counted: {self.n_out_of_scope} more that no label fits")
        return "\n".join(lines)


async def measure(
    classifier: TextClassifier,
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    shortlist: Shortlist | int | None,
) -> Learnt[ShortlistRecall]:
    """Rank the labels for each text; arguments and errors as in `TextClassifier.ameasure_shortlist`."""
    rows, right = read_scoped(texts, labels, classifier.labels, purpose="measure", option=classifier._option)
    labelled = [(row, name) for row, name in zip(rows, right, strict=True) if name is not None]
    if not labelled:
        raise ConfigurationError("There is nothing to measure: none of the texts has a label.")
    found = rendered(partial(text_of, text_key=classifier.text_key), [row for row, _ in labelled])
    ranked = [(text, name) for text, (_, name) in zip(found, labelled, strict=True) if isinstance(text, str)]
    refusal = next((text for text in found if isinstance(text, PromptError)), None)
    if refusal is not None and not ranked:
        raise refusal
    setting = read_shortlist(shortlist) or classifier.shortlist or Shortlist()
    ranking = LabelRanking(setting, classifier.labels, classifier._known_examples)
    ahead = Ahead()
    ahead.announce([text for text, _ in ranked])
    ranks = [(await ranking.arank(text, ahead)).index(classifier.labels.index(name)) + 1 for text, name in ranked]
    recall = ShortlistRecall(
        setting=setting,
        n_labels=len(classifier.labels),
        ranks=tuple(ranks),
        n_out_of_scope=len(rows) - len(labelled),
    )
    lost = len(labelled) - len(ranked)
    return Learnt(
        recall, (f"{lost} of {len(labelled)} rows hold no text, and are left out ({refusal})",) if lost else ()
    )
