"""How long to wait before a request is repeated. Pure; `retrying` and `servers` do the waiting."""

from __future__ import annotations

import math
import random
import time
from datetime import UTC
from email.utils import parsedate_to_datetime

from langchain_stormtrooper.wire import Response

_BACKOFF_FIRST, _BACKOFF_MAX, _RETRY_AFTER_MAX = 0.1, 8.0, 60.0


def backoff(attempt: int, longest: float = math.inf) -> float:
    """Exponential with equal jitter, half of it by lot: clients that were refused together do not come back together.

    Args:
        attempt: How many pauses there were before.
        longest: Seconds that it does not grow beyond.
    """
    ceiling: float = min(_BACKOFF_MAX, longest, _BACKOFF_FIRST * 2.0 ** min(attempt, 64))
    return ceiling * (0.5 + random.random() / 2)  # noqa: S311  # spreads load, guards nothing


def retry_after(response: Response) -> float:
    """Seconds that the server asks to wait, 0 if it does not; TGI never says, proxies in front of it may."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _RETRY_AFTER_MAX)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(max(0.0, seconds), _RETRY_AFTER_MAX)
