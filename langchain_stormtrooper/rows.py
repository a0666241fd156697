"""LangChain's faces of a Runnable that answers rows: invoke, batch, stream and their async twins.

One coroutine answers all rows of a call, concurrently and each apart from the others; the faces only start it (sync
ones through `bridge`), warn once per kind of missing label, and give each row its form. A subclass says how one row is
answered. `classifiers` is built on this.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
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
from langchain_stormtrooper.tasks import for_all

RowInput: TypeAlias = str | dict[str, Any]
"""A text, or a dict that holds it under the classifier's `text_key`."""

OutputT = TypeVar("OutputT")

_WARNINGS: dict[Reason, tuple[type[StormtrooperWarning], str]] = {
    Reason.OVERLONG: (OverlongInputWarning, "got no label: the prompt is longer than the server accepts"),
    Reason.UNMATCHED: (UnmatchedLabelWarning, UNMATCHED),
    Reason.LOW_CONFIDENCE: (LowConfidenceWarning, "got no label: the model was not sure enough"),
    Reason.FAILED: (FailedRequestWarning, "got no label: the request failed"),
}


class RowAnswering(NamedTuple):
    """What answers rows once everything that holds for all of them is settled.

    Attributes:
        render: Makes a row's prompt; raises `PromptError` for an input that has no text.
        answer: Answers one prompt; raises only what the caller asked to be raised, and `ServerError`.
    """

    render: Callable[[RowInput], Prompt]
    answer: Callable[[Prompt, Callbacks], Awaitable[Classification]]


