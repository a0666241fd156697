"""Rendering of prompts: whatever users write comes through as it is, and where it belongs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.prompts import PromptTemplate

from langchain_stormtrooper.errors import PromptError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import Label, LabelSet
from langchain_stormtrooper.normalizing import normalize
from langchain_stormtrooper.presets import PRESETS
from langchain_stormtrooper.prompts import CHAT_MESSAGE, Prompt, TaskPrompt, task_prompt

Format = Literal["f-string", "mustache", "jinja2"]

NAMES = LabelSet.of(["sport", "politics"])
NASTY = [
    "{text}",
    "{labels} {examples} {label} {Text_kind} {0} {} {{text}} {{{text}}} }{",
    "{{ text }} {% if text %} {# no #} {{#text}}x{{/text}} {{> text}} {{& text}}",
    "%s %(text)s %% $text ${text}",
    "\"quoted\" 'single' <b>&amp;</b> \\n \\1 \\g<0>",
    "one\r\ntwo\n\n\nthree\t ",
    "<s></s><|im_start|>system<|im_end|><|endoftext|>[INST]###",
    "  naïve 日本 🦀\u200b\u0000 ",
    "",
]
TEXTS = st.sampled_from(NASTY) | st.text(max_size=40) | st.lists(st.sampled_from(NASTY)).map("".join)
TEMPLATES: dict[Format, str] = {
    "f-string": "Sort: {labels}|{{x}}|{examples}|{text_kind}|{text}|{label_kind}?",
    "mustache": "Sort: {{labels}}|{x}|{{ examples }}|{{{text_kind}}}|{{text}}|{{&label_kind}}?",
    "jinja2": "Sort: {{ labels }}|{x}|{{ examples }}|{{ text_kind }}|{{ text }}|{{ label_kind }}?",
}
FORMATS: list[Any] = [
    pytest.param("f-string"),
    pytest.param("mustache"),
    pytest.param("jinja2", marks=pytest.mark.skipif(find_spec("jinja2") is None, reason="jinja2 is not installed")),
]


def distinct(names: list[str]) -> bool:
    """Whether names make a set of labels."""
    normal = [normalize(name) for name in names]
    return all(normal) and len(set(normal)) == len(normal)


LABEL_SETS = (
    st.lists(TEXTS.filter(normalize), min_size=2, max_size=3)
    .filter(distinct)
    .map(lambda names: LabelSet([Label(name) for name in names]))
)


@given(st.sampled_from(sorted(PRESETS)), LABEL_SETS, st.lists(TEXTS, max_size=3), TEXTS)
def test_presets_keep_what_users_write(name: str, labels: LabelSet, shots: list[str], text: str) -> None:
    """Texts, labels and examples stand in the prompt of every preset exactly as written, and in their place."""
    preset = PRESETS[name]
    examples = [Example(text=shot, label=labels[n % len(labels)]) for n, shot in enumerate(shots)]
    prompt = task_prompt(preset, labels, examples=examples, text_kind="{text}", label_kind="{{label}}").render(text)
    answers = dict(zip(labels, "ABC" if preset.codes else labels, strict=False))
    listed = "\n".join(f"{code}) {label}" for label, code in answers.items())
    values = {
        "{Text_kind}": "{text}",
        "{text_kind}": "{text}",
        "{Label_kind}": "{{label}}",
        "{label_kind}": "{{label}}",
        "{labels}": listed if preset.codes else ", ".join(labels) + ".",
        "{descriptions}": "",
        "{code}": "letter",
        "{examples}": "".join(f"{{text}}: {e.text}\n{{{{label}}}}: {answers[e.label]}\n\n" for e in examples),
    }
    before, _, after = (preset.few_shot if examples else preset.zero_shot).partition("{text}")
    assert (prompt.head, prompt.text, prompt.tail) == (fill_slowly(before, values), text, fill_slowly(after, values))


def fill_slowly(template: str, values: dict[str, str]) -> str:
    """Fill a template from left to right, never looking back at what was put in."""
    filled = ""
    while template:
        name = next((name for name in values if template.startswith(name)), None)
        filled += values[name] if name else template[0]
        template = template[len(name) if name else 1 :]
    return filled


@pytest.mark.parametrize("format_", FORMATS)
@given(labels=LABEL_SETS, shot=TEXTS, text=TEXTS)
def test_users_templates_keep_what_users_write(format_: Format, labels: LabelSet, shot: str, text: str) -> None:
    """The same holds for users' own templates in every format of LangChain's."""
    prompt = TaskPrompt(
        PromptTemplate.from_template(TEMPLATES[format_], template_format=format_),
        labels,
        examples=[Example(text=shot, label=labels[0])],
        text_kind="{{kind}}",
        label_kind='"mood"&',
    ).render(text)
    assert (
        prompt.head == f'Sort: {", ".join(labels)}.|{{x}}|{{{{kind}}}}: {shot}\n"mood"&: {labels[0]}\n\n|{{{{kind}}}}|'
    )
    assert (prompt.text, prompt.tail) == (text, '|"mood"&?')


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("text", NASTY)
def test_as_template_formats_to_the_same_prompt(format_: Format, text: str) -> None:
    """The LangChain template of a prompt has only the text open, and formats to exactly what is sent."""
    task = TaskPrompt(
        PromptTemplate.from_template(TEMPLATES[format_], template_format=format_),
        LabelSet.of(["{a}", '"b"']),
        examples=[Example(text=text, label='"b"')],
    )
    template = task.as_template()
    assert template.input_variables == ["text"]
    assert template.format(text=text) == template.invoke({"text": text}).to_string() == str(task.render(text))


@pytest.mark.parametrize("name", PRESETS)
def test_as_template_holds_the_chat_template_too(name: str) -> None:
    """For a chat, the LangChain template includes what the model's chat template wrote around the message."""
    task = task_prompt(PRESETS[name], NAMES, examples=[], text_kind="text", label_kind="label")
    chat = task.in_chat(f"<|user|>{{x}}{CHAT_MESSAGE}</s><|assistant|>")
    rendered = str(chat.render("{text}"))
    assert chat.as_template().format(text="{text}") == rendered
    assert rendered == f"<|user|>{{x}}{task.render('{text}')}</s><|assistant|>"


