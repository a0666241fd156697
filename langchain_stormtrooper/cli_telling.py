"""What the command line tells on standard error: whatever goes wrong in one sentence, and what became of the rows.

Every error has an exit code. Only the commands (`cli`, `cli_evaluate`) call this module.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from langchain_stormtrooper.cli_output import Tally

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_UNLABELLED, EXIT_MODEL, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 3, 4, 130, 141

EXIT_CODES = (
    "[bold]Exit codes[/bold]: [bold]0[/bold] all rows have a label; [bold]1[/bold] unexpected error; [bold]2[/bold] "
    "wrong usage: options, files, columns or labels; [bold]3[/bold] some rows have no label; [bold]4[/bold] the model "
    "cannot be used: no server, wrong key, no model file, missing extra; [bold]130[/bold] interrupted; "
    "[bold]141[/bold] the reader of the output has gone away."
)
"""The exit codes, for the end of a command's help."""


def tell(message: str) -> None:
    """Write a line to standard error."""
    typer.echo(message, err=True)


@contextmanager
def summary(tally: Tally, *, quiet: bool) -> Iterator[None]:
    """Tell at the end, however it comes, what became of the rows; nothing if quiet."""
    from langchain_stormtrooper.errors import StormtrooperWarning

    try:
        with warnings.catch_warnings():
            # What they would tell is in the summary.
            warnings.simplefilter("ignore", StormtrooperWarning)
            yield
    finally:
        if not quiet and tally.started:
            tell(str(tally))
            if tally.first_failure is not None:
                tell(f"The first failure, row {tally.first_failure[0]}: {in_shell(tally.first_failure[1])}")


@contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
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
            traceback.print_exc()
        code, message = explain(error)
        typer.secho("Error: " if code != EXIT_INTERRUPTED else "", err=True, fg="red", nl=False)
        tell(message)
        raise typer.Exit(code) from None


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for an error."""
    from pydantic import ValidationError

    from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError, RowError, ServerError

    match error:
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED, "Interrupted."
        case MissingExtraError() | ServerError():
            return EXIT_MODEL, in_shell(str(error))
        case ConfigurationError():
            return EXIT_USAGE, in_shell(str(error))
        case ValidationError():
            first = error.errors()[0]
            option = in_shell(f"`{'.'.join(map(str, first['loc']))}=`").strip("`")
            return EXIT_USAGE, f"{option}: {in_shell(first['msg'].removeprefix('Value error, '))}."
        case RowError():
            return EXIT_UNLABELLED, in_shell(str(error))
        case OSError(strerror=str(reason)):
            return EXIT_UNEXPECTED, f"{reason}: {error.filename}." if error.filename else f"{reason}."
        case _:
            return EXIT_UNEXPECTED, f"{type(error).__name__}: {error} (--debug shows where)."


_OPTIONS = {"base_url": "llm", "model_path": "llm"}


def in_shell(message: str) -> str:
    """A message of the library with the names that things have on the command line."""
    message = message.removeprefix("base_url ").replace("LlamaCpp(model_path=...)", "--llm FILE.gguf")
    message = message.replace("`api_key=` or TGI_API_KEY", "the environment variable TGI_API_KEY")
    message = message.replace("use `api_key=` or `headers=`", "put the key into TGI_API_KEY")
    message = message.replace("or use ZeroShotClassifier", "or leave out --examples")
    return re.sub(
        r"`(base_url|model_path|labels|examples|prompt|method|timeout|max_concurrency|text_kind|label_kind|rotations)=?`",
        lambda found: "--" + _OPTIONS.get(found[1], found[1]).replace("_", "-"),
        message,
    )
