"""Several servers: who gets the work, what becomes of work whose server goes, and how a server comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper import servers
from langchain_stormtrooper.agreement import Agreement, Limit
from langchain_stormtrooper.balanced import Work
from langchain_stormtrooper.balancing import _MOST_MOVES, Balancer
from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    OverlongInputError,
    RequestFailedError,
    ServerUnreachableError,
    StormtrooperError,
)


@dataclass(eq=False)
class Fake:
    """A server without a socket.

    Attributes:
        address: Its address.
        there: Its places.
        others: Places that others have taken.
        up: Set while it is there.
        told: What it tells.
        fails: What its next pieces of work raise.
        in_work: Pieces of work at this moment.
    """

    address: str
    there: float = 4
    others: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[str, object] = field(default_factory=lambda: {"the model": "m"})
    fails: list[StormtrooperError] = field(default_factory=list)
    in_work: int = 0
    most: int = 0
    done: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    def places(self) -> tuple[float, int]:
        """Its places."""
        return self.there, self.in_work + self.others

    async def tell(self) -> Mapping[str, object]:
        """What it tells."""
        self.asked["tell"] += 1
        if not self.up.is_set():
            raise ServerUnreachableError("gone", problem="refused the connection")
        servers._reached.add(self.address)
        return self.told

    def forget(self) -> None:
        """Count."""
        self.asked["forget"] += 1

    def trouble(self) -> str:
        """Why it has not told anything yet."""
        return "does not answer in time"

    async def is_healthy(self) -> bool:
        """Whether it is there."""
        self.asked["health"] += 1
        await asyncio.sleep(0)
        return self.up.is_set()

    async def wait_until_back(self) -> None:
        """Wait for it."""
        await self.up.wait()

    async def work(self, seconds: float = 0.0) -> str:
        """A piece of work."""
        self.in_work += 1
        self.most = max(self.most, self.in_work)
        try:
            await asyncio.sleep(seconds)
            if not self.up.is_set():
                raise ServerUnreachableError("gone", problem="refused the connection")
            if self.fails:
                raise self.fails.pop(0)
            self.done += 1
            return self.address
        finally:
            self.in_work -= 1


@pytest.fixture(autouse=True)
def _nothing_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server has answered yet."""
    monkeypatch.setattr(servers, "_reached", set())


def fakes(*places: float, down: Sequence[int] = ()) -> list[Fake]:
    """Servers named a, b, ...; some of them down."""
    made = [Fake(f"http://{name}", there) for name, there in zip("abcdef", places, strict=False)]
    for number, fake in enumerate(made):
        if number not in down:
            fake.up.set()
    return made


def balancer(given: Sequence[Fake], *, max_downtime: float = 5.0) -> tuple[Balancer[Fake], list[str]]:
    """A balancer over servers, and what it warns of."""
    warned: list[str] = []
    made = Balancer(given, Agreement(), max_downtime=max_downtime, hint="start one.", warn=warned.append)
    return made, warned


async def assembled(given: Sequence[Fake], **settings: float) -> Balancer[Fake]:
    """A balancer whose servers were looked at."""
    made, _ = balancer(given, **settings)
    await made.assemble()
    return made


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1))
def test_the_choice(states: list[tuple[int, int, int, bool]]) -> None:
    """Work goes to the server with the most free places, the first of equals, and never above a server's own places."""
    made: list[Any] = [
        Fake(f"http://{number}", there, others, asyncio.Event()) for number, (there, others, _, _) in enumerate(states)
    ]
    balancing, _ = balancer(made)
    for member, (_, _, ours, is_in) in zip(balancing._members, states, strict=True):
        member.in_work, member.is_in = ours, is_in
    free = [
        (there - max(others, ours), -number)
        for number, (there, others, ours, is_in) in enumerate(states)
        if is_in and ours < there
    ]
    chosen = balancing._places.best(Work())
    assert (None if chosen is None else balancing._members.index(chosen)) == (-max(free)[1] if free else None)


