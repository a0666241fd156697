"""`Variants`: copies of a classifier with other settings, kept so that each learns from its server only once.

Pure. LangChain makes a new object for every call with settings of its own; here the same settings give the same copy,
whether they came with a call, with `bind` or with a config. `rows` keeps one per Runnable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from langchain_stormtrooper.labels import LabelSet

T = TypeVar("T")

KEPT = 16
"""Copies that are kept: those used last."""


class Variants(Generic[T]):
    """A bounded memory of copies. No setting: copies and pickles of its owner start without."""

    def __init__(self) -> None:
        # Replaced as a whole, so that threads may come and go.
        self._kept: tuple[tuple[dict[str, Any], T], ...] = ()

    def get(self, original: T, settable: Any, settings: Mapping[str, Any], make: Callable[[dict[str, Any]], T]) -> T:
        """The copy for some settings.

        Args:
            original: What it is a copy of, which is returned where the settings change nothing.
            settable: What has the settings as attributes.
            settings: The settings.
            make: Makes a copy that is not there yet.

        Raises:
            LabelError: The labels make no classification.
        """
        read = {name: LabelSet.of(value) if name == "labels" else value for name, value in settings.items()}
        wanted = {name: value for name, value in read.items() if not _same(getattr(settable, name), value)}
        if not wanted:
            return original
        kept = self._kept
        for place, (known, copy) in enumerate(kept):
            if known.keys() == wanted.keys() and all(_same(known[name], wanted[name]) for name in known):
                if place:
                    self._kept = (kept[place], *kept[:place], *kept[place + 1 :])
                return copy
        made = make(wanted)
        self._kept = ((wanted, made), *kept[: KEPT - 1])
        return made

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


def _same(one: Any, other: Any) -> bool:
    try:
        # True == 1, which another setting may not take for the same.
        return type(one) is type(other) and bool(one == other)
    except ValueError:
        # Arrays do not say.
        return False
