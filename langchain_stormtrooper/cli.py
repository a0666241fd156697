"""The command line: `langchain-stormtrooper classify`, and a TGI server to try things with.

This module holds the commands and turns every error into one sentence and an exit code. What options stand for is
`cli_options`' business, keeping the classifier busy `cli_running`'s, what rows look like `cli_output`'s. Nothing
imports it; it imports the rest of the package inside the commands only, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

EXIT_UNEXPECTED, EXIT_USAGE, EXIT_UNLABELLED, EXIT_MODEL, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 3, 4, 130, 141

app = typer.Typer(
    help="Zero- and few-shot text classification with self-hosted language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # it would show texts, and perhaps the key, as values of local variables
)


class Format(StrEnum):
    """How rows are written to standard output."""

    AUTO = "auto"
    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


class MethodOption(StrEnum):
    """How labels are obtained."""

    AUTO = "auto"
    SCORE = "score"
    CONSTRAIN = "constrain"
    GENERATE = "generate"


class OverlongOption(StrEnum):
    """What an overlong text gives."""

    NONE = "none"
    TRUNCATE = "truncate"
    RAISE = "raise"


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"langchain-stormtrooper {version('langchain-stormtrooper')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Zero- and few-shot text classification with self-hosted language models."""


_IN, _TASK, _MODEL, _OUT = "Texts", "Labels, examples and prompt", "Model", "Output"
_EXIT_CODES = (
    "[bold]Exit codes[/bold]: [bold]0[/bold] all rows have a label; [bold]1[/bold] unexpected error; [bold]2[/bold] "
    "wrong usage: options, files, columns or labels; [bold]3[/bold] some rows have no label; [bold]4[/bold] the model "
    "cannot be used: no server, wrong key, no model file, missing extra; [bold]130[/bold] interrupted; "
    "[bold]141[/bold] the reader of the output has gone away."
)


_HELP = (
    "Sort texts into classes.\n\nTexts come as arguments, from a file (--input), or one a line from standard input. "
    "Every row gets one of the labels, or none and the reason. Rows are written in their order while others are still "
    "in work; progress and a summary go to standard error."
)


@app.command(help=_HELP, epilog=_EXIT_CODES)
def classify(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; `-` for standard input, one text a line.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            "-l",
            metavar="A,B,C|FILE",
            help="Names separated by commas, or a file with one a line (optionally name, tab, description). Default: "
            "the labels of the examples.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", metavar="FILE", help="A .txt (one text a line), .csv or .jsonl.", rich_help_panel=_IN
        ),
    ] = None,
    text_column: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="The column that holds the texts, also of the examples.", rich_help_panel=_IN
        ),
    ] = "text",
    label_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column that holds known labels: compare with it and report the accuracy. Examples have their "
            "labels there, too (default for them: label).",
            rich_help_panel=_IN,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value; repeatable.", rich_help_panel=_IN),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first rows.", rich_help_panel=_IN)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Shuffle the rows before --limit (all are read first).", rich_help_panel=_IN),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .csv or .jsonl with texts and labels to show.", rich_help_panel=_TASK),
    ] = None,
    examples_where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only examples with this value; repeatable.", rich_help_panel=_TASK),
    ] = None,
    per_label: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first examples of each label.", rich_help_panel=_TASK),
    ] = None,
    text_kind: Annotated[
        str, typer.Option(metavar="WORD", help="What the texts are: review, …", rich_help_panel=_TASK)
    ] = "text",
    label_kind: Annotated[
        str, typer.Option(metavar="WORD", help="What the labels are: sentiment, …", rich_help_panel=_TASK)
    ] = "label",
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A preset (stable-beluga, flan-t5, task, kinds, chat) or a file with a template: {text}, {labels}, "
            "{examples}, {text_kind}, {label_kind}. Default: what suits the model.",
            rich_help_panel=_TASK,
        ),
    ] = None,
    llm: Annotated[
        str,
        typer.Option(
            envvar="TGI_BASE_URL",
            metavar="embedded|URL|FILE",
            help="`embedded`, the address of a TGI server, or a .gguf file. The key of a server is read from "
            "TGI_API_KEY.",
            rich_help_panel=_MODEL,
        ),
    ] = "embedded",
    method: Annotated[
        MethodOption, typer.Option(help="How labels are obtained; auto: the model's best.", rich_help_panel=_MODEL)
    ] = MethodOption.AUTO,
    prior: Annotated[
        bool, typer.Option(help="Divide scores by the model's lean towards each label.", rich_help_panel=_MODEL)
    ] = True,
    on_overlong: Annotated[
        OverlongOption, typer.Option(help="Too long a text: no label, cut to fit, or stop.", rich_help_panel=_MODEL)
    ] = OverlongOption.NONE,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds that one answer may take.", rich_help_panel=_MODEL)
    ] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Rows worked on at once.", rich_help_panel=_MODEL)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to this .jsonl or .csv.", rich_help_panel=_OUT),
    ] = None,
    form: Annotated[
        Format,
        typer.Option("--format", help="auto: a table on a terminal, else JSON lines.", rich_help_panel=_OUT),
    ] = Format.AUTO,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=_OUT)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_OUT)] = False,
) -> None:
    """Classify texts; see `_HELP`."""
    with _one_sentence(debug):
        from langchain_stormtrooper import cli_options
        from langchain_stormtrooper.cli_output import Tally
        from langchain_stormtrooper.cli_running import classify_rows
        from langchain_stormtrooper.errors import StormtrooperWarning
        from langchain_stormtrooper.text_files import Columns, read_where

        columns = Columns(text_column, label_column, read_where(where or ()))
        shown_columns = Columns(text_column, label_column or "label", read_where(examples_where or ()))
        cli_options.check_columns(columns, [source, examples])
        chosen_form = cli_options.choose_form(form.value, output, source)
        rows, total = cli_options.find_rows(texts or [], source, columns, limit, seed)
        shown = cli_options.find_examples(examples, shown_columns, per_label)
        classifier = cli_options.make_classifier(
            cli_options.find_labels(labels, shown),
            shown,
            llm=cli_options.make_llm(llm, timeout=timeout, max_concurrency=max_concurrency),
            prompt=cli_options.find_prompt(prompt),
            method=method.value,
            prior="words" if prior else None,
            on_overlong=on_overlong.value,
            text_kind=text_kind,
            label_kind=label_kind,
        )
        tally = Tally()
        try:
            with warnings.catch_warnings():
                # What they would tell is in the summary.
                warnings.simplefilter("ignore", StormtrooperWarning)
                asyncio.run(
                    classify_rows(
                        classifier,
                        rows,
                        tally,
                        form=chosen_form,
                        path=output,
                        total=total,
                        compares=source is not None and label_column is not None,
                        at_once=max_concurrency,
                        typed=total is None and sys.stdin.isatty(),
                        quiet=quiet,
                    )
                )
        finally:
            if not quiet and tally.started:
                _tell(str(tally))
                if tally.first_failure is not None:
                    _tell(f"The first failure, row {tally.first_failure[0]}: {_in_shell(tally.first_failure[1])}")
    if tally.without:
        raise typer.Exit(EXIT_UNLABELLED)


