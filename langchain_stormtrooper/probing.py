"""What a TGI server can do, found out by asking it: for the `probe` command and for whoever sets up a server.

Few, short requests. Grammars are tried only where trying one cannot fail the requests of others (1.4.1 to 1.4.4 put
them in one batch). Nothing is changed anywhere; the result is data with sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.prompts import CHAT_MESSAGE, Preset, choose_preset
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.wire import grammar, tgi, tgi_details
from langchain_stormtrooper.wire.tgi_details import Details


class GrammarSupport(StrEnum):
    """What a server makes of a grammar."""

    ENFORCED = "enforced"
    IGNORED = "ignored"
    REFUSED = "refused"
    UNSAFE = "unsafe: mixed with requests without one it fails both"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What was found out about a server.

    Attributes:
        info: What the server tells about itself.
        counts_tokens: Whether it counts tokens without generating (`/tokenize`).
        renders_chat: Whether it applies its model's chat template (`/chat_tokenize`).
        top_tokens: Alternatives per step that it returns.
        prefill_scores: Whether it scores the tokens of a prompt.
        grammar: What it makes of a grammar.
        preset: The prompt that classifiers use there by default.
        method: The method that classifiers use there by default.
        reason: Why that method.
    """

    info: tgi.ServerInfo
    counts_tokens: bool
    renders_chat: bool
    top_tokens: int
    prefill_scores: bool
    grammar: GrammarSupport
    preset: str
    method: Method
    reason: str

    @property
    def advice(self) -> list[str]:
        """What to change on the server for better results, most important first."""
        return _advice(self)


_TOP_TOKENS = 5
_SHORT = "Answer:"


async def aprobe(llm: TextGenerationInference) -> ServerReport:
    """Find out what a server can do.

    Args:
        llm: The server.

    Raises:
        ServerError: It cannot be reached, refuses the key, or is no TGI server.
    """
    info = await llm.ainfo()
    plain = await llm.aask_details(tgi_details.details_body(_SHORT, max_new_tokens=1))
    counted = await llm.acount_text(_SHORT)
    rendered = await llm.arender_chat(CHAT_MESSAGE)
    top = await _try(llm, tgi_details.details_body(_SHORT, max_new_tokens=1, top_n_tokens=_TOP_TOKENS))
    prefill = await _try(llm, tgi_details.details_body(_SHORT, max_new_tokens=1, prefill=True))
    return ServerReport(
        info=info,
        counts_tokens=counted is not None,
        renders_chat=rendered is not None,
        top_tokens=len(top.top_tokens[0]) if top is not None and top.top_tokens else 0,
        # A seq2seq model shows its decoder's start token alone, without a score.
        prefill_scores=prefill is not None and any(token.logprob is not None for token in prefill.prefill),
        grammar=await _probe_grammar(llm, info, plain),
        preset=_preset(info, rendered).name,
        method=llm.methods[0],
        reason="labels are found in generated text; scoring on TGI servers is not part of this version",
    )


async def _try(llm: TextGenerationInference, body: bytes) -> Details | None:
    try:
        return await llm.aask_details(body)
    except (RequestFailedError, OverlongInputError):
        return None


async def _probe_grammar(llm: TextGenerationInference, info: tgi.ServerInfo, plain: Details) -> GrammarSupport:
    version = tgi.read_version(info.version)
    if version is None:
        return GrammarSupport.UNKNOWN
    if version <= (1, 4, 0):
        return GrammarSupport.IGNORED
    if version < (1, 4, 5):
        return GrammarSupport.UNSAFE
    # Neither answer is what the server says by itself, so that one of them can only come from the grammar.
    answers = [word for word in (" 7", " x", " Q") if word.strip() not in plain.text][:2]
    body = tgi_details.details_body(
        _SHORT, max_new_tokens=grammar.tokens_needed(answers), grammar=grammar.pattern(answers)
    )
    constrained = await _try(llm, body)
    if constrained is None:
        return GrammarSupport.REFUSED
    allowed = {word.strip() for word in answers}
    return GrammarSupport.ENFORCED if constrained.text.strip() in allowed else GrammarSupport.IGNORED


def _preset(info: tgi.ServerInfo, rendered: str | None) -> Preset:
    return choose_preset(info.model_id, renders_chat=rendered is not None)


def _advice(report: ServerReport) -> list[str]:
    advice: list[str] = []
    info = report.info
    version = tgi.read_version(info.version)
    if version is None:
        advice.append("Let /info through: limits, model and version cannot be read, so nothing can be adapted to them.")
    elif version < (1, 4, 5):
        advice.append("Update to TGI 2.3.0 or later: token counting, grammars that can be trusted, and prefix caching.")
    elif version < (2, 3, 0):
        advice.append("Update to TGI 2.3.0 or later: prefix caching saves most of the work of long prompts.")
    if report.grammar is GrammarSupport.REFUSED:
        advice.append("Start the server without --disable-grammar-support, so that answers can be kept to the labels.")
    if version is not None and version >= (3, 0, 0) and not report.prefill_scores:
        advice.append("Start the server with --enable-prefill-logprobs, so that labels of any length can be scored.")
    if not report.counts_tokens and version is not None and version >= (1, 4, 0):
        advice.append("Serve a model with a fast tokenizer: without one, too long texts lose their beginning silently.")
    if info.max_input_tokens is not None and info.max_input_tokens <= 1024:
        advice.append(f"Raise --max-input-tokens (now {info.max_input_tokens}) if texts or examples are long.")
    if info.max_concurrent_requests is not None and info.max_concurrent_requests < 32:
        advice.append(f"Raise --max-concurrent-requests (now {info.max_concurrent_requests}) for batches.")
    return advice
