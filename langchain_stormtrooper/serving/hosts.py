"""The names that an app answers to; see `addresses`. Plain ASGI around the app."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from langchain_stormtrooper.addresses import host_name
from langchain_stormtrooper.serving.refusals import RefusedError
from langchain_stormtrooper.serving.sending import header, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class HostCheck:
    """Lets requests through that name a host of this app.

    Args:
        app: The app behind.
        hosts: The names, without ports; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host_name(name) for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if self._hosts is None or scope["type"] != "http" or self._is_ours(scope):
            await self._app(scope, receive, send)
            return
        refusal = RefusedError(421, "This app is not reached by that name: start it with --allow-host NAME.")
        await refuse(refusal, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        assert self._hosts is not None  # noqa: S101  # looked at before
        return host_name((header(scope, b"host") or b"").decode("latin-1")) in self._hosts
