"""The prefix cache finds the longest known start of a prompt, as a plain comparison with all of them would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.testing.radix import PrefixCache

PROMPTS = st.lists(st.integers(0, 2), max_size=8)


def shared(one: list[int], other: list[int]) -> int:
    """Count the tokens that two prompts start with in common."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


@given(st.lists(PROMPTS, max_size=20), PROMPTS)
def test_longest_common_prefix(known: list[list[int]], prompt: list[int]) -> None:
    """The match is the longest common prefix with any prompt inserted before."""
    cache = PrefixCache()
    for ids in known:
        cache.insert(ids)
    assert cache.match(prompt) == max((shared(ids, prompt) for ids in known), default=0)


@given(st.lists(PROMPTS, min_size=1, max_size=60))
def test_capacity(known: list[list[int]]) -> None:
    """However much is inserted, the cache stays within its capacity and never claims what was never there."""
    cache = PrefixCache(capacity=20)
    for ids in known:
        cache.insert(ids)
        assert cache.size <= 20
    for ids in known:
        assert cache.match(ids) <= len(ids)


def test_oldest_branch_goes_first() -> None:
    """When room is needed, what was used last stays."""
    cache = PrefixCache(capacity=20)
    used, old, new = [1] * 8, [2] * 8, [3] * 8
    cache.insert(used)
    cache.insert(old)
    cache.match(used)
    cache.insert(new)
    assert (cache.match(used), cache.match(old), cache.match(new)) == (0, 0, 8)
