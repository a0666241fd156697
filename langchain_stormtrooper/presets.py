"""Presets: a prompt for each family of models, and which one suits a model by its name.

Pure data and one question about it; `prompts` fills their templates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EXAMPLE = "{Text_kind}: {text}\n{Label_kind}: {label}\n\n"
"""How one example is written where the preset does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A prompt for a family of models.

    Attributes:
        name: What `prompt=` calls it.
        zero_shot: Template without examples.
        few_shot: Template with `{examples}`.
        example: Template of one example.
        stop: Where a generated answer ends at the latest.
        chat: Whether the templates are the user's message of a chat, for the model's own chat template to wrap.
        codes: Whether labels are listed with letters or numbers, which are the answers.
    """

    name: str
    zero_shot: str
    few_shot: str
    example: str = EXAMPLE
    stop: tuple[str, ...] = ()
    chat: bool = False
    codes: bool = False


_SYSTEM = (
    "You sort texts into classes. You follow the user's instructions exactly and answer with the name of one class "
    "and nothing else."
)
_TASK = "Classify the {text_kind} below. Its {label_kind} is exactly one of: {labels}"
_ASK = "{Text_kind}: {text}\n{Label_kind}:"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # The format that Stability AI trained StableBeluga with.
        Preset(
            "stable-beluga",
            zero_shot=f"### System:\n{_SYSTEM}\n\n### User:\n{_TASK}\n"
            "Answer with the {label_kind} only.\n\n{Text_kind}: {text}\n\n### Assistant:\n",
            few_shot=f"### System:\n{_SYSTEM}\n\n### User:\n{_TASK}\n"
            "Answer with the {label_kind} only.\n\nExamples:\n\n{examples}{Text_kind}: {text}\n\n### Assistant:\n",
            stop=("###",),
        ),
        Preset(
            "flan-t5",
            zero_shot="Which {label_kind} does the {text_kind} have? Choose one of: {labels}\n\n" + _ASK,
            few_shot="Which {label_kind} does the {text_kind} have? Choose one of: {labels}\n\n{examples}" + _ASK,
        ),
        Preset("task", zero_shot=f"{_TASK}\n\n{_ASK}", few_shot=f"{_TASK}\n\n{{examples}}{_ASK}", stop=("\n",)),
        # Names the kinds instead of listing options: on base and small models the better way (README, "How sure").
        Preset("kinds", zero_shot="{descriptions}" + _ASK, few_shot="{descriptions}{examples}" + _ASK, stop=("\n",)),
        Preset(
            "chat",
            zero_shot=f"{_TASK}\nAnswer with the {{label_kind}} only.\n\n{{Text_kind}}: {{text}}",
            few_shot=f"{_TASK}\nAnswer with the {{label_kind}} only.\n\n{{examples}}{{Text_kind}}: {{text}}",
            chat=True,
        ),
        # Letters differ in their first token whatever the labels are; numbers, for more labels, soon after.
        Preset(
            "codes",
            zero_shot="Classify the {text_kind} below. Answer with the {code} of its {label_kind}:\n{labels}\n\n"
            + _ASK,
            few_shot="Classify the {text_kind} below. Answer with the {code} of its {label_kind}:\n{labels}\n\n"
            "{examples}" + _ASK,
            codes=True,
        ),
    )
}
"""The presets by name: what `prompt=` accepts besides a template."""

_SEQ2SEQ = re.compile(r"(?<![a-z])((u?m|by|long)?t5|mt0|ul2|flan)(?![a-z])", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)
_SMALL_BILLIONS = 1.5


def choose_preset(model_id: str | None, *, renders_chat: bool) -> Preset:
    """The preset for a model.

    Args:
        model_id: The name the server gives its model; None if it gives none.
        renders_chat: Whether the engine can apply the model's own chat template.

    Returns:
        `stable-beluga` when nothing is known, `flan-t5` for the T5 family, `kinds` for base models and for those whose
        name says at most 1.5 billion parameters, `chat` for others with a chat template.
    """
    if not model_id:
        return PRESETS["stable-beluga"]
    if _SEQ2SEQ.search(model_id):
        return PRESETS["flan-t5"]
    if "beluga" in model_id.lower():
        return PRESETS["stable-beluga"]
    if size := _SIZE.search(model_id):
        billions = float(size[1]) / (1000 if size[2].lower() == "m" else 1)
        if billions <= _SMALL_BILLIONS:
            return PRESETS["kinds"]
    return PRESETS["chat" if renders_chat else "kinds"]
