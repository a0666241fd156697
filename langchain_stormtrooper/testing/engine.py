"""What the server asks of a language model: three methods and five facts.

The protocol between the wire and whatever predicts tokens. `ScriptedEngine` implements it from a script; an adapter
around a real model (llama.cpp, say) implements the same few members and is passed as `TGIServer(engine=...)`. Nothing
here predicts, opens sockets or knows of TGI versions.

Writing an adapter: give `vocabulary` the bytes of each token (grammars are matched on them), let `next_token` return
the log-softmax of the model for the next position, and set `blocking` to True so that the server calls it on a worker
thread, one call at a time. `Prediction.of_logprobs` turns a full row of log-probabilities into what is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Background:
    """Fixed weights over the whole vocabulary, for the tokens that a prediction does not list.

    Attributes:
        weights: One weight for each token id, adding up to 1.
        ranked: Token ids by falling weight.
    """

    weights: Sequence[float]
    ranked: Sequence[int]

    @staticmethod
    def zipf(ranked: Sequence[int]) -> Background:
        """Make weights that fall with rank, no two alike, so that top-n lists have no accidental ties."""
        raw = [1.0 / (rank + 10) for rank in range(len(ranked))]
        total = math.fsum(raw)
        weights = [0.0] * len(ranked)
        for rank, token in enumerate(ranked):
            weights[token] = raw[rank] / total
        return Background(weights, ranked)


@dataclass(frozen=True)
class Prediction:
    """The probability of every token at one position, kept sparse.

    A token that is listed has its listed probability; any other has `scale` times its background weight. Together they
    add up to 1.

    Attributes:
        listed: Probability by token id.
        scale: What to multiply the background of unlisted tokens with.
        background: The weights of unlisted tokens; None when every token is listed.
    """

    listed: Mapping[int, float]
    scale: float = 0.0
    background: Background | None = None
    # Filled by the decoder with results that depend on nothing but this object, such as its ranking.
    memo: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of_logprobs(row: Iterable[float]) -> Prediction:
        """Build a prediction from the log-softmax of a real model, one number for each token id."""
        return Prediction({token: math.exp(value) for token, value in enumerate(row)})

    def probability(self, token: int) -> float:
        """Return the probability of one token."""
        found = self.listed.get(token)
        if found is not None:
            return found
        return self.scale * self.background.weights[token] if self.background else 0.0


class Engine(Protocol):
    """A language model as the server sees it."""

    @property
    def vocabulary(self) -> Sequence[bytes]:
        """The bytes that each token id adds to a text, by id; empty for special tokens."""
        ...

    @property
    def bos(self) -> int | None:
        """The token put before every prompt of a causal model, or None if there is none."""
        ...

    @property
    def eos(self) -> int:
        """The token that ends a generation."""
        ...

    @property
    def pad(self) -> int:
        """The token that the decoder of a sequence-to-sequence model starts with."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether `next_token` takes long enough to be called on a worker thread."""
        ...

    def encode(self, text: str) -> list[int]:
        """Cut a text into token ids, without special tokens."""
        ...

    def name(self, token: int) -> str:
        """Write one token as its vocabulary entry; used for special tokens and single bytes."""
        ...

    def next_token(self, prompt: str, generated: Sequence[int]) -> Prediction:
        """Predict the token that follows a prompt and the tokens generated so far."""
        ...
