"""Grammars at work: which tokens keep an answer inside a regular expression.

Compiles a pattern with `interegular`, the automaton that TGI itself uses, and walks it with the bytes of the
vocabulary, so that odd spellings and single bytes are allowed exactly where they can still lead to a match. It refuses
what TGI's engine refuses, in its words. Called by `shard` when a batch starts; `interegular` is imported only then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_CACHE_SIZE = 32


class GrammarError(Exception):
    """A pattern that the grammar engine refuses; its text is what a client gets to see, and may be empty."""


class State(NamedTuple):
    """Where in a pattern an answer is.

    Attributes:
        node: The state of the automaton; None once nothing may follow.
        pending: The bytes of a character that is not complete yet.
    """

    node: int | None
    pending: bytes = b""


class _Trie:
    """The vocabulary by its bytes, so that tokens with a common start are tried together."""

    __slots__ = ("children", "tokens")

    def __init__(self) -> None:
        self.children: dict[int, _Trie] = {}
        self.tokens: list[int] = []

    @staticmethod
    def of(vocabulary: Sequence[bytes]) -> _Trie:
        root = _Trie()
        for token, text in enumerate(vocabulary):
            if not text:
                continue
            node = root
            for value in text:
                node = node.children.setdefault(value, _Trie())
            node.tokens.append(token)
        return root


class RegexGuide:
    """A compiled pattern, walked token by token.

    Args:
        pattern: The regular expression; the whole answer must match it.
        trie: The vocabulary.
        vocabulary: The bytes of each token.
        eos: The token that ends an answer.

    Raises:
        GrammarError: If the pattern is refused.
    """

    def __init__(self, pattern: str, trie: _Trie, vocabulary: Sequence[bytes], eos: int) -> None:
        machine = _compile(pattern)
        self._steps: dict[int, dict[int, int]] = machine.map
        self._alphabet = machine.alphabet
        self._finals: frozenset[int] = frozenset(machine.finals)
        self._live = frozenset(state for state in machine.map if machine.islive(state))
        self._initial: int = machine.initial
        self._others = self._alphabet[_anything_else()]
        self._explicit = [symbol for symbol in self._alphabet if isinstance(symbol, str)]
        self._trie = trie
        self._vocabulary = vocabulary
        self._eos = eos
        self._memo: dict[State, frozenset[int]] = {}
        if self._initial not in self._live or self.allowed(self.start()) <= {eos}:
            raise GrammarError("The vocabulary does not allow us to build a sequence that matches the input regex")

    def start(self) -> State:
        """Return the state before the first token."""
        return State(self._initial)

    def allowed(self, state: State) -> frozenset[int]:
        """Return the tokens that can still lead to a match, the end of text included where it already is one."""
        found = self._memo.get(state)
        if found is None:
            tokens: set[int] = set()
            if state.node is None or (state.node in self._finals and not state.pending):
                tokens.add(self._eos)
            if state.node is not None:
                self._collect(self._trie, state, tokens)
            found = self._memo[state] = frozenset(tokens)
        return found

    def advance(self, state: State, token: int) -> State:
        """Return the state after an allowed token."""
        if token == self._eos:
            return State(None)
        for value in self._vocabulary[token]:
            after = self._feed(state, value)
            if after is None:
                raise ValueError(f"token {token} is not allowed here")
            state = after
        return state

    def _collect(self, trie: _Trie, state: State, into: set[int]) -> None:
        for value, child in trie.children.items():
            after = self._feed(state, value)
            if after is not None:
                into.update(child.tokens)
                self._collect(child, after, into)

    def _feed(self, state: State, value: int) -> State | None:
        """Take one byte; None if it leads nowhere."""
        if state.node is None:
            return None
        data = state.pending + bytes([value])
        try:
            char = data.decode()
        except UnicodeDecodeError as error:
            # An unexpected end means that more bytes may complete the character; anything else is broken.
            incomplete = error.reason == "unexpected end of data" and self._reachable(state.node, data)
            return State(state.node, data) if incomplete else None
        node = self._steps[state.node].get(self._alphabet[char])
        return State(node) if node in self._live else None

    def _reachable(self, node: int, start: bytes) -> bool:
        """Tell whether some character that starts with these bytes is allowed."""
        steps = self._steps[node]
        if steps.get(self._others) in self._live:
            return True
        return any(
            steps.get(self._alphabet[char]) in self._live and char.encode("utf-8", "ignore").startswith(start)
            for char in self._explicit
        )


class Guides:
    """Compiles patterns for one vocabulary and keeps the last 32, as TGI does.

    Args:
        vocabulary: The bytes of each token.
        eos: The token that ends an answer.
    """

    def __init__(self, vocabulary: Sequence[bytes], eos: int) -> None:
        self._vocabulary = vocabulary
        self._eos = eos
        self._trie: _Trie | None = None
        self._kept: OrderedDict[str, RegexGuide] = OrderedDict()
        self.compiled = 0

    def regex(self, pattern: str) -> RegexGuide:
        """Compile a pattern, or find it among those compiled before.

        Raises:
            GrammarError: If the pattern is refused.
        """
        guide = self._kept.get(pattern)
        if guide is None:
            if self._trie is None:
                self._trie = _Trie.of(self._vocabulary)
            guide = self._kept[pattern] = RegexGuide(pattern, self._trie, self._vocabulary, self._eos)
            self.compiled += 1
            if len(self._kept) > _CACHE_SIZE:
                self._kept.popitem(last=False)
        self._kept.move_to_end(pattern)
        return guide


def _compile(pattern: str) -> Any:
    try:
        from interegular import InvalidSyntax, Unsupported, parse_pattern
    except ImportError as error:
        raise ImportError("grammars need interegular: pip install 'langchain-stormtrooper[testing]'") from error
    try:
        return parse_pattern(pattern).to_fsm()
    except (InvalidSyntax, Unsupported) as error:
        raise GrammarError(str(error)) from error


def _anything_else() -> Any:
    from interegular.fsm import anything_else

    return anything_else
