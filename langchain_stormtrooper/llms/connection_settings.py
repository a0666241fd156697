"""What makes an address, a key or a header that can be sent, checked before anything is. Pure; used by `remote`.

Each check raises one sentence that says what to change and shows
nothing of a key or a header's value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from yarl import URL

from langchain_stormtrooper.errors import ConfigurationError

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUR_HEADERS = {"content-type", "content-length", "content-encoding", "transfer-encoding"}


def check_base_url(value: str) -> str:
    """The address of a server, without a trailing slash.

    Raises:
        ConfigurationError: It is none, or holds what belongs elsewhere.
    """
    if any(mark.isspace() or not mark.isprintable() for mark in value):
        raise ConfigurationError("base_url has a space, a line break or another control character in it: remove it.")
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ConfigurationError(
            "base_url has brackets that hold no IPv6 address: write it as in http://[::1]:8080."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("base_url must be an http:// or https:// address such as http://127.0.0.1:8080.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigurationError("base_url must not carry credentials or a query: use `api_key=` or `headers=`.")
    _check_port(parts)
    _check_host(parts.hostname)
    return value.rstrip("/")


def check_base_urls(value: object) -> str | tuple[str, ...]:
    """The address of a server, or those of several that serve the same, each without a trailing slash.

    Args:
        value: One address, several of them with commas between them, or a list.

    Raises:
        ConfigurationError: One is none, or is there twice.
    """
    if isinstance(value, str):
        if "," not in value:
            return check_base_url(value)
        value = [one.strip() for one in value.split(",")]
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise ConfigurationError("base_url must be the address of a server, or a list of such addresses.")
    if not value or not all(value):
        raise ConfigurationError("base_url has an empty list or address: name at least one server, and leave none out.")
    addresses = tuple(check_base_url(one) for one in value)
    if len(set(addresses)) < len(addresses):
        raise ConfigurationError("base_url names a server twice: name each once.")
    return addresses if len(addresses) > 1 else addresses[0]


def _check_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ConfigurationError("base_url has no port that exists: it must be a number from 1 to 65535.")


def _check_host(host: str) -> None:
    try:
        if ":" in host:
            ipaddress.IPv6Address(host)
            return
        # As it will be looked up: names of other scripts in their ASCII form.
        name = URL.build(scheme="http", host=host).raw_host or ""
        name.encode("idna")
        is_name = _HOST.fullmatch(name) is not None
    except ValueError:
        is_name = False
    if not is_name:
        raise ConfigurationError(
            "base_url has no possible host name: its parts between dots have 1 to 63 letters, digits and hyphens."
        )


def check_key(value: str | None) -> None:
    """Check a key.

    Raises:
        ConfigurationError: It cannot be sent.
    """
    if value is not None and not value.isprintable():
        raise ConfigurationError(
            "api_key has a line break or another control character in it, as keys read from files have: strip it."
        )


def check_headers(value: Any) -> dict[str, str]:
    """Headers that can be sent.

    Raises:
        ConfigurationError: They cannot.
    """
    if not isinstance(value, Mapping):
        raise ConfigurationError("headers must be a dict from names to texts.")
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(
                "headers has a name that is no header's: letters, digits and hyphens, without spaces or line breaks."
            )
        if name.lower() in _OUR_HEADERS:
            raise ConfigurationError(f"headers must not have {name}, which each request has by itself: leave it out.")
        if not isinstance(text, str):
            raise ConfigurationError(f"The header {name} must be a text, not {type(text).__name__}: use str().")
        if not text.isprintable():
            raise ConfigurationError(
                f"The header {name} has a line break or another control character in its value: strip it."
            )
    return dict(value)
