"""`ExampleChooser`: which examples stand in the prompt of a row, one class for each way of choosing.

A chooser names examples by importance, and says which of the orders and numbers that leave some out make a good prompt;
how many there is room for, `answering.choosing` finds out. The text that is classified is never among its own
examples, and the same text gets the same examples, whatever else is classified.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors.base import BaseExampleSelector
from typing_extensions import override

from langchain_stormtrooper.errors import ConfigurationError, LabelError, RequestFailedError
from langchain_stormtrooper.examples import Example, alternate
from langchain_stormtrooper.selecting.similarity import Bm25, Cosine, Fuzzy, as_compared, nearest
from langchain_stormtrooper.selecting.vectors import Ahead, Vectors
from langchain_stormtrooper.tasks import Once


class ExampleChooser(ABC):
    """Chooses the examples of each row.

    Attributes:
        shown: The examples that stand for those of any row where no text is known.
    """

    shown: Sequence[Example]

    looks_ahead = False
    """Whether it has a use for texts that are still to come."""

    is_fixed = False
    """Whether all rows have the same ones, but for a row that is an example itself."""

    @abstractmethod
    async def achoose(self, text: str, ahead: Ahead) -> Sequence[Example]:
        """The examples for a text, the most important first.

        Args:
            text: The text.
            ahead: What texts the same call is going to ask for.

        Raises:
            RequestFailedError: There are none to be had for this text.
        """

    @abstractmethod
    def in_order(self, examples: Sequence[Example]) -> list[Example]:
        """Examples as they stand in the prompt, from as they were chosen."""

    @abstractmethod
    def sizes(self, examples: Sequence[Example]) -> list[int]:
        """How many of the most important ones make a good prompt, ascending from 0 to all."""

    def details(self) -> dict[str, Any]:
        """What the choice depends on beside what is `shown`, as plain data that tells no text."""
        return {}


class Balanced(ExampleChooser):
    """The same examples for all rows, in rounds of one per label, so that servers compute them once.

    Args:
        examples: The examples.
        labels: The labels.
        n: How many to take at most; None for all.
    """

    is_fixed = True

    def __init__(self, examples: Sequence[Example], labels: Sequence[str], n: int | None) -> None:
        self._examples = examples
        self._labels = labels
        self._n = n
        self.shown = self._choose(examples)

    def _choose(self, examples: Sequence[Example]) -> list[Example]:
        return alternate(examples, self._labels)[: self._n]

    @cached_property
    def _texts(self) -> list[str]:
        return [as_compared(example.text) for example in self._examples]

    @cached_property
    def _known(self) -> set[str]:
        return set(self._texts)

    @override
    async def achoose(self, text: str, ahead: Ahead) -> Sequence[Example]:
        if (compared := as_compared(text)) not in self._known:
            return self.shown
        return self._choose([e for e, own in zip(self._examples, self._texts, strict=True) if own != compared])

    @override
    def in_order(self, examples: Sequence[Example]) -> list[Example]:
        return list(examples)

    @override
    def sizes(self, examples: Sequence[Example]) -> list[int]:
        # Whole rounds, so that every label keeps as many as the others, as far as there are so many of it.
        seen: Counter[str] = Counter()
        ends: dict[int, int] = {}
        for number, example in enumerate(examples, 1):
            seen[example.label] += 1
            ends[seen[example.label]] = number
        return [0, *sorted(ends.values())]

    @override
    def details(self) -> dict[str, Any]:
        # What is in the prompt is known by it.
        return {} if self._n is None else {"select": "balanced", "examples": self._n, "pool": pool_id(self._examples)}


class _PerRow(ExampleChooser):
    """What choosers have in common that choose for each row: the nearest stands last, and goes last."""

    shown: Sequence[Example] = ()

    @override
    def in_order(self, examples: Sequence[Example]) -> list[Example]:
        return list(reversed(examples))

    @override
    def sizes(self, examples: Sequence[Example]) -> list[int]:
        return list(range(len(examples) + 1))


class _Nearest(_PerRow):
    """The nearest examples.

    Args:
        name: How `select` calls it.
        examples: The examples.
        labels: The labels.
        n: How many to take at most.
        per_label: How many of one label, as long as there are others.
    """

    def __init__(self, name: str, examples: Sequence[Example], labels: Sequence[str], n: int, per_label: int) -> None:
        self._name = name
        self._examples = examples
        self._n = n
        self._per_label = per_label
        self.shown = alternate(examples, labels)[:n]

    @cached_property
    def _pool(self) -> list[Example]:
        """Each example once: a second one would tell nothing."""
        pool: dict[tuple[str, str], Example] = {}
        for example in self._examples:
            pool.setdefault((as_compared(example.text), example.label), example)
        return list(pool.values())

    @cached_property
    def _texts(self) -> list[str]:
        return [example.text for example in self._pool]

    @cached_property
    def _labels(self) -> list[str]:
        return [example.label for example in self._pool]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, text in enumerate(self._texts):
            places.setdefault(as_compared(text), []).append(place)
        return places

    @abstractmethod
    async def _similarities(self, text: str, ahead: Ahead) -> list[float]:
        """How near each example of the pool is."""

    @override
    async def achoose(self, text: str, ahead: Ahead) -> Sequence[Example]:
        similarities = await self._similarities(text, ahead)
        itself = self._places.get(as_compared(text), ())
        return [self._pool[n] for n in nearest(similarities, self._labels, self._n, self._per_label, without=itself)]

    @override
    def details(self) -> dict[str, Any]:
        numbers = {"examples": self._n, "examples_per_label": self._per_label}
        return {"select": self._name, **numbers, "pool": pool_id(self._examples)}


class NearestByWords(_Nearest):
    """The nearest examples by their words: "fuzzy" or "bm25"."""

    @cached_property
    def _similarity(self) -> Fuzzy | Bm25:
        return Bm25(self._texts) if self._name == "bm25" else Fuzzy(self._texts)

    @override
    async def _similarities(self, text: str, ahead: Ahead) -> list[float]:
        return self._similarity.to(text)


class NearestByVectors(_Nearest):
    """The nearest examples by the vectors of an embedding model.

    Args:
        embeddings: The model.
        examples: The examples, embedded at the first row.
        labels: The labels.
        n: How many to take at most.
        per_label: How many of one label, as long as there are others.
    """

    looks_ahead = True

    def __init__(
        self, embeddings: Embeddings, examples: Sequence[Example], labels: Sequence[str], n: int, per_label: int
    ) -> None:
        super().__init__("embeddings", examples, labels, n, per_label)
        self._embeddings = embeddings
        self._vectors = Vectors(embeddings)
        self._similarity: Once[Cosine] = Once()

    async def _embed_pool(self) -> Cosine:
        return Cosine(await self._vectors.of_all(self._texts))

    @override
    async def _similarities(self, text: str, ahead: Ahead) -> list[float]:
        similarity = await self._similarity.get(self._embed_pool)
        return similarity.to(await self._vectors.of(text, ahead))

    @override
    def details(self) -> dict[str, Any]:
        return {**super().details(), "embeddings": model_of(self._embeddings)}


class Selected(_PerRow):
    """The examples that a LangChain example selector names, the best first, as `{"text": …, "label": …}`.

    Args:
        selector: Is asked with `{"text": …}`.
        labels: The labels.
        n: How many to take at most; None for all that it names.
    """

    def __init__(self, selector: BaseExampleSelector, labels: Sequence[str], n: int | None) -> None:
        self._selector = selector
        self._labels = labels
        self._n = n

    @override
    async def achoose(self, text: str, ahead: Ahead) -> Sequence[Example]:
        name = type(self._selector).__name__
        try:
            found = await self._selector.aselect_examples({"text": text})
        except Exception as error:  # noqa: BLE001  # may raise anything, and may quote a text
            raise RequestFailedError(f"{name} found no examples ({type(error).__name__}).") from None
        examples: list[Example] = []
        example: Any
        for example in found:
            own, label = (example.get("text"), example.get("label")) if isinstance(example, Mapping) else (None, None)
            if not isinstance(own, str) or not isinstance(label, str):
                raise ConfigurationError(f"{name} must name examples as dicts with the texts 'text' and 'label'.")
            if label not in self._labels:
                raise LabelError(f"{name} names an example with the label {label!r}, which is not among the labels.")
            if as_compared(own) != as_compared(text):
                examples.append(Example(text=own, label=label))
        return examples[: self._n]

    @override
    def details(self) -> dict[str, Any]:
        return {"select": model_of(self._selector), "examples": self._n}


def pool_id(examples: Sequence[Example]) -> str:
    """What tells one list of examples from another, as hexadecimal digits."""
    content = json.dumps([[example.text, example.label] for example in examples], ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()


_NAMES = ("model", "model_name", "model_id", "repo_id", "deployment", "dimensions", "size", "k")


def model_of(part: object) -> dict[str, str | int]:
    """What is known of a part that is not ours: its class, and the names and numbers that say which model it has."""
    named = {name: value for name in _NAMES if isinstance(value := getattr(part, name, None), str | int)}
    return {"kind": f"{type(part).__module__}.{type(part).__qualname__}", **named}
