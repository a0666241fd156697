"""Read request bodies as strictly, and as leniently, as TGI's deserialiser does.

Turns bytes into typed requests: unknown keys are dropped in silence, known ones must have exactly the right type.
Whether the values make sense is not asked here (see `validation`). Called by `routes` and `chat`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.replies import malformed, mistyped

if TYPE_CHECKING:
    from langchain_stormtrooper.testing.versions import Release

# Parsed JSON has no static type; `Any` stays inside this module and `chat`.
Json = Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Grammar:
    """A grammar as sent: its type and its value, not yet compiled."""

    kind: str
    value: Json


@dataclass(slots=True)
class Parameters:
    """The `parameters` of a generate request, with TGI's defaults."""

    best_of: int | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: int | None = None
    return_full_text: bool | None = None
    stop: list[str] = field(default_factory=list)
    truncate: int | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: int | None = None
    top_n_tokens: int | None = None
    grammar: Grammar | None = None
    adapter_id: str | None = None


@dataclass(slots=True)
class GenerateBody:
    """The body of `/generate` and its kin."""

    inputs: str
    parameters: Parameters
    stream: bool = False


def shown(value: Json) -> str:
    """Name a value in an error message as serde does."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f"string {json.dumps(value, ensure_ascii=False)}"
    return "sequence" if isinstance(value, list) else "map"


def wrong(path: str, value: Json, expected: str) -> Exception:
    """Word a type error; every one ends in a position, which clients must not rely on."""
    kind = "value" if isinstance(value, int) and not isinstance(value, bool) and expected[0] in "uif" else "type"
    return mistyped(f"{path}: invalid {kind}: {shown(value)}, expected {expected} at line 1 column 1")


def read_bool(path: str, value: Json) -> bool:
    """Read a boolean."""
    if not isinstance(value, bool):
        raise wrong(path, value, "a boolean")
    return value


def read_string(path: str, value: Json) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise wrong(path, value, "a string")
    return value


def read_float(path: str, value: Json) -> float:
    """Read a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(path, value, "f32")
    return float(value)


def read_strings(path: str, value: Json) -> list[str]:
    """Read a list of strings."""
    if not isinstance(value, list):
        raise wrong(path, value, "a sequence")
    return [read_string(f"{path}[{index}]", item) for index, item in enumerate(value)]


def integer(name: str, low: int, high: int) -> Callable[[str, Json], int]:
    """Make a reader of integers of one Rust type."""

    def read(path: str, value: Json) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise wrong(path, value, name)
        return value

    return read


read_u32 = integer("u32", 0, 2**32 - 1)
read_u64 = integer("u64", 0, 2**64 - 1)
read_usize = integer("usize", 0, 2**64 - 1)
read_i32 = integer("i32", -(2**31), 2**31 - 1)


def grammar_reader(release: Release) -> Callable[[str, Json], Grammar]:
    """Make the reader of grammar objects for one release."""
    kinds = {"json": "json", "regex": "regex"}
    if release.since("2.1.0"):
        kinds["json_object"] = "json"
    if release.since("3.3.0"):
        kinds["json_schema"] = "json_schema"

    def read(path: str, value: Json) -> Grammar:
        if not isinstance(value, dict):
            raise wrong(path, value, "adjacently tagged enum GrammarType")
        for key in ("type", "value"):
            if key not in value:
                raise mistyped(f"{path}: missing field `{key}` at line 1 column 1")
        kind = kinds.get(value["type"]) if isinstance(value["type"], str) else None
        if kind is None:
            names = ", ".join(f"`{name}`" for name in kinds)
            raise mistyped(
                f"{path}.type: unknown variant `{value['type']}`, expected one of {names} at line 1 column 1"
            )
        if kind == "regex":
            read_string(f"{path}.value", value["value"])
        if kind == "json_schema" and not (isinstance(value["value"], dict) and "schema" in value["value"]):
            raise mistyped(f"{path}.value: missing field `schema` at line 1 column 1")
        return Grammar(kind, value["value"])

    return read


