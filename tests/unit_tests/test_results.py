"""`Classification`, and the trees of errors and warnings."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re
from typing import Any

import pytest
from langchain_core import exceptions as langchain_exceptions
from pydantic import ValidationError

from langchain_stormtrooper import errors
from langchain_stormtrooper.errors import MissingExtraError, OverlongInputError, RequestFailedError
from langchain_stormtrooper.results import Classification, MatchKind, Method, Reason


@pytest.mark.parametrize("fields", [{}, {"label": "a", "reason": "failed"}])
def test_label_or_reason(fields: dict[str, Any]) -> None:
    """A row has a label or a reason why not: never both, never neither."""
    with pytest.raises(ValidationError, match="either a label or a reason"):
        Classification(**fields)


@pytest.mark.parametrize("fields", [{"confidence": 1.1}, {"confidence": -0.1}, {"covered_mass": 2}, {"score": 1}])
def test_numbers_are_probabilities(fields: dict[str, Any]) -> None:
    """Confidence and covered mass lie in [0, 1], and unknown fields are refused."""
    with pytest.raises(ValidationError):
        Classification(label="a", **fields)


def test_classification_is_a_value() -> None:
    """A Classification cannot be changed, survives JSON and pickle, and does not show what the model said."""
    answer = Classification(
        label="a",
        method=Method.GENERATE,
        match=MatchKind.FUZZY,
        confidence=0.5,
        probabilities={"b": 0.5, "a": 0.5},
        generation="confidential",
        prompt_tokens=3,
    )
    assert "confidential" not in repr(answer)
    assert Classification.model_validate_json(answer.model_dump_json()) == answer == pickle.loads(pickle.dumps(answer))  # noqa: S301  # our own
    assert list(answer.model_dump()["probabilities"]) == ["b", "a"]
    with pytest.raises(ValidationError, match="frozen"):
        setattr(answer, "label", "b")  # noqa: B010  # mypy knows that it is frozen


def test_words_are_strings() -> None:
    """Reasons and methods compare and print as their words, as users write them."""
    assert Classification(reason="overlong").reason is Reason.OVERLONG
    assert (str(Reason.LOW_CONFIDENCE), Method.SCORE, f"{MatchKind.EXACT}") == ("low_confidence", "score", "exact")


def drawn_tree() -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """The tree at the head of the module: each name with its parent and the other bases in brackets."""
    assert errors.__doc__ is not None
    drawn: dict[str, tuple[str | None, tuple[str, ...]]] = {}
    above: dict[int, str] = {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([ │├└─]*)(\w+(?:Error|Warning))(?: \(([^)]*)\))?(?:  |$)", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            bases = tuple(base.strip() for base in found[3].split(",")) if found[3] else ()
            drawn[found[2]] = (above[depth - 1] if depth else None, bases)
    return drawn


def test_tree_is_as_drawn() -> None:
    """Every class of the module stands in the drawing, with exactly the bases that it has."""
    classes = {
        name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__
    }
    drawn = drawn_tree()
    assert drawn.keys() == classes.keys()
    for name, (parent, others) in drawn.items():
        bases = {base.__name__ for base in classes[name].__bases__}
        if parent is None:
            assert bases <= {"Exception", *others}
        else:
            assert bases == {parent, *others}


def test_errors_are_also_what_callers_look_for() -> None:
    """Whoever catches LangChain's or Python's own error for a mishap catches ours."""
    for name, (_, others) in drawn_tree().items():
        for other in others:
            base = getattr(langchain_exceptions, other, None) or getattr(builtins, other)
            assert issubclass(getattr(errors, name), base)


def test_missing_extra_says_what_to_install() -> None:
    """The error names the feature and gives the command."""
    error = MissingExtraError("LlamaCpp", "local")
    assert str(error) == (
        "LlamaCpp needs packages that are not installed: run `pip install 'langchain-stormtrooper[local]'`."
    )
    assert isinstance(error, ImportError)


def test_row_errors_carry_facts() -> None:
    """Overlong and failed rows say in numbers what the server said."""
    overlong = OverlongInputError("too long", tokens=9, limit=5)
    failed = RequestFailedError("overloaded", status=429, retryable=True)
    assert (overlong.tokens, overlong.limit) == (9, 5)
    assert (failed.status, failed.is_retryable) == (429, True)
    assert RequestFailedError("odd").is_retryable is False