def test_in_chat_keeps_the_chat_templates_part_apart() -> None:
    """What the chat template wrote is told from what users wrote, and the prompt it was made from stays as it was."""
    task = task_prompt(PRESETS["chat"], NAMES, examples=[], text_kind="text", label_kind="label")
    prompt = task.in_chat(f"<|user|>{CHAT_MESSAGE}</s>").render("<|user|>")
    assert (prompt.before, prompt.text, prompt.after) == ("<|user|>", "<|user|>", "</s>")
    assert prompt.message == str(task.render("<|user|>"))
    assert task.render("x").before == ""


@pytest.mark.parametrize(
    "rendered",
    ["", "<|user|>", f"{CHAT_MESSAGE} and {CHAT_MESSAGE}", CHAT_MESSAGE.upper()],
    # Chosen at random, which names of tests may not be.
    ids=["nothing", "another", "twice", "upper case"],
)
def test_chat_templates_that_lose_the_message_are_refused(rendered: str) -> None:
    """A chat template that drops, repeats or changes the message cannot carry a prompt."""
    task = task_prompt(PRESETS["chat"], NAMES, examples=[], text_kind="text", label_kind="label")
    with pytest.raises(PromptError, match="choose another `prompt=`"):
        task.in_chat(rendered)


@pytest.mark.parametrize("format_", FORMATS)
def test_further_variables_come_from_the_input(format_: Format) -> None:
    """Other variables of a template take their values from the row, as they are."""
    template = {"f-string": "{who}: {text}!", "mustache": "{{who}}: {{text}}!", "jinja2": "{{who}}: {{text}}!"}[format_]
    task = TaskPrompt(PromptTemplate.from_template(template, template_format=format_), NAMES)
    assert task.input_variables == {"who"}
    assert str(task.render("x", {"who": '{text} "&', "text": "ignored", "more": 1})) == '{text} "&: x!'
    with pytest.raises(PromptError, match=r"\['who'\], which the input does not carry") as caught:
        task.render("confidential", {"more": 1})
    assert "confidential" not in str(caught.value)


