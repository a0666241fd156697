"""What a `HuggingFaceEndpoint` of langchain-huggingface says of a TGI server.

`TextGenerationInference.from_endpoint` is the only caller. It reads fields by their names, imports nothing of the other
package and asks no server. Settings that would sample are left out and named; credentials are taken only if the user
passed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from langchain_stormtrooper.errors import ConfigurationError

_ROUTES = ("/generate_stream", "/generate", "/v1/chat/completions", "/v1/completions", "/v1")
_HUB = ("api-inference.huggingface.co", "router.huggingface.co", "huggingface.co")
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (None,),
    "top_p": (None,),
    "typical_p": (None,),
    "top_k": (None,),
    "seed": (None,),
    "repetition_penalty": (None, 1.0),
    "do_sample": (False,),
    "watermark": (False,),
    "truncate": (None,),
    "return_full_text": (False,),
}
"""Settings that our LLM does not have, and the values with which they do nothing."""


def read_endpoint(endpoint: Any) -> tuple[dict[str, Any], list[str]]:
    """Arguments for `TextGenerationInference`, and the names of settings that are dropped.

    Args:
        endpoint: A `HuggingFaceEndpoint`, or a `HuggingFaceTextGenInference`.

    Raises:
        ConfigurationError: It is something else, or names a model on the Hub and no server.
    """
    if not (hasattr(endpoint, "endpoint_url") or hasattr(endpoint, "inference_server_url")):
        raise ConfigurationError(
            f"`from_endpoint` takes a HuggingFaceEndpoint, not a {type(endpoint).__name__}: of a ChatHuggingFace, pass "
            "its `llm`."
        )
    arguments: dict[str, Any] = {"base_url": _address(endpoint)}
    if "huggingfacehub_api_token" in endpoint.model_fields_set and endpoint.huggingfacehub_api_token:
        arguments["api_key"] = endpoint.huggingfacehub_api_token
    if stop := list(getattr(endpoint, "stop_sequences", None) or ()):
        arguments["stop"] = stop
    for name in ("max_new_tokens", "timeout"):
        if (value := getattr(endpoint, name, None)) is not None:
            arguments[name] = value
    further = getattr(endpoint, "server_kwargs", None) or {}
    if isinstance(headers := further.get("headers"), Mapping) and headers:
        arguments["headers"] = dict(headers)
    dropped = [
        name for name, neutral in _NEUTRAL.items() if hasattr(endpoint, name) and getattr(endpoint, name) not in neutral
    ]
    dropped += sorted(getattr(endpoint, "model_kwargs", None) or {})
    dropped += sorted(set(further) - {"headers"})
    return arguments, dropped


def _address(endpoint: Any) -> str:
    """Where the server is; the fields in the order in which the other package goes by them."""
    given = [getattr(endpoint, name, None) for name in ("endpoint_url", "model", "inference_server_url")]
    url = next((one for one in given if isinstance(one, str) and one.startswith(("http://", "https://"))), None)
    if url is None or (urlsplit(url).hostname or "").lower() in _HUB:
        raise ConfigurationError(
            "This endpoint names a model on the Hugging Face Hub and no TGI server: pass the endpoint itself as a "
            "classifier's `llm=`, or give the address of a server as TextGenerationInference(base_url=...)."
        )
    url = url.rstrip("/")
    for route in _ROUTES:
        if url.endswith(route):
            return url.removesuffix(route).rstrip("/")
    return url
