"""Anchored groups: a distribution over many tokens from lists that hold only a few.

The groups have a common token, the anchor; within a list, odds are exact, and common tokens chain the lists into one
distribution. The anchor is the likeliest token of the first group, so that other groups show it. Where a token is not
shown, because pieces of labels that a grammar allows as well took its place, smaller groups are asked; what stays
unseen has at most the smallest listed probability, and the covered mass leaves that open.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_stormtrooper.scoring.alternatives import listed_probabilities, unlisted_probability

_LEAST = 1e-30
_ROUNDING = 1 / 256
"""How much of a list's sum can be rounding, in half precision."""

_OPEN = 5e-4
"""What may stay open before smaller groups are asked."""

_AGAIN = 12
"""Groups that are asked again at once, at most."""


@dataclass(frozen=True, slots=True)
class Chained:
    """A distribution over tokens.

    Attributes:
        probabilities: Probability by token, renormalized over them.
        covered: Their share of all that the lists show or leave open. No probability is off by more than 1 - `covered`,
            half precision aside.
    """

    probabilities: dict[int, float]
    covered: float


def anchored_groups(
    children: Collection[int], size: int, families: Sequence[Collection[int]] = ()
) -> list[tuple[int, ...]]:
    """Split tokens into ceil((n - 1) / (size - 1)) groups, all but the first with room for an anchor.

    Args:
        children: The tokens.
        size: How many a list shows.
        families: Tokens that belong into one group, where that fits: if one is asked, the others are listed as well.
    """
    size = max(2, size)
    order = sorted(children)
    rooms = [size, *[size - 1] * math.ceil((len(order) - size) / (size - 1))]
    groups: list[list[int]] = [[] for _ in rooms]
    known = [sorted(family) for family in families]
    alone = set(order).difference(*known)
    for family in (*sorted(known, key=lambda family: (-len(family), family)), *([child] for child in sorted(alone))):
        fitting = [n for n, group in enumerate(groups) if rooms[n] - len(group) >= len(family)]
        for child in family:
            place = fitting[0] if fitting else next(n for n, group in enumerate(groups) if len(group) < rooms[n])
            groups[place].append(child)
    return [tuple(sorted(group)) for group in groups]


