"""LangChain's faces of a Runnable that answers rows: invoke, batch, stream and their async twins.

One coroutine answers all rows of a call, concurrently and each apart from the others; the faces only start it (sync
ones through `bridge`), warn once per kind of missing label, and give each row its form. A subclass says how one row is
answered. `classifiers` is built on this.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, Callbacks
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, get_async_callback_manager_for_config, get_config_list
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.batches import Isolation, as_rows, places, with_causes
from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    LowConfidenceWarning,
    OverlongInputWarning,
    PromptError,
    StormtrooperWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.parsers import UNMATCHED
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.tasks import Once, for_all

RowInput: TypeAlias = str | dict[str, Any]
"""A text, or a dict that holds it under the classifier's `text_key`."""

OutputT = TypeVar("OutputT")

_WARNINGS: dict[Reason, tuple[type[StormtrooperWarning], str]] = {
    Reason.OVERLONG: (OverlongInputWarning, "got no label: the prompt is longer than the model accepts"),
    Reason.UNMATCHED: (UnmatchedLabelWarning, UNMATCHED),
    Reason.LOW_CONFIDENCE: (LowConfidenceWarning, "got no label: the model was not sure enough"),
    Reason.FAILED: (FailedRequestWarning, "got no label: no answer could be had"),
}


class RowAnswering(NamedTuple):
    """What answers rows once everything that holds for all of them is settled.

    Attributes:
        render: Makes a row's prompt; raises `PromptError` for an input that has no text.
        answer: Answers one prompt; raises only what the caller asked to be raised, and `ServerError`.
    """

    render: Callable[[RowInput], Prompt]
    answer: Callable[[Prompt, Callbacks], Awaitable[Classification]]


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
        self, inputs: Sequence[RowInput], face: Callable[[Classification], OutputT], return_exceptions: bool = False
    ) -> None:
        self.inputs = as_rows(inputs)
        self.rows: list[OutputT | Exception | None] = [None] * len(self.inputs)
        self.report: Callable[[tuple[int, OutputT | Exception]], None] | None = None
        self._face = face
        self._isolation = Isolation(return_exceptions)
        self._missing: dict[Reason, list[int]] = {}
        self._causes: dict[Reason, Counter[str]] = {}

    def _note(self, indices: Sequence[int], row: OutputT | Exception) -> None:
        for index in indices:
            self.rows[index] = row
            if self.report is not None:
                self.report((index, row))

    def _note_answer(self, indices: Sequence[int], classification: Classification) -> None:
        if (reason := classification.reason) is not None:
            self._missing.setdefault(reason, []).extend(indices)
            # Why a text is too long differs from row to row: it is in the details.
            if classification.error is not None and reason is not Reason.OVERLONG:
                self._causes.setdefault(reason, Counter())[classification.error] += len(indices)
        self._note(indices, self._face(classification))

    async def take(self, indices: Sequence[int], answer: Callable[[], Awaitable[Classification]]) -> None:
        """Get an answer and take it down for some rows."""
        try:
            self._isolation.begin()
            classification = await answer()
        except Exception as error:
            if not self._isolate(indices, error):
                raise
            return
        self._isolation.answered()
        self._note_answer(indices, classification)

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
        for reason, (category, what) in _WARNINGS.items():
            concerned = sorted(self._missing.get(reason, ()))
            warn_rows(category, concerned, len(self.rows), with_causes(what, self._causes.get(reason, Counter())))

    def finish(self) -> list[Any]:
        """The rows, after the warnings."""
        self.warn()
        return self.rows


