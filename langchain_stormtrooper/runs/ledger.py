"""`Ledger`: one SQLite file with every finished row of any number of tasks, durable before it is handed out.

It holds hashes of texts under a key of its own, never a text, a prompt, a generation or a secret; and labels,
probabilities and reasons. Only rows that the model has spoken on are kept: a row that failed is asked again. What is
wrong with a file is a `LedgerError` that says what to do. Called by `stream`; knows nothing of event loops.

The file is in SQLite's WAL mode, with a sync at every commit: one sync keeps a group of rows, and whoever reads never
waits. While a run is open, and after one that was killed, the newest rows are in the file with `-wal` at the end of its
name: copy both, or open and close the ledger first. Where WAL cannot be had, SQLite's rollback journal is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from langchain_stormtrooper.errors import ConfigurationError, LedgerError
from langchain_stormtrooper.results import Classification, Reason

T = TypeVar("T")

APPLICATION_ID = 0x4C535452
"""SQLite's mark of whose file it is: "LSTR"."""

FORMAT_VERSION = 1

_PATIENCE = 60.0
"""Seconds to wait for another process that is writing."""

_SCHEMA = (
    "CREATE TABLE secret (key BLOB NOT NULL)",
    "CREATE TABLE tasks (id INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE)",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY, task INTEGER NOT NULL, row BLOB NOT NULL UNIQUE,"
    " answer TEXT NOT NULL, checksum INTEGER NOT NULL)",
)

_PART = 300
"""Rows of one statement: SQLite allows for 999 parameters at least."""

_CHECKPOINT = 8000
"""Pages of the file with `-wal` at its name's end, 4 KiB each, after which they are copied into the ledger."""

_as_json = json.JSONEncoder(separators=(",", ":")).encode
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def check_ledger(given: Any) -> None:
    """See to it that an argument `ledger=` is one.

    Args:
        given: What it is; None for none.

    Raises:
        ConfigurationError: It is neither a ledger nor the path of one.
    """
    if given is not None and not isinstance(given, str | os.PathLike | Ledger):
        raise ConfigurationError(f"`ledger=` must be a `Ledger` or the path of one, not {type(given).__name__}.")


