"""Lines of a file in UTF-8, decoded one by one, so that a bad one can be told by its number and the others read."""

from __future__ import annotations

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from langchain_stormtrooper.errors import ConfigurationError

_ESCAPED = re.compile("[\udc80-\udcff]")


class Line(NamedTuple):
    """One line.

    Attributes:
        number: Its number, from 1.
        text: What it says, with its end; bytes that are not UTF-8 are lone surrogates.
        problem: What is wrong with it; None where nothing is.
    """

    number: int
    text: str
    problem: str | None = None


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file.

    Raises:
        ConfigurationError: The file cannot be read, or is in UTF-16.
    """
    try:
        with path.open("rb") as file:
            yield from decoded(file, str(path))
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {path}: check its name.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None


def decoded(file: IO[bytes], name: str) -> Iterator[Line]:
    """The lines of an open file.

    Args:
        file: The file.
        name: What messages call it.

    Raises:
        ConfigurationError: It is in UTF-16, so that no line can be read.
    """
    for number, line in enumerate(file, 1):
        if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            # Spreadsheets write "Unicode text" so.
            raise ConfigurationError(_not_utf8(name, number, "utf-16"))
        # Spreadsheets put a byte-order mark at the head.
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield Line(number, line.decode(encoding))
        except UnicodeDecodeError:
            yield Line(number, line.decode(encoding, "surrogateescape"), _not_utf8(name, number, "latin1"))


def whole(line: Line) -> str:
    """The text of a line that must be read.

    Raises:
        ConfigurationError: It is not UTF-8.
    """
    if line.problem is not None:
        raise ConfigurationError(line.problem)
    return line.text


def readable(text: str) -> str:
    """A text whose bytes were not UTF-8 with the usual mark in the place of each."""
    return _ESCAPED.sub("\ufffd", text)


def _not_utf8(name: str, number: int, encoding: str) -> str:
    return f"{name}, line {number}: this is not UTF-8; convert it first, perhaps by `iconv -f {encoding} -t utf-8`."