class RowRunnable(RunnableSerializable[RowInput, OutputT], Generic[OutputT]):
    """A Runnable from a text to an answer, whose batches keep the row contract."""

    @abstractmethod
    async def _aprepare(self) -> RowAnswering:
        """Get ready for any number of rows; what is wrong for all of them is raised here."""

    @abstractmethod
    def _face(self, classification: Classification) -> OutputT:
        """What the caller sees of an answer."""

    @property
    @abstractmethod
    def _concurrency(self) -> int:
        """Rows worked on at once where the caller does not say."""

    @property
    @override
    def InputType(self) -> Any:
        """A text, or a dict that holds it."""
        return RowInput

    @override
    async def ainvoke(self, input: RowInput, config: RunnableConfig | None = None, **kwargs: Any) -> OutputT:
        """Classify one text."""
        return cast("OutputT", (await self._arows(RowCall([input], self._face), config, kwargs)).finish()[0])

    @override
    def invoke(self, input: RowInput, config: RunnableConfig | None = None, **kwargs: Any) -> OutputT:
        """Classify one text."""
        return cast("OutputT", bridge.run(self._arows, RowCall([input], self._face), config, kwargs).finish()[0])

    @override
    async def abatch(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[OutputT]:
        """Classify texts concurrently.

        Args:
            inputs: The texts, or dicts that hold them.
            config: As in LangChain; `max_concurrency` bounds the rows worked on at once.
            return_exceptions: Whether what would be raised is returned in the place of its row.
            **kwargs: None are understood.

        Returns:
            One answer per input, in the same order.

        Raises:
            ServerError: Something is wrong for every row.
            PromptError: An input holds no text.
        """
        return (await self._arows(RowCall(inputs, self._face, return_exceptions), config, kwargs)).finish()

    @override
    def batch(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[OutputT]:
        """Like `abatch`."""
        return bridge.run(self._arows, RowCall(inputs, self._face, return_exceptions), config, kwargs).finish()

    @override
    async def abatch_as_completed(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[tuple[int, Any]]:
        """Like `abatch`, yielding each row's index and answer as soon as it is there; warnings come at the end."""
        call = RowCall(inputs, self._face, return_exceptions)
        async for row in self._acompleted(call, config, kwargs):
            yield row
        call.warn()

    @override
    def batch_as_completed(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        """Like `abatch_as_completed`."""
        call = RowCall(inputs, self._face, return_exceptions)
        yield from bridge.iterate(self._acompleted(call, config, kwargs))
        call.warn()

    async def _acompleted(
        self,
        call: RowCall[OutputT],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> AsyncGenerator[tuple[int, OutputT | Exception], None]:
        finished: asyncio.Queue[tuple[int, OutputT | Exception] | None] = asyncio.Queue()
        call.report = finished.put_nowait
        task = asyncio.create_task(self._arows(call, config, kwargs))
        task.add_done_callback(lambda _: finished.put_nowait(None))
        try:
            while (row := await finished.get()) is not None:
                yield row
            await task
        finally:
            task.cancel()

    async def _arows(
        self,
        call: RowCall[OutputT],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> RowCall[OutputT]:
        """Answer all rows of a call."""
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(kwargs)} per call: give it when you create it."
            )
        total = len(call.inputs)
        if not total:
            return call
        several = config is not None and not isinstance(config, dict)
        configs = get_config_list(config, total) if several else [ensure_config(cast("RunnableConfig", config))]
        at_once = min(places(configs[0]) or self._concurrency, total)
        is_watched = any(get_async_callback_manager_for_config(c).handlers for c in configs)
        try:
            answering = await self._aprepare()
            call.check(answering.render)
        except Exception as error:
            if is_watched:
                await self._areport(call.inputs[0], configs[0], error)
            if not call.returns(error):
                raise
            return call
        if is_watched:
            per_row = configs if len(configs) == total else get_config_list(config, total)
            # Each row is a run of its own; of equal prompts, only the first has a run of the LLM below it.
            shared: dict[Prompt, Once[Classification]] = {}

            async def traced(item: tuple[int, RowInput, RunnableConfig]) -> None:
                index, row, row_config = item
                await call.take((index,), lambda: self._atraced(row, row_config, answering, shared))

            await for_all(traced, zip(range(total), call.inputs, per_row, strict=True), at_once, staggered=True)
        else:
            # Nobody watches single rows: equal prompts share one request.
            first, repeats = call.group(answering.render)

            async def plain(item: tuple[Prompt, int]) -> None:
                prompt, index = item
                await call.take((index, *repeats.get(index, ())), lambda: answering.answer(prompt, None))

            await for_all(plain, first.items(), min(at_once, len(first)), staggered=True)
        return call

    async def _areport(self, row: RowInput, config: RunnableConfig, error: Exception) -> None:
        """The run of a call that failed before its first row, for those who watch."""

        async def fail(_: RowInput) -> OutputT:
            raise error

        with suppress(type(error)):
            await self._acall_with_config(fail, row, config)

    async def _atraced(
        self,
        row: RowInput,
        config: RunnableConfig,
        answering: RowAnswering,
        shared: dict[Prompt, Once[Classification]],
    ) -> Classification:
        """One row as a LangChain run of its own, with the LLM's run as its child."""
        answer: Classification | None = None

        async def call(input_: RowInput, run_manager: AsyncCallbackManagerForChainRun) -> OutputT:
            nonlocal answer
            prompt = answering.render(input_)
            once = shared.setdefault(prompt, Once())
            answer = await once.get(lambda: answering.answer(prompt, run_manager.get_child()))
            return self._face(answer)

        await self._acall_with_config(call, row, config)
        assert answer is not None  # noqa: S101  # else the call has raised
        return answer
