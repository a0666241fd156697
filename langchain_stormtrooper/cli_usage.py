"""Wrong usage, told as every other error is: in one sentence on standard error.

typer shows a usage line, a hint and a box with the words of its validator. Only `cli` calls this module; errors of the
commands themselves are `cli_telling`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from langchain_stormtrooper.cli_telling import EXIT_USAGE, must, tell_error

# typer brings click along or depends on it, by its version; so the class is taken from what it shows of it.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """The commands, whose wrong usage is one sentence and exit code 2."""

    @override
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _one_sentence(None):
            return super().make_context(*args, **kwargs)

    @override
    def invoke(self, ctx: Any) -> Any:
        with _one_sentence(ctx):
            return super().invoke(ctx)


@contextmanager
def _one_sentence(context: Any) -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which is the help, and no error
            raise
        tell_error(_sentence(error, context))
        raise typer.Exit(EXIT_USAGE) from None


def _sentence(error: Any, context: Any) -> str:
    """What is wrong, and where the options are listed."""
    wrong: str = error.format_message()
    if found := re.fullmatch(r"Invalid value for '([^']+)'[^:]*: (.*)", wrong, re.DOTALL):
        wrong = must(*found.groups())
    context = error.ctx or context
    path = " ".join(
        filter(None, (getattr(context, "command_path", None), getattr(context, "invoked_subcommand", None)))
    )
    end, start = (" ", "See") if wrong.endswith("?") else (": ", "see")
    return f"{wrong.rstrip('.')}{end}{start} `{path} --help`."
