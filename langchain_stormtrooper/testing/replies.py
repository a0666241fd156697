"""The error replies of TGI, word for word.

A `RouterError` is an error as the router words it, a `RejectionError` one that its HTTP layer makes before any handler
runs. This module words them and never decides when they are due: `bodies`, `validation` and `shard` raise them,
`routes` sends them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass
class RouterError(Exception):
    """An error with TGI's JSON body `{"error", "error_type"}`."""

    status: int
    error: str
    error_type: str

    def body(self) -> dict[str, object]:
        """Return the JSON object."""
        return {"error": self.error, "error_type": self.error_type}

    def encoded(self) -> bytes:
        """Return the body as sent."""
        return json.dumps(self.body(), ensure_ascii=False, separators=(",", ":")).encode()


@dataclass
class RejectionError(Exception):
    """An error made before the handler: a status and one line of plain text, or nothing at all."""

    status: int
    text: str = ""


def invalid(message: str) -> RouterError:
    """A request that breaks a rule."""
    return RouterError(422, f"Input validation error: {message}", "validation")


def overloaded() -> RouterError:
    """No permit left."""
    return RouterError(429, "Model is overloaded", "overloaded")


def generation_failed(message: str) -> RouterError:
    """The model process raised an exception; its text may be empty."""
    return RouterError(424, f"Request failed during generation: Server error: {message}", "generation")


def incomplete(*, stream: bool) -> RouterError:
    """The model process stopped answering in the middle.

    Args:
        stream: Whether to use the wording that streams have since 2.3.0.
    """
    if stream:
        return RouterError(500, "Incomplete generation stream", "incomplete_generation_stream")
    return RouterError(500, "Incomplete generation", "incomplete_generation")


def unhealthy() -> RouterError:
    """The health check failed."""
    return RouterError(503, "unhealthy", "healthcheck")


def no_fast_tokenizer() -> RouterError:
    """`/tokenize` on a server whose model has no fast tokenizer."""
    return RouterError(404, "No fast tokenizer or tokenizer.json for this model", "no fast tokenizer")


def malformed(detail: str) -> RejectionError:
    """A body that is not JSON."""
    return RejectionError(400, f"Failed to parse the request body as JSON: {detail}")


def mistyped(detail: str) -> RejectionError:
    """A body that is JSON of the wrong shape."""
    return RejectionError(422, f"Failed to deserialize the JSON body into the target type: {detail}")
