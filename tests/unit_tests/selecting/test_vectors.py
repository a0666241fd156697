"""Vectors of texts, many in one call, each row on its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from typing_extensions import override

from langchain_stormtrooper.errors import RequestFailedError
from langchain_stormtrooper.selecting.vectors import AT_ONCE, Ahead, Vectors

REAL = DeterministicFakeEmbedding(size=4)


class Counting(Embeddings):
    """Notes its calls, and fails where a text says so."""

    def __init__(self, delay: float = 0.0, spoilt: Any = None) -> None:
        self.calls: list[list[str]] = []
        self.delay = delay
        self.spoilt = spoilt
        self.running = self.peak = 0

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if any("FAIL" in text for text in texts):
            raise RuntimeError(f"no vector for {texts}")
        return REAL.embed_documents(texts) if self.spoilt is None else self.spoilt(REAL.embed_documents(texts))

    @override
    def embed_query(self, text: str) -> list[float]:
        raise AssertionError("rows are texts of the same kind as examples")

    @override
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(self.delay)
            return self.embed_documents(texts)
        finally:
            self.running -= 1


async def ask(vectors: Vectors, texts: list[str], at_once: int, *, announced: bool) -> list[Any]:
    """Each text's vector or error, asked for by so many workers in the order of the texts."""
    ahead, answers = Ahead(), [None] * len(texts)
    if announced:
        ahead.announce(iter(texts))
    rows = iter(enumerate(texts))

    async def worker() -> None:
        for row, text in rows:
            try:
                answers[row] = await vectors.of(text, ahead)  # type: ignore[call-overload]  # filled as they come
            except RequestFailedError as error:
                answers[row] = error  # type: ignore[call-overload]

    await asyncio.gather(*(worker() for _ in range(at_once)))
    assert not ahead.ready
    return answers


@given(
    st.lists(st.sampled_from(["one", "two", "three", " ", "FAIL", "four FAIL", *map(str, range(20))]), max_size=40),
    st.integers(1, 9),
    st.booleans(),
)
def test_each_row_gets_its_own_vector(texts: list[str], at_once: int, announced: bool) -> None:
    """Whatever goes together in a call, every text has the vector it has alone; a bad one fails alone."""
    if announced:
        texts = list(dict.fromkeys(texts))
    answers = asyncio.run(ask(Vectors(Counting()), texts, at_once, announced=announced))
    for text, answer in zip(texts, answers, strict=True):
        if "FAIL" in text:
            assert str(answer) == "Counting made no vector of the text (RuntimeError)."
        else:
            assert list(answer) == (REAL.embed_query(text) if text.strip() else [])


def test_announced_texts_are_embedded_at_once() -> None:
    """However few rows are worked on at once, as many texts go into a call as it may have, in order and each once."""
    embeddings, texts = Counting(), [f"text {number}" for number in range(2 * AT_ONCE + 88)]
    asyncio.run(ask(Vectors(embeddings), texts, 2, announced=True))
    assert [len(call) for call in embeddings.calls] == [AT_ONCE, AT_ONCE, 88]
    assert [text for call in embeddings.calls for text in call] == texts


def test_rows_that_nobody_announced_go_together_too() -> None:
    """Rows that ask in the same moment, or while a call is under way, share the next call; never two run at once."""
    embeddings = Counting(delay=0.02)
    vectors = Vectors(embeddings)

    async def late() -> None:
        await asyncio.sleep(0.01)
        await asyncio.gather(*(vectors.of(f"late {n}", Ahead()) for n in range(20)))

    async def run() -> None:
        await asyncio.gather(late(), *(vectors.of(f"early {n % 7}", Ahead()) for n in range(20)))

    asyncio.run(run())
    assert [len(call) for call in embeddings.calls] == [7, 20]
    assert embeddings.peak == 1


def test_announcements_are_read_no_earlier_than_needed() -> None:
    """Of any number of announced texts, no more are read than fit into the calls that are made."""
    read: list[int] = []

    async def run() -> None:
        ahead = Ahead()
        ahead.announce(f"text {number}" for number in range(10**9) if read.append(number) is None)  # type: ignore[func-returns-value]
        vectors = Vectors(Counting())
        for number in range(300):
            await vectors.of(f"text {number}", ahead)
        assert len(ahead.ready) <= AT_ONCE

    asyncio.run(run())
    assert len(read) <= 2 * AT_ONCE + 1


def test_a_cancelled_row_takes_nothing_from_others() -> None:
    """Where two rows wait for one text and one of them is cancelled, the other gets the vector."""

    async def run() -> None:
        vectors = Vectors(Counting(delay=0.02))
        first, second = (asyncio.ensure_future(vectors.of("same", Ahead())) for _ in range(2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert list(await second) == REAL.embed_query("same")
        assert first.cancelled()

    asyncio.run(run())


def test_event_loops_come_and_go() -> None:
    """The same vectors serve one event loop after another."""
    vectors = Vectors(Counting())
    for _ in range(2):
        assert list(asyncio.run(vectors.of("text", Ahead()))) == REAL.embed_query("text")


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda found: found[1:],
        lambda found: [[] for _ in found],
        lambda found: [[float("nan")] for _ in found],
        lambda found: None,
        lambda found: [None for _ in found],
        lambda found: ["abc"],
    ],
)
def test_what_is_no_vector_is_refused(spoilt: Any) -> None:
    """A model that returns too little, or what is no number, fails the row, in a sentence without the text."""
    with pytest.raises(RequestFailedError, match="did not return a vector of numbers") as caught:
        asyncio.run(Vectors(Counting(spoilt=spoilt)).of("confidential", Ahead()))
    assert "confidential" not in str(caught.value)
