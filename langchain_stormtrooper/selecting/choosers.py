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
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors.base import BaseExampleSelector
from typing_extensions import override

from langchain_stormtrooper.errors import RequestFailedError
from langchain_stormtrooper.examples import Example, alternate, read_example
from langchain_stormtrooper.mishaps import Mishaps, watched
from langchain_stormtrooper.selecting.nearness import Nearness, WordsName, model_of, nearness
from langchain_stormtrooper.selecting.similarity import as_compared, nearest
from langchain_stormtrooper.selecting.vectors import Ahead


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
    async def achoose(self, text: str, ahead: Ahead, among: Collection[str] | None = None) -> Sequence[Example]:
        """The examples for a text, the most important first.

        Args:
            text: The text.
            ahead: What texts the same call is going to ask for.
            among: The labels that examples may have; None for all.

        Raises:
            RequestFailedError: There are none to be had for this text.
            ConfigurationError: Nor for any text so far.
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
    async def achoose(self, text: str, ahead: Ahead, among: Collection[str] | None = None) -> Sequence[Example]:
        if (compared := as_compared(text)) not in self._known and among is None:
            return self.shown
        others = (e for e, own in zip(self._examples, self._texts, strict=True) if own != compared)
        return self._choose([e for e in others if among is None or e.label in among])

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


class Nearest(_PerRow):
    """The nearest examples.

    Args:
        by: What is near.
        examples: The examples.
        labels: The labels.
        n: How many to take at most.
        per_label: How many of one label, as long as there are others.
    """

    def __init__(
        self,
        by: WordsName | Embeddings,
        examples: Sequence[Example],
        labels: Sequence[str],
        n: int,
        per_label: int,
    ) -> None:
        self._by = by
        self._examples = examples
        self.looks_ahead = isinstance(by, Embeddings)
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
    def _nearness(self) -> Nearness:
        return nearness(self._by, self._texts)

    @cached_property
    def _labels(self) -> list[str]:
        return [example.label for example in self._pool]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, text in enumerate(self._texts):
            places.setdefault(as_compared(text), []).append(place)
        return places

    @override
    async def achoose(self, text: str, ahead: Ahead, among: Collection[str] | None = None) -> Sequence[Example]:
        similarities = await self._nearness.to(text, ahead)
        left_out = list(self._places.get(as_compared(text), ()))
        if among is not None:
            left_out += [place for place, label in enumerate(self._labels) if label not in among]
        return [self._pool[n] for n in nearest(similarities, self._labels, self._n, self._per_label, without=left_out)]

    @override
    def details(self) -> dict[str, Any]:
        numbers = {"examples": self._n, "examples_per_label": self._per_label}
        by = self._nearness
        return {"select": by.name, **numbers, "pool": pool_id(self._examples), **by.details()}


class Selected(_PerRow):
    """The examples that a LangChain example selector names, the best first, as `{"text": …, "label": …}`.

    Args:
        selector: Is asked with `{"text": …}`.
        labels: The labels.
        n: How many to take at most; None for all that it names.
        option: The one of the labels that None stands for; None if nothing does.
    """

    def __init__(
        self, selector: BaseExampleSelector, labels: Sequence[str], n: int | None, option: str | None = None
    ) -> None:
        self._selector = selector
        self._labels = labels
        self._n = n
        self._option = option
        self._mishaps = Mishaps()

    @override
    async def achoose(self, text: str, ahead: Ahead, among: Collection[str] | None = None) -> Sequence[Example]:
        named = await watched(partial(self._ask, text), self._mishaps, ahead.mishaps)
        compared = as_compared(text)
        others = [e for e in named if as_compared(e.text) != compared and (among is None or e.label in among)]
        return others[: self._n]

    async def _ask(self, text: str) -> list[Example]:
        """What the selector names, whatever the labels.

        Raises:
            RequestFailedError: It raises, or names what is no example of the task. Both may come of the text.
        """
        name = type(self._selector).__name__
        # It may raise, or return, anything.
        found: Any = None
        raised: str | None = None
        try:
            found = await self._selector.aselect_examples({"text": text})
        except Exception as error:  # noqa: BLE001  # may quote a text
            raised = type(error).__name__
        if raised is not None:
            raise RequestFailedError(f"{name} found no examples ({raised}).")
        if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
            raise RequestFailedError(
                f"{name} must return a list of dicts with the texts 'text' and 'label', not {type(found).__name__}."
            )
        examples: list[Example] = []
        for item in found:
            example = read_example(item, self._labels, self._option) if isinstance(item, Mapping) else None
            if example is None:
                raise RequestFailedError(
                    f"{name} must name examples as dicts with the texts 'text' and 'label'; None as a label needs "
                    "`out_of_scope=`."
                )
            if example.label not in self._labels:
                # Not quoted: it may be a text that changed places with its label.
                raise RequestFailedError(
                    f"{name} names an example with a label that is not among the labels: add it to `labels=`, or "
                    "correct the example."
                )
            examples.append(example)
        return examples

    @override
    def details(self) -> dict[str, Any]:
        return {"select": model_of(self._selector), "examples": self._n}


class Among(_PerRow):
    """What another chooser chooses among the examples of some labels.

    Args:
        chooser: The other chooser.
        labels: The labels.
    """

    def __init__(self, chooser: ExampleChooser, labels: Collection[str]) -> None:
        self._chooser = chooser
        self._among = frozenset(labels)
        self.looks_ahead = chooser.looks_ahead

    @override
    async def achoose(self, text: str, ahead: Ahead, among: Collection[str] | None = None) -> Sequence[Example]:
        return await self._chooser.achoose(text, ahead, self._among if among is None else self._among & set(among))

    @override
    def in_order(self, examples: Sequence[Example]) -> list[Example]:
        return self._chooser.in_order(examples)

    @override
    def sizes(self, examples: Sequence[Example]) -> list[int]:
        return self._chooser.sizes(examples)

    @override
    def details(self) -> dict[str, Any]:
        return self._chooser.details()


def pool_id(examples: Sequence[Example]) -> str:
    """What tells one list of examples from another, as hexadecimal digits."""
    content = json.dumps([[example.text, example.label] for example in examples], ensure_ascii=True)
    return hashlib.sha256(content.encode("ascii")).hexdigest()
