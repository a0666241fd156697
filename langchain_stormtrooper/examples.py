"""Few-shot examples: reading what the user gave, and putting it in order.

Pure. `classifiers` calls it once per classifier.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from langchain_stormtrooper.errors import ConfigurationError, LabelError
from langchain_stormtrooper.labels import name_of


class Example(BaseModel):
    """A text and its right label.

    Attributes:
        text: The text, used as it is. Not shown in the repr.
        label: One of the classifier's labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    text: str = Field(repr=False)
    label: str


def read_example(item: Any, labels: Sequence[str], option: str | None = None) -> Example | None:
    """One example, whose label may be none of the labels; None if it is no text with a label.

    Args:
        item: An `Example`, a pair of text and label, or a dict that has them under these names.
        labels: As in `read_examples`.
        option: As in `read_examples`.
    """
    if isinstance(item, Example):
        return item
    if isinstance(item, Mapping) and "text" in item and "label" in item:
        item = (item["text"], item["label"])
    if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[0], str):
        return None
    label = option if item[1] is None else name_of(item[1], labels)
    return None if label is None else Example(text=item[0], label=label)


def read_examples(examples: Iterable[Any], labels: Sequence[str], option: str | None = None) -> tuple[Example, ...]:
    """Examples from `Example`s, pairs of text and label, or dicts of `text` and `label`.

    A label may be a member of the Enum of the labels.

    Args:
        examples: The examples.
        labels: The labels that they may have.
        option: The one of them that None stands for; None if nothing does.

    Raises:
        ConfigurationError: There is none, or an item is no pair of strings.
        LabelError: An example's label is not one of the labels.
    """
    if isinstance(examples, str) or not isinstance(examples, Iterable):
        raise ConfigurationError(f"`examples` must be a list of (text, label) pairs, not {type(examples).__name__}.")
    read: list[Example] = []
    for position, item in enumerate(examples):
        example = read_example(item, labels, option)
        if example is None:
            raise ConfigurationError(
                f"examples[{position}] is no pair (text, label) of strings; texts without a label need `out_of_scope=`."
            )
        if example.label not in labels:
            raise LabelError(
                f"examples[{position}] has the label {example.label!r}, which is not among the labels: "
                "add it to `labels=`, correct the example, or set `out_of_scope=` if it stands for none of them."
            )
        read.append(example)
    if not read:
        raise ConfigurationError("`examples` is empty: give (text, label) pairs, or use ZeroShotClassifier.")
    return tuple(read)


def alternate(examples: Sequence[Example], labels: Sequence[str]) -> list[Example]:
    """Examples in rounds of one per label, each label's examples in the order given.

    Each round has the labels in another order, shuffled with a fixed seed: small models take up the order of the labels
    as a pattern, and answer with the label that would be next.
    """
    by_label = [[example for example in examples if example.label == label] for label in labels]
    generator = random.Random(0)  # noqa: S311  # not for secrets
    ordered: list[Example] = []
    for members in zip_longest(*by_label):
        present = [example for example in members if example is not None]
        generator.shuffle(present)
        ordered.extend(present)
    return ordered
