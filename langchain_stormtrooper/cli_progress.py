"""What becomes of rows while a command works: the counts, the progress bar, the summary.

All of it goes to standard error. Only the commands and `cli_running` call this module.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import override

from langchain_stormtrooper.runs import Ledger

if TYPE_CHECKING:
    from langchain_stormtrooper.results import Classification
    from langchain_stormtrooper.text_files import Row

_WINDOW = 30.0
"""Seconds over which a speed is measured, so that it tells what is going on now."""


_REMEMBERED = 10_000
"""Different texts that are remembered, as the stream remembers its rows."""


class CountingLedger(Ledger):
    """A ledger that counts what this run adds to it: rows that it had before cost no tokens.

    Attributes:
        added: Answers that were kept.
        tokens: Tokens of their prompts and generations, as far as they are known.
    """

    added = tokens = 0

    @override
    def put(self, task: str, rows: Sequence[tuple[bytes, Classification]]) -> list[Classification]:
        kept = super().put(task, rows)
        self.added += len(rows)
        self.tokens += sum(_tokens(answer) for _, answer in rows)
        return kept


def _tokens(answer: Classification) -> int:
    return (answer.prompt_tokens or 0) + (answer.generated_tokens or 0)


class Tally:
    """What became of the rows, for the summary and the exit code.

    Args:
        total: How many rows there are, if known.
        ledger: Where answers are kept, if anywhere.
        option: The known label that a row without one, being out of scope, is right for; None if there is none.
    """

    def __init__(
        self, total: int | None = None, ledger: CountingLedger | None = None, option: str | None = None
    ) -> None:
        self.total, self.ledger = total, ledger
        self._option = option
        self._tokens = 0
        self._texts: OrderedDict[int, None] = OrderedDict()
        self.rows = self.compared = self.right = 0
        self.reasons: Counter[str] = Counter()
        self.first_failure: tuple[int, str] | None = None
        self._started: float | None = None
        self._stopped: float | None = None

    def start(self) -> None:
        """Count the time from now on: getting a model ready is no matter of its speed."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Count the time until now: what is done after all rows is no matter of their speed."""
        self._stopped = time.perf_counter()

    def note(self) -> str:
        """What a progress bar tells besides numbers of rows."""
        parts = [f"{self.right / self.compared:.0%} right"] if self.compared else []
        return ", ".join([*parts, *(f"{count:,} {reason}" for reason, count in self.reasons.most_common())])

    @property
    def tokens(self) -> int:
        """Tokens of prompts and generations that were asked for in this run, as far as they are known."""
        return self._tokens if self.ledger is None else self.ledger.tokens

    def add(self, row: Row, answer: Classification) -> None:
        """Count one row."""
        self.rows += 1
        if self._is_new(row.text):
            self._tokens += _tokens(answer)
        if answer.reason is not None:
            self.reasons[answer.reason.value] += 1
            if answer.reason == "failed" and self.first_failure is None:
                self.first_failure = (row.index, answer.error or "for an unknown reason")
        if row.expected is not None:
            self.compared += 1
            said = self._option if answer.reason == "out_of_scope" else answer.label
            self.right += row.expected == said

    def _is_new(self, text: str | None) -> bool:
        """Whether a text is none of those before, which are asked for once."""
        key = hash(text)
        is_new = key not in self._texts
        self._texts[key] = None
        self._texts.move_to_end(key)
        if len(self._texts) > _REMEMBERED:
            self._texts.popitem(last=False)
        return is_new

    @property
    def without(self) -> int:
        """Rows without a label."""
        return self.reasons.total()

    def __str__(self) -> str:
        """The summary, on one line."""
        seconds = 0.0 if self._started is None else (self._stopped or time.perf_counter()) - self._started
        rate = f", {speed(self.rows / seconds)}" if self.rows > 1 and seconds > 0 else ""
        if self.tokens and seconds > 0:
            rate += f", {self.tokens:,} tokens ({self.tokens / seconds:,.0f} tokens/s)"
        if self.ledger is not None:
            answers = "1 new answer" if self.ledger.added == 1 else f"{self.ledger.added:,} new answers"
            rate += f"; {answers} in {self.ledger.path}"
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        without = f", {self.without:,} without a label ({reasons})" if reasons else ""
        accuracy = ""
        if self.compared:
            accuracy = f"; accuracy {self.right / self.compared:.3f} ({self.right:,} of {self.compared:,})"
            if unknown := self.rows - self.compared:
                left_out = "1 row that has" if unknown == 1 else f"{unknown:,} rows that have"
                accuracy += f", without {left_out} no known label"
        return f"{rows}: {self.rows - self.without:,} labelled{without}; {seconds:.1f} s{rate}{accuracy}"


class Speed:
    """How fast something has grown of late."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, now: float, amount: int) -> float:
        """The speed, given how much there is at a moment.

        Args:
            now: The moment, in seconds.
            amount: How much there is.
        """
        samples = self._samples
        # Not every row: a few hundred samples are enough.
        if not samples or now - samples[-1][0] >= _WINDOW / 100:
            samples.append((now, amount))
        while len(samples) > 2 and now - samples[0][0] > _WINDOW:
            samples.popleft()
        since, before = samples[0]
        return (amount - before) / (now - since) if now > since else 0.0


def speed(rows_per_second: float) -> str:
    """A speed with three digits that count."""
    told = float(f"{rows_per_second:.3g}")
    return f"{told:,.0f} rows/s" if told >= 1000 else f"{told:.3g} rows/s"


class _Rate(ProgressColumn):
    """Rows per second, and tokens where they are known."""

    @override
    def render(self, task: Task) -> Text:
        parts = [speed(task.speed)] if task.speed else []
        if task.fields["tokens"]:
            parts.append(f"{task.fields['tokens']:,.0f} tokens/s")
        return Text(", ".join(parts), style="cyan")


class Shown:
    """A progress bar that goes away when it is done; a context manager.

    Args:
        console: Where to; None for no bar.
        name: What is being done.
        tally: What became of the rows.
        total: How many steps there are, if known.
    """

    def __init__(self, console: Console | None, name: str, tally: Tally, total: int | None) -> None:
        self._tally = tally
        self._stack = ExitStack()
        self._speed = Speed()
        self._bar: Progress | None = None
        if console is not None:
            self._bar = progress_bar(console)
            self._task = self._bar.add_task(name, total=total, note="", tokens=0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._stack.enter_context(self._bar)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def show(self, done: int, ahead: int = 0) -> None:
        """Show how far it is.

        Args:
            done: Steps that are done.
            ahead: Rows that have been read and not answered.
        """
        if self._bar is not None:
            tokens = self._speed.at(time.monotonic(), self._tally.tokens)
            parts = [self._tally.note(), f"{ahead:,} read ahead" if ahead else ""]
            self._bar.update(self._task, completed=done, note=", ".join(filter(None, parts)), tokens=tokens)


def status(what: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Show what is being done, where somebody watches."""
    return Console(stderr=True).status(what) if sys.stderr.isatty() and not quiet else nullcontext()


def progress_bar(console: Console) -> Progress:
    """The bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        expand=True,
        # Standard output carries rows; rich would send what is written to it elsewhere.
        redirect_stdout=False,
        redirect_stderr=False,
    )
