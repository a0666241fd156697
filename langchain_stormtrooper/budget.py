"""Fitting a text into a token budget, with no tokenizer at hand.

Pure. What is known is how many tokens a whole prompt has (the server counted it, or refused it with the number) and
how many of them are not the text's. Called by `answering` for `on_overlong="truncate"`, and by `llms` to skip counting
where nothing can be too long.
"""

from __future__ import annotations

import math

ROUNDS = 12
"""Attempts at most to make a text fit; each lands below the budget or learns the density of what is left."""

_MARGIN = 1.02
"""Cut a little more than the mean density asks for, since the next attempt costs a request."""


_ENOUGH = 0.97
"""Share of the budget from which on a cut is good enough."""


def cannot_exceed(text: str, tokens: int) -> bool:
    """Whether a text surely has no more than so many tokens.

    Every token of the tokenizers that language models use stands for one byte of UTF-8 at least.
    """
    # Most texts are settled by their length in characters alone.
    return len(text) <= tokens and (len(text) * 4 <= tokens or len(text.encode("utf-8", "replace")) <= tokens)


def shorten(text: str, *, tokens: int, limit: int, constant: int) -> str:
    """Cut the end of a text so that the prompt comes near its limit from below.

    Args:
        text: The text.
        tokens: Tokens of the whole prompt with this text.
        limit: Tokens that the prompt may have.
        constant: Tokens of the prompt without the text.

    Returns:
        A shorter text, cut between words where one ends nearby; empty if nothing of it fits.
    """
    own = max(1, tokens - constant)
    keep = math.floor(len(text) * max(0, limit - constant) / (own * _MARGIN))
    keep = min(keep, len(text) - 1)
    return at_word(text, keep)


def at_word(text: str, keep: int) -> str:
    """So many characters of a text, or a few less, so that it ends with a word."""
    if keep <= 0:
        return ""
    cut = text[:keep]
    if keep < len(text) and not text[keep].isspace():
        # Back to the last space, unless that gives up more than a tenth: some scripts have none.
        space = max(cut.rfind(" "), cut.rfind("\n"))
        if space >= keep * 0.9:
            cut = cut[:space]
    return cut.rstrip()


def between(low: tuple[int, int], high: tuple[int, int], limit: int, *, middle: bool) -> int:
    """Where to cut next, between a length that fits and one that does not.

    Args:
        low: Characters and tokens of what fits.
        high: Characters and tokens of what does not.
        limit: Tokens that may be.
        middle: Whether to halve the distance, for texts that are denser in one part than in another; else the cut is
            where the mean density puts it.
    """
    share = 0.5 if middle else (limit - low[1]) / max(1, high[1] - low[1]) / _MARGIN
    return low[0] + max(1, min(high[0] - low[0] - 1, math.floor((high[0] - low[0]) * share)))


def is_used(tokens: int, limit: int) -> bool:
    """Whether so little of a budget is left that looking for a longer cut does not pay."""
    return tokens >= limit * _ENOUGH
