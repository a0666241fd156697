"""What an OpenAI-compatible server was seen to do, as far as scoring and constraining labels depend on it.

The protocol has a name, but no two servers speak the same: fields are refused by some and dropped without a word by
others. A few requests of a token each tell. Used by `OpenAICompletions`, once per server and object.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

from langchain_stormtrooper.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    RequestFailedError,
    ResponseFormatError,
    RowError,
)
from langchain_stormtrooper.llms.abilities import PROBE, Abilities, GrammarSupport
from langchain_stormtrooper.wire import grammar
from langchain_stormtrooper.wire.details import Details, NoDetailsError
from langchain_stormtrooper.wire.openai_details import Constraint, shows_ids

T = TypeVar("T")

TOP_TOKENS = (20, 5)
"""Alternatives per step to ask for: what vLLM and SGLang allow, and what OpenAI's first servers did."""

CONSTRAINTS: tuple[Constraint, ...] = ("structured_outputs", "regex", "guided_regex")

Chooser = Literal["logprob_token_ids", "score"]
"""How the probabilities of chosen tokens are had: a field of completions (vLLM), or a route (SGLang)."""


class AskDetails(Protocol):
    """Asks for a generation with details, in a way that is still to be tried."""

    async def __call__(
        self,
        prompt: str,
        *,
        max_new_tokens: int,
        top_n_tokens: int | None = None,
        prefill: bool = False,
        grammar: str | None = None,
        constraint: Constraint | None = None,
        ids: bool = False,
    ) -> Details:
        """Ask; the keywords are those of `wire.openai_details.details_body`."""


@dataclass(frozen=True, slots=True)
class OpenAIAbilities:
    """What a server was seen to do.

    Attributes:
        general: As far as it is the same for every protocol.
        ids: Whether it shows tokens by id.
        tokenizes: Whether it tells how a text is cut into tokens.
        constraint: The field in which it takes a pattern for the answer; None for none.
        chooser: How it shows the probabilities of chosen tokens; None if it does not.
    """

    general: Abilities
    ids: bool
    tokenizes: bool
    constraint: Constraint | None
    chooser: Chooser | None

    @property
    def told(self) -> dict[str, object]:
        """The same by names that a user understands."""
        return {
            **self.general.told,
            "showing tokens by id": self.ids,
            "counting tokens": self.tokenizes,
            "the field for constrained answers": self.constraint or "none",
            "the way to chosen tokens": self.chooser or "none",
        }


async def find_abilities(
    ask: AskDetails,
    ids_of: Callable[[str], Awaitable[tuple[int, ...] | None]],
    choose: Callable[[Chooser, Sequence[int], Sequence[int]], Awaitable[dict[int, float]]],
    *,
    chat: bool,
) -> OpenAIAbilities:
    """Find out what a server can do, with at most ten requests of a token or two.

    Args:
        ask: Asks for a generation with details.
        ids_of: Asks for the token ids of a text as a prompt; None if the server does not tell.
        choose: Asks, in some way, after a prompt of token ids, for the probabilities of some tokens.
        chat: Whether prompts are messages of a chat, in which nothing of an answer can be given.

    Raises:
        ServerError: The server cannot be asked at all.
        RequestFailedError: It cannot be asked at the moment: nothing is concluded from that.
    """
    tokens = None if chat else await ids_of(PROBE)
    ids, top = tokens is not None, None
    for count in TOP_TOKENS:
        # A server that does not know the field refuses it, or shows texts all the same.
        top = await _try(partial(ask, PROBE, max_new_tokens=1, top_n_tokens=count, ids=ids))
        if top is None and ids:
            top = await _try(partial(ask, PROBE, max_new_tokens=1, top_n_tokens=count))
        if top is not None:
            break
    ids = ids and top is not None and shows_ids(top)
    echoed = None if chat else await _try(partial(ask, PROBE, max_new_tokens=1, prefill=True, ids=ids))
    constraint, masks = await _find_constraint(ask, top)
    chooser = None if tokens is None else await _find_chooser(ids_of, choose, tokens, top)
    return OpenAIAbilities(
        general=Abilities(
            top_tokens=len(top.top_tokens[0]) if top is not None and top.top_tokens else 0,
            # The first token has no score: nothing stands before it.
            prefill=echoed is not None and any(token.logprob is not None for token in echoed.prefill),
            seq2seq=False,
            grammar=GrammarSupport.REFUSED if constraint is None else GrammarSupport.ENFORCED,
            masks=masks,
            chooses=chooser is not None,
        ),
        ids=ids,
        tokenizes=tokens is not None,
        constraint=constraint,
        chooser=chooser,
    )


async def _try(ask: Callable[[], Awaitable[T]]) -> T | None:
    """None if the server clearly refuses, or does not show what was asked for."""
    try:
        return await ask()
    except (ConfigurationError, EndpointNotFoundError, NoDetailsError):
        return None
    except ResponseFormatError as error:
        if error.status != 200:
            raise
        return None
    except RequestFailedError as error:
        if error.is_retryable or error.status not in (400, 422, 500, 501):
            raise
        return None
    except RowError:  # overlong: the probe is as short as can be, so it is the field that is too much
        return None


async def _find_constraint(ask: AskDetails, top: Details | None) -> tuple[Constraint | None, bool]:
    """The field that constrains answers, and whether scores are taken after it."""
    # Neither answer is what the server says by itself, so that one of them can only come from the constraint.
    said = "" if top is None else top.text
    answers = [word for word in (" 7", " x", " Q") if word.strip() not in said][:2]
    pattern, allowed = grammar.pattern(answers), {word.strip() for word in answers}
    for constraint in CONSTRAINTS:
        found = await _try(
            partial(
                ask,
                PROBE,
                max_new_tokens=grammar.tokens_needed(answers),
                top_n_tokens=2 if top is not None else None,
                grammar=pattern,
                constraint=constraint,
            )
        )
        if found is not None and found.text.strip() in allowed:
            scores = [token.logprob for token in found.tokens if token.logprob is not None]
            # After a mask that left two answers, the way taken has at least half of all there is.
            return constraint, len(scores) == len(found.tokens) > 0 and math.exp(math.fsum(scores)) > 0.45
    return None, False


async def _find_chooser(
    ids_of: Callable[[str], Awaitable[tuple[int, ...] | None]],
    choose: Callable[[Chooser, Sequence[int], Sequence[int]], Awaitable[dict[int, float]]],
    prompt: Sequence[int],
    top: Details | None,
) -> Chooser | None:
    """How chosen tokens are shown."""
    listed = {token.id for token in top.top_tokens[0]} if top is not None and top.top_tokens else set()
    rare = [ids[-1] for word in ("7", "x", "Q", "~", "%") if (ids := await ids_of(PROBE + word))]
    # Tokens that no list of the likeliest would show by itself, where there are such.
    tokens = sorted(set(rare), key=lambda token: token in listed)[:2]
    choosers: tuple[Chooser, ...] = ("logprob_token_ids", "score")
    for chooser in choosers:
        found = await _try(partial(choose, chooser, prompt, tokens))
        if found is not None and set(found) == set(tokens) and math.fsum(found.values()) < 0.9:
            return chooser
    return None
