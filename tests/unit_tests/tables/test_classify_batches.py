"""`ClassifyBatches`: batches of columns are answered as `abatch` answers their texts."""

from __future__ import annotations

import asyncio
import math
import pickle
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, label_of

from langchain_stormtrooper import ClassifyBatches, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, ServerUnreachableError, StormtrooperWarning

numpy = pytest.importorskip("numpy")
TEXTS = ["one", "two FAIL", None, "three MUTTER", "four", "five OVERLONG", "one"]


def classifier(**settings: Any) -> ZeroShotClassifier:
    """One on a fake LLM."""
    return ZeroShotClassifier(LABELS, **{"llm": FakeLLM(), "method": "generate", "prompt": "task", **settings})


def batch_of(*texts: str | None, **columns: list[Any]) -> dict[str, Any]:
    """A batch of numpy arrays."""
    given = {"text": list(texts), **columns}
    return {name: numpy.array(values, dtype=object) for name, values in given.items()}


async def test_rows_are_answered_as_in_a_batch() -> None:
    """Labels, reasons and errors are those of `abatch`, in order; a row without a text has failed; nothing warns."""
    answered = await ClassifyBatches(classifier())(batch_of(*TEXTS))
    with pytest.warns(StormtrooperWarning):
        expected = await classifier().with_details().abatch([text or "" for text in TEXTS])
    for number, (text, answer) in enumerate(zip(TEXTS, expected, strict=True)):
        if text is not None:
            assert answered["label"][number] == answer.label
            assert answered["reason"][number] == answer.reason
            assert answered["error"][number] == answer.error
    assert answered["reason"].tolist() == [None, "failed", "failed", "unmatched", None, "overlong", None]
    assert answered["error"][2] == "There is no text in the column 'text'."


async def test_the_probability_of_the_option_is_told() -> None:
    """With `out_of_scope=`, its probability has a column, with which each row sums to one; others have none."""
    llm = FakeScoringLLM()
    option = classifier(llm=llm, method="score", prior=None, out_of_scope="none of these")
    answered = await ClassifyBatches(option)(batch_of("one", "two", None))
    expected = [await option.with_details().ainvoke(text) for text in ("one", "two")]
    assert answered["out_of_scope"][:2].tolist() == [answer.out_of_scope for answer in expected]
    assert math.isnan(answered["out_of_scope"][2])
    sums = sum(answered[f"probability:{label}"][:2] for label in LABELS) + answered["out_of_scope"][:2]
    assert sums.tolist() == pytest.approx([1, 1])
    assert "out_of_scope" not in await ClassifyBatches(classifier())(batch_of("one"))


async def test_equal_texts_of_a_batch_share_a_request() -> None:
    """A text that a batch has twice is asked once."""
    llm = FakeLLM()
    await ClassifyBatches(classifier(llm=llm))(batch_of("one", "two", "one"))
    assert sorted(llm.log.texts) == ["one", "two"]


async def test_batches_at_once_keep_to_the_places() -> None:
    """Several batches at work together have no more in flight than the places, and no fewer."""
    llm = FakeLLM(delay=0.005)
    classify_batch = ClassifyBatches(classifier(llm=llm), places=3, columns=["label"])
    batches = [[f"{batch} {number}" for number in range(10)] for batch in range(4)]
    answered = await asyncio.gather(*(classify_batch(batch_of(*texts)) for texts in batches))
    assert [batch["label"].tolist() for batch in answered] == [[label_of(text) for text in texts] for texts in batches]
    assert llm.log.peak == 3


async def test_batches_without_any_text_ask_nothing() -> None:
    """Rows without texts have failed, and no rows are no rows; the columns are the same."""
    llm = FakeLLM()
    classify_batch = ClassifyBatches(classifier(llm=llm))
    nothing, empty = await classify_batch(batch_of(None, None)), await classify_batch(batch_of())
    assert nothing["reason"].tolist() == ["failed", "failed"]
    assert empty["reason"].tolist() == []
    assert list(nothing) == list(empty)
    assert llm.log.texts == []


