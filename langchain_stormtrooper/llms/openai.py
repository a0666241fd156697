"""`OpenAICompletions`: the LLM behind an OpenAI-compatible server, such as vLLM, SGLang, llama.cpp's or a gateway.

It joins the protocol (`wire.openai`), what the server was seen to do (`openai_abilities`) and the transport. A
llama.cpp server is asked over its own routes by `llamacpp_client`, as the one in the process is. LangChain's faces are
`base`'s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, cast

from langchain_core.utils import secret_from_env
from pydantic import Field, PrivateAttr, SecretStr, field_validator
from typing_extensions import override

from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    RequestFailedError,
    ResponseFormatError,
    ServerError,
)
from langchain_stormtrooper.llms import remote
from langchain_stormtrooper.llms.abilities import PROBE, Chosen
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.llms.connection_settings import check_base_url
from langchain_stormtrooper.llms.label_scoring import Way
from langchain_stormtrooper.llms.llamacpp_client import LlamaCppClient
from langchain_stormtrooper.llms.openai_abilities import Chooser, OpenAIAbilities, find_abilities
from langchain_stormtrooper.llms.task_labels import TaskLabels, settle
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import END, Branch, LabelScores
from langchain_stormtrooper.tasks import Once, run_all
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Generated, Response, llamacpp
from langchain_stormtrooper.wire import openai as wire
from langchain_stormtrooper.wire import openai_details as details_wire
from langchain_stormtrooper.wire.details import Details

DEFAULT_BASE_URL = "http://127.0.0.1:8000"

_TASKS_KEPT = 64
_MOST_CHOSEN = 20
"""Tokens that can be asked for by id in one request, unless a server is told otherwise (vLLM's --max-logprobs)."""


class _Known(remote.Known):
    """The way to the server and what it has told.

    Attributes:
        model: The model that is asked.
        llamacpp: Who asks a llama.cpp server; None if it is another.
        abilities: What the server was seen to do.
        ends: Tokens that end an answer.
        tasks: How the labels of a task are scored, by the end of the prompt and the labels.
        vocabulary: Numbers for tokens that come without.
    """

    __slots__ = ("abilities", "ends", "llamacpp", "model", "tasks", "vocabulary")

    def __init__(self) -> None:
        super().__init__()
        self.model: Once[wire.Model] = Once()
        self.llamacpp: Once[LlamaCppClient | None] = Once()
        self.abilities: Once[OpenAIAbilities] = Once()
        self.ends: Once[tuple[int, ...]] = Once()
        self.tasks: dict[tuple[str, tuple[str, ...]], Once[TaskLabels]] = {}
        self.vocabulary = details_wire.Vocabulary()


class OpenAICompletions(remote.RemoteLLM):
    """LLM behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp's server, TGI from 1.4.4 on, and others.

    Generation is greedy. A batch is concurrent, up to `max_concurrency` requests in flight, and its rows are
    independent. Connections are opened at the first call, kept per event loop, and closed when the loop ends.

    Classifiers score labels by the best that the server is seen to do, which is tried once and never taken from its
    word: the probabilities of just the labels' tokens (vLLM's `logprob_token_ids`, SGLang's `/v1/score`, llama.cpp's
    biased tokens), the scores of prompts that end with a label (`echo`), or the likeliest next tokens (`logprobs`).

    Setup:
        Start a server, for instance `vllm serve Qwen/Qwen3-4B-Instruct-2507` or `llama-server -m model.gguf`.

    Key init args:
        base_url: Where the server listens, with or without `/v1`. Default: the environment variable
            OPENAI_COMPATIBLE_BASE_URL, else http://127.0.0.1:8000.
        model: The model's name. Default: the first that `/v1/models` lists.
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

    Instantiate:
        ```python
        from langchain_stormtrooper import OpenAICompletions

        llm = OpenAICompletions(base_url="http://127.0.0.1:8000", max_new_tokens=16)
        ```

    Invoke:
        ```python
        llm.invoke("The capital of France is")
        llm.batch(["One prompt", "Another prompt"])
        ```
    """

    # A variable that is empty counts as not set.
    base_url: str = Field(
        default_factory=lambda: os.environ.get("OPENAI_COMPATIBLE_BASE_URL") or DEFAULT_BASE_URL, validate_default=True
    )
    api_key: SecretStr | None = Field(default_factory=secret_from_env("OPENAI_COMPATIBLE_API_KEY", default=None))
    model: str | None = None
    api: Literal["completions", "chat"] = "completions"
    scoring: Literal["auto", "chosen", "raw", "prefill"] = "auto"

    _known: _Known = PrivateAttr(default_factory=_Known)

    @field_validator("base_url")
    @classmethod
    def _drop_version(cls, value: str) -> str:
        # Users of OpenAI's client write it with the version; other routes of these servers stand beside it.
        return check_base_url(check_base_url(value).removesuffix("/v1"))

    @override
    def _get_known(self) -> _Known:
        return cast("_Known", super()._get_known())

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
            raise ConfigurationError("The server lists no model: set `model=` to the name that it wants.")
        return wire.Model(self.model)

    async def _llamacpp(self) -> LlamaCppClient | None:
        return await self._get_known().llamacpp.get(self._find_llamacpp)

    async def _find_llamacpp(self) -> LlamaCppClient | None:
        if self.api == "chat" or (await self._amodel()).owner != "llamacpp":
            return None
        n_ctx = llamacpp.parse_n_ctx(await self._transport.get("/props"))
        return None if n_ctx is None else LlamaCppClient(self._transport, n_ctx)

    @override
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
    async def acount_tokens(self, prompt: Prompt) -> int | None:
        if (client := await self._llamacpp()) is not None:
            return len(await client.prompt_tokens(prompt))
        ids = None if self.api == "chat" else await self._ids(str(prompt))
        return None if ids is None else len(ids)

    async def _ids(self, text: str, *, start: bool = True) -> tuple[int, ...] | None:
        """Token ids of a text as a prompt; None if the server does not tell."""
        body = self._sendable(wire.tokenize_body((await self._amodel()).id, text, start=start))

        async def ask() -> tuple[int, ...] | None:
            return wire.parse_tokenize(await self._transport.post("/tokenize", body))

        try:
            # No text has no tokens: who says so reads another field.
            return await ask_again(ask) or None
        except (ResponseFormatError, ServerError):
            return None  # a route of that name with another protocol, such as TGI's

    async def _ask_details(self, prompt: str, **wanted: Any) -> Details:
        known = self._get_known()
        model = (await self._amodel()).id
        body = self._sendable(details_wire.details_body(self._path, model, prompt, **wanted))
        ends = known.ends.peek() or ()
        return details_wire.parse_details(await self._transport.post(self._path, body), known.vocabulary, ends)

    async def aabilities(self) -> OpenAIAbilities:
        """What the server was seen to do, asked once, with a few requests of a token or two.

        Raises:
            ServerError: The server cannot be asked.
        """
        return await self._get_known().abilities.get(self._find_abilities)

    async def ais_llamacpp(self) -> bool:
        """Whether it is a llama.cpp server, which is asked over its own routes."""
        return await self._llamacpp() is not None

    async def _find_abilities(self) -> OpenAIAbilities:
        async def ask(prompt: str, **wanted: Any) -> Details:
            return await ask_again(partial(self._ask_details, prompt, **wanted))

        async def choose(chooser: Chooser, prompt: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
            shares, _ = await ask_again(partial(self._choose, chooser, prompt, [()], tokens))
            return shares[0]

        return await find_abilities(ask, self._ids, choose, chat=self.api == "chat")

    async def _choose(
        self, chooser: Chooser, prompt: Sequence[int], prefixes: Sequence[Sequence[int]], tokens: Sequence[int]
    ) -> tuple[list[dict[int, float]], int | None]:
        """Probabilities of tokens after the prompt and each prefix."""
        model = (await self._amodel()).id
        if chooser == "score":
            body = self._sendable(details_wire.score_body(model, prompt, prefixes, tokens))
            response = await self._transport.post(details_wire.SCORE, body)
            return details_wire.parse_score(response, len(prefixes), tokens), None
        prompts = [(*prompt, *prefix) for prefix in prefixes]
        body = self._sendable(details_wire.chosen_body(model, prompts, tokens))
        return details_wire.parse_chosen(await self._transport.post(wire.COMPLETIONS, body), len(prompts), tokens)

    async def _ask_chosen(self, chooser: Chooser, prompt: str, branches: Sequence[Branch]) -> Chosen:
        ids = await self._ids(prompt)
        if not ids:
            raise ResponseFormatError("The server did not cut the prompt into tokens, as it did before.", status=200)
        ends = await self._get_known().ends.get(self._find_ends)
        wanted = sorted(
            {token for branch in branches for token in branch.children if token != END}
            | {token for branch in branches if END in branch.children for token in ends}
        )
        groups = [wanted[start : start + _MOST_CHOSEN] for start in range(0, len(wanted), _MOST_CHOSEN)]
        prefixes = [branch.prefix for branch in branches]
        answers = await run_all(lambda tokens: self._choose(chooser, ids, prefixes, tokens), groups)
        found: list[dict[int, float]] = [{} for _ in branches]
        for shares, _ in answers:
            for of_branch, more in zip(found, shares, strict=True):
                of_branch.update(more)
        return Chosen(
            [
                {
                    child: sum(shares[end] for end in ends if end not in branch.children)
                    if child == END
                    else shares[child]
                    for child in branch.children
                }
                for branch, shares in zip(branches, found, strict=True)
            ],
            prompt_tokens=len(ids),
            generated_tokens=len(groups) * len(branches),
        )

    async def _find_ends(self) -> tuple[int, ...]:
        """The tokens that end a label which starts another: a line break, and the end of the generation."""
        cut = await run_all(lambda text: self._ids(text, start=False), ("\n", *details_wire.END_TEXTS))
        return tuple(dict.fromkeys(ids[0] for ids in cut if ids is not None and len(ids) == 1))

    async def _learn_token(self, token: int) -> None:
        if token == END:
            return
        body = wire.detokenize_body((await self._amodel()).id, [token])
        text = wire.parse_detokenize(await self._transport.post("/detokenize", body))
        if text:
            self._get_known().vocabulary.learn(text, token)

    async def _prompt_ids(self, text: str) -> tuple[int, ...] | None:
        """Ids of a prompt's tokens; servers without a route for that show them with their scores, or not at all."""
        abilities = await self.aabilities()
        if abilities.tokenizes:
            return await self._ids(text)
        if not abilities.general.prefill:
            return None
        details = await ask_again(partial(self._ask_details, text, max_new_tokens=1, prefill=True))
        return tuple(token.id for token in details.prefill)

    async def _task(self, prompt: Prompt, answers: tuple[str, ...]) -> TaskLabels:
        """The labels on this server, settled once per task."""
        # What stands before the answer, where it is the same for all rows.
        context = (prompt.tail + prompt.after) or PROBE
        known = self._get_known()
        if (context, answers) not in known.tasks and len(known.tasks) >= _TASKS_KEPT:
            known.tasks.clear()

        async def make() -> TaskLabels:
            abilities = await self.aabilities()
            if abilities.tokenizes:
                await known.ends.get(self._find_ends)
            task = await settle(
                partial(self._ask_details, constraint=abilities.constraint, ids=abilities.ids),
                self._prompt_ids,
                abilities.general,
                context,
                answers,
                None if self.scoring == "auto" else Way(self.scoring),
                None if abilities.chooser is None else partial(self._ask_chosen, abilities.chooser),
            )
            if task.way is Way.RAW and task.tokens is not None and abilities.tokenizes and not abilities.ids:
                # Alternatives will be shown as texts: those of the labels' tokens must be known.
                await run_all(self._learn_token, (*task.tokens.ids, *task.tokens.aliases))
            return task

        return await known.tasks.setdefault((context, answers), Once()).get(make)

    @override
    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        if (client := await self._llamacpp()) is not None:
            writes = await client.can_write(answers)
            return (Method.SCORE, *((Method.CONSTRAIN,) if writes else ()), Method.GENERATE)
        return (await self._task(prompt, answers)).methods

    @override
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        if (client := await self._llamacpp()) is not None:
            return await client.score(prompt, answers)
        return await (await self._task(prompt, answers)).score(str(prompt))

    @override
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        if (client := await self._llamacpp()) is not None:
            return await client.constrain(prompt, answers)
        return await (await self._task(prompt, answers)).constrain(str(prompt))

    @override
    async def amodel_id(self) -> str | None:
        return (await self._amodel()).id

    @override
    async def arender_chat(self, message: str) -> str | None:
        if self.api == "chat":
            return None
        if (client := await self._llamacpp()) is not None:
            return await client.render_chat(message)
        model = (await self._amodel()).id
        body = wire.chat_tokenize_body(model, message)

        async def ask() -> str | None:
            ids = wire.parse_tokenize(await self._transport.post("/tokenize", body))
            if ids is None:
                return None
            return wire.parse_detokenize(await self._transport.post("/detokenize", wire.detokenize_body(model, ids)))

        try:
            rendered = await ask_again(ask)
        except (ServerError, ResponseFormatError, ConfigurationError, RequestFailedError):
            return None
        # A template that changes the message cannot be filled in.
        return rendered if rendered is not None and message in rendered else None

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
