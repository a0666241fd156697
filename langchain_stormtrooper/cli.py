"""The command line: `langchain-stormtrooper classify`, `evaluate`, `serve`, and a TGI server to try things with.

This module holds the commands (`evaluate` is in `cli_evaluate`, `serve` in `cli_serve`). What options stand for is
`cli_options`' business, keeping the classifier busy `cli_running`'s, what rows look like `cli_output`'s, errors and
exit codes `cli_telling`'s, options that do not exist `cli_usage`'s. It imports the rest of the package inside the
commands only, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from langchain_stormtrooper import cli_evaluate, cli_mcp, cli_serve
from langchain_stormtrooper import cli_parameters as options
from langchain_stormtrooper.cli_telling import (
    EXIT_CODES,
    EXIT_UNLABELLED,
    OF_DEV_SERVER,
    OF_PROBE,
    ended_by_signals,
    one_sentence,
    rescue,
    summary,
    tell,
)
from langchain_stormtrooper.cli_usage import Commands

app = typer.Typer(
    cls=Commands,
    help="Zero- and few-shot text classification with self-hosted language models.",
    epilog=EXIT_CODES,
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


class BadRow(StrEnum):
    """What becomes of a row that cannot be read."""

    REPORT = "report"
    FAIL = "fail"


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


_HELP = (
    "Sort texts into classes.\n\nTexts come as arguments, from a file, or one a line from standard input. Every row "
    "gets one of the labels, or none and the reason. Rows are written in their order while others are still in work; "
    "progress and a summary go to standard error.\n\nA file of any size goes into another by `classify in.parquet -o "
    "out.parquet --ledger run.sqlite`: its columns are kept, and label, confidence, reason, error and the probability "
    "of each label are added. The output takes its place when it is complete. A run that was broken off goes on by the "
    "same command."
)


@app.command(help=_HELP, epilog=EXIT_CODES)
def classify(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts; or one file as for --input, if it exists; or `-` for standard input, one text a line.",
            show_default=False,
        ),
    ] = None,
    labels: options.Labels = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="A .txt (one text a line), .csv, .jsonl or .parquet.",
            rich_help_panel=options.IN,
        ),
    ] = None,
    text_column: options.TextColumn = "text",
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            "--label-field",
            metavar="COLUMN",
            help="The column that holds known labels: compare with it and report the accuracy, without rows that have "
            "none. Examples have their labels there, too (default for them: label).",
            rich_help_panel=options.IN,
        ),
    ] = None,
    where: options.Where = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    on_bad_row: Annotated[
        BadRow,
        typer.Option(
            help="A row that cannot be read, such as a line that is no JSON: no label and the reason, or stop before "
            "anything is asked.",
            rich_help_panel=options.IN,
        ),
    ] = BadRow.REPORT,
    examples: options.Examples = None,
    examples_where: options.ExamplesWhere = None,
    per_label: options.PerLabel = None,
    text_kind: options.TextKind = "text",
    label_kind: options.LabelKind = "label",
    out_of_scope: options.OutOfScope = None,
    prompt: options.PromptOption = None,
    llm: options.LLMOption = "embedded",
    model: options.ModelName = None,
    method: options.MethodName = options.MethodOption.AUTO,
    prior: options.Prior = True,
    on_overlong: options.OnOverlong = options.OverlongOption.NONE,
    timeout: options.Timeout = None,
    max_concurrency: options.MaxConcurrency = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this .csv, .jsonl or .parquet.",
            rich_help_panel=options.OUT,
        ),
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            help="Before the names of the columns that are added to --output: predicted_ for predicted_label, …",
            rich_help_panel=options.OUT,
        ),
    ] = "",
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep every answer in this file, and ask for no row again that is in it.",
            rich_help_panel=options.OUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing: count rows, tokens and texts that are too long, ask a few rows, and tell how long all "
            "will take.",
            rich_help_panel=options.OUT,
        ),
    ] = False,
    form: Annotated[
        Format,
        typer.Option("--format", help="auto: a table on a terminal, else JSON lines.", rich_help_panel=options.OUT),
    ] = Format.AUTO,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Classify texts; see `_HELP`."""
    with one_sentence(debug), ended_by_signals():
        from langchain_stormtrooper import cli_options, cli_running
        from langchain_stormtrooper.cli_dry_run import show_forecast
        from langchain_stormtrooper.cli_progress import CountingLedger, Tally, status
        from langchain_stormtrooper.text_files import Columns, read_where

        columns = Columns(text_column, label_column, read_where(where or ()))
        shown_columns = Columns(text_column, label_column or "label", read_where(examples_where or ()))
        texts, source = cli_options.find_source(texts or [], source)
        cli_options.check_columns(columns, [source, examples])
        chosen_form = cli_options.choose_form(form.value, output)
        cli_options.check_outputs(output, ledger, prefix, [source, examples], dry_run=dry_run)
        with ExitStack() as opened:
            reports = on_bad_row is BadRow.REPORT
            with status("Looking through the file …", quiet=quiet or source is None):
                rows, total, survey = cli_options.find_rows(texts, source, columns, limit, seed, reports=reports)
            shown = cli_options.find_examples(examples, shown_columns, per_label)
            classifier = cli_options.make_classifier(
                cli_options.find_labels(labels, shown),
                shown,
                llm=llm,
                model=model,
                prompt=prompt,
                method=method.value,
                prior=prior,
                on_overlong=on_overlong.value,
                text_kind=text_kind,
                label_kind=label_kind,
                out_of_scope=out_of_scope,
                timeout=timeout,
                max_concurrency=max_concurrency,
            )
            if dry_run:
                # The rows are gone through more than once.
                again = partial(cli_options.find_rows, texts, source, columns, limit, seed, reports=reports)
                show_forecast(classifier, again, columns, ledger=ledger, at_once=max_concurrency, quiet=quiet)
                return
            file = cli_options.make_file(output, survey, classifier, prefix, ledger)
            kept = None if ledger is None else opened.enter_context(CountingLedger(ledger))
            tally = Tally(total, kept, out_of_scope)
            opened.enter_context(rescue(tally, file))
            opened.enter_context(summary(tally, quiet=quiet))
            cli_running.run(
                cli_running.classify_rows(
                    classifier,
                    rows,
                    tally,
                    columns,
                    form=chosen_form,
                    file=file,
                    compares=source is not None and label_column is not None,
                    at_once=max_concurrency,
                    waits=total is None,
                    quiet=quiet,
                )
            )
    if tally.without:
        raise typer.Exit(EXIT_UNLABELLED)