@app.command()
def probe(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of a TGI server; its key is in TGI_API_KEY.")],
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Find out what a TGI server can do, and what to change on it."""
    with _one_sentence(debug):
        from langchain_stormtrooper import bridge
        from langchain_stormtrooper.cli_output import show_report
        from langchain_stormtrooper.llms.tgi import TextGenerationInference
        from langchain_stormtrooper.probing import aprobe

        show_report(bridge.run(aprobe, TextGenerationInference(base_url=url, max_downtime=0)))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="[OPTIONS]",
)
def dev_server(context: typer.Context) -> None:
    """Serve a stand-in for a TGI server, to try a client by hand (see dev-server --help)."""
    with _one_sentence(debug=False):
        from langchain_stormtrooper.testing import serve
        from langchain_stormtrooper.testing.__main__ import build

        serve(build(context.args))


def _tell(message: str) -> None:
    typer.echo(message, err=True)


@contextmanager
def _one_sentence(debug: bool) -> Iterator[None]:
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
        code, message = _explain(error)
        typer.secho("Error: " if code != EXIT_INTERRUPTED else "", err=True, fg="red", nl=False)
        _tell(message)
        raise typer.Exit(code) from None


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for an error."""
    from pydantic import ValidationError

    from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError, RowError, ServerError

    match error:
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED, "Interrupted."
        case MissingExtraError() | ServerError():
            return EXIT_MODEL, _in_shell(str(error))
        case ConfigurationError():
            return EXIT_USAGE, _in_shell(str(error))
        case ValidationError():
            first = error.errors()[0]
            option = _in_shell(f"`{'.'.join(map(str, first['loc']))}=`").strip("`")
            return EXIT_USAGE, f"{option}: {_in_shell(first['msg'].removeprefix('Value error, '))}."
        case RowError():
            return EXIT_UNLABELLED, _in_shell(str(error))
        case OSError(strerror=str(reason)):
            return EXIT_UNEXPECTED, f"{reason}: {error.filename}." if error.filename else f"{reason}."
        case _:
            return EXIT_UNEXPECTED, f"{type(error).__name__}: {error} (--debug shows where)."


_OPTIONS = {"base_url": "llm", "model_path": "llm"}


def _in_shell(message: str) -> str:
    """A message of the library with the names that things have on the command line."""
    message = message.removeprefix("base_url ").replace("LlamaCpp(model_path=...)", "--llm FILE.gguf")
    message = message.replace("`api_key=` or TGI_API_KEY", "the environment variable TGI_API_KEY")
    message = message.replace("use `api_key=` or `headers=`", "put the key into TGI_API_KEY")
    message = message.replace("or use ZeroShotClassifier", "or leave out --examples")
    return re.sub(
        r"`(base_url|model_path|labels|examples|prompt|method|timeout|max_concurrency|text_kind|label_kind)=?`",
        lambda found: "--" + _OPTIONS.get(found[1], found[1]).replace("_", "-"),
        message,
    )


def main() -> None:
    """Run the command line."""
    app(prog_name="langchain-stormtrooper")


if __name__ == "__main__":
    main()
