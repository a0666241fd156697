"""The presets: which model gets which, and what each of them says."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.presets import PRESETS, choose_preset
from langchain_stormtrooper.prompts import CHAT_MESSAGE, list_labels, task_prompt

NAMES = LabelSet.of(["sport", "politics"])
DESCRIBED = LabelSet.of({"sport": "games and matches", "politics": None})
SHOTS = [Example(text="A goal!", label="sport"), Example(text="A vote.", label="politics")]


@pytest.mark.parametrize(
    ("model_id", "with_chat", "without_chat"),
    [
        (None, "stable-beluga", "stable-beluga"),
        ("", "stable-beluga", "stable-beluga"),
        ("stabilityai/StableBeluga-7B", "stable-beluga", "stable-beluga"),
        ("stabilityai/StableBeluga2", "stable-beluga", "stable-beluga"),
        ("google/flan-t5-xxl", "flan-t5", "flan-t5"),
        ("declare-lab/flan-alpaca-xl", "flan-t5", "flan-t5"),
        ("google/flan-ul2", "flan-t5", "flan-t5"),
        ("t5-small", "flan-t5", "flan-t5"),
        ("google/t5_base", "flan-t5", "flan-t5"),
        ("google/mt5-base", "flan-t5", "flan-t5"),
        ("google/umt5-xxl", "flan-t5", "flan-t5"),
        ("google/byt5-large", "flan-t5", "flan-t5"),
        ("bigscience/mt0-xl", "flan-t5", "flan-t5"),
        ("meta-llama/Llama-3.1-8B-Instruct", "chat", "kinds"),
        ("mistralai/Mistral-7B-v0.1", "chat", "kinds"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "chat", "kinds"),
        ("Qwen/Qwen3-1.7B", "chat", "kinds"),
        ("meta-llama/Llama-2-70b-4bit", "chat", "kinds"),
        ("/data", "chat", "kinds"),
        ("gpt2", "chat", "kinds"),
        ("acme/chatgpt5b-clone", "chat", "kinds"),
        ("acme/best5 model", "chat", "kinds"),
        ("acme/Inflandia-13B", "chat", "kinds"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "kinds", "kinds"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "kinds", "kinds"),
        ("Qwen/Qwen2.5-0.5B", "kinds", "kinds"),
        ("Qwen/Qwen2.5-1.5B-Instruct", "kinds", "kinds"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "kinds", "kinds"),
    ],
)
def test_choice_by_model(model_id: str | None, with_chat: str, without_chat: str) -> None:
    """The model's name and whether its chat template can be had decide the preset."""
    assert choose_preset(model_id, renders_chat=True).name == with_chat
    assert choose_preset(model_id, renders_chat=False).name == without_chat


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("examples", [[], SHOTS], ids=["zero-shot", "few-shot"])
def test_every_preset_names_the_kinds(name: str, examples: list[Example]) -> None:
    """The kinds of text and label that the user gives stand in every preset, small in a sentence, large at a start."""
    prompt = task_prompt(PRESETS[name], NAMES, examples=examples, text_kind="FAQ entry", label_kind="mood")
    rendered = str(prompt.render("Hello."))
    assert "FAQ entry: Hello." in rendered
    assert "mood" in rendered.lower()
    assert "text" not in rendered.replace("You sort texts", "").lower()
    assert "label" not in rendered.lower()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_ends_with_text_and_question(name: str) -> None:
    """The text comes last: after it stands only what asks for the answer, the same for all texts."""
    prompt = task_prompt(PRESETS[name], NAMES, examples=SHOTS, text_kind="text", label_kind="label")
    one, other = prompt.render("one"), prompt.render("other")
    assert (one.head, one.tail) == (other.head, other.tail)
    assert one.tail in ("", "\nLabel:", "\n\n### Assistant:\n")
    assert one.head.endswith("Text: ")


