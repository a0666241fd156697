"""The prefix cache: which tokens of a prompt the model would not have to compute again.

A radix tree over the token ids of finished prompts, bounded like a KV cache, the least recently used branches dropped
first. Only bookkeeping: nothing is computed or saved. Used by `shard` for flash models from 2.3.0 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Node:
    __slots__ = ("children", "parent", "tokens", "used")

    def __init__(self, tokens: tuple[int, ...], parent: _Node | None) -> None:
        self.tokens = tokens
        self.parent = parent
        self.children: dict[int, _Node] = {}
        self.used = 0


class PrefixCache:
    """Remembers finished prompts and finds the longest known start of a new one.

    Args:
        capacity: How many tokens fit.
    """

    def __init__(self, capacity: int = 262_144) -> None:
        self._capacity = capacity
        self._root = _Node((), None)
        self.size = 0
        self._clock = 0

    def match(self, ids: Sequence[int]) -> int:
        """Return how many tokens at the start of a prompt are cached."""
        self._clock += 1
        ids = tuple(ids)
        node, found = self._root, 0
        while found < len(ids) and (child := node.children.get(ids[found])) is not None:
            shared = _shared(child.tokens, ids, found)
            child.used = self._clock
            found += shared
            if shared < len(child.tokens):
                break
            node = child
        return found

    def insert(self, ids: Sequence[int]) -> None:
        """Remember a finished prompt."""
        self._clock += 1
        ids = tuple(ids)
        node, start = self._root, 0
        while start < len(ids):
            child = node.children.get(ids[start])
            if child is None:
                child = _Node(ids[start:], node)
                child.used = self._clock
                node.children[ids[start]] = child
                self.size += len(child.tokens)
                break
            child.used = self._clock
            shared = _shared(child.tokens, ids, start)
            if shared < len(child.tokens):
                child = self._split(child, shared)
            node, start = child, start + shared
        if self.size > self._capacity:
            self._evict()

    @staticmethod
    def _split(child: _Node, at: int) -> _Node:
        """Cut an edge in two and return the upper half."""
        upper = _Node(child.tokens[:at], child.parent)
        upper.used = child.used
        upper.children[child.tokens[at]] = child
        assert child.parent is not None  # noqa: S101  # the root has no edge to cut
        child.parent.children[child.tokens[0]] = upper
        child.parent, child.tokens = upper, child.tokens[at:]
        return upper

    def _evict(self) -> None:
        """Drop the branches that were not used for longest, down to three quarters of the capacity."""
        leaves = sorted(self._leaves(self._root), key=lambda leaf: leaf.used)
        for leaf in leaves:
            node: _Node | None = leaf
            while node is not None and node.parent is not None and not node.children:
                if self.size <= self._capacity * 3 // 4:
                    return
                self.size -= len(node.tokens)
                del node.parent.children[node.tokens[0]]
                node = node.parent

    @staticmethod
    def _leaves(root: _Node) -> list[_Node]:
        leaves: list[_Node] = []
        stack = [root]
        while stack:
            node = stack.pop()
            if node.children:
                stack.extend(node.children.values())
            elif node.parent is not None:
                leaves.append(node)
        return leaves


def _shared(edge: tuple[int, ...], ids: tuple[int, ...], start: int) -> int:
    """Count the tokens that an edge and a prompt have in common from a position on."""
    end = min(len(edge), len(ids) - start)
    low, high = 0, end
    # Comparing slices is done in C: try all at once, then halve.
    if edge[:end] == ids[start : start + end]:
        return end
    while low < high:
        middle = (low + high + 1) // 2
        if edge[low:middle] == ids[start + low : start + middle]:
            low = middle
        else:
            high = middle - 1
    return low
