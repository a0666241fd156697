"""`ZeroShotClassifier` and `FewShotClassifier`: Runnables from a text to one of the labels, or None.

They say what users give; all that they do is `text_classifier`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from pydantic import Field
from typing_extensions import override

from langchain_stormtrooper.detailed_classifier import DetailedClassifier as DetailedClassifier
from langchain_stormtrooper.examples import Example, alternate, read_examples
from langchain_stormtrooper.labels import LabelSet, LabelSpec
from langchain_stormtrooper.text_classifier import TextClassifier as TextClassifier


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
            with letters and scores these), or a template with `{text}` and, where
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
            "truncate" (the answer to as much of the text as fits, marked as `truncated` in the details; instruction and
            examples are never cut), or "raise" (an `OverlongInputError`).
        text_key: The key that holds the text in dict inputs.
        text_kind: What the texts are, for the prompt: "review", "sentence".
        label_kind: What the labels are, for the prompt: "sentiment", "topic".
        max_new_tokens: Tokens to generate at most, for "generate". Default: enough for the longest label and some
            words around it.

    Raises:
        LabelError: The labels do not make a classification.
        PromptError: The template has no `{text}`.
        ConfigurationError: The arguments contradict each other.

    Example:
        ```python
        from langchain_stormtrooper import LlamaCpp, ZeroShotClassifier

        classifier = ZeroShotClassifier(labels=["politics", "science", "other"], llm=LlamaCpp())
        classifier.invoke("It is the Electoral College's responsibility to elect the president.")
        classifier.batch(["one text", "another text"])
        classifier.with_details().invoke("one text").probabilities
        ```
    """

    def __init__(self, labels: LabelSpec, **kwargs: Any) -> None:
        super().__init__(labels, **kwargs)


class FewShotClassifier(TextClassifier):
    """Classifies texts by the names of the labels and some examples.

    Like `ZeroShotClassifier`, with examples in the prompt. They alternate between the labels, each label's examples in
    the order given, and stand in the constant part of the prompt, which servers keep between rows.

    Args:
        labels: As in `ZeroShotClassifier`.
        examples: Pairs `(text, label)`; a label may be a member of the Enum that `labels` is.
        **kwargs: As in `ZeroShotClassifier`; a template of one's own needs `{examples}`.

    Raises:
        LabelError: An example's label is not among the labels, or the labels do not make a classification.
        ConfigurationError: There are no examples, or one is no pair of texts.

    Example:
        ```python
        from langchain_stormtrooper import FewShotClassifier, LlamaCpp

        classifier = FewShotClassifier(
            labels=["positive", "negative"],
            examples=[("A joy from start to end.", "positive"), ("Two hours of my life wasted.", "negative")],
            llm=LlamaCpp(),
            text_kind="review",
            label_kind="sentiment",
        )
        ```
    """

    examples: tuple[Example, ...] = Field(repr=False)

    def __init__(self, labels: LabelSpec, examples: Iterable[Example | tuple[str, str | Enum]], **kwargs: Any) -> None:
        labels = LabelSet.of(labels)
        super().__init__(labels, examples=read_examples(examples, labels.names), **kwargs)

    @property
    @override
    def lc_attributes(self) -> dict[str, Any]:
        """With the examples as plain data, too."""
        return {**super().lc_attributes, "examples": [[example.text, example.label] for example in self.examples]}

    @override
    def _examples(self) -> list[Example]:
        return alternate(self.examples, self.labels.names)
