"""What an OpenAI-compatible server can do, found out by asking it: for the `probe` command.

As `probing` is for TGI: few requests of a token or two, nothing is changed anywhere, and the result is data with
sentences. What classifiers would do is asked of the LLM itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from langchain_stormtrooper.errors import RowError
from langchain_stormtrooper.llms.abilities import PROBE
from langchain_stormtrooper.llms.openai import OpenAICompletions
from langchain_stormtrooper.llms.openai_abilities import Chooser, OpenAIAbilities
from langchain_stormtrooper.llms.remote import only_one
from langchain_stormtrooper.presets import choose_preset
from langchain_stormtrooper.probing import no_report, told, yes_no
from langchain_stormtrooper.prompts import CHAT_MESSAGE, Prompt
from langchain_stormtrooper.results import Method

_ANSWERS = (" politics", " science", " other")
_CHOOSERS: dict[Chooser, str] = {"logprob_token_ids": "logprob_token_ids", "score": "/v1/score"}


@dataclass(frozen=True, slots=True)
class OpenAIReport:
    """What was found out about a server.

    Attributes:
        model: The model that is asked.
        abilities: What the server was seen to do; None for a llama.cpp server, which can do all that is wanted.
        preset: The prompt that classifiers use there by default.
        method: The method that classifiers use there by default for a few labels.
    """

    model: str | None
    abilities: OpenAIAbilities | None
    preset: str
    method: Method

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What was found out, as names with values."""
        found = self.abilities
        first, last = ("model", told(self.model)), [("prompt preset", self.preset), ("method", self.method.value)]
        if found is None:
            return [first, ("server", "llama.cpp: it is asked over its own routes for exact probabilities"), *last]
        return [
            first,
            ("counts tokens", yes_no(found.tokenizes)),
            ("alternatives per step", str(found.general.top_tokens) if found.general.top_tokens else "none"),
            ("chosen tokens", "no" if found.chooser is None else f"by {_CHOOSERS[found.chooser]}"),
            ("scores of a prompt", yes_no(found.general.prefill)),
            ("constrained answers", "no" if found.constraint is None else f"by {found.constraint}"),
            *last,
        ]

    @property
    def advice(self) -> list[str]:
        """What to change for better results."""
        if self.method is Method.SCORE:
            return []
        return ["Let log-probabilities of tokens through (`logprobs`), so that labels can be scored."]


async def aprobe_openai(llm: OpenAICompletions) -> OpenAIReport:
    """Find out what a server can do.

    Args:
        llm: The server.

    Raises:
        ServerError: It cannot be reached, refuses the key, does not answer in time, or is no such server.
        ConfigurationError: It names no model, or the LLM is behind several servers.
    """
    only_one(llm.base_url)
    prompt = Prompt(before=PROBE)
    try:
        # Does it answer at all?
        await llm.agenerate_row(prompt, max_new_tokens=1)
        methods = await llm.amethods(prompt, _ANSWERS)
        model = await llm.amodel_id()
        rendered = await llm.arender_chat(CHAT_MESSAGE)
        return OpenAIReport(
            model=model,
            abilities=None if await llm.ais_llamacpp() else await llm.aabilities(),
            preset=choose_preset(model, renders_chat=rendered is not None).name,
            method=methods[0],
        )
    except RowError as error:
        raise no_report(error, "is it an OpenAI-compatible server?") from None
