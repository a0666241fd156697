"""`RowRunnable`: a Runnable that answers rows, whose settings may come with a call.

One coroutine answers all rows of a call, concurrently and each apart from the others; LangChain's faces, which start
it, are `row_faces`'. A subclass says how one row is answered. `classifiers` is built on this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, Callbacks
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, get_async_callback_manager_for_config, get_config_list
from langchain_core.runnables.utils import AnyConfigurableField
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_stormtrooper.batches import places
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.row_calls import RowCall as RowCall
from langchain_stormtrooper.row_calls import RowInput as RowInput
from langchain_stormtrooper.row_faces import OutputT, RowFaces
from langchain_stormtrooper.tasks import Once, for_all
from langchain_stormtrooper.variants import Variants

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph

_PARTS = {"llm", "name"}
"""What a call cannot exchange."""


class RowAnswering(NamedTuple):
    """What answers rows once everything that holds for all of them is settled.

    Attributes:
        render: Makes a row's prompt; raises `PromptError` for an input that has no text.
        answer: Answers one prompt; raises only what the caller asked to be raised, and `ServerError`.
        announce: Is told what prompts will be asked, in their order, before they are; reads them as it needs them.
        spread: Is told how many requests one row may make at once, before the first; for rows that need several.
    """

    render: Callable[[RowInput], Prompt]
    # What kind of answer, each subclass knows, and its `_face` reads no other.
    answer: Callable[[Prompt, Callbacks], Awaitable[Any]]
    announce: Callable[[Iterable[Prompt]], None] = lambda _: None
    spread: Callable[[int], None] = lambda _: None


class RowRunnable(RowFaces[OutputT], Generic[OutputT]):
    """A Runnable from a text to an answer, whose batches keep the row contract; calls may change its settings."""

    _open_output_type: ClassVar[Any] = str | None
    """What comes out where the labels are not known yet."""

    _variants: Variants[Self] = PrivateAttr(default_factory=Variants)

    @abstractmethod
    async def _aprepare(self) -> RowAnswering:
        """Get ready for any number of rows; what is wrong for all of them is raised here."""

    @property
    @abstractmethod
    def _concurrency(self) -> int:
        """Rows worked on at once where the caller does not say."""

    @property
    @abstractmethod
    def _settable(self) -> RunnableSerializable[RowInput, Any]:
        """What has the settings that a call may change as its fields."""

    @abstractmethod
    def _varied(self, settings: dict[str, Any]) -> Self:
        """A copy with other settings, which are checked."""

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._variants = Variants()
        return copied

    def _under(self, settings: Mapping[str, Any]) -> Self:
        """This classifier with other settings: the same object for the same settings, so that it learns once.

        Raises:
            ConfigurationError: The settings do not go together.
        """
        settable: Any = self._settable
        return self._variants.get(self, settable, settable._read(settings), self._varied)

    def _read(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings, with those that can be written in several ways in the one that is kept."""
        return settings

    def _per_call(self, settings: Mapping[str, Any]) -> Self:
        """Like `_under`, for settings that came with a call.

        Raises:
            ConfigurationError: They are none, or are parts that a call cannot exchange.
        """
        unknown = [name for name in settings if name not in type(self._settable).model_fields or name in _PARTS]
        if unknown:
            raise ConfigurationError(
                f"{type(self).__name__} takes no {sorted(unknown)} per call: give it when you create it."
            )
        return self._under(settings)

    def __eq__(self, other: object) -> bool:
        """Whether class and settings are the same, whatever was learnt from a server."""
        if not isinstance(other, RowRunnable):
            return NotImplemented
        return type(self) is type(other) and dict(self) == dict(other)

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        """Yes: LangChain's `dumps`, and `langchain_stormtrooper.load`."""
        return True

    @override
    def bind(self, **kwargs: Any) -> Runnable[RowInput, OutputT]:
        """This classifier with other settings, such as `labels` or `min_confidence`.

        Args:
            **kwargs: The settings, as when it is created; all but `llm`.

        Raises:
            ConfigurationError: One is no setting, or they do not go together.
        """
        return self._per_call(kwargs)

    @override
    def configurable_fields(self, **kwargs: AnyConfigurableField) -> RunnableSerializable[RowInput, OutputT]:
        """As in LangChain: settings that `config["configurable"]` may change from call to call.

        Copies for other settings are kept, with what they have learnt from the server.

        Args:
            **kwargs: The settings, such as `labels=ConfigurableField("labels")`.

        Raises:
            ConfigurationError: One is no setting.
        """
        from langchain_stormtrooper.configuring import ConfigurableSettings

        unknown = sorted(kwargs.keys() - type(self._settable).model_fields.keys())
        if unknown:
            raise ConfigurationError(f"{type(self).__name__} has no settings {unknown} to be configured.")
        return ConfigurableSettings[Any](default=self, fields=kwargs)

    @abstractmethod
    @override
    def get_graph(self, config: RunnableConfig | None = None) -> Graph: ...

    @override
    async def _arows(
        self,
        call: RowCall[OutputT],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> RowCall[OutputT]:
        if kwargs:
            # Of the same class, so that the call's face is right.
            return await self._per_call(kwargs)._arows(call, config, {})
        total = len(call.inputs)
        if not total:
            return call
        several = config is not None and not isinstance(config, dict)
        configs = get_config_list(config, total) if several else [ensure_config(cast("RunnableConfig", config))]
        room = places(configs[0]) or self._concurrency
        at_once = min(room, total)
        is_watched = any(get_async_callback_manager_for_config(c).handlers for c in configs)
        try:
            answering = await self._aprepare()
            call.check(answering.render)
            answering.spread(room // at_once)
        except Exception as error:
            if is_watched:
                await self._areport(call.inputs[0], configs[0], error)
            if not call.returns(error):
                raise
            return call
        if is_watched:
            per_row = configs if len(configs) == total else get_config_list(config, total)
            # Each row is a run of its own; of equal prompts, only the first has a run of the LLM below it.
            shared: dict[Prompt, Once[Any]] = {}
            answering.announce(call.prompts(answering.render))

            async def traced(item: tuple[int, RowInput, RunnableConfig]) -> None:
                index, row, row_config = item
                await call.take((index,), lambda: self._atraced(row, row_config, answering, shared))

            await for_all(traced, zip(range(total), call.inputs, per_row, strict=True), at_once, staggered=True)
        else:
            # Nobody watches single rows: equal prompts share one request.
            first, repeats = call.group(answering.render)
            answering.announce(first)

            def plain(item: tuple[Prompt, int]) -> Awaitable[None]:
                prompt, index = item
                return call.take((index, *repeats.get(index, ())), partial(answering.answer, prompt, None))

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
        shared: dict[Prompt, Once[Any]],
    ) -> Any:
        """One row as a LangChain run of its own, with the LLM's run as its child."""
        answer: Any = None

        async def call(input_: RowInput, run_manager: AsyncCallbackManagerForChainRun) -> OutputT:
            nonlocal answer
            prompt = answering.render(input_)
            once = shared.setdefault(prompt, Once())
            answer = await once.get(lambda: answering.answer(prompt, run_manager.get_child()))
            return self._face(answer)

        await self._acall_with_config(call, row, config)
        assert answer is not None  # noqa: S101  # else the call has raised
        return answer