app.command(name="evaluate", help=cli_evaluate.HELP, epilog=EXIT_CODES)(cli_evaluate.evaluate)
app.command(name="mcp", help=cli_mcp.HELP, epilog=EXIT_CODES)(cli_mcp.mcp)
app.command(name="serve", help=cli_serve.HELP, epilog=EXIT_CODES)(cli_serve.serve)


@app.command(epilog=EXIT_CODES)
def probe(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The address of a TGI server (its key is in TGI_API_KEY), or of an OpenAI-compatible one with /v1 at "
            "its end (OPENAI_COMPATIBLE_API_KEY).",
        ),
    ],
    timeout: options.Timeout = None,
    debug: options.Debug = False,
) -> None:
    """Find out what a server can do, and what to change on it."""
    with one_sentence(debug, OF_PROBE):
        from langchain_stormtrooper import bridge, cli_options
        from langchain_stormtrooper.cli_output import show_report
        from langchain_stormtrooper.llms.openai import OpenAICompletions
        from langchain_stormtrooper.probing import aprobe
        from langchain_stormtrooper.probing_openai import aprobe_openai

        llm = cli_options.make_client("The URL", url, timeout=timeout, max_downtime=0)
        show_report(bridge.run(aprobe_openai, llm) if isinstance(llm, OpenAICompletions) else bridge.run(aprobe, llm))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="[OPTIONS]",
)
def dev_server(context: typer.Context) -> None:
    """Serve a stand-in for a TGI server, to try a client by hand (see dev-server --help)."""
    with one_sentence("--debug" in context.args, OF_DEV_SERVER):
        from langchain_stormtrooper.testing import serve
        from langchain_stormtrooper.testing.__main__ import build

        server = build(context.args, prog=context.command_path, epilog=EXIT_CODES)
        if find_spec("interegular") is None:
            tell("Grammars are refused: they need `pip install 'langchain-stormtrooper[testing]'`.")
        serve(server)


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    app(prog_name="langchain-stormtrooper")


def _open_closed_streams() -> None:
    """Let what is written to a closed stream (`>&-`) be lost, instead of failing for want of one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # until the process ends


if __name__ == "__main__":
    main()
