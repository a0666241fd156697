"""Scoring routes: SGLang's `/v1/score` and vLLM's `/generative_scoring`.

Both put a query and each item together and tell how likely some tokens come next. SGLang joins their texts and answers
with one number for each token; vLLM joins their tokens and answers with the first token's share only. Called by
`front`.
"""

from __future__ import annotations

import math
import time
import uuid
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.fields import Fields
from langchain_stormtrooper.testing.openai.lengths import check_length
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import invalid, mistyped

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.openai.asks import Prompt
    from langchain_stormtrooper.testing.openai.bodies import Reader
    from langchain_stormtrooper.testing.openai.generating import Generator
    from langchain_stormtrooper.testing.openai.options import Options


class Scorer:
    """Answers scoring requests.

    Args:
        options: The server's settings.
        reader: What makes prompts.
        generator: What knows probabilities.
    """

    def __init__(self, options: Options, reader: Reader, generator: Generator) -> None:
        self._options = options
        self._reader = reader
        self._generator = generator

    def score(self, raw: Any) -> tuple[dict[str, Any], list[Prompt]]:
        """Answer a request; returns the prompts too, for the counters.

        Raises:
            ApiError: If it is refused.
        """
        vllm = self._options.flavour is Flavour.VLLM
        fields = Fields(raw, self._options)
        name = self._reader.model(fields)
        for needed in ("query", "items"):
            fields.need(needed)
        labels = fields.get("label_token_ids", list)
        if labels is None:
            if vllm:
                raise mistyped("label_token_ids", "missing", "Field required", fields.raw, self._options)
            raise invalid("label_token_ids is required for generation (CausalLM) models.")
        self._check(labels)
        softmax = fields.get("apply_softmax", bool, vllm)
        prompts = self._prompts(fields)
        rows = [self._row(prompt, labels, softmax=softmax) for prompt in prompts]
        tokens = sum(len(prompt.ids) for prompt in prompts)
        if not vllm:
            return {"scores": rows, "model": name or "default", "usage": None, "object": "scoring"}, prompts
        data = [{"index": index, "object": "score", "score": row[0]} for index, row in enumerate(rows)]
        return {
            "id": f"generative-scoring-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": self._options.model_id,
            "data": data,
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens + len(rows),
                "completion_tokens": len(rows),
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
        }, prompts

    def _check(self, labels: list[Any]) -> None:
        size, vllm = len(self._options.engine.vocabulary), self._options.flavour is Flavour.VLLM
        for token in labels:
            if not isinstance(token, int) or not 0 <= token < size:
                raise invalid(
                    f"label_token_id {token} is out of vocabulary range [0, {size}). Please provide valid token IDs."
                    if vllm
                    else f"Token ID {token} is out of vocabulary (vocab size: {size})"
                )
        if not labels:
            raise invalid("label_token_ids must contain at least one token ID.")
        limit = self._options.max_logprobs
        if vllm and limit is not None and len(labels) > limit:
            say = f"Requested sample logprobs of {len(labels)}, which is greater than max allowed: {limit}"
            raise invalid(say, "logprobs", len(labels))

    def _prompts(self, fields: Fields) -> list[Prompt]:
        query, items = fields.need("query"), fields.need("items")
        items = [items] if isinstance(items, str) else items
        if not isinstance(items, list) or not items:
            raise invalid("items must contain at least one item.")
        first = fields.get("item_first", bool, False)
        special = fields.get("add_special_tokens", bool, True)
        prompts = [self._joined(query, item, first=first, special=special) for item in items]
        limit = self._options.max_model_len
        if self._options.flavour is Flavour.VLLM:
            # vLLM cuts what is too long without a word, and so scores the middle of the item.
            return [self._reader.prompt(list(prompt.ids[: limit - 1])) for prompt in prompts]
        for prompt in prompts:
            check_length(prompt.text, len(prompt.ids), 0, self._options)
        return prompts

    def _joined(self, query: Any, item: Any, *, first: bool, special: bool) -> Prompt:
        """Join query and item as the flavour does: as texts, or as tokens."""
        encode, vllm = self._options.engine.encode, self._options.flavour is Flavour.VLLM
        if not vllm and isinstance(query, str) and isinstance(item, str):
            return self._reader.prompt(item + query if first else query + item)
        head = encode(query) if isinstance(query, str) else query
        if vllm and special and isinstance(query, str):
            # vLLM starts the query with the special token even where the query comes last.
            head = self._options.with_special(head)
        tail = encode(item) if isinstance(item, str) else item
        return self._reader.prompt([*tail, *head] if first else [*head, *tail])

    def _row(self, prompt: Prompt, labels: list[int], *, softmax: bool) -> list[float]:
        following = self._generator.following(prompt)
        values = [following.probability(token) for token in labels]
        return [value / math.fsum(values) for value in values] if softmax else values
