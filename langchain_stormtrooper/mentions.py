"""Where a line of an answer names a label: which words mean one there, and whether the line takes it back.

Pure. `matching` asks, for labels that it has cut into words; wherever it may be otherwise, a label is not named.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from langchain_stormtrooper.negation import NEGATORS, denies
from langchain_stormtrooper.normalizing import Token, is_unspaced, tokens, word_set

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INNER_GAP = re.compile(r"[\s\-_/\"'*`]*")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")
_FUNCTION_WORDS = word_set(
    "a an the i it is be me my we us all any both each either some one two other others another none no not nor yes "
    "y n o e in on at of to so or and as if do go up this that these those here there which what who"
)
_CUES = word_set(
    "is be as in answer label category class classification option choice sentiment topic rating score grade say "
    "says choose chose select pick = => -> →"
)
_COMPOUNDS = word_set("related type based themed oriented focused specific category class label topic")


class Entry(NamedTuple):
    """A label as a text may name it.

    Attributes:
        words: Its words, one after the other.
        gaps: What stands between them in the label.
        name: The label.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]
    name: str


class Mention(NamedTuple):
    """A place of a line where it names a label."""

    start: int
    end: int
    name: str


class Line(NamedTuple):
    """A line of an answer: as it was written, and without what only dresses it."""

    raw: str
    text: str


def stands_at(entry: Entry, line: Line, words: list[Token], at: int) -> bool:
    """Whether the label's words stand here, on their own and as a label."""
    last = at + len(entry.words) - 1
    if last >= len(words) or any(words[at + i].text != word for i, word in enumerate(entry.words)):
        return False
    text = line.text
    for i, gap in enumerate(entry.gaps):
        between = text[words[at + i].end : words[at + i + 1].start]
        if between.strip() != gap.strip() and not _INNER_GAP.fullmatch(between):
            return False
    # un-sport, sport-free, sport/other: part of something else.
    if at and text[words[at - 1].end : words[at].start] in {"-", "_", "/"}:
        return False
    if last + 1 < len(words) and text[words[last].end : words[last + 1].start] in {"-", "_", "/"}:
        return text[words[last].end] == "-" and words[last + 1].text in _COMPOUNDS
    return not _is_everyday(entry.words) or _is_answer(entry, line, words, at, last)


def _is_everyday(words: Sequence[str]) -> bool:
    """Whether the label is a word that any sentence may hold without meaning the label: a, no, other, 2."""
    if all(word in _FUNCTION_WORDS for word in words):
        return True
    return len(words) == 1 and ((len(words[0]) == 1 and words[0].isalnum()) or bool(_NUMBER.fullmatch(words[0])))


def _is_answer(entry: Entry, line: Line, words: list[Token], at: int, last: int) -> bool:
    """Whether an everyday word stands where an answer does: "B) …", "the answer is B."."""
    if at:
        before = line.text[words[at - 1].end : words[at].start]
        if words[at - 1].text not in _CUES and not re.search("[:=]", before):
            return False
    after = line.text[words[last].end :]
    if after and not re.match(r"[.,;:!)\]}\"'*_`|]| -", after):
        return False
    # "is a" is an article where "is A" is an option.
    written = re.compile(rf"(?<!\w){re.escape(entry.name.strip())}(?!\w)")
    return len(words[at].text) > 1 or written.search(line.raw) is not None


def occurrences(text: str, line: str) -> Iterator[int]:
    """Where a label of a script without spaces stands: anywhere that does not split a character or another word."""
    at = line.find(text)
    while at >= 0:
        before, after = line[at - 1 : at], line[at + len(text) : at + len(text) + 1]
        marked = after and unicodedata.category(after) in {"Mn", "Mc"}
        if (
            not marked
            and before not in _THAI_FIRST
            and not _continues(before, text[0])
            and not _continues(after, text[-1])
        ):
            yield at
        at = line.find(text, at + 1)


_THAI_FIRST = frozenset("เแโใไ")
"""Vowels written before the consonant that they follow: what comes after them is half a syllable."""


def _continues(neighbor: str, edge: str) -> bool:
    return neighbor.isalnum() and not is_unspaced(neighbor) and not is_unspaced(edge)


def is_inside(one: Mention, other: Mention) -> bool:
    """Whether a mention is part of a longer one, which then is what is said."""
    return other.start <= one.start and one.end <= other.end and one.end - one.start < other.end - other.start


def is_denied(line: str, words: list[Token], mentions: list[Mention]) -> bool:
    """Whether the sentence takes back the one label it names."""
    first = mentions[0]
    inside = [word.text for word in words if first.start <= word.start and word.end <= first.end]
    if inside and words[0].start == first.start and all(word in NEGATORS for word in inside):
        return False  # "No, this is not spam" denies with its label, not the label.
    rest, at = "", 0
    for mention in sorted(mentions):
        rest += line[at : mention.start] + " \0 "
        at = max(at, mention.end)
    rest += line[at:]
    # \0 holds the place of the label: no word goes across it, and "un" right before it turns it around.
    others = [word.text for word in tokens(rest)]
    return "?" in rest or any(pair == ("un", "\0") for pair in pairwise(others)) or denies(others, rest)
