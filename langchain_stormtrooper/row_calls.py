"""`RowCall`: the rows of one call, what the caller gets for them, and the warnings about those without a label.

No I/O and no LangChain machinery: whoever answers rows puts answers and errors in, and the faces take the rows out.
Made by `rows`; `configuring` makes parts of one where rows of a call have different settings.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from langchain_stormtrooper.batches import Isolation, as_rows, with_causes
from langchain_stormtrooper.errors import (
    FailedRequestWarning,
    LowConfidenceWarning,
    OutOfScopeWarning,
    OverlongInputWarning,
    PromptError,
    StormtrooperWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.parsers import UNMATCHED
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_warnings import SHOWN, warn_rows

RowInput: TypeAlias = str | dict[str, Any]
"""A text, or a dict that holds it under the classifier's `text_key`."""

OutputT = TypeVar("OutputT")


class RowAnswer(Protocol):
    """What is asked of an answer here: a `Classification` and a `MultiLabelClassification` have it."""

    @property
    def reason(self) -> Reason | None:
        """Why there is none."""

    @property
    def error(self) -> str | None:
        """What went wrong."""


def text_of(row: Any, text_key: str) -> str:
    """The text of a row.

    Args:
        row: A text, or a dict that holds it.
        text_key: The key that it has there.

    Raises:
        PromptError: There is none.
    """
    if isinstance(row, str):
        return row
    text = row.get(text_key) if isinstance(row, Mapping) else None
    if isinstance(text, str):
        return text
    shape = f"a dict with the keys {sorted(map(str, row))}" if isinstance(row, Mapping) else type(row).__name__
    raise PromptError(
        f"An input must be a text, or a dict with a text under {text_key!r} (set `text_key=` for another key), not "
        f"{shape}."
    )


_WARNINGS: dict[Reason, tuple[type[StormtrooperWarning], str]] = {
    Reason.OVERLONG: (OverlongInputWarning, "got no label: the prompt is longer than the model accepts"),
    Reason.UNMATCHED: (UnmatchedLabelWarning, UNMATCHED),
    Reason.LOW_CONFIDENCE: (LowConfidenceWarning, "got no label: the model was not sure enough"),
    Reason.OUT_OF_SCOPE: (OutOfScopeWarning, "got no label: the model found none of the labels to fit"),
    Reason.FAILED: (FailedRequestWarning, "got no label: no answer could be had"),
}


_CAUSES_KEPT = 100
"""Different causes that are counted; servers may word each failure in another way."""


