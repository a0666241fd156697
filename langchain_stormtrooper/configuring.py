"""Classifiers whose settings `config["configurable"]` changes: LangChain's configurable Runnables, kept to batches.

LangChain answers the rows of a batch one by one as soon as a config says something. Here rows with the same settings
are one batch of one copy (see `variants`), and a call warns once, whatever its rows were set to. Made by
`configurable_fields` and `configurable_alternatives`, which `rows` has; nothing here answers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Union, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, get_config_list, merge_configs
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives, RunnableConfigurableFields
from langchain_core.runnables.utils import (
    ConfigurableField,
    ConfigurableFieldMultiOption,
    ConfigurableFieldSingleOption,
    ConfigurableFieldSpec,
)
from langchain_core.utils.pydantic import TypeBaseModel
from pydantic import SkipValidation
from typing_extensions import override

from langchain_stormtrooper.batches import places
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.row_calls import RowCall, RowInput
from langchain_stormtrooper.row_faces import OutputT, RowFaces
from langchain_stormtrooper.rows import RowRunnable
from langchain_stormtrooper.tasks import run_all


class _Configurable(RowFaces[OutputT], Generic[OutputT]):
    """What both kinds share: which rows go together. Comes before LangChain's class among the bases."""

    @override
    def _face(self, classification: Classification) -> Any:
        # Replaced by that of whoever answers.
        return classification

    def _prepared(self, config: RunnableConfig | None) -> tuple[RowRunnable[Any], RunnableConfig]:
        prepared = self.prepare(config)  # type: ignore[attr-defined]  # LangChain's class has it
        return cast("tuple[RowRunnable[Any], RunnableConfig]", prepared)

    @override
    async def _arows(
        self,
        call: RowCall[OutputT],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        kwargs: dict[str, Any],
    ) -> RowCall[OutputT]:
        total = len(call.inputs)
        if not total:
            return call
        if config is None or isinstance(config, dict):
            runnable, prepared = self._prepared(config)
            return await runnable._arows(call.seen_as(runnable._face), prepared, kwargs)
        configs = get_config_list(config, total)
        groups: dict[int, tuple[RowRunnable[Any], list[int], list[RunnableConfig]]] = {}
        for row, row_config in enumerate(configs):
            runnable, prepared = self._prepared(row_config)
            _, rows, row_configs = groups.setdefault(id(runnable), (runnable, [], []))
            rows.append(row)
            row_configs.append(prepared)
        at_once = places(configs[0])
        together = min(at_once or len(groups), len(groups))

        async def answer(group: tuple[RowRunnable[Any], list[int], list[RunnableConfig]]) -> None:
            runnable, rows, row_configs = group
            if at_once is not None:
                row_configs = [{**one, "max_concurrency": max(1, at_once // together)} for one in row_configs]
            part = call.part(rows, runnable._face)
            await runnable._arows(part, row_configs, kwargs)
            call.take_over(part, rows)

        await run_all(answer, groups.values(), together)
        return call

    def _open_output(self, config: RunnableConfig | None) -> Any:
        """The type of what comes out where the config does not settle it yet; None where it does."""
        raise NotImplementedError

    @property
    @override
    def OutputType(self) -> Any:
        """What comes out whatever a config may choose."""
        open_type = self._open_output(None)
        return self._prepared(None)[0].OutputType if open_type is None else open_type

    @override
    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The schema of what comes out: of the labels that the config chooses, or of any."""
        if self._open_output(config) is None:
            runnable, config = self._prepared(config)
            return runnable.get_output_schema(config)
        # Past LangChain's own, which shows what the default gives.
        return Runnable.get_output_schema(self, config)

    def _given(self, config: RunnableConfig | None) -> Mapping[str, Any]:
        own: RunnableConfig | None = self.config  # type: ignore[attr-defined]  # LangChain's class has it
        return merge_configs(own, config).get("configurable") or {}

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        """No: save the classifier itself."""
        return False


class ConfigurableSettings(_Configurable[OutputT], RunnableConfigurableFields[RowInput, OutputT], Generic[OutputT]):
    """A classifier with configurable settings; made by `configurable_fields`."""

    # Not looked at by pydantic, to which a Runnable with other type arguments is another class.
    default: SkipValidation[RunnableSerializable[RowInput, OutputT]]

    def with_details(self) -> ConfigurableSettings[Classification]:
        """This classifier, returning a `Classification` per row."""
        detailed: Any = self._row_runnable
        return ConfigurableSettings[Any](default=detailed.with_details(), fields=self.fields, config=self.config)

    @property
    def _row_runnable(self) -> RowRunnable[OutputT]:
        return cast("RowRunnable[OutputT]", self.default)

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        settable = self._row_runnable._settable
        if settable is not self.default:
            return ConfigurableSettings[Any](default=settable, fields=self.fields).config_specs
        return super().config_specs

    @override
    def _prepare(self, config: RunnableConfig | None = None) -> tuple[Runnable[RowInput, OutputT], RunnableConfig]:
        config = ensure_config(config)
        return self._row_runnable._under(self._settings(config.get("configurable") or {})), config

    def _settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a config chooses."""
        settings: dict[str, Any] = {}
        for name, field in self.fields.items():
            if isinstance(field, ConfigurableField):
                if field.id in given:
                    settings[name] = given[field.id]
            elif isinstance(field, ConfigurableFieldSingleOption):
                settings[name] = _option(field, given.get(field.id) or field.default)
            else:
                settings[name] = [_option(field, chosen) for chosen in given.get(field.id, field.default)]
        return settings

    @override
    def _open_output(self, config: RunnableConfig | None) -> Any:
        field = self.fields.get("labels")
        default: Any = self._row_runnable
        if field is None or default._settable is not default or field.id in self._given(config):
            return None
        return default._open_output_type


class ConfigurableAlternatives(
    _Configurable[OutputT], RunnableConfigurableAlternatives[RowInput, OutputT], Generic[OutputT]
):
    """Classifiers to choose from; made by `configurable_alternatives`."""

    default: SkipValidation[RunnableSerializable[RowInput, OutputT]]
    alternatives: SkipValidation[dict[str, Runnable[RowInput, OutputT] | Callable[[], Runnable[RowInput, OutputT]]]]

    @override
    def _prepare(self, config: RunnableConfig | None = None) -> tuple[Runnable[RowInput, OutputT], RunnableConfig]:
        config = ensure_config(config)
        chosen = (config.get("configurable") or {}).get(self.which.id, self.default_key)
        if chosen != self.default_key and chosen not in self.alternatives:
            names = sorted({self.default_key, *self.alternatives})
            raise ConfigurationError(f"There is no {self.which.id}={str(chosen)!r} to choose, only {names}.")
        return super()._prepare(config)

    @override
    def _open_output(self, config: RunnableConfig | None) -> Any:
        if self.which.id in self._given(config):
            return None
        several = [self.default, *self.alternatives.values()]
        return Union[tuple(cast("Runnable[Any, Any]", one).OutputType for one in several)]  # noqa: UP007


def _option(field: ConfigurableFieldSingleOption | ConfigurableFieldMultiOption, chosen: Any) -> Any:
    if chosen not in field.options:
        raise ConfigurationError(f"There is no {field.id}={str(chosen)!r} to choose, only {sorted(field.options)}.")
    return field.options[chosen]
