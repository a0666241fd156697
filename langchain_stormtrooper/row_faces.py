"""LangChain's faces of a Runnable that answers rows: invoke, batch, stream and their async twins.

They only start the coroutine that answers all rows of a call (sync ones through `bridge`), warn once per kind of
missing label, and give each row its form. `rows` and `configuring` have what stands behind them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.utils import ConfigurableField
from langchain_core.utils.pydantic import TypeBaseModel
from pydantic import ConfigDict, RootModel
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.row_calls import RowCall, RowInput

OutputT = TypeVar("OutputT")


class RowFaces(RunnableSerializable[RowInput, OutputT], Generic[OutputT]):
    """LangChain's faces over one coroutine for all rows of a call. Not for use by itself."""

    @abstractmethod
    def _face(self, classification: Any) -> OutputT:
        """What the caller sees of an answer."""

    @abstractmethod
    async def _arows(
        self,
        call: RowCall[OutputT],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> RowCall[OutputT]:
        """Answer all rows of a call."""

    @property
    @override
    def InputType(self) -> Any:
        """A text, or a dict that holds it."""
        return RowInput

    @override
    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The schema of what comes out.

        Classifiers of other labels have schemas of other names (the title is the same): LangServe, which keeps one for
        each name, would make another's of them, and refuse every answer.
        """
        schema = super().get_output_schema(config)
        if not issubclass(schema, RootModel):
            return schema
        shown = json.dumps(schema.model_json_schema(), sort_keys=True)
        named = f"{schema.__name__}_{hashlib.sha256(shown.encode()).hexdigest()[:8]}"
        root: Any = RootModel[self.OutputType]  # type: ignore[name-defined]  # known at run time only
        return type(named, (root,), {"model_config": ConfigDict(title=schema.__name__), "__module__": __name__})

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
            **kwargs: Settings for this call, such as `labels` or `min_confidence`; see `bind`.

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

    @override
    def configurable_alternatives(
        self,
        which: ConfigurableField,
        *,
        default_key: str = "default",
        prefix_keys: bool = False,
        **kwargs: Runnable[RowInput, OutputT] | Callable[[], Runnable[RowInput, OutputT]],
    ) -> RunnableSerializable[RowInput, OutputT]:
        """As in LangChain; batches of classifiers stay batches.

        Args:
            which: Names the choice in `config["configurable"]`.
            default_key: What this classifier is called there.
            prefix_keys: As in LangChain.
            **kwargs: The others, by name.
        """
        from langchain_stormtrooper.configuring import ConfigurableAlternatives

        if not all(isinstance(other, RowFaces) for other in kwargs.values()):
            # Of others nothing is known: as LangChain does it, row by row.
            return super().configurable_alternatives(which, default_key=default_key, prefix_keys=prefix_keys, **kwargs)
        return ConfigurableAlternatives[Any](
            which=which, default=self, alternatives=kwargs, default_key=default_key, prefix_keys=prefix_keys
        )
