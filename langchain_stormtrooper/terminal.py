"""Text from outside, made fit for a terminal. Pure; the command line and the tables use it."""

from __future__ import annotations

_LONGEST = 2000


def plain(text: str) -> str:
    """On one line and without control characters, which could move the cursor or change the terminal."""
    return _printable(" ".join(text[:_LONGEST].split()))


def plain_lines(text: str) -> str:
    """Without control characters but the ends of its lines."""
    return "".join(_printable(line) + "\n" for line in text.splitlines())


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() else " " for character in line)
