"""What is tried: a classifier for each prompt, each set of descriptions and each number of examples. Pure.

What cannot be meant (no candidates, one given twice, a template without a place for examples) is refused here, before
a model is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.prompts import StringPromptTemplate

from langchain_stormtrooper.answering import fill_template
from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, LabelError, PromptError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.fingerprints import task_fingerprint
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.parts import read_prompt
from langchain_stormtrooper.presets import PRESETS
from langchain_stormtrooper.prompts import task_prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.text_classifier import TextClassifier

PromptSpec: TypeAlias = str | StringPromptTemplate | None
"""A preset, a template, or None for what suits the model."""

PROMPTS: tuple[PromptSpec, ...] = (None, "kinds", "task")
"""What is tried where neither the user nor the classifier says: prompts that any LLM can be asked with."""

COUNTS = (0, 1, 2, 4, 8)
"""Numbers of examples of each label that are tried where the user does not say."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way of asking.

    Attributes:
        classifier: What asks so.
        prompt: What the prompt is called.
        descriptions: Which set of descriptions it has, counted from 0.
        n_examples: Examples of each label, at most.
        examples: Examples in all.
    """

    classifier: TextClassifier
    prompt: str
    descriptions: int
    n_examples: int
    examples: int

    @property
    def called(self) -> str:
        """What it is called in sentences."""
        return f"prompt {self.prompt!r} and {self.examples} examples"

    @property
    def known_task(self) -> str | None:
        """What tells its way of asking from others'; None where the LLM has to be asked for that."""
        settings = self.classifier._settings()
        examples = self.classifier._known_examples
        if settings.shortlist is not None:
            return None
        if isinstance(settings.prompt, StringPromptTemplate):
            kind, prompt = "template", fill_template(settings, settings.prompt, examples)
        elif settings.prompt is not None and not PRESETS[settings.prompt].chat:
            kind = settings.prompt
            prompt = task_prompt(
                PRESETS[settings.prompt],
                settings.choices,
                examples=examples,
                text_kind=settings.text_kind,
                label_kind=settings.label_kind,
            )
        else:
            return None
        # The method is the same for all.
        return task_fingerprint(prompt, settings.choices.names, Method.SCORE, kind=kind)


@dataclass(frozen=True, slots=True)
class Choices:
    """What is to be tried with each other; read from what users give.

    Attributes:
        base: The classifier whose other settings all candidates have, without examples.
        prompts: The prompts.
        labels: The labels with each set of descriptions.
        counts: The numbers of examples of each label, ascending.
    """

    base: ZeroShotClassifier
    prompts: tuple[PromptSpec, ...]
    labels: tuple[LabelSet, ...]
    counts: tuple[int, ...]

    def candidates(self, pool: Mapping[str, Sequence[Example]]) -> list[Candidate]:
        """All candidates, the simplest first.

        Args:
            pool: The examples of each label; the first ones are taken.

        Raises:
            PromptError: A template lacks a variable.
            LabelError: Labels with such descriptions do not make a classification.
        """
        names = _names(self.prompts)
        found: list[Candidate] = []
        for count in self.counts:
            examples = [example for members in pool.values() for example in members[:count]]
            for number, labels in enumerate(self.labels):
                for name, prompt in zip(names, self.prompts, strict=True):
                    bare = self.base.model_copy(update={"labels": labels, "prompt": prompt})
                    try:
                        classifier = bare.with_examples(examples) if examples else bare
                    except PromptError as error:
                        raise PromptError(f"{str(error).rstrip('.')}, or set `n_examples=[0]`.") from None
                    found.append(Candidate(classifier, name, number, count, len(examples)))
        return found


