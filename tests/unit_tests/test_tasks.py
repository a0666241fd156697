"""`run_all`, `Once` and `OnceEach`."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.tasks import Once, OnceEach, run_all


class Counter:
    """Counts what runs at once, what was started, and what was broken off."""

    def __init__(self) -> None:
        self.running = self.peak = 0
        self.started: list[int] = []
        self.cancelled: list[int] = []

    async def work(self, number: int) -> int:
        """Take a while that differs from item to item; fail for negative numbers."""
        self.started.append(number)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            for _ in range(abs(number) * 7 % 5 + 1):
                await asyncio.sleep(0)
            if number < 0:
                raise KeyError(number)
            return number * 10
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1


@given(st.lists(st.integers(0, 50), max_size=30), st.none() | st.integers(1, 40))
def test_answers_are_in_order_and_the_limit_is_kept(numbers: list[int], at_once: int | None) -> None:
    """Each item is answered once, in its place, and as many as allowed are worked on at once: no more, no fewer."""
    counter = Counter()
    assert asyncio.run(run_all(counter.work, numbers, at_once)) == [number * 10 for number in numbers]
    assert sorted(counter.started) == sorted(numbers)
    assert counter.peak == min(at_once or len(numbers), len(numbers))


async def test_a_slow_item_holds_up_no_other() -> None:
    """A place that is free is taken at once: there is no barrier between groups of items."""
    slow = asyncio.Event()

    async def work(number: int) -> None:
        if number == 0:
            await slow.wait()
        elif number == 9:
            slow.set()

    await asyncio.wait_for(run_all(work, range(10), 2), 5)


async def test_first_error_ends_the_others() -> None:
    """The error comes out as it was raised, its siblings are cancelled, and nothing is left running or begun."""
    counter = Counter()

    async def work(number: int) -> int:
        if number == 2:
            await asyncio.sleep(0)
            raise KeyError("two") from ValueError("cause")
        try:
            return await asyncio.sleep(60, number)
        except asyncio.CancelledError:
            counter.cancelled.append(number)
            raise

    with pytest.raises(KeyError, match="two") as caught:
        await run_all(work, range(100), 4)
    assert isinstance(caught.value.__cause__, ValueError)
    assert sorted(counter.cancelled) == [0, 1, 3]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_cancels_all() -> None:
    """Whoever is cancelled while waiting for all takes them along."""
    counter = Counter()
    task = asyncio.create_task(run_all(lambda n: asyncio.sleep(60, n), range(5)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert counter.running == 0


async def test_nothing_to_do() -> None:
    """No items give no answers, from an iterator as well."""
    assert await run_all(Counter().work, iter([])) == []


class Maker:
    """Makes a value slowly, or fails the first times."""

    def __init__(self, failures: int = 0) -> None:
        self.calls = 0
        self._failures = failures

    async def make(self) -> int:
        """Return the number of the call."""
        self.calls += 1
        call = self.calls
        await asyncio.sleep(0.01)
        if call <= self._failures:
            raise OSError(f"call {call}")
        return call


async def test_one_making_for_many_callers() -> None:
    """Callers that come while the value is being made wait for it; those that come later get it too."""
    once, maker = Once[int](), Maker()
    assert once.peek() is None
    assert await asyncio.gather(*(once.get(maker.make) for _ in range(20))) == [1] * 20
    assert await once.get(maker.make) == 1
    assert (maker.calls, once.peek()) == (1, 1)


async def test_none_is_a_value() -> None:
    """A value of None is kept like any other."""
    once, calls = Once[None](), []

    async def make() -> None:
        calls.append(1)

    await once.get(make)
    await once.get(make)
    assert calls == [1]


async def test_failure_is_forgotten() -> None:
    """All who waited see the failure, and the next caller tries again."""
    once, maker = Once[int](), Maker(failures=1)
    outcomes = await asyncio.gather(*(once.get(maker.make) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["call 1"] * 3
    assert await once.get(maker.make) == 2


async def test_cancelled_caller_harms_nobody() -> None:
    """Cancelling the first caller, who started the making, leaves the others their value."""
    once, maker = Once[int](), Maker()
    first = asyncio.create_task(once.get(maker.make))
    others = [asyncio.create_task(once.get(maker.make)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.gather(*others) == [1, 1, 1]
    assert maker.calls == 1


async def test_a_making_ends_with_its_last_caller() -> None:
    """When all who wait are cancelled, the making is cancelled too; a later caller begins anew."""
    once, cancelled = Once[int](), []

    async def make() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 1

    callers = [asyncio.create_task(once.get(make)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for number, caller in enumerate(callers):
        assert cancelled == [], number
        caller.cancel()
        await asyncio.wait([caller])
    await asyncio.sleep(0.01)
    assert cancelled == [True]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await once.get(Maker().make) == 1


def test_value_lives_from_loop_to_loop() -> None:
    """A value made on one event loop is there on the next, and a making that a loop took down is begun anew."""
    once, maker = Once[int](), Maker()

    async def endless() -> int:
        maker.calls += 1
        return await asyncio.sleep(60, 0)

    async def leave_early() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(once.get(endless), 0.01)

    asyncio.run(leave_early())
    assert once.peek() is None
    assert asyncio.run(once.get(maker.make)) == 2
    assert asyncio.run(once.get(maker.make)) == 2
    assert maker.calls == 2


async def test_copies_start_afresh() -> None:
    """What was learnt is no setting: copies and pickles do not have it, and the original keeps it."""
    once = Once[int]()
    await once.get(Maker().make)
    for other in (copy.copy(once), copy.deepcopy(once), pickle.loads(pickle.dumps(once))):  # noqa: S301  # our own
        assert other.peek() is None
    assert once.peek() == 1


async def test_values_by_key_are_made_once_and_of_bounded_number() -> None:
    """A key's value is made once, whoever asks; when there would be too many, all are forgotten, and made anew."""
    made: list[int] = []
    values: OnceEach[int, int] = OnceEach(2)

    async def get(key: int) -> int:
        async def make() -> int:
            await asyncio.sleep(0)
            made.append(key)
            return key * 10

        return await values.get(key, make)

    assert [*await asyncio.gather(get(1), get(1), get(2))] == [10, 10, 20]
    assert [await get(1), await get(2), made] == [10, 20, [1, 2]]
    assert [await get(3), await get(3), await get(1), await get(2)] == [30, 30, 10, 20]
    assert made == [1, 2, 3, 1, 2]
