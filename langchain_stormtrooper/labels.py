"""The labels of a task: `Label` and `LabelSet`, from a list, a dict, an Enum or a Literal.

Pure and cheap to import; it holds names and descriptions and refuses what cannot be told apart, and never looks at a
text. Classifiers and parsers keep a `LabelSet` as a pydantic field; `prompts`, `matching` and `scoring` read its
names in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NoReturn,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    overload,
)

from langchain_stormtrooper.normalizing import normalize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

LabelSpec: TypeAlias = Union["LabelSet", Sequence[Any], Mapping[str, str | None], type[Enum], Any]
"""What `LabelSet.of` takes; `Literal[...]` has no type of its own, hence the `Any`."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Attributes:
        name: The label, exactly as it is returned.
        description: What it stands for, for prompts that explain the labels.
    """

    name: str
    description: str | None = None


class LabelSet(Sequence[str]):
    """The labels of a task: an immutable sequence of their names, in the order given.

    Pydantic models may use it as the type of a field: the field takes whatever `of` takes, and dumps as a list of
    `{"name": …, "description": …}`.

    Args:
        labels: At least two labels whose names differ in more than case, spacing and punctuation.

    Raises:
        LabelError: If the labels do not make a classification.
    """

    __slots__ = ("_labels", "_names", "_positions")

    def __init__(self, labels: Sequence[Label]) -> None:
        self._labels = tuple(labels)
        self._names = tuple(label.name for label in self._labels)
        _check(self._names)
        self._positions = {name: position for position, name in enumerate(self._names)}

    @classmethod
    def of(cls, spec: LabelSpec) -> Self:
        """Read labels from whatever a user has them in.

        Args:
            spec: A list or tuple of names (or of `Label`, or of `{"name": …, "description": …}`), a dict from name
                to description or None, an Enum class (its values if all are strings, else its members' names), a
                `Literal[...]`, or a `LabelSet`.

        Returns:
            The labels, in the order given.

        Raises:
            LabelError: If that is no list of labels, or the labels do not make a classification.
        """
        if isinstance(spec, cls):
            return spec
        if isinstance(spec, LabelSet):
            return cls(spec.labels)
        return cls(read_labels(spec))

    def with_more(self, spec: LabelSpec) -> Self:
        """These labels, and further ones after them.

        Args:
            spec: The further labels, as `of` takes them; one is enough.

        Raises:
            LabelError: If there is none, or one is there already or cannot be told from one that is.
        """
        items = spec.labels if isinstance(spec, LabelSet) else _items(spec)
        further = [_label(item, position) for position, item in enumerate(items, len(self))]
        if not further:
            _refuse("There are no further labels: give at least one.")
        return type(self)([*self._labels, *further])

    def with_option(self, option: Label | None) -> Self:
        """These labels and, after them, an option that stands for none of them.

        Args:
            option: The option; None for none, which gives these labels.

        Raises:
            LabelError: The option cannot be told from a label.
        """
        if option is None:
            return self
        normal = normalize(option.name)
        if (twin := next((name for name in self._names if normalize(name) == normal), None)) is not None:
            _refuse(
                f"`out_of_scope={option.name!r}` is the label {twin!r}, but for case, spacing or punctuation: call one "
                "of them otherwise, or leave the label out."
            )
        return type(self)([*self._labels, option])

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order given."""
        return self._names

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels with their descriptions, in the order given."""
        return self._labels

    @property
    def descriptions(self) -> dict[str, str]:
        """The descriptions of the labels that have one, by name."""
        return {label.name: label.description for label in self._labels if label.description is not None}

    @property
    def answer_type(self) -> Any:
        """`Literal[names] | None`, for schemas."""
        # Equal labels in another order would be taken for the same type, and schemas have that one's order.
        return Annotated[Literal[self._names], self._names] | None

    def to_list(self) -> list[dict[str, str | None]]:
        """The labels as plain data, from which `of` makes an equal set."""
        return [{"name": label.name, "description": label.description} for label in self._labels]

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Position of a name.

        Args:
            value: The name, spelled as given.
            start: First position to consider.
            stop: Position to stop before.

        Raises:
            ValueError: If it is not among the labels.
        """
        position = self._positions.get(value)
        if position is None or position not in range(*slice(start, stop).indices(len(self))):
            raise ValueError(f"{value!r} is not one of the labels")
        return position

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> tuple[str, ...]: ...

    def __getitem__(self, position: int | slice) -> str | tuple[str, ...]:
        return self._names[position]

    def __eq__(self, other: object) -> bool:
        return self._labels == other._labels if isinstance(other, LabelSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._labels)

    def __repr__(self) -> str:
        given = {label.name: label.description for label in self._labels} if self.descriptions else list(self._names)
        return f"LabelSet.of({given!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Label, ...]]]:
        return type(self), (self._labels,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic to validate with `of` and to dump with `to_list`."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls.of, serialization=core_schema.plain_serializer_function_ser_schema(cls.to_list)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe what may stand for labels in JSON."""
        described = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "description": {"type": ["string", "null"]}},
            "required": ["name"],
            "additionalProperties": False,
        }
        items = {"type": "array", "items": described, "minItems": 2}
        if handler.mode == "serialization":
            return items
        names = {"type": "array", "items": {"type": "string"}, "minItems": 2}
        mapping = {"type": "object", "additionalProperties": {"type": ["string", "null"]}, "minProperties": 2}
        return {"anyOf": [names, items, mapping]}


