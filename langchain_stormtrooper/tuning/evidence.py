"""`TuningEvidence`: what was tried, what came of it and why one was chosen; as an object, as JSON and as a table.

Pure data: names of prompts and labels, and numbers; never a text, an example or a template. Made by `running`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from rich.console import RenderableType

from langchain_stormtrooper.saving import Frozen, Saved

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Stop: TypeAlias = Literal["texts", "one left", "nothing to show", "budget"]
"""Why a race ended: all texts were answered, one candidate was left, no other could still be shown to be better than
the choice, or the budget paid for no more texts."""


class Drop(Frozen, allow_inf_nan=False):
    """How a candidate left the race: another was shown to be better.

    Attributes:
        after: How many texts it had answered.
        by: The number of the other candidate.
        wins: Texts on which only the other was right.
        losses: Texts on which only the dropped one was.
        p_value: Of the exact one-sided sign test of these two numbers; at most the level in force.
    """

    after: int = Field(ge=1)
    by: Count
    wins: Count
    losses: Count
    p_value: Share


class CandidateEvidence(Frozen, allow_inf_nan=False):
    """What came of one candidate.

    Attributes:
        prompt: The preset's name, "default" for what suits the model, "template 1" for the first template.
        descriptions: Which set of descriptions, counted from 0.
        n_examples: Examples of each label, at most.
        examples: Examples in all.
        texts: How many texts it answered.
        right: How many of them it was right on. A text that a request failed for, whosever it was, counts as wrong for
            all, so that an outage speaks for nobody.
        failed: For how many its own request failed.
        unlabelled: How many others got no label: none was matched, too long, or not sure enough. That none of the
            labels fits (`out_of_scope`) is an answer.
        prompt_tokens: Mean tokens of its prompts; None if the model does not tell.
        better: Of the texts that the chosen one has answered, too: on how many only this one was right.
        worse: On how many only the chosen one was right.
        p_value: Of the exact two-sided sign test of these two (McNemar), for this one comparison by itself.
        drop: How it left the race; None if it stayed.
    """

    prompt: str
    descriptions: Count
    n_examples: Count
    examples: Count
    texts: int = Field(ge=1)
    right: Count
    failed: Count
    unlabelled: Count
    prompt_tokens: float | None
    better: Count
    worse: Count
    p_value: Share
    drop: Drop | None

    @property
    def accuracy(self) -> float:
        """The share of right answers. That of the chosen one flatters: it was chosen by these texts."""
        return self.right / self.texts


class TuningEvidence(Saved, allow_inf_nan=False):
    """Why a classifier was chosen. Holds no text.

    Attributes:
        candidates: What was tried, the simplest first.
        chosen: The number of the chosen one, counted from 0: of those that stayed in the race, the one with the fewest
            examples; of several, the one that was right most often, then the one with the shortest prompts.
        texts: How many texts there were to compare on.
        held: How many texts were held back as examples.
        looks: After how many texts candidates could be dropped, as planned. Where the budget ends it, the last look is
            where that is.
        confidence: How probable it is, at least, that the best candidate stayed.
        early_level: The p-value up to which a difference was shown before the last look: a quarter of (1 − confidence),
            divided by the number of these looks and by candidates − 1; 0 if there is but one look.
        final_level: The same at the last look: the rest of (1 − confidence), divided by candidates − 1.
        answered: How many rows were classified, by all candidates together. Without those that show the model's lean
            (`prior`), eight for each candidate.
        budget: The most there might have been; None for no bound.
        stopped: Why it ended: see `Stop`.
        seed: The seed of the split and of the order.
        remarks: What its user should know, in whole sentences.
    """

    candidates: tuple[CandidateEvidence, ...] = Field(min_length=2)
    chosen: Count
    texts: int = Field(ge=1)
    held: Count
    looks: tuple[int, ...]
    confidence: float = Field(gt=0, lt=1)
    early_level: float = Field(ge=0, lt=1)
    final_level: float = Field(gt=0, lt=1)
    answered: int = Field(ge=1)
    budget: int | None
    stopped: Stop
    seed: int
    remarks: tuple[str, ...]

    @property
    def best(self) -> CandidateEvidence:
        """The evidence of the chosen candidate."""
        return self.candidates[self.chosen]

    def __rich__(self) -> RenderableType:
        """A table for `rich.print`."""
        from langchain_stormtrooper.tuning.table import render

        return render(self)
