"""`tune` and `atune`: try prompts, descriptions and numbers of examples on labelled texts, and choose.

What cannot be meant is refused before a model is asked anything. Reading what was passed is `arguments`' business,
asking `searching`'s, who leaves the race `racing`'s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from rich.console import RenderableType

from langchain_stormtrooper import bridge
from langchain_stormtrooper.arguments import check_count, check_whole
from langchain_stormtrooper.calibration import check_promise
from langchain_stormtrooper.classifiers import ExampleSpec, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, FailedRequestWarning, RequestFailedError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labelled import read_items, read_scoped
from langchain_stormtrooper.labels import read_option
from langchain_stormtrooper.row_calls import RowInput
from langchain_stormtrooper.row_warnings import warn_caller
from langchain_stormtrooper.runs import Ledger
from langchain_stormtrooper.runs.ledger import check_ledger
from langchain_stormtrooper.tasks import run_all
from langchain_stormtrooper.text_classifier import TextClassifier
from langchain_stormtrooper.tuning.arguments import given_pool, labels_of, plain_texts, refuse_shared, right_labels
from langchain_stormtrooper.tuning.candidates import Candidate, PromptSpec, merge_known, read_choices, useful_counts
from langchain_stormtrooper.tuning.evidence import TuningEvidence
from langchain_stormtrooper.tuning.racing import Plan, plan
from langchain_stormtrooper.tuning.remarks import (
    about_contradictions,
    about_examples,
    about_failures,
    about_labels,
    about_merged,
    about_repeated,
    about_silent,
)
from langchain_stormtrooper.tuning.searching import Search
from langchain_stormtrooper.tuning.splitting import Split, split


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` has chosen.

    Attributes:
        classifier: The classifier: a `ZeroShotClassifier`, or a `FewShotClassifier` with its examples.
        evidence: What was tried, and why this one was chosen. `rich.print` shows a table.
    """

    classifier: TextClassifier
    evidence: TuningEvidence

    def __rich__(self) -> RenderableType:
        """The evidence's table."""
        return self.evidence.__rich__()