def read_labels(spec: LabelSpec) -> list[Label]:
    """Labels from whatever `LabelSet.of` takes, without asking whether they make a classification.

    Raises:
        LabelError: If that is no list of labels.
    """
    return [_label(item, position) for position, item in enumerate(_items(spec))]


def read_option(given: Any) -> Label | None:
    """The option that stands for none of the labels, from what a user has it in.

    Args:
        given: A name, a `Label`, a dict with `name` and perhaps `description`, or None.

    Raises:
        LabelError: It is none of these, or its name is blank.
    """
    if given is None:
        return None
    if not isinstance(given, str | Label | Mapping | Enum):
        _refuse(
            "`out_of_scope=` must be a name, such as 'none of these', or a Label with a description, not "
            f"{type(given).__name__}."
        )
    option = _label(given, 0)
    if not normalize(option.name):
        _refuse("`out_of_scope=` is blank: give it a name, such as 'none of these'.")
    return option


def name_of(label: Any, names: Sequence[str]) -> str | None:
    """The name that a user's label for a text stands for; None if it is no label at all.

    Args:
        label: A name, or a member of the Enum that the labels were made from.
        names: The names there are; what is none of them is returned as it is.
    """
    if isinstance(label, Enum):
        # Labels may have been made of single members' names or values, whatever the Enum itself makes of them.
        return next((name for name in (_of_member(label), label.value, label.name) if name in names), label.name)
    return str.__str__(label) if isinstance(label, str) else None


def _refuse(message: str) -> NoReturn:
    # The tree of errors needs LangChain's, which costs more than this whole module.
    from langchain_stormtrooper.errors import LabelError

    raise LabelError(message)


def _items(spec: Any) -> Sequence[Any]:
    """The single labels of a specification, whatever they are."""
    if isinstance(spec, str):
        hint = ", ".join(repr(part.strip()) for part in spec.split(",")) if "," in spec else repr(spec) + ", …"
        _refuse(f"Labels must be a list, not one string: did you mean [{hint}]?")
    if isinstance(spec, Mapping):
        return [Label(name, description) for name, description in spec.items()]
    if isinstance(spec, type) and issubclass(spec, Enum):
        return [_of_member(member) for member in spec]
    if get_origin(spec) is Literal:
        return get_args(spec)
    if isinstance(spec, Set):
        _refuse("labels must be in an order, and a set has none: pass a list, such as sorted(labels).")
    if isinstance(spec, Sequence) and not isinstance(spec, bytes | bytearray):
        return spec
    if callable(getattr(spec, "tolist", None)):  # numpy arrays, pandas columns
        return _items(spec.tolist())
    return _refuse(
        f"Labels must be a list of names, a dict from name to description, an Enum class or a Literal, "
        f"not {type(spec).__name__}."
    )


def _of_member(member: Enum) -> str:
    """What a member is called among the labels of its Enum: its value if all have strings for that, else its name."""
    by_value = all(isinstance(one.value, str) for one in type(member))
    name: str = member.value if by_value else member.name
    return name


def _label(item: Any, position: int) -> Label:
    if isinstance(item, Enum):
        item = _of_member(item)
    if isinstance(item, Mapping):
        if "name" not in item or not item.keys() <= {"name", "description"}:
            _refuse(f"label {position} is a dict: it needs a name, may have a description, and nothing else.")
        item = Label(item["name"], item.get("description"))
    name, description = (item.name, item.description) if isinstance(item, Label) else (item, None)
    if not isinstance(name, str):
        _refuse(f"label {position} is {name!r}, not a string: convert the labels with str() first.")
    if description is not None and not isinstance(description, str):
        _refuse(f"the description of {name!r} is {description!r}: it must be a string or None.")
    # Subclasses of str (numpy's, an Enum's) would come back as the label and print as something else.
    return Label(str.__str__(name), description if description is None else str.__str__(description))


def _check(names: tuple[str, ...]) -> None:
    """Refuse names that do not make a classification."""
    seen: dict[str, str] = {}
    for position, name in enumerate(names):
        normal = normalize(name)
        if not normal:
            _refuse(f"label {position} is {name!r}, which is blank: give it a name or leave it out.")
        if any("\ud800" <= character <= "\udfff" for character in name):
            _refuse(f"label {position} is {name!r}, which is not valid Unicode: decode the labels as UTF-8.")
        other = seen.setdefault(normal, name)
        if other is name and len(seen) == position + 1:
            continue
        if other == name:
            _refuse(f"label {name!r} is given twice: leave one out.")
        _refuse(
            f"Labels {other!r} and {name!r} differ only in case, spacing, punctuation or Unicode form, which models do "
            f"not keep apart: rename one."
        )
    if len(names) < 2:
        given = f"only {names[0]!r}" if names else "none"
        _refuse(f"A classification needs at least two labels, and there is {given}: add one, perhaps 'other'.")
