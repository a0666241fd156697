"""What a completions or chat request asks for, whatever the flavour: `Ask`, and the `Prompt`s that it goes on from.

Pure data. `bodies` reads it, `answering` and what is below it go by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_GREEDY = 1e-5


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model gets it.

    Attributes:
        text: What the model goes on from.
        ids: Its tokens, the special ones included.
        spelled: Whether it was sent as a text.
        uncut: What it was before its beginning was cut off; None if it was not.
    """

    text: str
    ids: tuple[int, ...]
    spelled: bool = True
    uncut: str | None = None

    @property
    def echoed(self) -> str:
        """The text that `echo` shows, which is never cut."""
        return self.text if self.uncut is None else self.uncut


@dataclass(slots=True)
class Ask:
    """A completions or chat request.

    Attributes:
        prompts: What to go on from; one for chat.
        chat: Whether it is a chat.
        model: The model's name as asked for.
        stream: Whether to stream.
        include_usage: Whether a stream ends with token counts.
        max_tokens: The most tokens of an answer.
        temperature: 0 for the likeliest token each time.
        seed: Of the draws.
        n: Answers to each prompt.
        stop: Texts that end an answer.
        echo: Whether to show the prompt before the answer.
        logprobs: How many alternatives to show for each token; None for no log-probabilities at all.
        logprob_token_ids: The tokens to show instead of the likeliest.
        prompt_logprobs: How many alternatives to show for each token of the prompt.
        bias: What to add to the scores of some tokens.
        allowed: The only tokens that may be chosen.
        pattern: A regular expression that the answer must match.
        as_ids: Whether tokens are shown as "token_id:N".
        return_ids: Whether to show the ids of prompt and answer.
        ignore_eos: Whether to go on after the end of the text.
        min_tokens: The least tokens of an answer.
        stop_ids: Tokens that end an answer.
        keep_stop: Whether the stop sequence is part of the answer.
    """

    prompts: list[Prompt]
    chat: bool
    model: str | None
    stream: bool = False
    include_usage: bool = False
    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    n: int = 1
    stop: list[str] = field(default_factory=list)
    echo: bool = False
    logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    prompt_logprobs: int | None = None
    bias: dict[int, float] = field(default_factory=dict)
    allowed: frozenset[int] | None = None
    pattern: str | None = None
    as_ids: bool = False
    return_ids: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    keep_stop: bool = False

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature < _GREEDY
