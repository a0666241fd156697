"""How often a search by `tune` takes examples that help, and ones that do not: simulated, by the package's own race.

Five candidates answer texts, of which half are as hard for all: zero-shot and four with examples, of which one may be
better. Only the answers are drawn; who is dropped and who is chosen is what `langchain_stormtrooper.tuning.racing`
says. No model, no server; half a minute.
"""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from record import takes_no_arguments, write

from langchain_stormtrooper.tuning.racing import Race, plan

SEED, SEARCHES = 0, 2_000
PLAIN, HELPED = 0.60, 0.72
SHARED = 0.5
"""The share of texts on which all candidates have the same luck."""
CONFIDENCE = 0.9


def search(skills: list[float], texts: int, draw: random.Random) -> tuple[int, bool]:
    """Which candidate a search chooses, and whether the best one was dropped; the first is the simplest.

    Args:
        skills: How often each candidate is right.
        texts: How many texts there are to compare on.
        draw: Where answers come from.
    """
    looks = plan(texts, len(skills), confidence=CONFIDENCE)
    race = Race([0, *[1] * (len(skills) - 1)], looks)
    for start, end in pairwise((0, *looks.looks)):
        answers: list[list[bool]] = [[] for _ in skills]
        for _ in range(start, end):
            luck = draw.random() if draw.random() < SHARED else None
            for own, skill in zip(answers, skills, strict=True):
                own.append((draw.random() if luck is None else luck) < skill)
        race.add({one: answers[one] for one in race.alive})
    best = skills.index(max(skills))
    return race.choice([0.0] * len(skills)), best not in race.alive


def simulate(skills: list[float], texts: int) -> dict[str, float]:
    """Shares of searches."""
    draw = random.Random(SEED)  # noqa: S311  # answers to be repeated, no secret
    found = [search(skills, texts, draw) for _ in range(SEARCHES)]
    return {
        "took_examples": sum(choice != 0 for choice, _ in found) / SEARCHES,
        "took_the_best": sum(choice == skills.index(max(skills)) for choice, _ in found) / SEARCHES,
        "dropped_the_best": sum(dropped for _, dropped in found) / SEARCHES,
    }


def main() -> None:
    """Simulate and record."""
    takes_no_arguments(__doc__)
    figures: list[dict[str, Any]] = [
        {
            "texts": texts,
            "helpful": simulate([PLAIN, HELPED, PLAIN, PLAIN, PLAIN], texts),
            "useless": simulate([PLAIN] * 5, texts),
        }
        for texts in (50, 100, 200, 400)
    ]
    write(
        "races",
        figures,
        seed=SEED,
        searches=SEARCHES,
        confidence=CONFIDENCE,
        accuracy_of_the_plain=PLAIN,
        accuracy_of_the_helpful=HELPED,
        share_of_texts_as_hard_for_all=SHARED,
    )


if __name__ == "__main__":
    main()
