"""The page at `/`: files of this package, sent as they are, under a policy that lets the page reach its own app only.

It knows no classifier and no key: what the page shows, its script asks `/info` and `/classify` for. The files lie in
`static/` and need no build step. Called by `app` only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The browser itself refuses to read a string as HTML or as a script.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The page's Content-Security-Policy."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for every time, and sent only when it is another: an upgrade never mixes old files with new ones.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def add_page(app: FastAPI) -> None:
    """Add `/` and `/static/...`, which are no part of the app's OpenAPI.

    Args:
        app: The app with `/info` and `/classify`.
    """
    for name, file in _read().items():
        path = "/" if name == "index.html" else f"/static/{name}"
        app.add_api_route(path, _sends(file), methods=["GET", "HEAD"], include_in_schema=False, response_model=None)


def _read() -> dict[str, _File]:
    folder = files("langchain_stormtrooper.serving").joinpath("static")
    kinds = ((entry, _TYPES.get(entry.name.rpartition(".")[2])) for entry in folder.iterdir())
    return {entry.name: _File(entry.read_bytes(), kind) for entry, kind in kinds if kind is not None}


def _sends(file: _File) -> Callable[[Request], Awaitable[Response]]:
    headers = {**_HEADERS, "etag": file.etag}

    async def send(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)

    return send
