"""`ForeignGenerating`: free text from any LLM or chat model of LangChain's, one call per row.

Foreign batches are one run in which a failing row spoils the others, and often a loop; so every row is a call of its
own, on a copy of the LLM that does not sample. What is known of foreign LLMs is in `llms.foreign`, what their errors
mean in `llms.foreign_errors`. The user's own object is never changed. Made by `arrange`.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import Generation, LLMResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.runnables.config import run_in_executor
from typing_extensions import override

from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.answering.generate import Generating
from langchain_stormtrooper.errors import RequestFailedError, SettingsWarning
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.limits import AdaptiveLimiter
from langchain_stormtrooper.llms import foreign
from langchain_stormtrooper.llms.foreign_clients import own_client
from langchain_stormtrooper.llms.foreign_errors import Passing, read_error, said_by
from langchain_stormtrooper.llms.foreign_logprobs import read_tokens, sureness
from langchain_stormtrooper.pauses import backoff
from langchain_stormtrooper.prompts import Prompt, TaskPrompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.wire import Generated, as_count

_REPEATS = 3
"""How often a row is asked again after trouble of its own; many foreign LLMs have repeated it themselves before."""

_IN_VAIN = 60.0
"""Seconds that a server may refuse all rows for want of a place."""

_FREE_AGAIN = 2.0
"""Seconds after which it is asked again at the latest."""

_UNTOLD = "the LLM's log-probabilities do not tell how sure it is"


@dataclass(slots=True)
class _Here:
    """What belongs to one event loop: the LLM tuned for classifying, and the places its server was seen to have."""

    limiter: AdaptiveLimiter
    client: Any
    tuned: tuple[foreign.Settings, BaseLanguageModel[Any]] | None = None


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Learnt:
    """What an LLM was seen to do.

    Attributes:
        settings: What it takes.
        refused_since: When it began to refuse all calls; infinite while it does not.
        is_sync: Whether it has no async face.
    """

    settings: foreign.Settings
    refused_since: float = math.inf
    is_sync: bool = False


class ForeignGenerating(Generating):
    """Free text from an LLM that is not ours, matched to the nearest label.

    Args:
        prompt: The prompt of the task.
        labels: The labels.
        llm: The LLM or chat model.
        parser: Turns its answer into a label.
        stop: Where an answer ends, as the prompt's preset says.
        max_new_tokens: Tokens to generate at most, as the classifier was told.
        min_confidence: Probability that an answer must have, for LLMs that tell log-probabilities.
    """

    def __init__(
        self,
        prompt: TaskPrompt,
        labels: LabelSet,
        llm: BaseLanguageModel[Any],
        parser: BaseOutputParser[str | None],
        *,
        stop: Sequence[str],
        max_new_tokens: int | None,
        min_confidence: float | None = None,
    ) -> None:
        super().__init__(prompt, labels, llm, parser, stop=stop, max_new_tokens=max_new_tokens)
        self._foreign = llm
        self._min_confidence = min_confidence
        greedy = foreign.greedy(llm, stop=stop, max_new_tokens=max_new_tokens, enough_tokens=self._max_new_tokens)
        # Shared by copies for other demands or a row's shortlist, and so are their clients, which end with it.
        self._learnt = _Learnt(greedy)
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = weakref.WeakKeyDictionary()

    @override
    def demanding(self, demands: Demands) -> Self:
        if demands.confidence == self._min_confidence:
            return self
        other = self._twin()
        other._min_confidence = demands.confidence
        return other

    @override
    async def answer(self, prompt: Prompt, callbacks: Callbacks) -> Classification:
        result = await self._ask(prompt, callbacks)
        generation = result.generations[0][0]
        prompt_tokens, generated_tokens = _usage(generation, result.llm_output)
        text = generation.text
        if not isinstance(self._foreign, BaseChatModel):
            # Some repeat the prompt, which names every label.
            text = text.removeprefix(str(prompt))
        answer = self._classify(Generated(text, prompt_tokens=prompt_tokens, generated_tokens=generated_tokens))
        if answer.label is None:
            return answer if text.strip() else answer.model_copy(update={"error": _why_empty(generation)})
        return self._weighed(answer, generation)

    def _weighed(self, answer: Classification, generation: Generation) -> Classification:
        """An answer with how sure the LLM was, where its generation tells."""
        assert answer.label is not None  # noqa: S101  # the caller has looked
        tokens = read_tokens(generation)
        sure = sureness(tokens, answer.label, self._labels.names) if tokens else None
        known = {} if sure is None else {name: getattr(sure, name) for name in sure.__slots__}
        if self._min_confidence is not None and (sure is None or sure.confidence < self._min_confidence):
            error = _UNTOLD if sure is None else None
            known |= {"label": None, "match": None, "reason": Reason.LOW_CONFIDENCE, "error": error}
        return answer.model_copy(update=known) if known else answer

    async def _ask(self, prompt: Prompt, callbacks: Callbacks) -> LLMResult:
        """Call the LLM, and again after trouble that passes."""
        here = await self._here()
        refusals = repeats = 0
        while True:
            settings = self._learnt.settings
            trouble = await self._call(here, settings, prompt, callbacks)
            if isinstance(trouble, LLMResult):
                self._learnt.refused_since = math.inf
                return trouble
            if isinstance(trouble, Exception):
                if not self._gives_way(trouble, settings, prompt):
                    # Its message may quote the prompt, and so may those of the errors behind it.
                    raise read_error(trouble) from None  # type: ignore[misc]  # no Passing: `_call` has looked
            elif trouble.is_refusal:
                self._learnt.refused_since = min(self._learnt.refused_since, time.monotonic())
                if time.monotonic() - self._learnt.refused_since > _IN_VAIN:
                    raise trouble.error
                await asyncio.sleep(trouble.pause + backoff(refusals, _FREE_AGAIN))
                refusals += 1
            elif repeats >= _REPEATS:
                raise trouble.error
            else:
                await asyncio.sleep(trouble.pause + backoff(repeats))
                repeats += 1

    async def _call(
        self, here: _Here, settings: foreign.Settings, prompt: Prompt, callbacks: Callbacks
    ) -> LLMResult | Passing | Exception:
        """Call the LLM once; what it raised is returned."""
        if here.tuned is None or here.tuned[0] is not settings:
            here.tuned = settings, _tuned(self._foreign, settings, here.client)
        llm = here.tuned[1]
        value = StringPromptValue(text=str(prompt))
        given: dict[str, Any] = {"stop": [*settings.stop] or None, "callbacks": callbacks, **settings.keywords}
        # Rows at once are bounded already; here it is the places that the server was seen to have.
        await here.limiter.acquire(1_000_000)
        is_sync = self._learnt.is_sync
        try:
            if is_sync:
                result = await run_in_executor(None, llm.generate_prompt, [value], **given)
            else:
                result = await llm.agenerate_prompt([value], **given)
        except NotImplementedError as error:
            if is_sync:
                return error
            # Such as a chat model around a pipeline: it has no async twin.
            self._learnt.is_sync = True
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody has cancelled this row: something within the LLM was, and that is the row's trouble.
            return RequestFailedError("The LLM raised CancelledError.")
        except Exception as error:  # noqa: BLE001  # a foreign LLM may raise anything, and it concerns one row
            meaning = read_error(error)
            if not isinstance(meaning, Passing):
                return error
            if meaning.is_refusal:
                here.limiter.overloaded()
            return meaning
        else:
            if not result.generations or not result.generations[0]:
                return RequestFailedError("The LLM returned no generation.")
            here.limiter.succeeded()
            return result
        finally:
            here.limiter.release()
        return await self._call(here, settings, prompt, callbacks)

    def _gives_way(self, error: Exception, settings: foreign.Settings, prompt: Prompt) -> bool:
        """Leave out settings that the model refuses; False if the error is about something else."""
        said = said_by(error)
        if type(read_error(error)) is not RequestFailedError:
            return False
        names = foreign.refused_settings(said, settings)
        if prompt.text in said and any(name in prompt.text for name in names):
            # It quotes a text that is about settings.
            return False
        if names and self._learnt.settings is settings:
            self._learnt.settings = settings.without(names)
            if kept := [name for name in names if name != foreign.STOP]:
                warn_caller(
                    SettingsWarning,
                    f"{type(self._foreign).__name__} does not take {', '.join(f'`{name}`' for name in kept)} as a "
                    "classifier sets it, and keeps its own: it may answer the same text differently.",
                )
        return bool(names)

    async def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            here = self._loops[loop] = _Here(
                AdaptiveLimiter(), await own_client(foreign.wrapped(self._foreign), self._learnt)
            )
        return here


def _tuned(llm: BaseLanguageModel[Any], settings: foreign.Settings, client: Any) -> BaseLanguageModel[Any]:
    """The LLM as classifiers want it: a copy, or itself where nothing is to be changed."""
    changes = dict(settings.fields)
    inner = foreign.wrapped(llm)
    if client is not None and inner is llm:
        changes["async_client"] = client
    elif client is not None:
        changes["llm"] = inner.model_copy(update={"async_client": client})
    return llm.model_copy(update=changes) if changes else llm


def _why_empty(generation: Generation) -> str:
    if getattr(getattr(generation, "message", None), "tool_calls", None):
        return "the LLM called a tool instead of answering"
    return "the LLM's answer has no text"


_IN, _OUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "generated_tokens", "output_tokens")


def _usage(generation: Generation, llm_output: Any) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, where the LLM tells."""
    message = getattr(generation, "message", None)
    metadata = getattr(message, "response_metadata", None)
    places = [getattr(message, "usage_metadata", None), generation.generation_info, metadata, llm_output]
    for place in places:
        if not isinstance(place, Mapping):
            continue
        for counts in (place.get("token_usage"), place.get("usage"), place):
            if isinstance(counts, Mapping):
                pair = _count(counts, _IN), _count(counts, _OUT)
                if pair != (None, None):
                    return pair
    return None, None


def _count(counts: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((count for name in names if (count := as_count(counts.get(name))) is not None), None)