@pytest.mark.parametrize("name", PRESETS)
def test_examples_stand_in_every_preset_in_order(name: str) -> None:
    """Examples stand before the text, in the order given, in the form in which the text is asked about."""
    prompt = task_prompt(PRESETS[name], NAMES, examples=SHOTS, text_kind="note", label_kind="topic")
    first, second = ("A", "B") if PRESETS[name].codes else ("sport", "politics")
    head = prompt.render("x").head
    assert head.endswith(f"Note: A goal!\nTopic: {first}\n\nNote: A vote.\nTopic: {second}\n\nNote: ")
    assert f"Topic: {first}" not in str(
        task_prompt(PRESETS[name], NAMES, examples=[], text_kind="note", label_kind="topic").render("x")
    )


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"kinds"}))
def test_labels_are_listed(name: str) -> None:
    """All presets but `kinds` list the options, in the order given."""
    rendered = str(task_prompt(PRESETS[name], NAMES, examples=[], text_kind="text", label_kind="label").render("x"))
    assert ("A) sport\nB) politics\n" if PRESETS[name].codes else "sport, politics.") in rendered


def test_kinds_lists_no_options() -> None:
    """`kinds` only names the kinds, since small models do worse with a list."""
    prompt = task_prompt(PRESETS["kinds"], NAMES, examples=[], text_kind="review", label_kind="sentiment")
    assert str(prompt.render("Fine.")) == "Review: Fine.\nSentiment:"


@pytest.mark.parametrize("name", PRESETS)
def test_descriptions_stand_in_every_preset(name: str) -> None:
    """Where labels have descriptions, every preset explains them, and a label without one is listed all the same."""
    rendered = str(task_prompt(PRESETS[name], DESCRIBED, examples=[], text_kind="text", label_kind="label").render("x"))
    first, second = ("A)", "B)") if PRESETS[name].codes else ("-", "-")
    assert f"{first} sport: games and matches\n{second} politics\n" in rendered


def test_codes_are_the_answers() -> None:
    """With `codes` the answers are letters; for more labels than letters numbers, none the start of another."""
    kinds = {"text_kind": "text", "label_kind": "label"}
    names = LabelSet.of([f"label {number}" for number in range(27)])
    prompt = task_prompt(PRESETS["codes"], LabelSet.of(names[:26]), examples=[], **kinds)
    assert prompt.answers == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert task_prompt(PRESETS["task"], NAMES, examples=[], **kinds).answers == NAMES.names
    shots = [Example(text="Hi", label="label 9")]
    many = task_prompt(PRESETS["codes"], names, examples=shots, **kinds)
    assert many.answers == tuple(f"{number:02}" for number in range(1, 28))
    text = str(many.render("x"))
    assert "with the number of its label:\n01) label 0\n" in text
    assert "Text: Hi\nLabel: 10\n" in text
    assert "with the letter of its label:\nA) label 0\n" in str(prompt.render("x"))
    hundreds = LabelSet.of([f"label {number}" for number in range(150)])
    codes = task_prompt(PRESETS["codes"], hundreds, examples=[], **kinds).answers
    assert len(set(codes)) == 150
    assert {len(code) for code in codes} == {3}


def test_list_of_labels() -> None:
    """Labels are listed in one line, or one a line where there are descriptions."""
    assert list_labels(NAMES) == "sport, politics."
    assert list_labels(DESCRIBED) == "\n- sport: games and matches\n- politics"


def test_presets_do_not_hold_the_chat_mark() -> None:
    """The mark for chat templates is in no prompt of ours, so that it can be found again."""
    assert not any(CHAT_MESSAGE in preset.zero_shot + preset.few_shot for preset in PRESETS.values())


def test_stable_beluga_has_the_format_it_was_trained_with() -> None:
    """System, user and assistant turns are marked as Stability AI did, and generation ends at the next mark."""
    preset = PRESETS["stable-beluga"]
    prompt = task_prompt(preset, NAMES, examples=[], text_kind="text", label_kind="label")
    rendered = str(prompt.render("x"))
    assert rendered.startswith("### System:\n")
    assert "\n\n### User:\n" in rendered
    assert rendered.endswith("\n\n### Assistant:\n")
    assert preset.stop == ("###",)
