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
from typing import Any, Self

from langchain_stormtrooper.errors import LedgerError
from langchain_stormtrooper.results import Classification, Reason

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

_KEPT = tuple(name for name in Classification.model_fields if name != "generation")
_FULL, _READ_ONLY, _BUSY, _LOCKED, _CORRUPT, _NO_DATABASE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
)


class Ledger:
    """A file of finished rows, for `astream_rows(rows, ledger=…)`: a run that was broken off goes on where it was.

    One file may serve several tasks, and several processes at once. Close it, or use it in a `with` block.

    Args:
        path: The file; made if it is not there.

    Raises:
        LedgerError: It is no ledger, is broken or of a newer release, or cannot be read or written.

    Example:
        ```python
        with Ledger("run.sqlite") as ledger:
            for row in classifier.stream_rows(texts, ledger=ledger):
                print(row.index, row.label)
        ```
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise LedgerError(f"{self.path} is a directory: name a file in it for the ledger.")
        if not self.path.parent.is_dir():
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
        """The answer that is kept under a name; None if there is none.

        Raises:
            LedgerError: The file cannot be read, or is damaged.
        """
        with self._told(), self._reading:
            found = (
                self._open(self._reader).execute("SELECT answer, checksum FROM rows WHERE row = ?", (name,)).fetchone()
            )
        return None if found is None else self._read(name, *found)

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
                writer.executemany(
                    "INSERT OR IGNORE INTO rows (task, row, answer, checksum) VALUES (?, ?, ?, ?)",
                    [(number, name, text := _text(answer), _checksum(name, text)) for name, answer in rows],
                )
                is_first = writer.total_changes - before == len(rows)
            self._tasks[task] = number
        kept = [] if is_first else [self.get(name) for name, _ in rows]
        return [first or own for first, (_, own) in zip(kept or [None] * len(rows), rows, strict=True)]

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
        if code == _FULL:
            said = "cannot be written, since the disk is full: make room and start the same run again"
        elif code == _READ_ONLY:
            said = "cannot be written: give yourself the right to, or name another file"
        elif code in (_BUSY, _LOCKED):
            said = f"has been locked by another process for {_PATIENCE:.0f} seconds: end that one first"
        elif code == _NO_DATABASE:
            return LedgerError(f"{self.path} is no ledger, or a damaged one: name another file.")
        elif code == _CORRUPT or isinstance(error, sqlite3.IntegrityError):
            return self._broken()
        else:
            said = f"cannot be used ({error}): look after the disk and start the same run again, or name another file"
        return LedgerError(f"The ledger {self.path} {said}.")


def is_finished(answer: Classification) -> bool:
    """Whether an answer is worth keeping: the model, or its limit, has spoken, and would say the same again."""
    return answer.reason is not Reason.FAILED


def as_kept(answer: Classification) -> Classification:
    """An answer as it is after having been kept: without the generation, which may repeat the user's text."""
    return answer if answer.generation is None else answer.model_copy(update={"generation": None})


def _text(answer: Classification) -> str:
    given = {name: value for name in _KEPT if (value := getattr(answer, name)) is not None}
    return json.dumps(given, separators=(",", ":"))


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
            if (error.sqlite_errorcode & 0xFF) not in (_BUSY, _LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
