"""`Shortlist`: which of many labels are asked about for a row, those whose names or examples are like its text.

`LabelRanking` puts the labels in order for a text; `answering.shortlisting` asks about the first of them, `recalling`
counts how often the right one is among these.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, model_validator
from typing_extensions import override

from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.selecting.nearness import nearness
from langchain_stormtrooper.selecting.similarity import DIGITS, as_compared
from langchain_stormtrooper.selecting.vectors import Ahead

_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Shortlist(BaseModel):
    """Which of many labels the model is asked about for a row: those that are like its text.

    A label is as near as the nearest of its name, its description and, for a `FewShotClassifier`, its examples; the
    text itself, where it is an example, does not count. Equally near labels stand in the order given. A row's shortlist
    depends on nothing but its text.

    Args:
        size: How many labels at most.
        by: What is near: "bm25" shares rare words, "fuzzy" is spelled alike, a LangChain `Embeddings` means the same.
        recall: The share of texts whose right label is the nearest one, among the two nearest, and so on: what
            `measure_shortlist` finds. With it, probabilities say how likely the right label was left out.

    Raises:
        ConfigurationError: The arguments contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    size: int = Field(default=10, ge=2)
    by: Literal["bm25", "fuzzy"] | InstanceOf[Embeddings] = "bm25"
    recall: tuple[_Share, ...] | None = Field(default=None, repr=False)

    def __init__(self, **settings: Any) -> None:
        with checked("Shortlist", type(self).model_fields):
            super().__init__(**settings)

    @model_validator(mode="after")
    def _recall_fits(self) -> Shortlist:
        if self.recall is not None:
            if len(self.recall) < self.size:
                raise ValueError(
                    f"`recall` says nothing of a shortlist of {self.size} labels: measure it, `measure_shortlist`."
                )
            if any(after < before for before, after in zip(self.recall, self.recall[1:], strict=False)):
                raise ValueError("`recall` must not fall, since a longer shortlist has all labels of a shorter one.")
        return self

    def recall_of(self, size: int, n_labels: int) -> float | None:
        """How likely the right label is on a shortlist; None if that is not known.

        Never less than for labels drawn by lot, so that no label left out is likelier than the best of those asked
        about.

        Args:
            size: How many labels are on it, at most `self.size`.
            n_labels: How many labels there are.
        """
        if self.recall is None:
            return 1.0 if size == n_labels else None
        return 1.0 if size == n_labels else max(self.recall[size - 1], size / n_labels)

    @override
    def __repr_args__(self) -> Any:
        # A model's repr may show a key.
        yield "size", self.size
        yield "by", type(self.by).__name__ if isinstance(self.by, Embeddings) else self.by
        if self.recall is not None:
            yield "recall", round(self.recall[self.size - 1], 3)


def read_shortlist(given: Any) -> Any:
    """A size stands for a shortlist of that size.

    Raises:
        ConfigurationError: It is neither a size nor a shortlist.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return Shortlist(size=given)
    if given is None or isinstance(given, Shortlist | Mapping):
        return given
    raise ConfigurationError(
        f"`shortlist=` must be a number of labels, or a Shortlist such as Shortlist(size=10, by='bm25'), not "
        f"{repr(given) if isinstance(given, str | int | float) else type(given).__name__}."
    )


class LabelRanking:
    """The labels in order, the nearest to a text first.

    Args:
        shortlist: What is near.
        labels: The labels.
        examples: Examples of them; none for names and descriptions alone. Those of the option that no label fits, which
            is always asked about, do not count.
    """

    def __init__(self, shortlist: Shortlist, labels: LabelSet, examples: Sequence[Example] = ()) -> None:
        texts = [
            (position, _in_words(text))
            for position, label in enumerate(labels.labels)
            for text in (label.name, label.description)
            if text
        ]
        self._n_own = len(texts)
        # Each once: a second one would tell nothing.
        pool = dict.fromkeys(
            (labels.index(example.label), example.text) for example in examples if example.label in labels
        )
        self._owners, self._texts = zip(*texts, *pool, strict=True)
        self._n_labels = len(labels)
        self._shortlist = shortlist
        self._nearness = nearness(shortlist.by, self._texts)
        self._places: dict[str, list[int]] = {}
        for place in range(self._n_own, len(self._texts)):
            self._places.setdefault(as_compared(self._texts[place]), []).append(place)
        self.looks_ahead = self._nearness.looks_ahead

    async def arank(self, text: str, ahead: Ahead) -> list[int]:
        """The positions of all labels, the nearest first.

        Args:
            text: The text.
            ahead: What texts the same call is going to ask for.

        Raises:
            RequestFailedError: The embedding model has no vector for the text.
        """
        similarities = await self._nearness.to(text, ahead)
        for place in self._places.get(as_compared(text), ()):
            similarities[place] = -math.inf
        return ranked(similarities, self._owners, self._n_labels)

    def details(self) -> dict[str, Any]:
        """What shortlists depend on, as plain data that tells no text."""
        content = json.dumps([self._owners, self._texts], ensure_ascii=True)
        setting = self._shortlist
        return {
            "shortlist": setting.size,
            "shortlist_by": {"name": self._nearness.name, **self._nearness.details()},
            "shortlist_recall": setting.recall,
            "shortlist_pool": hashlib.sha256(content.encode("ascii")).hexdigest(),
        }


def ranked(similarities: Sequence[float], owners: Sequence[int], n_labels: int) -> list[int]:
    """Labels in order, by the nearest text of each.

    Args:
        similarities: How near each text is.
        owners: The position of the label that each text belongs to.
        n_labels: How many labels there are.
    """
    best = [-math.inf] * n_labels
    for similarity, owner in zip(similarities, owners, strict=True):
        best[owner] = max(best[owner], similarity)
    # What differs by rounding alone is told apart by position; a stable sort keeps it, also in reverse.
    return sorted(
        range(n_labels),
        key=lambda position: best[position] if math.isinf(best[position]) else round(best[position], DIGITS),
        reverse=True,
    )


def _in_words(name: str) -> str:
    """A name with spaces for what programs write in their place."""
    return name.replace("_", " ")
