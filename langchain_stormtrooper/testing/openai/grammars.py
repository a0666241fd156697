r"""Grammars without recursion as regular expressions: EBNF (vLLM, SGLang), GBNF (llama.cpp) and Lark (vLLM).

Reads rules such as `root ::= ("a" | "b") [0-9]+` or `start: "a" | /b+/`, of literals, classes, groups, repetition,
alternatives and other rules. A rule that uses itself is refused, where the real engines would go on. Called by
`constraints`.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<set>\[(?:[^\]\\]|\\.)*\])|(?P<name>[A-Za-z][\w-]*)"""
    r"""|/(?P<regex>(?:[^/\\]|\\.)+)/|(?P<mark>[|()?*+]))"""
)
_END = re.compile(r"\s*(?:\#[^\n]*(?:\n\s*|$))*$")
_RULE = re.compile(r"^\s*([A-Za-z][\w-]*)\s*(?:::=|:)", re.MULTILINE)
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def grammar_pattern(value: Any) -> str:
    """Turn a grammar into a pattern.

    Args:
        value: The grammar, which must have a rule `root` or `start`.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is broken, or recursive.
    """
    if not isinstance(value, str):
        raise TypeError("a grammar is a text")
    starts = list(_RULE.finditer(value))
    ends = [match.start() for match in starts[1:]] + [len(value)]
    # Of a text without rules there is an end, but no start.
    rules = {match.group(1): value[match.end() : end].strip() for match, end in zip(starts, ends, strict=False)}
    return _rule("start" if "start" in rules else "root", rules, ())


def _rule(name: str, rules: dict[str, str], within: tuple[str, ...]) -> str:
    if name not in rules:
        raise ValueError(f"there is no rule {name!r}")
    if name in within:
        raise ValueError(f"the rule {name!r} uses itself, which this server cannot do")
    text = rules[name]
    pieces: list[str] = []
    place = 0
    while not _END.match(text, place):
        match = _TOKEN.match(text, place)
        if match is None or match.end() == place:
            raise ValueError(f"cannot read {text[place : place + 20]!r} in the rule {name!r}")
        place = match.end()
        if match["text"] is not None:
            said = json.loads(match["text"])
            pieces.append(
                "(" + _PUNCTUATION.sub(lambda found: "\\" + found.group(), said).replace("\n", "\\n") + ")"
                if said
                else ""
            )
        elif match["regex"] is not None:
            pieces.append(f"({match['regex']})")
        elif match["name"] is not None:
            pieces.append(_rule(match["name"], rules, (*within, name)))
        else:
            pieces.append(match["set"] or match["mark"])
    return "(" + "".join(pieces) + ")"
