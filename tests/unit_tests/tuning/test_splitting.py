"""Which texts become examples: never one that is also compared on, never too many of a label."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper.selecting.similarity import as_compared
from langchain_stormtrooper.tuning.splitting import split

NAMES = ("a", "b", "c")


@given(
    st.lists(st.tuples(st.text("xyX ", max_size=4), st.sampled_from(NAMES)), min_size=1, max_size=60),
    st.integers(0, 9),
    st.integers(0, 5),
)
def test_every_text_has_one_part(rows: list[tuple[str, str]], per_label: int, seed: int) -> None:
    """Different texts are examples or compared on, once; of a label as many are examples as are wanted or a third."""
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    parts = split(texts, labels, NAMES, per_label, seed)
    held = [number for members in parts.held.values() for number in members]
    shown = [as_compared(texts[number]) for number in (*held, *parts.compared)]
    assert len(shown) == len(set(shown)) == len({as_compared(text) for text in texts})
    assert parts.repeated == len(texts) - len(shown)
    spoken: dict[str, set[str]] = {}
    for text, label in rows:
        spoken.setdefault(as_compared(text), set()).add(label)
    assert parts.contradicting == sum(len(different) > 1 for different in spoken.values())
    total = Counter(labels[number] for number in (*held, *parts.compared))
    for name in NAMES:
        assert [labels[number] for number in parts.held[name]] == [name] * min(per_label, total[name] // 3)
    assert parts == split(texts, labels, NAMES, per_label, seed)


def test_the_seed_decides() -> None:
    """Another seed takes other examples and another order; more examples begin with the same ones."""
    texts, labels = [f"text {n}" for n in range(60)], ["a", "b", "c"] * 20
    first, other = split(texts, labels, NAMES, 4, 0), split(texts, labels, NAMES, 4, 1)
    assert first.held != other.held
    assert first.compared != other.compared
    assert first.compared != sorted(first.compared)
    fewer = split(texts, labels, NAMES, 2, 0)
    assert {name: members[:2] for name, members in first.held.items()} == fewer.held
