"""Read OpenAI-style bodies and turn them into generate requests, as each version does.

Chat messages become a prompt through the server's template, `max_tokens` becomes `max_new_tokens`, and so on through
the many small differences between versions. It answers nothing. Called by `openai_routes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.bodies import (
    GenerateBody,
    Grammar,
    Json,
    Parameters,
    grammar_reader,
    read_bool,
    read_float,
    read_string,
    read_strings,
    read_u32,
    read_u64,
    required,
    wrong,
)
from langchain_stormtrooper.testing.replies import RouterError, mistyped
from langchain_stormtrooper.testing.tools import choose_tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_stormtrooper.testing.config import Config


@dataclass(slots=True)
class ChatBody:
    """A chat request, already turned into generate requests.

    Attributes:
        generate: What to generate.
        prompt: The rendered messages.
        stream: Whether to stream.
        logprobs: Whether to show log-probabilities.
        include_usage: Whether a stream ends with token counts.
        model: The model's name as asked for; None if not given.
        uses_tools: Whether the answer is a tool call.
    """

    generate: GenerateBody
    prompt: str
    stream: bool
    logprobs: bool
    include_usage: bool
    model: str | None
    uses_tools: bool


@dataclass(slots=True)
class CompletionBody:
    """A completions request, as one generate request for each prompt."""

    generate: list[GenerateBody] = field(default_factory=list)
    stream: bool = False
    model: str | None = None


class OpenAIReader:
    """Reads the OpenAI-style bodies of one server.

    Args:
        config: The server's settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._release = config.release
        self._read_grammar = grammar_reader(config.release)

    # --- chat ---

    def chat(self, raw: Json) -> ChatBody:
        """Read the body of `/v1/chat/completions` or `/chat_tokenize`.

        Raises:
            RejectionError: If a key is missing or of the wrong type.
            RouterError: If the messages cannot be rendered or the tools are not right.
        """
        release = self._release
        messages = required(raw, "messages", self._messages)
        model = self._model(raw)
        parameters = self._common(raw)
        temperature = _optional(raw, "temperature", read_float)
        self._draw(parameters, temperature, greedy_at_zero=release.chat_greedy_at_zero)
        # 1.4.0 calls it frequency and later versions presence; both turn it into this odd repetition penalty.
        penalty = _optional(raw, "presence_penalty" if release.grammar_known else "frequency_penalty", read_float)
        parameters.repetition_penalty = None if penalty is None else penalty + 2.0
        if release.grammar_known:
            parameters.frequency_penalty = _optional(raw, "frequency_penalty", read_float)
        if release.since("1.4.5"):
            parameters.top_n_tokens = _optional(raw, "top_logprobs", read_u32)
        if release.since("1.4.4"):
            parameters.stop = _optional(raw, "stop", read_strings) or []
        if release.since("3.0.2") and parameters.max_new_tokens is None:
            parameters.max_new_tokens = _optional(raw, "max_completion_tokens", read_u32)
        parameters.grammar, uses_tools = self._grammar(raw)
        # Up to 2.4.1 chat asks for prefill details behind the client's back, which bypasses the prefix cache.
        stream = read_bool("stream", raw.get("stream", False))
        parameters.decoder_input_details = not stream and not release.since("3.0.0")
        prompt = self._render(messages)
        return ChatBody(
            GenerateBody(prompt, parameters, stream),
            prompt,
            stream,
            bool(_optional(raw, "logprobs", read_bool)),
            _include_usage(raw) if release.since("2.3.0") else False,
            model,
            uses_tools,
        )

    def _messages(self, path: str, value: Json) -> list[dict[str, str]]:
        if not isinstance(value, list):
            raise wrong(path, value, "a sequence")
        result = []
        for index, item in enumerate(value):
            where = f"{path}[{index}]"
            if not isinstance(item, dict):
                raise wrong(where, item, "struct Message")
            role = required(item, "role", read_string)
            content = item.get("content", "" if self._release.since("2.0.2") else None)
            result.append({"role": role, "content": self._content(f"{where}.content", content)})
        return result

    def _content(self, path: str, value: Json) -> str:
        if isinstance(value, list) and self._release.since("2.0.2"):
            if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
                raise mistyped(f"{path}: data did not match any variant of untagged enum MessageContent")
            return "".join(part["text"] for part in value)
        return read_string(path, value)

    def _grammar(self, raw: Json) -> tuple[Grammar | None, bool]:
        """Read `response_format` and `tools`, of which a request may have one."""
        release = self._release
        grammar = _optional(raw, "response_format", self._read_grammar) if release.since("2.1.0") else None
        tools = raw.get("tools") if release.since("1.4.3") else None
        if not tools or raw.get("tool_choice") == "none":
            return grammar, False
        if grammar is not None:
            if release.since("2.3.0"):
                raise RouterError(422, "Tool error: Grammar and tools are mutually exclusive", "tool_error")
            raise RouterError(422, "Grammar and tools are mutually exclusive", "grammar and tools")
        return Grammar("json", choose_tools(tools, raw.get("tool_choice"))), True

    def _render(self, messages: list[dict[str, str]]) -> str:
        template = self._config.chat_template
        if template is None:
            raise RouterError(422, "Template error: template not found", "template_error")
        try:
            text = template(messages, self._release.tag != "1.4.0")
        except ValueError as error:
            message = f"Template error: syntax error: {error} (in <string>:1)"
            raise RouterError(422, message, "template_error") from error
        last = messages[-1] if messages else None
        if self._release.since("3.0.0") and last is not None and last["role"] == "assistant":
            # The answer continues the last message instead of following it.
            text = text[: text.rindex(last["content"]) + len(last["content"])] if last["content"] in text else text
        return text

    # --- completions ---

    def completion(self, raw: Json) -> CompletionBody:
        """Read the body of `/v1/completions`.

        Raises:
            RejectionError: If a key is missing or of the wrong type.
            RouterError: If it asks for what TGI does not do.
        """
        release = self._release
        prompts = required(raw, "prompt", self._prompts)
        result = CompletionBody(stream=read_bool("stream", raw.get("stream", False)), model=self._model(raw))
        if raw.get("suffix") is not None:
            message = "Suffix is not supported and can be achieved by preprocessing the prompt."
            raise RouterError(422, message, "suffix not supported")
        limit = self._config.max_client_batch_size
        if len(prompts) > limit:
            message = f"Number of prompts exceeds the maximum allowed batch size of {limit}"
            raise RouterError(422, message, "batch size exceeded")
        for prompt in prompts:
            parameters = self._common(raw)
            temperature = _optional(raw, "temperature", read_float)
            self._draw(parameters, temperature, greedy_at_zero=release.completion_greedy_at_zero)
            parameters.repetition_penalty = _optional(raw, "repetition_penalty", read_float)
            parameters.frequency_penalty = _optional(raw, "frequency_penalty", read_float)
            if release.since("2.0.4"):
                parameters.stop = _optional(raw, "stop", read_strings) or []
            parameters.decoder_input_details = not result.stream
            result.generate.append(GenerateBody(prompt, parameters, result.stream))
        return result

    def _prompts(self, path: str, value: Json) -> list[str]:
        if isinstance(value, list) and self._release.since("2.0.1"):
            if not value:
                raise mistyped(f"{path}: Empty array detected. Do not use an empty array for the prompt.")
            return read_strings(path, value)
        return [read_string(path, value)]

    # --- both ---

    def _model(self, raw: Json) -> str | None:
        model: str | None
        if self._release.model_required:
            model = required(raw, "model", read_string)
        else:
            model = _optional(raw, "model", read_string)
        return model

    def _common(self, raw: Json) -> Parameters:
        """Read what chat and completions share."""
        parameters = Parameters(details=True)
        parameters.max_new_tokens = _optional(raw, "max_tokens", read_u32)
        if parameters.max_new_tokens is None and not self._release.since("3.0.0"):
            parameters.max_new_tokens = 100
        parameters.top_p = _optional(raw, "top_p", read_float)
        parameters.seed = _optional(raw, "seed", read_u64)
        return parameters

    @staticmethod
    def _draw(parameters: Parameters, temperature: float | None, *, greedy_at_zero: bool) -> None:
        """Everything is sampled but, in later versions, a temperature of 0."""
        if greedy_at_zero and temperature == 0:
            return
        parameters.do_sample = True
        parameters.temperature = temperature


def _optional(raw: Json, key: str, read: Callable[[str, Json], Any]) -> Any:
    """Read a key that may be missing or null."""
    value = raw.get(key)
    return None if value is None else read(key, value)


def _include_usage(raw: Json) -> bool:
    options = raw.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
