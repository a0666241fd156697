"""By which names the servers of this package are reached: a web page's own name is none of them.

A browser on the same machine reaches the loopback. A page from elsewhere that gives its own name this address (DNS
rebinding) would read answers, unless the name in its requests is looked at. Pure; used by `serving` and by
`mcp_transports`.
"""

from __future__ import annotations

import ipaddress

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine for itself."""


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def names_of(address: str) -> list[str]:
    """What clients call a server that listens at an address, beside the loopback's names; nobody knows for all."""
    name = f"[{address}]" if ":" in address else address
    return [] if address in LOOPBACK or is_all(address) or address == "::1" else [name]


def is_all(address: str) -> bool:
    """Whether an address stands for all that the machine has."""
    return address in ("", "0.0.0.0", "::")  # noqa: S104  # compared with


def host_name(header: str) -> str:
    """The name in a `Host` header, without its port, in small letters."""
    name = header.strip().lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
