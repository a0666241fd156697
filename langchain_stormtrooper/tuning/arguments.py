"""What users pass to `tune`: texts, labels and examples, read and checked before a model is asked anything. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from enum import Enum
from typing import Any

from langchain_stormtrooper.classifiers import ExampleSpec, FewShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, PromptError
from langchain_stormtrooper.examples import Example, read_examples
from langchain_stormtrooper.labels import LabelSpec, name_of
from langchain_stormtrooper.row_calls import RowInput, text_of
from langchain_stormtrooper.selecting.similarity import as_compared
from langchain_stormtrooper.text_classifier import TextClassifier


def labels_of(labels: Iterable[Any], option: str | None) -> LabelSpec:
    """The labels that occur: an Enum's as it has them, names in their alphabetical order.

    Args:
        labels: The label of each text.
        option: What is none of them, as None is; None for no other.

    Raises:
        ConfigurationError: One is no label.
    """
    names: set[str] = set()
    kinds: set[type] = set()
    for row, label in enumerate(labels):
        name = name_of(label, ())
        if label is None or (name is not None and name == option):
            continue
        if name is None:
            raise ConfigurationError(
                f"labels[{row}] is of type {type(label).__name__}, and labels must be strings: "
                + (
                    "for texts with several labels there is `MultiLabelClassifier`, which `tune` is not for."
                    if isinstance(label, list | tuple | Set)
                    else "give names that say what is meant, which the model is to read."
                )
            )
        if not name.strip():
            raise ConfigurationError(f"labels[{row}] is blank: give the text a label, or leave it out.")
        names.add(name)
        kinds.add(type(label))
    if len(kinds) == 1 and issubclass(kind := next(iter(kinds)), Enum):
        return kind
    return sorted(names)


def right_labels(labels: Sequence[str | None], option: str | None) -> list[str]:
    """What is right for each text: its label, or the option that none fits.

    Raises:
        ConfigurationError: A text has no label, and there is no such option.
    """
    right: list[str] = []
    for row, label in enumerate(labels):
        if (name := option if label is None else label) is None:
            raise ConfigurationError(
                f"labels[{row}] is None: for texts that no label fits, set `out_of_scope=` to the name of an option "
                "that says so, or leave them out."
            )
        right.append(name)
    return right


def plain_texts(rows: Iterable[RowInput], text_key: str) -> list[str]:
    """The text of each row.

    Raises:
        PromptError: A row holds none; it says which.
    """

    def one(number: int, row: RowInput) -> str:
        try:
            return text_of(row, text_key)
        except PromptError as error:
            raise PromptError(f"Row {number} of `texts`, counted from 0: {error}") from None

    return [one(number, row) for number, row in enumerate(rows)]


def given_pool(classifier: TextClassifier, examples: ExampleSpec | None) -> tuple[Example, ...]:
    """The examples that the user gave by themselves; none where texts are to become examples.

    Raises:
        ConfigurationError: The classifier has some, too.
    """
    own = classifier.examples if isinstance(classifier, FewShotClassifier) else ()
    if examples is None:
        return own
    if own:
        raise ConfigurationError("The classifier has examples, so that `examples=` excludes it: give one of both.")
    return read_examples(examples, classifier._choices.names, classifier._option)


def refuse_shared(texts: Sequence[str], pool: Sequence[Example]) -> None:
    """Refuse texts that are examples, too: a model does better on these than on what will come.

    Raises:
        ConfigurationError: There is such a text.
    """
    known = {as_compared(example.text) for example in pool}
    shared = sum(as_compared(text) in known for text in texts)
    if shared:
        raise ConfigurationError(
            f"{shared} of {len(texts)} texts are examples, too: leave them out of one of both, so that no candidate "
            "has seen what it is asked."
        )
