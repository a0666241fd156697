"""The JSON of completions and chat answers, flavour by flavour.

Pure: requests and generations in, dictionaries out. Called by `front`.
"""

from __future__ import annotations

import time
import uuid
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.decoding import REPLACEMENT
from langchain_stormtrooper.testing.openai.options import Flavour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_stormtrooper.testing.openai.asks import Ask, Prompt
    from langchain_stormtrooper.testing.openai.generating import Generation, Generator, Shown, Step
    from langchain_stormtrooper.testing.openai.options import Options

Json = dict[str, Any]


class Shapes:
    """Writes the answers of one server.

    Args:
        options: The server's settings.
        generator: What knows the texts of tokens.
    """

    def __init__(self, options: Options, generator: Generator) -> None:
        self._options = options
        self._flavour = options.flavour
        self._piece = generator.piece
        self._fingerprint = f"vllm-{options.version}-00000000"

    def envelope(self, ask: Ask, *, chunk: bool = False) -> Json:
        """Write what all answers to one request, and all chunks of its stream, have in common."""
        name = ("chat.completion.chunk" if chunk else "chat.completion") if ask.chat else "text_completion"
        number = uuid.uuid4().hex
        # SGLang never looks at the model's name and repeats what it was called.
        echoes = self._flavour in (Flavour.SGLANG, Flavour.LLAMA_CPP)
        return {
            "id": number if self._flavour is Flavour.SGLANG else f"{'chatcmpl' if ask.chat else 'cmpl'}-{number}",
            "object": name,
            "created": int(time.time()),
            "model": (ask.model or "default") if echoes else self._options.model_id,
        }

    def answer(self, ask: Ask, generations: Sequence[Generation], prompts: Sequence[list[Step]]) -> Json:
        """Write a whole answer.

        Args:
            ask: The request.
            generations: Its answers, all those to the first prompt first.
            prompts: The scored prompts, if any were to be.
        """
        choices = []
        for index, generation in enumerate(generations):
            prompt = ask.prompts[index // ask.n]
            scored = prompts[index // ask.n] if prompts else []
            choices.append(self._choice(ask, index, generation, prompt, scored))
        result = {**self.envelope(ask), "choices": choices, "usage": self.usage(ask, generations)}
        if self._flavour is Flavour.VLLM:
            empty = ("service_tier", "system_fingerprint", "kv_transfer_params", "ec_transfer_params", "metrics")
            result |= dict.fromkeys(empty)
            result["system_fingerprint"] = self._fingerprint
            if ask.chat:
                scored = prompts[0] if prompts else []
                ids = list(ask.prompts[0].ids) if ask.return_ids else None
                result |= {"prompt_logprobs": self._prompt_logprobs(ask, scored), "prompt_token_ids": ids}
                result["prompt_text"] = None
        elif self._flavour is Flavour.SGLANG:
            result["metadata"] = {"weight_version": "default"}
        return result

    def _choice(self, ask: Ask, index: int, generation: Generation, prompt: Prompt, scored: list[Step]) -> Json:
        shown = generation.steps
        text = generation.text
        if ask.echo:
            text = ("" if ask.return_ids and self._flavour is Flavour.VLLM else prompt.echoed) + text
            if scored or self._flavour is not Flavour.VLLM:
                shown = [*scored, *generation.steps]
        choice: Json = {"index": index}
        if ask.chat:
            choice["message"] = self._message(generation.text)
        else:
            choice["text"] = text
        choice["logprobs"] = self.logprobs(ask, shown)
        choice |= self._ending(generation)
        if self._flavour is Flavour.VLLM:
            ids = [step.token for step in generation.steps]
            choice["token_ids"] = ids if ask.return_ids else None
            choice["routed_experts"] = None
            if not ask.chat:
                choice["prompt_logprobs"] = self._prompt_logprobs(ask, scored)
                choice["prompt_token_ids"] = list(prompt.ids) if ask.return_ids else None
        elif self._flavour is Flavour.SGLANG and ask.return_ids:
            choice["token_ids"] = [step.token for step in generation.steps]
            choice["prompt_token_ids"] = list(prompt.ids)
        return choice

    def _message(self, text: str) -> Json:
        message: Json = {"role": "assistant", "content": text}
        if self._flavour is Flavour.VLLM:
            empty = dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
            return message | empty | {"reasoning": None}
        if self._flavour is Flavour.SGLANG:
            return message | {"reasoning_content": None, "tool_calls": None}
        return message

    def _ending(self, generation: Generation | None) -> Json:
        """Write why an answer ended; nothing yet without a generation."""
        reason = None if generation is None else generation.finish_reason
        matched: Any = None if generation is None else generation.matched
        if self._flavour is Flavour.VLLM:
            return {"finish_reason": reason, "stop_reason": matched}
        if self._flavour is Flavour.SGLANG:
            if generation is not None and generation.ended:
                matched = self._options.engine.eos
            return {"finish_reason": reason, "matched_stop": matched}
        return {"finish_reason": reason}

    def usage(self, ask: Ask, generations: Sequence[Generation]) -> Json:
        """Count tokens."""
        prompt = sum(len(item.ids) for item in ask.prompts)
        answer = sum(len(generation.steps) for generation in generations)
        if self._flavour is Flavour.VLLM and not ask.max_tokens:
            # To echo a prompt alone, vLLM generates a token and throws it away.
            answer = len(generations)
        counts: Json = {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}
        if self._flavour in (Flavour.VLLM, Flavour.SGLANG):
            counts["prompt_tokens_details"] = None
        if self._flavour is Flavour.VLLM:
            counts["completion_tokens_details"] = None
        if self._flavour is Flavour.SGLANG:
            counts["reasoning_tokens"] = 0
        return counts

    # --- streams ---

    def chunk(
        self,
        ask: Ask,
        envelope: Json,
        index: int,
        steps: Sequence[Step],
        delta: str,
        done: Generation | None,
        place: int,
    ) -> Json:
        """Write one chunk.

        Args:
            ask: The request.
            envelope: What all its chunks have in common.
            index: Which answer it belongs to.
            steps: The tokens of the chunk, one unless the prompt is shown too.
            delta: The text to show with it, which stop sequences may hold back.
            done: The answer, if it is complete with this chunk.
            place: How many characters of the answer were shown before.
        """
        choice: Json = {"index": index}
        if ask.chat:
            choice["delta"] = {"content": delta}
        else:
            choice["text"] = delta
        choice["logprobs"] = self.logprobs(ask, steps, place)
        choice |= self._ending(done)
        if self._flavour is Flavour.VLLM:
            choice["token_ids"] = None
            if not ask.chat:
                choice["prompt_token_ids"] = None
            elif done is None:
                del choice["stop_reason"]
        return {**envelope, "choices": [choice]}

    def closing(self, ask: Ask, envelope: Json, generations: Sequence[Generation]) -> Json:
        """Write the chunk that ends a stream with the token counts; vLLM leaves out what is null."""
        counts = self.usage(ask, generations)
        if self._flavour is not Flavour.VLLM:
            return {**envelope, "choices": [], "usage": counts}
        counts = {name: count for name, count in counts.items() if count is not None}
        return {**envelope, "choices": [], "usage": counts, "system_fingerprint": self._fingerprint}

    def opening(self, envelope: Json, index: int) -> Json:
        """Write the chunk that opens a streamed chat."""
        delta = {"role": "assistant", "content": ""}
        chunk = {**envelope, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}]}
        return chunk | {"prompt_token_ids": None, "prompt_text": None} if self._flavour is Flavour.VLLM else chunk

    # --- log-probabilities ---

    def logprobs(self, ask: Ask, steps: Sequence[Step], place: int = 0) -> Json | None:
        """Write log-probabilities as completions or chats have them; None if they were not asked for."""
        if ask.logprobs is None:
            return None
        if ask.chat or self._flavour is Flavour.LLAMA_CPP:
            return {"content": [self._chat_entry(ask, step) for step in steps]}
        tokens = [self._named(ask, step.token, step) for step in steps]
        top = [None if step.chosen is None else self._top(ask, step) for step in steps]
        offsets = [-1] * len(tokens)
        if self._flavour is Flavour.SGLANG:
            # It knows no places, and no list at all where no alternatives are asked for.
            top = top if ask.logprobs else []
        else:
            offsets = list(accumulate((len(token) for token in tokens), initial=place))[: len(tokens)]
        return {
            "text_offset": offsets,
            "token_logprobs": [None if step.chosen is None else step.chosen.logprob for step in steps],
            "tokens": tokens,
            "top_logprobs": top,
        }

    def _entries(self, step: Step) -> list[Shown]:
        """Return the alternatives to show: vLLM puts the chosen token first, wherever it ranks."""
        if self._flavour is not Flavour.VLLM or step.chosen is None:
            return step.top
        return [step.chosen, *(item for item in step.top if item.token != step.token)]

    def _top(self, ask: Ask, step: Step) -> dict[str, float]:
        """Write alternatives by their text; of those with the same text vLLM shows the last, others the first."""
        entries = self._entries(step)
        if self._flavour is not Flavour.VLLM:
            entries = entries[::-1]
        found = {self._named(ask, item.token, step): item.logprob for item in entries}
        return found if self._flavour is Flavour.VLLM else dict(reversed(found.items()))

    def _chat_entry(self, ask: Ask, step: Step) -> Json:
        entries = self._entries(step)
        if ask.logprob_token_ids is None and ask.logprobs is not None and ask.logprobs >= 0:
            entries = entries[: ask.logprobs]
        own = step.chosen
        return {
            **self._bytes(ask, step.token, self._options.floor if own is None else own.logprob, step),
            "top_logprobs": [self._bytes(ask, item.token, item.logprob, step) for item in entries],
        }

    def _bytes(self, ask: Ask, token: int, logprob: float, step: Step) -> Json:
        named = self._named(ask, token, step)
        entry: Json = {"token": named, "logprob": logprob, "bytes": list(named.encode("utf-8", "replace"))}
        if self._flavour is Flavour.LLAMA_CPP:
            entry["id"] = token
        return entry

    def _named(self, ask: Ask, token: int, step: Step) -> str:
        return f"token_id:{token}" if ask.as_ids else self._shown(token, step)

    def _shown(self, token: int, step: Step) -> str:
        """Return a token's text; vLLM shows a character with its last byte, and nothing for the bytes before."""
        if self._flavour is not Flavour.VLLM:
            return self._piece(token)
        data = self._options.engine.vocabulary[token]
        text = (step.pending + data).decode("utf-8", "replace")
        if not data or not text.endswith(REPLACEMENT):
            return text if data else self._piece(token)
        return ""

    def _prompt_logprobs(self, ask: Ask, scored: Sequence[Step]) -> list[Json | None] | None:
        """Write the scores of a prompt by token id, which JSON makes a text."""
        if ask.prompt_logprobs is None or not scored:
            return None
        return [
            None
            if step.chosen is None
            else {
                str(item.token): {
                    "logprob": item.logprob,
                    "rank": item.rank,
                    "decoded_token": self._shown(item.token, step),
                }
                for item in self._entries(step)
            }
            for step in scored
        ]
