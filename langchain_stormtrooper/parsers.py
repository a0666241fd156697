"""`LabelOutputParser`: the LCEL face of the matcher, `prompt | llm | parser`.

It turns what a language model said into a label or None, and warns once per batch about what names no label. It
never calls a model, does no I/O and never shows a text in a message. Chains built by hand end with it; a classifier
shows it as its `.parser`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser
from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.errors import UnmatchedLabelWarning
from langchain_stormtrooper.labels import LabelSet, LabelSpec
from langchain_stormtrooper.matching import DEFAULT_MARGIN, DEFAULT_THRESHOLD, Match, Matcher
from langchain_stormtrooper.row_warnings import warn_rows
from langchain_stormtrooper.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.outputs import Generation
    from langchain_core.runnables import RunnableConfig

UNMATCHED = "got no label: what the model answered names none of the labels, or more than one"
"""What happened to rows without a match, for warnings."""


class LabelOutputParser(BaseOutputParser[str | None]):
    """Parses what a language model said into one of the labels, or None.

    Answers are matched exactly, then without regard to case, quotes and leads such as "Category:", then by the only
    label that they name, then by near spelling; see `matching`. What is undecided becomes None with an
    `UnmatchedLabelWarning`, once per batch.

    Args:
        labels: The labels: a list, a dict from name to description, an Enum class or a `Literal`.
        fuzzy_match: Whether nearly spelled labels count.
        threshold: Similarity from 0 to 1 that a nearly spelled label needs.
        margin: How much more similar than any other label it must be.

    Raises:
        LabelError: If the labels do not make a classification.
        ConfigurationError: If another argument is wrong.

    Examples:
        >>> from langchain_stormtrooper import LabelOutputParser
        >>> parser = LabelOutputParser(labels=["sport", "politics"])
        >>> parser.invoke("**Category:** Sport.")
        'sport'
    """

    model_config = ConfigDict(extra="forbid")

    labels: LabelSet
    fuzzy_match: bool = True
    threshold: float = Field(default=DEFAULT_THRESHOLD, gt=0.0, le=1.0)
    margin: float = Field(default=DEFAULT_MARGIN, ge=0.0, le=1.0)

    _matcher: Matcher | None = PrivateAttr(default=None)

    def __init__(self, labels: LabelSpec, **kwargs: Any) -> None:
        # Here, a LabelError reaches the user as it is; inside pydantic, it would be wrapped in a ValidationError.
        labels = LabelSet.of(labels)
        with checked("LabelOutputParser", type(self).model_fields):
            super().__init__(labels=labels, **kwargs)

    @property
    def matcher(self) -> Matcher:
        """The matcher for these labels and settings."""
        # What `self._matcher` gives; but that costs every row 4 µs in pydantic.
        private = self.__pydantic_private__ or {}
        matcher: Matcher | None = private.get("_matcher")
        # model_copy(update=…) and assignments change settings without a constructor.
        if (
            matcher is None
            or (matcher.names is not self.labels.names and matcher.names != self.labels.names)
            or (matcher.fuzzy, matcher.threshold, matcher.margin) != (self.fuzzy_match, self.threshold, self.margin)
        ):
            matcher = Matcher(self.labels.names, fuzzy=self.fuzzy_match, threshold=self.threshold, margin=self.margin)
            self._matcher = matcher
        return matcher

    def match(self, text: str) -> Match:
        """Find the label in a text, with the kind of match and without a warning.

        Args:
            text: What the model said.

        Returns:
            The label and how it was found, or None twice.
        """
        return self.matcher.match(text)

    @override
    def parse(self, text: str) -> str | None:
        """Find the label in a text.

        Args:
            text: What the model said.

        Returns:
            The label, spelled as given, or None.
        """
        label = self.match(text).label
        if label is None:
            _warn([text], [label])
        return label

    @override
    async def aparse(self, text: str) -> str | None:
        """Like `parse`; a thread would cost more than the match."""
        return self.parse(text)

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> str | None:
        """Find the label in the first generation.

        Args:
            result: Generations for one prompt, the best first.
            partial: Makes no difference.

        Returns:
            The label, spelled as given, or None.
        """
        return self.parse(result[0].text)

    @override
    async def aparse_result(self, result: list[Generation], *, partial: bool = False) -> str | None:
        """Like `parse_result`; a thread would cost more than the match."""
        return self.parse_result(result, partial=partial)

    @override
    def invoke(self, input: str | BaseMessage, config: RunnableConfig | None = None, **kwargs: Any) -> str | None:
        """Find the label in a text or a message.

        Args:
            input: What the model said.
            config: Callbacks, tags and the like.
            **kwargs: Make no difference.

        Returns:
            The label, spelled as given, or None.
        """
        # The base class makes a Generation of the text, in which an Unanswered becomes an ordinary empty text.
        label = self._call_with_config(self._label, input, config, run_type="parser")
        _warn([input], [label])
        return label

    @override
    async def ainvoke(
        self, input: str | BaseMessage, config: RunnableConfig | None = None, **kwargs: Any
    ) -> str | None:
        """Like `invoke`, without leaving the event loop."""
        label = await self._acall_with_config(self._alabel, input, config, run_type="parser")
        _warn([input], [label])
        return label

    @override
    def batch(
        self,
        inputs: list[str | BaseMessage],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str | None]:
        """Find the labels in texts or messages, and warn once for all that name none.

        Args:
            inputs: What the model said.
            config: Callbacks, tags and the like, for all or one for each.
            return_exceptions: Whether an input that is neither text nor message gives its exception in its place.
            **kwargs: Make no difference.

        Returns:
            The labels, in the same order.
        """
        labels = self._batch_with_config(
            self._labels, inputs, config, return_exceptions=return_exceptions, run_type="parser"
        )
        _warn(inputs, labels)
        return labels

    @override
    async def abatch(
        self,
        inputs: list[str | BaseMessage],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str | None]:
        """Like `batch`, without leaving the event loop."""
        labels = await self._abatch_with_config(
            self._alabels, inputs, config, return_exceptions=return_exceptions, run_type="parser"
        )
        _warn(inputs, labels)
        return labels

    @override
    def transform(
        self, input: Iterator[str | BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[str | None]:
        """Find the label in a streamed text: the one label comes when the text is complete.

        Args:
            input: The chunks of the text.
            config: Callbacks, tags and the like.
            **kwargs: Make no difference.

        Yields:
            The label, spelled as given, or None.
        """
        yield self.invoke(_join(list(input)), config)

    @override
    async def atransform(
        self, input: AsyncIterator[str | BaseMessage], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[str | None]:
        """Like `transform`, for asynchronous streams."""
        yield await self.ainvoke(_join([chunk async for chunk in input]), config)

    @override
    def get_format_instructions(self) -> str:
        """What to tell the model, so that its answer can be parsed."""
        lines = "\n".join(f"- {name}" for name in self.labels)
        return f"Answer with exactly one of these labels, spelled as here, and nothing else:\n{lines}"

    @property
    @override
    def OutputType(self) -> Any:
        """`Literal[labels] | None`."""
        return self.labels.answer_type

    @property
    @override
    def _type(self) -> str:
        return "label_output_parser"

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        """Yes: LangChain's `dumps` and `loads` work."""
        return True

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """The labels as plain data, since LangChain serialises no other."""
        return {"labels": self.labels.to_list()}

    def _label(self, said: str | BaseMessage) -> str | None:
        return self.match(_text(said)).label

    async def _alabel(self, said: str | BaseMessage) -> str | None:
        return self._label(said)

    def _labels(self, inputs: list[str | BaseMessage]) -> list[Exception | str | None]:
        labels: list[Exception | str | None] = []
        for said in inputs:
            try:
                labels.append(self._label(said))
            except TypeError as error:  # concerns this row only
                labels.append(error)
        return labels

    async def _alabels(self, inputs: list[str | BaseMessage]) -> list[Exception | str | None]:
        return self._labels(inputs)


def _text(said: str | BaseMessage) -> str:
    if isinstance(said, str):
        return said
    if isinstance(said, BaseMessage):
        return str(said.text)
    raise TypeError(f"LabelOutputParser takes a text or a message, not {type(said).__name__}.")


def _join(chunks: list[str | BaseMessage]) -> str:
    texts = [_text(chunk) for chunk in chunks]
    unanswered = next((text for text in texts if isinstance(text, Unanswered)), None)
    joined = "".join(texts)
    return unanswered if unanswered is not None and not joined else joined


def _warn(inputs: list[Any], labels: list[str | None]) -> None:
    """Warn about rows without a label, but for those that the language model has warned about."""
    rows = [
        row
        for row, (said, label) in enumerate(zip(inputs, labels, strict=True))
        if label is None and not isinstance(said, Unanswered)
    ]
    warn_rows(UnmatchedLabelWarning, rows, len(inputs), UNMATCHED)
