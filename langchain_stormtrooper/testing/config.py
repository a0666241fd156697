"""The settings of one test server, checked once.

A `Config` is what a TGI operator would give on the command line, plus the model and its speed. It is plain data: it
serves nothing and never changes. `TGIServer` builds it, every other module reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from langchain_stormtrooper.testing.versions import Family, Release

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.engine import Engine

Precision = Literal["float64", "float32", "float16", "bfloat16"]

ChatTemplate = Callable[[Sequence[Mapping[str, str]], bool], str]
"""Renders messages (`role`, `content`) to a prompt; the flag asks for the header of the answer at the end.

A ValueError is the template's objection, as of one that knows no system role.
"""


def default_chat_template(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """Render messages in a plain format, each under its role."""
    text = "".join(f"<|{message['role']}|>\n{message['content']}\n" for message in messages)
    return text + ("<|assistant|>\n" if add_generation_prompt else "")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one server; `TGIServer` documents each."""

    release: Release
    engine: Engine
    family: Family
    max_input_tokens: int
    max_total_tokens: int
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    max_client_batch_size: int
    api_key: str | None
    grammar: bool
    prefix_caching: bool
    prefill_logprobs: bool
    latency_per_request: float
    latency_per_token: float
    latency_per_prompt_token: float
    batch_window: float
    model_id: str
    pipeline_tag: str | None
    has_tokenizer: bool
    chat_template: ChatTemplate | None
    messages_api: bool
    precision: Precision
    sentencepiece: bool
    keepalive: float

    def __post_init__(self) -> None:
        """Refuse what no TGI would start with."""
        if not 0 < self.max_input_tokens < self.max_total_tokens:
            raise ValueError("max_input_tokens must be positive and less than max_total_tokens")
        if self.max_concurrent_requests < 1:
            raise ValueError("max_concurrent_requests must be at least 1")
        if self.api_key is not None and not self.release.has_api_key:
            raise ValueError(f"TGI {self.release.tag} cannot ask for an api key; that came with 2.3.0")

    @cached_property
    def counts_tokens(self) -> bool:
        """Whether the router can count the tokens of a prompt."""
        return self.has_tokenizer or self.release.always_has_tokenizer

    @cached_property
    def caches_prefixes(self) -> bool:
        """Whether prefixes of earlier prompts are reused."""
        return self.prefix_caching and self.release.has_prefix_cache and self.family is Family.FLASH

    def with_special(self, ids: list[int]) -> list[int]:
        """Add the special tokens that the model's tokenizer adds by itself."""
        if self.family is Family.SEQ2SEQ:
            return [*ids, self.engine.eos]
        if self.engine.bos is None:
            return ids
        return [self.engine.bos, *ids]
