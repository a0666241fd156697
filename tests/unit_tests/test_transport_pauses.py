"""How long a request waits before it asks again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from multidict import CIMultiDict

from langchain_stormtrooper.pauses import backoff, retry_after
from langchain_stormtrooper.wire import Response


def asked_to_wait(value: str | None) -> float:
    """Seconds to wait for an answer with a Retry-After."""
    return retry_after(Response(503, CIMultiDict({} if value is None else {"Retry-After": value}), b""))


def http_date(seconds: float) -> str:
    """A moment from now, as HTTP writes it."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("7", 7), ("007", 7), ("60", 60), ("61", 60), ("9" * 30, 60), ("9" * 5000, 60), (" 3 ", 3)],
)
def test_seconds_to_wait(value: str, seconds: float) -> None:
    """A number of seconds is kept to, up to a minute: no header keeps a row waiting for a day."""
    assert asked_to_wait(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *[None, "", "soon", "-5", "+5", "1.5", "1e9", "inf", "nan", "½", "²", "٣", "0x10", "7; 8", "7, 8"],
        *["Fri", "Fri, 99 Foo 2999 77:00:00 GMT", "Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 1 Jan", "\x00"],
    ],
)
def test_nonsense_is_no_wish(value: str | None) -> None:
    """What is neither seconds nor a date is as if it were not there, and raises nothing."""
    assert asked_to_wait(value) == 0


def test_dates_to_wait_for() -> None:
    """A date is waited for like seconds: not at all if it is past, a minute at most if it is far away."""
    assert 15 < asked_to_wait(http_date(20)) <= 20
    assert asked_to_wait(http_date(-20)) == 0
    assert asked_to_wait(http_date(86400)) == 60
    # A date without a zone is meant as GMT.
    assert 15 < asked_to_wait(http_date(20).removesuffix(" GMT")) <= 20


@pytest.mark.parametrize("attempt", [0, 1, 2, 5, 6, 7, 20, 1000])
def test_pauses_grow_to_a_bound_and_differ(attempt: int) -> None:
    """Pauses double from a tenth of a second to eight, and spread over half of that."""
    ceiling = min(8.0, 0.1 * 2.0**attempt)
    pauses = [backoff(attempt) for _ in range(200)]
    assert ceiling / 2 <= min(pauses) < ceiling * 0.6
    assert ceiling * 0.9 < max(pauses) <= ceiling
