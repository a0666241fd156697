"""Faults to order: what can go wrong between a client and a server.

A `Fault` hits chosen requests, a `FaultPlan` a seeded share of all of them; both only decide *which* request is hit by
*what*. Carrying a fault out is the work of `sabotage`. Neither looks at the clock or at the order in which prompts
arrive, so a test with faults is as repeatable as one without.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class FaultKind(StrEnum):
    """Every way a request can be made to fail."""

    GENERATION = "424"
    """The model process raises an exception; 424 for every request of the batch."""
    OVERLOADED = "429"
    """429 `Model is overloaded`, with `Retry-After` only if the fault sets it."""
    INCOMPLETE = "500"
    """The model process stops answering; 500 `Incomplete generation`."""
    BAD_GATEWAY = "502"
    """A proxy's HTML page with status 502."""
    UNAVAILABLE = "503"
    """A proxy's or loading server's plain 503."""
    GATEWAY_TIMEOUT = "504"
    """A proxy's HTML page with status 504."""
    UNAUTHORIZED = "401"
    """401 with an empty body."""
    FORBIDDEN = "403"
    """A gateway's 403 with a JSON body that is not TGI's."""
    TEXT_422 = "text_422"
    """422 in plain text, as the deserialiser makes it."""
    REFUSE = "refuse"
    """The connection is reset and new ones are refused for `seconds`."""
    RESET_BEFORE = "reset_before"
    """The connection is reset before the first byte of the response."""
    RESET_MIDDLE = "reset_middle"
    """The connection is reset in the middle of the response body."""
    STALL = "stall"
    """No byte arrives for `seconds`; then the response comes."""
    DRIP = "drip"
    """The response body arrives byte by byte, spread over `seconds`."""
    CONTENT_TYPE = "content_type"
    """The right body under `text/html`."""
    TRUNCATED = "truncated_json"
    """A complete HTTP response whose JSON stops half way."""
    RESTART = "restart"
    """The server drops every connection, is gone for `seconds`, and comes back cold."""


RETRYABLE: tuple[FaultKind, ...] = (
    FaultKind.GENERATION,
    FaultKind.OVERLOADED,
    FaultKind.INCOMPLETE,
    FaultKind.BAD_GATEWAY,
    FaultKind.UNAVAILABLE,
    FaultKind.GATEWAY_TIMEOUT,
    FaultKind.RESET_BEFORE,
    FaultKind.REFUSE,
)
"""The kinds after which asking again is right.

Refusals that pass, and connections that were refused or reset before the first byte of the response. Not one that was
reset in the middle: the model has answered, and would be asked to do it all again.
"""


NEED_MODEL = frozenset({FaultKind.GENERATION, FaultKind.INCOMPLETE})
"""The kinds that happen in the model process, which other routes do not ask."""

_NEED_BODY = frozenset({FaultKind.RESET_MIDDLE, FaultKind.DRIP, FaultKind.TRUNCATED})
_WITHOUT_BODY = frozenset({"/health", "/ping"})
GENERATING = frozenset(
    {
        "/",
        "/generate",
        "/generate_stream",
        "/generative_scoring",
        "/invocations",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/score",
    }
)
"""The routes of all servers that ask the model."""


@dataclass
class Fault:
    """One fault, for the requests that fit it.

    Attributes:
        kind: What goes wrong; a `FaultKind` or its value.
        times: How many fitting requests are hit; None for all.
        when: Called with the prompt; only requests for which it is true fit.
        skip: How many fitting requests are let through first, so `skip=4` hits the fifth.
        path: Only requests to this route fit; None means every route that generates text.
        seconds: How long the server stalls, drips or stays away.
        message: The exception text of a 424.
        retry_after: The `Retry-After` header of a 429, 502, 503 or 504; TGI itself never sends one.

    Raises:
        ValueError: There is no such kind, or it cannot happen on this route.
    """

    kind: FaultKind | str
    times: int | None = 1
    when: Callable[[str], bool] | None = None
    skip: int = 0
    path: str | None = None
    seconds: float = 0.2
    message: str = "boom"
    retry_after: float | None = None
    hits: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.kind = FaultKind(self.kind)
        if self.path is None:
            return
        if self.kind in NEED_MODEL and self.path not in GENERATING:
            raise ValueError(f"{self.path} does not ask the model: a fault {self.kind.value!r} cannot happen there")
        if self.kind in _NEED_BODY and self.path in _WITHOUT_BODY:
            raise ValueError(f"{self.path} answers without a body: a fault {self.kind.value!r} cannot happen there")

    def take(self, path: str, prompt: str, *, generates: bool) -> bool:
        """Tell whether this request is hit, and count it."""
        if not (generates if self.path is None else path == self.path):
            return False
        if self.kind in NEED_MODEL and not generates:
            return False
        if (self.when is not None and not self.when(prompt)) or (self.times is not None and self.hits >= self.times):
            return False
        self._seen += 1
        if self._seen <= self.skip:
            return False
        self.hits += 1
        return True


@dataclass
class FaultPlan:
    """Faults for a share of all requests, the same ones in every run.

    Whether the n-th request for a prompt is hit depends on the seed, the prompt and n alone, not on the order in which
    prompts arrive.

    Attributes:
        rate: The share of requests to hit, 0 to 1.
        kinds: What may go wrong, each as likely as the others.
        seed: Another seed hits other requests.
        max_per_prompt: How often one prompt can be hit, so that enough retries always get through; None for no bound.
        seconds: How long stalls, drips and absences take.
        retry_after: As in `Fault`.
    """

    rate: float
    kinds: Sequence[FaultKind | str] = RETRYABLE
    seed: int = 0
    max_per_prompt: int | None = 2
    seconds: float = 0.05
    retry_after: float | None = None
    hits: dict[str, int] = field(default_factory=dict, init=False)
    _asked: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.kinds = tuple(FaultKind(kind) for kind in self.kinds)

    def take(self, prompt: str) -> Fault | None:
        """Return the fault that hits this request, if any, and count it."""
        attempt = self._asked[prompt] = self._asked.get(prompt, 0) + 1
        so_far = self.hits.get(prompt, 0)
        if self.max_per_prompt is not None and so_far >= self.max_per_prompt:
            return None
        rng = random.Random(f"{self.seed}/{attempt}/{prompt}")  # noqa: S311 - repeatable, not secret
        if rng.random() >= self.rate:
            return None
        self.hits[prompt] = so_far + 1
        return Fault(rng.choice(self.kinds), seconds=self.seconds, retry_after=self.retry_after)


class Faults:
    """All faults of one server: single ones in the order they were added, then the plan.

    Args:
        given: Faults and at most one plan.
    """

    def __init__(self, given: Sequence[Fault | FaultPlan] = ()) -> None:
        self._single = [item for item in given if isinstance(item, Fault)]
        plans = [item for item in given if isinstance(item, FaultPlan)]
        if len(plans) > 1:
            raise ValueError("a server can follow only one FaultPlan")
        self._plan = plans[0] if plans else None
        self.active = bool(self._single or self._plan)

    def add(self, fault: Fault) -> None:
        """Add a fault to a running server."""
        self._single.append(fault)
        self.active = True

    def clear(self) -> None:
        """Remove all faults."""
        self._single.clear()
        self._plan = None
        self.active = False

    def take(self, path: str, prompt: str, *, generates: bool) -> Fault | None:
        """Return the fault that hits a request, if any."""
        for fault in self._single:
            if fault.take(path, prompt, generates=generates):
                return fault
        if self._plan is not None and generates:
            return self._plan.take(prompt)
        return None
