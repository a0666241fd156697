"""`ClassifierTool`: a classifier as a tool that an agent calls, with one text or with a list of them.

The model reads the label, or a sentence that says why there is none and what it may do; the program gets the whole
`Classification` as the artifact. Whatever keeps the classifier from answering is a `ToolException` that LangChain turns
into a message, so that an agent goes on. How rows are answered is the classifier's business. `RowClassifier.as_tool`
makes one; `mcp_server` offers the same tools to other programs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from langchain_core.exceptions import ModelError
from langchain_core.tools import BaseTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from typing_extensions import override

from langchain_stormtrooper.arguments import checked, explain
from langchain_stormtrooper.classifiers import DetailedClassifier
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError, ServerError, StormtrooperError
from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.row_classifier import RowClassifier
from langchain_stormtrooper.rows import RowInput

MAX_TEXTS = 100
"""Texts that one call may bring: a model writes each of them out, and waits for all."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What providers accept as the name of a tool."""

_MAX_DESCRIPTION = 1024
"""Characters that providers accept as the description of a tool."""

SENTENCES = {
    Reason.OVERLONG: (
        "The text is longer than the classifier accepts. Call again with a shorter part of it, one that decides."
    ),
    Reason.UNMATCHED: (
        "No label was found to fit. The same text gives the same answer: go on without a label, or call again "
        "with more of the context."
    ),
    Reason.LOW_CONFIDENCE: (
        "The classifier was not sure enough to decide. The same text gives the same answer: go on without a label, or "
        "leave the decision to a person."
    ),
    Reason.OUT_OF_SCOPE: (
        "The text is about none of the labels. The same text gives the same answer: go on without a label."
    ),
    Reason.FAILED: (
        "The classifier could not answer this text. Call again once; if there is no label then either, go on without."
    ),
}
"""What the model is told of a text without a label, and what it may do."""

_BLANK = Classification(reason=Reason.FAILED, error="holds no text")
_BLANK_SENTENCE = "The text is blank, and was not classified. Call again with the text itself."

_OF_SERVER = "The classifier cannot be used now, and calling again will not help: go on without it, and say so."
_OF_SETTINGS = "The classifier is not set up for this call: go on without it, and say so."


class TextArguments(BaseModel):
    """What the model gives for one text."""

    text: Annotated[str, Field(description="The text to classify, unchanged.")]


class TextsArguments(BaseModel):
    """What the model gives for several texts."""

    texts: Annotated[
        list[str],
        Field(description="The texts to classify, each unchanged, in the order of the answers.", min_length=1),
    ]

    @field_validator("texts")
    @classmethod
    def _bounded(cls, texts: list[str]) -> list[str]:
        # Not `max_length`, of which strict modes of providers know nothing.
        if len(texts) > MAX_TEXTS:
            raise ValueError(f"`texts` has {len(texts)} texts, more than {MAX_TEXTS}: call several times")
        return texts


def explain_arguments(error: ValidationError) -> str:
    """What the model is told of wrong arguments, without their values."""
    return f"Nothing was classified, since the arguments are wrong: {explain(error)}. Call again with the right ones."


