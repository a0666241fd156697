"""What holds for every batch: what may be one, how many rows at once, whose trouble an error is."""

from __future__ import annotations

from collections import Counter

import pytest

from langchain_stormtrooper.batches import Isolation, as_rows, with_causes
from langchain_stormtrooper.errors import (
    ConfigurationError,
    OverlongInputError,
    RequestFailedError,
    ServerUnreachableError,
)


def test_rows_of_a_batch() -> None:
    """A sequence is taken as it is, another iterable is read once."""
    given = ["a", "b"]
    assert as_rows(given) is given
    assert as_rows(iter(given)) == given


def test_own_errors_are_isolated() -> None:
    """A row's own error is its own, unless the caller wants it; an overlong row raises where that was asked for."""
    for error, isolated in (
        (RequestFailedError("x"), True),
        (OverlongInputError("x"), False),
        (ConfigurationError("x"), False),
        (ZeroDivisionError("x"), False),
    ):
        assert Isolation(return_exceptions=False).isolates(error) is isolated
        assert not Isolation(return_exceptions=True).isolates(error)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_server_that_is_gone(return_exceptions: bool) -> None:
    """It ends a batch without answers; after one, the rest fails; either way nothing further is asked."""
    gone = ServerUnreachableError("gone")
    for has_answers in (False, True):
        isolation = Isolation(return_exceptions)
        isolation.begin()
        if has_answers:
            isolation.answered()
        assert isolation.isolates(gone) is (has_answers and not return_exceptions)
        with pytest.raises(ServerUnreachableError):
            isolation.begin()


def test_causes_are_told_by_number() -> None:
    """One cause is told as it is, several with how often, the most frequent first, and no more than three."""
    assert with_causes("failed", Counter()) == "failed"
    assert with_causes("failed", Counter({"a": 2})) == "failed (a)"
    causes = Counter({"a": 1, "b": 3, "c": 2, "d": 1})
    assert with_causes("failed", causes) == "failed (3 times: b; 2 times: c; 1 times: a; …)"
