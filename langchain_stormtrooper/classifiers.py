"""`ZeroShotClassifier` and `FewShotClassifier`: Runnables from a text to one of the labels, or None.

They say what users give; all that they do is `text_classifier`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Self, TypeAlias

from langchain_core.embeddings import Embeddings
from langchain_core.example_selectors.base import BaseExampleSelector
from pydantic import Field, InstanceOf
from typing_extensions import override

from langchain_stormtrooper.arguments import check_count
from langchain_stormtrooper.calibrating import without_learnt
from langchain_stormtrooper.detailed_classifier import DetailedClassifier as DetailedClassifier
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.examples import Example, read_examples
from langchain_stormtrooper.labels import LabelSet, LabelSpec, read_option
from langchain_stormtrooper.selecting import ExampleChooser, SelectName, check_select, chooser
from langchain_stormtrooper.text_classifier import TextClassifier as TextClassifier

ExampleSpec: TypeAlias = Iterable[Example | tuple[str, str | Enum | None] | Mapping[str, Any]]
"""What `examples=` takes."""


class ZeroShotClassifier(TextClassifier):
    """Classifies texts by the names of the labels alone.

    A Runnable from a text (or a dict that holds it) to one of the labels, or to None with a warning. Batches are
    concurrent; a row's answer never depends on its neighbours, and a row's failure never touches them. Connections are
    opened at the first call. Sync methods work inside a running event loop too.

    Args:
        labels: A list, a dict from name to description, an Enum class or a `Literal`; at least two.
        llm: The language model: `TextGenerationInference` (default, at TGI_BASE_URL or http://127.0.0.1:8080),
            `LlamaCpp`, or any LangChain LLM or chat model. Such a one is asked row by row and concurrently, on a copy
            that does not sample where it has the fields for it; a row that was refused or dropped is asked again. Chat
            models keep their own length and stop texts, since they may think first.
        prompt: A preset ("stable-beluga", "flan-t5", "task", "kinds", "chat", or "codes", which lists labels
            with letters, or with numbers if there are more than 26, and scores these: for names that start alike, with
            a model that is good at it; many mix codes up from about 20 on), or a template with `{text}` and, where
            wanted, `{labels}`, `{text_kind}`, `{label_kind}`; further variables are taken from dict inputs. Default:
            the preset that suits the model the server names, "stable-beluga" if it names none.
        parser: Turns generated text into a label. Default: a `LabelOutputParser` of the labels.
        method: "score" (the probability of every label), "constrain" (one generation that a grammar keeps within the
            labels), "generate" (free text and the parser), or "auto": the best that the LLM offers for these labels.
            `LlamaCpp` scores; `TextGenerationInference` asks its server with a few requests of a token, once, and
            scores where a text costs at most eight such requests, else constrains or generates; other LLMs generate.
            With a `parser` of your own or `max_new_tokens`, "auto" generates.
        prior: For "score": "words" divides by the model's lean towards each label, measured once on eight bags of
            common words; "content-free" measures it on "N/A", an empty text and "[MASK]" (Zhao et al. 2021); None
            leaves probabilities as the model gives them. A calibration takes the prior's place.
        rotations: For "score" with prompts that list the labels: how many orders of the list to ask with, each for one
            more request. Scores are averaged in log space, where what a place in the list adds to its label's score
            cancels once every label has stood in every place.
        shortlist: For many labels: how many of them the model is asked about for each text, those whose names,
            descriptions or examples are most like it; a number, or a `Shortlist` that also says what is like it. Where
            a prompt is too long, fewer are listed before any text is cut. Labels left out have no probability, or what
            the measured recall leaves to them (`measure_shortlist`). Excludes a calibration.
        out_of_scope: For texts that none of the labels fits: the name of an option that says so, such as "none of
            these", or a `Label` with a description. The model chooses it like a label, the last of them, and with every
            method. Where it is the best, the row is None with an `OutOfScopeWarning`; its probability is
            `Classification.out_of_scope`. With a `parser` of your own, that is to return the name. Default: no such
            option, so that every text gets a label, however far off it is, or none by `min_confidence` and the like.
        calibration: What `calibrate` has taught; `Calibration.load(path)` for one that was saved. It is refused with a
            `CalibrationError` before the first row if labels, prompt or model are others.
        min_confidence: The probability that the best label must have, else the row is None with a
            `LowConfidenceWarning`. Probabilities stay in the details. This and the next one also work with "constrain"
            where the server shows probabilities; this one also with an LLM or chat model of another package that was
            created with `logprobs=True`.
        min_margin: By how much the best label's probability must be ahead of the second's.
        min_covered_mass: For "score", where the LLM tells it: the share of the model's probability that must fall on
            labels at all; a row with less is None with an `UnmatchedLabelWarning`: it may be none of these.
        on_overlong: What a text longer than the model accepts gives: "none" (None and an `OverlongInputWarning`),
            "truncate" (the answer to as much of the text as fits, marked as `truncated` in the details; the instruction
            is never cut, and examples are left out before any text), or "raise" (an `OverlongInputError`).
        text_key: The key that holds the text in dict inputs.
        text_kind: What the texts are, for the prompt: "review", "sentence".
        label_kind: What the labels are, for the prompt: "sentiment", "topic".
        max_new_tokens: Tokens to generate at most, for "generate". Default: enough for the longest label and some
            words around it.

    Raises:
        LabelError: The labels do not make a classification.
        PromptError: The template has no `{text}`.
        ConfigurationError: The arguments contradict each other.

    Examples:
        >>> from langchain_stormtrooper import LlamaCpp, ZeroShotClassifier
        >>> classifier = ZeroShotClassifier(["politics", "science", "other"], llm=LlamaCpp())
        >>> classifier.invoke("It is the Electoral College's responsibility to elect the president.")
        'politics'
        >>> answer = classifier.with_details().invoke("The president was elected.")
        >>> answer.label, list(answer.probabilities)
        ('politics', ['politics', 'science', 'other'])
    """

    def __init__(self, labels: LabelSpec, **kwargs: Any) -> None:
        super().__init__(labels, **kwargs)

    def with_examples(self, examples: ExampleSpec, **settings: Any) -> FewShotClassifier:
        """A `FewShotClassifier` with these settings; this one stays as it is.

        A calibration is left behind with a warning, since it was learnt without the examples.

        Args:
            examples: As in `FewShotClassifier`.
            **settings: Further settings, such as `select`.

        Raises:
            LabelError: An example's label is not among the labels: add it first, `with_labels`.
        """
        task = without_learnt(self, "examples")
        return FewShotClassifier(
            examples=examples, **{**{name: getattr(task, name) for name in task.model_fields_set}, **settings}
        )


class FewShotClassifier(TextClassifier):
    """Classifies texts by the names of the labels and some examples.

    Like `ZeroShotClassifier`, with examples in the prompt. By default these are the same for all rows: in rounds of one
    per label, each label's examples in the order given, in the constant part of the prompt, which servers keep between
    rows. Choosing for each row those that are near its text often gives better answers, and has the server compute them
    anew for each row (`cookbook/examples.md` has figures).

    Examples that the model has no room for are left out before any text is cut: of a fixed set the last rounds, of
    others the least similar first; `Classification.n_examples` says how many there were. A text is never among its own
    examples, and the same text gets the same ones whatever else is classified.

    Args:
        labels: As in `ZeroShotClassifier`.
        examples: Pairs `(text, label)`, or dicts with `text` and `label`; a label may be a member of the Enum that
            `labels` is. With `out_of_scope=`, None stands for its option, to show texts that none of the labels fits.
        select: Which of the examples stand in the prompt. "balanced": a set that is the same for all rows. Else the
            nearest to each text, the most similar last: "fuzzy" by their letters (`rapidfuzz`), "bm25" by their words,
            any LangChain `Embeddings` by their meaning (rows of a call are embedded many at once), or what a LangChain
            example selector names, the best first: it has the examples, as `{"text": …, "label": …}`, so that
            `examples` is left out.
        n_examples: How many examples stand in a prompt at most. Default: all of a fixed set, eight of the nearest.
        max_per_label: How many of them may have the same label, as long as there are examples of other labels; for
            the nearest. With 1, there are as many labels among them as can be. Default: no bound.
        **kwargs: As in `ZeroShotClassifier`; a template of one's own needs `{examples}`.

    Raises:
        LabelError: An example's label is not among the labels, or the labels do not make a classification.
        ConfigurationError: There are no examples, or one is no pair of texts; or the arguments contradict each other.

    Examples:
        >>> from langchain_stormtrooper import FewShotClassifier, LlamaCpp
        >>> classifier = FewShotClassifier(
        ...     labels=["positive", "negative"],
        ...     examples=[("A joy from start to end.", "positive"), ("Two hours of my life wasted.", "negative")],
        ...     llm=LlamaCpp(),
        ...     text_kind="review",
        ...     label_kind="sentiment",
        ... )
        >>> classifier.batch(["A wonderful film, full of joy.", "Boring, loud and far too long."])
        ['positive', 'negative']
    """

    examples: tuple[Example, ...] = Field(repr=False)
    # A selector would show the texts that it has.
    select: SelectName | InstanceOf[Embeddings] | InstanceOf[BaseExampleSelector] = Field(
        default="balanced", repr=False
    )
    n_examples: int | None = Field(default=None, ge=1)
    max_per_label: int | None = Field(default=None, ge=1)

    def __init__(self, labels: LabelSpec, examples: ExampleSpec = (), **kwargs: Any) -> None:
        labels = LabelSet.of(labels)
        select = kwargs.get("select", "balanced")
        check_select(select)
        for name in ("n_examples", "max_per_label"):
            check_count(f"`{name}=`", kwargs.get(name), optional=True)
        if not isinstance(select, BaseExampleSelector):
            option = read_option(kwargs.get("out_of_scope"))
            choices = labels.with_option(option).names
            examples = read_examples(examples, choices, None if option is None else option.name)
        elif examples := tuple(examples):
            raise ConfigurationError(
                f"`examples` and a {type(select).__name__} exclude each other: add them to it, and leave them out."
            )
        if kwargs.get("max_per_label") is not None and (
            select == "balanced" or isinstance(select, BaseExampleSelector)
        ):
            raise ConfigurationError(
                "`max_per_label=` is for the nearest examples: set `select=` to 'fuzzy', 'bm25' or an embedding model, "
                "or leave it out."
            )
        super().__init__(labels, examples=examples, **kwargs)

    def with_examples(self, examples: ExampleSpec) -> Self:
        """This classifier with further examples, after those it has; this one stays as it is.

        A calibration is left behind with a warning, since it was learnt without them.

        Args:
            examples: The further examples.

        Raises:
            LabelError: An example's label is not among the labels: add it first, `with_labels`.
            ConfigurationError: A selector has the examples.
        """
        further = read_examples(examples, self._choices.names, self._option)
        return without_learnt(self, "examples").model_copy(update={"examples": (*self.examples, *further)})

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """With the examples as plain data, too."""
        return {**super().lc_attributes, "examples": [[example.text, example.label] for example in self.examples]}

    @property
    @override
    def _known_examples(self) -> tuple[Example, ...]:
        return self.examples

    @override
    def _chooser(self) -> ExampleChooser:
        return chooser(
            self.select,
            self.examples,
            self._choices.names,
            n=self.n_examples,
            max_per_label=self.max_per_label,
            option=self._option,
        )