@pytest.mark.parametrize("value", [None, float("nan")])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_variable_that_is_null_stands_in_no_prompt(format_: Format, value: Any) -> None:
    """Where a template cannot ask for it, the row is refused with the variable's name; an empty text is a value."""
    template = {"f-string": "{who}{text}", "mustache": "{{#who}}x{{/who}}{{text}}", "jinja2": "{{who or ''}}{{text}}"}
    task = TaskPrompt(PromptTemplate.from_template(template[format_], template_format=format_), NAMES)
    assert str(task.render("a", {"who": ""})) == "a"
    if format_ == "f-string":
        with pytest.raises(PromptError, match="variable 'who' is null") as caught:
            task.render("confidential", {"who": value})
        assert "confidential" not in str(caught.value)
    elif value is None:
        assert str(task.render("a", {"who": None})) == "a"


def test_further_variables_stay_open_in_as_template() -> None:
    """The LangChain template of such a prompt asks for them."""
    task = TaskPrompt(PromptTemplate.from_template("{who} {labels} {text}"), NAMES)
    assert task.as_template().format(who="me", text="{x}") == str(task.render("{x}", {"who": "me"}))


def test_users_partial_variables_are_kept() -> None:
    """What the user has filled in already stays, even under a name of ours."""
    template = PromptTemplate.from_template(
        "{lang} {labels} {text}", partial_variables={"lang": "de", "labels": "mine"}
    )
    assert str(TaskPrompt(template, NAMES).render("x")) == "de mine x"


@pytest.mark.parametrize("template", ["{labels}", "{labels} {{text}}", ""])
def test_templates_need_the_text(template: str) -> None:
    """A template without `{text}` is refused, with a hint where to put it."""
    with pytest.raises(PromptError, match=r"no \{text\}: put it where"):
        TaskPrompt(PromptTemplate.from_template(template), NAMES)


def test_text_may_not_be_filled_in() -> None:
    """A template whose `{text}` is a partial variable has no place for a row's text."""
    with pytest.raises(PromptError, match=r"no \{text\}"):
        TaskPrompt(PromptTemplate.from_template("{text}", partial_variables={"text": "x"}), NAMES)


@pytest.mark.parametrize("template", ["{text} {}", "{text} { x }", '{text} {"a"}'])
def test_braces_that_name_nothing_are_told(template: str) -> None:
    """What looks like a variable and is none is refused when the prompt is made, with what to do."""
    with pytest.raises(PromptError, match=r"names nothing: write braces of the text twice"):
        TaskPrompt(PromptTemplate.from_template(template), NAMES)


def test_templates_need_a_place_for_examples() -> None:
    """With examples, a template without `{examples}` is refused; without examples, it need not have one."""
    template = PromptTemplate.from_template("{labels} {text}")
    TaskPrompt(template, NAMES)
    with pytest.raises(PromptError, match=r"no \{examples\}: put it where"):
        TaskPrompt(template, NAMES, examples=[Example(text="x", label="sport")])


@pytest.mark.parametrize("template", ["{text} {text}", "{text:.3}"])
def test_text_stands_once_and_whole(template: str) -> None:
    """A template that repeats or cuts the text is refused at once, since the text could not be put in as it is."""
    with pytest.raises(PromptError, match="exactly once, unchanged"):
        TaskPrompt(PromptTemplate.from_template(template), NAMES)


def test_examples_are_empty_in_a_zero_shot_prompt() -> None:
    """`{examples}` of a template is filled with nothing where there are none."""
    assert str(TaskPrompt(PromptTemplate.from_template("[{examples}]{text}"), NAMES).render("x")) == "[]x"


def test_prompt_hides_its_parts() -> None:
    """The repr of a prompt shows nothing of it; equal parts make equal prompts, by which requests are shared."""
    prompt = Prompt("before", "head", "text", "tail", "after")
    assert repr(prompt) == "Prompt()"
    assert str(prompt) == "beforeheadtexttailafter"
    assert prompt.message == "headtexttail"
    assert prompt == Prompt("before", "head", "text", "tail", "after") != Prompt(head="beforehead", text="text")
    assert len({prompt, Prompt("before", "head", "text", "tail", "after")}) == 1
