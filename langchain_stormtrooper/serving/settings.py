"""The settings of an app, checked before anything of the extra `serve` is imported. Called by `create_app` only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError

_NEEDED = ("fastapi", "prometheus_client")

LANGSERVE = "/langserve"
"""Where LangServe's routes are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an app was told; see `create_app`."""

    key: bytes | None = field(repr=False)
    max_body_bytes: int
    max_texts: int
    max_labels: int
    max_requests: int
    body_timeout: float
    fixed_labels: bool
    allowed_hosts: tuple[str, ...] | None
    langserve: str | None


def require_serve(what: str, *further: str) -> None:
    """See to it that the extra is installed.

    Raises:
        MissingExtraError: It is not.
    """
    if any(find_spec(name) is None for name in (*_NEEDED, *further)):
        raise MissingExtraError(what, "serve")


def read_settings(classifier: Any, *, api_key: Any, **given: Any) -> Settings:
    """Check the arguments of `create_app`.

    Raises:
        ConfigurationError: An argument makes no sense.
        MissingExtraError: The extra `serve` is not installed.
    """
    from langchain_stormtrooper.classifiers import FewShotClassifier, TextClassifier

    if not isinstance(classifier, TextClassifier):
        raise ConfigurationError(
            f"create_app() takes a ZeroShotClassifier or a FewShotClassifier, not a {type(classifier).__name__}."
        )
    for name in ("max_body_bytes", "max_texts", "max_requests"):
        _check_number(name, given[name], 1)
    _check_number("max_labels", given["max_labels"], 2)
    if not 0 < given["body_timeout"] < float("inf"):
        raise ConfigurationError("`body_timeout=` must be a number of seconds above 0.")
    if isinstance(classifier, FewShotClassifier):
        # Its examples have the labels that they have.
        given["fixed_labels"] = True
    hosts = given.pop("allowed_hosts")
    if isinstance(hosts, str) or not all(isinstance(name, str) and name for name in hosts or ()):
        raise ConfigurationError("`allowed_hosts=` must be a list of names without ports, or None for any.")
    require_serve("create_app()")
    langserve = LANGSERVE if find_spec("langserve") and find_spec("sse_starlette") else None
    return Settings(
        key=_read_key(api_key), langserve=langserve, allowed_hosts=None if hosts is None else tuple(hosts), **given
    )


def _check_number(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"`{name}=` must be a whole number of at least {least}.")


def _read_key(given: Any) -> bytes | None:
    if given is None:
        return None
    key = given if isinstance(given, str) else given.get_secret_value()
    # An empty key would let everybody in who sends none.
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigurationError(
            "`api_key=` must be printable ASCII without spaces, and not empty: no header can carry another."
        )
    return bytes(key, "ascii")
