"""Rows of a request from a classifier: the same coroutine as its batches, without warnings, which nobody would see.

The first row decides whether there are rows at all: what is wrong for all of them is raised. From then on every text
ends as one row, whatever happens. Called by `app` only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.rows import RowCall
from langchain_stormtrooper.serving.refusals import refusal_of


async def answer_one(classifier: TextClassifier, text: str) -> Classification:
    """Everything known about one text.

    Raises:
        StormtrooperError: Something is wrong for every text.
    """
    detailed = classifier.with_details()
    call = RowCall([text], detailed._face)
    await detailed._arows(call, None, {})
    return cast("Classification", call.rows[0])


async def answer_many(
    classifier: TextClassifier, texts: Sequence[str]
) -> AsyncGenerator[tuple[int, Classification], None]:
    """Everything known about many texts, each with its index, as they finish.

    Raises:
        StormtrooperError: Something is wrong for every text; only before the first of them.
    """
    detailed = classifier.with_details()
    open_rows = set(range(len(texts)))
    try:
        async with aclosing(detailed._acompleted(RowCall(texts, detailed._face), None, {})) as rows:
            async for index, row in rows:
                open_rows.discard(index)
                yield index, cast("Classification", row)
    except Exception as error:
        if len(open_rows) == len(texts):
            raise
        # The status has been sent: what is left gets a reason, not a connection that breaks off.
        failed = Classification(reason=Reason.FAILED, error=refusal_of(error).detail)
        for index in sorted(open_rows):
            yield index, failed