def chain_groups(
    children: Collection[int], size: int, families: Sequence[Collection[int]] = ()
) -> Generator[list[tuple[int, ...]], Sequence[Mapping[int, float]], Chained]:
    """Probabilities of tokens from lists of the likeliest ones.

    Yields groups of tokens that can be asked at once; is sent a list for each: natural log-probability by token among
    all that may follow in that group. An empty list tells nothing.

    Args:
        children: The tokens.
        size: How many a list shows.
        families: As in `anchored_groups`.
    """
    first, *others = anchored_groups(children, size, families)
    lists = _Lists(frozenset(children))
    lists.add([first], (yield [first]))
    if others:
        anchor = lists.chain().likeliest(first)
        groups = [(anchor, *group) for group in others]
        lists.add(groups, (yield groups))
    for width in (size // 2, 1, 1):
        chain = lists.chain()
        pending = chain.worth_asking()[: width * _AGAIN]
        anchor = chain.likeliest(pending)
        pending = [child for child in pending if child != anchor]
        groups = [(anchor, *pending[start : start + width]) for start in range(0, len(pending), width)]
        groups = [group for group in groups if set(group) not in lists.asked]
        if not groups:
            break
        lists.add(groups, (yield groups))
    return lists.result()


@dataclass(slots=True)
class _List:
    """What one list tells: probabilities of wanted tokens, of others, and what any unlisted one has at most."""

    group: tuple[int, ...]
    seen: dict[int, float]
    noise: dict[int, float]
    rest: float
    most: float


@dataclass(slots=True)
class _Chain:
    """Tokens whose odds are known (`main`), and sets of others with what is known of those.

    Attributes:
        main: Odds by token.
        apart: Odds within a set that no list ties to `main`, and the most that they are to be multiplied with.
    """

    main: dict[int, float]
    apart: list[tuple[dict[int, float], float]]

    @property
    def open(self) -> float:
        """The odds that the sets apart have at most."""
        return math.fsum(most * sum(odds.values()) for odds, most in self.apart)

    def likeliest(self, otherwise: Sequence[int]) -> int:
        return max(self.main, key=lambda token: (self.main[token], -token)) if self.main else min(otherwise, default=0)

    def worth_asking(self) -> list[int]:
        """One token of each set that leaves much open, those that leave most first."""
        total = math.fsum(self.main.values()) or _LEAST
        if self.open <= _OPEN * total:
            return []
        worth = [
            (-most * sum(odds.values()), max(odds, key=lambda token: (odds[token], -token)))
            for odds, most in self.apart
            if most * sum(odds.values()) > _OPEN * total / len(self.apart)
        ]
        return [token for _, token in sorted(worth)]


@dataclass(slots=True)
class _Lists:
    children: frozenset[int]
    asked: list[set[int]] = field(default_factory=list)
    _lists: list[_List] = field(default_factory=list)

    def add(self, groups: Sequence[tuple[int, ...]], answers: Sequence[Mapping[int, float]]) -> None:
        for group, listed in zip(groups, answers, strict=True):
            self.asked.append(set(group))
            shares = listed_probabilities(listed)
            rest = unlisted_probability(shares)
            seen = {token: share for token, share in shares.items() if token in self.children and share > _LEAST}
            noise = {token: share for token, share in shares.items() if token not in self.children}
            most = min([max(rest, _ROUNDING), *shares.values()])
            self._lists.append(_List(group, seen, noise, rest, most))

    def chain(self) -> _Chain:
        """Tie the lists together."""
        parts = self._parts()
        home = {token: n for n, part in enumerate(parts) for token in part}
        # A token that a list does not show has at most so many times what the likeliest that it shows has.
        bounds = [
            (token, best, listed.most / listed.seen[best])
            for listed in self._lists
            if listed.seen
            for best in [max(listed.seen, key=listed.seen.__getitem__)]
            for token in listed.group
            if token not in listed.seen
        ]
        below = {home[token] for token, best, _ in bounds if home[token] != home[best]}
        shown = {home[token] for listed in self._lists for token in listed.seen}
        candidates = [n for n in sorted(shown) if n not in below] or sorted(shown)
        if not candidates:
            return _Chain({}, [(part, math.inf) for part in parts])
        main = candidates[0]
        scale = [math.inf] * len(parts)
        scale[main] = 1.0
        for _ in parts:  # sets may be bounded by way of sets that are bounded themselves
            before = list(scale)
            for token, best, ratio in bounds:
                part, other = home[token], home[best]
                if part != main:
                    scale[part] = min(scale[part], scale[other] * parts[other][best] * ratio / parts[part][token])
            if scale == before:
                break
        return _Chain(parts[main], [(part, scale[n]) for n, part in enumerate(parts) if n != main])

    def _parts(self) -> list[dict[int, float]]:
        """Sets of tokens whose odds are known among themselves; a token never seen is a set of its own."""
        parts: list[dict[int, float]] = []
        for listed in self._lists:
            if not listed.seen:
                continue
            joined, apart = dict(listed.seen), list[dict[int, float]]()
            for part in parts:
                common = part.keys() & joined.keys()
                if not common:
                    apart.append(part)
                    continue
                link = max(common, key=lambda token: (joined[token], -token))
                factor = part[link] / joined[link]
                joined = {token: odds * factor for token, odds in joined.items()} | part
            parts = [joined, *apart]
        found = set[int]().union(*parts)
        return parts + [{token: 1.0} for token in sorted(self.children - found)]

    def result(self) -> Chained:
        chain = self.chain()
        total = math.fsum(chain.main.values())
        odds = dict(chain.main)
        for part, most in chain.apart:
            for token, share in part.items():
                # Of what is not bounded at all nothing better is known than that it is a token like others.
                odds[token] = share * most / 2 if math.isfinite(most) else total / len(chain.main) if total else 1.0
        whole = math.fsum(odds.values())
        covered = total / (total + self._noise(chain.main) + chain.open) if total else 0.0
        return Chained({token: odds[token] / whole for token in sorted(odds)}, covered)

    def _noise(self, main: Mapping[int, float]) -> float:
        """Odds of all else that the grammar let through: pieces of labels, above all."""
        pieces: dict[int, float] = {}
        unlisted = 0.0
        for listed in self._lists:
            known = [token for token in listed.seen if token in main]
            if not known:
                continue
            best = max(known, key=listed.seen.__getitem__)
            unit = main[best] / listed.seen[best]
            for token, share in listed.noise.items():
                pieces[token] = max(pieces.get(token, 0.0), share * unit)
            later = math.fsum(main.get(token, 0.0) for token in listed.group if token not in listed.seen)
            unlisted = max(unlisted, listed.rest * unit - later)
        return math.fsum(pieces.values()) + unlisted
