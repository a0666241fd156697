"""`Vectors`: texts as vectors, from any LangChain `Embeddings`, asked for many texts at once.

Rows are worked on one by one, and each asks for its own text. Those that ask while the model is busy go together with
the next call, and the texts of rows that are still to come (`Ahead`) fill it up. A text's vector is its own, whatever
else was in the call, but for the last digits that some models round otherwise.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from langchain_core.embeddings import Embeddings

from langchain_stormtrooper.errors import RequestFailedError
from langchain_stormtrooper.mishaps import Mishaps

AT_ONCE = 256
"""Texts in one call at most."""

_Future: TypeAlias = asyncio.Future[Sequence[float]]


class Ahead:
    """The texts that rows of one call are going to ask for, and vectors that are there before they are asked for.

    Attributes:
        mishaps: What the model or selector of this call failed for: what worked yesterday may be broken today.
    """

    def __init__(self) -> None:
        self.mishaps = Mishaps()
        self.ready: dict[str, _Future] = {}
        self._announced: deque[Iterator[str]] = deque()
        self._passed: set[str] = set()

    def announce(self, texts: Iterable[str]) -> None:
        """Say what will be asked for, in this order; it is read no earlier than it is needed."""
        self._announced.append(iter(texts))

    def pass_over(self, text: str) -> None:
        """Note that a text was asked for before its announcement was read."""
        if self._announced:
            self._passed.add(text)

    def take(self, number: int) -> list[str]:
        """So many texts of those announced that nobody has asked for yet, or less."""
        taken: dict[str, None] = {}
        while self._announced and len(taken) < number:
            text = next(self._announced[0], None)
            if text is None:
                self._announced.popleft()
            elif text in self._passed:
                self._passed.discard(text)
            elif text not in self.ready and text.strip():
                taken[text] = None
        return list(taken)

    def stop(self) -> None:
        """Look ahead no more."""
        self._announced.clear()
        self._passed.clear()


class _Gathering:
    """What waits for the next call, and what is in the present one, on one event loop."""

    def __init__(self) -> None:
        self.waiting: dict[str, _Future] = {}
        self.asked: dict[str, _Future] = {}
        self.aheads: dict[Ahead, None] = {}
        self.task: asyncio.Task[None] | None = None


class Vectors:
    """The vectors of texts.

    Args:
        embeddings: What makes them.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Gathering] = weakref.WeakKeyDictionary()

    async def of(self, text: str, ahead: Ahead) -> Sequence[float]:
        """The vector of a text; an empty one for a blank text, which some models refuse.

        Args:
            text: The text.
            ahead: What the same call is going to ask for.

        Raises:
            RequestFailedError: The model has none.
        """
        if not text.strip():
            return ()
        future = ahead.ready.pop(text, None)
        if future is None:
            ahead.pass_over(text)
            loop = asyncio.get_running_loop()
            here = self._loops.setdefault(loop, _Gathering())
            future = here.waiting.get(text) or here.asked.get(text)
            if future is None:
                future = here.waiting[text] = loop.create_future()
                here.aheads[ahead] = None
                if here.task is None:
                    here.task = loop.create_task(self._serve(here))
        # Shielded: others may wait for the same text.
        return await asyncio.shield(future)

    async def of_all(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """The vectors of texts, in as few calls as may be; empty ones for blank texts.

        Raises:
            RequestFailedError: The model fails.
        """
        wanted = [text for text in texts if text.strip()]
        vectors: list[Sequence[float]] = []
        for start in range(0, len(wanted), AT_ONCE):
            vectors += await self._embed(wanted[start : start + AT_ONCE])
        there = iter(vectors)
        return [next(there) if text.strip() else () for text in texts]

    async def _serve(self, here: _Gathering) -> None:
        """One call after another, as long as anything waits."""
        try:
            while here.waiting:
                here.asked = dict(islice(here.waiting.items(), AT_ONCE))
                for text in here.asked:
                    del here.waiting[text]
                aheads, here.aheads = list(here.aheads), {}
                await self._answer(here.asked, aheads)
        finally:
            here.task = None
            for future in (*here.asked.values(), *here.waiting.values()):
                future.cancel()
            here.asked, here.waiting = {}, {}

    async def _answer(self, asked: Mapping[str, _Future], aheads: Sequence[Ahead] = ()) -> None:
        """Embed what is asked for, and what is going to be asked for as far as there is room."""
        early: list[tuple[Ahead, str, _Future]] = []
        for ahead in aheads:
            for text in ahead.take(AT_ONCE - len(asked) - len(early)):
                future = ahead.ready[text] = asyncio.get_running_loop().create_future()
                early.append((ahead, text, future))
        wanted = list(dict.fromkeys([*asked, *(text for _, text, _ in early)]))
        try:
            vectors = dict(zip(wanted, await self._embed(wanted), strict=True))
        except RequestFailedError as error:
            # One text may have spoilt it for all, so each is asked for alone; of those that were early, only the ones
            # that somebody waits for by now.
            for ahead in aheads:
                ahead.stop()
            awaited = {**asked, **{text: future for ahead, text, future in early if text not in ahead.ready}}
            for ahead, text, _ in early:
                ahead.ready.pop(text, None)
            if len(wanted) > 1:
                for text, future in awaited.items():
                    await self._answer({text: future})
                return
            for future in awaited.values():
                future.set_exception(error)
                future.exception()  # a row that was cancelled does not look at it
            return
        for text, future in (*asked.items(), *((text, future) for _, text, future in early)):
            future.set_result(vectors[text])

    async def _embed(self, texts: list[str]) -> list[Sequence[float]]:
        try:
            # For both sides the same call: examples and rows are texts of the same kind.
            vectors = await self._embeddings.aembed_documents(texts)
        except Exception as error:  # noqa: BLE001  # a foreign model may raise anything, and may quote a text
            raise RequestFailedError(
                f"{type(self._embeddings).__name__} made no vector of the text ({type(error).__name__})."
            ) from None
        if not _are_vectors(vectors, len(texts)):
            raise RequestFailedError(
                f"{type(self._embeddings).__name__} did not return a vector of numbers for a text."
            )
        return list(vectors)


def _are_vectors(given: Any, number: int) -> bool:
    """Whether a model returned so many vectors of numbers; a foreign one may return anything."""
    try:
        return len(given) == number and all(len(vector) and all(map(math.isfinite, vector)) for vector in given)
    except (TypeError, ValueError, OverflowError):
        return False