async def test_work_is_shared_in_proportion_to_places() -> None:
    """All places of all servers are used, none twice, and a server with three times as many does about as much more."""
    small, large = fakes(2, 6)
    balancing = await assembled([small, large])
    answers = await asyncio.gather(*(balancing.run(lambda server: server.work(0.002)) for _ in range(200)))
    assert (small.most, large.most) == (2, 6)
    assert Counter(answers) == {"http://a": small.done, "http://b": large.done}
    assert 2 < large.done / small.done < 4


async def test_the_first_place_that_is_free_is_taken() -> None:
    """Work waits at no server in particular: one that is slow gets no more while another goes on."""
    slow, quick = fakes(2, 2)
    balancing = await assembled([slow, quick])
    done: list[str] = []

    async def row() -> None:
        done.append(await balancing.run(lambda server: server.work(0.5 if server is slow else 0.005)))

    await asyncio.gather(*(row() for _ in range(30)))
    assert slow.done == 2
    assert quick.done == 28


async def test_those_who_wait_are_served_in_their_order() -> None:
    """A place that comes free goes to who waits longest, not to who comes by."""
    (one,) = fakes(1)
    balancing = await assembled([one])
    order: list[int] = []

    async def row(number: int) -> None:
        async def work(server: Fake) -> str:
            order.append(number)
            return await server.work(0.001)

        await balancing.run(work)

    await asyncio.gather(*(row(number) for number in range(20)))
    assert order == list(range(20))


@pytest.mark.parametrize("ends_badly", [False, True])
async def test_work_that_outlives_its_server_is_done_again(ends_badly: bool) -> None:
    """What was begun on a server that went away and came back meanwhile is not taken from who is there now."""
    one, two = fakes(2, 1)
    balancing = await assembled([one, two])
    one_is_back = asyncio.Event()
    begun: list[str] = []

    async def long(server: Fake) -> str:
        begun.append(server.address)
        if len(begun) == 1:
            await one_is_back.wait()
            if ends_badly:
                raise ConfigurationError("The server takes no such setting.")
            return "from another"
        return await server.work()

    row = asyncio.create_task(balancing.run(long))
    await asyncio.sleep(0)
    one.up.clear()
    assert await balancing.run(lambda server: server.work()) == two.address
    one.up.set()
    while not balancing._members[0].is_in:
        assert await balancing.run(lambda server: server.work()) in (one.address, two.address)
    one_is_back.set()
    assert await row in (one.address, two.address)
    assert begun[0] == one.address
    assert len(begun) == 2


