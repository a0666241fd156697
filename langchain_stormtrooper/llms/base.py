"""`SelfHostedLLM`: what our LLMs share, their settings and what classifiers ask of them.

A subclass says how one prompt is answered (`agenerate_row`), and what more it can: scores, constraints, counts.
`classifiers` calls these row methods directly; all that LangChain users call is made of them in `faces`. Nothing here
knows a protocol.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.language_models.llms import BaseLLM
from pydantic import ConfigDict, Field
from typing_extensions import override

from langchain_stormtrooper.arguments import checked
from langchain_stormtrooper.errors import (
    ConfigurationError,
)
from langchain_stormtrooper.llms.faces import LLMFaces, check_stop
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.scoring import LabelScores
from langchain_stormtrooper.wire import Generated


@dataclass(frozen=True, slots=True)
class Constrained:
    """A generation that a grammar kept within given answers.

    Attributes:
        generated: What was generated.
        confidence: Probability of the way that the generation took, among all that the grammar allowed; None where the
            engine does not tell.
        scores: What it shows of all answers; None where it shows nothing.
    """

    generated: Generated
    confidence: float | None = None
    scores: LabelScores | None = None


class SelfHostedLLM(LLMFaces):
    """Base class of this package's LLMs: greedy, concurrent, one row's failure never its neighbour's.

    Attributes:
        max_new_tokens: Tokens to generate at most per prompt.
        stop: Texts at which generation ends.
        timeout: Seconds that one answer may take.
        on_overlong: What a prompt longer than the model accepts gives: with `"none"` an empty text (which
            `LabelOutputParser` turns into None) and one `OverlongInputWarning` per batch, with `"raise"` an
            `OverlongInputError`. Cutting the text to fit is a classifier's business: an LLM cannot tell the text from
            the instruction.
    """

    # Names such as `model_path` are no clash: pydantic's own prefix is given up.
    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    max_new_tokens: int = Field(default=256, ge=1)
    stop: list[str] | None = None
    timeout: float = Field(default=120.0, gt=0, allow_inf_nan=False)

    methods: ClassVar[tuple[Method, ...]] = (Method.GENERATE,)
    """The methods that this LLM offers a classifier whatever the task, the first of them by default."""

    if not TYPE_CHECKING:  # type checkers go by the fields

        def __init__(self, **kwargs: Any) -> None:
            with checked(type(self).__name__, type(self).model_fields):
                super().__init__(**kwargs)

        def __setattr__(self, name: str, value: Any) -> None:
            # The way to a server is kept from the first call on. LangChain sets fields of its own.
            if name in type(self).model_fields and name not in BaseLLM.model_fields:
                raise ConfigurationError(
                    f"{type(self).__name__}: `{name}` cannot be changed: use `model_copy(update={{{name!r}: ...}})`."
                )
            super().__setattr__(name, value)

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        check_stop(self.stop)

    def __eq__(self, other: object) -> bool:
        """Whether class and settings are the same, whatever was learnt from a server."""
        if not isinstance(other, SelfHostedLLM):
            return NotImplemented
        return type(self) is type(other) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as for all models that can be changed

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @abstractmethod
    def concurrency(self) -> int:
        """Requests that are in flight at once at most."""

    @property
    def shares_prefixes(self) -> bool:
        """Whether a prompt saves work on those that start alike and come after it was answered."""
        return False

    @property
    def wraps_prompts(self) -> bool:
        """Whether the server puts prompts into its model's chat template itself."""
        return False

    def _generation_settings(self, stop: Sequence[str] | None, max_new_tokens: int | None) -> dict[str, Any]:
        """Arguments of `agenerate_row`, with the LLM's own in place of None."""
        return {
            "stop": (self.stop or ()) if stop is None else stop,
            "max_new_tokens": self.max_new_tokens if max_new_tokens is None else max_new_tokens,
        }

    async def amethods(self, prompt: Prompt, answers: tuple[str, ...]) -> tuple[Method, ...]:
        """The methods that this LLM offers for a task, the best first.

        Args:
            prompt: A prompt of the task.
            answers: What could follow it: the labels as they stand in running text.
        """
        return self.methods

    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        """Probabilities of answers to one prompt, for LLMs that have `Method.SCORE`; arguments as in `amethods`."""
        raise ConfigurationError(f"{type(self).__name__} cannot score labels: use method='generate'.")

    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        """One of some answers, for LLMs that have `Method.CONSTRAIN`; arguments as in `amethods`."""
        raise ConfigurationError(f"{type(self).__name__} cannot constrain answers: use method='generate'.")

    async def acount_tokens(self, prompt: Prompt) -> int | None:
        """Tokens of a prompt as the server counts them; None if it cannot tell without answering it."""
        return None

    async def ais_healthy(self) -> bool:
        """Whether the model can be asked at this moment, as far as a look without a prompt tells."""
        return True

    @abstractmethod
    async def amodel_id(self) -> str | None:
        """The model's name as the server tells it; None if it does not."""

    async def amodel_revision(self) -> str | None:
        """Which state of the model is served; None if the server does not tell."""
        return None

    @abstractmethod
    async def arender_chat(self, message: str) -> str | None:
        """A user's message in the model's own chat template, ready for the answer; None if there is no template."""
