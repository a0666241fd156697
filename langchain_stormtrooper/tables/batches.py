"""`ClassifyBatches`: a classifier for engines that work on tables, batch by batch, in processes of their own.

Reading, writing, scheduling and starting again are the engine's; here is what it calls for a batch. `ray` gives it to
Ray Data; `cookbook/beyond_one_machine.md` shows it with Spark. Imports no engine.
"""

from __future__ import annotations

import asyncio
import atexit
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.runnables import RunnableConfig

from langchain_stormtrooper import sessions
from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.detailed_classifier import DetailedClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.llms.remote import RemoteLLM
from langchain_stormtrooper.prompts import TaskPrompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_calls import RowCall, RowInput
from langchain_stormtrooper.tables.columns import (
    FIELDS,
    Column,
    add_columns,
    answer_columns,
    check_fields,
    names_of,
    texts_of,
    values_of,
)
from langchain_stormtrooper.tasks import Once
from langchain_stormtrooper.text_classifier import TextClassifier

BatchT = TypeVar("BatchT")

_SECONDS_TO_CLOSE = 5.0


class _Prepared(NamedTuple):
    """What is settled with the first batch.

    Attributes:
        classifier: What answers.
        prompt: Its prompt.
        config: The LangChain config of a batch.
        turns: How many batches may be at work, if that has to be limited.
    """

    classifier: DetailedClassifier
    prompt: TaskPrompt
    config: RunnableConfig | None = None
    turns: asyncio.Semaphore | None = None


