"""`Search`: asking candidates round after round, and what is counted of their answers. Called by `running`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_calls import RowInput
from langchain_stormtrooper.runs import Ledger
from langchain_stormtrooper.runs.stream import RowStream
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.tuning.candidates import Candidate
from langchain_stormtrooper.tuning.evidence import CandidateEvidence, Drop, Stop
from langchain_stormtrooper.tuning.racing import FIRST, Plan, Race, sign_test
from langchain_stormtrooper.tuning.remarks import list_reasons


class Search:
    """A race of candidates, and what is counted of their answers.

    Args:
        candidates: The candidates, the simplest first.
        planned: When it is looked at.
        ledger: Keeps answers; None for none.
        option: What is right where an answer says that no label fits; None without such an option.
    """

    def __init__(
        self, candidates: Sequence[Candidate], planned: Plan, ledger: Ledger | None, option: str | None
    ) -> None:
        self.race = Race([candidate.examples for candidate in candidates], planned)
        self.answered = 0
        self._candidates = candidates
        self._plan = planned
        self._ledger = ledger
        self._option = option
        self._answers: list[list[Classification]] = [[] for _ in candidates]

    async def run(self, rows: Sequence[RowInput], right: Sequence[str], budget: int | None) -> Stop:
        """Ask round after round.

        Args:
            rows: The rows to compare on, in their order.
            right: The right label of each, or the option.
            budget: Answers that may be asked for; None for any number.

        Returns:
            Why it ended.

        Raises:
            ConfigurationError: No request of a candidate had an answer in a round, or no candidate labelled any text.
            ServerError: Something is wrong for every row.
        """
        stopped = await self._ask_all(rows, right, budget)
        reasons = [self.unlabelled(number) for number in range(len(self._candidates))]
        if sum(map(Counter.total, reasons)) == self.answered:
            told = list_reasons(sum(reasons, Counter()))
            raise ConfigurationError(
                f"No candidate labelled any text, so that there is nothing to choose by; of {self.answered} answers, "
                f"{told}. Where texts are too long, set `on_overlong='truncate'` or take a model that accepts more; "
                "where the model is not sure enough, lower `min_confidence=` and the like; else try other prompts."
            )
        return stopped

    async def _ask_all(self, rows: Sequence[RowInput], right: Sequence[str], budget: int | None) -> Stop:
        for start, look in pairwise((0, *self._plan.looks)):
            alive = len(self.race.alive)
            end = self.race.reach(look, None if budget is None else budget - self.answered)
            if end == start:
                self.race.finish()
                return "budget"
            await self._round(rows[start:end], right[start:end], is_last=end < look)
            self.answered += alive * (end - start)
            if len(self.race.alive) == 1:
                return "one left"
            if end < look:
                return "budget"
            if end < self._plan.looks[-1] and not self.race.can_change(self.choice()):
                return "nothing to show"
        return "texts"

    async def _round(self, rows: Sequence[RowInput], right: Sequence[str], *, is_last: bool) -> None:
        alive = tuple(self.race.alive)
        # One after another where a round fills all places: the model has the constant part of one prompt at hand then.
        at_once = max(1, self._candidates[0].classifier._concurrency // len(rows))
        answers = dict(zip(alive, await run_all(lambda one: self._ask(one, rows), alive, at_once), strict=True))
        for one in alive:
            self._answers[one] += answers[one]
        failed = [any(answers[one][row].reason is Reason.FAILED for one in alive) for row in range(len(rows))]
        self.race.add(
            {
                one: [
                    self._said(answer) == label and not is_failed
                    for answer, label, is_failed in zip(answers[one], right, failed, strict=True)
                ]
                for one in alive
            },
            is_last=is_last,
        )

    def _said(self, answer: Classification) -> str | None:
        return self._option if answer.reason is Reason.OUT_OF_SCOPE else answer.label

    async def _ask(self, number: int, rows: Sequence[RowInput]) -> list[Classification]:
        candidate = self._candidates[number]
        stream = RowStream(candidate.classifier, rows, None, ledger=self._ledger, in_order=True, window=None)
        async with aclosing(stream.answers()) as answers:
            given: list[Classification] = [answer async for answer in answers]
        # A few at the end of a budget may fail as any may.
        is_telling = len(given) >= FIRST or not self._answers[number]
        if is_telling and all(answer.reason is Reason.FAILED for answer in given):
            error = next((f" ({answer.error.rstrip('.')})" for answer in given if answer.error), "")
            raise ConfigurationError(
                f"All {len(given)} requests with the {candidate.called} failed{error}, so that it cannot be compared: "
                "leave it out, or try again; a `ledger=` keeps what has been answered."
            )
        return given

    def choice(self) -> int:
        """The candidate that would be chosen now."""
        return self.race.choice([self._tokens(number) or 0 for number in range(len(self._candidates))])

    def _tokens(self, number: int) -> float | None:
        told = [answer.prompt_tokens for answer in self._answers[number] if answer.prompt_tokens is not None]
        return sum(told) / len(told) if told else None

    def unlabelled(self, number: int) -> Counter[Reason]:
        """Why a candidate gave no answer, and for how many texts; that none of the labels fits is one."""
        reasons = Counter(answer.reason for answer in self._answers[number] if answer.reason is not None)
        del reasons[Reason.OUT_OF_SCOPE]
        return reasons

    def evidence(self, number: int, chosen: int) -> CandidateEvidence:
        """What came of a candidate, beside the chosen one."""
        candidate, answers = self._candidates[number], self._answers[number]
        better, worse = self.race.compare(number, chosen)
        drop = self.race.drops.get(number)
        reasons = self.unlabelled(number)
        failed = reasons[Reason.FAILED]
        return CandidateEvidence(
            prompt=candidate.prompt,
            descriptions=candidate.descriptions,
            n_examples=candidate.n_examples,
            examples=candidate.examples,
            texts=len(answers),
            right=sum(self.race.right[number]),
            failed=failed,
            unlabelled=reasons.total() - failed,
            prompt_tokens=self._tokens(number),
            better=better,
            worse=worse,
            p_value=min(1.0, 2 * sign_test(max(better, worse), min(better, worse))),
            drop=None if drop is None else Drop(**drop._asdict()),
        )