class Ledger:
    """A file of finished rows, for `astream_rows(rows, ledger=…)`: a run that was broken off goes on where it was.

    One file may serve several tasks, and several processes at once. Close it, or use it in a `with` block.

    Args:
        path: The file; made if it is not there.

    Raises:
        LedgerError: It is no ledger, is broken or of a newer release, or cannot be read or written.

    Examples:
        >>> import tempfile
        >>> from langchain_stormtrooper import Ledger, ZeroShotClassifier
        >>> classifier = ZeroShotClassifier(["politics", "science"])
        >>> with tempfile.TemporaryDirectory() as folder, Ledger(f"{folder}/run.sqlite") as ledger:
        ...     for row in classifier.stream_rows(["The senate votes today."], ledger=ledger):
        ...         print(row.index, row.label)
        0 politics
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            is_directory, has_directory = self.path.is_dir(), self.path.parent.is_dir()
        except PermissionError:
            raise self._closed_to_us() from None
        if is_directory:
            raise LedgerError(f"{self.path} is a directory: name a file in it for the ledger.")
        if not has_directory:
            raise LedgerError(f"There is no directory {self.path.parent} for the ledger: create it first.")
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._tasks: dict[str, int] = {}
        self._reader = self._writer = None
        try:
            with self._told():
                self._writer = self._connect()
                self._begin(self._writer)
                self._reader = self._connect()
                self._secret = bytes(self._reader.execute("SELECT key FROM secret").fetchone()[0])
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def __len__(self) -> int:
        """Finished rows, of all tasks."""
        with self._told(), self._reading:
            return int(self._open(self._reader).execute("SELECT count(*) FROM rows").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything is in the one file then, unless another process has it open."""
        with self._reading:
            reader, self._reader = self._reader, None
        with self._writing:
            writer, self._writer = self._writer, None
        for connection in (reader, writer):
            if connection is not None:
                # What was kept is kept already; only the tidying may fail.
                with suppress(sqlite3.Error):
                    connection.close()

    def name(self, task: str, row: bytes) -> bytes:
        """What a row is kept under: a keyed hash, so that texts cannot be guessed from ledgers of other keys.

        Args:
            task: The task's key.
            row: What the row puts into its prompt.
        """
        return hashlib.blake2b(task.encode("ascii") + row, digest_size=16, key=self._secret).digest()

    def get(self, name: bytes) -> Classification | None:
        """The answer that is kept under a name, as in `find`; None if there is none."""
        return self.find([name]).get(name)

    def find(self, names: Sequence[bytes]) -> dict[bytes, Classification]:
        """The answers that are kept under some names; those without one are left out.

        Args:
            names: The names.

        Raises:
            LedgerError: The file cannot be read, or is damaged.
        """
        found: list[tuple[bytes, Any, Any]] = []
        with self._told(), self._reading:
            reader = self._open(self._reader)
            for part in _parts(names):
                asked = f"SELECT row, answer, checksum FROM rows WHERE row IN ({_marks(len(part))})"  # noqa: S608
                found += reader.execute(asked, part).fetchall()
        return {name: self._read(name, text, checksum) for name, text, checksum in found}

    def put(self, task: str, rows: Sequence[tuple[bytes, Classification]]) -> list[Classification]:
        """Keep answers, all together and durably.

        Args:
            task: The task's key.
            rows: Names and answers.

        Returns:
            The answers that are kept: where another process was first, its.

        Raises:
            LedgerError: They cannot be written; none of them is kept then.
        """
        with self._told(), self._writing:
            writer = self._open(self._writer)
            with _transaction(writer):
                number = self._tasks.get(task) or _task(writer, task)
                before = writer.total_changes
                # One statement for many rows: after each, the thread may have to wait for Python's lock.
                for part in _parts(rows):
                    values = ", ".join([f"({number}, ?, ?, ?)"] * len(part))
                    writer.execute(
                        f"INSERT OR IGNORE INTO rows (task, row, answer, checksum) VALUES {values}",  # noqa: S608
                        [value for row in part for value in _columns(*row)],
                    )
                is_first = writer.total_changes - before == len(rows)
            self._tasks[task] = number
        kept = {} if is_first else self.find([name for name, _ in rows])
        return [kept.get(name, own) for name, own in rows]

    def _read(self, name: bytes, text: Any, checksum: Any) -> Classification:
        if isinstance(text, str) and checksum == _checksum(name, text):
            # ValueError also stands for JSON that is none.
            with suppress(ValueError, TypeError):
                return Classification(**json.loads(text))
        raise self._broken()

    def _open(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        if connection is None:
            raise LedgerError(f"The ledger {self.path} is closed: open it again with Ledger(...).")
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Not as a URI: paths may hold what means something there. Several threads come, one at a time.
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous=FULL")
        # Rows are spread over the whole index: the more of them are copied into it together, the fewer pages.
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        return connection

    def _begin(self, writer: sqlite3.Connection) -> None:
        """See to it that the file is a ledger, and can be written."""
        # Looked at before anything is changed: it may be somebody else's.
        if not self._is_ledger(writer):
            with _transaction(writer):
                # Another process may have been first.
                if not self._is_ledger(writer):
                    for statement in _SCHEMA:
                        writer.execute(statement)
                    writer.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))
                    writer.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    writer.execute(f"PRAGMA user_version={FORMAT_VERSION}")
        if writer.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise self._broken()
        _use_wal(writer)
        with _transaction(writer):
            # A file that can be read only would otherwise be noticed after the first answers.
            writer.execute(f"PRAGMA user_version={FORMAT_VERSION}")

    def _is_ledger(self, connection: sqlite3.Connection) -> bool:
        """Whether it is one; False for a file without anything in it."""
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if (owner, version) == (0, 0) and not tables:
            return False
        if owner != APPLICATION_ID:
            raise LedgerError(f"{self.path} is another program's SQLite file, and no ledger: name another file.")
        if version > FORMAT_VERSION:
            raise LedgerError(
                f"{self.path} was written by a newer release (format {version}, this one reads {FORMAT_VERSION}): "
                "upgrade langchain-stormtrooper, or name another file."
            )
        if version != FORMAT_VERSION or not tables >= {"secret", "tasks", "rows"}:
            raise self._broken()
        return True

    def _broken(self) -> LedgerError:
        return LedgerError(f"The ledger {self.path} is damaged: restore it from a copy, or start with a new file.")

    def _closed_to_us(self) -> LedgerError:
        return LedgerError(
            f"The ledger {self.path} cannot be read and written: give yourself the right to, and to write into its "
            "directory, or name another file."
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors in our words."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _explained(self, error: sqlite3.Error) -> LedgerError:
        # The lower byte is the kind, the others its particulars.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return self._closed_to_us()
        if code == sqlite3.SQLITE_NOTADB:
            return LedgerError(f"{self.path} is no ledger, or a damaged one: name another file.")
        if code == sqlite3.SQLITE_CORRUPT or isinstance(error, sqlite3.IntegrityError):
            return self._broken()
        if code == sqlite3.SQLITE_FULL:
            said = "cannot be written, since the disk is full: make room and start the same run again"
        elif code == sqlite3.SQLITE_IOERR:
            said = (
                f"cannot be read or written ({error}): see whether the disk has room and files may grow, and start "
                "the same run again"
            )
        elif code in _BUSY:
            said = f"has been locked by another process for {_PATIENCE:.0f} seconds: end that one first"
        else:
            said = f"cannot be used ({error}): look after the disk and start the same run again, or name another file"
        is_of_disk = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        return LedgerError(f"The ledger {self.path} {said}.", is_of_disk=is_of_disk)


def is_finished(answer: Classification) -> bool:
    """Whether an answer is worth keeping: the model, or its limit, has spoken, and would say the same again."""
    return answer.reason is not Reason.FAILED


def as_kept(answer: Classification) -> Classification:
    """An answer as it is after having been kept: without the generation, which may repeat the user's text."""
    return answer if answer.generation is None else answer.model_copy(update={"generation": None})


def _text(answer: Classification) -> str:
    return _as_json({name: value for name, value in vars(answer).items() if value is not None and name != "generation"})


def _columns(name: bytes, answer: Classification) -> tuple[bytes, str, int]:
    return name, (text := _text(answer)), _checksum(name, text)


def _parts(given: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many as one statement may have parameters for, three each."""
    return (given[start : start + _PART] for start in range(0, len(given), _PART))


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _checksum(name: bytes, text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"), zlib.crc32(name))


def _task(writer: sqlite3.Connection, task: str) -> int:
    writer.execute("INSERT OR IGNORE INTO tasks (task) VALUES (?)", (task,))
    return int(writer.execute("SELECT id FROM tasks WHERE task = ?", (task,)).fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # At once the one who writes: whoever reads first and writes then can find that another has written in between.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors have rolled back already.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Change the file's mode, for which SQLite does not wait by itself."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
