"""Keeping a classifier busy with any number of rows: a bounded window in, answers out as they come or in order.

At most `window` rows are read and not handed out, so memory does not grow with the rows and a consumer that pauses
pauses the source. With a ledger, an answer is kept before it is handed out, and kept rows are not asked again.
`RowClassifier.astream_rows` is the only caller; whose trouble an error is, `batches.Isolation` decides as in batches.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_async_callback_manager_for_config

from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.batches import Isolation, check_rows, places
from langchain_stormtrooper.errors import ConfigurationError, LedgerError, PromptError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_calls import Unlabelled
from langchain_stormtrooper.rows import RowAnswering
from langchain_stormtrooper.runs.ledger import Ledger, as_kept, check_ledger, is_finished
from langchain_stormtrooper.runs.rows import Ask, ClassifiedRow, failed
from langchain_stormtrooper.runs.sources import Rows, read

if TYPE_CHECKING:
    from langchain_stormtrooper.row_classifier import RowClassifier

_AHEAD, _AHEAD_OF_DISK = 4, 16
"""Rows in the window for each that is asked for, so that a slow one does not hold up the others; and with a ledger, so
that a slow disk does not."""

_MOMENT = 0.01
"""Seconds for which a finished row waits for others at most, to be kept together with them."""

REMEMBERED = 10_000
"""Different rows whose answers are remembered without a ledger: those that came last."""


class RowStream:
    """One run over rows.

    Args:
        classifier: What answers.
        rows: The rows.
        config: As in LangChain, for each row; `max_concurrency` is how many are asked for at once.
        ledger: Keeps answers; None for none. A path is opened at the first row and closed at the end.
        in_order: Whether answers come in the order of the rows.
        window: Rows that are read and not handed out at most; None for four for each that is asked for at once, or
            16 with a ledger.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        classifier: RowClassifier,
        rows: Rows,
        config: RunnableConfig | None,
        *,
        ledger: Ledger | str | os.PathLike[str] | None,
        in_order: bool,
        window: int | None,
    ) -> None:
        check_rows(rows)
        check_count("`window=`", window, optional=True)
        settings: Any = config
        if settings is not None and not isinstance(settings, Mapping):
            raise ConfigurationError(f"`config=` must be one dict for all rows, not {type(settings).__name__}.")
        check_ledger(ledger)
        self._classifier = classifier
        self._rows = rows
        self._config = ensure_config(config)
        self._is_watched = bool(get_async_callback_manager_for_config(self._config).handlers)
        self._at_once = places(self._config) or classifier._concurrency
        ahead = _AHEAD if ledger is None else _AHEAD_OF_DISK
        self._window = ahead * self._at_once if window is None else window
        self._given_ledger = ledger
        self._in_order = in_order
        self._isolation = Isolation(return_exceptions=False)
        self._unlabelled = Unlabelled()
        self._read = self._handed_out = 0
        self._ready: deque[ClassifiedRow] = deque()
        self._early: dict[int, ClassifiedRow] = {}
        self._textless: list[tuple[int, Any, PromptError]] | None = []
        self._asks: dict[Any, Ask] = {}
        self._waiting: deque[Ask] = deque()
        self._workers = 0
        self._remembered: OrderedDict[Prompt, Classification] = OrderedDict()
        self._to_keep: list[tuple[Ask, Classification]] = []
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # What is wrong for every row, and what is wrong with the source.
        self._error: BaseException | None = None
        self._end: Exception | None = None
        self._is_read = False

    def warn(self) -> None:
        """Warn once per kind of missing label."""
        self._unlabelled.warn(self._read)

    async def answers(self) -> AsyncGenerator[ClassifiedRow, None]:
        """The rows with their answers; to be called once.

        An error that every row would share ends it at once. One of the source ends it when all that was read before it
        has been handed out.
        """
        with ExitStack() as opened:
            # Before the server is asked anything: a ledger of something else would make that worthless.
            self._ledger = await self._open(opened)
            try:
                self._answering = await self._classifier._aprepare()
            except Exception as error:
                if self._is_watched:
                    await self._classifier._areport("", self._config, error)
                raise
            if self._ledger is not None:
                keys = await self._classifier._akeys()
                if keys is None:
                    raise LedgerError(
                        "A ledger cannot tell the cheap stage of this cascade from another: take a classifier for it, "
                        "or an estimator that can be pickled, or no ledger."
                    )
                self._task, self._row_key = keys
            self._news, self._is_enough = asyncio.Event(), asyncio.Event()
            source, release = read(self._rows, self._window)
            self._start(lambda: self._feed(source))
            try:
                while (answer := await self._next()) is not None:
                    self._handed_out += 1
                    release()
                    yield answer
            finally:
                await self._stop(source)

    async def _open(self, opened: ExitStack) -> Ledger | None:
        given = self._given_ledger
        if given is None or isinstance(given, Ledger):
            return given
        return opened.enter_context(await asyncio.to_thread(Ledger, given))

    async def _next(self) -> ClassifiedRow | None:
        """The next answer; None at the end."""
        while True:
            if self._error is not None:
                raise self._error
            if self._ready:
                return self._ready.popleft()
            if self._is_read and self._handed_out == self._read:
                if self._end is not None:
                    raise self._end
                return None
            await self._news.wait()
            self._news.clear()

    async def _stop(self, source: AsyncGenerator[list[Any], None]) -> None:
        """Leave nothing behind; answers that were there are kept."""
        running = [*self._tasks]
        for task in running:
            task.cancel()
        try:
            await asyncio.gather(*running, return_exceptions=True)
            await source.aclose()
        finally:
            if self._to_keep and self._ledger is not None:
                # In this thread: a task that is being cancelled may not wait for another. An error has been told, or
                # nobody is there to be told, and rows that are not kept are asked again.
                with suppress(Exception):
                    self._ledger.put(self._task, self._named(self._to_keep))

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        # Not a coroutine as such: a task that is cancelled before it has begun would leave it unawaited.
        async def run() -> None:
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # raised where answers are waited for
                self._fail(error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._news.set()

    async def _feed(self, source: AsyncGenerator[list[Any], None]) -> None:
        """Read rows as there is room, and see to it that they are answered."""
        while True:
            try:
                rows = await anext(source)
            except StopAsyncIteration:
                break
            except Exception as error:  # noqa: BLE001  # told when the rows before it are through
                self._end = error
                break
            self._waiting.extend(self._to_ask(rows))
            # What has been handed out is not to stay in memory until more rows come.
            del rows
            for _ in range(min(self._at_once - self._workers, len(self._waiting))):
                self._workers += 1
                self._start(self._work)
                if not self._handed_out:
                    # Requests that are sent together are answered together, and wait for one another.
                    await asyncio.sleep(0)
        if self._textless and self._end is None:
            raise self._textless[0][2]
        self._release_textless()
        self._is_read = True
        self._news.set()

    def _to_ask(self, rows: list[Any]) -> list[Ask]:
        """What has to be asked for some rows; those whose answer is known are handed out."""
        asks: list[Ask] = []
        for row in rows:
            index, self._read = self._read, self._read + 1
            try:
                prompt = self._answering.render(row)
            except PromptError as error:
                self._note_textless(index, row, error)
                continue
            self._release_textless()
            key = self._key(prompt)
            if (ask := self._asks.get(key)) is not None:
                ask.rows.append((index, row))
                continue
            self._asks[key] = ask = Ask(key, prompt, (index, row))
            asks.append(ask)
        known = self._look_up([ask.key for ask in asks])
        for ask in asks:
            if (answer := known.get(ask.key)) is not None:
                del self._asks[ask.key]
                for index, row in ask.rows:
                    self._tell(index, row, answer)
        asks = [ask for ask in asks if ask.key not in known]
        if asks:
            self._answering.announce([ask.prompt for ask in asks])
        return asks

    def _key(self, prompt: Prompt) -> Any:
        """What rows of equal answers have in common."""
        if self._ledger is None:
            return prompt
        return self._ledger.name(self._task, self._row_key(prompt))

    def _look_up(self, keys: list[Any]) -> dict[Any, Classification]:
        """The answers that are known already."""
        if self._ledger is not None:
            return self._ledger.find(keys)
        known = {key: self._remembered[key] for key in keys if key in self._remembered}
        for key in known:
            self._remembered.move_to_end(key)
        return known

    def _note_textless(self, index: int, row: Any, error: PromptError) -> None:
        """Take down a row without a text; the first ones are held back, since it may be that no row has one."""
        if self._textless is None:
            self._tell(index, row, failed(error))
            return
        self._textless.append((index, row, error))
        if len(self._textless) == self._window:
            raise self._textless[0][2]

    def _release_textless(self) -> None:
        held, self._textless = self._textless, None
        for index, row, error in held or ():
            self._tell(index, row, failed(error))

    async def _work(self) -> None:
        """Answer what waits, one after the other."""
        while self._waiting:
            ask = self._waiting.popleft()
            self._take(ask, await self._ask(ask))
        self._workers -= 1

    def _take(self, ask: Ask, answer: Classification) -> None:
        """Take an answer, to be kept before it is handed out if there is a ledger."""
        if self._ledger is None:
            if is_finished(answer):
                self._remembered[ask.key] = answer
                if len(self._remembered) > REMEMBERED:
                    self._remembered.popitem(last=False)
            self._finish(ask, answer)
            return
        answer = as_kept(answer)
        if not is_finished(answer):
            self._finish(ask, answer)
        else:
            self._to_keep.append((ask, answer))
            if self._keeping is None:
                self._keeping = self._start(self._keep)
        if self._has_enough():
            self._is_enough.set()

    async def _ask(self, ask: Ask) -> Classification:
        index, row = ask.rows[0]
        try:
            self._isolation.begin()
            if self._is_watched:
                answer = await self._trace(index, row, self._answering)
            else:
                answer = await self._answering.answer(ask.prompt, None)
        except Exception as error:
            if not self._isolation.isolates(error):
                raise
            return failed(error)
        self._isolation.answered()
        return answer

    async def _trace(self, index: int, row: Any, answering: RowAnswering) -> Classification:
        """A row as a LangChain run of its own."""
        config = self._config
        if index and "run_id" in config:
            # As in LangChain's batches: an id is one run's.
            config = cast("RunnableConfig", {name: value for name, value in config.items() if name != "run_id"})
        answer: Classification = await self._classifier._atraced(row, config, answering, {})
        return answer

    async def _keep(self) -> None:
        """Keep answers as long as there are any: those that come within a moment go together."""
        assert self._ledger is not None  # noqa: S101  # else nobody would call
        while self._to_keep:
            if not self._has_enough():
                self._is_enough.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_MOMENT):
                        await self._is_enough.wait()
            group = self._to_keep[:]
            kept = await asyncio.to_thread(self._ledger.put, self._task, self._named(group))
            del self._to_keep[: len(group)]
            for (ask, _), answer in zip(group, kept, strict=True):
                self._finish(ask, answer)
        self._keeping = None

    def _has_enough(self) -> bool:
        """Whether as many answers are to be kept as may come at once, or no other is on its way."""
        return len(self._to_keep) >= min(self._at_once, len(self._asks))

    @staticmethod
    def _named(group: list[tuple[Ask, Classification]]) -> list[tuple[bytes, Classification]]:
        return [(ask.key, answer) for ask, answer in group]

    def _finish(self, ask: Ask, answer: Classification) -> None:
        """Hand an answer to all rows that asked for it."""
        del self._asks[ask.key]
        (index, row), *others = ask.rows
        self._hand(index, row, answer)
        for index, row in others:
            self._tell(index, row, answer)

    def _tell(self, index: int, row: Any, answer: Classification) -> None:
        """Hand out an answer that nothing was asked for; who watches sees a run without one of the LLM."""
        if not self._is_watched:
            self._hand(index, row, answer)
            return

        async def known(*_: Any) -> Classification:
            return answer

        async def trace() -> None:
            # A row without a text is a run that fails.
            with suppress(PromptError):
                await self._trace(index, row, RowAnswering(self._answering.render, known))
            self._hand(index, row, answer)

        self._start(trace)

    def _hand(self, index: int, row: Any, answer: Classification) -> None:
        self._unlabelled.note((index,), answer)
        done = ClassifiedRow(index=index, row=row, **vars(answer))
        if self._in_order:
            self._early[index] = done
            next_index = self._handed_out + len(self._ready)
            while (early := self._early.pop(next_index, None)) is not None:
                self._ready.append(early)
                next_index += 1
        else:
            self._ready.append(done)
        self._news.set()
