"""The JSON of chat and completions answers, version by version.

Pure: outcomes in, dictionaries out. Called by `openai_routes`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.tools import tool_calls

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.decoding import Decoder, Generation, Step
    from langchain_stormtrooper.testing.openai_bodies import ChatBody
    from langchain_stormtrooper.testing.replies import RouterError
    from langchain_stormtrooper.testing.shard import Outcome


class Shapes:
    """Writes the OpenAI-style answers of one server.

    Args:
        config: The server's settings.
        decoder: What knows the texts of tokens.
    """

    def __init__(self, config: Config, decoder: Decoder) -> None:
        self._config = config
        self._release = config.release
        self._shown = decoder.shown

    def _envelope(self, kind: str, model: str | None) -> dict[str, Any]:
        # From 2.2.0 on, any model but "tgi" is taken for an adapter and echoed.
        named = model if model not in (None, "tgi") and not self._release.model_required else self._config.model_id
        return {
            "object": kind,
            "id": "",
            "created": int(time.time()),
            "model": named,
            "system_fingerprint": f"{self._release.reported}-native",
        }

    def finish_reason(self, reason: str) -> str:
        """Return a finish reason as OpenAI-style answers have it."""
        return "stop" if reason == "eos_token" and self._release.since("2.3.0") else reason

    # --- chat ---

    def chat(self, body: ChatBody, outcome: Outcome) -> dict[str, Any]:
        """Write the answer of a chat request.

        Raises:
            RouterError: If a tool call was wanted and did not come out.
        """
        release, generation = self._release, outcome.generation
        message: dict[str, Any] = {"role": "assistant"}
        if body.uses_tools:
            message["tool_calls"] = tool_calls(generation.text, release)
        else:
            message["content"] = generation.text
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(generation.steps) if body.logprobs else None,
            "finish_reason": self.finish_reason(generation.finish_reason),
        }
        kind = "chat.completion" if release.since("2.1.1") else "text_completion"
        usage = _usage(outcome.job.input_length, len(generation.steps))
        return {**self._envelope(kind, body.model), "choices": [choice], "usage": usage}

    def chat_chunk(
        self, body: ChatBody, step: Step, index: int, finished: Generation | None, tokens: int
    ) -> list[dict[str, Any]]:
        """Write the events of one token of a streamed chat."""
        release = self._release
        text = "" if step.special and release.since("2.3.0") else step.text
        if body.uses_tools:
            call = {"index": 0, "id": "", "type": "function", "function": {"name": "", "arguments": text}}
            delta: dict[str, Any] = {"role": "assistant", "tool_calls": [call]}
        else:
            delta = {"role": "assistant", "content": text}
        logprobs: Any = None
        if body.logprobs:
            logprobs = self._logprobs([step]) if release.grammar_known else step.logprob
        choice = {
            "index": 0 if release.since("2.3.0") else index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": self.finish_reason(finished.finish_reason) if finished else None,
        }
        kind = "chat.completion.chunk" if release.since("2.1.1") else "text_completion"
        event = {**self._envelope(kind, body.model), "choices": [choice]}
        if not (body.include_usage and finished):
            return [event]
        usage = _usage(tokens, len(finished.steps))
        if release.since("3.2.0"):
            return [event, {**self._envelope(kind, body.model), "choices": [], "usage": usage}]
        return [{**event, "usage": usage}]

    def _logprobs(self, steps: list[Step]) -> Any:
        if not self._release.grammar_known:
            return [step.logprob for step in steps]
        content = []
        for step in steps:
            top = [self._shown(*item) for item in step.top]
            content.append(
                {
                    "token": step.text,
                    "logprob": step.logprob,
                    "top_logprobs": [{"token": item["text"], "logprob": item["logprob"]} for item in top],
                }
            )
        return {"content": content}

    # --- completions ---

    def completion(self, model: str | None, outcomes: list[Outcome]) -> dict[str, Any]:
        """Write the answer of a completions request."""
        choices = [
            self._text_choice(index, outcome.generation.text, self.finish_reason(outcome.generation.finish_reason))
            for index, outcome in enumerate(outcomes)
        ]
        prompt = sum(outcome.job.input_length for outcome in outcomes)
        answer = sum(len(outcome.generation.steps) for outcome in outcomes)
        return {**self._envelope("text_completion", model), "choices": choices, "usage": _usage(prompt, answer)}

    def completion_chunk(
        self, model: str | None, step: Step, index: int, finished: Generation | None, tokens: int
    ) -> dict[str, Any]:
        """Write the event of one token of a streamed completion."""
        reason = finished.finish_reason if finished else ""
        event = {
            **self._envelope("text_completion", model),
            "choices": [self._text_choice(index, step.text, reason)],
        }
        return {**event, "usage": _usage(tokens, len(finished.steps))} if finished else event

    @staticmethod
    def _text_choice(index: int, text: str, reason: str) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}

    # --- both ---

    def error_event(self, error: RouterError, *, chat: bool) -> dict[str, Any] | None:
        """Write an error inside a stream; None if this version keeps quiet about it."""
        if self._release.openai_error_events:
            return {"error": {"message": error.error, "http_status_code": 422}}
        if chat and self._release.swallows_chat_errors:
            return None
        return error.body()


def _usage(prompt: int, answer: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
