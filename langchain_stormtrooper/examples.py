"""Few-shot examples: reading what the user gave, and putting it in order.

Pure. `classifiers` calls it once per classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from pydantic import BaseModel, ConfigDict, Field

from langchain_stormtrooper.errors import ConfigurationError, LabelError


class Example(BaseModel):
    """A text and its right label.

    Attributes:
        text: The text, used as it is. Not shown in the repr.
        label: One of the classifier's labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(repr=False)
    label: str


def read_examples(examples: Iterable[Example | tuple[str, str]], labels: Sequence[str]) -> tuple[Example, ...]:
    """Examples from pairs of text and label.

    Raises:
        ConfigurationError: There is none, or an item is no pair of strings.
        LabelError: An example's label is not one of the labels.
    """
    read: list[Example] = []
    for position, item in enumerate(examples):
        if isinstance(item, Example):
            example = item
        elif isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item):
            example = Example(text=item[0], label=item[1])
        else:
            raise ConfigurationError(f"examples[{position}] is no pair (text, label) of strings.")
        if example.label not in labels:
            raise LabelError(
                f"examples[{position}] has the label {example.label!r}, which is not among the labels: "
                "add it to `labels=` or correct the example."
            )
        read.append(example)
    if not read:
        raise ConfigurationError("`examples` is empty: give (text, label) pairs, or use ZeroShotClassifier.")
    return tuple(read)


def alternate(examples: Sequence[Example], labels: Sequence[str]) -> list[Example]:
    """Examples in rounds of one per label, each label's examples in the order given.

    Each round starts at another label: small models favour the label they saw last, and with the same label at the
    end of every round that one would win too often.
    """
    by_label = [[example for example in examples if example.label == label] for label in labels]
    rounds = list(zip_longest(*by_label))
    ordered: list[Example] = []
    for number, members in enumerate(rounds):
        start = number * len(labels) // len(rounds)
        ordered.extend(example for example in members[start:] + members[:start] if example is not None)
    return ordered
