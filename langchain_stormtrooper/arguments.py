"""One sentence for wrong arguments, in the place of pydantic's several lines; and which values are none.

Whatever a user creates turns pydantic's error into ours with `checked`. No values are shown: one may be a key.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from langchain_stormtrooper.errors import ConfigurationError


@contextmanager
def checked(name: str, fields: Iterable[str]) -> Iterator[None]:
    """Turn a `ValidationError` of what runs inside into a `ConfigurationError`.

    Args:
        name: What is being created.
        fields: The arguments that it takes.
    """
    try:
        yield
    except ValidationError as error:
        raise ConfigurationError(f"{name}: {explain(error, fields)}.") from None


def explain(error: ValidationError, fields: Iterable[str] = ()) -> str:
    """What is wrong with arguments, without their values and without a full stop.

    Args:
        error: What pydantic found.
        fields: The arguments that there are, for a guess at what was meant.
    """
    details = error.errors(include_url=False, include_input=False, include_context=False)
    # What follows the first name is pydantic's own: which member of a union it tried.
    place = str(details[0]["loc"][0]) if details[0]["loc"] else ""
    if details[0]["type"] == "extra_forbidden":
        meant = difflib.get_close_matches(place, list(fields), n=1)
        said = f"there is no argument `{place}`" + (f"; did you mean `{meant[0]}`" if meant else "")
    else:
        message = details[0]["msg"]
        own = message.removeprefix("Value error, ")
        # Ours are whole sentences; pydantic's do not say what they are about.
        said = f"`{place}`: {message[:1].lower()}{message[1:]}" if place and own == message else own
    more = len({detail["loc"][:1] for detail in details}) - 1
    return f"{said.rstrip('.')} (and {more} more)" if more else said.rstrip(".")


def check_count(what: str, given: Any, *, optional: bool = False) -> None:
    """See to it that an argument is a number of things.

    Args:
        what: How the argument is called, such as "`limit=`".
        given: What it is.
        optional: Whether it may be None.

    Raises:
        ConfigurationError: It is no whole number from 1 on.
    """
    if given is None and optional:
        return
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        more = ", or left out" if optional else ""
        raise ConfigurationError(f"{what} is {given!r}: it must be a whole number from 1 on{more}.")


def check_whole(what: str, given: Any) -> None:
    """See to it that an argument is a whole number, such as a seed.

    Args:
        what: How the argument is called, such as "`seed=`".
        given: What it is.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(given, int) or isinstance(given, bool):
        raise ConfigurationError(f"{what} is {given!r}: it must be a whole number.")


def is_null(value: Any) -> bool:
    """Whether a value stands for none at all: None, NaN, and what pandas has for them."""
    # By their names, so that pandas is not imported for this.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
