"""Patterns that keep a generation within given answers, by the recipe that every TGI's regex engine takes.

Pure. TGI compiles a pattern in the model's process, where a bad one costs other users their requests, and its dialect
refuses anchors and much else. So each answer is written out literally with only ASCII punctuation escaped, and nothing
but groups and alternation is used. The answer is still checked against the labels: some servers ignore grammars.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

from langchain_stormtrooper.errors import ConfigurationError

_ESCAPED = str.maketrans({mark: f"\\{mark}" for mark in string.punctuation})
_CONTROL = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def pattern(answers: Sequence[str], ended: Collection[str] = ()) -> str:
    """A pattern that matches exactly the answers, in the order given, so that equal tasks share a compiled grammar.

    Args:
        answers: What may be generated, with a leading space where the prompt makes one natural: a pattern without it
            forces odd pieces (`pos`, `p`) upon the model.
        ended: Those that start another and may be followed by a line break: with the end of the generation alone, a
            model that ends its answers with a line break would nearly always be driven on to the longer one. One of
            them may be empty, where the prompt ends with it already.

    Raises:
        ConfigurationError: There is no answer, or one is empty: the engine refuses such patterns.
    """
    if not any(answers) or not all(answer or answer in ended for answer in answers):
        raise ConfigurationError("A grammar needs answers, and each needs at least one character.")
    return "(" + "|".join(_literal(answer) + ("\\n?" if answer in ended else "") for answer in answers) + ")"


def _literal(answer: str) -> str:
    return "".join(_CONTROL.get(mark, mark) for mark in answer.translate(_ESCAPED))


def tokens_needed(answers: Sequence[str]) -> int:
    """Tokens that the longest answer may take, whatever path through the vocabulary the model goes.

    Any split of an answer is allowed under a grammar, down to single bytes, and the end token counts as one more. A
    line break after an answer that starts another takes no more room than the other.
    """
    return max(len(answer.encode("utf-8", "surrogatepass")) for answer in answers) + 1
