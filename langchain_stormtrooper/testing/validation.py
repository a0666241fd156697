"""The rules a generate request must keep, in the order in which TGI checks them.

Takes a typed request and returns a `Job` ready for the model, or raises the refusal that TGI would word. It never
touches permits, sockets or the clock. Called by `routes` and `chat` once a permit is held.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.replies import invalid
from langchain_stormtrooper.testing.schema import check_grammar
from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.bodies import GenerateBody, Grammar, Parameters
    from langchain_stormtrooper.testing.config import Config

CHUNK = 1024
"""How many new tokens the length check counts at most, from 3.1.1 on."""


@dataclass(slots=True)
class Sampling:
    """How tokens are drawn; a greedy job has none."""

    seed: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None


@dataclass(slots=True)
class Job:
    """A request that has passed all checks."""

    inputs: str
    prompt: str
    """What the model sees: `inputs`, cut from the left if `truncate` asked for it."""
    prompt_ids: list[int]
    input_length: int
    max_new_tokens: int
    parameters: Parameters
    sampling: Sampling | None
    grammar: Grammar | None


def check_streaming(parameters: Parameters) -> None:
    """Refuse what streams cannot do; checked before anything else.

    Raises:
        RouterError: If `best_of` is not 1 or prefill details are asked for.
    """
    if parameters.best_of is not None and parameters.best_of != 1:
        raise invalid("`best_of` != 1 is not supported when streaming tokens")
    if parameters.decoder_input_details:
        raise invalid("`decoder_input_details` == true is not supported when streaming tokens")


def check_best_of(parameters: Parameters, config: Config) -> int:
    """Return how many generations are wanted, before a permit is taken for each.

    Raises:
        RouterError: If there are too many.
    """
    best_of = 1 if parameters.best_of is None else parameters.best_of
    if best_of > 1:
        if config.max_best_of == 1:
            raise invalid("`best_of` != 1 is not allowed for this endpoint")
        if best_of > config.max_best_of:
            raise invalid(f"`best_of` must be > 0 and <= {config.max_best_of}. Given: {best_of}")
    return best_of


def validate(body: GenerateBody, config: Config, *, special_tokens: bool = True) -> Job:
    """Check a request and prepare it for the model.

    Args:
        body: The request as read.
        config: The server's settings.
        special_tokens: Whether the tokenizer adds its own, which chat does not want from 2.3.0 on.

    Raises:
        RouterError: At the first rule that is broken.
    """
    parameters = body.parameters
    sampling = _check_parameters(parameters, config)
    if not body.inputs:
        raise invalid("`inputs` cannot be empty")
    truncate = parameters.truncate
    if truncate is not None and not 0 < truncate <= config.max_input_tokens:
        raise invalid(
            f"`truncate` must be strictly positive and less than {config.max_input_tokens}. Given: {truncate}"
        )
    ids = (
        config.with_special(config.engine.encode(body.inputs)) if special_tokens else config.engine.encode(body.inputs)
    )
    full_length = len(ids)
    prompt = body.inputs
    if not config.counts_tokens:
        # The router cannot count, so the model process keeps the last tokens and says nothing.
        keep = min(truncate or config.max_input_tokens, config.max_input_tokens)
        ids, prompt = _cut(ids, prompt, keep, config)
        return _job(body, prompt, ids, len(ids), _uncounted_budget(parameters, config), sampling, config)
    if truncate is not None:
        ids, prompt = _cut(ids, prompt, truncate, config)
    counted = full_length if config.release.truncate_ignored_by_checks else len(ids)
    new_tokens = _check_lengths(counted, parameters.max_new_tokens, config)
    return _job(body, prompt, ids, len(ids), new_tokens, sampling, config)


def _check_parameters(parameters: Parameters, config: Config) -> Sampling | None:
    """Check everything but the prompt, and work out whether tokens are drawn or the best is taken."""
    best_of = 1 if parameters.best_of is None else parameters.best_of
    sampled = bool(
        parameters.do_sample
        or parameters.temperature is not None
        or parameters.top_k is not None
        or parameters.top_p is not None
        or parameters.typical_p is not None
    )
    if best_of > 1 and not sampled:
        raise invalid("you must use sampling when `best_of` is > 1")
    if parameters.temperature is not None and parameters.temperature <= 0:
        raise invalid("`temperature` must be strictly positive")
    if parameters.repetition_penalty is not None and parameters.repetition_penalty <= 0:
        raise invalid("`repetition_penalty` must be strictly positive")
    if parameters.frequency_penalty is not None and not -2 <= parameters.frequency_penalty <= 2:
        raise invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
    if parameters.top_p is not None and not 0 < parameters.top_p < 1:
        raise invalid("`top_p` must be > 0.0 and < 1.0")
    if parameters.typical_p is not None and not 0 < parameters.typical_p < 1:
        raise invalid("`typical_p` must be > 0.0 and < 1.0")
    if parameters.top_k is not None and parameters.top_k <= 0:
        raise invalid("`top_k` must be strictly positive")
    if parameters.max_new_tokens == 0:
        raise invalid("`max_new_tokens` must be strictly positive")
    if len(parameters.stop) > config.max_stop_sequences:
        raise invalid(
            f"`stop` supports up to {config.max_stop_sequences} stop sequences. Given: {len(parameters.stop)}"
        )
    if parameters.seed is not None and best_of > 1:
        raise invalid("`seed` must not be set when `best_of` > 1")
    if parameters.top_n_tokens is not None and parameters.top_n_tokens > config.max_top_n_tokens:
        raise invalid(f"`top_n_tokens` must be >= 0 and <= {config.max_top_n_tokens}. Given: {parameters.top_n_tokens}")
    return _sampling(parameters)


def _sampling(parameters: Parameters) -> Sampling | None:
    """Decide as the model process does: a temperature of exactly 1 alone does not switch sampling on."""
    warped = (
        (parameters.temperature is not None and parameters.temperature != 1.0)
        or (parameters.top_k is not None and parameters.top_k != 0)
        or parameters.top_p is not None
        or parameters.typical_p is not None
    )
    if not (parameters.do_sample or warped):
        return None
    seed = parameters.seed if parameters.seed is not None else random.getrandbits(64)
    temperature = parameters.temperature or 1.0
    return Sampling(seed, temperature, parameters.top_k, parameters.top_p, parameters.typical_p)


def _cut(ids: list[int], prompt: str, keep: int, config: Config) -> tuple[list[int], str]:
    """Keep the last tokens of a prompt, as `truncation_side="left"` does."""
    if len(ids) <= keep:
        return ids, prompt
    head = [config.engine.bos] if config.family is not Family.SEQ2SEQ and config.engine.bos is not None else []
    tail = ids[len(ids) - keep + len(head) :]
    text = b"".join(config.engine.vocabulary[token] for token in tail).decode("utf-8", "ignore")
    return [*head, *tail], text


def _check_lengths(tokens: int, asked: int | None, config: Config) -> int:
    """Check the total first and the prompt second, as TGI does; return how many tokens to generate."""
    if asked is None:
        counted = max(config.max_total_tokens - tokens, 0)
        asked = counted
    else:
        counted = min(asked, CHUNK) if config.release.clips_new_tokens else asked
    if tokens + counted > config.max_total_tokens:
        raise invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {config.max_total_tokens}. "
            f"Given: {tokens} `inputs` tokens and {counted} `max_new_tokens`"
        )
    if tokens > config.max_input_tokens:
        raise invalid(f"`inputs` must have less than {config.max_input_tokens} tokens. Given: {tokens}")
    # Asked-for tokens beyond the clip are produced by re-queuing, up to the limit on the total.
    return min(asked, config.max_total_tokens - tokens)


def _uncounted_budget(parameters: Parameters, config: Config) -> int:
    """Return how many tokens to generate when the router has no tokenizer to count the prompt with."""
    assumed = parameters.truncate if parameters.truncate is not None else config.max_input_tokens
    asked = parameters.max_new_tokens
    left = config.max_total_tokens - assumed
    if asked is None:
        if parameters.truncate is None:
            raise invalid("one of `max_new_tokens` or `truncate` must be set if a fast tokenizer is not in use")
        return left
    if config.release.budget_check_without_tokenizer and asked > left:
        raise invalid(f"`max_new_tokens` must be <= {left}. Given: {asked}")
    return asked


def _job(
    body: GenerateBody,
    prompt: str,
    ids: list[int],
    length: int,
    new_tokens: int,
    sampling: Sampling | None,
    config: Config,
) -> Job:
    """Put the job together; the grammar is looked at last."""
    grammar = body.parameters.grammar
    if grammar is not None:
        if not config.grammar:
            raise invalid("grammar is not supported")
        grammar = check_grammar(grammar, config.release)
    return Job(body.inputs, prompt, ids, length, new_tokens, body.parameters, sampling, grammar)
