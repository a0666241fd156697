"""Read the bodies of completions and chat requests, as each flavour does.

Turns parsed JSON into an `Ask`: what to generate from which prompts, and what to show of it. Fields that the server
drops are forgotten here, those that it does not know are ignored or refused. It generates nothing. Called by `front`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.asks import Ask, Prompt
from langchain_stormtrooper.testing.openai.constraints import pattern_of
from langchain_stormtrooper.testing.openai.fields import KINDS, Fields, check_ids
from langchain_stormtrooper.testing.openai.lengths import check_length
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import ApiError, invalid, mistyped, no_such_model

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.openai.options import Options

_SHARED = """
model frequency_penalty logit_bias logprobs max_tokens n presence_penalty response_format seed stop stream
stream_options temperature top_p user
"""
_COMPLETION = "prompt best_of echo suffix"
_CHAT = "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls metadata store"
_SGLANG = """
top_k min_p min_tokens json_schema regex ebnf repetition_penalty stop_token_ids stop_regex no_stop_trim ignore_eos
skip_special_tokens lora_path session_params custom_params rid extra_key cache_salt priority return_token_ids
chat_template_kwargs continue_final_message
"""

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_TOKEN_IDS = 128


class Reader:
    """Reads the bodies of one server.

    Args:
        options: The server's settings.
    """

    def __init__(self, options: Options) -> None:
        self._options = options

    def completion(self, raw: Any) -> Ask:
        """Read the body of `/v1/completions`.

        Raises:
            ApiError: If it is refused.
        """
        fields = Fields(raw, self._options)
        fields.refuse_unknown(self._known(_COMPLETION))
        ask = Ask(self._prompts(fields), chat=False, model=self.model(fields))
        ask.max_tokens = fields.get("max_tokens", int, 16)
        ask.echo = fields.get("echo", bool, False)
        ask.logprobs = fields.get("logprobs", int)
        if ask.logprobs is None and self._options.flavour is Flavour.LLAMA_CPP:
            ask.logprobs = fields.get("n_probs", int) or None
        self._common(fields, ask)
        return ask

    def chat(self, raw: Any) -> Ask:
        """Read the body of `/v1/chat/completions`.

        Raises:
            ApiError: If it is refused.
        """
        options = self._options
        fields = Fields(raw, options)
        fields.refuse_unknown(self._known(_CHAT))
        text = self.rendered(fields)
        # A chat template writes the special tokens itself; the plain ones of this server have none.
        add = fields.get("add_special_tokens", bool, options.flavour is not Flavour.VLLM)
        prompt = self.prompt(text, special=add)
        ask = Ask([prompt], chat=True, model=self.model(fields))
        room = options.max_model_len - len(prompt.ids)
        wanted = fields.get("max_completion_tokens", int, fields.get("max_tokens", int))
        ask.max_tokens = max(room, 1) if wanted is None else wanted
        if fields.get("logprobs", bool, False):
            ask.logprobs = fields.get("top_logprobs", int, 0)
        elif fields.get("top_logprobs", int, 0):
            raise invalid("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
        self._common(fields, ask)
        return ask

    def rendered(self, fields: Fields) -> str:
        """Render the messages of a chat.

        Raises:
            ApiError: If they cannot be rendered.
        """
        template = self._options.chat_template
        if template is None:
            raise invalid(
                "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat "
                "template if the tokenizer does not define one."
            )
        fields.need("messages")
        messages = [self._message(item) for item in fields.get("messages", list)]
        goes_on = fields.get("continue_final_message", bool, False)
        if not messages:
            raise invalid("Cannot apply chat template to an empty conversation. Provide at least one message.")
        if goes_on and fields.get("add_generation_prompt", bool, False):
            raise invalid("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        try:
            text = template(messages, fields.get("add_generation_prompt", bool, True) and not goes_on)
        except ValueError as error:
            raise invalid(str(error)) from error
        if goes_on:
            said = messages[-1]["content"]
            text = text[: text.rindex(said) + len(said)]
        return text

    def _message(self, item: Any) -> dict[str, str]:
        content = item.get("content") if isinstance(item, dict) else None
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if not isinstance(content, str) or not isinstance(item.get("role"), str):
            raise mistyped("messages", *KINDS["str"], item, self._options)
        return {"role": item["role"], "content": content}

    def _encode(self, text: str) -> list[int]:
        """Cut a text into token ids; the names of the tokens that start and end a text are read as these tokens."""
        engine = self._options.engine
        special = {engine.name(token): token for token in (engine.bos, engine.eos) if token is not None}
        ids: list[int] = []
        for piece in re.split("(" + "|".join(map(re.escape, special)) + ")", text):
            ids += [special[piece]] if piece in special else engine.encode(piece)
        return ids

    def prompt(self, given: str | list[int], *, special: bool = True) -> Prompt:
        """Make a prompt of a text or of token ids, which are taken as they are."""
        options = self._options
        if isinstance(given, str):
            if options.flavour is Flavour.VLLM and _SURROGATE.search(given):
                raise invalid("TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]")
            ids = self._encode(given)
            return Prompt(given, tuple(options.with_special(ids) if special else ids))
        check_ids(given, "prompt", options)
        return Prompt(self.written(given, special=False), tuple(given), spelled=False)

    def written(self, ids: list[int], *, special: bool) -> str:
        """Write token ids as a text, with the names of special tokens or without."""
        engine = self._options.engine
        texts = (engine.vocabulary[token] or (engine.name(token).encode() if special else b"") for token in ids)
        return b"".join(texts).decode("utf-8", "replace")

    def model(self, fields: Fields) -> str | None:
        """Read the model's name.

        Raises:
            ApiError: If it is not the one that is served, where the flavour minds.
        """
        options = self._options
        name: str | None = fields.get("model", str) or None
        minds = options.flavour in (Flavour.VLLM, Flavour.GENERIC)
        if name is None and options.flavour is Flavour.GENERIC:
            raise mistyped("model", "missing", "Field required", fields.raw, options)
        if minds and name is not None and name != options.model_id:
            raise no_such_model(name, options)
        return name

    def _known(self, own: str) -> frozenset[str]:
        """Return the names of all fields that a route knows."""
        more = _SGLANG if self._options.flavour is Flavour.SGLANG else ""
        return frozenset((_SHARED + own + " " + more).split())

    def _prompts(self, fields: Fields) -> list[Prompt]:
        options = self._options
        given = fields.raw.get("prompt")
        if given is None and options.flavour is not Flavour.VLLM:
            fields.need("prompt")
        if given == [] and options.flavour is Flavour.VLLM:
            raise invalid("You must pass at least one prompt")
        if not given:
            say = (
                "Prompt cannot be empty"
                if options.flavour is Flavour.SGLANG
                else ("Either prompt or prompt_embeds must be provided and non-empty.")
            )
            raise invalid(say, "prompt")
        several = (
            [given] if isinstance(given, str) or (isinstance(given, list) and isinstance(given[0], int)) else given
        )
        if not isinstance(several, list) or not all(_is_prompt(item) for item in several):
            raise mistyped("prompt", *KINDS["str"], given, options)
        if options.max_prompts is not None and len(several) > options.max_prompts:
            raise invalid(
                f"prompt list length {len(several)} exceeds the maximum allowed count of {options.max_prompts}.",
                "prompt",
            )
        special = fields.get("add_special_tokens", bool, True)
        return [self.prompt(item, special=special) for item in several]

    def _common(self, fields: Fields, ask: Ask) -> None:
        """Read and check what completions and chats share."""
        options, flavour = self._options, self._options.flavour
        ask.stream = fields.get("stream", bool, False)
        streaming = fields.get("stream_options", dict)
        if streaming and not ask.stream and flavour in (Flavour.VLLM, Flavour.GENERIC):
            raise invalid("Stream options can only be defined when `stream=True`.", "stream_options")
        ask.include_usage = bool(streaming and streaming.get("include_usage"))
        ask.temperature = float(fields.get("temperature", float, 1.0))
        if ask.temperature < 0:
            say = f"temperature must be non-negative, got {ask.temperature}."
            raise invalid(say, "temperature", ask.temperature)
        ask.seed = fields.get("seed", int)
        ask.n = fields.get("n", int, 1)
        if ask.n > 1 and ask.greedy and flavour is Flavour.VLLM:
            raise invalid(f"n must be 1 when using greedy sampling, got {ask.n}.")
        stop = fields.raw.get("stop", [])
        ask.stop = [stop] if isinstance(stop, str) else fields.get("stop", list, [])
        if not all(isinstance(one, str) for one in ask.stop):
            raise mistyped("stop", "string_type", "Input should be a valid string", stop, options)
        ask.bias = self._bias(fields)
        ask.pattern = pattern_of(fields.raw, options)
        if flavour is Flavour.VLLM:
            self._vllm(fields, ask)
        ask.return_ids = flavour in (Flavour.VLLM, Flavour.SGLANG) and fields.get("return_token_ids", bool, False)
        if flavour in (Flavour.VLLM, Flavour.SGLANG):
            ask.stop_ids = frozenset(fields.ids("stop_token_ids") or ())
        if flavour is not Flavour.GENERIC:
            ask.ignore_eos = fields.get("ignore_eos", bool, False)
            ask.min_tokens = fields.get("min_tokens", int, 0)
        self._check(ask)

    def _vllm(self, fields: Fields, ask: Ask) -> None:
        """Read what only vLLM has."""
        ask.as_ids = fields.get("return_tokens_as_token_ids", bool, False)
        ask.prompt_logprobs = fields.get("prompt_logprobs", int)
        if ask.prompt_logprobs is None and ask.echo:
            ask.prompt_logprobs = ask.logprobs
        elif ask.prompt_logprobs and ask.stream:
            raise invalid("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
        allowed = fields.get("allowed_token_ids", list)
        if allowed is not None:
            if not allowed:
                raise invalid("allowed_token_ids is not None and empty!", "allowed_token_ids", allowed)
            check_ids(allowed, "allowed_token_ids", self._options)
            ask.allowed = frozenset(allowed)
        ask.keep_stop = fields.get("include_stop_str_in_output", bool, False)
        keep = fields.get("truncate_prompt_tokens", int)
        if keep is not None:
            keep = self._options.max_model_len - 1 if keep == -1 else max(keep, 0)
            ask.prompts = [
                replace(self.prompt(list(prompt.ids[-keep:])), uncut=prompt.text) if keep < len(prompt.ids) else prompt
                for prompt in ask.prompts
            ]
        ask.logprob_token_ids = fields.ids("logprob_token_ids") or None
        if ask.logprob_token_ids is not None:
            _check_token_ids(ask, ask.logprob_token_ids, self._options)

    def _bias(self, fields: Fields) -> dict[int, float]:
        given = fields.get("logit_bias", dict, {})
        wrong = [key for key in given if not key.lstrip("-").isdecimal()]
        if wrong:
            say = f"logit_bias contains key(s) that cannot be converted to integer token IDs: {wrong}"
            raise invalid(say, "logit_bias", wrong)
        for value in given.values():
            if not isinstance(value, int | float):
                raise mistyped("logit_bias", *KINDS["float"], given, self._options)
        bias = {int(token): max(-100.0, min(100.0, float(value))) for token, value in given.items()}
        check_ids(list(bias), "logit_bias", self._options)
        return bias

    def _check(self, ask: Ask) -> None:
        """Refuse what the flavour's limits forbid."""
        options, flavour = self._options, self._options.flavour
        if not options.logprobs:
            ask.logprobs = ask.prompt_logprobs = ask.logprob_token_ids = None
        limited = ask.logprob_token_ids is None or options.matched_counts
        counts = {"logprobs": ask.logprobs if limited else None, "prompt_logprobs": ask.prompt_logprobs}
        for name, count in counts.items():
            self._check_count(name, count, ask)
        if ask.max_tokens < 1 and not (ask.max_tokens == 0 and ask.echo and flavour is not Flavour.SGLANG):
            raise invalid(f"max_tokens must be at least 1, got {ask.max_tokens}.", "max_tokens", ask.max_tokens)
        for prompt in ask.prompts:
            if not prompt.ids:
                raise invalid("The decoder prompt cannot be empty")
            check_length(prompt.text if prompt.spelled else None, len(prompt.ids), ask.max_tokens, options)

    def _check_count(self, name: str, count: int | None, ask: Ask) -> None:
        options = self._options
        if count is None:
            return
        if count < 0 and not (count == -1 and options.flavour is Flavour.VLLM):
            raise invalid(f"`{name}` must be a positive value or -1.", name, count)
        limit, wanted = options.max_logprobs, len(options.engine.vocabulary) if count == -1 else count
        if limit is None or wanted <= limit:
            return
        if options.flavour is Flavour.GENERIC:
            raise ApiError(400, f"Invalid value for '{name}': must be less than or equal to {limit}.", name)
        kind = "prompt" if name == "prompt_logprobs" else "sample"
        raise invalid(
            f"Requested {kind} logprobs of {wanted}, which is greater than max allowed: {limit}", name, wanted
        )


def _check_token_ids(ask: Ask, wanted: list[int], options: Options) -> None:
    """Refuse `logprob_token_ids` that vLLM refuses; their number takes the place of `logprobs`."""
    name, count = "logprob_token_ids", len(wanted)
    if ask.echo and ask.max_tokens == 0:
        raise invalid(
            "`logprob_token_ids` is not supported when `echo=True` and `max_tokens=0` because no output tokens are "
            "generated.",
            name,
        )
    if ask.logprobs is None:
        raise invalid("when using `logprob_token_ids`, `logprobs` must be set.", name)
    if count > _MAX_TOKEN_IDS:
        say = f"Requested logprob_token_ids of length {count}, which is greater than max allowed: {_MAX_TOKEN_IDS}"
        raise invalid(say, name, count)
    if options.matched_counts and ask.logprobs != count:
        raise invalid(
            "When both logprobs and logprob_token_ids are set, logprobs must equal len(logprob_token_ids). Got "
            f"logprobs={ask.logprobs}, len(logprob_token_ids)={count}.",
            name,
            count,
        )


def _is_prompt(item: Any) -> bool:
    if isinstance(item, list):
        return bool(item) and all(isinstance(token, int) for token in item)
    return isinstance(item, str)
