"""All labels in one scoring: how probable each is as the only label of a text.

The probabilities are those of a `ZeroShotClassifier` with `method="score"`, its prompt, prior, budget and shortened
texts included; nothing of that is here. Where two labels apply they share what one would have, so that thresholds are
low, and only those fitted to labelled texts are good ones. Called by `runnable`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from langchain_core.prompts import StringPromptTemplate
from typing_extensions import override

from langchain_stormtrooper import answering
from langchain_stormtrooper.answering.settings import PresetName
from langchain_stormtrooper.calibration import PriorName
from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.multi_label.asking import Questions
from langchain_stormtrooper.results import Classification, Method


class OneQuestion(Questions):
    """The one question about all labels: which of them is it?"""

    beside = None

    @override
    def weigh(self, answers: Sequence[Classification]) -> list[float]:
        (answer,) = answers
        return [min(1.0, probability) for probability in (answer.probabilities or {}).values()]


def single(
    labels: LabelSet,
    llm: SelfHostedLLM,
    prompt: StringPromptTemplate | PresetName | None,
    prior: PriorName | None,
    *,
    text_kind: str,
    label_kind: str,
) -> ZeroShotClassifier:
    """The classifier whose probabilities are taken.

    Args:
        labels: The labels.
        llm: What is asked.
        prompt: As in `ZeroShotClassifier`.
        prior: As in `ZeroShotClassifier`.
        text_kind: What the texts are.
        label_kind: What the labels are.

    Raises:
        PromptError: The template lacks the text.
    """
    return ZeroShotClassifier(
        labels, llm=llm, prompt=prompt, prior=prior, method="score", text_kind=text_kind, label_kind=label_kind
    )


async def arrange(classifier: ZeroShotClassifier) -> Questions:
    """Settle what depends on the server, and learn how the model leans.

    Args:
        classifier: What `single` made.

    Raises:
        ConfigurationError: The LLM tells no probabilities, or the prompt does not fit it.
        ServerError: The server cannot be asked.
        RequestFailedError: It cannot be asked at the moment.
    """
    settings = classifier._settings()
    if not await answering.offers(settings, Method.SCORE):
        raise ConfigurationError(
            "A MultiLabelClassifier with ask='once' needs the probabilities of all labels, which this "
            f"{type(settings.llm).__name__} does not tell: use LlamaCpp, or a server that shows the likeliest next "
            "tokens."
        )
    arranged = await answering.arrange(settings)
    # The prior is not part of the fingerprint: a calibration takes its place, thresholds rest on it.
    content = ["once", arranged.fingerprint(settings.choices.names), settings.prior]
    return OneQuestion([arranged], hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest())
