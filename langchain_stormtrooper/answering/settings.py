"""`TaskSettings`: what a classifier was given, as far as answering a row depends on it, and what excludes what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import StringPromptTemplate

from langchain_stormtrooper.answering.deciding import Demands
from langchain_stormtrooper.calibration import Calibration, PriorName
from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.examples import Example
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.selecting import ExampleChooser, Shortlist

PresetName: TypeAlias = Literal["stable-beluga", "flan-t5", "task", "kinds", "chat", "codes"]
MethodName: TypeAlias = Literal["auto", "score", "constrain", "generate"]


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """What a classifier was given, as far as answering a row depends on it; see `classifiers`.

    Here, and in all of `answering`, the labels are what the model chooses from.

    Attributes:
        choices: The labels and, if there is one, the option that none of them fits, at the end.
        option: Its name; None if there is none.
    """

    choices: LabelSet
    option: str | None
    llm: BaseLanguageModel[Any]
    prompt: StringPromptTemplate | PresetName | None
    parser: BaseOutputParser[str | None]
    chooser: ExampleChooser | None
    examples: tuple[Example, ...]
    shortlist: Shortlist | None
    method: MethodName
    prior: PriorName | None
    rotations: int
    calibration: Calibration | None
    demands: Demands
    text_kind: str
    label_kind: str
    max_new_tokens: int | None

    def check(self) -> None:
        """Refuse what cannot be meant together.

        Raises:
            ConfigurationError: There are more rotations than labels to choose from, or a shortlist and a calibration.
        """
        if self.rotations > len(self.choices):
            raise ConfigurationError(
                f"`rotations=` must be at most {len(self.choices)}, the number of labels, not {self.rotations}."
            )
        if self.shortlist is not None and self.calibration is not None:
            raise ConfigurationError(
                "A calibration is of the probabilities of all labels, and a shortlist leaves some out: leave out "
                "`shortlist=` or `calibration=`."
            )
        if self.shortlist is not None and self.rotations > self.shortlist.size:
            raise ConfigurationError(
                f"`rotations=` must be at most {self.shortlist.size}, the size of the shortlist, not {self.rotations}."
            )

    @property
    def expects_text(self) -> bool:
        """Whether something was set that only generated text has a use for."""
        return self.max_new_tokens is not None or not is_default_parser(self.parser, self.choices)

    @property
    def in_scope(self) -> LabelSet:
        """The choices but for the option."""
        return self.choices if self.option is None else LabelSet(self.choices.labels[:-1])


def is_default_parser(parser: Any, labels: LabelSet) -> bool:
    """Whether a parser is the one that a classifier of these labels has if none is set."""
    return type(parser) is LabelOutputParser and dict(parser) == dict(LabelOutputParser(labels))
