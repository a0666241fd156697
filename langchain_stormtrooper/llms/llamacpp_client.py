"""What is asked of a llama.cpp server, in this process or behind an address: answers, scores, constrained answers.

It joins the protocol (`wire.llamacpp`) and the arithmetic of scores (`scoring`), and knows no LangChain. `LlamaCpp`
and `OpenAICompletions` call it, so that both give the same answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import END, Branch, LabelScores, end_where_needed, starting_pairs, walk
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Generated, Response
from langchain_stormtrooper.wire import llamacpp as wire

_CONSTANTS_KEPT = 1024


def refuse_empty(prompt: Prompt) -> None:
    """Refuse a prompt without a text, after which no llama.cpp goes on."""
    if not str(prompt):
        raise RequestFailedError("The prompt is empty: give the model a text to go on from.")


class LlamaCppClient:
    """Asks one llama.cpp server.

    Args:
        transport: The way there.
        n_ctx: Tokens that a prompt and its answer may have together; None where the server alone knows.
    """

    def __init__(self, transport: Transport, n_ctx: int | None) -> None:
        self._transport = transport
        self._n_ctx = n_ctx
        self._constants: dict[tuple[str, bool, bool], tuple[int, ...]] = {}
        self._writable: dict[tuple[str, ...], bool] = {}
        self._ends: tuple[int, ...] | None = None

    @property
    def n_ctx(self) -> int | None:
        """Tokens that a prompt and its answer may have together; None where the server alone knows."""
        return self._n_ctx

    async def post(self, path: str, body: bytes) -> Response:
        """POST a body, as `Transport.post`."""
        return await self._transport.post(path, body)

    async def get(self, path: str) -> Response:
        """GET a route, as `Transport.get`."""
        return await self._transport.get(path)

    async def tokenize(self, text: str, *, special: bool = False, start: bool = False) -> tuple[int, ...]:
        """Token ids of a text; arguments as in `wire.llamacpp.tokenize_body`."""
        if not text and not start:
            return ()
        return wire.parse_tokenize(await self.post("/tokenize", wire.tokenize_body(text, special=special, start=start)))

    async def _tokenize_constant(self, text: str, *, special: bool = False, start: bool = False) -> tuple[int, ...]:
        """Tokens of what is the same for all rows of a task, asked once."""
        key = (text, special, start)
        tokens = self._constants.get(key)
        if tokens is None:
            if len(self._constants) >= _CONSTANTS_KEPT:
                self._constants.clear()
            tokens = self._constants[key] = await self.tokenize(text, special=special, start=start)
        return tokens

    async def prompt_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """Only what a chat template or the user as its author wrote is read for special tokens, never a row's text."""
        if prompt.message and prompt.before:
            before = await self._tokenize_constant(prompt.before, special=True, start=True)
        else:
            before = await self.tokenize(prompt.before, special=True, start=bool(prompt.before))
        message = await self.tokenize(prompt.message, start=not prompt.before)
        after = await self._tokenize_constant(prompt.after, special=True)
        return (*before, *message, *after)

    async def _fitting_tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's tokens, if there are any and they leave room for an answer."""
        refuse_empty(prompt)
        tokens = await self.prompt_tokens(prompt)
        if self._n_ctx is not None and len(tokens) >= self._n_ctx:
            raise wire.overlong(len(tokens), self._n_ctx)
        return tokens

    async def generate(self, prompt: Prompt, *, stop: Sequence[str], max_new_tokens: int) -> Generated:
        """Generate the answer to a prompt."""
        body = await self._body(prompt, stop, max_new_tokens)
        return wire.parse_generate(await self.post("/completion", body))

    async def _body(self, prompt: Prompt, stop: Sequence[str], max_new_tokens: int, *, stream: bool = False) -> bytes:
        return wire.generate_body(
            await self._fitting_tokens(prompt), max_new_tokens=max_new_tokens, stop=stop, stream=stream
        )

    async def stream(self, prompt: Prompt, *, stop: Sequence[str], max_new_tokens: int) -> AsyncGenerator[str, None]:
        """Generate like `generate`, yielding pieces of the text as they come."""
        body = await self._body(prompt, stop, max_new_tokens, stream=True)
        async with self._transport.stream("/completion", body) as events:
            if isinstance(events, Response):
                yield wire.parse_generate(events).text
                return
            async with aclosing(events):
                async for event in events:
                    yield wire.parse_event(event)

    async def score(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        """Probabilities of answers to a prompt, renormalized over them."""
        tokens = await self._fitting_tokens(prompt)
        steps = walk(await self.answer_tokens(answers))
        asked = 0
        try:
            branches = next(steps)
            while True:
                asked += len(branches)
                responses = await run_all(lambda branch: self._ask_branch(tokens, branch), branches)
                branches = steps.send(responses)
        except StopIteration as end:
            return LabelScores(tuple(end.value), prompt_tokens=len(tokens), generated_tokens=asked)

    async def _ask_branch(self, tokens: tuple[int, ...], branch: Branch) -> dict[int, float]:
        ends = await self._end_tokens() if END in branch.children else ()
        prompt, children = (*tokens, *branch.prefix), (*(token for token in branch.children if token != END), *ends)
        found = await self._ask_tokens(prompt, children)
        shares = {token: found[token] for token in branch.children if token != END}
        return shares | {END: sum(found[token] for token in ends)} if ends else shares

    async def _ask_tokens(self, prompt: tuple[int, ...], children: tuple[int, ...]) -> dict[int, float]:
        response = await self.post("/completion", wire.branch_body(prompt, children))
        if wire.shows_branch(response):
            return wire.parse_branch(response, children)
        whole = [(await self._tokenize_constant(text))[0] for text in ("\n", ":", "0")]
        decoy = next((token for token in whole if token not in children), None)
        response = await self.post("/completion", wire.branch_body(prompt, children, decoy))
        return wire.parse_branch(response, children, decoy)

    async def answer_tokens(self, answers: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Answers as tokens, none the start of another."""
        *sequences, line_break = await run_all(self._tokenize_constant, (*answers, "\n"))
        end_where_needed(sequences, line_break[0])  # a label may not go on where another one ends
        return end_where_needed(sequences, END)

    async def _end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a label which starts another: a line break, and the end of the generation."""
        if self._ends is None:
            line_break = (await self._tokenize_constant("\n"))[0]
            eos = wire.parse_eos(await self.get("/props"))
            self._ends = tuple(dict.fromkeys((line_break, *(await self._tokenize_constant(eos, special=True))[:1])))
        return self._ends

    async def can_write(self, answers: tuple[str, ...]) -> bool:
        """Whether the vocabulary has all characters of the answers; asked once for each set of them.

        A grammar that no token satisfies makes llama.cpp end the whole process.
        """

        async def can_write(answer: str) -> bool:
            tokens = await self._tokenize_constant(answer)
            written = wire.parse_detokenize(await self.post("/detokenize", wire.detokenize_body(tokens)))
            return "\0" not in answer and written.strip(" ") == answer.strip(" ")

        known = self._writable.get(answers)
        if known is None:
            known = self._writable[answers] = all(await run_all(can_write, answers))
        return known

    async def constrain(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        """One of some answers.

        Raises:
            ConfigurationError: The vocabulary lacks a character of them.
        """
        if not await self.can_write(answers):
            raise ConfigurationError(
                "A label has a character that the model's vocabulary lacks: rename it, or use method='score'."
            )
        # No confidence: under a grammar the server's scores are those of odd ways through the vocabulary.
        ended = {short for short, _ in starting_pairs(answers)}
        body = wire.constrain_body(await self._fitting_tokens(prompt), answers, ended)
        return Constrained(wire.parse_generate(await self.post("/completion", body)))

    async def render_chat(self, message: str) -> str | None:
        """A user's message in the model's own chat template; None if there is none."""
        return wire.parse_apply_template(await self.post("/apply-template", wire.apply_template_body(message)))
