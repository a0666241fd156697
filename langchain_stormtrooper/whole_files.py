"""Writing a file whole or not at all. Used for what users keep: calibrations, evaluations, answers."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where what a killed process has left stays
    fcntl = None


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
        _remove_left_over(self.path)
        self.part, self._lock = _new_part(self.path)
        with suppress(FileNotFoundError):
            shutil.copymode(self.path, self.part)

    def commit(self) -> None:
        """Let it take its place, when all of it is on the disk.

        Raises:
            OSError: It cannot.
        """
        _sync(self.part, os.O_RDWR)
        self.part.replace(self.path)
        self._unlock()
        if os.name == "posix":
            # Some file systems have no such thing, and lose nothing by it.
            with suppress(OSError):
                _sync(self.path.parent, os.O_RDONLY)

    def discard(self) -> None:
        """Leave nothing of it behind."""
        self.part.unlink(missing_ok=True)
        self._unlock()

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
                kept = self.part.rename(name)
                self._unlock()
                return kept
            number += 1

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


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


def _new_part(path: Path) -> tuple[Path, int | None]:
    """A new file beside another one, and what locks it as long as it is open; None where there are no locks."""
    while True:
        # Not a `tempfile`, which only its owner may read.
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        part.open("x").close()
        if fcntl is None:
            return part, None
        # Before it was locked, somebody may have taken it for left over, and be about to remove it.
        lock = _locked(part, waits=True)
        if part.exists():
            return part, lock
        if lock is not None:
            os.close(lock)


def _remove_left_over(path: Path) -> None:
    """Remove the parts of this file that were left by processes which have been killed."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                part = Path(entry.path)
                if (lock := _locked(part, waits=False)) is not None:
                    with suppress(OSError):
                        part.unlink()
                    os.close(lock)


def _locked(path: Path, *, waits: bool) -> int | None:
    """A descriptor of a file that is locked by it; None where another process has the lock, or there are no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
