"""`classify --dry-run`: what classifying a file will take, on standard output. Only `cli` calls this module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from langchain_stormtrooper import cli_running
from langchain_stormtrooper.cli_output import PipeConsole
from langchain_stormtrooper.cli_progress import speed, status
from langchain_stormtrooper.errors import StormtrooperWarning
from langchain_stormtrooper.runs import Ledger
from langchain_stormtrooper.tables.forecasting import Forecast, aforecast

if TYPE_CHECKING:
    from langchain_stormtrooper.classifiers import TextClassifier
    from langchain_stormtrooper.text_files import Columns, Row

_HOW = {
    "counted": "counted by the model's tokenizer",
    "scaled": "about, from a sample counted by the model's tokenizer",
    "guessed": "a guess from the length of the texts",
}


def show_forecast(
    classifier: TextClassifier,
    find_rows: Callable[[], tuple[Iterator[Row], Any, Any]],
    columns: Columns,
    *,
    ledger: Path | None,
    at_once: int | None,
    quiet: bool,
) -> None:
    """Find out what classifying rows will take, and print it.

    Args:
        classifier: The classifier.
        find_rows: Gives the rows first, as `cli_options.find_rows`.
        columns: Where records have their texts.
        ledger: Where earlier answers are, if anywhere.
        at_once: Rows that will be worked on at once; None for what the LLM says.
        quiet: Whether to show nothing meanwhile.
    """

    async def work(kept: Ledger | None) -> None:
        with status("Reading, counting and asking a few rows …", quiet=quiet), warnings.catch_warnings():
            warnings.simplefilter("ignore", StormtrooperWarning)
            forecast = await aforecast(classifier, lambda: find_rows()[0], columns, ledger=kept, at_once=at_once)
        _print(forecast)

    # A file that is not there would be made.
    with Ledger(ledger) if ledger is not None and ledger.exists() else nullcontext() as kept:
        cli_running.run(work(kept))


def _print(forecast: Forecast) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(forecast):
        table.add_row(name, Text(value))
    PipeConsole(highlight=False, soft_wrap=True).print(table)


def _lines(forecast: Forecast) -> Iterator[tuple[str, str]]:
    left = forecast.different - forecast.kept
    yield "rows", f"{forecast.rows:,}"
    if forecast.without_text:
        yield "without a text", f"{forecast.without_text:,} (no text, or not to be read: reported and not asked)"
    yield "different texts", f"{forecast.different:,} (equal ones are asked once)"
    if forecast.kept:
        yield "in the ledger", f"{forecast.kept:,} (not asked again)"
    yield "to be asked", f"{left:,}"
    yield "prompt tokens", f"{forecast.prompt_tokens:,} ({_HOW[forecast.tokens_are]})"
    if forecast.overlong is None:
        yield "too long", "some; the model does not tell its limit"
    else:
        yield "too long", f"{forecast.overlong:,} ({_HOW[forecast.overlong_is]})"
    if forecast.rows_per_second is None:
        yield "time", "unknown" if left else "none: all answers are there"
        return
    yield "speed", f"{speed(forecast.rows_per_second)} (measured with {forecast.asked:,} rows; no answer was kept)"
    yield "time", f"about {timedelta(seconds=round(forecast.seconds or 0))}"
