"""The fields of a request body, each read with its type.

Forgets the fields that a server drops, and words what is wrong with the others as pydantic does. It does not know what
fields mean. Called by `bodies`, `scores` and `facts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai.refusals import invalid, mistyped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_stormtrooper.testing.openai.options import Options

KINDS = {
    "int": ("int_type", "Input should be a valid integer"),
    "float": ("float_type", "Input should be a valid number"),
    "str": ("string_type", "Input should be a valid string"),
    "bool": ("bool_type", "Input should be a valid boolean"),
    "list": ("list_type", "Input should be a valid list"),
    "dict": ("dict_type", "Input should be a valid dictionary"),
}
"""pydantic's name and sentence for a value of the wrong type, by the type's name."""


class Fields:
    """The fields of one body, each read with its type.

    Args:
        raw: The parsed body.
        options: The server's settings, which say what is dropped.

    Raises:
        ApiError: If the body is not an object.
    """

    def __init__(self, raw: Any, options: Options) -> None:
        if not isinstance(raw, dict):
            raise mistyped("body", "model_attributes_type", "Input should be a valid dictionary", raw, options)
        self.raw = {name: value for name, value in raw.items() if name not in options.drops and value is not None}
        self._options = options

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """Read a field; null counts as absent.

        Raises:
            ApiError: If it is of the wrong type.
        """
        value = self.raw.get(name)
        if value is None:
            return default
        right = isinstance(value, (int, float) if kind is float else kind)
        if not right or (kind in (int, float) and isinstance(value, bool)):
            raise mistyped(name, *KINDS[kind.__name__], value, self._options)
        return value

    def need(self, name: str) -> Any:
        """Read a field that must be there."""
        if name not in self.raw:
            raise mistyped(name, "missing", "Field required", self.raw, self._options)
        return self.raw[name]

    def ids(self, name: str) -> list[int] | None:
        """Read a list of token ids.

        Raises:
            ApiError: If it is none, or names a token that the model does not have.
        """
        found = self.get(name, list)
        if found is None:
            return None
        check_ids(found, name, self._options)
        return [int(item) for item in found]

    def refuse_unknown(self, known: frozenset[str]) -> None:
        """Refuse fields that are not known, if the server does that."""
        if not self._options.refuses_unknown:
            return
        for name, value in self.raw.items():
            if name not in known:
                raise mistyped(name, "extra_forbidden", "Extra inputs are not permitted", value, self._options)


def check_ids(ids: Sequence[Any], name: str, options: Options) -> None:
    """Refuse tokens that the model does not have, and what is no token at all."""
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise mistyped(name, *KINDS["int"], ids, options)
    size = len(options.engine.vocabulary)
    wrong = [token for token in ids if not 0 <= token < size]
    if wrong:
        if name == "prompt" and options.flavour is Flavour.VLLM:
            raise invalid(f"Token id {wrong[0]} is out of vocabulary")
        if name == "allowed_token_ids":
            raise invalid("allowed_token_ids contains out-of-vocab token id!", name, wrong)
        say = f"token_id(s) {wrong} in {name} contain out-of-vocab token ids. Vocabulary size: {size}"
        raise invalid(say, name, wrong)
