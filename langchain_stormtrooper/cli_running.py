"""Keeping a classifier busy: rows in as they can be read, answers out in the same order, progress in between.

Memory is bounded: a fixed number of rows is read ahead. Reading never blocks the event loop, so a slow pipe does not
hold up requests, and every text of `tail -f` is answered when it comes. Only `cli` calls this module; it knows nothing
of options and exit codes.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console

from langchain_stormtrooper import answering
from langchain_stormtrooper.cli_output import FileWriter, PipeConsole, TableWriter, Tally, Writer, progress_bar
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.evaluation.running import aevaluate, check
from langchain_stormtrooper.llms.embedded import FILE_NAME, cache_directory
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.results import Classification, Method, Reason

if TYPE_CHECKING:
    from langchain_stormtrooper.classifiers import TextClassifier
    from langchain_stormtrooper.evaluation import Evaluation
    from langchain_stormtrooper.rows import RowInput
    from langchain_stormtrooper.text_files import Row

_AHEAD = 4
"""Rows that are read ahead for each that is worked on, so that a slow one does not hold up the others."""

_NO_TEXT = Classification(reason=Reason.FAILED, error="holds no text")
"""The answer for a row that is blank, which no model is asked about."""


async def classify_rows(
    classifier: TextClassifier,
    rows: Iterator[Row],
    tally: Tally,
    *,
    form: str,
    path: Path | None = None,
    total: int | None = None,
    compares: bool = False,
    at_once: int | None = None,
    typed: bool = False,
    quiet: bool = False,
) -> None:
    """Classify rows and write them.

    Args:
        classifier: The classifier.
        rows: The rows.
        tally: Counts what became of them.
        form: "table", "jsonl" or "csv".
        path: The file to write to; None for standard output.
        total: How many rows there are, if known.
        compares: Whether rows may have known labels.
        at_once: Rows worked on at once; None for what the LLM says.
        typed: Whether rows are typed in, so that a progress bar would be in the way.
        quiet: Whether to show no progress.

    Raises:
        ConfigurationError: There are no rows.
    """
    table = PipeConsole() if path is None and form == "table" else None
    watched = not quiet and sys.stderr.isatty() and total != 1 and not typed
    bar_console: Console | None = None
    if watched and table is not None and sys.stdout.isatty():
        # On one screen, only a bar that knows of the rows can make way for them.
        bar_console = table
    elif watched and (path is not None or _is_file(sys.stdout)):
        bar_console = Console(stderr=True)
    writer: Writer
    if table is None:
        writer = FileWriter(form, classifier.labels.names, path)
    else:
        await _get_ready(classifier, watched=watched)
        scores = await classifier.aget_method() is Method.SCORE
        writer = TableWriter(table, classifier.labels.names, probabilities=scores, expected=compares)
    with writer, ExitStack() as shown:
        await _get_ready(classifier, watched=watched)
        tally.start()
        progress = None
        if bar_console is not None:
            progress = shown.enter_context(progress_bar(bar_console))
            task = progress.add_task("Classifying", total=total, note="")
        at_once = at_once or answering.concurrency(classifier.llm)
        async with aclosing(in_order(classifier, rows, at_once)) as answers:
            async for row, answer in answers:
                writer.write(row, answer)
                tally.add(row, answer)
                if progress is not None:
                    progress.update(task, completed=tally.rows, note=tally.note())
    if not tally.rows:
        raise ConfigurationError("There are no texts: standard input is empty, or has blank lines only.")


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
        progress = shown.enter_context(progress_bar(Console(stderr=True))) if watched else None
        task = progress.add_task("Evaluating", total=len(rows) * (1 + rotations), note="") if progress else None

        def note(number: int, answer: Classification) -> None:
            if number < len(rows):
                tally.add(rows[number], _NO_TEXT if rows[number].blank else answer)
            if number < len(rows) == tally.rows:
                tally.stop()
            if progress is not None and task is not None:
                progress.update(task, advance=1, note=tally.note())

        return await aevaluate(classifier, texts, known, rotations=rotations, seed=seed, on_answer=note)


async def _get_ready(classifier: TextClassifier, *, watched: bool) -> None:
    """Get the model ready, and show that this takes a while, unless fetching it shows a progress of its own."""
    if watched and not _will_download(classifier):
        with Console(stderr=True).status("Getting the model ready …"):
            await classifier.aget_prompt()
    else:
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


async def in_order(
    classifier: TextClassifier, rows: Iterator[Row], at_once: int
) -> AsyncGenerator[tuple[Row, Classification], None]:
    """Rows with their answers, in order; the first error ends it."""
    loop = asyncio.get_running_loop()
    detailed = classifier.with_details()
    places = asyncio.Semaphore(at_once)
    room = threading.Semaphore(_AHEAD * at_once)
    stopped = threading.Event()
    queue: asyncio.Queue[tuple[Row, asyncio.Task[Classification]] | Exception | None] = asyncio.Queue()
    tasks: set[asyncio.Task[Classification]] = set()

    async def answer(row: Row) -> Classification:
        if row.text is None or row.blank:
            return _NO_TEXT
        async with places:
            return await detailed.ainvoke(row.text)

    def begin(row: Row) -> None:
        task = loop.create_task(answer(row))
        tasks.add(task)
        queue.put_nowait((row, task))

    def read() -> None:
        end: Exception | None = None
        # Whoever stops early closes the loop; nobody waits for the end then.
        with suppress(RuntimeError):
            try:
                for row in rows:
                    room.acquire()
                    if stopped.is_set():
                        return
                    loop.call_soon_threadsafe(begin, row)
            except (ConfigurationError, OSError) as error:
                end = error
            loop.call_soon_threadsafe(queue.put_nowait, end)

    # A daemon: while it waits for standard input, nothing else could end it.
    threading.Thread(target=read, name="reading texts", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            row, task = item
            yield row, await task
            tasks.discard(task)
            room.release()
    finally:
        stopped.set()
        room.release()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
