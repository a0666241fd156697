"""From generated text to a label: `Matcher`, four steps from certain to weak, and None rather than a guess.

    exact → normalized (case, quotes, list marks, "Category:") → the only label named in the text → nearly spelled

Pure: no I/O, no model, no state that changes; it never raises and never answers with anything but one of the given
names, spelled as given. A wrong label is worse than none: whatever is negated, asked, named beside another label, or
near two labels ends as None. `parsers` and the classifiers call it once per generated text.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.mentions import Entry, Line, Mention, is_denied, is_inside, occurrences, stands_at
from langchain_stormtrooper.negation import NEGATORS, PREFIXES, changes_meaning
from langchain_stormtrooper.normalizing import (
    Token,
    clean,
    inflections,
    is_lead,
    is_list_item,
    is_unspaced,
    join_words,
    normalize,
    tokens,
    undress,
)
from langchain_stormtrooper.results import MatchKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DEFAULT_MARGIN", "DEFAULT_THRESHOLD", "Match", "Matcher", "normalize"]

DEFAULT_THRESHOLD = 0.85
"""One slip in seven letters: below that, one slip makes other words ("short" is not "sport")."""
DEFAULT_MARGIN = 0.1
"""About one slip in ten letters: a text that is as near to a second label says neither."""
LIMIT = 2_000
"""How many characters of a generation are read: an answer comes first, and a runaway generation must not cost more."""

_SHORTEST_FUZZY = 5
_SHORTEST_COMPACT = 4
_SEPARATED = re.compile(r"(?<=\S)(?:[\s_*\"'`]|-(?!\d)|(?<=\w)-(?=\d))+(?=\S)")
_NOT_WORDS = re.compile(r"[\d+#&@%$<>^]")
_FENCE = re.compile(r"\s*(?:```|~~~)\w*\s*$")


class Match(NamedTuple):
    """What a text says.

    Attributes:
        label: One of the names, spelled as given, or None.
        kind: The step that found it; None exactly when `label` is.
    """

    label: str | None
    kind: MatchKind | None


_NOTHING = Match(None, None)


class Matcher:
    """Finds the label that a generated text says.

    Everything that depends on the labels is worked out here once; a text that is a label costs one look-up.

    Args:
        names: The labels. Names that are equal after `normalize` are only found when said exactly.
        fuzzy: Whether nearly spelled labels count.
        threshold: Similarity in (0, 1] that a nearly spelled label needs, word by word: 1 - slips / letters.
        margin: How much more similar than any other label it must be, in [0, 1].

    Raises:
        ConfigurationError: If threshold or margin is out of range.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        fuzzy: bool = True,
        threshold: float = DEFAULT_THRESHOLD,
        margin: float = DEFAULT_MARGIN,
    ) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ConfigurationError(f"threshold must be above 0 and at most 1, not {threshold}.")
        if not 0.0 <= margin <= 1.0:
            raise ConfigurationError(f"margin must be from 0 to 1, not {margin}.")
        self.names = tuple(names)
        self.fuzzy = fuzzy
        self.threshold = threshold
        self.margin = margin
        self._exact = {name: Match(name, MatchKind.EXACT) for name in self.names}
        self._normal = _unique((normalize(name), name) for name in self.names)
        self._labels = frozenset(self._normal)
        self._forms = _unique(
            (form, name) for normal, name in self._normal.items() for step in undress(normal) for form in _forms(step)
        )
        self._index: dict[str, list[Entry]] = {}
        self._glued: list[tuple[str, str]] = []
        self._index_names()
        self._spelled = [(_spaced(normal), name) for normal, name in self._normal.items() if _is_spellable(normal)]
        self._spellings = [form for form, _ in self._spelled]

    def match(self, text: str) -> Match:
        """Find the label that the text says.

        Args:
            text: A generated text: any string, also empty, huge, or not valid Unicode.

        Returns:
            The label and the step that found it, or None twice.
        """
        return self._exact.get(text) or self._search(text)

    def _search(self, text: str) -> Match:
        text = text.strip()
        if found := self._exact.get(text):
            return found
        answer = _after_thinking(text)
        lines, cut = _lines(answer)
        first = next((line for line in lines if self._may_answer(line)), None)
        if first is None:
            return _NOTHING
        # A line that was cut off, or a question that is answered below, names labels and is not one.
        whole = not (cut and first is lines[-1]) and not ("?" in first.text and first is not lines[-1])
        if whole and (name := self._say(first.text) or (not cut and self._normal.get(normalize(answer))) or None):
            agreed = not is_list_item(first.text) or self._listed(lines) <= {name}
            return Match(name, MatchKind.NORMALIZED) if agreed else _NOTHING
        if name := self._named(lines):
            return Match(name, MatchKind.NAMED)
        if self.fuzzy and whole and (name := self._nearly(first.text)):
            return Match(name, MatchKind.FUZZY)
        return _NOTHING

    # Normalized: the line is the label, differently dressed.

    def _may_answer(self, line: Line) -> bool:
        if _FENCE.match(line.raw):
            return False
        normal = normalize(line.text)
        return normal in self._labels or not is_lead(normal)

    def _say(self, line: str) -> str | None:
        steps = list(undress(normalize(line), self._labels))
        for step in steps:
            if name := self._normal.get(step):
                return name
        return next((name for step in steps for form in _forms(step) if (name := self._forms.get(form))), None)

    def _listed(self, lines: list[Line]) -> set[str]:
        said = (self._say(line.text) for line in lines if is_list_item(line.text))
        return {name for name in said if name is not None}

    # Named: the text speaks of one label, and of no other.

    def _index_names(self) -> None:
        entries: list[Entry] = []
        for normal, name in self._normal.items():
            text = join_words(normal)
            if is_unspaced(text):
                # One such character is part of too many words.
                if len(text) > 1:
                    self._glued.append((text, name))
                continue
            words = tokens(text)
            if words:
                gaps = tuple(text[a.end : b.start] for a, b in pairwise(words))
                entries.append(Entry(tuple(word.text for word in words), gaps, name))
        given = {entry.words for entry in entries}
        entries += [
            entry._replace(words=form) for entry in entries for form in inflections(entry.words) if form not in given
        ]
        owners: dict[tuple[str, ...], set[str]] = {}
        for entry in entries:
            owners.setdefault(entry.words, set()).add(entry.name)
        for entry in entries:
            if len(owners[entry.words]) == 1:
                self._index.setdefault(entry.words[0], []).append(entry)

    def _named(self, lines: list[Line]) -> str | None:
        names: set[str] = set()
        denied = False
        for raw, cleaned in lines:
            line = Line(raw, join_words(cleaned))
            words = tokens(line.text)
            mentions = self._mentions(line, words)
            names.update(mention.name for mention in mentions)
            if len(names) > 1:
                return None
            if mentions:
                denied = denied or is_denied(line.text, words, mentions)
            else:
                denied = denied or (bool(words) and words[0].text in NEGATORS)
        return None if denied or not names else names.pop()

    def _mentions(self, line: Line, words: list[Token]) -> list[Mention]:
        found = [
            Mention(words[at].start, words[at + len(entry.words) - 1].end, entry.name)
            for at, word in enumerate(words)
            for entry in self._index.get(word.text, ())
            if stands_at(entry, line, words, at)
        ]
        found += [
            Mention(start, start + len(text), name)
            for text, name in self._glued
            for start in occurrences(text, line.text)
        ]
        return [one for one in found if not any(is_inside(one, other) for other in found)]

    # Fuzzy: the line is the label, misspelled.

    def _nearly(self, line: str) -> str | None:
        *_, bare = undress(normalize(line), self._labels)
        said = _spaced(bare)
        if not _is_spellable(said):
            return None
        best = process.extract(said, self._spellings, scorer=OSA.normalized_similarity, limit=2)
        if not best or best[0][1] < self.threshold:
            return None
        if len(best) > 1 and best[0][1] - best[1][1] < self.margin - 1e-9:
            return None
        spelled, name = self._spelled[best[0][2]]
        ours, theirs = said.split(" "), spelled.split(" ")
        return name if len(ours) == len(theirs) and all(map(self._is_slip, ours, theirs)) else None

    def _is_slip(self, said: str, word: str) -> bool:
        if said == word:
            return True
        return (
            min(len(said), len(word)) >= _SHORTEST_FUZZY
            and not _NOT_WORDS.search(said + word)
            and not changes_meaning(said, word)
            and OSA.normalized_similarity(said, word) >= self.threshold
        )


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What only one name claims; what two names claim is nobody's, so that their order makes no difference."""
    owners: dict[str, set[str]] = {}
    for form, name in pairs:
        owners.setdefault(form, set()).add(name)
    return {form: names.pop() for form, names in owners.items() if len(names) == 1}


