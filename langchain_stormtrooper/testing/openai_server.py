"""`OpenAIServer`: an OpenAI-compatible server on a real socket, as vLLM, SGLang, llama.cpp or a gateway behaves.

It shows what these servers do differently with the same routes: what they drop silently, refuse, rename and limit,
around a scripted or a real model. It is none of them: it runs one request after the other, has no prefix cache and no
penalties, and must not face a network you do not trust. Start here; `testing.openai` holds its parts.

Modelled for vLLM (its sources of 2026 and answers of 0.32): completions, chat, streams, `prompt_logprobs`,
`logprob_token_ids`, `allowed_token_ids`, `structured_outputs`, `/tokenize`, `/detokenize`, `/generative_scoring`,
`/version`, errors. Not modelled: beam search, LoRA, tools, penalties, multimodal input, `/v1/responses`, metrics.
For SGLang (sources of 2026): completions, chat, `regex`, `ebnf`, `json_schema`, `/v1/score`, `/tokenize`,
`/get_model_info`. Not modelled: its native `/generate`, sessions, structural tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from langchain_stormtrooper.testing.config import ChatTemplate, Precision, default_chat_template
from langchain_stormtrooper.testing.faults import Fault, FaultPlan, Faults
from langchain_stormtrooper.testing.ledger import Counters, Permits, Record
from langchain_stormtrooper.testing.life import LivingServer
from langchain_stormtrooper.testing.listener import Address, Listener
from langchain_stormtrooper.testing.openai.front import Front
from langchain_stormtrooper.testing.openai.options import MAX_LOGPROBS, VERSIONS, Flavour, Options, numbers
from langchain_stormtrooper.testing.scripted import ScriptedEngine

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from langchain_stormtrooper.testing.engine import Engine

_BODY_LIMIT = 64 * 1024 * 1024


class OpenAIServer(LivingServer):
    """An OpenAI-compatible server of some flavour, on 127.0.0.1 and in its own thread.

    Use it as a context manager, plain or async, or call `start` and `close`. Prompts of token ids are turned into their
    text before the engine is asked; give a `ScriptedEngine` its `answer_after` where such prompts hold the beginning of
    an answer.

    Args:
        flavour: Whose behaviour to show: "vllm", "sglang", "llama.cpp" or "generic" (a gateway).
        engine: The model; without one, a `ScriptedEngine` that answers " ok".
        model_id: The model's name.
        version: The server's version; the flavour's usual one by default. vLLM words overlong prompts as that release
            does, and up to 0.31 wants room for the whole answer; SGLang before 0.5.12 renders no chats for `/tokenize`.
        api_key: The bearer token to ask for. vLLM asks for it under `/v1` only.
        max_model_len: The most tokens of prompt and answer together.
        max_logprobs: The most alternatives shown for a token; by default 20 for vLLM, 5 for gateways, no limit else.
        max_prompts: The most prompts in one request; None for no limit.
        max_concurrent_requests: Requests that may run at once; one more is answered 429. None for no limit.
        models: Whether there is `/v1/models`.
        completions: Whether there is `/v1/completions`.
        chat: Whether there is `/v1/chat/completions`.
        tokenize: Whether there are `/tokenize` and `/detokenize`; by default everywhere but on gateways.
        scores: Whether there is `/generative_scoring` (vLLM) or `/v1/score` (SGLang).
        logprobs: Whether log-probabilities are given; without, they are null whatever is asked for.
        drops: Fields of requests that are silently ignored.
        drops_logprob_token_ids: Whether `logprob_token_ids` is one of them, as in older releases.
        refuses_unknown: Whether a field that is not known is refused; by default only gateways do.
        matched_counts: Whether `logprobs` must equal the number of `logprob_token_ids`, as in some releases, so that
            its limit holds for them too; 0.32 only wants `logprobs` to be set.
        guided: Whether `guided_choice` and its kin are listened to and `structured_outputs` is ignored, instead of the
            other way round; by default in vLLM before 0.11.
        old_errors: Whether errors have the shape `{"object": "error", ...}`; by default in vLLM before 0.10.
        chat_template: Renders chat messages, given the messages and whether to end with the header of the answer; a
            ValueError is shown as the template's objection. None for a model without a template.
        precision: The number format that log-probabilities are rounded to.
        latency_per_request: Seconds each request takes before its first token.
        latency_per_token: Seconds each generated token takes.
        faults: What is to go wrong: a `Fault`, a `FaultPlan`, or a list of them. What TGI answers with 424 is a 500
            here, and its plain 422 a 400, in the flavour's own words.
        record: How many received requests to keep in `received`.
        host: The address to listen on.
        port: The port; 0 takes any free one.

    Raises:
        ValueError: If there is no such flavour, or an option does not fit it.

    Example:
        >>> from langchain_stormtrooper.testing import OpenAIServer, ScriptedEngine
        >>> with OpenAIServer("vllm", ScriptedEngine({"Is it good?": " positive"})) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        flavour: Flavour | Literal["vllm", "sglang", "llama.cpp", "generic"] = "vllm",
        engine: Engine | None = None,
        *,
        model_id: str = "stormtrooper/scripted",
        version: str | None = None,
        api_key: str | None = None,
        max_model_len: int = 2048,
        max_logprobs: int | None = None,
        max_prompts: int | None = 1024,
        max_concurrent_requests: int | None = None,
        models: bool = True,
        completions: bool = True,
        chat: bool = True,
        tokenize: bool | None = None,
        scores: bool = True,
        logprobs: bool = True,
        drops: Collection[str] = (),
        drops_logprob_token_ids: bool = False,
        refuses_unknown: bool | None = None,
        matched_counts: bool = False,
        guided: bool | None = None,
        old_errors: bool | None = None,
        chat_template: ChatTemplate | None = default_chat_template,
        precision: Precision = "float32",
        latency_per_request: float = 0.0,
        latency_per_token: float = 0.0,
        faults: Fault | FaultPlan | Sequence[Fault | FaultPlan] = (),
        record: int = 1000,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        flavour = Flavour(flavour)
        gateway = flavour is Flavour.GENERIC
        version = version if version is not None else VERSIONS[flavour]
        old = numbers(version) if flavour is Flavour.VLLM else (1,)
        dropped = {*drops, "logprob_token_ids"} if drops_logprob_token_ids else set(drops)
        self.options = Options(
            flavour=flavour,
            engine=engine if engine is not None else ScriptedEngine(),
            model_id=model_id,
            version=version,
            api_key=api_key,
            max_model_len=max_model_len,
            max_logprobs=max_logprobs if max_logprobs is not None else MAX_LOGPROBS[flavour],
            max_prompts=max_prompts,
            models=models,
            completions=completions,
            chat=chat,
            tokenize=not gateway if tokenize is None else tokenize,
            scores=scores,
            logprobs=logprobs,
            drops=frozenset(dropped),
            refuses_unknown=gateway if refuses_unknown is None else refuses_unknown,
            matched_counts=matched_counts,
            guided=old < (0, 11) if guided is None else guided,
            old_errors=old < (0, 10) if old_errors is None else old_errors,
            chat_template=chat_template,
            precision=precision,
            latency_per_request=latency_per_request,
            latency_per_token=latency_per_token,
        )
        self.faults = Faults([faults] if isinstance(faults, Fault | FaultPlan) else faults)
        self.counters = Counters()
        self._record = Record(record)
        self._permits = Permits(max_concurrent_requests or 10**9, self.counters)
        self._front = self._answers = Front(
            self.options, self._permits, self.counters, self.faults, self._record, self._go_away
        )
        self._host = host
        self._listener = Listener(self._front.handle, Address(host, port), _BODY_LIMIT)

    @override
    def _end(self) -> None:
        self._front.close()

    @property
    def engine(self) -> Engine:
        """The model."""
        return self.options.engine
