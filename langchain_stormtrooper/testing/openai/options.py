"""The settings of one OpenAI-style test server, and what its flavour does by default.

Plain data that never changes; it serves nothing. `OpenAIServer` builds it, every other module of the package reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import ChatTemplate, Precision
    from langchain_stormtrooper.testing.engine import Engine


class Flavour(StrEnum):
    """Whose behaviour a server shows."""

    VLLM = "vllm"
    """vLLM, by default as of 0.32; older releases word errors otherwise and listen to other fields."""
    SGLANG = "sglang"
    """SGLang 0.5; before 0.5.12, `/tokenize` renders no chats."""
    LLAMA_CPP = "llama.cpp"
    """llama.cpp's server of 2026, as far as its OpenAI routes, `/tokenize`, `/apply-template` and `/props` go."""
    GENERIC = "generic"
    """A gateway in front of somebody else's model: OpenAI's routes, its limits and its errors, and nothing more."""


VERSIONS = {Flavour.VLLM: "0.32.0", Flavour.SGLANG: "0.5.12", Flavour.LLAMA_CPP: "b9999", Flavour.GENERIC: "1"}
"""What each flavour says its version is."""

MAX_LOGPROBS: dict[Flavour, int | None] = {
    Flavour.VLLM: 20,
    Flavour.SGLANG: None,
    Flavour.LLAMA_CPP: None,
    Flavour.GENERIC: 5,
}
"""The most alternatives that each flavour shows for a token; None for no limit."""


_LEAST_FLOAT = -3.4028234663852886e38


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one server; `OpenAIServer` documents each."""

    flavour: Flavour
    engine: Engine
    model_id: str
    version: str
    api_key: str | None
    max_model_len: int
    max_logprobs: int | None
    max_prompts: int | None
    models: bool
    completions: bool
    chat: bool
    tokenize: bool
    scores: bool
    logprobs: bool
    drops: frozenset[str]
    refuses_unknown: bool
    guided: bool
    matched_counts: bool
    old_errors: bool
    chat_template: ChatTemplate | None
    precision: Precision
    latency_per_request: float
    latency_per_token: float

    def __post_init__(self) -> None:
        """Refuse what no server would start with."""
        if self.max_model_len < 2:
            raise ValueError("max_model_len must leave room for a token of the prompt and one of the answer")
        if (self.guided or self.old_errors) and self.flavour is not Flavour.VLLM:
            raise ValueError("guided and old_errors are behaviours of old vLLM releases only")

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers that compare, such as (0, 5, 12)."""
        return numbers(self.version)

    @property
    def floor(self) -> float:
        """What stands for the log-probability of the impossible, which JSON cannot hold."""
        return _LEAST_FLOAT if self.flavour is Flavour.SGLANG else -9999.0

    @property
    def bias_shows(self) -> bool:
        """Whether `logit_bias` changes the log-probabilities too, not only the choice."""
        return self.flavour in (Flavour.SGLANG, Flavour.GENERIC)

    @property
    def renders_chats(self) -> bool:
        """Whether `/tokenize` takes the messages of a chat."""
        return self.flavour is Flavour.VLLM or (self.flavour is Flavour.SGLANG and self.release >= (0, 5, 12))

    def with_special(self, ids: list[int]) -> list[int]:
        """Put the token that starts every prompt before it, as the tokenizer does by itself."""
        bos = self.engine.bos
        return ids if bos is None else [bos, *ids]


def numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
