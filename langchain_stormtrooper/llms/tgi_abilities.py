"""What a TGI server was seen to do, as far as scoring and constraining depend on it.

Nothing that a server says of itself is enough: several back ends accept grammars and ignore them, and flags do not show
in `/info`. A few requests of one token each tell. Used by `tgi` (once per server and object) and by `probing`.
"""

from __future__ import annotations

from langchain_stormtrooper.errors import (
    ConfigurationError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.llms.abilities import NO_ABILITIES, PROBE, Abilities, Ask, GrammarSupport
from langchain_stormtrooper.wire import grammar
from langchain_stormtrooper.wire.details import Details, NoDetailsError
from langchain_stormtrooper.wire.tgi_refusals import TopTokensError

TOP_TOKENS = 5
"""Alternatives per step to ask for: what servers allow unless told otherwise (`max_top_n_tokens`)."""


async def find_abilities(ask: Ask, version: tuple[int, ...] | None) -> Abilities:
    """Find out what a server can do, with four requests of a token or two.

    Args:
        ask: Asks for a generation with details.
        version: The server's version, None if it does not tell: then no grammar is tried.

    Raises:
        ServerError: The server cannot be asked at all.
        RequestFailedError: It cannot be asked at the moment: nothing is concluded from that.
    """
    plain = await _try(ask, max_new_tokens=1)
    if plain is None:
        return NO_ABILITIES
    top = await _try(ask, max_new_tokens=1, top_n_tokens=TOP_TOKENS)
    prefill = await _try(ask, max_new_tokens=1, prefill=True)
    scored = prefill is not None and any(token.logprob is not None for token in prefill.prefill)
    top_tokens = min(TOP_TOKENS, len(top.top_tokens[0])) if top is not None and top.top_tokens else 0
    support, masks = await _try_grammar(ask, version, plain.text, top_tokens)
    return Abilities(
        top_tokens=top_tokens,
        prefill=scored,
        # Such a model shows its decoder's start token alone, without a score.
        seq2seq=prefill is not None and len(prefill.prefill) == 1 and not scored,
        grammar=support,
        # One alternative tells nothing of the others.
        masks=masks and top_tokens >= 2,
    )


async def _try(ask: Ask, **what: object) -> Details | None:
    """None if the server clearly refuses; an answer that is late, spoilt or lost says nothing of what it can do."""
    try:
        return await ask(PROBE, **what)
    except TopTokensError as error:
        # The number that is allowed is shown nowhere else.
        if 0 < error.allowed < int(str(what.get("top_n_tokens") or 0)):
            return await _try(ask, **{**what, "top_n_tokens": error.allowed})
        return None
    except (ConfigurationError, OverlongInputError, NoDetailsError):
        return None
    except RequestFailedError as error:
        passing = error.status is None or (error.is_retryable and error.status != 424)
        if passing or isinstance(error, ResponseFormatError):
            raise
        # What the model process chokes on looks like a failure that passes: then a plain request fails as well.
        await ask(PROBE, max_new_tokens=1)
        return None


async def _try_grammar(
    ask: Ask, version: tuple[int, ...] | None, unconstrained: str, top_tokens: int
) -> tuple[GrammarSupport, bool]:
    if version is None:
        return GrammarSupport.UNKNOWN, False
    if version <= (1, 4, 0):
        return GrammarSupport.IGNORED, False
    if version < (1, 4, 5):
        return GrammarSupport.UNSAFE, False
    # Neither answer is what the server says by itself, so that one of them can only come from the grammar.
    answers = [word for word in (" 7", " x", " Q") if word.strip() not in unconstrained][:2]
    constrained = await _try(
        ask,
        max_new_tokens=grammar.tokens_needed(answers),
        grammar=grammar.pattern(answers),
        top_n_tokens=top_tokens or None,
    )
    if constrained is None:
        return GrammarSupport.REFUSED, False
    allowed = {word.strip() for word in answers}
    if constrained.text.strip() not in allowed:
        return GrammarSupport.IGNORED, False
    first = constrained.top_tokens[0] if constrained.top_tokens else ()
    # Under a mask a step offers the answers, the space before them, and bytes of both.
    spelled = allowed | {"", "<0x20>", *(f"<0x{ord(word):02X}>" for word in allowed)}
    return GrammarSupport.ENFORCED, bool(first) and all(token.text.strip() in spelled for token in first)
