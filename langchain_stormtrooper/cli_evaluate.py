"""The command `evaluate`: how good a classifier is on the rows of a file whose labels are known.

Its options are those of `classify` wherever they mean the same. `cli` registers it; the rest of the package is imported
inside, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_stormtrooper import cli_parameters as options
from langchain_stormtrooper.cli_telling import EXIT_UNLABELLED, one_sentence, summary, tell

if TYPE_CHECKING:
    from langchain_stormtrooper.evaluation import Evaluation
    from langchain_stormtrooper.text_files import Columns, Row

HELP = (
    "Measure a classifier on texts with known labels.\n\nAccuracy and macro-F1 with 95 % intervals, the scores of "
    "every label, the confusion matrix, how far confidence can be trusted, tokens and seconds: a table on a terminal, "
    "else JSON. No text is in the result. Progress and a summary go to standard error."
)


class ResultForm(StrEnum):
    """How the result is written to standard output."""

    AUTO = "auto"
    TABLE = "table"
    JSON = "json"


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .jsonl or .parquet with texts and labels.")],
    labels: options.Labels = None,
    text_column: options.TextColumn = "text",
    label_column: Annotated[
        str,
        typer.Option(
            "--label-column",
            "--label-field",
            metavar="COLUMN",
            help="The column that holds the known labels; rows without one are left out.",
            rich_help_panel=options.IN,
        ),
    ] = "label",
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only rows of this split: --where split=NAME.", rich_help_panel=options.IN),
    ] = None,
    where: options.Where = None,
    limit: options.Limit = None,
    seed: options.Seed = None,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Show the first rows of each label as examples: of the split `train`, if there is one. They are not "
            "evaluated.",
            rich_help_panel=options.TASK,
        ),
    ] = None,
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
    rotations: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Ask again with the labels rotated by 1, 2, … positions: how many answers change?",
            rich_help_panel=options.MODEL,
        ),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to this .json.", rich_help_panel=options.OUT),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw figures into this directory, as .png.", rich_help_panel=options.OUT),
    ] = None,
    form: Annotated[
        ResultForm,
        typer.Option(
            "--format",
            help="auto: a table on a terminal, else JSON, or nothing with --output.",
            rich_help_panel=options.OUT,
        ),
    ] = ResultForm.AUTO,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure a classifier; see `HELP`."""
    with one_sentence(debug):
        from langchain_stormtrooper import cli_options
        from langchain_stormtrooper.cli_output import writing
        from langchain_stormtrooper.cli_progress import Tally
        from langchain_stormtrooper.cli_running import evaluate_rows
        from langchain_stormtrooper.evaluation.metrics import require_sklearn
        from langchain_stormtrooper.text_files import Columns, as_examples, read_where

        # What is missing is told before the model has worked for nothing.
        require_sklearn()
        _check_targets(source, output, plots)
        conditions = [*(where or ()), *([] if split is None else [f"split={split}"])]
        columns = Columns(text_column, label_column, read_where(conditions))
        shown = [] if examples is None else _find_examples(source, columns, examples)
        rows, found = _find_rows(source, columns, {row.index for row in shown}, limit, seed, quiet=quiet)
        names = sorted({*found, *(row.expected or "" for row in shown)})
        classifier = cli_options.make_classifier(
            names if labels is None else cli_options.find_labels(labels, []),
            as_examples(shown),
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
        tally = Tally(option=out_of_scope)
        with summary(tally, quiet=quiet):
            evaluation = asyncio.run(
                evaluate_rows(classifier, rows, tally, rotations=rotations, seed=seed or 0, quiet=quiet)
            )
        if output is not None:
            with writing(output):
                evaluation.save(output)
        if plots is not None:
            with writing(plots):
                _draw(evaluation, plots)
        _show(evaluation, form, saved=output is not None)
    if tally.without:
        raise typer.Exit(EXIT_UNLABELLED)


def _check_targets(source: Path, output: Path | None, plots: Path | None) -> None:
    """Refuse what could not be written at the end, while nothing is lost."""
    from langchain_stormtrooper.cli_options import check_no_directory
    from langchain_stormtrooper.errors import ConfigurationError
    from langchain_stormtrooper.evaluation.plots import require_matplotlib

    if source.suffix.lower() == ".txt":
        raise ConfigurationError(f"{source} has no labels: texts with known labels belong in .csv, .jsonl or .parquet.")
    if output is not None:
        if output.suffix.lower() != ".json":
            raise ConfigurationError(f"--output {output} must end with .json.")
        if not output.parent.is_dir():
            raise ConfigurationError(f"There is no directory {output.parent} for --output: create it first.")
        check_no_directory(output)
    if plots is not None:
        require_matplotlib()
        if not plots.parent.is_dir() or (plots.exists() and not plots.is_dir()):
            raise ConfigurationError(f"--plots {plots} is no directory, and none can be made there.")


def _find_examples(source: Path, columns: Columns, per_label: int) -> list[Row]:
    """The first rows of each label, from the split `train` if there is one."""
    from dataclasses import replace

    from langchain_stormtrooper.text_files import holds, read_example_rows

    # A condition on the split is about what to evaluate on.
    rest = tuple((column, value) for column, value in columns.where if column != "split")
    trained = replace(columns, where=(*rest, ("split", "train")))
    chosen = trained if holds(source, trained) else columns
    return read_example_rows(source, chosen, per_label, pass_blank=True)


def _find_rows(
    source: Path, columns: Columns, shown: set[int], limit: int | None, seed: int | None, *, quiet: bool
) -> tuple[list[Row], set[str]]:
    """The rows to evaluate on, and all labels there are, also of rows beyond the limit."""
    from langchain_stormtrooper import cli_options
    from langchain_stormtrooper.errors import ConfigurationError

    rows = [row for row in cli_options.find_rows([], source, columns, None, seed)[0] if row.index not in shown]
    labelled = [row for row in rows if row.expected is not None]
    if not labelled:
        raise ConfigurationError(
            f"No row of {source} with a label is left to evaluate on"
            + (" beside the examples: show fewer." if shown else f": check the column {columns.label!r}.")
        )
    if len(labelled) < len(rows) and not quiet:
        tell(f"Left out: {len(rows) - len(labelled):,} of {len(rows):,} rows have no label.")
    kept = labelled[:limit]
    if all(row.blank for row in kept):
        raise ConfigurationError(
            f"No row to evaluate on holds a text in the column {columns.text!r} of {source}: check its name."
        )
    return kept, {row.expected for row in labelled if row.expected}


def _draw(evaluation: Evaluation, directory: Path) -> None:
    from langchain_stormtrooper.evaluation import plot_confusion, plot_reliability, plot_risk_coverage

    figures = {"confusion": plot_confusion(evaluation)}
    if evaluation.reliability is not None:
        figures["reliability"] = plot_reliability(evaluation)
    if evaluation.risk_coverage is not None:
        figures["risk_coverage"] = plot_risk_coverage(evaluation)
    directory.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes, and that can be seen.
        warnings.simplefilter("ignore", UserWarning)
        for name, figure in figures.items():
            figure.savefig(directory / f"{name}.png", dpi=150)


def _show(evaluation: Evaluation, form: ResultForm, *, saved: bool) -> None:
    """The result on standard output."""
    if form is ResultForm.TABLE or (form is ResultForm.AUTO and sys.stdout.isatty()):
        from langchain_stormtrooper.cli_output import PipeConsole

        PipeConsole(highlight=False).print(evaluation)
    elif form is ResultForm.JSON or not saved:
        typer.echo(evaluation.to_json(), nl=False)
