"""Prompts: the rendering of labels, examples and texts, by a template or a preset (`presets`).

Pure. A prompt has a constant part first and the text last, so that servers can reuse their work on the constant part.
Texts, labels and examples are put in as they are: braces, quotes and template-like text in them are never read as a
template. User text is kept apart from what surrounds it (`Prompt`), so that an engine can tokenize it without reading
special tokens out of it.
"""

from __future__ import annotations

import copy
import re
import string
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain_core.prompts import PromptTemplate, StringPromptTemplate

from langchain_stormtrooper.arguments import is_null
from langchain_stormtrooper.errors import PromptError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.presets import EXAMPLE, Preset

TEXT, LABELS, EXAMPLES = "text", "labels", "examples"
_KINDS = ("text_kind", "label_kind", "Text_kind", "Label_kind")

# No text that a user has can contain it, and it survives templates that strip or escape.
_MARK = f"text{uuid.uuid4().hex}text"

CHAT_MESSAGE = f"message{uuid.uuid4().hex}message"
"""What an engine is to render as the user's message, for `TaskPrompt.in_chat`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt, in parts: what the model's chat template wrote, and what it wraps.

    Attributes:
        before: Written by the model's chat template, special tokens and all; empty without one.
        head: Everything else before the text; the same for all rows unless inputs carry further variables.
        text: The user's text, as it is.
        tail: Everything after the text but `after`.
        after: Written by the model's chat template.
        others: Further heads and tails, with the labels listed in another order; for `in_all_orders`.
        variables: What the row gave for further variables of the template; None where it has none.
    """

    before: str = field(default="", repr=False)
    head: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    tail: str = field(default="", repr=False)
    after: str = field(default="", repr=False)
    others: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    variables: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def message(self) -> str:
        """What the chat template wraps; without one, the whole prompt."""
        return self.head + self.text + self.tail

    def in_all_orders(self) -> list[Prompt]:
        """This prompt, and the same with the labels listed in each of the other orders."""
        if not self.others:
            return [self]
        return [replace(self, head=head, tail=tail, others=()) for head, tail in ((self.head, self.tail), *self.others)]

    def __str__(self) -> str:
        """The whole prompt."""
        return self.before + self.head + self.text + self.tail + self.after


class TaskPrompt:
    """A template with everything filled in but the text (and variables that inputs carry).

    Args:
        template: The template; `{text}` is needed, `{labels}`, `{text_kind}` and `{label_kind}` are filled in where
            they occur, and so is `{examples}`, which is needed when there are examples.
        labels: The labels.
        examples: Few-shot examples, in the order in which they shall stand.
        takes_examples: Whether the same template is to take other examples.
        text_kind: What the texts are.
        label_kind: What the labels are.
        example_template: How one example is written.
        codes: Whether labels are listed with letters, or numbers if they are more than 26, which are the answers.

    Attributes:
        answers: What the model is to answer, label by label: its name, or its letter or number.

    Raises:
        PromptError: The template lacks `{text}`, or `{examples}` though it is to take examples.
    """

    def __init__(
        self,
        template: StringPromptTemplate,
        labels: LabelSet,
        *,
        examples: Sequence[Example] = (),
        takes_examples: bool = False,
        text_kind: str = "text",
        label_kind: str = "label",
        example_template: str = EXAMPLE,
        codes: bool = False,
    ) -> None:
        template = _without_escapes(template)
        variables = set(template.input_variables) | set(template.partial_variables)
        if TEXT not in template.input_variables:
            raise PromptError(f"The prompt template has no {{{TEXT}}}: put it where the text to classify belongs.")
        nameless = sorted(name for name in variables if not re.fullmatch(r"[\w-]+", name))
        if nameless:
            raise PromptError(
                f"The prompt template has {{{nameless[0]}}}, which names nothing: write braces of the text twice."
            )
        if (examples or takes_examples) and EXAMPLES not in variables:
            raise PromptError(f"The prompt template has no {{{EXAMPLES}}}: put it where the examples belong.")
        self.answers = _codes(len(labels)) if codes else labels.names
        self._spelled = spelled = dict(zip(labels.names, self.answers, strict=True))
        kinds = dict(zip(_KINDS, (text_kind, label_kind, _capital(text_kind), _capital(label_kind)), strict=True))
        values = {
            **kinds,
            **({"code": "letter" if len(labels) <= len(string.ascii_uppercase) else "number"} if codes else {}),
            LABELS: _list_codes(labels, self.answers) if codes else list_labels(labels),
            "descriptions": _describe(labels, kinds["Label_kind"]),
            EXAMPLES: "".join(
                _fill(example_template, {**kinds, TEXT: e.text, "label": spelled[e.label]}) for e in examples
            ),
        }
        self.template = cast(
            "StringPromptTemplate",
            template.partial(**{name: value for name, value in values.items() if name in template.input_variables}),
        )
        self._before = self._after = ""
        self._others: tuple[TaskPrompt, ...] = ()
        self.input_variables = frozenset(self.template.input_variables) - {TEXT}
        self._constant = None if self.input_variables else self._split({})

    def render(self, text: str, variables: Mapping[str, Any] | None = None) -> Prompt:
        """The prompt for one text.

        Args:
            text: The text, put in as it is.
            variables: Values of further template variables.

        Raises:
            PromptError: The template has a variable that the input does not carry, or that is null.
        """
        if self._constant is not None and not self._others:
            # Every row comes this way, and most have nothing else in their prompts.
            head, tail = self._constant
            return Prompt(self._before, head, text, tail, self._after)
        if nulls := self.nulls(variables or {}):
            raise PromptError(f"The prompt's variable {nulls[0]!r} is null: give it a value, if only an empty text.")
        head, tail = self._constant or self._split(variables or {})
        others = tuple(other._constant or other._split(variables or {}) for other in self._others)
        further = None if self._constant else {name: (variables or {})[name] for name in self.input_variables}
        return Prompt(self._before, head, text, tail, self._after, others, further)

    def nulls(self, variables: Mapping[str, Any]) -> list[str]:
        """The variables that would stand in the prompt as "None" or "nan".

        Templates that can ask whether there is a value (mustache, jinja2) may get none.

        Args:
            variables: What an input carries.
        """
        if self._constant is not None or getattr(self.template, "template_format", None) != "f-string":
            return []
        return [name for name in sorted(self.input_variables) if name in variables and is_null(variables[name])]

    def blank(self) -> Prompt:
        """The prompt of an empty text."""
        return self.render("", dict.fromkeys(self.input_variables, ""))

    def answers_in_all_orders(self) -> list[tuple[str, ...]]:
        """What the model is to answer for each label, for each prompt of `Prompt.in_all_orders`; a letter moves."""
        return [tuple(prompt._spelled[name] for name in self._spelled) for prompt in (self, *self._others)]

    def as_template(self) -> StringPromptTemplate:
        """This prompt as a LangChain template in which only the text (and variables of inputs) is open."""
        if self._constant is None:
            return self.template
        head, tail = self._constant
        return PromptTemplate(
            template="{head}{text}{tail}",
            input_variables=[TEXT],
            partial_variables={"head": self._before + head, "tail": tail + self._after},
        )

    def in_chat(self, rendered: str) -> TaskPrompt:
        """This prompt as the user's message of a chat.

        Args:
            rendered: The model's chat template, filled by the engine with `CHAT_MESSAGE` as the user's message.

        Raises:
            PromptError: The chat template does not keep the message as it is.
        """
        before, mark, after = rendered.partition(CHAT_MESSAGE)
        if not mark or CHAT_MESSAGE in after:
            raise PromptError("The model's chat template does not keep the user's message: choose another `prompt=`.")
        wrapped = copy.copy(self)
        wrapped._before, wrapped._after = before, after
        return wrapped

    def with_others(self, others: Sequence[TaskPrompt]) -> TaskPrompt:
        """This prompt, whose rows are to be asked with the labels in other orders as well.

        Args:
            others: The same prompt with the labels in each of the other orders.

        Raises:
            PromptError: The prompt does not show the labels' order.
        """
        named = {name: name for name in self.input_variables}
        heads = [prompt._split(named) for prompt in (self, *others)]
        if len(set(heads)) < len(heads):
            raise PromptError(
                "The prompt does not list the labels, so that rotating them changes nothing: leave `rotations=` out, "
                "or choose a prompt that lists them, such as prompt='task'."
            )
        turned = copy.copy(self)
        turned._others = tuple(others)
        return turned

    def _split(self, variables: Mapping[str, Any]) -> tuple[str, str]:
        missing = sorted(self.input_variables - set(variables))
        if missing:
            raise PromptError(
                f"The prompt template has the variables {missing}, which the input does not carry: "
                "pass a dict with these keys."
            )
        further = {name: variables[name] for name in self.input_variables}
        head, mark, tail = self.template.format(**further, **{TEXT: _MARK}).partition(_MARK)
        if not mark or _MARK in tail:
            raise PromptError(f"The prompt template must use {{{TEXT}}} exactly once, unchanged.")
        return head, tail


