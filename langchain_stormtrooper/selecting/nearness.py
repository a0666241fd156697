"""`Nearness`: how near a fixed list of texts is to the text of a row, by words or by an embedding model.

`choosers` ranks examples by it, `shortlisting` labels. What is compared is made ready at the first row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias

from langchain_core.embeddings import Embeddings
from typing_extensions import override

from langchain_stormtrooper.mishaps import Mishaps, watched
from langchain_stormtrooper.selecting.similarity import Bm25, Cosine, Fuzzy
from langchain_stormtrooper.selecting.vectors import Ahead, Vectors
from langchain_stormtrooper.tasks import Once

WordsName: TypeAlias = Literal["fuzzy", "bm25"]
"""How texts are compared by their words."""


class Nearness(ABC):
    """How near texts are to another."""

    name: str
    """What `select=` and `by=` call it."""

    looks_ahead = False
    """Whether it has a use for texts that are still to come."""

    @abstractmethod
    async def to(self, text: str, ahead: Ahead) -> list[float]:
        """How near each text is to another; more is nearer.

        Args:
            text: The other text.
            ahead: What texts the same call is going to ask for.

        Raises:
            RequestFailedError: That cannot be told for this text.
            ConfigurationError: Nor for any text so far.
        """

    def details(self) -> dict[str, Any]:
        """What it depends on beside its name and the texts, as plain data."""
        return {}


class ByWords(Nearness):
    """By words or letters.

    Args:
        name: How.
        texts: What is compared with.
    """

    def __init__(self, name: WordsName, texts: Sequence[str]) -> None:
        self.name = name
        self._texts = texts

    @cached_property
    def _similarity(self) -> Fuzzy | Bm25:
        return Bm25(self._texts) if self.name == "bm25" else Fuzzy(self._texts)

    @override
    async def to(self, text: str, ahead: Ahead) -> list[float]:
        return self._similarity.to(text)


class ByVectors(Nearness):
    """By the vectors of an embedding model, which embeds the texts at the first row.

    Args:
        embeddings: The model.
        texts: What is compared with.
    """

    name = "embeddings"
    looks_ahead = True

    def __init__(self, embeddings: Embeddings, texts: Sequence[str]) -> None:
        self._embeddings = embeddings
        self._texts = texts
        self._vectors = Vectors(embeddings)
        self._similarity: Once[Cosine] = Once()
        self._mishaps = Mishaps()

    async def _embed(self) -> Cosine:
        return Cosine(await self._vectors.of_all(self._texts))

    @override
    async def to(self, text: str, ahead: Ahead) -> list[float]:
        # The model is not asked about a blank text.
        counts = (self._mishaps, ahead.mishaps) if text.strip() else ()
        return await watched(partial(self._compare, text, ahead), *counts)

    async def _compare(self, text: str, ahead: Ahead) -> list[float]:
        similarity = await self._similarity.get(self._embed)
        return similarity.to(await self._vectors.of(text, ahead))

    @override
    def details(self) -> dict[str, Any]:
        return {"embeddings": model_of(self._embeddings)}


def nearness(by: WordsName | Embeddings, texts: Sequence[str]) -> Nearness:
    """How near texts are, in the way that a user chose."""
    return ByVectors(by, texts) if isinstance(by, Embeddings) else ByWords(by, texts)


_NAMES = ("model", "model_name", "model_id", "repo_id", "deployment", "dimensions", "size", "k")


def model_of(part: object) -> dict[str, str | int]:
    """What is known of a part that is not ours: its class, and the names and numbers that say which model it has."""
    named = {name: value for name in _NAMES if isinstance(value := getattr(part, name, None), str | int)}
    return {"kind": f"{type(part).__module__}.{type(part).__qualname__}", **named}
