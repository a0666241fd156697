"""`evaluate`: what is asked of the classifier, what is refused, and what turning the labels around does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, label_of
from hypothesis import given
from hypothesis import strategies as st

from langchain_stormtrooper import (
    Classification,
    ConfigurationError,
    FewShotClassifier,
    LabelError,
    MissingExtraError,
    ServerUnreachableError,
    UnmatchedLabelWarning,
    ZeroShotClassifier,
    aevaluate,
    evaluate,
)
from langchain_stormtrooper.evaluation.running import rotate
from langchain_stormtrooper.parsers import LabelOutputParser
from langchain_stormtrooper.prompts import Prompt

TEXTS = [f"text {n}" for n in range(12)]
RIGHT = [label_of(text) for text in TEXTS]


def first_named(prompt: Prompt) -> str:
    """The label that the prompt names first, as a model that only looks at positions would say."""
    said = str(prompt)
    return min(LABELS, key=lambda label: said.find(label) if label in said else len(said))


@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from(LABELS)), min_size=1, max_size=20))
def test_the_numbers_are_about_the_classifiers_answers(rows: list[tuple[str, str]]) -> None:
    """Accuracy and probabilities are those of the answers that `with_details().batch` gives to the same texts."""
    classifier = ZeroShotClassifier(LABELS, llm=FakeScoringLLM())
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    answers = classifier.with_details().batch(texts)
    evaluation = evaluate(classifier, texts, labels, bootstrap=0)
    assert evaluation.accuracy == pytest.approx(
        sum(answer.label == label for answer, label in zip(answers, labels, strict=True)) / len(rows)
    )
    assert evaluation.risk_coverage is not None
    assert {point.confidence for point in evaluation.risk_coverage.points} == {a.confidence for a in answers}
    assert (evaluation.rows, evaluation.labels) == (len(rows), tuple(LABELS))
    assert (evaluation.prompt_tokens, evaluation.generated_tokens) == (7, 1)


def test_warnings_point_at_the_users_line() -> None:
    """A row without a label is warned about once, at the line that asked for the evaluation."""
    with pytest.warns(UnmatchedLabelWarning) as seen:
        evaluate(ZeroShotClassifier(LABELS, llm=FakeLLM()), ["MUTTER", "a"], ["sport", "sport"], bootstrap=0)
    assert [warning.filename for warning in seen] == [__file__]


async def test_inside_a_running_loop_both_faces_work() -> None:
    """The sync face may be called where a loop runs, and gives what the async one gives."""
    classifier = ZeroShotClassifier(LABELS, llm=FakeLLM())
    first = await aevaluate(classifier, TEXTS, RIGHT, seed=5)
    second = evaluate(classifier, TEXTS, RIGHT, seed=5)
    assert first.accuracy == 1
    assert first == second.model_copy(update={"seconds": first.seconds})


def test_rows_without_a_label_are_wrong_and_warned_about_once() -> None:
    """What could not be answered is in the counts by reason; nothing of the texts is in the result."""
    texts = [*TEXTS, f"MUTTER {SECRET}", "MUTTER again"]
    with pytest.warns(UnmatchedLabelWarning) as caught:
        evaluation = evaluate(ZeroShotClassifier(LABELS, llm=FakeLLM()), texts, [*RIGHT, "sport", "science"])
    assert len(caught) == 1
    assert evaluation.reasons == {"unmatched": 2}
    assert evaluation.accuracy == pytest.approx(12 / 14)
    assert SECRET not in evaluation.to_json() + repr(evaluation)


def test_rows_are_asked_concurrently_and_timed() -> None:
    """Eight places and 40 ms a row: twelve rows take two rounds, of which each row has its share."""
    llm = FakeLLM(delay=0.04)
    evaluation = evaluate(ZeroShotClassifier(LABELS, llm=llm), TEXTS, RIGHT, bootstrap=0)
    assert llm.log.peak == 8
    assert 0.08 / 12 <= evaluation.seconds < 0.04


def test_dict_inputs_and_any_iterables_are_taken() -> None:
    """What `batch` takes can be evaluated."""
    classifier = ZeroShotClassifier(LABELS, llm=FakeLLM(), text_key="body")
    assert evaluate(classifier, ({"body": text} for text in TEXTS), iter(RIGHT), bootstrap=0).accuracy == 1


def test_a_model_that_looks_at_positions_flips_every_answer() -> None:
    """The first label named is another one in every rotation; who knows the text keeps to its answer."""
    prompt = "One of {labels} {text}"
    fickle = ZeroShotClassifier(LABELS, llm=FakeLLM(answer=first_named), prompt=prompt)
    evaluation = evaluate(fickle, TEXTS, RIGHT, rotations=2, bootstrap=0)
    assert (evaluation.flip_rate, evaluation.flip_rates) == (1, (1, 1))
    steady = evaluate(ZeroShotClassifier(LABELS, llm=FakeLLM(), prompt=prompt), TEXTS, RIGHT, rotations=2)
    assert (steady.flip_rate, steady.accuracy) == (0, 1)


def test_the_prompt_of_a_rotation_has_the_labels_rotated() -> None:
    """By one position, then by two; texts and everything else stay."""
    llm = FakeLLM()
    classifier = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels} {text}")
    evaluate(classifier, ["x"], ["sport"], rotations=2, bootstrap=0)
    assert [str(prompt) for prompt in llm.log.prompts] == [
        "sport, politics, science. x",
        "politics, science, sport. x",
        "science, sport, politics. x",
    ]


def test_rotating_keeps_descriptions_examples_and_the_parsers_settings() -> None:
    """Only the order of the labels changes, and the classifier that was given stays as it is."""
    labels = {"sport": "games", "politics": "votes", "science": None}
    parser = LabelOutputParser(labels, threshold=0.5)
    classifier = FewShotClassifier(labels, [("a goal", "sport"), ("a law", "politics")], llm=FakeLLM(), parser=parser)
    turned = rotate(classifier, 1)
    assert turned.labels.descriptions == classifier.labels.descriptions
    assert turned.labels.names == ("politics", "science", "sport")
    assert classifier.labels.names == ("sport", "politics", "science")
    assert isinstance(turned, FewShotClassifier)
    assert turned.examples == classifier.examples
    assert isinstance(turned.parser, LabelOutputParser)
    assert (turned.parser.threshold, turned.parser.labels) == (0.5, turned.labels)
    assert rotate(turned, 2).labels == classifier.labels
    assert turned.invoke("a text") == label_of("a text")


def test_answers_are_told_as_they_come() -> None:
    """Each answer is told once with its number, the slow one last; rotations count on."""
    told: list[tuple[int, Classification]] = []

    def answer(prompt: Prompt) -> str:
        return label_of(prompt.text)

    class Uneven(FakeLLM):
        async def agenerate_row(self, prompt: Prompt, **keywords: Any) -> Any:
            await asyncio.sleep(0.05 if prompt.text == "text 0" else 0)
            return await super().agenerate_row(prompt, **keywords)

    classifier = ZeroShotClassifier(LABELS, llm=Uneven(answer=answer))
    evaluate(classifier, TEXTS, RIGHT, rotations=1, on_answer=lambda number, row: told.append((number, row)))
    assert sorted(number for number, _ in told) == list(range(24))
    assert (told[11][0], told[23][0]) == (0, 12)
    assert all(row.label == RIGHT[number % 12] for number, row in told)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classifier": "gpt"}, "a FewShotClassifier, a HierarchicalClassifier or a Cascade, not str"),
        ({"texts": TEXTS[:3]}, r"differ \(3 and 12\)"),
        ({"texts": "text"}, "`texts` must be a list with one item per row, not str"),
        ({"labels": None}, "`labels` must be a list with one item per row, not NoneType"),
        ({"texts": [], "labels": []}, "nothing to evaluate on"),
        ({"labels": [*RIGHT[:-1], 1.5]}, r"labels\[11\] must be a string, not float"),
        ({"labels": [*RIGHT[:-1], "Sport"]}, "known label 'Sport' is not one of the classifier's labels"),
        ({"bootstrap": -1}, "`bootstrap=` must be 0 or more"),
        ({"rotations": 3}, "`rotations=` must be from 0 to 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_asked(changed: dict[str, Any], message: str) -> None:
    """The message says what is wrong, shows no text, and the model is left alone."""
    llm = FakeLLM()
    given: dict[str, Any] = {"classifier": ZeroShotClassifier(LABELS, llm=llm), "texts": TEXTS, "labels": RIGHT}
    with pytest.raises(ConfigurationError, match=message) as raised:
        evaluate(**{**given, **changed})
    assert isinstance(raised.value, LabelError) == ("Sport" in message)
    assert "text 1" not in str(raised.value)
    assert not llm.log.prompts


@pytest.mark.parametrize("face", [evaluate, lambda *rows: asyncio.run(aevaluate(*rows))], ids=["sync", "async"])
def test_what_is_wrong_for_every_row_is_raised(face: Callable[..., Any]) -> None:
    """Without a server there is no evaluation."""
    with pytest.raises(ServerUnreachableError):
        face(ZeroShotClassifier(LABELS, llm=FakeLLM()), ["DOWN 1", "DOWN 2"], ["sport", "sport"])


def test_a_missing_extra_is_told_before_the_model_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of answers is not lost for a package that is not there."""
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    llm = FakeLLM()
    with pytest.raises(MissingExtraError):
        evaluate(ZeroShotClassifier(LABELS, llm=llm), TEXTS, RIGHT)
    assert not llm.log.prompts