def _spaced(normal: str) -> str:
    return _SEPARATED.sub(" ", join_words(normal))


def _forms(normal: str) -> Iterator[str]:
    """Weaker forms of a label or an answer, by which they may still be the same."""
    spaced = _spaced(normal)
    yield spaced
    # AddToPlaylist, "add to playlist"; but "type 1 2" is not "type 12", and "a theist" is no atheist.
    words = spaced.split(" ")
    if words[0] in PREFIXES or not NEGATORS.isdisjoint(words):
        return
    compact = re.sub(r"(?<!\d) | (?!\d)", "", spaced)
    if len(compact) >= _SHORTEST_COMPACT and any(map(str.isalpha, compact)):
        yield "\0" + compact


def _is_spellable(normal: str) -> bool:
    """Whether one wrong character can be a slip: in short texts and in Chinese, it is another word."""
    return len(normal) >= _SHORTEST_FUZZY and not is_unspaced(normal)


def _after_thinking(text: str) -> str:
    """The text without the thoughts of a reasoning model; nothing if it never came to an end with them."""
    _, closed, answer = text.rpartition("</think>")
    return "" if not closed and text.startswith("<think>") else answer


def _lines(text: str) -> tuple[list[Line], bool]:
    """The lines worth reading, and whether the last one was cut off."""
    text = text.strip()
    cut = len(text) > LIMIT
    if cut:
        text = text[:LIMIT]
        # Half a word may look like a whole one.
        text = re.sub(r"[^\s]{1,100}\Z", "", text)
    lines = (Line(raw, clean(raw)) for raw in text.splitlines())
    return [line for line in lines if line.text], cut
