"""Classifying the rows of a file: `classify_file` for users, `answered` for whoever shows rows in another way.

A file is looked through before anything is asked, so that what is wrong with all of it is told at once. Then its rows
go through `astream_rows`; rows that hold no text, or could not be read, are reported in their places and not asked.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.runnables import RunnableConfig

from langchain_stormtrooper import bridge
from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.rows import RowRunnable
from langchain_stormtrooper.tables.answer_files import AnswerFile, check_output
from langchain_stormtrooper.tables.answers import AnswerColumns
from langchain_stormtrooper.text_files import Columns, Row, look_through, read_rows

if TYPE_CHECKING:
    from langchain_stormtrooper.row_classifier import RowClassifier
    from langchain_stormtrooper.runs import Ledger

_NO_TEXT = "holds no text"


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What became of the rows of a file.

    Attributes:
        output: The file that was written.
        rows: How many rows it has.
        labelled: How many of them have a label.
        reasons: How many have none, by reason.
    """

    output: Path
    rows: int
    labelled: int
    reasons: Mapping[Reason, int]


async def aclassify_file(
    classifier: RowClassifier,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    text_column: str = "text",
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
    prefix: str = "",
    on_bad_row: Literal["report", "fail"] = "report",
    config: RunnableConfig | None = None,
    on_answer: Callable[[Row, Classification], object] | None = None,
) -> FileSummary:
    """Classify the rows of a file into another one, of any size, row by row.

    The output has the rows in their order, with all their columns and these added: `label`, `confidence`, `reason`,
    `error`, and the probability of each label as `probability:<label>` (in JSON lines, one object `probabilities`).
    With an option for texts that no label fits, `out_of_scope` is its probability. The output takes its place when it
    is complete; until then an older file there stays. See `cookbook/files.md`.

    Args:
        classifier: The classifier, also a tree or a cascade. Where its prompt has further variables, they are taken
            from columns.
        source: A `.csv`, `.jsonl` or `.parquet` file (this one needs the extra `parquet`), or `.txt` with one text a
            line.
        output: A `.csv`, `.jsonl` or `.parquet` file.
        ledger: As in `astream_rows`: with one, a run that was broken off goes on where it was. Without one, what it has
            answered is left in a file with `.partial` in its name.
        text_column: The column that holds the texts.
        where: Columns and the values that they must have; other rows are left out.
        limit: How many rows to take at most; None for all.
        prefix: What the names of the added columns begin with.
        on_bad_row: What happens to rows that cannot be read, such as a line that is no JSON: "report" gives them no
            label and the reason `failed`, "fail" refuses the file.
        config: As in `astream_rows`.
        on_answer: Called with each row and its answer when it has been written.

    Raises:
        ConfigurationError: The file cannot be read or written, or lacks a column, or an argument is wrong.
        LedgerError: As in `astream_rows`.
        ServerError: As in `astream_rows`.
        MissingExtraError: The extra `parquet` is needed and not installed.
    """
    # With details or without, the same is written.
    if isinstance(classifier, RowRunnable):
        classifier = classifier._settable
    source, output = Path(source), Path(output)
    columns = Columns(text_column, None, tuple((where or {}).items()))
    reports = reports_bad_rows(on_bad_row)
    check_count("`limit=`", limit, optional=True)
    check_output(output, source, _path_of(ledger))
    # A large file would keep everything else from running.
    survey = await asyncio.to_thread(look_through, source, columns, limit, reports=reports)
    reasons: Counter[Reason] = Counter()
    count = 0
    # Not all classifiers know such an option; which take no files says their stream.
    has_option = getattr(classifier, "_option", None) is not None
    added = AnswerColumns(classifier.labels.names, prefix, has_option=has_option)
    file = AnswerFile(output, survey, added, keeps=ledger is None)
    # What is appended meanwhile is none of it.
    rows = choose(read_rows(source, columns, reports=reports), survey.rows)
    try:
        with file:
            async with aclosing(answered(classifier, rows, columns, config=config, ledger=ledger)) as answers:
                async for row, answer in answers:
                    file.write(row, answer)
                    count += 1
                    if answer.reason is not None:
                        reasons[answer.reason] += 1
                    if on_answer is not None:
                        on_answer(row, answer)
            check_complete(survey.rows if limit is None else min(survey.rows, limit), count)
    except BaseException as error:
        if file.kept is not None:
            error.add_note(f"The first {file.kept_rows:,} rows are in {file.kept}, the others have to be asked again.")
        raise
    return FileSummary(output, count, count - reasons.total(), dict(reasons))


