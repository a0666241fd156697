"""LangServe's routes within the app, under the app's rules: JSON bodies, refusals in one sentence, nothing repeated.

Called by `app` where LangServe is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from langchain_stormtrooper.errors import StormtrooperError
from langchain_stormtrooper.serving.refusals import NOT_JSON, refusal_of
from langchain_stormtrooper.serving.sending import is_json, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from langchain_stormtrooper.classifiers import TextClassifier


def make_langserve(classifier: TextClassifier) -> FastAPI:
    """An app of its own: what LangServe's routes take and answer is LangServe's to describe."""
    from langserve import add_routes

    app = FastAPI(title="LangServe", docs_url=None, redoc_url=None)

    async def answer(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error, own_labels=True)
        return Response(refusal.body, refusal.status, dict(refusal.headers), media_type="application/json")

    # Its own answers would be a bare 500, or repeat what was sent.
    for kind in (StormtrooperError, ValidationError, RequestValidationError):
        app.add_exception_handler(kind, answer)
    add_routes(app, classifier)
    app.add_middleware(_JsonOnly)
    return app


class _JsonOnly:
    """Refuses bodies of other kinds, which a page of another site may send without asking first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and not is_json(scope):
            await refuse(NOT_JSON, receive, send)
            return
        await self._app(scope, receive, send)
