"""What a TGI server can do, found out by asking it: for the `probe` command and for whoever sets up a server.

Few, short requests. Grammars are tried only where trying one cannot fail the requests of others (1.4.1 to 1.4.4 put
them in one batch). Nothing is changed anywhere; the result is data with sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_stormtrooper.errors import RequestFailedError, RowError, ServerError
from langchain_stormtrooper.llms.abilities import NO_ABILITIES, PROBE, Abilities, GrammarSupport
from langchain_stormtrooper.llms.label_scoring import Way, choose_way
from langchain_stormtrooper.llms.label_tokens import LabelTokens
from langchain_stormtrooper.llms.remote import only_one
from langchain_stormtrooper.llms.task_labels import TaskLabels
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.llms.tgi_abilities import TOP_TOKENS
from langchain_stormtrooper.presets import choose_preset
from langchain_stormtrooper.prompts import CHAT_MESSAGE, Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.wire import tgi
from langchain_stormtrooper.wire.details import Details


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
        method: The method that classifiers use there by default for up to five labels that differ in their first token.
        reason: Why that method, and what is done for more labels.
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
    def lines(self) -> list[tuple[str, str]]:
        """What was found out, as names with values."""
        info = self.info
        return [
            ("model", told(info.model_id)),
            ("version", told(info.version)),
            ("longest prompt", f"{told(info.max_input_tokens)} tokens"),
            ("prompt and answer", f"{told(info.max_total_tokens)} tokens"),
            ("requests at once", told(info.max_concurrent_requests)),
            ("counts tokens", yes_no(self.counts_tokens)),
            ("chat template", yes_no(self.renders_chat)),
            ("alternatives per step", str(self.top_tokens) if self.top_tokens else "none"),
            ("scores of a prompt", yes_no(self.prefill_scores)),
            ("grammar", self.grammar.value),
            ("prompt preset", self.preset),
            ("method", f"{self.method.value}: {self.reason}"),
        ]

    @property
    def advice(self) -> list[str]:
        """What to change on the server for better results, most important first."""
        return _advice(self)


def told(value: object) -> str:
    """What a server tells, or that it does not."""
    return "not told" if value is None else str(value)


def yes_no(value: bool) -> str:
    """A yes or a no."""
    return "yes" if value else "no"


_FEW, _MANY = 5, 100
"""Numbers of labels for which the report tells what classifiers do."""

_REASONS = {
    Way.MASKED: "a grammar leaves only the labels, so the likeliest first tokens are theirs: one request for up to "
    "{top} labels, one more for every {more}",
    Way.RAW: "the likeliest next tokens are shown, though not under a grammar: one request for up to {top} labels",
    Way.PREFILL: "the tokens of a prompt are scored, so each label can be: one request per label",
}

_WORDS = ("no", "one", "two", "three", "four", "five")

_BEYOND = {
    Method.SCORE: "labels are scored",
    Method.CONSTRAIN: "one generation under a grammar",
    Method.GENERATE: "generated text is matched",
}

_WITHOUT_SCORES = {
    Method.CONSTRAIN: "a grammar keeps a generation within the labels, but its alternatives do not suffice for scores",
    Method.GENERATE: "too little of the model's probabilities is shown to score labels, and no grammar is known to be "
    "enforced, so labels can only be found in generated text",
}


async def aprobe(llm: TextGenerationInference) -> ServerReport:
    """Find out what a server can do.

    Args:
        llm: The server.

    Raises:
        ServerError: It cannot be reached, refuses the key, does not answer in time, or is no TGI server.
        ConfigurationError: The LLM is behind several servers.
    """
    only_one(llm.base_url)
    try:
        return await _find_out(llm)
    except RowError as error:
        raise no_report(error, "is it a Text Generation Inference server?") from None


def no_report(error: RowError, question: str) -> ServerError:
    """The error of a probe, made of what fails one row elsewhere and leaves nothing to report here."""
    message = str(error)
    if ": " not in message:
        retryable = isinstance(error, RequestFailedError) and error.is_retryable
        hint = "try again, or look into its log." if retryable else question
        message = f"{message.rstrip('.')}: {hint}"
    return ServerError(message)


async def _find_out(llm: TextGenerationInference) -> ServerReport:
    info = await llm.ainfo()
    abilities = await llm.aabilities()
    if abilities == NO_ABILITIES:
        # Does it answer at all?
        await llm.agenerate_row(Prompt(before=PROBE), max_new_tokens=1)
    counted = await llm.acount_tokens(Prompt(before=PROBE))
    rendered = await llm.arender_chat(CHAT_MESSAGE)
    method, reason = _choices(abilities, tells_tokens=counted is not None or abilities.prefill)
    return ServerReport(
        info=info,
        counts_tokens=counted is not None,
        renders_chat=rendered is not None,
        top_tokens=abilities.top_tokens,
        prefill_scores=abilities.prefill,
        grammar=abilities.grammar,
        preset=choose_preset(info.model_id, renders_chat=rendered is not None).name,
        method=method,
        reason=reason,
    )


def _choices(abilities: Abilities, *, tells_tokens: bool) -> tuple[Method, str]:
    """What classifiers take for a few labels, and why; what for more."""
    tasks = {number: _labels(abilities, number, tells_tokens=tells_tokens) for number in range(2, _MANY + 1)}
    few, most = tasks[_FEW], max((n for n, task in tasks.items() if task.methods[0] is Method.SCORE), default=0)
    many = tasks[_MANY].methods[0]
    if few.methods[0] is Method.SCORE and few.way is not None:
        beyond = f"; {_BEYOND[many]} for more than {most}" if most < _MANY else ""
        top = abilities.top_tokens
        return Method.SCORE, _REASONS[few.way].format(top=_WORDS[top], more=_WORDS[max(1, top - 1)]) + beyond
    return few.methods[0], _WITHOUT_SCORES[few.methods[0]]


def _labels(abilities: Abilities, number: int, *, tells_tokens: bool) -> TaskLabels:
    """So many labels that differ in their first token."""
    tokens = LabelTokens(tuple((index,) for index in range(number)), (1,) * number) if tells_tokens else None
    return TaskLabels(_unasked, abilities, ("",) * number, tokens, choose_way(abilities, tokens, number))


async def _unasked(prompt: str, **wanted: object) -> Details:
    raise AssertionError("a report is made of what was asked before")


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
    if version is not None and report.top_tokens < TOP_TOKENS:
        gain = "fewer requests score the labels" if report.top_tokens >= 2 else "labels can be scored"
        advice.append(
            f"Start the server with --max-top-n-tokens {TOP_TOKENS} (now {report.top_tokens}), so that {gain}."
        )
    if not report.counts_tokens and version is not None and version >= (1, 4, 0):
        advice.append("Serve a model with a fast tokenizer: without one, too long texts lose their beginning silently.")
    if info.max_input_tokens is not None and info.max_input_tokens <= 1024:
        advice.append(f"Raise --max-input-tokens (now {info.max_input_tokens}) if texts or examples are long.")
    if info.max_concurrent_requests is not None and info.max_concurrent_requests < 32:
        advice.append(f"Raise --max-concurrent-requests (now {info.max_concurrent_requests}) for batches.")
    return advice