def classify_file(
    classifier: RowClassifier,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    text_column: str = "text",
    where: Mapping[str, str] | None = None,
    limit: int | None = None,
    prefix: str = "",
    on_bad_row: Literal["report", "fail"] = "report",
    config: RunnableConfig | None = None,
    on_answer: Callable[[Row, Classification], object] | None = None,
) -> FileSummary:
    """Like `aclassify_file`."""
    return bridge.run(
        partial(
            aclassify_file,
            classifier,
            source,
            output,
            ledger=ledger,
            text_column=text_column,
            where=where,
            limit=limit,
            prefix=prefix,
            on_bad_row=on_bad_row,
            config=config,
            on_answer=on_answer,
        )
    )


def reports_bad_rows(on_bad_row: str) -> bool:
    """Whether rows that cannot be read are reported in their places.

    Raises:
        ConfigurationError: It is neither "report" nor "fail".
    """
    if on_bad_row not in ("report", "fail"):
        raise ConfigurationError(f"`on_bad_row=` is {on_bad_row!r}: it must be 'report' or 'fail'.")
    return on_bad_row == "report"


def choose(rows: Iterator[Row], limit: int | None, seed: int | None = None) -> Iterator[Row]:
    """The first rows, after they have been shuffled where there is a seed; all are read first then."""
    if seed is not None:
        read = list(rows)
        random.Random(seed).shuffle(read)  # noqa: S311  # a sample, no secret
        rows = iter(read)
    return islice(rows, limit)


def check_complete(expected: int, found: int) -> None:
    """See to it that no row was lost.

    Raises:
        ConfigurationError: There were more or less rows than when the file was looked through.
    """
    if found != expected:
        raise ConfigurationError(
            f"The file had {expected:,} rows when it was looked through, and {found:,} when it was read: it was "
            "changed meanwhile; start again."
        )


async def answered(
    classifier: RowClassifier,
    rows: Iterable[Row],
    columns: Columns | None = None,
    *,
    config: RunnableConfig | None = None,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    waits: bool = False,
    read: deque[Row] | None = None,
) -> AsyncGenerator[tuple[Row, Classification], None]:
    """Rows with their answers, in order, as `astream_rows` gives them.

    Args:
        classifier: The classifier.
        rows: The rows, read a bounded number ahead.
        columns: Where records have their texts; None for a classifier's own key.
        config: As in `astream_rows`.
        ledger: As in `astream_rows`.
        waits: Whether a row may be long in coming, as from a pipe; the first one must hold a text then.
        read: Rows that have been read and not handed out; for whoever wants to show how many there are.
    """
    read = deque() if read is None else read
    rows = iter(rows)
    first: list[Row] = []
    if not waits:
        # The stream takes it for a wrong call where no row at its beginning holds a text.
        for row in rows:
            if not row.blank:
                first.append(row)
                break
            yield row, unasked(row)
        else:
            return

    def inputs() -> Iterator[Any]:
        for row in chain(first, rows):
            read.append(row)
            if row.blank:
                yield None
            else:
                yield row.text if row.record is None else row.record.fields

    keys = {} if columns is None or columns.text == classifier.text_key else {"text_key": columns.text}
    stream = classifier.astream_rows(inputs(), config, ledger=ledger, in_order=True, **cast("dict[str, Any]", keys))
    async with aclosing(stream) as answers:
        async for answer in answers:
            row = read.popleft()
            yield row, unasked(row) if row.blank else answer


def unasked(row: Row) -> Classification:
    """The answer for a row that is blank, which no model is asked about."""
    return Classification(reason=Reason.FAILED, error=row.problem or _NO_TEXT)


def _path_of(ledger: Any) -> Path | None:
    return None if ledger is None else Path(getattr(ledger, "path", ledger))