def merge_known(candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """Candidates without those that ask in the same way as one before, as far as that is known without asking.

    Args:
        candidates: The candidates.

    Returns:
        The candidates, and how many of them ask in different ways for sure: at least two.
    """
    kept: dict[str | int, Candidate] = {}
    for number, candidate in enumerate(candidates):
        task = candidate.known_task
        kept.setdefault(number if task is None else task, candidate)
    known = sum(isinstance(task, str) for task in kept)
    return list(kept.values()), max(2, known, len({candidate.examples for candidate in candidates}))


def read_choices(
    classifier: TextClassifier,
    *,
    prompts: Iterable[PromptSpec] | None,
    descriptions: Iterable[Mapping[str, str] | None] | None,
    n_examples: Iterable[int] | None,
) -> Choices:
    """What a user wants to be tried.

    Args:
        classifier: The classifier whose other settings all candidates have.
        prompts: The prompts; None for the classifier's own if it has one, else for `PROMPTS`.
        descriptions: Dicts from label to description; None for the classifier's own.
        n_examples: The numbers of examples of each label; None for `COUNTS`.

    Raises:
        ConfigurationError: There are none, one is there twice, or is none.
        PromptError: A prompt is neither a preset nor a template with `{text}`.
        LabelError: A description is of no label.
    """
    if not isinstance(classifier, ZeroShotClassifier | FewShotClassifier):
        raise ConfigurationError(
            f"`classifier` must be a ZeroShotClassifier or a FewShotClassifier, not {type(classifier).__name__}."
        )
    if classifier.calibration is not None:
        raise ConfigurationError(
            "A calibration belongs to one prompt: tune without it, and calibrate the classifier that was chosen."
        )
    if isinstance(classifier, FewShotClassifier) and classifier.select != "balanced":
        raise ConfigurationError(
            "`tune` tries fixed sets of examples, and `select=` takes others for each text: leave it out, and compare "
            "the classifier that was chosen with that one by `evaluate`."
        )
    if prompts is None:
        prompts = PROMPTS if classifier.prompt is None else (classifier.prompt,)
    read = tuple(read_prompt(prompt) for prompt in _items("prompts", prompts))
    given = (classifier.labels.descriptions,) if descriptions is None else _items("descriptions", descriptions)
    labels = tuple(_described(classifier.labels, item) for item in given)
    counts = COUNTS if n_examples is None else _items("n_examples", n_examples)
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ConfigurationError(f"`n_examples=` has {count!r}: give whole numbers from 0 on, such as (0, 2, 4).")
    for name, items in (("prompts", read), ("descriptions", labels), ("n_examples", counts)):
        if any(item in items[:position] for position, item in enumerate(items)):
            raise ConfigurationError(f"`{name}=` has one of them twice: leave one out.")
    fields = {
        name: getattr(classifier, name) for name in classifier.model_fields_set & ZeroShotClassifier.model_fields.keys()
    }
    return Choices(ZeroShotClassifier(**fields), read, labels, tuple(sorted(counts)))


def _items(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | Mapping | StringPromptTemplate) or not isinstance(values, Iterable):
        raise ConfigurationError(f"`{name}=` must be a list of what is to be tried, not {type(values).__name__}.")
    items = tuple(values)
    if not items:
        raise ConfigurationError(f"`{name}=` is empty: give what is to be tried, or leave it out.")
    return items


def _described(labels: LabelSet, descriptions: Any) -> LabelSet:
    if descriptions is not None and not isinstance(descriptions, Mapping):
        raise ConfigurationError(
            f"`descriptions=` must be a list of dicts from label to description, or None, not of "
            f"{type(descriptions).__name__}."
        )
    given = descriptions or {}
    unknown = [name for name in given if name not in labels]
    if unknown:
        raise LabelError(f"`descriptions=` has {unknown[0]!r}, which is not one of the labels: correct it.")
    return LabelSet.of([{"name": name, "description": given.get(name)} for name in labels])


def _names(prompts: Sequence[PromptSpec]) -> list[str]:
    """What prompts are called: the text of a template is not for reports."""
    names: list[str] = []
    for prompt in prompts:
        own = sum(name.startswith("template") for name in names)
        names.append("default" if prompt is None else prompt if isinstance(prompt, str) else f"template {own + 1}")
    return names


def useful_counts(choices: Choices, pool: Mapping[str, Sequence[Example]], *, is_own: bool, source: str) -> Choices:
    """With the numbers of examples for which there are more than for the one before.

    Args:
        choices: What is to be tried.
        pool: The examples of each label.
        is_own: Whether the user gave the numbers, who is told then.
        source: What would have to be more for more examples, as in "give more …".

    Raises:
        ConfigurationError: There are no more examples for a number that the user gave.
    """
    kept: list[int] = []
    totals: list[int] = []
    for count in choices.counts:
        total = sum(min(count, len(members)) for members in pool.values())
        if total not in totals:
            kept.append(count)
            totals.append(total)
        elif is_own:
            raise ConfigurationError(
                f"`n_examples=` has {count}, for which there are no more examples than for {kept[-1]}: leave it out, "
                f"or give {source}."
            )
    return Choices(choices.base, choices.prompts, choices.labels, tuple(kept))