def task_prompt(
    preset: Preset, labels: LabelSet, *, examples: Sequence[Example], text_kind: str, label_kind: str
) -> TaskPrompt:
    """The prompt of a preset for a task."""
    return TaskPrompt(
        PromptTemplate.from_template(preset.few_shot if examples else preset.zero_shot),
        labels,
        examples=examples,
        text_kind=text_kind,
        label_kind=label_kind,
        example_template=preset.example,
        codes=preset.codes,
    )


def list_labels(labels: LabelSet) -> str:
    """The labels as a prompt lists them: in one line, or one a line where there are descriptions."""
    if labels.descriptions:
        return "\n" + _lines(labels)
    return ", ".join(labels.names) + "."


def _list_codes(labels: LabelSet, codes: Sequence[str]) -> str:
    return "\n".join(
        f"{code}) {label.name}: {label.description}" if label.description else f"{code}) {label.name}"
        for code, label in zip(codes, labels.labels, strict=True)
    )


def _codes(number: int) -> tuple[str, ...]:
    """Letters, or numbers with as many digits each: none is the start of another, whatever the labels' names are."""
    if number <= len(string.ascii_uppercase):
        return tuple(string.ascii_uppercase[:number])
    digits = len(str(number))
    return tuple(str(code).zfill(digits) for code in range(1, number + 1))


def _describe(labels: LabelSet, title: str) -> str:
    """The labels' descriptions for a prompt that does not list options; empty without any."""
    return f"{title}s:\n{_lines(labels)}\n\n" if labels.descriptions else ""


def _lines(labels: LabelSet) -> str:
    return "\n".join(
        f"- {label.name}: {label.description}" if label.description else f"- {label.name}" for label in labels.labels
    )


def _without_escapes(template: StringPromptTemplate) -> StringPromptTemplate:
    """A mustache template that puts values in as they are, not escaped for HTML."""
    if not isinstance(template, PromptTemplate) or template.template_format != "mustache":
        return template
    plain = re.sub(r"(?<!\{)\{\{\s*([\w.]+)\s*\}\}(?!\})", r"{{{\1}}}", template.template)
    return template.model_copy(update={"template": plain})


def _capital(kind: str) -> str:
    """With its first letter large, the others as they are (`str.capitalize` would spoil 'FAQ entry')."""
    return kind[:1].upper() + kind[1:]


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Fill a template of ours in one pass, so that values are never read as templates."""
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], template)
