"""What is asked of an OpenAI-compatible server for labels: tokens, log-probabilities, chosen tokens.

It joins the protocol (`wire.openai`, `wire.openai_details`) and what the server was seen to do (`openai_abilities`),
and knows no LangChain. `OpenAICompletions` calls it, as it calls `llamacpp_client` for a llama.cpp server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError, ResponseFormatError, ServerError
from langchain_stormtrooper.llms.abilities import Chosen
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.label_scoring import Way
from langchain_stormtrooper.llms.openai_abilities import Chooser, OpenAIAbilities, find_abilities
from langchain_stormtrooper.llms.task_labels import TaskLabels, settle
from langchain_stormtrooper.scoring import END, Branch
from langchain_stormtrooper.tasks import Once, OnceEach, run_all
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import openai as wire
from langchain_stormtrooper.wire import openai_details as details_wire
from langchain_stormtrooper.wire.details import Details

_TASKS_KEPT = 64
_IDS_KEPT = 4096
_MOST_CHOSEN = 20
"""Tokens to ask for by id in one request: older vLLM takes as many as it shows alternatives (--max-logprobs)."""


class OpenAIClient:
    """Asks one server about one model.

    Args:
        transport: The way there.
        model: The model's name.
        path: The route for prompts, `COMPLETIONS` or `CHAT`.
        sendable: Refuses bodies that are too large for the server.
    """

    def __init__(self, transport: Transport, model: str, path: str, sendable: Callable[[bytes], bytes]) -> None:
        self._transport = transport
        self._model = model
        self._path = path
        self._sendable = sendable
        self._abilities: Once[OpenAIAbilities] = Once()
        self._ends: Once[tuple[int, ...]] = Once()
        self._known_ids: OnceEach[str, tuple[int, ...] | None] = OnceEach(_IDS_KEPT)
        self._tasks: OnceEach[tuple[str, tuple[str, ...], Way | None], TaskLabels] = OnceEach(_TASKS_KEPT)
        self._vocabulary = details_wire.Vocabulary()

    async def ids(self, text: str, *, start: bool = True) -> tuple[int, ...] | None:
        """Token ids of a text; None if the server does not tell.

        Args:
            text: The text.
            start: Whether it is a prompt, before which the model may want a token of its own.
        """
        body = self._sendable(wire.tokenize_body(self._model, text, start=start))

        async def ask() -> tuple[int, ...] | None:
            return wire.parse_tokenize(await self._transport.post("/tokenize", body))

        try:
            # No text has no tokens: who says so reads another field.
            return await ask_again(ask) or None
        except (ResponseFormatError, ServerError):
            return None  # a route of that name with another protocol
        except RequestFailedError as error:
            if error.status != 422:
                raise
            return None  # TGI's, which wants another body

    async def _ask_details(self, prompt: str, **wanted: Any) -> Details:
        """Ask for a generation with details; the keywords are those of `wire.openai_details.details_body`."""
        body = self._sendable(details_wire.details_body(self._path, self._model, prompt, **wanted))
        response = await self._transport.post(self._path, body)
        return details_wire.parse_details(response, self._vocabulary, self._ends.peek() or ())

    async def abilities(self) -> OpenAIAbilities:
        """What the server was seen to do, asked once, with a few requests of a token or two.

        Raises:
            ServerError: The server cannot be asked.
        """
        return await self._abilities.get(self._find_abilities)

    async def _find_abilities(self) -> OpenAIAbilities:
        async def ask(prompt: str, **wanted: Any) -> Details:
            return await ask_again(partial(self._ask_details, prompt, **wanted))

        async def choose(chooser: Chooser, prompt: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
            shares, _ = await ask_again(partial(self._choose, chooser, prompt, [()], tokens))
            return shares[0]

        return await find_abilities(ask, self.ids, choose, chat=self._path == wire.CHAT)

    async def _choose(
        self, chooser: Chooser, prompt: str | Sequence[int], prefixes: Sequence[Sequence[int]], tokens: Sequence[int]
    ) -> tuple[list[dict[int, float]], int | None]:
        """Probabilities of tokens after the prompt and each prefix, and the tokens of all these prompts together."""
        if chooser == "score":
            assert not isinstance(prompt, str)  # noqa: S101  # it goes on with tokens
            body = self._sendable(details_wire.score_body(self._model, prompt, prefixes, tokens))
            response = await self._transport.post(details_wire.SCORE, body)
            return details_wire.parse_score(response, len(prefixes), tokens), None
        prompts = [prompt if isinstance(prompt, str) else (*prompt, *prefix) for prefix in prefixes]
        body = self._sendable(details_wire.chosen_body(self._model, prompts, tokens))
        return details_wire.parse_chosen(await self._transport.post(wire.COMPLETIONS, body), len(prompts), tokens)

    async def _ask_chosen(self, chooser: Chooser, prompt: str, branches: Sequence[Branch]) -> Chosen:
        """The children of branches of the labels' trie; see `AskChosen`."""
        prefixes = [branch.prefix for branch in branches]
        after: str | Sequence[int] | None = prompt
        if chooser == "score" or any(prefixes):
            # What goes on from a prompt is tokens, since a text could be cut in another way.
            after = await self.ids(prompt)
        if not after:
            raise ResponseFormatError("The server did not cut the prompt into tokens, as it did before.", status=200)
        prompt_of: str | Sequence[int] = after
        ends = await self._ends.get(self._find_ends)
        wanted = sorted(
            {token for branch in branches for token in branch.children if token != END}
            | {token for branch in branches if END in branch.children for token in ends}
        )
        groups = [wanted[start : start + _MOST_CHOSEN] for start in range(0, len(wanted), _MOST_CHOSEN)]
        answers = await run_all(lambda tokens: self._choose(chooser, prompt_of, prefixes, tokens), groups)
        found: list[dict[int, float]] = [{} for _ in branches]
        for shares, _ in answers:
            for of_branch, more in zip(found, shares, strict=True):
                of_branch.update(more)

        def share(branch: Branch, shares: dict[int, float], child: int) -> float:
            return sum(shares[end] for end in ends if end not in branch.children) if child == END else shares[child]

        return Chosen(
            [
                {child: share(branch, shares, child) for child in branch.children}
                for branch, shares in zip(branches, found, strict=True)
            ],
            prompt_tokens=answers[0][1] if isinstance(after, str) else len(after),
            generated_tokens=len(groups) * len(branches),
        )

    async def _find_ends(self) -> tuple[int, ...]:
        """The tokens that end a label which starts another: a line break, and the end of the generation."""
        cut = await run_all(lambda text: self.ids(text, start=False), ("\n", *details_wire.END_TEXTS))
        return tuple(dict.fromkeys(ids[0] for ids in cut if ids is not None and len(ids) == 1))

    async def _learn_token(self, token: int) -> None:
        """Find out how a token will be shown where it is shown as a text."""
        if token == END:
            return
        if text := await self._text([token]):
            self._vocabulary.learn(text, token)

    async def _text(self, tokens: Sequence[int]) -> str | None:
        """The text of tokens, special ones included; None if the server does not tell."""
        body = wire.detokenize_body(self._model, tokens)
        return wire.parse_detokenize(await self._transport.post("/detokenize", body))

    async def _prompt_ids(self, text: str) -> tuple[int, ...] | None:
        """Ids of a prompt's tokens, asked once: labels come back in other company where each row has a shortlist."""
        return await self._known_ids.get(text, lambda: self._ask_ids(text))

    async def _ask_ids(self, text: str) -> tuple[int, ...] | None:
        """Ids of a prompt's tokens; servers without a route for that show them with their scores, or not at all."""
        abilities = await self.abilities()
        if abilities.tokenizes:
            return await self.ids(text)
        if not abilities.general.prefill:
            return None
        details = await ask_again(partial(self._ask_details, text, max_new_tokens=1, prefill=True))
        return tuple(token.id for token in details.prefill)

    async def task(self, context: str, answers: tuple[str, ...], way: Way | None) -> TaskLabels:
        """The labels of a task on this server, settled once.

        Args:
            context: The end of the prompt, after which answers stand.
            answers: The labels as they follow the prompt.
            way: How to score; None for the cheapest way.

        Raises:
            ConfigurationError: The server does not allow the way.
            LabelError: Two labels are the same tokens to this model.
        """
        return await self._tasks.get((context, answers, way), lambda: self._settle(context, answers, way))

    async def _settle(self, context: str, answers: tuple[str, ...], way: Way | None) -> TaskLabels:
        abilities = await self.abilities()
        if abilities.tokenizes:
            await self._ends.get(self._find_ends)
        task = await settle(
            partial(self._ask_details, constraint=abilities.constraint, ids=abilities.ids),
            self._prompt_ids,
            abilities.general,
            context,
            answers,
            way,
            None if abilities.chooser is None else partial(self._ask_chosen, abilities.chooser),
        )
        if task.way is Way.RAW and task.tokens is not None and abilities.tokenizes and not abilities.ids:
            # Alternatives will be shown as texts: those of the labels' tokens must be known.
            await run_all(self._learn_token, (*task.tokens.ids, *task.tokens.aliases))
        return task

    async def render_chat(self, message: str) -> str | None:
        """A user's message in the model's own chat template; None if the server does not render it, or changes it."""
        body = wire.chat_tokenize_body(self._model, message)

        async def ask() -> str | None:
            ids = wire.parse_tokenize(await self._transport.post("/tokenize", body))
            text = await self._text(ids) if ids else None
            if ids and text is not None and await self.ids(text) == (ids[0], *ids):
                # The template writes the start token, which the server puts before every prompt by itself.
                return await self._text(ids[1:])
            return text

        try:
            rendered = await ask_again(ask)
        except (ServerError, ConfigurationError, RequestFailedError):
            return None
        # A template that changes the message cannot be filled in.
        return rendered if rendered is not None and message in rendered else None
