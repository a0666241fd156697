"""Priors: how a model leans towards labels whatever the text, and taking that lean out.

Pure. A model that answers "sport" to a text without content will answer it too often to real texts as well; dividing by
that lean is contextual calibration (Zhao et al. 2021, arXiv 2102.09690). Three things can stand for the lean: the
answers to bags of common words or to content-free texts, which need no data and leave rows independent of each other,
and the mean answer to unlabelled texts of the task: batch calibration (Zhou et al. 2023, arXiv 2309.17249), which is
better where those texts have about as many of each label, and misleads where they have not (`one_sided`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from langchain_stormtrooper.errors import ConfigurationError

_WORD_LIST = """
about after again air all also always another any are around away back because before began being best better
between big body both boy brought call came can car carry change children city close cold come could country
course cut day did different does done door down draw during each early earth eat end enough even every example
eyes face family far father feet few find fire first five food form found four friend from full gave get girl
give good great green ground group grow had half hand happened hard have head hear heard help high home horse
hours house idea important just keep kind knew know land large last later learn leave left less letter life
light line list little live long look made make man many mean men might mile miss money moon more morning most
mother move much music must name near need never new next night number off often old once one only open order
other our over own page paper part people picture place plan plant play point put question quite read ready real
river road room run said same saw school sea second seem sentence set several she short should show side simple
since size small some song soon sound space stand start state still stood stop story street strong study such
sun sure table take talk tell ten than their them then there these thing think those thought three through time
today together told too took toward town travel tree try turn two under until upon use usually very voice walk
want war warm was watch water way week well went were what when where which while white whole why will wind with
without woman wood word work world would write year young
"""
_COMMON_WORDS = _WORD_LIST.split()

WORD_BAGS = 8
"""Bags for the words prior: more change the prior little."""

_WORDS_PER_BAG = 12
FLOOR = 1e-9
"""Probabilities count as at least this where they are divided by or their logarithm is taken."""


def word_bags(seed: int = 0, bags: int = WORD_BAGS) -> list[str]:
    """Texts without content: common English words in random order.

    Args:
        seed: The same seed gives the same bags, on any machine.
        bags: How many.
    """
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    return [" ".join(generator.sample(_COMMON_WORDS, _WORDS_PER_BAG)) for _ in range(bags)]


def content_free_texts() -> list[str]:
    """The texts that Zhao et al. (2021) took for texts without content: "N/A", nothing, and "[MASK]"."""
    return ["N/A", "", "[MASK]"]


PriorName: TypeAlias = Literal["words", "content-free"]
"""What stands for the lean of a model where there are no texts of the task."""

PRIOR_TEXTS: dict[PriorName, Callable[[], list[str]]] = {"words": word_bags, "content-free": content_free_texts}
"""The texts that a model is asked about for each prior."""


def one_sided(predicted: Sequence[int], n_labels: int) -> bool:
    """Whether texts look too unevenly distributed over the labels to learn a prior from.

    Batch calibration takes what texts share for the model's lean; if most are of one label, it takes that label away.
    Texts count as one-sided when one label has at least half of what an even share would leave to the others: 75 % of
    the texts with two labels, 55 % with ten.

    Args:
        predicted: For each text, the index of its most probable label: after dividing by a prior that was learnt
            without texts, since otherwise the model's lean itself looks one-sided.
        n_labels: How many labels there are, at least 2.

    Raises:
        ConfigurationError: There are no texts, or an index names no label.
    """
    if not predicted:
        raise ConfigurationError("There are no texts to learn a prior from: pass some, of every label.")
    if not all(0 <= index < n_labels for index in predicted):
        raise ConfigurationError(f"Predicted labels must be indices from 0 to {n_labels - 1}.")
    largest = max(Counter(predicted).values())
    return 2 * n_labels * largest >= (n_labels + 1) * len(predicted)


def mean_distribution(distributions: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean of distributions over the same labels."""
    return tuple(sum(column) / len(distributions) for column in zip(*distributions, strict=True))


def prior_beside_option(prior: Sequence[float]) -> tuple[float, ...]:
    """A prior over labels and, as the last, the option that none of them fits: with the labels' mean for the option.

    Texts without content are of no label, so that what a model gives to the option there is right, and no lean: divided
    by it, hardly a text would be out of scope. Of unlabelled texts nobody knows how many are. So the labels' leans are
    taken out among the labels, and the option is divided by what they have on average.

    Args:
        prior: K + 1 probabilities, the option's at the end.

    Returns:
        K + 1 probabilities that sum to 1; the same again where the labels have none at all.
    """
    labels = prior[:-1]
    whole = math.fsum(labels)
    if whole <= 0:
        return tuple(prior)
    scale = len(labels) / (len(prior) * whole)
    return (*(lean * scale for lean in labels), 1 / len(prior))


def geometric_mean(distributions: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean of distributions over the same labels in log space, normalized.

    For the answers to one text with the labels listed in several orders. A place in a list makes its label likelier by
    a factor, since it adds to the label's score before the softmax; with every label once in every place, the product
    has all factors for all labels, and they cancel. In a mean of probabilities they would not, and one order in which
    the model is sure would outvote all others. Probabilities count as at least 1e-9, so that a zero is no veto.
    """
    weights = [
        math.exp(math.fsum(math.log(max(value, FLOOR)) for value in column) / len(distributions))
        for column in zip(*distributions, strict=True)
    ]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def divide_by_prior(probabilities: Sequence[float], prior: Sequence[float]) -> tuple[float, ...]:
    """Probabilities divided by a prior and normalized again.

    A label whose prior is zero would win with any probability at all, so priors count as at least 1e-9.
    """
    weights = [p / max(q, FLOOR) for p, q in zip(probabilities, prior, strict=True)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)
