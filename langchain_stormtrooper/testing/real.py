"""A real model behind the test server: `LlamaCppEngine`, for a laptop stand-in for TGI.

Adapts a `LlamaCpp` to the engine protocol. Each step is one request to llama.cpp for the likeliest tokens; what is
beyond them shares the rest of the probability evenly, so that scores of very unlikely tokens are approximate. Used by
`dev-server`; nothing else in the package imports it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from langchain_stormtrooper import bridge
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.llms.llamacpp_client import LlamaCppClient
from langchain_stormtrooper.testing.engine import Background, Prediction

LISTED = 1000
"""Tokens whose probability is exact."""


class LlamaCppEngine:
    """A llama.cpp model as the test server's engine.

    Args:
        llm: The model; the embedded one by default.
    """

    blocking = True

    def __init__(self, llm: LlamaCpp | None = None) -> None:
        self._llm = llm or LlamaCpp()

    @cached_property
    def _entries(self) -> dict[int, bytes]:
        """The bytes of every token, which llama.cpp tells beside their probabilities."""
        # Asked for more tokens than there are, it lists them all.
        return {entry["id"]: bytes(entry["bytes"]) for entry in self._ask(self.encode("a"), 1_000_000)}

    @cached_property
    def _special(self) -> frozenset[int]:
        """Tokens that are no text: their names are read as such only where special tokens are looked for."""
        named = {token: text for token, text in self._entries.items() if text.startswith(b"<") and text.endswith(b">")}
        return frozenset(
            token
            for token, text in named.items()
            if self._tokenize(text.decode("utf-8", "replace"), special=True) == [token]
            and self._tokenize(text.decode("utf-8", "replace"), special=False) != [token]
        )

    @cached_property
    def vocabulary(self) -> Sequence[bytes]:
        """The bytes of each token, by id; empty for special tokens."""
        size = max(self._entries) + 1
        return [b"" if token in self._special else self._entries.get(token, b"") for token in range(size)]

    @property
    def _client(self) -> LlamaCppClient:
        return bridge.run(self._llm._aclient)

    @cached_property
    def _properties(self) -> dict[str, Any]:
        properties: dict[str, Any] = bridge.run(self._client.get, "/props").json()
        return properties

    @cached_property
    def bos(self) -> int | None:
        """The token put before every prompt, or None if the model wants none."""
        client = self._client
        started = list(bridge.run(lambda: client.tokenize("a", start=True)))
        return started[0] if len(started) > len(self.encode("a")) else None

    @cached_property
    def eos(self) -> int:
        """The token that ends a generation."""
        return self._tokenize(self._properties["eos_token"], special=True)[0]

    @property
    def pad(self) -> int:
        """Not used: the model is causal."""
        return self.eos

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        client = self._client
        return list(bridge.run(lambda: client.tokenize(text, special=special)))

    def encode(self, text: str) -> list[int]:
        """Cut a text into token ids; special tokens in it are read as such, as TGI does."""
        return self._tokenize(text, special=True)

    def name(self, token: int) -> str:
        """One token as its vocabulary entry."""
        return self._entries.get(token, b"").decode("utf-8", "replace")

    def next_token(self, prompt: str, generated: Sequence[int]) -> Prediction:
        """Predict the token that follows a prompt and the tokens generated so far."""
        start = [] if self.bos is None else [self.bos]
        entries = self._ask([*start, *self.encode(prompt), *generated], LISTED)
        listed = {entry["id"]: math.exp(entry["logprob"]) for entry in entries}
        background = self._background
        rest = 1.0 - math.fsum(listed.values())
        unlisted = 1.0 - math.fsum(background.weights[token] for token in listed)
        return Prediction(listed, scale=max(0.0, rest) / unlisted if unlisted > 0 else 0.0, background=background)

    @cached_property
    def _background(self) -> Background:
        size = len(self.vocabulary)
        return Background([1.0 / size] * size, range(size))

    def _ask(self, tokens: Sequence[int], count: int) -> list[dict[str, Any]]:
        body = {"prompt": list(tokens), "n_predict": 1, "temperature": 0, "n_probs": count, "cache_prompt": True}
        response = bridge.run(self._client.post, "/completion", json.dumps(body).encode())
        entries: list[dict[str, Any]] = response.json()["completion_probabilities"][0]["top_logprobs"]
        return entries
