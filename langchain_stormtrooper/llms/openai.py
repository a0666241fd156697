"""`OpenAICompletions`: the LLM behind an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp's or a gateway.

It generates over the protocol (`wire.openai`); what is asked for labels is `openai_client`'s business. A llama.cpp
server is asked over its own routes by `llamacpp_client`, as the one in the process is. LangChain's faces are `base`'s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.utils import secret_from_env
from pydantic import Field, PrivateAttr, SecretStr, field_validator
from typing_extensions import override

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.llms import remote
from langchain_stormtrooper.llms.abilities import PROBE
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.llms.connection_settings import check_base_urls
from langchain_stormtrooper.llms.label_scoring import Way
from langchain_stormtrooper.llms.llamacpp_client import LlamaCppClient
from langchain_stormtrooper.llms.openai_abilities import OpenAIAbilities
from langchain_stormtrooper.llms.openai_client import OpenAIClient
from langchain_stormtrooper.llms.several import on_one_server, streamed_by_one_server
from langchain_stormtrooper.llms.task_labels import TaskLabels
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import Once
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Generated, Response, llamacpp
from langchain_stormtrooper.wire import openai as wire

DEFAULT_BASE_URL = "http://127.0.0.1:8000"


class _Known(remote.Known):
    """The way to the server and what it has told.

    Attributes:
        model: The model that is asked.
        llamacpp: Who asks a llama.cpp server; None if it is another.
        client: Who asks any other.
    """

    __slots__ = ("client", "llamacpp", "model")

    @override
    def forget(self) -> None:
        self.model: Once[wire.Model] = Once()
        self.llamacpp: Once[LlamaCppClient | None] = Once()
        self.client: OpenAIClient | None = None


class OpenAICompletions(remote.RemoteLLM):
    """LLM behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp's server, TGI from 2.0.4 on, and others.

    Generation is greedy. A batch is concurrent, up to `max_concurrency` requests in flight, and its rows are
    independent. Connections are opened at the first call, kept per event loop, and closed when the loop ends.

    Classifiers score labels by the best that the server is seen to do, which is tried once and never taken from its
    word: the probabilities of just the labels' tokens (vLLM's `logprob_token_ids`, SGLang's `/v1/score`, llama.cpp's
    biased tokens), the scores of prompts that end with a label (`echo`), or the likeliest next tokens (`logprobs`).

    Setup:
        Start a server, for instance `vllm serve Qwen/Qwen3-4B-Instruct-2507` or `llama-server -m model.gguf`.

    Args:
        base_url: Where the server listens, with or without `/v1`; for several, see `TextGenerationInference`. Default:
            the environment variable OPENAI_COMPATIBLE_BASE_URL, else http://127.0.0.1:8000.
        model: The model's name. Default: the first that `/v1/models` lists; TGI before 2.3.0 has no such list, and
            takes any name.
        api: "completions" sends the prompt as it is; "chat" sends it as a user's message, for servers that have
            `/v1/chat/completions` alone.
        api_key: Sent as a bearer token. Default: OPENAI_COMPATIBLE_API_KEY. No other key of the environment is ever
            sent.
        scoring: How labels are scored for classifiers: "chosen", "prefill", "raw", or "auto": the best that the server
            was seen to do.
        headers, max_concurrency, max_downtime, max_body_bytes: See `TextGenerationInference`.
        max_new_tokens, stop, timeout, on_overlong: See `SelfHostedLLM`.

    Raises:
        ConfigurationError: An argument is not understood, or the arguments contradict each other.

    Examples:
        >>> from langchain_stormtrooper import OpenAICompletions, ZeroShotClassifier
        >>> llm = OpenAICompletions(max_new_tokens=16)  # or base_url="http://gpu1:8000"
        >>> llm.invoke("Is this about politics or science? The senate votes today. Answer:")
        ' politics'
        >>> ZeroShotClassifier(["politics", "science"], llm=llm).get_method().value
        'score'
    """

    # A variable that is empty counts as not set.
    base_url: str | Sequence[str] = Field(
        default_factory=lambda: os.environ.get("OPENAI_COMPATIBLE_BASE_URL") or DEFAULT_BASE_URL, validate_default=True
    )
    api_key: SecretStr | None = Field(default_factory=secret_from_env("OPENAI_COMPATIBLE_API_KEY", default=None))
    model: str | None = None
    api: Literal["completions", "chat"] = "completions"
    scoring: Literal["auto", "chosen", "raw", "prefill"] = "auto"

    _known: _Known = PrivateAttr(default_factory=_Known)

    @field_validator("base_url")
    @classmethod
    def _drop_version(cls, value: str | Sequence[str]) -> str | tuple[str, ...]:
        # Users of OpenAI's client write it with the version; other routes of these servers stand beside it.
        addresses = [value] if isinstance(value, str) else value
        return check_base_urls([address.removesuffix("/v1") for address in addresses])

    if TYPE_CHECKING:

        @override
        def _get_known(self) -> _Known: ...

    @override
    def _make_transport(self) -> Transport:
        return self._transport_for(
            retries_allowed=wire.retries_allowed,
            event_status=wire.event_status,
            unreachable_hint="start a server there, or set `base_url=` or OPENAI_COMPATIBLE_BASE_URL.",
        )

    @property
    @override
    def shares_prefixes(self) -> bool:
        return True

    @property
    @override
    def wraps_prompts(self) -> bool:
        return self.api == "chat"

    @property
    def _path(self) -> str:
        return wire.CHAT if self.api == "chat" else wire.COMPLETIONS

    async def _amodel(self) -> wire.Model:
        return await self._get_known().model.get(self._find_model)

    async def _find_model(self) -> wire.Model:
        async def ask() -> tuple[wire.Model, ...]:
            return wire.parse_models(await self._transport.get("/v1/models", optional=self.model is not None))

        try:
            models = await ask_again(ask)
        except (RequestFailedError, AuthenticationError) as error:
            if self.model is None or (isinstance(error, RequestFailedError) and error.status is None):
                raise
            models = ()  # a gateway may keep its list to itself; that the key is wrong shows with the first row
        named = [model for model in models if self.model in (None, model.id)]
        if named:
            return named[0]
        if self.model is None:
            raise ConfigurationError(
                "The server lists no model at /v1/models: check the path of `base_url=`, or set `model=` to the name "
                "that it wants."
            )
        return wire.Model(self.model)

    async def _llamacpp(self) -> LlamaCppClient | None:
        return await self._get_known().llamacpp.get(self._find_llamacpp)

    async def _find_llamacpp(self) -> LlamaCppClient | None:
        if self.api == "chat" or (await self._amodel()).owner != "llamacpp":
            return None
        n_ctx = llamacpp.parse_n_ctx(await self._transport.get("/props"))
        if n_ctx is None:
            return None
        # Some let only OpenAI's routes through.
        tried = await self._transport.post("/completion", llamacpp.generate_body((1,), max_new_tokens=1, stop=()))
        return None if tried.status in (404, 405) else LlamaCppClient(self._transport, n_ctx)

    async def _aclient(self) -> OpenAIClient:
        known = self._get_known()
        if known.client is None:
            model = (await self._amodel()).id
            known.client = OpenAIClient(self._transport, model, self._path, self._sendable)
        return known.client

    @override
    @on_one_server()
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        if (client := await self._llamacpp()) is not None:
            return await client.generate(prompt, **self._generation_settings(stop, max_new_tokens))
        body = await self._body(prompt, stop, max_new_tokens)
        return wire.parse_completion(await self._transport.post(self._path, body))

    async def _body(
        self, prompt: Prompt, stop: Sequence[str] | None, max_new_tokens: int | None, *, stream: bool = False
    ) -> bytes:
        make = wire.chat_body if self.api == "chat" else wire.completion_body
        model = (await self._amodel()).id
        return self._sendable(
            make(model, str(prompt), stream=stream, **self._generation_settings(stop, max_new_tokens))
        )

    @override
    @streamed_by_one_server
    async def astream_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        if (client := await self._llamacpp()) is not None:
            async with aclosing(client.stream(prompt, **self._generation_settings(stop, max_new_tokens))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        body = await self._body(prompt, stop, max_new_tokens, stream=True)
        async with self._transport.stream(self._path, body) as events:
            if isinstance(events, Response):
                # A server that does not stream answers as a whole.
                yield wire.parse_completion(events).text
                return
            async with aclosing(events):
                async for event in events:
                    text = wire.parse_event(event)
                    if text is None:
                        return
                    yield text
            raise ResponseFormatError("The server's stream ended before the answer did.", status=200)

    @override
    @on_one_server()
    async def acount_tokens(self, prompt: Prompt) -> int | None:
        if (client := await self._llamacpp()) is not None:
            return len(await client.prompt_tokens(prompt))
        ids = None if self.api == "chat" else await (await self._aclient()).ids(str(prompt))
        return None if ids is None else len(ids)

    @on_one_server(abilities=True)
    async def aabilities(self) -> OpenAIAbilities:
        """What the server was seen to do, asked once, with a few requests of a token or two.

        Raises:
            ServerError: The server cannot be asked.
        """
        return await (await self._aclient()).abilities()

    @on_one_server()
    async def ais_llamacpp(self) -> bool:
        """Whether it is a llama.cpp server, which is asked over its own routes."""
        return await self._llamacpp() is not None

    async def _task(self, prompt: Prompt, answers: tuple[str, ...]) -> TaskLabels:
        """The labels on this server, settled once per task."""
        # What stands before the answer, where it is the same for all rows.
        context = (prompt.tail + prompt.after) or PROBE
        return await (await self._aclient()).task(
            context, answers, None if self.scoring == "auto" else Way(self.scoring)
        )

    @override
    @on_one_server(abilities=True)
    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        if (client := await self._llamacpp()) is not None:
            writes = await client.can_write(answers)
            return (Method.SCORE, *((Method.CONSTRAIN,) if writes else ()), Method.GENERATE)
        return (await self._task(prompt, answers)).methods

    @override
    @on_one_server(abilities=True)
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        if (client := await self._llamacpp()) is not None:
            return await client.score(prompt, answers)
        return await (await self._task(prompt, answers)).score(str(prompt))

    @override
    @on_one_server(abilities=True)
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        if (client := await self._llamacpp()) is not None:
            return await client.constrain(prompt, answers)
        return await (await self._task(prompt, answers)).constrain(str(prompt))

    @override
    @on_one_server()
    async def amodel_id(self) -> str | None:
        return (await self._amodel()).id

    @override
    async def _atell_identity(self) -> dict[str, object]:
        model = await self._amodel()
        return {"the model": model.id} | ({} if model.max_tokens is None else {"max_model_len": model.max_tokens})

    @override
    async def _atell_abilities(self) -> dict[str, object]:
        if (client := await self._llamacpp()) is not None:
            return {"being llama.cpp's server": True, "its context": client.n_ctx}
        return {"being llama.cpp's server": False, **(await self.aabilities()).told}

    @override
    @on_one_server()
    async def arender_chat(self, message: str) -> str | None:
        if self.api == "chat":
            return None
        if (client := await self._llamacpp()) is not None:
            return await client.render_chat(message)
        return await (await self._aclient()).render_chat(message)

    @property
    @override
    def _llm_type(self) -> str:
        return "openai-compatible"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "model": self.model,
            "api": self.api,
            "max_new_tokens": self.max_new_tokens,
            "stop": self.stop,
        }

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "OPENAI_COMPATIBLE_API_KEY"}
