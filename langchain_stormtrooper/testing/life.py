"""What all test servers have in common: they start, restart and end, and tell what has happened to them.

A server sets the attributes and says what it forgets at a restart; `server` and `openai_server` are the two there are.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from langchain_stormtrooper.testing.faults import Faults
from langchain_stormtrooper.testing.ledger import Counters, Permits, Received, Record
from langchain_stormtrooper.testing.listener import Listener


class Answers(Protocol):
    """What answers requests, as far as a server's life touches it."""

    counters: Counters
    healthy: bool


class LivingServer:
    """A server on a real socket, in a thread of its own. Not for use by itself.

    Attributes:
        counters: Requests by route, status and prompt.
        faults: What is to go wrong.
    """

    counters: Counters
    faults: Faults
    _record: Record
    _permits: Permits
    _listener: Listener
    _answers: Answers
    _host: str

    def start(self) -> Self:
        """Open the port; returns when the server answers."""
        self._listener.start()
        return self

    def close(self) -> None:
        """Cut all connections and end the thread; closing twice does nothing."""
        self._listener.stop()
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def restart(self, down_for: float = 0.5, *, wait: bool = False) -> None:
        """Restart: cut all connections, refuse new ones for a while, come back on the same port with a cold cache.

        Args:
            down_for: Seconds until the port is open again.
            wait: Whether to return only then.
        """
        self._go_away(down_for, True)
        if wait:
            self._listener.wait_until_up()

    def _go_away(self, seconds: float, forget: bool) -> None:
        self._listener.go_away(seconds, self._forget if forget else None)
        if forget:
            self.counters.restarts += 1

    def _end(self) -> None:
        """Give back what the server holds."""

    def _forget(self) -> None:
        """Lose what a process has in memory only."""

    def reset(self) -> None:
        """Start counting and recording afresh and forget the prefix cache; faults stay as they are."""
        self.counters = self._permits.counters = self._answers.counters = Counters()
        self._record.kept.clear()
        self._forget()

    @property
    def url(self) -> str:
        """The base URL, without a final slash and without `/v1`."""
        return f"http://{self._host}:{self._listener.port}"

    @property
    def port(self) -> int:
        """The port."""
        return self._listener.port

    @property
    def requests(self) -> int:
        """The number of requests received; `counters` has them by route, status and prompt."""
        return self.counters.requests

    @property
    def permits_in_use(self) -> int:
        """The number of requests that run right now."""
        return self._permits.in_use

    @property
    def peak_permits(self) -> int:
        """The most requests that ever ran at once."""
        return self.counters.peak_permits

    @property
    def received(self) -> list[Received]:
        """The last requests, oldest first."""
        return list(self._record.kept)

    @property
    def healthy(self) -> bool:
        """Whether `/health` answers 200; set it to False for a 503."""
        return self._answers.healthy

    @healthy.setter
    def healthy(self, value: bool) -> None:
        self._answers.healthy = value
