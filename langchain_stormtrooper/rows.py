"""LangChain's faces of a Runnable that answers rows: invoke, batch, stream and their async twins.

One coroutine answers all rows of a call, concurrently and each apart from the others; the faces only start it (sync
ones through `bridge`), warn once per kind of missing label, and give each row its form. A subclass says how one row is
answered. `classifiers` is built on this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

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

    async def _arows(
        self,
        inputs: Sequence[RowInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        return_exceptions: bool,
        kwargs: dict[str, Any],
    ) -> list[Classification | Exception]:
        if kwargs:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(kwargs)} per call: give it when you create it."
            )
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs)) if isinstance(config, list) else [ensure_config(config)]
        render = await self._aprepare()
        fatal: ServerError | None = None

        async def guarded(answer: Callable[[], Any]) -> Any:
            """The row's answer, or its error where errors are to be returned."""
            nonlocal fatal
            try:
                if fatal is not None:
                    raise fatal
                return await answer()
            except Exception as error:
                if isinstance(error, ServerError):
                    fatal = error
                if not return_exceptions:
                    raise
                return error

        at_once = configs[0].get("max_concurrency") or self._concurrency
        if any(get_async_callback_manager_for_config(c).handlers for c in configs):
            per_row = configs if len(configs) == len(inputs) else get_config_list(config, len(inputs))
            rows = zip(inputs, per_row, strict=True)
            return await run_all(lambda row: guarded(lambda: self._atraced(*row, render)), rows, at_once)
        # Nobody watches single rows: equal prompts share one request.
        prompts = [_attempt(render, row) if return_exceptions else render(row) for row in inputs]
        different = list(dict.fromkeys(prompt for prompt in prompts if isinstance(prompt, Prompt)))
        answers = await run_all(lambda prompt: guarded(lambda: self._aanswer(prompt, None)), different, at_once)
        found = dict(zip(different, answers, strict=True))
        return [found[prompt] if isinstance(prompt, Prompt) else prompt for prompt in prompts]

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
        """The rows as the caller sees them, with one warning per kind of missing label."""
        for reason, (category, what) in _WARNINGS.items():
            concerned = [n for n, row in enumerate(rows) if isinstance(row, Classification) and row.reason is reason]
            if concerned and reason is Reason.FAILED:
                what = f"{what} ({_first_error(rows, concerned)})"
            warn_rows(category, concerned, len(rows), what)
        return [row if isinstance(row, Exception) else self._face(row) for row in rows]


def _attempt(render: Callable[[RowInput], Prompt], row: RowInput) -> Prompt | Exception:
    try:
        return render(row)
    except ConfigurationError as error:
        return error


def _first_error(rows: Sequence[Classification | Exception], concerned: Sequence[int]) -> str:
    row = rows[concerned[0]]
    return (row.error if isinstance(row, Classification) else None) or "for an unknown reason"
