"""Writing a file whole or not at all. Used for what users keep: calibrations, evaluations, answers."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


class WholeFile:
    """A file that is written beside the one whose place it takes when it is complete.

    Args:
        path: The file. An older one stays as it is until `commit`; where it is a link, what it leads to is replaced.

    Attributes:
        path: The file.
        part: Where to write to; it is there, empty, and as readable to others as the older file is.

    Raises:
        OSError: Nothing can be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        if not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "There is no such directory: create it first", str(Path(path).parent))
        # Not a `tempfile`, which only its owner may read.
        self.part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        self.part.open("x").close()
        with suppress(FileNotFoundError):
            shutil.copymode(self.path, self.part)

    def commit(self) -> None:
        """Let it take its place, when all of it is on the disk.

        Raises:
            OSError: It cannot.
        """
        _sync(self.part, os.O_RDWR)
        self.part.replace(self.path)
        if os.name == "posix":
            # Some file systems have no such thing, and lose nothing by it.
            with suppress(OSError):
                _sync(self.path.parent, os.O_RDONLY)

    def discard(self) -> None:
        """Leave nothing of it behind."""
        self.part.unlink(missing_ok=True)

    def keep_part(self) -> Path:
        """Keep what there is of it under a name of its own.

        Returns:
            That name: for `out.csv`, `out.partial.csv`, or with a number where there is such a file.
        """
        number = 1
        while True:
            mark = "partial" if number == 1 else f"partial-{number}"
            name = self.path.with_name(f"{self.path.stem}.{mark}{self.path.suffix}")
            if not name.exists():
                return self.part.rename(name)
            number += 1


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text to a file in UTF-8; an older file there is replaced when the new one is complete.

    Args:
        path: The file.
        text: What it is to hold.

    Raises:
        OSError: It cannot be written.
    """
    file = WholeFile(path)
    try:
        file.part.write_text(text, encoding="utf-8")
        file.commit()
    except BaseException:
        file.discard()
        raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
