"""`TGIServer`: a Text Generation Inference server on a real socket, for tests and laptops.

It reproduces the wire behaviour of every released TGI from 1.0.3 to 3.3.7 around a scripted or a real model. It is not
TGI: it batches only in name, computes no attention, and must not face a network you do not trust. Start here; the other
modules of the package are its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from langchain_stormtrooper.testing.config import ChatTemplate, Config, Precision, default_chat_template
from langchain_stormtrooper.testing.faults import Fault, FaultPlan, Faults
from langchain_stormtrooper.testing.ledger import Counters, Permits, Record
from langchain_stormtrooper.testing.life import LivingServer
from langchain_stormtrooper.testing.listener import Address, Listener
from langchain_stormtrooper.testing.routes import Routes
from langchain_stormtrooper.testing.scripted import ScriptedEngine
from langchain_stormtrooper.testing.service import Service
from langchain_stormtrooper.testing.shard import Shard
from langchain_stormtrooper.testing.versions import Family, Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_stormtrooper.testing.engine import Engine


class TGIServer(LivingServer):
    """A TGI server of any released version, on 127.0.0.1 and in its own thread.

    Use it as a context manager, plain or async, or call `start` and `close`.

    Args:
        version: The release to imitate, "1.0.3" to "3.3.7".
        engine: The model; without one, a `ScriptedEngine` that answers " ok".
        family: How the model is run: "flash" (most causal models on a GPU), "padded" or "seq2seq" (T5).
        max_input_tokens: The longest allowed prompt, in tokens, inclusive.
        max_total_tokens: The most tokens of prompt and answer together, inclusive.
        max_concurrent_requests: The number of permits; one more request is answered 429.
        max_best_of: The largest allowed `best_of`.
        max_stop_sequences: The most stop sequences a request may have.
        max_top_n_tokens: The largest allowed `top_n_tokens`.
        max_client_batch_size: The most prompts in one completions request.
        api_key: The bearer token to ask for (2.3.0 and later).
        grammar: Whether grammars are supported; False is `--disable-grammar-support`.
        prefix_caching: Whether flash models reuse prefixes (2.3.0 and later).
        prefill_logprobs: Whether flash models of 3.x return prefill scores: `--enable-prefill-logprobs`.
        latency_per_request: Seconds each request takes before its first token.
        latency_per_token: Seconds each generated token takes.
        latency_per_prompt_token: Seconds each prompt token takes that is not in the prefix cache.
        batch_window: Seconds that requests are gathered into one batch, whose members fail together; 0 runs each at
            once.
        model_id: What `/info` shows.
        pipeline_tag: The hub's tag of the model, which decides whether `/` returns the full text; "auto" is the
            family's usual one, None that of a local directory.
        has_tokenizer: Whether the model has a fast tokenizer; without one, versions up to 2.4.0 cannot count tokens.
        chat_template: Renders chat messages, given the messages and whether to end with the header of the answer; a
            ValueError is shown as the template's objection. None for a model without a template.
        messages_api: Whether `/invocations` of 1.4.0 to 2.3.1 takes chat bodies.
        precision: The number format that log-probabilities are rounded to.
        sentencepiece: Whether top tokens and prefill tokens are shown without their leading space, as TGI shows them
            for Llama 2, Mistral and T5; generated tokens always keep it.
        keepalive: Seconds of silence after which a stream sends a comment.
        faults: What is to go wrong: a `Fault`, a `FaultPlan`, or a list of them.
        record: How many received requests to keep in `received`.
        host: The address to listen on.
        port: The port; 0 takes any free one.

    Example:
        >>> from langchain_stormtrooper.testing import ScriptedEngine, TGIServer
        >>> with TGIServer("2.4.1", ScriptedEngine({"Is it good?": " positive"})) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        version: str = "3.3.7",
        engine: Engine | None = None,
        *,
        family: Family | Literal["flash", "padded", "seq2seq"] = "flash",
        max_input_tokens: int = 1024,
        max_total_tokens: int = 2048,
        max_concurrent_requests: int = 128,
        max_best_of: int = 2,
        max_stop_sequences: int = 4,
        max_top_n_tokens: int = 5,
        max_client_batch_size: int = 4,
        api_key: str | None = None,
        grammar: bool = True,
        prefix_caching: bool = True,
        prefill_logprobs: bool = False,
        latency_per_request: float = 0.0,
        latency_per_token: float = 0.0,
        latency_per_prompt_token: float = 0.0,
        batch_window: float = 0.0,
        model_id: str = "stormtrooper/scripted",
        pipeline_tag: str | None = "auto",
        has_tokenizer: bool = True,
        chat_template: ChatTemplate | None = default_chat_template,
        messages_api: bool = False,
        precision: Precision = "float32",
        sentencepiece: bool = False,
        keepalive: float = 15.0,
        faults: Fault | FaultPlan | Sequence[Fault | FaultPlan] = (),
        record: int = 1000,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        family = Family(family)
        if pipeline_tag == "auto":
            pipeline_tag = "text2text-generation" if family is Family.SEQ2SEQ else "text-generation"
        self.config = Config(
            release=Release.of(version),
            engine=engine if engine is not None else ScriptedEngine(),
            family=family,
            max_input_tokens=max_input_tokens,
            max_total_tokens=max_total_tokens,
            max_concurrent_requests=max_concurrent_requests,
            max_best_of=max_best_of,
            max_stop_sequences=max_stop_sequences,
            max_top_n_tokens=max_top_n_tokens,
            max_client_batch_size=max_client_batch_size,
            api_key=api_key,
            grammar=grammar,
            prefix_caching=prefix_caching,
            prefill_logprobs=prefill_logprobs,
            latency_per_request=latency_per_request,
            latency_per_token=latency_per_token,
            latency_per_prompt_token=latency_per_prompt_token,
            batch_window=batch_window,
            model_id=model_id,
            pipeline_tag=pipeline_tag,
            has_tokenizer=has_tokenizer,
            chat_template=chat_template,
            messages_api=messages_api,
            precision=precision,
            sentencepiece=sentencepiece,
            keepalive=keepalive,
        )
        self.faults = Faults([faults] if isinstance(faults, Fault | FaultPlan) else faults)
        self.counters = Counters()
        self._record = Record(record)
        self._permits = Permits(max_concurrent_requests, self.counters)
        self._shard = Shard(self.config, self.counters)
        service = Service(self.config, self._permits, self._shard)
        self._answers = Routes(self.config, service, self.counters, self.faults, self._record, self._go_away)
        self._host = host
        self._listener = Listener(self._answers.handle, Address(host, port), self.config.release.payload_limit)

    @override
    def _end(self) -> None:
        self._shard.close()

    @override
    def _forget(self) -> None:
        self._shard.forget()

    @override
    def reset(self) -> None:
        super().reset()
        self._shard.counters = self.counters

    @property
    def engine(self) -> Engine:
        """The model."""
        return self.config.engine