class _Missing:
    """The rows of a call that got no label.

    All that is kept of an answer is what the caller sees and this: a batch may have a million rows.

    Attributes:
        rows: Indices by reason, as they came.
        errors: What went wrong, by index, for failed rows.
    """

    def __init__(self) -> None:
        self.rows: dict[Reason, list[int]] = {}
        self.errors: dict[int, str | None] = {}

    def add(self, indices: Sequence[int], reason: Reason, error: str | None) -> None:
        """Note rows without a label."""
        self.rows.setdefault(reason, []).extend(indices)
        if reason is Reason.FAILED:
            self.errors.update(dict.fromkeys(indices, error))

    def warn(self, total: int) -> None:
        """Warn once per kind of missing label."""
        for reason, (category, what) in _WARNINGS.items():
            concerned = sorted(self.rows.get(reason, ()))
            if concerned and reason is Reason.FAILED:
                what = f"{what} ({self.errors[concerned[0]] or 'for an unknown reason'})"
            warn_rows(category, concerned, total, what)


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
        return cast("OutputT", _warned(await self._arows([input], config, False, kwargs))[0])

    @override
    def invoke(self, input: RowInput, config: RunnableConfig | None = None, **kwargs: Any) -> OutputT:
        """Classify one text."""
        return cast("OutputT", _warned(bridge.run(self._arows, [input], config, False, kwargs))[0])

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
        return _warned(await self._arows(inputs, config, return_exceptions, kwargs))

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
        return _warned(bridge.run(self._arows, inputs, config, return_exceptions, kwargs))

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
        missing = _Missing()
        async for row in self._acompleted(inputs, config, return_exceptions, kwargs, missing):
            yield row
        missing.warn(len(inputs))

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
        missing = _Missing()
        yield from bridge.iterate(self._acompleted(inputs, config, return_exceptions, kwargs, missing))
        missing.warn(len(inputs))

    async def _acompleted(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        return_exceptions: bool,
        kwargs: dict[str, Any],
        missing: _Missing,
    ) -> AsyncGenerator[tuple[int, OutputT | Exception], None]:
        finished: asyncio.Queue[tuple[int, OutputT | Exception] | None] = asyncio.Queue()
        task = asyncio.create_task(self._arows(inputs, config, return_exceptions, kwargs, missing, finished.put_nowait))
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
        missing: _Missing | None = None,
        report: Callable[[tuple[int, OutputT | Exception]], None] | None = None,
    ) -> tuple[list[OutputT | Exception], _Missing]:
        """All rows as the caller sees them, and those without a label; each is reported as soon as it is there."""
        missing = _Missing() if missing is None else missing
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(kwargs)} per call: give it when you create it."
            )
        if not inputs:
            return [], missing
        several = config is not None and not isinstance(config, dict)
        configs = get_config_list(config, len(inputs)) if several else [ensure_config(cast("RunnableConfig", config))]
        answering = await self._aprepare()
        rows = cast("list[OutputT | Exception]", [None] * len(inputs))
        fatal: ServerError | None = None

        def note(indices: Sequence[int], row: OutputT | Exception) -> None:
            for index in indices:
                rows[index] = row
                if report is not None:
                    report((index, row))

        async def work(indices: Sequence[int], answer: Awaitable[Classification]) -> None:
            nonlocal fatal
            try:
                classification = await answer
            except Exception as error:
                if isinstance(error, ServerError):
                    fatal = error
                if not return_exceptions:
                    raise
                note(indices, error)
                return
            if classification.reason is not None:
                missing.add(indices, classification.reason, classification.error)
            note(indices, self._face(classification))

        async def fail(error: ServerError) -> Classification:
            raise error

        is_watched = any(get_async_callback_manager_for_config(c).handlers for c in configs)
        at_once = configs[0].get("max_concurrency") or self._concurrency
        # What is wrong for every row is not asked again for the rest of them.
        if is_watched:
            per_row = configs if len(configs) == len(inputs) else get_config_list(config, len(inputs))

            async def traced(item: tuple[int, tuple[RowInput, RunnableConfig]]) -> None:
                index, (row, row_config) = item
                await work((index,), fail(fatal) if fatal else self._atraced(row, row_config, answering))

            await for_all(traced, enumerate(zip(inputs, per_row, strict=True)), at_once)
        else:
            # Nobody watches single rows: equal prompts share one request.
            prompts, repeats = _group(inputs, answering.render, note if return_exceptions else None)

            async def plain(item: tuple[Prompt, int]) -> None:
                prompt, index = item
                indices = (index, *repeats.get(index, ()))
                await work(indices, fail(fatal) if fatal else answering.answer(prompt, None))

            await for_all(plain, prompts.items(), at_once)
        return rows, missing

    async def _atraced(self, row: RowInput, config: RunnableConfig, answering: RowAnswering) -> Classification:
        """One row as a LangChain run of its own, with the LLM's run as its child."""
        answer: Classification | None = None

        async def call(input_: RowInput, run_manager: AsyncCallbackManagerForChainRun) -> OutputT:
            nonlocal answer
            answer = await answering.answer(answering.render(input_), run_manager.get_child())
            return self._face(answer)

        await self._acall_with_config(call, row, config)
        assert answer is not None  # noqa: S101  # else the call has raised
        return answer


def _warned(result: tuple[list[Any], _Missing]) -> list[Any]:
    """The rows as the caller sees them, after the warnings."""
    rows, missing = result
    missing.warn(len(rows))
    return rows


def _group(
    inputs: Sequence[RowInput],
    render: Callable[[RowInput], Prompt],
    note: Callable[[Sequence[int], Exception], None] | None,
) -> tuple[dict[Prompt, int], dict[int, list[int]]]:
    """Different prompts with the first row that has each, and by that row the others that have the same.

    Inputs without a text are noted, or raised.
    """
    first: dict[Prompt, int] = {}
    repeats: dict[int, list[int]] = {}
    for index, row in enumerate(inputs):
        try:
            earlier = first.setdefault(render(row), index)
        except ConfigurationError as error:
            if note is None:
                raise
            note((index,), error)
        else:
            if earlier != index:
                repeats.setdefault(earlier, []).append(index)
    return first, repeats