class ClassifyBatches:
    """Classifies batches of a column of texts; an async actor for Ray's `Dataset.map_batches`, and for others.

    A batch is a dict of numpy arrays or lists, a `pyarrow.Table` or a `pandas.DataFrame`. It comes back with all its
    columns, and those of the answers behind them: texts or null, and numbers or null (NaN in numpy and pandas). Several
    batches may be at work at once. No warnings: why a row has no label is in its columns.

    Further variables of the classifier's prompt are taken from the columns of the same name. A row without a text, or
    with nothing for such a variable, has the reason "failed", as has one that the server could not answer. What is
    wrong for every row is raised.

    Args:
        classifier: What answers. Its pickle holds neither key nor headers: the key is taken from the environment where
            it is unpickled (TGI_API_KEY). With headers, or an LLM of another package, write a subclass that creates the
            classifier in its `__init__`, which runs in the actor.
        text_column: The column of the texts.
        columns: What is told of a row, as columns of these names: "label", "reason", "method", "match", "confidence",
            "covered_mass", "generation", "error", "probabilities", which is a column `probability:<label>` for each
            label, and, of a classifier with `out_of_scope=`, "out_of_scope", the probability that no label fits.
        prefix: What the names of the new columns begin with.
        places: Requests to the server in flight at most (for an LLM of another package: rows). None for as many as the
            classifier's LLM may have. Where several processes ask one server, give each its share.

    Raises:
        ConfigurationError: An argument makes no sense.

    Examples:
        >>> import asyncio
        >>> from langchain_stormtrooper import ClassifyBatches, ZeroShotClassifier
        >>> classify = ClassifyBatches(ZeroShotClassifier(["politics", "science"]), columns=["label"])
        >>> asyncio.run(classify({"text": ["The senate votes today.", "Atoms have a nucleus."]}))["label"]
        ['politics', 'science']

        With Ray Data: `dataset.map_batches(ClassifyBatches, fn_constructor_kwargs={"classifier": classifier})`, and
        `compute=`, `batch_format="pyarrow"`, `batch_size=`.
    """

    def __init__(
        self,
        classifier: TextClassifier | DetailedClassifier,
        *,
        text_column: str = "text",
        columns: Iterable[str] = FIELDS,
        prefix: str = "",
        places: int | None = None,
    ) -> None:
        self._classifier = without_details(classifier)
        self._text_column = text_column
        self._fields = check_fields(columns, has_option=self._classifier.out_of_scope is not None)
        names: Sequence[Any] = (text_column, prefix)
        if not all(isinstance(name, str) for name in names):
            raise ConfigurationError("`prefix=` and `text_column=` must be texts; the prefix may be the empty one.")
        self._prefix = prefix
        check_count("`places=`", places, optional=True)
        self._places = places
        self._prepared: Once[_Prepared] = Once()

    async def __call__(self, batch: BatchT) -> BatchT:
        """Classify a batch.

        Args:
            batch: The batch; it is not changed.

        Returns:
            One of the same kind, with more columns.

        Raises:
            ServerError: Something is wrong for every row.
            ConfigurationError: A column is not there, holds no texts, or would be there twice.
        """
        names = names_of(batch)
        self.check_columns(names)
        prepared = await self._prepared.get(self._aprepare)
        if absent := sorted(prepared.prompt.input_variables.difference(names)):
            raise ConfigurationError(
                f"The prompt has the variables {absent}, for which there are no columns: add them."
            )
        further = {name: values_of(batch, name) for name in prepared.prompt.input_variables}
        texts = texts_of(values_of(batch, self._text_column), self._text_column)
        key = prepared.classifier.classifier.text_key
        rows: dict[int, RowInput] = {}
        answers = [_without(self._text_column)] * len(texts)
        for number, text in enumerate(texts):
            values = {name: column[number] for name, column in further.items()}
            if nulls := prepared.prompt.nulls(values):
                answers[number] = _without(nulls[0], "value") if text is not None else answers[number]
            elif text is not None:
                rows[number] = {**values, key: text} if further else text
        for number, answer in zip(rows, await _aanswers(prepared, list(rows.values())), strict=True):
            answers[number] = answer
        return cast("BatchT", add_columns(batch, self._columns(answers)))

    async def _aprepare(self) -> _Prepared:
        _close_at_exit(asyncio.get_running_loop())
        places = await self.aget_places()
        classifier = self._classifier
        config: RunnableConfig | None = None
        turns = None
        if places is not None and isinstance(classifier.llm, RemoteLLM):
            llm = classifier.llm.model_copy(update={"max_concurrency": places})
            classifier = classifier.model_copy(update={"llm": llm})
        elif places is not None:
            # Of others, rows are counted, and within a batch only.
            config, turns = {"max_concurrency": places}, asyncio.Semaphore(1)
        prompt = (await classifier._aarranged()).prompt
        return _Prepared(classifier.with_details(), prompt, config, turns)

    async def aget_places(self) -> int | None:
        """The share of the server; asked for with the first batch."""
        return self._places

    def _columns(self, answers: Sequence[Classification]) -> dict[str, Column]:
        return answer_columns(answers, self._fields, self._classifier.labels.names, self._prefix)

    def check_columns(self, names: Sequence[str]) -> None:
        """See to it that the text is there and the answers are not.

        Args:
            names: The columns that there are.

        Raises:
            ConfigurationError: It is not, or one is.
        """
        if self._text_column not in names:
            raise ConfigurationError(
                f"There is no column {self._text_column!r} but {list(names)}: set `text_column=` to the one that holds "
                "the texts."
            )
        if taken := [name for name in self._columns([]) if name in names]:
            raise ConfigurationError(
                f"There are columns {taken} already, which the answers would replace: set `prefix=`, or rename them."
            )


def _without(column: str, what: str = "text") -> Classification:
    return Classification(reason=Reason.FAILED, error=f"There is no {what} in the column {column!r}.")


async def _aanswers(prepared: _Prepared, rows: list[RowInput]) -> list[Classification]:
    call = RowCall(rows, prepared.classifier._face)
    async with prepared.turns or nullcontext():
        await prepared.classifier._arows(call, prepared.config, {})
    # Not `finish`, which warns: once per batch, of rows that nobody could find again.
    return cast("list[Classification]", call.rows)


def without_details(classifier: Any) -> TextClassifier:
    """The classifier that answers.

    Raises:
        ConfigurationError: It is no classifier.
    """
    if isinstance(classifier, DetailedClassifier):
        classifier = classifier.classifier
    if not isinstance(classifier, TextClassifier):
        raise ConfigurationError(
            f"`classifier=` must be a ZeroShotClassifier or a FewShotClassifier, not a {type(classifier).__name__}."
        )
    return classifier


def _close_at_exit(loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections when the process ends: Ray leaves the loop of an async actor running in a daemon thread."""
    known = weakref.ref(loop)

    def close() -> None:
        loop = known()
        if loop is not None and loop.is_running():
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(sessions.aclose(), loop).result(_SECONDS_TO_CLOSE)

    atexit.register(close)