async def test_variables_of_the_prompt_come_from_columns() -> None:
    """A template's further variables are columns, row by row; one that is not there is named."""
    llm = FakeLLM()
    classify_batch = ClassifyBatches(classifier(llm=llm, prompt="{labels} {who}: {text}", text_key="body"))
    await classify_batch(batch_of("one", "two", who=["Ann", "Bob"], other=[1, 2]))
    assert sorted(str(prompt).partition(". ")[2] for prompt in llm.log.prompts) == ["Ann: one", "Bob: two"]
    with pytest.raises(ConfigurationError, match=r"variables \['who'\], for which there are no columns"):
        await classify_batch(batch_of("one"))


async def test_the_text_may_be_in_any_column() -> None:
    """`text_column` and `prefix` name what is read and what is made."""
    given = {"label": numpy.array(["one"], dtype=object)}
    answered = await ClassifyBatches(classifier(), text_column="label", prefix="new ", columns=["label"])(given)
    assert {name: column.tolist() for name, column in answered.items()} == {
        "label": ["one"],
        "new label": [label_of("one")],
    }


async def test_wrong_columns_are_refused_before_anything_is_asked() -> None:
    """No such column, one that would be replaced, and one without texts are errors in one sentence."""
    llm = FakeLLM()
    with pytest.raises(ConfigurationError, match=r"no column 'body' but \['text', 'id'\]: set `text_column=` to"):
        await ClassifyBatches(classifier(llm=llm), text_column="body")(batch_of("one", id=[1]))
    taken = batch_of("one", error=[1], **{"probability:sport": [2]})
    with pytest.raises(ConfigurationError, match=r"columns \['probability:sport', 'error'\] already.*`prefix=`"):
        await ClassifyBatches(classifier(llm=llm))(taken)
    with pytest.raises(ConfigurationError, match="'id' holds int and no texts"):
        await ClassifyBatches(classifier(llm=llm), text_column="id")(batch_of("one", id=[1]))
    assert llm.log.texts == []


async def test_what_is_wrong_for_every_row_is_raised() -> None:
    """A server that is not there is an error, not a column of reasons."""
    with pytest.raises(ServerUnreachableError, match="refused the connection"):
        await ClassifyBatches(classifier())(batch_of("one DOWN", "two DOWN"))


@pytest.mark.parametrize("places", [0, -1, True, 1.5])
def test_places_are_a_number(places: Any) -> None:
    """Places that are none are refused."""
    with pytest.raises(ConfigurationError, match=r"`places=` is .*: it must be a whole number from 1 on"):
        ClassifyBatches(classifier(), places=places)


def test_what_is_no_classifier_is_refused() -> None:
    """With details or without, it must be a classifier."""
    ClassifyBatches(classifier().with_details())
    with pytest.raises(ConfigurationError, match="must be a ZeroShotClassifier or a FewShotClassifier, not a FakeLLM"):
        ClassifyBatches(FakeLLM())  # type: ignore[arg-type]


async def test_pickles() -> None:
    """One that has been at work is pickled like a new one, for engines that send objects and not classes."""
    classify_batch = ClassifyBatches(classifier(), columns=["label"], places=2)
    await asyncio.gather(*(classify_batch(batch_of(str(number))) for number in range(3)))
    other = pickle.loads(pickle.dumps(classify_batch))  # noqa: S301  # our own
    assert (await other(batch_of("one")))["label"].tolist() == [label_of("one")]


async def test_a_row_without_a_value_for_a_variable_has_failed() -> None:
    """None and NaN never stand in a prompt; nor does a batch fail where every row is like that."""
    llm = FakeLLM()
    classify_batch = ClassifyBatches(classifier(llm=llm, prompt="{labels} {who}: {text}"), columns=["reason", "error"])
    who = ["Ann", None, math.nan, ""]
    answered: dict[str, Any] = await classify_batch({"text": ["one", "two", "three", "four"], "who": who})
    assert answered["reason"] == [None, "failed", "failed", None]
    assert answered["error"][1:3] == ["There is no value in the column 'who'."] * 2
    assert sorted(llm.log.texts) == ["four", "one"]
    nothing: dict[str, Any] = {"text": ["five", None], "who": [None, None]}
    assert (await classify_batch(nothing))["error"] == [
        "There is no value in the column 'who'.",
        "There is no text in the column 'text'.",
    ]


@pytest.mark.parametrize("given", [{"prefix": None}, {"text_column": 7}])
def test_names_are_texts(given: Any) -> None:
    """Names that are none are refused before anything is sent to an engine."""
    with pytest.raises(ConfigurationError, match="`prefix=` and `text_column=` must be texts"):
        ClassifyBatches(classifier(), **given)
