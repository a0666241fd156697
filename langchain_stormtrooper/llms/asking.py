"""Asking a server what is asked once, and then kept for all rows.

A row that fails is one row; what is learnt from a spoilt answer would be wrong for every row that follows. Such
requests are few and change nothing, so they are asked again. Used by `tgi`, and by `answering` for priors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from langchain_stormtrooper.errors import RequestFailedError
from langchain_stormtrooper.wire.details import NoDetailsError

T = TypeVar("T")

REPEATS = 2


async def ask_again(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask, and ask again after an answer that is spoilt, breaks off, comes too late or makes no sense.

    Raises:
        StormtrooperError: What the last answer stands for; a clear word of the server is not asked for twice.
    """
    for _ in range(REPEATS):
        try:
            return await ask()
        except NoDetailsError:
            raise
        except RequestFailedError as error:
            # What the protocol says may be retried has been, with pauses.
            if error.is_retryable and error.status is not None:
                raise
    return await ask()
