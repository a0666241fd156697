"""What the app is asked and answers, as JSON. Pure; `app` reads requests with it and describes both in its OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from langchain_stormtrooper.labels import LabelSet
from langchain_stormtrooper.results import Classification, Method

_NAME = {"type": "string", "minLength": 1}
_DESCRIPTION = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_DESCRIBED = {
    "type": "object",
    "properties": {"name": _NAME, "description": _DESCRIPTION},
    "required": ["name"],
    "additionalProperties": False,
}
_LABELS = {
    "title": "Labels",
    "description": "Names that differ in more than case, spacing and punctuation: a list of names, a list of objects "
    "with name and description, or an object from name to description or null. Default: the app's own.",
    "anyOf": [
        {"type": "array", "items": {"anyOf": [_NAME, _DESCRIBED]}, "minItems": 2, "uniqueItems": True},
        {"type": "object", "additionalProperties": _DESCRIPTION, "minProperties": 2, "propertyNames": {"minLength": 1}},
        {"type": "null"},
    ],
}


def _exactly_one(schema: dict[str, Any]) -> None:
    """Say in the schema what the validator asks for."""
    for name in ("text", "texts"):
        schema["properties"][name].pop("default", None)
    schema["oneOf"] = [{"required": ["text"]}, {"required": ["texts"]}]


class ClassifyRequest(BaseModel):
    """One text, or many; for other labels than the app's, if it allows that.

    Attributes:
        text: The text, if it is one.
        texts: The texts, if they are many.
        labels: The labels to choose from; None for the app's.
        text_kind: What the texts are, for the prompt; None for the app's.
        label_kind: What the labels are, for the prompt; None for the app's.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra=_exactly_one,
        cache_strings="keys",  # else pydantic keeps thousands of short texts
    )

    text: str = Field(default="", description="One text: the answer is one object.")
    texts: list[str] = Field(
        default_factory=list, min_length=1, description="Texts: the answer is one JSON line for each, as it finishes."
    )
    labels: Annotated[LabelSet | None, WithJsonSchema(_LABELS)] = None
    text_kind: str | None = Field(default=None, min_length=1, description="What the texts are: review, …")
    label_kind: str | None = Field(default=None, min_length=1, description="What the labels are: sentiment, …")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if len({"text", "texts"} & self.model_fields_set) != 1:
            raise ValueError("give either `text`, for one text, or `texts`, for a list of them")
        return self

    @property
    def is_one(self) -> bool:
        """Whether one text was given as such."""
        return "text" in self.model_fields_set

    @property
    def changes(self) -> dict[str, Any]:
        """The settings of the classifier that the request brings."""
        given = {"labels": self.labels, "text_kind": self.text_kind, "label_kind": self.label_kind}
        return {name: value for name, value in given.items() if value is not None}


class ClassifiedRow(Classification):
    """One of many rows: a `Classification`, and which text it is about.

    Attributes:
        index: Position of the text in the request, from 0.
    """

    index: int = Field(ge=0)


class Problem(BaseModel):
    """Why there are no rows.

    Attributes:
        detail: One sentence, without the text.
    """

    model_config = ConfigDict(extra="forbid")

    detail: str


class Status(BaseModel):
    """That the process is alive, or ready.

    Attributes:
        status: "alive" or "ready".
    """

    model_config = ConfigDict(extra="forbid")

    status: str


class LabelInfo(BaseModel):
    """One label.

    Attributes:
        name: The label.
        description: What it stands for, if it was said.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str | None


class LimitsInfo(BaseModel):
    """What one request may bring; see `create_app`."""

    model_config = ConfigDict(extra="forbid")

    max_body_bytes: int
    max_texts: int
    max_labels: int
    max_requests: int


class Info(BaseModel):
    """What the app does.

    Attributes:
        version: The package's version.
        labels: The app's own labels, in their order.
        text_kind: What the texts are, for the prompt.
        label_kind: What the labels are, for the prompt.
        model_id: The model's name as its server tells it; None as long as it is not known.
        method: How labels are obtained; None as long as it is not known.
        labels_may_be_given: Whether requests may bring labels, text_kind and label_kind.
        needs_key: Whether requests must bring a bearer token.
        langserve: Where LangServe's routes are; None if there are none.
        limits: What one request may bring.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    version: str
    labels: list[LabelInfo]
    text_kind: str
    label_kind: str
    model_id: str | None
    method: Method | None
    labels_may_be_given: bool
    needs_key: bool
    langserve: str | None
    limits: LimitsInfo
