"""The errors of OpenAI-style servers, in each flavour's words and shape.

An `ApiError` carries what went wrong; `error_body` writes it as the flavour does. This module never decides when an
error is due: `bodies`, `lengths`, `generating` and `scores` raise,
`front` sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.options import Flavour

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.openai.options import Options


@dataclass
class ApiError(Exception):
    """A refusal.

    Attributes:
        status: The HTTP status.
        message: What it says.
        param: The field at fault, where the flavour names it.
        code: OpenAI's name for the kind of error, which only gateways send.
        value: The value at fault, which vLLM repeats.
        kind: What the error is called; by default what the flavour calls errors of this status.
        headers: More headers.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    value: Any = None
    kind: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


ROUTING = "routing"
"""The kind of errors that FastAPI itself words, since no route is there to word them."""

_VLLM_KINDS = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 500: "InternalServerError"}
_OPENAI_KINDS = {401: "invalid_request_error", 429: "requests", 500: "server_error"}
_LLAMA_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    500: "server_error",
    501: "not_supported_error",
}


def error_body(error: ApiError, options: Options) -> dict[str, Any]:
    """Write an error as its flavour does."""
    flavour, status = options.flavour, error.status
    if status == 401 and flavour in (Flavour.VLLM, Flavour.SGLANG):
        return {"error": "Unauthorized"}
    if error.kind == ROUTING and flavour in (Flavour.VLLM, Flavour.SGLANG):
        return {"detail": error.message}
    if flavour is Flavour.LLAMA_CPP:
        kind = error.kind or _LLAMA_KINDS.get(status, "server_error")
        extra = error.value if isinstance(error.value, dict) else {}
        return {"error": {"code": status, "message": error.message, "type": kind, **extra}}
    if flavour is Flavour.GENERIC:
        kind = error.kind or _OPENAI_KINDS.get(status, "invalid_request_error")
        return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
    kind = error.kind or _VLLM_KINDS.get(status, HTTPStatus(status).phrase)
    if flavour is Flavour.SGLANG or options.old_errors:
        return {"object": "error", "message": error.message, "type": kind, "param": None, "code": status}
    extras = [("parameter", error.param), ("value", error.value)] if error.kind is None else []
    said = ", ".join(f"{name}={value}" for name, value in extras if value is not None)
    message = f"{error.message} ({said})" if said else error.message
    return {"error": {"message": message, "type": kind, "param": error.param, "code": status}}


def invalid(message: str, param: str | None = None, value: Any = None) -> ApiError:
    """A request that breaks a rule of the server."""
    return ApiError(400, message, param, value=value)


def mistyped(field_name: str, kind: str, message: str, given: Any, options: Options) -> ApiError:
    """A body of the wrong shape, as FastAPI's validation words it; these servers answer 400 instead of 422.

    Args:
        field_name: The field at fault.
        kind: pydantic's name for the mistake, such as "missing" or "int_parsing".
        message: pydantic's sentence for it.
        given: The value at fault.
        options: The server's settings.
    """
    if options.flavour is Flavour.GENERIC:
        detail = {"type": kind, "loc": ("body", field_name), "msg": message, "input": given}
        return ApiError(400, f"[{detail}]", field_name)
    place = f"body.{field_name}"
    detail = {"type": kind, "loc": place, "msg": message, "input": given}
    kind_of_error = None if options.flavour is Flavour.LLAMA_CPP else "Bad Request"
    return ApiError(400, f"1 validation error:\n  {detail}", place, kind=kind_of_error)


def unauthorized(options: Options) -> ApiError:
    """The key is missing or wrong."""
    message = "Invalid API Key" if options.flavour is Flavour.LLAMA_CPP else "Incorrect API key provided."
    return ApiError(401, message, code="invalid_api_key")


def no_such_route(options: Options) -> ApiError:
    """Nothing is served under this path."""
    return ApiError(
        404, "File Not Found" if options.flavour is Flavour.LLAMA_CPP else "Not Found", kind=_routing(options)
    )


def wrong_method(options: Options) -> ApiError:
    """The route is there, but not with this method; llama.cpp does not tell the difference."""
    if options.flavour is Flavour.LLAMA_CPP:
        return no_such_route(options)
    return ApiError(405, "Method Not Allowed", kind=_routing(options))


def _routing(options: Options) -> str | None:
    return ROUTING if options.flavour in (Flavour.VLLM, Flavour.SGLANG) else None


def no_such_model(model: str, options: Options) -> ApiError:
    """The model named in the request is not the one that is served."""
    if options.flavour is Flavour.GENERIC:
        return ApiError(
            404, f"The model `{model}` does not exist or you do not have access to it.", "model", code="model_not_found"
        )
    more = f" Valid aliases: {options.model_id}." if options.release >= (0, 32) else ""
    return ApiError(404, f"The model `{model}` does not exist.{more}", "model", kind="NotFoundError")


def busy(options: Options, headers: dict[str, str] | None = None) -> ApiError:
    """Too many requests."""
    message = "Rate limit reached for requests" if options.flavour is Flavour.GENERIC else "Too many requests"
    return ApiError(429, message, code="rate_limit_exceeded", headers=headers or {})


def failed(message: str) -> ApiError:
    """The engine raised an exception or stopped answering."""
    return ApiError(500, message)
