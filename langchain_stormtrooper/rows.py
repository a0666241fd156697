"""LangChain's faces of a Runnable that answers rows: invoke, batch, stream and their async twins.

One coroutine answers all rows of a call, concurrently and each apart from the others; the faces only start it (sync
ones through `bridge`), warn once per kind of missing label, and give each row its form. A subclass says how one row is
answered. `classifiers` is built on this.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, Callbacks
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, get_async_callback_manager_for_config, get_config_list
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    LowConfidenceWarning,
    OverlongInputWarning,
    ServerError,
    StormtrooperWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.parsers import UNMATCHED
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.tasks import run_all

RowInput: TypeAlias = str | dict[str, Any]
"""A text, or a dict that holds it under the classifier's `text_key`."""

OutputT = TypeVar("OutputT")

_WARNINGS: dict[Reason, tuple[type[StormtrooperWarning], str]] = {
    Reason.OVERLONG: (OverlongInputWarning, "got no label: the prompt is longer than the server accepts"),
    Reason.UNMATCHED: (UnmatchedLabelWarning, UNMATCHED),
    Reason.LOW_CONFIDENCE: (LowConfidenceWarning, "got no label: the model was not sure enough"),
    Reason.FAILED: (FailedRequestWarning, "got no label: the request failed"),
}


class _Item(NamedTuple):
    """Rows that are answered together, and what answers them."""

    indices: Sequence[int]
    answer: Callable[[], Awaitable[Classification]]


class RowRunnable(RunnableSerializable[RowInput, OutputT], Generic[OutputT]):
    """A Runnable from a text to an answer, whose batches keep the row contract."""

    @abstractmethod
    async def _aprepare(self) -> Callable[[RowInput], Prompt]:
        """Get ready for any number of rows; what is wrong for all of them is raised here.

        Returns:
            What makes a row's prompt, and raises `PromptError` for an input that has no text.
        """

    @abstractmethod
    async def _aanswer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        """Answer one row; raises only what the caller asked to be raised, and `ServerError`."""

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
        return cast("OutputT", self._finish(await self._arows([input], config, False, kwargs))[0])

    @override
    def invoke(self, input: RowInput, config: RunnableConfig | None = None, **kwargs: Any) -> OutputT:
        """Classify one text."""
        return cast("OutputT", self._finish(bridge.run(self._arows, [input], config, False, kwargs))[0])

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
        return self._finish(await self._arows(inputs, config, return_exceptions, kwargs))

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
        return self._finish(bridge.run(self._arows, inputs, config, return_exceptions, kwargs))

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
        rows: dict[int, Classification | Exception] = {}
        async for index, row in self._acompleted(inputs, config, return_exceptions, kwargs):
            rows[index] = row
            yield index, self._form(row)
        self._warn([rows[index] for index in sorted(rows)])

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
        rows: dict[int, Classification | Exception] = {}
        for index, row in bridge.iterate(self._acompleted(inputs, config, return_exceptions, kwargs)):
            rows[index] = row
            yield index, self._form(row)
        self._warn([rows[index] for index in sorted(rows)])

    async def _acompleted(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        return_exceptions: bool,
        kwargs: dict[str, Any],
    ) -> AsyncGenerator[tuple[int, Classification | Exception], None]:
        finished: asyncio.Queue[tuple[int, Classification | Exception] | None] = asyncio.Queue()
        task = asyncio.create_task(self._arows(inputs, config, return_exceptions, kwargs, finished.put_nowait))
        task.add_done_callback(lambda _: finished.put_nowait(None))
        try:
            while (row := await finished.get()) is not None:
                yield row
            await task
        finally:
            task.cancel()

    async def _arows(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        return_exceptions: bool,
        kwargs: dict[str, Any],
        report: Callable[[tuple[int, Classification | Exception]], None] | None = None,
    ) -> list[Classification | Exception]:
        """All rows; each is reported as soon as it is there."""
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(kwargs)} per call: give it when you create it."
            )
        if not inputs:
            return []
        several = config is not None and not isinstance(config, dict)
        configs = get_config_list(config, len(inputs)) if several else [ensure_config(cast("RunnableConfig", config))]
        render = await self._aprepare()
        rows: dict[int, Classification | Exception] = {}
        fatal: ServerError | None = None

        def note(indices: Sequence[int], row: Classification | Exception) -> None:
            for index in indices:
                rows[index] = row
                if report is not None:
                    report((index, row))

        async def work(item: _Item) -> None:
            nonlocal fatal
            try:
                # What is wrong for every row is not asked again for the rest of them.
                if fatal is not None:
                    raise fatal
                note(item.indices, await item.answer())
            except Exception as error:
                if isinstance(error, ServerError):
                    fatal = error
                if not return_exceptions:
                    raise
                note(item.indices, error)

        is_watched = any(get_async_callback_manager_for_config(c).handlers for c in configs)
        if is_watched:
            per_row = configs if len(configs) == len(inputs) else get_config_list(config, len(inputs))
            items = [
                _Item((index,), partial(self._atraced, row, row_config, render))
                for index, (row, row_config) in enumerate(zip(inputs, per_row, strict=True))
            ]
        else:
            # Nobody watches single rows: equal prompts share one request.
            prompts = _group(inputs, render, note if return_exceptions else None)
            items = [_Item(indices, partial(self._aanswer, prompt, None)) for prompt, indices in prompts.items()]
        await run_all(work, items, configs[0].get("max_concurrency") or self._concurrency)
        return [rows[index] for index in range(len(inputs))]

    async def _atraced(
        self, row: RowInput, config: RunnableConfig, render: Callable[[RowInput], Prompt]
    ) -> Classification:
        """One row as a LangChain run of its own, with the LLM's run as its child."""
        answer: Classification | None = None

        async def call(input_: RowInput, run_manager: AsyncCallbackManagerForChainRun) -> OutputT:
            nonlocal answer
            answer = await self._aanswer(render(input_), run_manager.get_child())
            return self._face(answer)

        await self._acall_with_config(call, row, config)
        assert answer is not None  # noqa: S101  # else the call has raised
        return answer

    def _finish(self, rows: Sequence[Classification | Exception]) -> list[Any]:
        """The rows as the caller sees them, after the warnings."""
        self._warn(rows)
        return [self._form(row) for row in rows]

    def _form(self, row: Classification | Exception) -> OutputT | Exception:
        return row if isinstance(row, Exception) else self._face(row)

    def _warn(self, rows: Sequence[Classification | Exception]) -> None:
        """Warn once per kind of missing label."""
        for reason, (category, what) in _WARNINGS.items():
            concerned = [n for n, row in enumerate(rows) if isinstance(row, Classification) and row.reason is reason]
            if concerned and reason is Reason.FAILED:
                what = f"{what} ({_first_error(rows, concerned)})"
            warn_rows(category, concerned, len(rows), what)


def _group(
    inputs: Sequence[RowInput],
    render: Callable[[RowInput], Prompt],
    note: Callable[[Sequence[int], Exception], None] | None,
) -> dict[Prompt, list[int]]:
    """Different prompts and the rows that have them; inputs without a text are noted, or raised."""
    indices_of: dict[Prompt, list[int]] = {}
    for index, row in enumerate(inputs):
        try:
            indices_of.setdefault(render(row), []).append(index)
        except ConfigurationError as error:
            if note is None:
                raise
            note((index,), error)
    return indices_of


def _first_error(rows: Sequence[Classification | Exception], concerned: Sequence[int]) -> str:
    row = rows[concerned[0]]
    return (row.error if isinstance(row, Classification) else None) or "for an unknown reason"