async def atune(
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    classifier: TextClassifier | None = None,
    prompts: Iterable[PromptSpec] | None = None,
    descriptions: Iterable[Mapping[str, str] | None] | None = None,
    n_examples: Iterable[int] | None = None,
    examples: ExampleSpec | None = None,
    budget: int | None = None,
    confidence: float = 0.9,
    seed: int = 0,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Tuned:
    """Find the prompt, the descriptions and the number of examples that suit a task, from a few labelled texts.

    Some of the texts become examples, the others are what candidates are compared on: all answer the same texts in the
    same order, in rounds. After each, those that another candidate has been shown to be better than are dropped, by an
    exact sign test of the texts on which only one of both is right. It ends when nothing is left to be shown. Of those
    that stay, the one with the fewest examples is chosen, so that examples have to be shown to help; of these, the one
    that was right most often, then the one with the shortest prompts. Where examples hurt, the evidence says so.

    Candidates are compared as they will be used: with the lean of the model taken out for each prompt by itself where
    that is the classifier's `prior`, as by default. The accuracy of the one that is chosen flatters: measure it on
    other texts (`evaluate`).

    Args:
        texts: Texts of the task, or dicts that hold them. From about 100 on something can be shown; a text that is
            there twice counts once, with its first label.
        labels: The right label of each text. With `out_of_scope=`, None is for a text that no label fits: its option is
            right, and becomes examples like a label.
        classifier: What all candidates have in common: LLM, labels, kinds and other settings. The examples of a
            `FewShotClassifier` are those to choose from. Default: a `ZeroShotClassifier` of the labels that occur.
        prompts: Presets and templates, and None for what suits the model. Default: the classifier's own prompt, else
            (None, "kinds", "task").
        descriptions: Dicts from label to description, and None for none. Default: the classifier's own.
        n_examples: How many examples of each label are tried. Default: 0, 1, 2, 4 and 8, as far as there are so many;
            at most a third of a label's texts become examples.
        examples: Examples to choose from, the first ones of each label; then all texts are compared on.
        budget: How many rows may be classified, by all candidates together; the last round is as long as it pays for.
            The texts that show a model's lean come on
            top, eight for each candidate. Default: any number.
        confidence: How probable it is to be that the best candidate stays in the race. The lower, the more is taken
            for shown.
        seed: Seed of which texts become examples, and of the order of the others.
        ledger: Keeps finished rows: a search that was broken off asks for none of them again.
        **settings: Settings of the default classifier, such as `llm`, `text_kind` and `label_kind`.

    Raises:
        ConfigurationError: The arguments do not go together; there are too few texts, or too small a budget; all
            requests of a candidate failed; or no candidate labelled any text.
        LabelError: A label or a description is not of the classifier's labels.
        PromptError: A prompt is no template, or lacks a variable, or a row holds no text.
        RequestFailedError: What a candidate needs beforehand, such as the model's lean, could not be had.
        ServerError: Something is wrong for every row.
    """
    return _warned(
        await _tune(
            texts,
            labels,
            classifier=classifier,
            prompts=prompts,
            descriptions=descriptions,
            n_examples=n_examples,
            examples=examples,
            budget=budget,
            confidence=confidence,
            seed=seed,
            ledger=ledger,
            settings=settings,
        )
    )


def tune(
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    classifier: TextClassifier | None = None,
    prompts: Iterable[PromptSpec] | None = None,
    descriptions: Iterable[Mapping[str, str] | None] | None = None,
    n_examples: Iterable[int] | None = None,
    examples: ExampleSpec | None = None,
    budget: int | None = None,
    confidence: float = 0.9,
    seed: int = 0,
    ledger: Ledger | str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Tuned:
    """Like `atune`.

    Examples:
        >>> from langchain_stormtrooper import TextGenerationInference, tune
        >>> texts = [f"The senate votes, {n}." for n in range(15)] + [f"Atoms have a nucleus, {n}." for n in range(15)]
        >>> labels = ["politics"] * 15 + ["science"] * 15
        >>> tuned = tune(texts, labels, llm=TextGenerationInference(), prompts=["kinds", "task"], n_examples=[0])
        >>> tuned.classifier.invoke("The senate votes today."), tuned.evidence.answered <= 60
        ('politics', True)
    """
    search = partial(
        _tune,
        texts,
        labels,
        classifier=classifier,
        prompts=prompts,
        descriptions=descriptions,
        n_examples=n_examples,
        examples=examples,
        budget=budget,
        confidence=confidence,
        seed=seed,
        ledger=ledger,
        settings=settings,
    )
    return _warned(bridge.run(search))


def _warned(tuned: Tuned) -> Tuned:
    """With a warning in the caller's own thread if requests failed."""
    failed = about_failures(tuned.evidence.candidates)
    if failed:
        warn_caller(FailedRequestWarning, failed)
    return tuned


async def _tune(
    texts: Iterable[RowInput],
    labels: Iterable[str | Enum | None],
    *,
    classifier: TextClassifier | None,
    prompts: Iterable[PromptSpec] | None,
    descriptions: Iterable[Mapping[str, str] | None] | None,
    n_examples: Iterable[int] | None,
    examples: ExampleSpec | None,
    budget: int | None,
    confidence: float,
    seed: int,
    ledger: Ledger | str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> Tuned:
    check_promise(0.5, confidence)
    check_count("`budget=`", budget, optional=True)
    check_whole("`seed=`", seed)
    check_ledger(ledger)
    given = labels if isinstance(labels, Set) else read_items("labels", labels)
    if classifier is None:
        extra = read_option(settings.get("out_of_scope"))
        classifier = ZeroShotClassifier(labels_of(given, None if extra is None else extra.name), **settings)
    elif settings:
        raise ConfigurationError(
            f"`classifier=` has the settings, so that {sorted(settings)} cannot be given beside it: set them there."
        )
    choices = read_choices(classifier, prompts=prompts, descriptions=descriptions, n_examples=n_examples)
    option = choices.base._option
    rows, scoped = read_scoped(texts, given, choices.base.labels, purpose="tune", option=option)
    right = right_labels(scoped, option)
    plain = plain_texts(rows, choices.base.text_key)
    pool = given_pool(classifier, examples)
    names = choices.base._choices.names
    wanted = max(choices.counts)
    parts = split(plain, right, names, 0 if pool else max(choices.counts), seed)
    if pool:
        refuse_shared(plain, pool)
        by_label = {name: [example for example in pool if example.label == name] for name in names}
        source = "more examples"
    else:
        by_label = {
            name: [Example(text=plain[number], label=name) for number in held] for name, held in parts.held.items()
        }
        source = "more texts: at most a third of a label's texts become examples"
    choices = useful_counts(choices, by_label, is_own=n_examples is not None, source=source)
    candidates = choices.candidates(by_label)
    distinct, at_least = merge_known(candidates)
    _check_number(distinct)
    # Refuses too few texts and too small a budget, before anything is asked if that is sure.
    _plan(parts, at_least, confidence, budget)
    with ExitStack() as opened:
        if ledger is not None and not isinstance(ledger, Ledger):
            ledger = opened.enter_context(await asyncio.to_thread(Ledger, ledger))
        different = await _different(distinct)
        _check_number(different)
        planned = _plan(parts, len(different), confidence, budget)
        search = Search(different, planned, ledger, option)
        stopped = await search.run(
            [rows[number] for number in parts.compared], [right[number] for number in parts.compared], budget
        )
    chosen = search.choice()
    results = tuple(search.evidence(number, chosen) for number in range(len(different)))
    remarks = [
        *about_examples(different, search.race, chosen),
        *about_silent(different, list(map(search.unlabelled, range(len(different)))), search.race),
        *about_labels(names, by_label, choices.counts, right, wanted=wanted),
        *about_merged(len(candidates) - len(different)),
        *about_repeated(parts.repeated),
        *about_contradictions(parts.contradicting),
    ]
    failed = about_failures(results)
    evidence = TuningEvidence(
        candidates=results,
        chosen=chosen,
        texts=len(parts.compared),
        held=sum(map(len, parts.held.values())),
        looks=planned.looks,
        confidence=confidence,
        early_level=planned.early,
        final_level=planned.final,
        answered=search.answered,
        budget=budget,
        stopped=stopped,
        seed=seed,
        remarks=(*remarks, *([failed] if failed else [])),
    )
    return Tuned(different[chosen].classifier, evidence)


def _plan(parts: Split, candidates: int, confidence: float, budget: int | None) -> Plan:
    """When to look; errors as in `plan`, which also say how many texts were left out."""
    try:
        plan(len(parts.compared), candidates, confidence=confidence)
    except ConfigurationError as error:
        raise ConfigurationError(" ".join([str(error), *about_repeated(parts.repeated)])) from None
    return plan(len(parts.compared), candidates, confidence=confidence, budget=budget)


def _check_number(candidates: Sequence[Candidate]) -> None:
    if len(candidates) < 2:
        raise ConfigurationError(
            "There is one candidate, and nothing to choose from: give more `prompts=`, `descriptions=` or "
            "`n_examples=`, or more texts to take examples from."
        )


async def _different(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that ask in different ways: what suits the model may be one of the presets that are tried, too."""
    at_once = max(1, candidates[0].classifier._concurrency // 8)
    tasks = await run_all(_task, candidates, at_once)
    kept: dict[str, Candidate] = {}
    for task, candidate in zip(tasks, candidates, strict=True):
        kept.setdefault(task, candidate)
    return list(kept.values())


async def _task(candidate: Candidate) -> str:
    """What tells a candidate's way of asking from others'; learns the model's lean, too.

    Raises:
        RequestFailedError: The LLM had no answer.
    """
    try:
        return await candidate.classifier.afingerprint()
    except RequestFailedError as error:
        raise RequestFailedError(
            f"The {candidate.called} could not be tried, since what is asked before any row failed "
            f"({str(error).rstrip('.')}): leave it out, try again, or set `prior=None`, so that the model's lean is "
            "not asked for.",
            status=error.status,
            retryable=error.is_retryable,
        ) from error
