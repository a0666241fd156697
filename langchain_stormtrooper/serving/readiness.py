"""Whether it makes sense to send requests: the classifier is prepared and what answers is there.

Asked as often as anybody likes: the answer is kept for a moment, and all who ask at once share one look. Called by
`app` (`/ready`, `/info`) and by `running`, which prepares before the first request.
"""

from __future__ import annotations

import asyncio
import time

from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.serving.refusals import refusal_of

_KEPT_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0


class Readiness:
    """The readiness of one app.

    Args:
        classifier: What has to be ready.

    Attributes:
        method: How labels are obtained; None as long as it is not known.
        model_id: The model's name; None as long as it is not known.
        is_closing: Whether the app is about to end, and takes no new requests.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        self.method: Method | None = None
        self.model_id: str | None = None
        self.is_closing = False
        self._classifier = classifier
        self._look: asyncio.Task[str | None] | None = None
        self._seen: tuple[float, str | None] | None = None

    async def prepare(self) -> None:
        """Find out what the classifier has to know before its first row.

        Raises:
            StormtrooperError: It cannot be found out, or does not go together.
        """
        self.method = await self._classifier.aget_method()
        if isinstance(self._classifier.llm, SelfHostedLLM):
            self.model_id = await self._classifier.llm.amodel_id()

    async def reason(self) -> str | None:
        """Why the app is not ready, in one sentence; None if it is."""
        if self.is_closing:
            return "The app is ending: it finishes what it has accepted."
        if self._seen is not None and time.monotonic() - self._seen[0] < _KEPT_SECONDS:
            return self._seen[1]
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._find_out())
        # Not cancelled where it takes longer: a model may be on its way.
        done, _ = await asyncio.wait({self._look}, timeout=_PATIENCE_SECONDS)
        return self._look.result() if done else "The classifier is being prepared: ask again in a moment."

    async def _find_out(self) -> str | None:
        reason: str | None = None
        try:
            if self.method is None:
                await self.prepare()
            llm = self._classifier.llm
            if isinstance(llm, SelfHostedLLM) and not await llm.ais_healthy():
                reason = "The model's server does not answer, or says that it is not healthy."
        except Exception as error:  # noqa: BLE001  # whatever it is, it is why
            reason = refusal_of(error).detail
        self._seen = (time.monotonic(), reason)
        return reason

    async def close(self) -> None:
        """End a look that is still on its way."""
        self.is_closing = True
        if self._look is not None and not self._look.done():
            self._look.cancel()
            await asyncio.wait({self._look})
