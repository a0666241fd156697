"""How often the right label is on a shortlist: `ShortlistRecall`, measured on labelled texts without asking an LLM.

`text_classifier` is the only caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.selecting import Ahead, LabelRanking, Shortlist

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

    @classmethod
    async def ameasure(
        cls, setting: Shortlist, ranking: LabelRanking, n_labels: int, texts: Sequence[str], right: Sequence[int]
    ) -> Self:
        """Rank the labels for each text.

        Args:
            setting: What is measured.
            ranking: Ranks them.
            n_labels: How many there are.
            texts: The texts.
            right: The position of each text's label.

        Raises:
            RequestFailedError: The embedding model has no vector for a text.
        """
        ahead = Ahead()
        ahead.announce(texts)
        ranks = [(await ranking.arank(text, ahead)).index(own) + 1 for text, own in zip(texts, right, strict=True)]
        return cls(setting=setting, n_labels=n_labels, ranks=tuple(ranks))
