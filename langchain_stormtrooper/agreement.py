"""What several servers must have in common to answer for each other. Pure; `balancing` fills it in and goes by it."""

from __future__ import annotations

from collections.abc import Mapping

from langchain_stormtrooper.errors import ConfigurationError


class Agreement:
    """What the servers of a list have told, each thing by whoever told it first.

    Attributes:
        wants_abilities: Whether they must be able to do the same, too, since labels are scored.
    """

    def __init__(self) -> None:
        self.wants_abilities = False
        self._told: dict[str, tuple[str, object]] = {}

    def forget(self) -> None:
        """Take nothing for agreed any more."""
        self._told.clear()

    def check(self, address: str, told: Mapping[str, object]) -> None:
        """Compare what a server tells with what others have told, and take note of what is new.

        What it does not tell is not compared.

        Args:
            address: The server's address.
            told: What it tells, by name.

        Raises:
            ConfigurationError: Another server has told something else.
        """
        for name, value in told.items():
            first, other = self._told.get(name, (address, value))
            if value != other:
                place = "before" if first == address else f"at {first}"
                raise ConfigurationError(
                    f"The servers of one list must serve the same: {name} is {_shown(value)} at {address} and "
                    f"{_shown(other)} {place}. Start them with one model, version and settings."
                )
        for name, value in told.items():
            self._told.setdefault(name, (address, value))


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | bool) else str(value)