class Unlabelled:
    """Counts rows without a label, for one warning per reason; of any number of rows it keeps only a few."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = Counter()
        self._first: dict[Reason, list[int]] = {}
        self._causes: dict[Reason, Counter[str]] = {}

    def note(self, indices: Sequence[int], answer: RowAnswer) -> None:
        """Take down an answer, if it is none.

        Args:
            indices: The rows that have it.
            answer: The answer.
        """
        reason = answer.reason
        if reason is None:
            return
        self._add(reason, len(indices), indices)
        # Why a text is too long differs from row to row: it is in the details.
        if answer.error is not None and reason is not Reason.OVERLONG:
            self._add_cause(reason, answer.error, len(indices))

    def take_over(self, other: Unlabelled, rows: Sequence[int]) -> None:
        """Take over what another has noted.

        Args:
            other: The other.
            rows: What is here called what there is 0, 1, …; in order.
        """
        for reason, count in other._counts.items():
            self._add(reason, count, [rows[index] for index in other._first[reason]])
        for reason, causes in other._causes.items():
            for cause, count in causes.items():
                self._add_cause(reason, cause, count)

    def warn(self, total: int) -> None:
        """Warn once per reason.

        Args:
            total: How many rows there were.
        """
        for reason, (category, what) in _WARNINGS.items():
            what = with_causes(what, self._causes.get(reason, Counter()))
            warn_rows(category, self._first.get(reason, ()), total, what, count=self._counts[reason])

    def _add(self, reason: Reason, count: int, indices: Sequence[int]) -> None:
        self._counts[reason] += count
        self._first[reason] = heapq.nsmallest(SHOWN, [*self._first.get(reason, ()), *indices])

    def _add_cause(self, reason: Reason, cause: str, count: int) -> None:
        causes = self._causes.setdefault(reason, Counter())
        if cause in causes or len(causes) < _CAUSES_KEPT:
            causes[cause] += count


class RowCall(Generic[OutputT]):
    """The rows of one call: inputs, and what the caller gets for them.

    Nothing else is kept of an answer but the reason if there is no label: a batch may have a million rows.

    Args:
        inputs: The rows.
        face: What the caller sees of an answer.
        return_exceptions: Whether what would be raised takes the place of its row.

    Attributes:
        rows: What the caller gets, None as long as it is not there.
        report: Told of each row as soon as it is there.
    """

    def __init__(
        self, inputs: Sequence[RowInput], face: Callable[[Any], OutputT], return_exceptions: bool = False
    ) -> None:
        self.inputs = as_rows(inputs)
        self.rows: list[OutputT | Exception | None] = [None] * len(self.inputs)
        self.report: Callable[[tuple[int, OutputT | Exception]], None] | None = None
        self._face = face
        self._isolation = Isolation(return_exceptions)
        self._unlabelled = Unlabelled()

    def _note(self, indices: Sequence[int], row: OutputT | Exception) -> None:
        for index in indices:
            self.rows[index] = row
            if self.report is not None:
                self.report((index, row))

    def _note_answer(self, indices: Sequence[int], answer: RowAnswer) -> None:
        self._unlabelled.note(indices, answer)
        self._note(indices, self._face(answer))

    async def take(self, indices: Sequence[int], answer: Callable[[], Awaitable[RowAnswer]]) -> None:
        """Get an answer and take it down for some rows."""
        try:
            self._isolation.begin()
            taken = await answer()
        except Exception as error:
            if not self._isolate(indices, error):
                raise
            return
        self._isolation.answered()
        self._note_answer(indices, taken)

    def _isolate(self, indices: Sequence[int], error: Exception) -> bool:
        """Take an error down for its rows alone; False if it is to be raised."""
        # An input without a text is that row's trouble; where no row has one, `check` has raised.
        if self._isolation.isolates(error) or (
            isinstance(error, PromptError) and not self._isolation.return_exceptions
        ):
            self._note_answer(indices, Classification(reason=Reason.FAILED, error=str(error)))
            return True
        if self._isolation.return_exceptions:
            self._note(indices, error)
        return self._isolation.return_exceptions

    def returns(self, error: Exception) -> bool:
        """Put what kept the call from starting in every row's place; False if it is to be raised."""
        if self._isolation.return_exceptions:
            self._note(range(len(self.rows)), error)
        return self._isolation.return_exceptions

    def check(self, render: Callable[[RowInput], Prompt]) -> None:
        """See to it that there is a text at all.

        Raises:
            PromptError: No row has one: what is wrong is the call, not a row.
        """
        first: PromptError | None = None
        for row in self.inputs:
            try:
                render(row)
            except PromptError as error:
                first = first or error
            else:
                return
        if first is not None and not self._isolation.return_exceptions:
            raise first

    def prompts(self, render: Callable[[RowInput], Prompt]) -> Iterator[Prompt]:
        """The prompts of the rows that have one, made as they are read."""
        for row in self.inputs:
            with suppress(PromptError):
                yield render(row)

    def group(self, render: Callable[[RowInput], Prompt]) -> tuple[dict[Prompt, int], dict[int, list[int]]]:
        """Different prompts with the first row that has each, and by that row the others that have the same.

        Rows without a text are taken down.
        """
        first: dict[Prompt, int] = {}
        repeats: dict[int, list[int]] = {}
        for index, row in enumerate(self.inputs):
            try:
                earlier = first.setdefault(render(row), index)
            except PromptError as error:
                self._isolate((index,), error)
            else:
                if earlier != index:
                    repeats.setdefault(earlier, []).append(index)
        return first, repeats

    def warn(self) -> None:
        """Warn once per kind of missing label."""
        self._unlabelled.warn(len(self.rows))

    def finish(self) -> list[Any]:
        """The rows, after the warnings."""
        self.warn()
        return self.rows

    def seen_as(self, face: Callable[[Any], Any]) -> Self:
        """This call, whose caller sees something else of the answers that are still to come."""
        self._face = face
        return self

    def part(self, rows: Sequence[int], face: Callable[[Any], Any]) -> RowCall[Any]:
        """A call for some of the rows, which reports them to this one; to be given to `take_over` at the end.

        Args:
            rows: Their indices.
            face: What the caller sees of their answers.
        """
        part: RowCall[Any] = RowCall([self.inputs[row] for row in rows], face, self._isolation.return_exceptions)
        part.report = lambda done: self._note((rows[done[0]],), done[1])
        return part

    def take_over(self, part: RowCall[Any], rows: Sequence[int]) -> None:
        """Take over why rows of a part have no label, so that one warning tells of all.

        Args:
            part: The part, answered.
            rows: The indices that it was made with, in order.
        """
        self._unlabelled.take_over(part._unlabelled, rows)
