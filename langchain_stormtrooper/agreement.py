"""What several servers must have in common to answer for each other. Pure; `balancing` fills it in and goes by it."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_stormtrooper.errors import ConfigurationError


class Limit(int):
    """Something told of which servers may have more and less: the smallest of those at the start holds for all."""


class Agreement:
    """What the servers of a list have told, each thing by whoever told it first.

    Attributes:
        wants_abilities: Whether they must be able to do the same, too, since labels are scored.
        limits: The limits that hold for all servers, by name; they never change once they are settled.
        is_settled: Whether they are.
    """

    def __init__(self) -> None:
        self.wants_abilities = False
        self.limits: dict[str, Limit] = {}
        self.is_settled = False
        self._told: dict[str, tuple[str, object]] = {}

    def forget(self) -> None:
        """Take nothing for agreed any more, but limits by which rows may have been judged."""
        self._told.clear()
        if not self.is_settled:
            self.limits.clear()

    def settle(self) -> None:
        """Keep to the limits told so far, since rows are judged by them from now on."""
        self.is_settled = True

    def check(self, address: str, told: Mapping[str, object]) -> None:
        """Compare what a server tells with what others have told, and take note of what is new.

        What it does not tell is not compared.

        Args:
            address: The server's address.
            told: What it tells, by name.

        Raises:
            ConfigurationError: Another server has told something else, or it has a smaller limit than is settled.
        """
        limits = {name: value for name, value in told.items() if isinstance(value, Limit)}
        told = {name: value for name, value in told.items() if name not in limits}
        for name, value in told.items():
            first, other = self._told.get(name, (address, value))
            if value != other:
                place = "before" if first == address else f"at {first}"
                raise ConfigurationError(
                    f"The servers of one list must serve the same: {name} is {_shown(value)} at {address} and "
                    f"{_shown(other)} {place}. Start them with one model, version and settings."
                )
        for name, limit in limits.items():
            if self.is_settled and limit < self.limits.get(name, 0):
                raise ConfigurationError(
                    f"{name} is {limit} at {address}, and texts are asked up to {self.limits[name]} since the start: "
                    "start it with as much, or create the LLM anew."
                )
        for name, value in told.items():
            self._told.setdefault(name, (address, value))
        if not self.is_settled:
            self.limits |= {name: min(limit, self.limits.get(name, limit)) for name, limit in limits.items()}


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | bool) else str(value)
