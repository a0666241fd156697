"""What a server saw and did: the counters and records that tests look at.

Only counts; decides nothing. Written by the server's own thread, read from any (each number is replaced whole, so a
reader never sees half of one). Exposed as `TGIServer.counters` and rendered by `metrics`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.replies import overloaded

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived.

    Attributes:
        method: The HTTP method.
        path: The route.
        headers: The headers, names in lower case.
        raw: The body as bytes; empty if it was refused unread.
        json: The parsed body; None if it is not JSON.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    json: Any


class Counters:
    """Counts since the server started or was last reset.

    Attributes:
        requests: All requests.
        by_route: Requests by path.
        by_status: Responses by HTTP status.
        by_prompt: Generation requests by prompt, those that failed or met a fault included.
        by_error: Refusals by `error_type`, those inside streams included.
        by_fault: Injected faults by kind.
        generations: Generations that succeeded.
        prompt_tokens: Tokens of all prompts that were run.
        generated_tokens: Tokens of all answers.
        cached_tokens: Prompt tokens found in the prefix cache.
        computed_tokens: Prompt tokens that had to be run through the model.
        cache_hits: Requests that found at least one cached token besides the one that starts every prompt.
        disconnects: Requests whose client went away before the response was complete.
        restarts: How often the server was restarted.
        peak_permits: The most permits that were taken at once.
        seconds_queued: Seconds that requests waited for a batch.
        seconds_inference: Seconds that requests took in the model.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.by_route: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.by_prompt: Counter[str] = Counter()
        self.by_error: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.generations = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.cached_tokens = 0
        self.computed_tokens = 0
        self.cache_hits = 0
        self.disconnects = 0
        self.restarts = 0
        self.peak_permits = 0
        self.seconds_queued = 0.0
        self.seconds_inference = 0.0


class Permits:
    """The router's semaphore: taken before validation, given back when the response is done or dropped.

    Args:
        limit: How many there are.
        counters: Where the peak is kept.
    """

    def __init__(self, limit: int, counters: Counters) -> None:
        self._limit = limit
        self.counters = counters
        self.in_use = 0

    def take(self, count: int = 1) -> None:
        """Take permits without waiting.

        Raises:
            RouterError: If there are not enough.
        """
        if self.in_use + count > self._limit:
            raise overloaded()
        self.in_use += count
        if self.in_use > self.counters.peak_permits:
            self.counters.peak_permits = self.in_use

    def held(self, count: int) -> Held:
        """Return a context that takes permits and gives them back."""
        return Held(self, count)

    def give_back(self, count: int = 1) -> None:
        """Give permits back."""
        self.in_use -= count


class Held:
    """Permits for the time of a `with` block; a class, because it is entered for every request."""

    __slots__ = ("_count", "_permits")

    def __init__(self, permits: Permits, count: int) -> None:
        self._permits = permits
        self._count = count

    def __enter__(self) -> None:
        self._permits.take(self._count)

    def __exit__(self, *_: object) -> None:
        self._permits.give_back(self._count)


class Record:
    """The last requests, as many as fit.

    Args:
        limit: How many to keep; 0 keeps none and costs nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: deque[Received] = deque(maxlen=limit)
