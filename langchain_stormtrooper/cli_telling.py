"""What the command line tells on standard error: whatever goes wrong in one sentence, and what became of the rows.

Every error has an exit code. Only the commands (`cli`, `cli_evaluate`, `cli_serve`) call this module.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import typer

from langchain_stormtrooper.terminal import plain, plain_lines

if TYPE_CHECKING:
    from langchain_stormtrooper.cli_progress import Tally
    from langchain_stormtrooper.tables.answer_files import AnswerFile

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_UNLABELLED, EXIT_MODEL, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 3, 4, 130, 141

EXITS = {
    0: "done, and all rows have a label",
    EXIT_UNEXPECTED: "unexpected error, or one of the system such as a full disk",
    EXIT_USAGE: "wrong usage: options, addresses, files, columns or labels",
    EXIT_UNLABELLED: "some rows have no label",
    EXIT_MODEL: "the model cannot be used: no server, wrong key, no model file, missing extra",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_PIPE: "the reader of the output has gone away",
}
"""What each exit code of every command means."""

EXIT_CODES = f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXITS.items())}."
"""The exit codes, for the end of a help."""

Words: TypeAlias = tuple[tuple[str, str], ...]
"""What messages of the library say, and what is said in its place where a command has other names for it."""

OF_PROBE: Words = (
    ("set `base_url=` or TGI_BASE_URL", "correct the URL"),
    ("set `base_url=` or OPENAI_COMPATIBLE_BASE_URL", "correct the URL"),
    ("`base_url=`", "the URL"),
    ("set `base_url` to the final address", "give the final address"),
    ("`base_url`", "the URL"),
    (" or lower `max_concurrency=`", ""),
)

OF_DEV_SERVER: Words = (("LlamaCpp(model_path=...)", "--model FILE.gguf"), ("`model_path=`", "--model"))


def tell(message: str) -> None:
    """Write a line to standard error, without control characters."""
    typer.echo(plain(message), err=True)


def tell_error(message: str) -> None:
    """Write what went wrong to standard error."""
    typer.secho("Error: ", err=True, fg="red", nl=False)
    tell(message)


@contextmanager
def summary(tally: Tally, *, quiet: bool) -> Iterator[None]:
    """Tell at the end, however it comes, what became of the rows; nothing if quiet."""
    from langchain_stormtrooper.errors import ServerWarning, StormtrooperWarning

    try:
        with warnings.catch_warnings():
            # What they would tell is in the summary, but for what is said of servers.
            warnings.simplefilter("ignore", StormtrooperWarning)
            if not quiet:
                warnings.simplefilter("always", ServerWarning)
            show = warnings.showwarning

            def tell_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
                if issubclass(category, ServerWarning):
                    tell(in_shell(str(message)))
                else:
                    show(message, category, *where, **more)

            warnings.showwarning = cast("Any", tell_warning)
            yield
    finally:
        if not quiet and tally.rows:
            tell(str(tally))
            if tally.first_failure is not None:
                index, error = tally.first_failure
                tell(f"The first failure, row {index} (counted from 0): {in_shell(error)}")


@contextmanager
def rescue(tally: Tally, file: AnswerFile | None) -> Iterator[None]:
    """Where something ends a run, tell where its answers are, and how it goes on, also to whoever wants no progress."""
    of = "" if tally.total is None else f" of {tally.total:,}"
    try:
        yield
    except BaseException:
        if tally.ledger is not None and (tally.rows or tally.ledger.added):
            tell(
                f"{tally.rows:,}{of} rows are done, and answers are kept in {tally.ledger.path}: the same command goes "
                "on from there."
            )
        elif file is not None and file.kept is not None:
            tell(
                f"{file.kept_rows:,}{of} rows are done, and left in {file.kept}; the others have to be asked again. "
                "With --ledger FILE, the same command would go on from there."
            )
        raise


def ending_signals() -> list[signal.Signals]:
    """The signals that end a command as Ctrl-C does: SIGTERM, and SIGHUP where there is one that `nohup` has left."""
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def one_sentence(debug: bool, words: Words = ()) -> Iterator[None]:
    """Turn whatever goes wrong into one sentence on standard error and an exit code."""
    try:
        yield
    except (typer.Exit, SystemExit):
        raise
    except BrokenPipeError:
        # Python would complain at its end that it cannot write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_PIPE) from None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the outermost place: nobody else will tell
        if debug:
            typer.echo(plain_lines(traceback.format_exc()), err=True, nl=False)
        code, message = explain(error, words)
        (tell if code == EXIT_INTERRUPTED else tell_error)(message)
        raise typer.Exit(code) from None


def explain(error: BaseException, words: Words = ()) -> tuple[int, str]:
    """The exit code and the sentence for an error."""
    from pydantic import ValidationError

    from langchain_stormtrooper.arguments import explain as explain_arguments
    from langchain_stormtrooper.errors import (
        ConfigurationError,
        LedgerError,
        MissingExtraError,
        RowError,
        ServerError,
    )

    match error:
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED, "Interrupted."
        case MissingExtraError() | ServerError():
            return EXIT_MODEL, in_shell(str(error), words)
        case LedgerError(is_of_disk=True):
            return EXIT_UNEXPECTED, in_shell(str(error), words)
        case ConfigurationError():
            return EXIT_USAGE, _wrong_argument(str(error), words)
        case ValidationError():
            return EXIT_USAGE, _wrong_argument(f"Argument: {explain_arguments(error)}.", words)
        case RowError():
            return EXIT_UNLABELLED, in_shell(str(error), words)
        case OSError(errno=errno.ENOSPC):
            return EXIT_UNEXPECTED, "There is no space left on the disk: make room and try again."
        case OSError(strerror=str(reason)):
            return EXIT_UNEXPECTED, f"{reason}: {error.filename}." if error.filename else f"{reason}."
        case _:
            return EXIT_UNEXPECTED, f"{type(error).__name__}: {error} (--debug shows where)."


def _wrong_argument(message: str, words: Words) -> str:
    """The sentence for what the library was given, where it is about one argument with the option in its place."""
    found = re.fullmatch(r"[A-Z]\w+: `(\w+)`: (.*)\.", message, re.DOTALL)
    if found is None:
        return in_shell(message, words)
    option = in_shell(f"`{found[1]}`", words).strip("`")
    told = must(option, in_shell(found[2], words))
    return f"{told[0].upper()}{told[1:]}."


_MUST = (
    (r"^Value error, ", ""),
    (r"^base_url ", ""),
    (r"^[Ii]nput should be ", "must be "),
    (r"must be a valid integer.*", "must be a whole number"),
    (r"must be a valid number.*", "must be a number"),
    (r"must be greater than or equal to ", "must be at least "),
    (r"must be less than or equal to ", "must be at most "),
)


def must(option: str, complaint: str) -> str:
    """What must hold for an option, from a validator's complaint; without a full stop."""
    for said, meant in _MUST:
        complaint = re.sub(said, meant, complaint, flags=re.DOTALL)
    return f"{option}{' ' if complaint.startswith('must ') else ': '}{complaint.rstrip('.')}"


_OPTIONS = {"base_url": "llm", "model_path": "llm"}


def in_shell(message: str, words: Words = ()) -> str:
    """A message of the library with the names that things have on the command line."""
    for said, meant in words:
        message = message.replace(said, meant)
    message = message.replace("LlamaCpp(model_path=...)", "--llm FILE.gguf")
    message = re.sub(r"`api_key=` or (\w+_API_KEY)", r"the environment variable \1", message)
    message = message.replace("`base_url=` or OPENAI_COMPATIBLE_BASE_URL", "--llm")
    message = message.replace("take `api='chat'` for", "take `api='chat'` (in Python only) for")
    message = message.replace("or use ZeroShotClassifier", "or leave out --examples")
    message = re.sub(
        r"`(base_url|model_path|labels|examples|prompt|method|timeout|max_concurrency|text_kind|label_kind|rotations|output|prefix|ledger|model)=?`",
        lambda found: "--" + _OPTIONS.get(found[1], found[1]).replace("_", "-"),
        message,
    )
    return re.sub(r"`(max_body_bytes|n_ctx)=`", r"`\1=` (in Python only)", message)
