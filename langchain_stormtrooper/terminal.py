"""Text from outside, made fit for a terminal. Pure; the command line and the tables use it."""

from __future__ import annotations


def plain(text: str) -> str:
    """On one line and without control characters, which could move the cursor or change the terminal."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text[:2000].split()))
