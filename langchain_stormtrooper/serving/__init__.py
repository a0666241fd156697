"""A classifier as an HTTP app: `create_app` makes the FastAPI app, the command `serve` runs it under uvicorn.

`app` puts the routes together; `bodies` says what is asked and answered, `answers` asks the classifier, `tasks` makes
classifiers for labels that come with a request. What every request has to pass stands around the app as plain ASGI:
`metrics`, `hosts`, `keys`, `gate`. `readiness` says whether requests make sense, `running` is the life of the process.
Texts and labels are never logged or counted by name. Needs the extra `serve`, which is imported only when an app is
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_stormtrooper.serving.settings import read_settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import SecretStr

    from langchain_stormtrooper.classifiers import TextClassifier


def create_app(
    classifier: TextClassifier,
    *,
    api_key: SecretStr | str | None = None,
    max_body_bytes: int = 2**20,
    max_texts: int = 1000,
    max_labels: int = 200,
    max_requests: int = 64,
    body_timeout: float = 30.0,
    fixed_labels: bool = False,
    allowed_hosts: Sequence[str] | None = None,
) -> FastAPI:
    """An ASGI app that classifies texts over HTTP.

    Routes: `POST /classify`, `GET /health`, `/ready`, `/info`, `/metrics` and `/openapi.json`; a page at `/`; those of
    LangServe under `/langserve` when it is installed. The classifier is prepared when the app starts or is first asked.

    Args:
        classifier: What answers where a request brings no labels.
        api_key: The bearer token that requests must bring, except for `/health`, `/ready`, `/openapi.json` and the
            page itself. None for an app that answers everybody who reaches it.
        max_body_bytes: Bytes of the longest body of a request; more is a 413.
        max_texts: Texts that one request may have.
        max_labels: Labels that a request may bring.
        max_requests: Requests that are worked on at once; one more is a 429 with Retry-After.
        body_timeout: Seconds in which the body of a request must have come, and each piece of the answer must be taken.
        fixed_labels: Whether requests may bring no labels, text_kind or label_kind of their own. Those of a
            `FewShotClassifier` are always fixed, since its examples have them.
        allowed_hosts: The names, without ports, that the app answers to; others are a 421. None for any. On a machine
            where somebody browses, an app without a key should have them: else a web page can reach it by a name of
            its own (DNS rebinding).

    Returns:
        The app, for any ASGI server.

    Raises:
        ConfigurationError: An argument makes no sense.
        MissingExtraError: The extra `serve` is not installed.
    """
    settings = read_settings(
        classifier,
        api_key=api_key,
        max_body_bytes=max_body_bytes,
        max_texts=max_texts,
        max_labels=max_labels,
        max_requests=max_requests,
        body_timeout=body_timeout,
        fixed_labels=fixed_labels,
        allowed_hosts=allowed_hosts,
    )
    from langchain_stormtrooper.serving.app import build

    return build(classifier, settings)


__all__ = ["create_app"]
