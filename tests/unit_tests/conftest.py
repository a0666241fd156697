"""What holds for all unit tests: no network, and property tests that find the same cases everywhere."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from pytest_socket import disable_socket, enable_socket

settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("default"), derandomize=False, max_examples=3000)
# A mutant is dead at its first failure, however long the example.
settings.register_profile(
    "mutation", settings.get_profile("default"), max_examples=25, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Event loops need a unix socket pair; nothing else is opened, unless a test is marked with `enable_socket`."""
    if item.get_closest_marker("enable_socket"):
        enable_socket()
    else:
        disable_socket(allow_unix_socket=True)