async def test_a_server_that_goes_and_comes_back() -> None:
    """Its work is done by the other at once, it gets none while it is gone, and its share again when it is back."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])

    async def rows(count: int) -> None:
        await asyncio.gather(*(balancing.run(lambda server: server.work(0.001)) for _ in range(count)))

    await rows(20)
    second.up.clear()
    before = second.done
    await rows(40)
    assert second.done == before
    assert first.done + second.done == 60
    batch = asyncio.create_task(rows(200))
    await asyncio.sleep(0.005)
    second.up.set()
    await batch
    assert second.done > before + 20
    # What it told was asked anew: it may have become another.
    assert second.asked["forget"] >= 1
    assert first.asked["tell"] == 1


async def test_nothing_goes_on_when_nobody_works() -> None:
    """The last piece of work ends the watch of a server that is gone; the next begins it again."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])
    second.up.clear()
    before = asyncio.all_tasks()
    await asyncio.gather(*(balancing.run(lambda server: server.work()) for _ in range(8)))
    assert asyncio.all_tasks() == before
    second.up.set()
    await asyncio.gather(*(balancing.run(lambda server: server.work(0.01)) for _ in range(16)))
    assert second.done > 0
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("was_there", [True, False])
async def test_all_gone(was_there: bool) -> None:
    """Servers that once answered are waited for as long as was said, others not at all; the error names all."""
    given = fakes(4, 4, down=() if was_there else (0, 1))
    balancing, _ = balancer(given, max_downtime=0.2)
    started = time.monotonic()
    if was_there:
        await balancing.assemble()
        for fake in given:
            fake.up.clear()
        outcomes = await asyncio.gather(
            *(balancing.run(lambda server: server.work()) for _ in range(12)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {ServerUnreachableError}
        error = outcomes[0]
        assert time.monotonic() - started >= 0.2
    else:
        with pytest.raises(ServerUnreachableError) as caught:
            await balancing.assemble()
        error = caught.value
    assert time.monotonic() - started < 2
    assert str(error) == (
        "None of the servers can be used (http://a refused the connection; http://b refused the connection): start one."
    )


async def test_servers_that_were_there_before_are_waited_for_by_the_work() -> None:
    """Where all are away that have answered before, looking at them raises nothing, and work goes on with the first."""
    given = fakes(4, 4, down=(0, 1))
    servers._reached.add(given[1].address)
    balancing, warned = balancer(given)
    await balancing.assemble()
    rows = asyncio.gather(*(balancing.run(lambda server: server.work()) for _ in range(3)))
    await asyncio.sleep(0.01)
    assert not rows.done()
    given[0].up.set()
    assert await rows == ["http://a"] * 3
    assert warned == []


async def test_a_server_that_goes_twice_is_told_of_once() -> None:
    """The same sentence about the same server is not repeated, however often it is found away."""
    first, second = fakes(4, 4)
    balancing, warned = balancer([first, second])
    for _ in range(2):
        second.up.clear()
        await balancing.assemble()
        assert await balancing.run(lambda server: server.work()) == "http://a"
        second.up.set()
        await balancing.assemble()
    assert warned == ["The server at http://b is left out for now: it refused the connection."]


async def test_the_first_to_return_is_enough() -> None:
    """While all are gone work waits, and goes on with the first that comes back."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])
    for fake in (first, second):
        fake.up.clear()
    rows = asyncio.gather(*(balancing.run(lambda server: server.work()) for _ in range(12)))
    await asyncio.sleep(0.05)
    assert not rows.done()
    second.up.set()
    assert await rows == ["http://b"] * 12


async def test_one_that_is_not_there_at_the_start() -> None:
    """It is left out with one warning, and gets work once it comes."""
    first, late = fakes(4, 4, down=[1])
    balancing, warned = balancer([first, late])
    await balancing.assemble()
    assert await balancing.run(lambda server: server.work()) == "http://a"
    late.up.set()
    answers = await asyncio.gather(*(balancing.run(lambda server: server.work(0.005)) for _ in range(30)))
    assert set(answers) == {"http://a", "http://b"}
    assert warned == ["The server at http://b is left out for now: it refused the connection."]


async def test_one_that_hangs_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing holds the others up for a moment only."""
    monkeypatch.setattr("langchain_stormtrooper.balancing._LATE", 0.05)
    first, second = fakes(4, 4)

    async def hang() -> Mapping[str, object]:
        await asyncio.sleep(60)
        return {}

    second.tell = hang  # type: ignore[method-assign]
    balancing, warned = balancer([first, second])
    await balancing.assemble()
    assert await balancing.run(lambda server: server.work()) == "http://a"
    assert warned == ["The server at http://b is left out for now: it does not answer in time."]


async def test_servers_that_are_not_alike() -> None:
    """Another model at the start is an error that names both, and no more once it was mended."""
    first, second = fakes(4, 4)
    second.told = {"the model": "n"}
    balancing, _ = balancer([first, second])
    with pytest.raises(ConfigurationError, match=r"model is '.' at http://. and '.' at http://") as caught:
        await balancing.assemble()
    assert all(fake.address in str(caught.value) for fake in (first, second))
    first.told = second.told
    await balancing.assemble()
    assert await balancing.run(lambda server: server.work()) == "http://a"


async def test_one_that_comes_back_as_another() -> None:
    """It stays out, with one warning, and spoils nothing for the others."""
    first, second = fakes(4, 4)
    balancing, warned = balancer([first, second])
    await balancing.assemble()
    second.fails = [ServerUnreachableError("gone", problem="dropped the connection")]
    second.told = {"the model": "n"}
    answers = await asyncio.gather(*(balancing.run(lambda server: server.work(0.002)) for _ in range(40)))
    assert set(answers[-8:]) == {"http://a"}
    assert second.done < 4
    assert len(warned) == 1
    assert warned[0].startswith(
        "The server at http://b is left out for now: it cannot be used: The servers of one list"
    )


async def test_more_to_compare() -> None:
    """What is of interest later only is compared then, and of those that come back, too."""
    first, second = fakes(4, 4)
    balancing, _ = balancer([first, second])
    await balancing.assemble()
    second.told = {"the model": "m", "a grammar": "ignored"}
    first.told = {"the model": "m", "a grammar": "enforced"}
    with pytest.raises(ConfigurationError, match="a grammar is '"):
        await balancing.compare()
    second.told = dict(first.told)
    await balancing.compare()
    assert await balancing.run(lambda server: server.work()) == "http://a"


async def test_one_that_is_gone_when_more_is_compared() -> None:
    """A server that does not answer then is left out, and where none is in, none is asked."""
    first, second = fakes(4, 4)
    balancing, _ = balancer([first, second])
    await balancing.compare()
    assert first.asked["tell"] == second.asked["tell"] == 0
    await balancing.assemble()
    second.up.clear()
    await balancing.compare()
    assert [member.is_in for member in balancing._members] == [True, False]
    answers = await asyncio.gather(*(balancing.run(lambda server: server.work(0.001)) for _ in range(8)))
    assert set(answers) == {"http://a"}


async def test_a_piece_that_failed_waits_while_others_are_served() -> None:
    """A piece that wants another server than the one that comes free does not keep the next in line from it."""
    first, second = fakes(1, 1)
    balancing = await assembled([first, second])
    first.fails = [RequestFailedError("busy", status=500, retryable=True)]
    order: list[str] = []
    is_free, was_served = asyncio.Event(), asyncio.Event()

    async def failing(server: Fake) -> None:
        order.append(f"fails at {await server.work()}")

    async def held(server: Fake) -> None:
        await is_free.wait()
        order.append(f"held at {server.address}")

    async def late(server: Fake) -> None:
        order.append(f"next at {await server.work()}")
        was_served.set()

    async def long(server: Fake) -> None:
        await was_served.wait()
        order.append(f"long at {server.address}")

    async with asyncio.timeout(10), asyncio.TaskGroup() as pieces:
        for number, piece in enumerate((failing, long, held, late)):
            pieces.create_task(balancing.run(piece))
            if number:  # the first to wait is the one that failed, the second the one that came late
                while len(balancing._places._waiting) < max(1, number - 1):  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0)
        is_free.set()
    assert order == ["held at http://a", "next at http://a", "long at http://b", "fails at http://b"]


async def test_a_wrong_key_names_its_server() -> None:
    """What the user has to mend on one server is raised with its address, at the start and later."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])
    first.fails = [AuthenticationError("The server refused the credentials (401): set a key.")]
    with pytest.raises(AuthenticationError, match=r"^The server at http://a refused the credentials \(401\)"):
        await balancing.run(lambda server: server.work())


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ([RequestFailedError("a passing one", status=500, retryable=True)], "http://b"),
        ([RequestFailedError("no place", status=429, retryable=True)], "http://b"),
        ([RequestFailedError("for good", status=422)], RequestFailedError),
        ([OverlongInputError("too long")], OverlongInputError),
    ],
)
async def test_failures_of_one_piece(errors: list[StormtrooperError], answer: Any) -> None:
    """What may pass is tried on one other server; what the server said clearly is the answer."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])
    first.fails = errors
    if isinstance(answer, str):
        assert await balancing.run(lambda server: server.work()) == answer
    else:
        with pytest.raises(answer):
            await balancing.run(lambda server: server.work())
        assert second.done == 0


async def test_a_piece_that_fails_everywhere() -> None:
    """It is tried on two servers that are well, and then it has failed."""
    given = fakes(4, 4, 4)
    balancing = await assembled(given)
    for fake in given:
        fake.fails = [RequestFailedError("again", status=500, retryable=True)]
    with pytest.raises(RequestFailedError, match="again"):
        await balancing.run(lambda server: server.work())
    assert [len(fake.fails) for fake in given] == [0, 0, 1]


async def test_an_unhealthy_server_is_left_out() -> None:
    """A server whose answer did not come, and that is not well, is left out like one that is gone."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])

    async def work(server: Fake) -> str:
        if server is first:
            first.up.clear()
            raise RequestFailedError("too late", retryable=True)
        return await server.work()

    assert await balancing.run(work) == "http://b"
    assert not balancing._members[0].is_in


async def test_a_piece_that_fells_every_server_ends() -> None:
    """Work that each server goes away with is given up after a while."""
    given = fakes(4, 4)
    balancing = await assembled(given)
    tried = 0

    async def deadly(server: Fake) -> str:
        nonlocal tried
        tried += 1
        raise ServerUnreachableError("gone", problem="dropped the connection")

    with pytest.raises(RequestFailedError, match="went away"):
        await balancing.run(deadly)
    assert tried == _MOST_MOVES + 1


async def test_cancelled_work_gives_its_place_back() -> None:
    """Pieces that are cancelled at any moment, waiting or working, leave all places free and nobody waiting."""
    given = fakes(2, 3)
    balancing = await assembled(given)
    chance = random.Random(7)
    rows = [asyncio.create_task(balancing.run(lambda server: server.work(0.001))) for _ in range(120)]
    while any(not row.done() for row in rows):
        await asyncio.sleep(chance.choice([0, 0, 0.0005]))
        if chance.random() < 0.5:
            chance.choice(rows).cancel()
    outcomes = await asyncio.gather(*rows, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {str, asyncio.CancelledError}
    assert [member.in_work for member in balancing._members] == [0, 0]
    assert not balancing._places._waiting


@pytest.mark.parametrize("begun", [False, True])
async def test_streams(begun: bool) -> None:
    """A stream is begun anew on another server before its first piece, and never after it."""
    first, second = fakes(4, 4)
    balancing = await assembled([first, second])

    async def pieces(server: Fake) -> AsyncGenerator[str, None]:
        if server is second or begun:
            yield server.address
        if server is first:
            raise ServerUnreachableError("gone", problem="dropped the connection")

    stream = balancing.stream(pieces)
    assert await anext(stream) == ("http://a" if begun else "http://b")
    with pytest.raises(ServerUnreachableError if begun else StopAsyncIteration):
        await anext(stream)
    assert [member.in_work for member in balancing._members] == [0, 0]


def test_agreement() -> None:
    """Whoever tells something first sets it for all, each thing by itself; what is not told is not compared."""
    agreement = Agreement()
    agreement.check("http://a", {"the model": "m"})
    agreement.check("http://b", {"its size": 7})
    agreement.check("http://c", {})
    agreement.check("http://d", {"the model": "m", "its size": 7})
    with pytest.raises(ConfigurationError, match="its size is 8 at http://e and 7 at http://b"):
        agreement.check("http://e", {"the model": "m", "its size": 8})
    with pytest.raises(ConfigurationError, match="the model is 'n' at http://a and 'm' before"):
        agreement.check("http://a", {"the model": "n"})


def test_limits_of_length() -> None:
    """Until the limits are settled the smallest holds; then nothing changes it, and who has less is refused."""
    agreement = Agreement()
    agreement.check("http://a", {"the room": Limit(9)})
    agreement.check("http://b", {"the room": Limit(5), "the model": "m"})
    agreement.check("http://c", {"the room": Limit(7)})
    agreement.settle()
    agreement.forget()
    assert agreement.limits == {"the room": 5}
    agreement.check("http://d", {"the room": Limit(6), "the width": Limit(1)})
    with pytest.raises(ConfigurationError, match="the room is 4 at http://e, and texts are asked up to 5 since"):
        agreement.check("http://e", {"the room": Limit(4)})
    assert agreement.limits == {"the room": 5}


async def test_one_that_comes_with_less_room() -> None:
    """It stays out with a warning of both limits, also when it is back alone; one with more room gets work."""
    small, other = fakes(2, 2, down=[0])
    small.told["the room"], other.told["the room"] = Limit(3), Limit(8)
    balancing, warned = balancer([small, other])
    await balancing.assemble()
    small.up.set()
    answers = await asyncio.gather(*(balancing.run(lambda server: server.work(0.005)) for _ in range(20)))
    assert set(answers) == {other.address}
    assert [told for told in warned if "the room is 3 at http://a" in told and "up to 8" in told]
    assert not any("in time" in told for told in warned)
    assert balancing._agreement.limits == {"the room": 8}
