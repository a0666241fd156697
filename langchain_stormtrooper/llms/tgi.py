"""`TextGenerationInference`: the LLM behind a TGI server.

It joins the protocol (`wire.tgi`) and the transport; all of LangChain's faces are `base`'s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.utils import secret_from_env
from pydantic import Field, PrivateAttr, SecretStr
from typing_extensions import override

from langchain_stormtrooper.agreement import Limit
from langchain_stormtrooper.errors import (
    AuthenticationError,
    EndpointNotFoundError,
    RequestFailedError,
    ResponseFormatError,
    ServerError,
    SettingsWarning,
)
from langchain_stormtrooper.llms import remote
from langchain_stormtrooper.llms.abilities import PROBE, Abilities
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.llms.label_scoring import Way
from langchain_stormtrooper.llms.several import on_one_server, streamed_by_one_server
from langchain_stormtrooper.llms.task_labels import TaskLabels, settle
from langchain_stormtrooper.llms.tgi_abilities import find_abilities
from langchain_stormtrooper.llms.tgi_endpoint import read_endpoint
from langchain_stormtrooper.llms.tgi_known import Known
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.tasks import Once
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Generated, Response
from langchain_stormtrooper.wire import tgi as wire
from langchain_stormtrooper.wire.details import Details
from langchain_stormtrooper.wire.grammar import tokens_needed
from langchain_stormtrooper.wire.tgi_details import details_body, parse_details

DEFAULT_BASE_URL = "http://127.0.0.1:8080"


class TextGenerationInference(remote.RemoteLLM):
    """LLM behind a Text Generation Inference server (1.0.3 to 3.3.7), or several of them, over `/generate`.

    Generation is greedy. A batch is concurrent, up to `max_concurrency` requests in flight, and its rows are
    independent. Connections are opened at the first call, kept per event loop, and closed when the loop ends.

    Several servers of one model share the rows: each goes to the server with the most free places. One that is gone is
    left out, its rows are repeated on the others, and it is taken back when it is well and still serves the same.

    Setup:
        Start a server, for instance `docker run --gpus all --shm-size 1g -p 127.0.0.1:8080:80
        ghcr.io/huggingface/text-generation-inference:3.3.7 --model-id stabilityai/StableBeluga-7B`; `docs/servers.md`
        says more.

    Args:
        base_url: Where the server listens, without a path such as /generate; for several a list, or their addresses
            with commas between them. Default: the environment variable TGI_BASE_URL, else http://127.0.0.1:8080.
        api_key: Sent as a bearer token. Default: TGI_API_KEY. No other token of the environment is ever sent.
        headers: Further headers, for gateways. Not part of the repr or of serialised objects.
            Neither they nor `api_key` are in pickles: what is unpickled has no headers, and reads the key from
            TGI_API_KEY where it is unpickled. Copies keep both.
        max_concurrency: Requests in flight at once at most, for each server. When a server refuses some for want of
            permits, fewer are sent, for all that talk to this server, until it takes more.
        max_downtime: Seconds to wait for a server that has answered before and is gone, as while it restarts, or that
            refuses or drops all that is sent. Of several servers, while all are gone.
        max_body_bytes: Bytes of the largest request that the server reads (--payload-limit); more counts as overlong.
        neutralize_images: Whether Markdown images in prompts are spelled so that a vision model's server does not fetch
            their addresses. For such servers that get texts from strangers; text models never fetch anything.
        scoring: How labels are scored for classifiers: "masked" (a grammar leaves only the labels), "raw" (the
            likeliest next tokens), "prefill" (the server scores prompts that end with a label), or "auto": the
            cheapest that the server was seen to do.
        max_new_tokens, stop, timeout, on_overlong: See `SelfHostedLLM`.

    Raises:
        ValidationError: An argument is not understood.
        ConfigurationError: The arguments contradict each other, or cannot be sent.

    Examples:
        >>> from langchain_stormtrooper import TextGenerationInference
        >>> llm = TextGenerationInference(max_new_tokens=16)  # or base_url="http://gpu1:8080"
        >>> llm.invoke("Is this about politics or science? The senate votes today. Answer:")
        ' politics'
        >>> llm.batch(["Politics or science? The senate votes.", "Politics or science? Atoms have a nucleus."])
        [' politics', ' science']
        >>> "".join(llm.stream("Politics or science? The senate votes."))
        ' politics'
        >>> import asyncio
        >>> asyncio.run(llm.abatch(["Politics or science? The senate votes."], {"max_concurrency": 16}))
        [' politics']
    """

    # A variable that is empty counts as not set.
    base_url: str | Sequence[str] = Field(
        default_factory=lambda: os.environ.get("TGI_BASE_URL") or DEFAULT_BASE_URL, validate_default=True
    )
    api_key: SecretStr | None = Field(default_factory=secret_from_env("TGI_API_KEY", default=None))
    neutralize_images: bool = False
    scoring: Literal["auto", "masked", "raw", "prefill"] = "auto"

    _known: Known = PrivateAttr(default_factory=Known)

    @classmethod
    def from_endpoint(cls, endpoint: Any, **changes: Any) -> Self:
        """The LLM for the server that a `HuggingFaceEndpoint` of langchain-huggingface talks to.

        Taken over are the address (without the path of a route), the token if it was passed and not read from the
        environment, `max_new_tokens`, `stop_sequences`, `timeout`, and headers among its `server_kwargs`. A
        `SettingsWarning` names what is dropped: generation is greedy here. The endpoint itself sends a token of the
        environment (HF_TOKEN) to any host, even in place of the one that was passed; this LLM never does.

        Args:
            endpoint: The endpoint.
            **changes: Arguments that are to be others.

        Raises:
            ConfigurationError: It is no endpoint, or it names a model on the Hub and no server.
        """
        arguments, dropped = read_endpoint(endpoint)
        llm = cls(**{**arguments, **changes})
        if dropped:
            warn_caller(SettingsWarning, f"Settings of the endpoint were dropped: {', '.join(dropped)}.")
        return llm

    @property
    @override
    def shares_prefixes(self) -> bool:
        info = self._get_known().info.peek()
        version = None if info is None else wire.read_version(info.version)
        return version is None or version >= (2, 3, 0)

    if TYPE_CHECKING:

        @override
        def _get_known(self) -> Known: ...

    @override
    def _make_transport(self) -> Transport:
        return self._transport_for(
            retries_allowed=wire.retries_allowed,
            event_status=wire.event_status,
            unreachable_hint="start Text Generation Inference there, or set `base_url=` or TGI_BASE_URL.",
        )

    @property
    @override
    def _payload_limit(self) -> str:
        return "the server's --payload-limit"

    def _body(self, prompt: Prompt, stop: Sequence[str] | None, max_new_tokens: int | None) -> bytes:
        return self._sendable(
            wire.generate_body(
                self._spelled(str(prompt)),
                **self._generation_settings(stop, max_new_tokens),
            )
        )

    def _spelled(self, prompt: str) -> str:
        return wire.neutralize_images(prompt) if self.neutralize_images else prompt

    @override
    @on_one_server()
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        body = self._body(prompt, stop, max_new_tokens)
        limit = self._limit(max_new_tokens or self.max_new_tokens)
        # A prompt has no more tokens than bytes, and the body holds it and more.
        if limit is not None and len(body) > limit:
            await self._get_known().lengths.check(prompt, limit, self.acount_tokens)
        return wire.parse_generate(await self._transport.post("/generate", body))

    @override
    @streamed_by_one_server
    async def astream_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        async with self._transport.stream("/generate_stream", self._body(prompt, stop, max_new_tokens)) as events:
            if isinstance(events, Response):
                raise wire.parse_error(events)
            async with aclosing(events):
                async for event in events:
                    piece, whole = wire.parse_event(event)
                    yield piece
                    if whole is not None:
                        # What comes after the last event is none of the answer, and may never end.
                        return
            raise ResponseFormatError("The server's stream ended before the answer did.", status=200)

    def _limit(self, max_new_tokens: int) -> int | None:
        """Tokens that a prompt may have; None as long as the server has not told."""
        known = self._get_known()
        return known.lengths.limit(max_new_tokens, known.info.peek(), known.agreement)

    async def _check_room(self, prompt: Prompt, max_new_tokens: int) -> None:
        if (limit := self._limit(max_new_tokens)) is not None:
            await self._get_known().lengths.check(prompt, limit, self.acount_tokens)

    @override
    @on_one_server()
    async def acount_tokens(self, prompt: Prompt) -> int | None:
        tokens = await self.atokenize(str(prompt))
        return None if tokens is None else len(tokens)

    @on_one_server()
    async def atokenize(self, text: str) -> tuple[int, ...] | None:
        """Ids of a text's tokens with the special ones that the server adds; None if it does not tell."""
        # A vision model's server fetches images to count them, too.
        body = wire.tokenize_body(self._spelled(text))
        known = self._get_known()
        if not known.tokenizes:
            return None

        async def ask() -> tuple[int, ...] | None:
            return wire.parse_tokenize(await self._transport.post("/tokenize", body))

        try:
            ids = await ask_again(ask)
        except ResponseFormatError:
            # Another server's route of that name, as vLLM has one: it does not count for TGI's /generate.
            return None
        known.tokenizes = ids is not None
        return ids

    async def _ask_details(self, prompt: str, **wanted: Any) -> Details:
        """Ask for a generation with details; the keywords are `details_body`'s."""
        body = self._sendable(details_body(self._spelled(prompt), **wanted))
        return parse_details(await self._transport.post("/generate", body))

    async def _learn_details(self, prompt: str, **wanted: Any) -> Details:
        """As `_ask_details`, for what is concluded for all rows."""
        return await ask_again(lambda: self._ask_details(prompt, **wanted))

    @on_one_server(abilities=True)
    async def aabilities(self) -> Abilities:
        """What the server was seen to do, asked once, with a few requests of a token or two.

        Raises:
            ServerError: The server cannot be asked.
        """
        return await self._get_known().abilities.get(self._find_abilities)

    async def _find_abilities(self) -> Abilities:
        return await find_abilities(self._learn_details, wire.read_version((await self.ainfo()).version))

    async def _prompt_ids(self, text: str) -> tuple[int, ...] | None:
        """Ids of a prompt's tokens, asked once: labels come back in other company where each row has a shortlist."""
        return await self._get_known().ids.get(text, lambda: self._ask_ids(text))

    async def _ask_ids(self, text: str) -> tuple[int, ...] | None:
        """Ids of a prompt's tokens; old servers, which have no route for that, show them with their scores."""
        ids = await self.atokenize(text)
        if ids is None and (await self.aabilities()).prefill:
            details = await self._learn_details(text, max_new_tokens=1, prefill=True)
            ids = tuple(token.id for token in details.prefill)
        return ids

    async def _task(self, prompt: Prompt, answers: tuple[str, ...]) -> TaskLabels:
        """The labels on this server, settled once per task."""
        # What stands before the answer, where it is the same for all rows.
        context = (prompt.tail + prompt.after) or PROBE

        async def make() -> TaskLabels:
            way = None if self.scoring == "auto" else Way(self.scoring)
            return await settle(self._ask_details, self._prompt_ids, await self.aabilities(), context, answers, way)

        return await self._get_known().tasks.get((context, answers), make)

    @override
    @on_one_server(abilities=True)
    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        return (await self._task(prompt, answers)).methods

    @override
    @on_one_server(abilities=True)
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        task = await self._task(prompt, answers)
        await self._check_room(prompt, 1)
        return await task.score(str(prompt))

    @override
    @on_one_server(abilities=True)
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        task = await self._task(prompt, answers)
        await self._check_room(prompt, tokens_needed(answers))
        return await task.constrain(str(prompt))

    @override
    async def amodel_id(self) -> str | None:
        return (await self.ainfo()).model_id

    @override
    async def amodel_revision(self) -> str | None:
        return (await self.ainfo()).model_sha

    @on_one_server()
    async def ainfo(self) -> wire.ServerInfo:
        """What the server tells about itself, asked once; empty if it has no `/info`.

        Raises:
            ServerUnreachableError: No server answers.
        """
        return await self._get_known().info.get(self._ask_info)

    async def _ask_info(self) -> wire.ServerInfo:
        async def ask() -> wire.ServerInfo:
            return wire.parse_info(await self._transport.get("/info", optional=True))

        try:
            info = await ask_again(ask)
        except (RequestFailedError, AuthenticationError, EndpointNotFoundError) as error:
            if isinstance(error, RequestFailedError) and error.status is None:
                raise
            # What a gateway says is not the server's last word: whoever asks next asks again.
            self._get_known().info = Once()
            return wire.ServerInfo()
        if info.max_concurrent_requests:
            await self._transport.seed_limit(info.max_concurrent_requests)
        return info

    @override
    async def _atell_identity(self) -> dict[str, object]:
        info = await self.ainfo()
        told: dict[str, object] = {"the model": info.model_id, "the model's revision": info.model_sha}
        limits = {"max_input_tokens": info.max_input_tokens, "max_total_tokens": info.max_total_tokens}
        told |= {name: None if value is None else Limit(value) for name, value in limits.items()}
        return {name: value for name, value in told.items() if value is not None}

    @override
    async def _atell_abilities(self) -> dict[str, object]:
        return (await self.aabilities()).told

    @override
    @on_one_server()
    async def arender_chat(self, message: str) -> str | None:
        body = wire.chat_tokenize_body(message)

        async def ask() -> str | None:
            return wire.parse_chat_tokenize(await self._transport.post("/chat_tokenize", body))

        try:
            return await ask_again(ask)
        except (ServerError, ResponseFormatError):
            return None

    @property
    @override
    def _llm_type(self) -> str:
        return "text-generation-inference"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        return {"base_url": self.base_url, "max_new_tokens": self.max_new_tokens, "stop": self.stop}

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "TGI_API_KEY"}
