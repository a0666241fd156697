"""What a user should know of a search, in whole sentences without a text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.tuning.candidates import Candidate
from langchain_stormtrooper.tuning.evidence import CandidateEvidence
from langchain_stormtrooper.tuning.racing import Race

_SHOWN = 5

_REASONS = {
    Reason.OVERLONG: "too long for the model",
    Reason.UNMATCHED: "no label",
    Reason.LOW_CONFIDENCE: "not sure enough",
    Reason.FAILED: "failed",
}


def about_examples(candidates: Sequence[Candidate], race: Race, chosen: int) -> list[str]:
    """Whether examples help or hurt; nothing where the question was not asked.

    Args:
        candidates: The candidates.
        race: How they fared.
        chosen: The number of the chosen one.
    """
    bare = {(one.prompt, one.descriptions): number for number, one in enumerate(candidates) if not one.examples}
    few = {number: bare.get((one.prompt, one.descriptions)) for number, one in enumerate(candidates) if one.examples}
    if not few or not bare:
        return []
    hurt = [number for number, without in few.items() if without is not None and race.is_shown(without, number)]
    said: list[str] = []
    if hurt:
        worst = max(hurt, key=lambda number: _loss(race, few[number], number))
        gained, lost = race.compare(worst, few[worst])  # type: ignore[arg-type]  # those that hurt have one without
        said.append(
            f"Examples hurt: {len(hurt)} of the {len(few)} candidates that have some were shown to be right less often "
            f"than the same prompt without; number {worst} lost {lost} texts by its examples and gained {gained}."
        )
    if not candidates[chosen].examples:
        if len(hurt) < len(few):
            said.append(
                f"{'The others' if hurt else 'Examples'} were not shown to help, so that one without was chosen."
            )
    else:
        said.append("Examples help: every candidate without was shown to be right less often than another.")
    return said


def _loss(race: Race, without: int | None, number: int) -> int:
    lost, gained = race.compare(without or 0, number)
    return lost - gained


def about_labels(
    names: Sequence[str],
    pool: Mapping[str, Sequence[Example]],
    counts: Sequence[int],
    right: Sequence[str],
    *,
    wanted: int,
) -> list[str]:
    """Labels of which there are too few texts or examples; the option that none fits is one here.

    Args:
        names: The labels.
        pool: The examples of each.
        counts: The numbers of examples that are tried.
        right: The labels of the texts.
        wanted: The most that was to be tried.
    """
    absent = [name for name in names if name not in set(right)]
    few = [name for name in names if len(pool[name]) < max(counts)]
    said: list[str] = []
    if absent:
        said.append(f"{len(absent)} of {len(names)} labels have no text ({_list(absent)}): nothing was learnt of them.")
    if wanted and max(counts) == 0:
        said.append("There are too few texts to take examples from, so that only prompts without any were tried.")
    elif few and len(few) == len(names):
        most = max(map(len, pool.values()))
        said.append(f"No label has {max(counts)} examples, the most that was to be tried: none has more than {most}.")
    elif few:
        said.append(
            f"{len(few)} of {len(names)} labels have fewer examples than {max(counts)}, the most that was tried: "
            f"{_list(few)}."
        )
    return said


def about_merged(count: int) -> list[str]:
    """Candidates that were left out for being the same as others."""
    if not count:
        return []
    return [f"{count} of the candidates ask in the same way as others with this model, and were left out."]


def about_repeated(count: int) -> list[str]:
    """Texts that were left out for being there already."""
    if not count:
        return []
    return [
        f"{count} of the texts repeat{'s another' if count == 1 else ' others'}, and count{'s' * (count == 1)} once."
    ]


def about_contradictions(count: int) -> list[str]:
    """Texts that occur with several labels."""
    if not count:
        return []
    return [
        f"{count} of the texts {'occurs' if count == 1 else 'occur'} with different labels, of which the first was "
        "taken for right: see which it is."
    ]


def about_silent(candidates: Sequence[Candidate], unlabelled: Sequence[Counter[Reason]], race: Race) -> list[str]:
    """Candidates that labelled no text, though others did.

    Args:
        candidates: The candidates.
        unlabelled: For each, why it gave no answer, and for how many texts.
        race: How they fared.
    """
    return [
        f"Number {number}, with the {candidate.called}, labelled none of {len(race.right[number])} texts: "
        f"{list_reasons(reasons)}."
        for number, (candidate, reasons) in enumerate(zip(candidates, unlabelled, strict=True))
        if reasons.total() == len(race.right[number])
    ]


def list_reasons(reasons: Counter[Reason]) -> str:
    """For how many texts there was no label for which reason, in words."""
    return ", ".join(f"{reasons[reason]} {said}" for reason, said in _REASONS.items() if reasons[reason])


def about_failures(candidates: Sequence[CandidateEvidence]) -> str | None:
    """Requests that failed; None if none did."""
    failed = sum(candidate.failed for candidate in candidates)
    if not failed:
        return None
    answered = sum(candidate.texts for candidate in candidates)
    return (
        f"{failed} of {answered} requests failed; each text that one failed for counts as wrong for all candidates, "
        "and tells nothing between them."
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
