"""`RowClassifier`: what everything that gives a row a label shares, whatever answers its rows.

Streams, details, the agent's tool, the type of what comes out. A subclass says how rows are answered, and what tells
its task from others. `text_classifier` has one prompt, `hierarchy` one for each node of a tree, `cascade` two stages.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification
from langchain_stormtrooper.rows import RowInput
from langchain_stormtrooper.settable import Settable

Keys: TypeAlias = tuple[str, Callable[[Prompt], bytes]]
"""What tells a task from others, and what tells its rows from one another."""

if TYPE_CHECKING:
    from langchain_stormtrooper.detailed_classifier import DetailedClassifier
    from langchain_stormtrooper.runs import ClassifiedRow, Ledger
    from langchain_stormtrooper.tools import ClassifierTool


class RowClassifier(Settable[str | None]):
    """What classifiers of one prompt or a tree of them and a cascade share. Not for use by itself."""

    if TYPE_CHECKING:
        # Fields of some subclasses, and what others take from a part of theirs.
        @property
        def labels(self) -> LabelSet:
            """The labels."""

        @property
        def text_key(self) -> str:
            """The key that holds the text in dict inputs."""

        @property
        def text_kind(self) -> str:
            """What the texts are."""

        @property
        def label_kind(self) -> str:
            """What the labels are."""

    @property
    def _option(self) -> str | None:
        """The name of the option that none of the labels fits; None where there is none."""
        return None

    @abstractmethod
    async def _akeys(self) -> Keys | None:
        """What tells the task and its rows from others, for a ledger; None where a part cannot be told from another.

        Raises:
            ServerError: The server cannot be asked for its model.
        """

    async def _atells_confidence(self) -> bool:
        """Whether answers may have a confidence.

        Raises:
            ServerError: The server cannot be asked for what it depends on.
        """
        return True

    async def astream_rows(
        self,
        rows: Iterable[RowInput] | AsyncIterable[RowInput],
        config: RunnableConfig | None = None,
        *,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        in_order: bool = False,
        window: int | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ClassifiedRow, None]:
        """Classify any number of rows, read as there is room, and yield each as soon as it is answered.

        Memory does not grow with the rows. Rows fail apart as in `abatch`, and warnings come at the end. Where the
        source raises, all rows before it are handed out first. See `cookbook/long_runs.md`.

        Args:
            rows: Texts, or dicts that hold them: a list, a generator (read in a thread of its own), an async one. A
                generator is closed when the stream ends early.
            config: As in LangChain; `max_concurrency` is how many rows are asked for at once.
            ledger: A `Ledger`, or the path of one, that keeps every answer before it is yielded: rows in it are not
                asked again. With one, equal rows are asked once; without, once within the last 10,000 different ones.
            in_order: Whether rows come in the order of the source.
            window: Rows that are read and not yet handed out at most; by default four for each asked for at once, or 16
                with a ledger, whose disk may be slow.
            **kwargs: Settings for this call, such as `text_key`; see `bind`.

        Raises:
            ServerError: Something is wrong for every row.
            PromptError: None of the first rows, as many as the window has, holds a text.
            LedgerError: The ledger cannot be used; what it has is safe.
        """
        from langchain_stormtrooper.runs.stream import RowStream

        stream = RowStream(self._per_call(kwargs), rows, config, ledger=ledger, in_order=in_order, window=window)
        async with aclosing(stream.answers()) as answers:
            async for row in answers:
                yield row
        stream.warn()

    def stream_rows(
        self,
        rows: Iterable[RowInput] | AsyncIterable[RowInput],
        config: RunnableConfig | None = None,
        *,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        in_order: bool = False,
        window: int | None = None,
        **kwargs: Any,
    ) -> Iterator[ClassifiedRow]:
        """Like `astream_rows`."""
        from langchain_stormtrooper.runs.stream import RowStream

        stream = RowStream(self._per_call(kwargs), rows, config, ledger=ledger, in_order=in_order, window=window)
        yield from bridge.iterate(stream.answers())
        stream.warn()

    def with_details(self) -> DetailedClassifier:
        """This classifier, returning a `Classification` per row instead of a label or None."""
        from langchain_stormtrooper.detailed_classifier import DetailedClassifier

        return DetailedClassifier(classifier=self)

    @override
    def as_tool(
        self,
        args_schema: type[BaseModel] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        arg_types: Mapping[str, type] | None = None,
        many: bool = False,
    ) -> ClassifierTool:
        """This classifier as a tool for agents: see `ClassifierTool`, which takes the same and more.

        Args:
            args_schema: As in `ClassifierTool`.
            name: As in `ClassifierTool`.
            description: As in `ClassifierTool`.
            arg_types: The names and types of the arguments, in the place of `args_schema`.
            many: Whether the tool takes a list of texts.
        """
        from langchain_stormtrooper.tools import as_tool

        return as_tool(self, args_schema, name=name, description=description, arg_types=arg_types, many=many)

    @property
    @override
    def OutputType(self) -> Any:
        """`Literal[labels] | None`."""
        return self.labels.answer_type

    @override
    def _face(self, classification: Classification) -> str | None:
        return classification.label
