"""The option that none of the labels fits: one more choice for the model, and no label for whoever reads the answer.

Pure. Inside `answering` the option is asked about, scored, matched and judged like the labels, of which it is the last;
`in_scope` makes an answer of that kind what a classifier returns. What the option means beside the lean that priors
take out, and beside the recall of a shortlist, is here as well.
"""

from __future__ import annotations

from typing import Any

from langchain_stormtrooper.results import Classification, Reason


def in_scope(answer: Classification, option: str) -> Classification:
    """An answer about the labels and the option as one about the labels alone.

    Args:
        answer: An answer in which the option is a label.
        option: Its name.

    Returns:
        The answer, without a label where the option is the best, and with the option's probability in a field of its
        own.
    """
    changes: dict[str, Any] = {}
    if answer.probabilities is not None:
        changes["probabilities"] = {name: p for name, p in answer.probabilities.items() if name != option}
        changes["out_of_scope"] = min(1.0, answer.probabilities[option])
    if answer.label == option:
        changes |= {"label": None, "reason": Reason.OUT_OF_SCOPE}
    return answer.model_copy(update=changes) if changes else answer


def recall_beside(option: float, recall: float) -> float:
    """How likely the right answer is among those asked about, where one of them is the option.

    A shortlist's recall r is that of texts that have a label. For the others the right answer, the option, is always
    among those asked about. What the model says holds if the right answer is among them, of which the probability be R:
    then R(1 − o) of all texts have a label that is on the list, and 1 − R one that is not, which is r to 1 − r for
    R = r / (1 − o(1 − r)).

    Args:
        option: o, the probability that the model gives to the option, in [0, 1]; 0 without one.
        recall: r, in (0, 1].
    """
    return recall / (1.0 - option * (1.0 - recall))
