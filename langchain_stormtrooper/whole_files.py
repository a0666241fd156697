"""Writing a file whole or not at all. Used for what users keep: calibrations and evaluations."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text to a file in UTF-8; an older file there is replaced when the new one is complete.

    Args:
        path: The file.
        text: What it is to hold.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such directory: create it first", str(path.parent))
    # Not a `tempfile`, which only its owner may read.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
