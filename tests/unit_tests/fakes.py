"""Language models without a server, shared by the unit tests."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackHandler
from pydantic import Field, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError, ServerUnreachableError
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.wire import Generated

LABELS = ["sport", "politics", "science"]
SECRET = "Mx. Doe's secret diagnosis"


def say_label(prompt: Prompt) -> str:
    """Misbehave where the text asks for it, else answer with one of the labels, decided by the text alone."""
    text = prompt.text or str(prompt)
    if "OVERLONG" in text:
        raise OverlongInputError("The prompt has 99 tokens, the server takes at most 9.", tokens=99, limit=9)
    if "FAIL" in text:
        raise RequestFailedError("The model failed while generating (424).", status=424)
    if "DOWN" in text:
        raise ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection: start it.")
    if "MUTTER" in text:
        return "hard to tell"
    return label_of(text)


def label_of(text: str) -> str:
    """The label that `say_label` gives a well-behaved text."""
    return LABELS[zlib.crc32(text.encode("utf-8", "surrogatepass")) % len(LABELS)]


class Log:
    """What a fake LLM was asked, and how much of it at once."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.keywords: list[dict[str, Any]] = []
        self.running = self.peak = self.cancelled = 0

    @property
    def texts(self) -> list[str]:
        """The rows' texts, in the order asked."""
        return [prompt.text for prompt in self.prompts]

    async def run(self, prompt: Prompt, delay: float, **keywords: Any) -> None:
        """Note a request that takes a while."""
        self.prompts.append(prompt)
        self.keywords.append(keywords)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(60 if "SLOW" in prompt.text else delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


class FakeLLM(SelfHostedLLM):
    """Generates what a function says."""

    answer: Callable[[Prompt], str] = say_label
    delay: float = 0.0
    places: int = 8
    model_id: str | None = None
    chat: tuple[str, str] | None = None
    cut: int = 3

    _log: Log = PrivateAttr(default_factory=Log)

    @property
    def log(self) -> Log:
        """What was asked."""
        return self._log

    @property
    @override
    def concurrency(self) -> int:
        return self.places

    @override
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        await self._log.run(prompt, self.delay, stop=stop, max_new_tokens=max_new_tokens)
        return Generated(self.answer(prompt), "stop", prompt_tokens=len(str(prompt)), generated_tokens=2)

    @override
    async def astream_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        await self._log.run(prompt, self.delay, stop=stop, max_new_tokens=max_new_tokens)
        text = self.answer(prompt)
        for start in range(0, len(text), self.cut):
            yield text[start : start + self.cut]

    async def acount_tokens(self, prompt: Prompt) -> int | None:
        """One token for each character."""
        return len(str(prompt))

    @override
    async def amodel_id(self) -> str | None:
        await asyncio.sleep(0)
        return self.model_id

    @override
    async def arender_chat(self, message: str) -> str | None:
        await asyncio.sleep(0)
        return None if self.chat is None else self.chat[0] + message + self.chat[1]

    @property
    @override
    def _llm_type(self) -> str:
        return "fake"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_id": self.model_id}


def hashed_scores(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """A distribution that depends on the text and each answer, and on nothing else."""
    weights = [1 + zlib.crc32(f"{prompt.text}|{answer}".encode("utf-8", "replace")) % 1000 for answer in answers]
    return tuple(weight / sum(weights) for weight in weights)


class FakeScoringLLM(FakeLLM):
    """Scores answers as a function says."""

    methods: ClassVar[tuple[Method, ...]] = (Method.SCORE, Method.GENERATE)

    score: Callable[[Prompt, Sequence[str]], tuple[float, ...]] = hashed_scores
    asked: list[tuple[str, ...]] = Field(default_factory=list)

    @override
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        await self._log.run(prompt, self.delay)
        self.asked.append(answers)
        self.answer(prompt)
        return LabelScores(self.score(prompt, answers), covered_mass=0.5, prompt_tokens=7, generated_tokens=1)


class Recorder(AsyncCallbackHandler):
    """Notes the runs that LangChain reports."""

    def __init__(self) -> None:
        self.chains: dict[Any, dict[str, Any]] = {}
        self.llms: dict[Any, dict[str, Any]] = {}
        self.tokens: list[str] = []

    @override
    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        self.chains[run_id] = {"inputs": inputs, "parent": parent_run_id, **kwargs}

    @override
    async def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.chains[run_id]["outputs"] = outputs

    @override
    async def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self.chains[run_id]["error"] = error

    @override
    async def on_llm_start(
        self, serialized: Any, prompts: list[str], *, run_id: Any, parent_run_id: Any = None, **kwargs: Any
    ) -> None:
        self.llms[run_id] = {"prompts": prompts, "parent": parent_run_id, **kwargs}

    @override
    async def on_llm_end(self, response: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.llms[run_id]["response"] = response

    @override
    async def on_llm_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self.llms[run_id]["error"] = error

    @override
    async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)
