"""When a word is another word, and not the first misspelled."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.negation import changes_meaning


@pytest.mark.parametrize(
    ("one", "other", "changed"),
    [
        # Prefixes, also before a word with their own first letter.
        ("usual", "unusual", True),
        ("manage", "mismanage", True),
        ("urban", "suburban", True),
        ("press", "purpress", False),
        ("state", "stateful", False),
        # Negations, of which a slip makes another word.
        ("no", "now", True),
        ("north", "nor", True),
        ("never", "never", False),
        # Endings.
        ("care", "careless", True),
        ("careless", "carless", False),
        ("hopeful", "hopeless", True),
        ("employer", "employee", True),
        ("employer", "emploier", False),
        ("employee", "emploiee", False),
        # Beginnings.
        ("macroeconomics", "microeconomics", True),
        ("macroeconomics", "macroeconomic", False),
        ("internal", "intranal", True),
        ("internal", "intranet", False),
        ("computer", "compuuter", False),
    ],
)
def test_words_that_are_two(one: str, other: str, changed: bool) -> None:
    """A prefix, a negation or an exchanged part makes another word, whichever comes first; a slip does not."""
    assert changes_meaning(one, other) is changed
    assert changes_meaning(other, one) is changed
