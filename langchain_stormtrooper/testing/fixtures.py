"""Pytest fixtures that start servers and clean up after them.

Put `pytest_plugins = ["langchain_stormtrooper.testing.fixtures"]` in the top-level conftest.py (or import the fixtures
there), and ask for `tgi_server` or `openai_server` in a test. Imports pytest, which the package does not depend on; no
other module does.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from langchain_stormtrooper.testing.openai_server import OpenAIServer
from langchain_stormtrooper.testing.server import TGIServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tgi_server() -> Iterator[Callable[..., TGIServer]]:
    """Give a function that starts a server; it takes what `TGIServer` takes, and all are closed after the test.

    Example:
        >>> def test_labels(tgi_server):
        ...     server = tgi_server("2.4.1", max_concurrent_requests=8)
        ...     assert server.requests == 0
    """
    with ExitStack() as running:

        def start(*args: Any, **kwargs: Any) -> TGIServer:
            return running.enter_context(TGIServer(*args, **kwargs))

        yield start


@pytest.fixture
def openai_server() -> Iterator[Callable[..., OpenAIServer]]:
    """Give a function that starts a server; it takes what `OpenAIServer` takes, and all are closed after the test.

    Example:
        >>> def test_scores(openai_server):
        ...     server = openai_server("sglang", max_model_len=512)
        ...     assert server.requests == 0
    """
    with ExitStack() as running:

        def start(*args: Any, **kwargs: Any) -> OpenAIServer:
            return running.enter_context(OpenAIServer(*args, **kwargs))

        yield start
