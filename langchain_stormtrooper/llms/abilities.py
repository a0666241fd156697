"""What a server was seen to do, as far as scoring and constraining labels depend on it.

Found out by `tgi_abilities` and `openai_abilities`; `task_labels` chooses by it, whatever the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from langchain_stormtrooper.scoring import Branch
from langchain_stormtrooper.wire.details import Details

PROBE = "Answer:"

Ask = Callable[..., Awaitable[Details]]
"""Asks for a greedy generation with details: called with a prompt and the keywords of
`wire.tgi_details.details_body`, whatever the protocol."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model's probabilities of the tokens with which labels go on, not renormalized.

    Attributes:
        shares: For each branch, probability by child.
        prompt_tokens: Tokens of the prompt; None where the server does not tell.
        generated_tokens: Tokens that were generated to tell them.
    """

    shares: Sequence[Mapping[int, float]]
    prompt_tokens: int | None
    generated_tokens: int


AskChosen = Callable[[str, Sequence[Branch]], Awaitable[Chosen]]
"""Asks, after a prompt, for the children of some branches of the labels' trie."""


class GrammarSupport(StrEnum):
    """What a server makes of a grammar."""

    ENFORCED = "enforced"
    IGNORED = "ignored"
    REFUSED = "refused"
    UNSAFE = "unsafe: mixed with requests without one it fails both"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was seen to do.

    Attributes:
        top_tokens: Alternatives per step that it returns; 0 for none.
        prefill: Whether it scores the tokens of a prompt.
        seq2seq: Whether prompt and answer are apart (T5), so that nothing can be continued.
        grammar: What it makes of a grammar.
        masks: Whether the alternatives are taken after the grammar's mask (flash models) or before (padded ones).
        chooses: Whether it shows the probabilities of tokens that are named in the request.
    """

    top_tokens: int
    prefill: bool
    seq2seq: bool
    grammar: GrammarSupport
    masks: bool
    chooses: bool = False

    @property
    def told(self) -> dict[str, object]:
        """The same by names that a user understands."""
        return {
            "the number of alternatives per step": self.top_tokens,
            "showing a prompt's scores": self.prefill,
            "being a model with prompt and answer apart": self.seq2seq,
            "what is made of a grammar": self.grammar.value,
            "whether alternatives are shown after the grammar's mask": self.masks,
            "showing the probabilities of chosen tokens": self.chooses,
        }


NO_ABILITIES = Abilities(top_tokens=0, prefill=False, seq2seq=False, grammar=GrammarSupport.UNKNOWN, masks=False)
"""Of a server that shows no details of a generation: it can generate at most."""
