"""Scores and constrained generations are runs of the LLM for whoever watches."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fakes import LABELS, FakeScoringLLM, Recorder, hashed_scores, label_of
from typing_extensions import override

from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.errors import FailedRequestWarning
from langchain_stormtrooper.llms.base import Constrained
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Method
from langchain_stormtrooper.wire import Generated


class EveryMethod(FakeScoringLLM):
    """Scores, and constrains by answering with the right label."""

    methods: ClassVar[tuple[Method, ...]] = (Method.SCORE, Method.CONSTRAIN, Method.GENERATE)

    @override
    async def aconstrain_row(self, prompt: Prompt, answers: tuple[str, ...]) -> Constrained:
        return Constrained(Generated(self.answer(prompt), prompt_tokens=7, generated_tokens=2), confidence=0.5)


def classifier(method: str, **kwargs: Any) -> ZeroShotClassifier:
    """A classifier by one method, with nothing asked beforehand."""
    return ZeroShotClassifier(LABELS, llm=EveryMethod(**kwargs), method=method, prior=None)


@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
async def test_each_row_has_an_llm_run(method: str) -> None:
    """The LLM's run is the child of the row's, with the prompt, what came of it, and the tokens."""
    recorder = Recorder()
    labels = await classifier(method).abatch(["a", "b"], {"callbacks": [recorder]})
    runs = list(recorder.llms.values())
    assert sorted(run["parent"] for run in runs) == sorted(recorder.chains)
    assert [run["prompts"][0].count("Text: ") for run in runs] == [1, 1]
    said = [run["response"].generations[0][0] for run in runs]
    assert [generation.text for generation in said] == labels
    for run in runs:
        names = {"prompt_tokens", "generated_tokens", "completion_tokens", "total_tokens"}
        assert run["response"].llm_output["token_usage"].keys() == names
        assert run["response"].llm_output["token_usage"]["generated_tokens"] >= 1
    if method == "score":
        prompt = Prompt(text="a")
        expected = dict(zip(LABELS, hashed_scores(prompt, LABELS), strict=True))
        assert said[0].generation_info["probabilities"] == pytest.approx(expected)
    if method == "constrain":
        assert said[0].generation_info["confidence"] == 0.5


@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
async def test_a_row_that_fails_ends_its_run_with_the_error(method: str) -> None:
    """A run is never left open."""
    recorder = Recorder()
    with pytest.warns(FailedRequestWarning):
        await classifier(method).abatch(["a", "FAIL"], {"callbacks": [recorder]})
    ends = [("error" in run, "response" in run) for run in recorder.llms.values()]
    assert sorted(ends) == [(False, True), (True, False)]


@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
async def test_callbacks_of_the_llm_itself(method: str) -> None:
    """Callbacks that were given to the LLM are told of its runs, too."""
    recorder = Recorder()
    assert await classifier(method, callbacks=[recorder]).abatch(["a"]) is not None
    assert [len(run["response"].generations) for run in recorder.llms.values()] == [1]


async def test_watching_changes_no_answer() -> None:
    """A row's answer is the same with and without somebody who watches."""
    task = classifier("score").with_details()
    assert await task.abatch(["a", "b"]) == await task.abatch(["a", "b"], {"callbacks": [Recorder()]})
    assert await classifier("constrain").ainvoke("a", {"callbacks": [Recorder()]}) == label_of("a")