class ClassifierTool(BaseTool):
    """A classifier as an agent's tool.

    It takes `{"text": "…"}`, or with `many=True` `{"texts": ["…", …]}`. The content of its message is the label, or a
    sentence that says why there is none and what the model may do; for many texts a numbered line for each. The
    artifact is the `Classification`, or a list of them. Rows that the classifier leaves without a label also warn.

    What keeps the classifier from answering at all (no server, wrong key) is a `ToolException`, which by default
    becomes a message with `status="error"`, so that the agent goes on; so are wrong arguments. Neither shows a text.

    Args:
        classifier: The classifier, plain or `with_details()`.
        many: Whether it takes a list of texts, of at most `MAX_TEXTS`.
        name: What the model calls it: up to 64 letters, digits, `_` and `-`. Default: from the classifier's
            `text_kind` and `label_kind`, such as `classify_review_sentiment`.
        description: What the model is told of it. Default: what it finds, and the labels with their descriptions, in at
            most 1024 characters.
        args_schema: A pydantic model in the place of the default arguments. It has a field named as the classifier's
            `text_key` (with `many`: `texts`); further fields fill further variables of the prompt.
        **kwargs: As in LangChain's `BaseTool`.

    Raises:
        ConfigurationError: The arguments do not go together.

    Examples:
        >>> from langchain_stormtrooper import ClassifierTool, ZeroShotClassifier
        >>> tool = ClassifierTool(ZeroShotClassifier(["politics", "science"]))  # for create_agent(model, tools=[tool])
        >>> tool.invoke({"text": "The senate votes today."})
        'politics'
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    classifier: RowClassifier = Field(exclude=True, repr=False)
    many: bool = False
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: bool | str | Callable[[ToolException], Any] | None = True
    handle_validation_error: bool | str | Callable[[Any], str] | None = explain_arguments

    def __init__(self, classifier: RowClassifier | DetailedClassifier, many: bool = False, **kwargs: Any) -> None:
        if isinstance(classifier, DetailedClassifier):
            classifier = classifier.classifier
        if not isinstance(classifier, RowClassifier):
            raise ConfigurationError(
                "ClassifierTool takes a ZeroShotClassifier, FewShotClassifier or Cascade, not a "
                f"{type(classifier).__name__}."
            )
        for key in ("name", "description", "args_schema"):
            if kwargs.get(key) is None:
                kwargs.pop(key, None)
        if "args_schema" in kwargs:
            _check_schema(kwargs["args_schema"], "texts" if many else classifier.text_key)
        kwargs.setdefault("name", _default_name(classifier, many))
        kwargs.setdefault("description", _default_description(classifier, many))
        kwargs.setdefault("args_schema", TextsArguments if many else TextArguments)
        _check_name(kwargs["name"])
        with checked(type(self).__name__, type(self).model_fields):
            super().__init__(classifier=classifier, many=many, **kwargs)

    @override
    def _run(self, *args: Any, **arguments: Any) -> tuple[str, Classification | list[Classification]]:
        rows = self._rows(args, arguments)
        with _as_tool_exception():
            # The config, with the tool's run as the parent, comes from the context that LangChain calls this in.
            answers = self.classifier.with_details().batch(_to_ask(rows))
        return self._tell(rows, answers)

    @override
    async def _arun(self, *args: Any, **arguments: Any) -> tuple[str, Classification | list[Classification]]:
        rows = self._rows(args, arguments)
        with _as_tool_exception():
            answers = await self.classifier.with_details().abatch(_to_ask(rows))
        return self._tell(rows, answers)

    def _rows(self, args: Sequence[Any], arguments: Mapping[str, Any]) -> list[Any]:
        """The rows of a call; None for one that is blank, so that no model is asked about it."""
        key = self.classifier.text_key
        if self.many:
            further = {name: value for name, value in arguments.items() if name != "texts"}
            rows = [{key: text, **further} if further else text for text in arguments["texts"]]
        elif args:  # LangChain passes a text that is no dict like this
            rows = [args[0]]
        else:
            rows = [arguments["text"] if list(arguments) == ["text"] else dict(arguments)]
        return [row if str(row[key] if isinstance(row, dict) else row).strip() else None for row in rows]

    def _tell(
        self, rows: Sequence[Any], answered: Sequence[Classification]
    ) -> tuple[str, Classification | list[Classification]]:
        """Content and artifact."""
        left = iter(answered)
        answers = [_BLANK if row is None else next(left) for row in rows]
        if not self.many:
            return answers[0].label or f"No label. {_sentence(answers[0])}", answers[0]
        return "\n".join(_lines(answers)), answers


def as_tool(
    classifier: RowClassifier | DetailedClassifier,
    args_schema: type[BaseModel] | None = None,
    *,
    arg_types: Mapping[str, type] | None = None,
    **settings: Any,
) -> ClassifierTool:
    """What a classifier's `as_tool` does, with LangChain's arguments for it."""
    if arg_types is not None and args_schema is None:
        fields: dict[str, Any] = {name: (type_, ...) for name, type_ in arg_types.items()}
        args_schema = create_model("Arguments", **fields)
    return ClassifierTool(classifier, args_schema=args_schema, **settings)


def _to_ask(rows: Sequence[Any]) -> list[RowInput]:
    return [row for row in rows if row is not None]


def _sentence(answer: Classification) -> str:
    """Why there is no label, and what the model may do."""
    return _BLANK_SENTENCE if answer is _BLANK else SENTENCES[answer.reason or Reason.FAILED]


def _lines(answers: Sequence[Classification]) -> Iterator[str]:
    """A line for each text, and one for each kind of missing label."""
    missing: dict[str, str] = {}
    for number, answer in enumerate(answers, start=1):
        if answer.label is not None:
            yield f"{number}. {_flat(answer.label)}"
        else:
            word = "blank" if answer is _BLANK else (answer.reason or Reason.FAILED).value.replace("_", " ")
            missing[word] = _sentence(answer)
            yield f"{number}. (no label: {word})"
    for word, sentence in missing.items():
        yield f"({word}: {sentence})"


@contextmanager
def _as_tool_exception() -> Iterator[None]:
    """Turn what keeps the classifier from answering into what LangChain tells the model."""
    try:
        yield
    except OverlongInputError:  # only where `on_overlong="raise"` asks for it
        raise ToolException(f"No label. {SENTENCES[Reason.OVERLONG]}") from None
    except StormtrooperError as error:
        told = _OF_SERVER if isinstance(error, ServerError) else _OF_SETTINGS
        raise ToolException(f"{told} What is wrong: {error}") from error
    except ModelError as error:  # another LLM's, whose message may show anything
        raise ToolException(f"{_OF_SERVER} What is wrong: {type(error).__name__}.") from error


def _flat(text: str) -> str:
    return " ".join(text.split())


def _default_name(classifier: RowClassifier, many: bool) -> str:
    """`classify_review_sentiment` from the kinds; the plain one is `classify_text`."""
    text_kind, label_kind = _word(classifier.text_kind) or "text", _word(classifier.label_kind)
    name = "_".join(["classify", text_kind, *([label_kind] if label_kind not in ("", "label") else [])])
    end = "_list" if many else ""
    return name[: 64 - len(end)] + end


def _word(kind: str) -> str:
    """A kind as a part of a name; empty if it has no such letters."""
    plain = unicodedata.normalize("NFKD", kind).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")


def _default_description(classifier: RowClassifier, many: bool) -> str:
    """What the tool finds and the labels; descriptions, then labels, are left out where there are too many."""
    label_kind, text_kind = _flat(classifier.label_kind), _flat(classifier.text_kind)
    if many:
        kind = "" if text_kind == "text" else f" (each a {text_kind})"
        start = f"Find the {label_kind} of each text of a list{kind}, at most {MAX_TEXTS}."
    else:
        start = f"Find the {label_kind} of one {text_kind}."
    start = f"{start[: _MAX_DESCRIPTION // 4]} The answer is one of these labels, or says why there is none:\n"
    end = "\n… and {} more."
    lines = list(_labels(classifier.labels, described=True))
    if len(start) + len("\n".join(lines)) > _MAX_DESCRIPTION:
        lines = list(_labels(classifier.labels, described=False))
    kept = lines[: _MAX_DESCRIPTION // 3]
    while len(
        told := start + "\n".join(kept) + (end.format(len(lines) - len(kept)) if len(kept) < len(lines) else "")
    ) > (_MAX_DESCRIPTION):
        kept = kept[:-1]
    return told


def _labels(labels: LabelSet, *, described: bool) -> Iterator[str]:
    for label in labels.labels:
        description = f": {_flat(label.description)}" if described and label.description else ""
        yield f"- {_flat(label.name)}{description}"


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"ClassifierTool: `name` must be 1 to 64 letters, digits, `_` or `-`, as providers demand, not {name!r}."
        )


def _check_schema(schema: Any, field: str) -> None:
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise ConfigurationError("ClassifierTool: `args_schema` must be a pydantic model.")
    if field not in schema.model_fields:
        raise ConfigurationError(
            f"ClassifierTool: `args_schema` needs a field `{field}`, which holds what to classify."
        )
