"""Keeping a classifier busy: rows in, answers out in the same order, progress in between.

`tables.classifying.answered` does the work, here it is shown. Only the commands call this module; it knows nothing of
options and exit codes.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, TextIO, cast

from langchain_core.runnables import RunnableConfig
from rich.console import Console

from langchain_stormtrooper.cli_output import LineWriter, PipeConsole, TableWriter, Writer
from langchain_stormtrooper.cli_progress import Shown, Tally, status
from langchain_stormtrooper.cli_telling import ending_signals
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.evaluation.running import aevaluate, check
from langchain_stormtrooper.llms.embedded import FILE_NAME, cache_directory
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.results import Classification, Method
from langchain_stormtrooper.tables.answer_files import AnswerFile
from langchain_stormtrooper.tables.classifying import answered, check_complete, unasked

if TYPE_CHECKING:
    from langchain_stormtrooper.classifiers import TextClassifier
    from langchain_stormtrooper.evaluation import Evaluation
    from langchain_stormtrooper.rows import RowInput
    from langchain_stormtrooper.text_files import Columns, Row


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, which SIGTERM and SIGHUP end in the same orderly way as Ctrl-C.

    Raises:
        KeyboardInterrupt: One of them came.
    """

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # it runs in one
        # Windows has no such signals, and only the main thread gets them.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in ending_signals():
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def classify_rows(
    classifier: TextClassifier,
    rows: Iterator[Row],
    tally: Tally,
    columns: Columns,
    *,
    form: str,
    file: AnswerFile | None = None,
    compares: bool = False,
    at_once: int | None = None,
    waits: bool = False,
    quiet: bool = False,
) -> None:
    """Classify rows and write them.

    Args:
        classifier: The classifier.
        rows: The rows.
        tally: Counts what became of them.
        columns: Where records have their texts.
        form: What standard output gets: "table", "jsonl" or "csv".
        file: What is written instead; None for standard output.
        compares: Whether rows may have known labels.
        at_once: Rows worked on at once; None for what the LLM says.
        waits: Whether rows come from standard input.
        quiet: Whether to show no progress.

    Raises:
        ConfigurationError: There are no rows, or not as many as there were.
    """
    table = PipeConsole() if file is None and form == "table" else None
    # Where rows are typed in, a bar would be in the way.
    typed = waits and sys.stdin.isatty()
    watched = not quiet and sys.stderr.isatty() and tally.total != 1 and not typed
    bar_console: Console | None = None
    if watched and table is not None and sys.stdout.isatty():
        # On one screen, only a bar that knows of the rows can make way for them.
        bar_console = table
    elif watched and (file is not None or _is_file(sys.stdout)):
        bar_console = Console(stderr=True)
    writer: Writer | AnswerFile
    if file is not None:
        writer = file
    elif table is None:
        writer = LineWriter(form, classifier.labels.names, has_option=classifier.out_of_scope is not None)
    else:
        await _get_ready(classifier, watched=watched)
        scores = await classifier.aget_method() is Method.SCORE
        writer = TableWriter(table, classifier.labels.names, probabilities=scores, expected=compares)
    read: deque[Row] = deque()
    config = RunnableConfig() if at_once is None else RunnableConfig(max_concurrency=at_once)
    stream = answered(classifier, rows, columns, config=config, ledger=tally.ledger, waits=waits, read=read)
    with writer:
        await _get_ready(classifier, watched=watched)
        tally.start()
        with Shown(bar_console, "Classifying", tally, tally.total) as shown:
            async with aclosing(stream) as answers:
                async for row, answer in answers:
                    writer.write(row, answer)
                    tally.add(row, answer)
                    shown.show(tally.rows, len(read))
        if not tally.rows:
            raise ConfigurationError("There are no texts: standard input is empty, or has blank lines only.")
        if tally.total is not None:
            check_complete(tally.total, tally.rows)


async def evaluate_rows(
    classifier: TextClassifier, rows: Sequence[Row], tally: Tally, *, rotations: int, seed: int, quiet: bool
) -> Evaluation:
    """Measure a classifier on rows with known labels.

    Args:
        classifier: The classifier.
        rows: The rows.
        tally: Counts what became of them.
        rotations: How often to ask again with rotated labels.
        seed: Seed of the intervals.
        quiet: Whether to show no progress.
    """
    # What is no text gets no label from the library; white space would be asked about.
    texts = cast("list[RowInput]", [None if row.blank else row.text for row in rows])
    known = [row.expected or "" for row in rows]
    # What is wrong is told at once, also where the model has to be fetched first.
    check(classifier, texts, known, rotations=rotations)
    watched = not quiet and sys.stderr.isatty()
    with ExitStack() as shown:
        await _get_ready(classifier, watched=watched)
        tally.start()
        console = Console(stderr=True) if watched else None
        bar = shown.enter_context(Shown(console, "Evaluating", tally, len(rows) * (1 + rotations)))
        done = count(1)

        def note(number: int, answer: Classification) -> None:
            if number < len(rows):
                tally.add(rows[number], unasked(rows[number]) if rows[number].blank else answer)
            if number < len(rows) == tally.rows:
                tally.stop()
            bar.show(next(done))

        return await aevaluate(classifier, texts, known, rotations=rotations, seed=seed, on_answer=note)


async def _get_ready(classifier: TextClassifier, *, watched: bool) -> None:
    """Get the model ready, and show that this takes a while, unless fetching it shows a progress of its own."""
    with status("Getting the model ready …", quiet=not watched or _will_download(classifier)):
        await classifier.aget_prompt()


def _is_file(stream: TextIO) -> bool:
    """Whether it leads to a file: what a pipe leads to may write to the screen itself, through the bar."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # it is no file at all
        return False


def _will_download(classifier: TextClassifier) -> bool:
    """Whether the model has to be fetched first, which shows a progress of its own."""
    llm = classifier.llm
    return isinstance(llm, LlamaCpp) and llm.model_path is None and not (cache_directory() / FILE_NAME).exists()
