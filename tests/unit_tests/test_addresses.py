"""By which names servers are reached."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.addresses import host_name, is_all, is_loopback, names_of


@pytest.mark.parametrize(
    ("address", "loopback", "every", "names"),
    [
        ("127.0.0.1", True, False, []),
        ("127.0.0.2", True, False, ["127.0.0.2"]),
        ("localhost", True, False, []),
        ("::1", True, False, []),
        ("0.0.0.0", False, True, []),  # noqa: S104  # an address to tell apart
        ("::", False, True, []),
        ("192.168.1.7", False, False, ["192.168.1.7"]),
        ("fe80::1%eth0", False, False, ["[fe80::1%eth0]"]),
        ("box.local", False, False, ["box.local"]),
    ],
)
def test_addresses(address: str, loopback: bool, every: bool, names: list[str]) -> None:
    """The loopback has names of its own, all addresses have none, any other is its own name."""
    assert (is_loopback(address), is_all(address), names_of(address)) == (loopback, every, names)


@pytest.mark.parametrize(
    ("header", "name"),
    [("Box.Local:80", "box.local"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), (" box ", "box"), ("", "")],
)
def test_host_names(header: str, name: str) -> None:
    """A name is compared without its port, whatever its case."""
    assert host_name(header) == name