@dataclass(frozen=True)
class _Field:
    read: Callable[[str, Json], Any]
    nullable: bool = True


class BodyReader:
    """Reads the bodies of one release.

    Args:
        release: The release to imitate.
    """

    def __init__(self, release: Release) -> None:
        self._release = release
        self._fields: dict[str, _Field] = {
            "best_of": _Field(read_usize),
            "temperature": _Field(read_float),
            "repetition_penalty": _Field(read_float),
            "top_k": _Field(read_i32),
            "top_p": _Field(read_float),
            "typical_p": _Field(read_float),
            "do_sample": _Field(read_bool, nullable=False),
            "max_new_tokens": _Field(read_u32, nullable=release.null_max_new_tokens),
            "return_full_text": _Field(read_bool),
            "stop": _Field(read_strings, nullable=False),
            "truncate": _Field(read_usize),
            "watermark": _Field(read_bool, nullable=False),
            "details": _Field(read_bool, nullable=False),
            "decoder_input_details": _Field(read_bool, nullable=False),
            "seed": _Field(read_u64),
            "top_n_tokens": _Field(read_u32),
        }
        if release.grammar_known:
            self._fields["frequency_penalty"] = _Field(read_float)
            self._fields["grammar"] = _Field(grammar_reader(release))
        if release.since("2.1.0"):
            self._fields["adapter_id"] = _Field(read_string)
        self._absent = {"20": 20, "100": 100, "fill": None}[release.absent_max_new_tokens]

    def generate(self, raw: Json) -> GenerateBody:
        """Read the body of `/generate`, `/generate_stream`, `/tokenize` or `/`.

        Raises:
            RejectionError: If a key is missing or of the wrong type.
        """
        inputs = required(raw, "inputs", read_string)
        if "parameters" in raw:
            parameters = self._parameters(raw["parameters"])
        else:
            parameters = Parameters(max_new_tokens=self._absent, do_sample=self._release.samples_without_parameters)
        return GenerateBody(inputs, parameters, read_bool("stream", raw.get("stream", False)))

    def _parameters(self, raw: Json) -> Parameters:
        if not isinstance(raw, dict):
            raise wrong("parameters", raw, "struct GenerateParameters")
        result = Parameters(max_new_tokens=self._absent)
        for key, value in raw.items():
            known = self._fields.get(key)
            if known is None:
                continue
            if value is None and known.nullable:
                setattr(result, key, None)
            else:
                setattr(result, key, known.read(f"parameters.{key}", value))
        return result


def parse_json(data: bytes) -> Json:
    """Parse a body.

    Raises:
        RejectionError: With status 400, if it is not JSON.
    """
    try:
        value = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        message = getattr(error, "msg", None)
        if message is None:
            raise malformed("expected value at line 1 column 1") from error
        position = f"line {getattr(error, 'lineno', 1)} column {getattr(error, 'colno', 1) - 1}"
        end_reached = getattr(error, "pos", 0) >= len(getattr(error, "doc", ""))
        raise malformed(f"{'EOF while parsing a value' if end_reached else 'expected value'} at {position}") from error
    # Rust strings hold no lone surrogates, which Python's JSON lets through; they can only come from escapes.
    if b"\\u" in data and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise malformed("lone leading surrogate in hex escape at line 1 column 1")
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


# Made once, since `json.loads` with options makes a decoder for each call.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def required(raw: Json, key: str, read: Callable[[str, Json], Any]) -> Any:
    """Read a key that must be there."""
    if not isinstance(raw, Mapping):
        raise mistyped(f"invalid type: {shown(raw)}, expected a map at line 1 column 1")
    if key not in raw:
        raise mistyped(f"missing field `{key}` at line 1 column 1")
    return read(key, raw[key])
