"""Whether a prompt fits the context, and how each flavour and each release of vLLM says that it does not.

The words differ more than the rule does, and clients have to tell an overlong prompt from other refusals by them.
Called by `bodies` and `scores`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import ApiError, invalid

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.openai.options import Options


def check_length(text: str | None, tokens: int, wanted: int, options: Options) -> None:
    """Refuse a prompt that is too long for the context.

    Args:
        text: The prompt as a text; None if it was given as token ids.
        tokens: Its length.
        wanted: The tokens of the answer asked for; 0 for none.
        options: The server's settings.

    Raises:
        ApiError: If it does not fit.
    """
    limit, flavour = options.max_model_len, options.flavour
    if flavour is Flavour.VLLM and options.release >= (0, 32):
        _check_vllm(text, tokens, wanted, options)
    elif flavour is Flavour.LLAMA_CPP:
        # llama.cpp cuts answers at the end of the context.
        if tokens >= limit:
            raise ApiError(
                400,
                f"request ({tokens} tokens) exceeds the available context size ({limit} tokens), try increasing it",
                kind="exceed_context_size_error",
                value={"n_prompt_tokens": tokens, "n_ctx": limit},
            )
    elif tokens + wanted > limit or (flavour is Flavour.SGLANG and tokens >= limit):
        raise _refusal(text, tokens, wanted, options)


def _check_vllm(text: str | None, tokens: int, wanted: int, options: Options) -> None:
    """Do as vLLM 0.32 does: it only asks that the prompt fits, and cuts the answer at the end of the context."""
    limit = options.max_model_len
    if wanted > limit:
        say = f"max_tokens={wanted} cannot be greater than max_model_len={limit}. Please request fewer output tokens."
        raise invalid(say, "max_tokens", wanted)
    starts = f"This model's maximum context length is {limit} tokens. However, your prompt contains "
    characters = limit * max(map(len, options.engine.vocabulary))
    if text is not None and len(text) > characters:
        raise invalid(
            f"{starts}{len(text)} characters (more than {characters} characters, which is the upper bound for {limit} "
            "input tokens). Please reduce the length of the input prompt.",
            "input_text",
            len(text),
        )
    if tokens > limit:
        count, least = _counted(text, tokens, limit)
        raise invalid(
            f"{starts}{least}{count} input tokens, which exceeds this limit even without any output tokens. Please "
            "reduce the length of the input prompt.",
            "input_tokens",
            count,
        )
    if tokens == limit and wanted:
        # No word of the context: the room for the answer is clamped to nothing, and that is what is refused.
        raise invalid("max_tokens must be at least 1, got 0.", "max_tokens", 0)


def _counted(text: str | None, tokens: int, room: int) -> tuple[int, str]:
    """Return the length that vLLM knows of: it stops cutting a text into tokens one beyond what fits."""
    count = tokens if text is None else min(tokens, room + 1)
    return count, "at least " if count == room + 1 else ""


def _refusal(text: str | None, tokens: int, wanted: int, options: Options) -> ApiError:
    limit = options.max_model_len
    starts = f"This model's maximum context length is {limit} tokens. However, "
    if options.flavour is Flavour.VLLM:
        return _older_vllm(text, tokens, wanted, options)
    if options.flavour is Flavour.GENERIC:
        return ApiError(
            400,
            f"{starts}your messages resulted in {tokens} tokens. Please reduce the length of the messages.",
            "messages",
            code="context_length_exceeded",
        )
    if tokens >= limit:
        return invalid(f"The input ({tokens} tokens) is longer than the model's context length ({limit} tokens).")
    return invalid(
        f"Requested token count exceeds the model's maximum context length of {limit} tokens. You requested a total of "
        f"{tokens + wanted} tokens: {tokens} tokens from the input messages and {wanted} tokens for the completion. "
        "Please reduce the number of tokens in the input messages or the completion to fit within the limit."
    )


def _older_vllm(text: str | None, tokens: int, wanted: int, options: Options) -> ApiError:
    """Word the refusals of vLLM before 0.32, which wanted room for the whole answer."""
    limit, release = options.max_model_len, options.release
    starts = f"This model's maximum context length is {limit} tokens. However, "
    room = limit - wanted
    count, least = _counted(text, tokens, room)
    if release >= (0, 18):
        return invalid(
            f"{starts}you requested {wanted} output tokens and your prompt contains {least}{count} input tokens, for a "
            f"total of {least}{count + wanted} tokens. Please reduce the length of the input prompt or the number of "
            "requested output tokens.",
            "input_tokens",
            count,
        )
    if release >= (0, 16):
        return invalid(
            f"You passed {count} input tokens and requested {wanted} output tokens. However, the model's context "
            f"length is only {limit} tokens, resulting in a maximum input length of {room} tokens. Please reduce the "
            "length of the input prompt.",
            "input_tokens",
            count,
        )
    if release >= (0, 11):
        if tokens >= limit:
            say = f"{starts}your request has {tokens} input tokens. Please reduce the length of the input messages."
            return invalid(say)
        return invalid(
            f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum context length is "
            f"{limit} tokens and your request has {tokens} input tokens ({wanted} > {limit} - {tokens})."
        )
    return invalid(
        f"{starts}you requested {tokens + wanted} tokens ({tokens} in the messages, {wanted} in the completion). "
        "Please reduce the length of the messages or completion."
    )
