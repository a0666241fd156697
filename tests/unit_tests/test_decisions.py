"""`DecisionModel`: LangChain's typed questions on our scorers, and what is said where LangChain has none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import SECRET, FakeLLM, FakeScoringLLM
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage

from langchain_stormtrooper import DecisionModel, decision_model
from langchain_stormtrooper.errors import ConfigurationError, LabelError, OverlongInputError, RequestFailedError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import LabelScores

decisions = pytest.importorskip("langchain_core.decisions")
Choice, Noul, NoulCriteria, Score, Box = (
    getattr(decisions, name) for name in ("Choice", "Noul", "NoulCriteria", "Score", "Box")
)


def rising(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """Each answer is one part more probable than the one before."""
    return tuple(2 * (number + 1) / (len(answers) * (len(answers) + 1)) for number in range(len(answers)))


def model(**settings: Any) -> DecisionModel:
    """A decision model on a fake scorer."""
    return DecisionModel(**{"llm": FakeScoringLLM(score=rising, model_id="acme/fake"), "prior": None, **settings})


def ask(state: Any, question: Any) -> Any:
    """A request of one question."""
    return {"state": state, "questions": {"q": question}}


ALL = {
    "urgent": Noul(instructions="Urgent?", criteria=NoulCriteria(true="now", false={"when": "later"})),
    "team": Choice(instructions="Which {team}?", criteria={"billing": "invoices", "technical": None}),
    "anger": Score(instructions=["How", "angry?"], criteria=["calm", "cross", "furious"]),
    "only": Choice(instructions="Which?", criteria={"one": None}),
}


async def test_all_kinds_of_questions() -> None:
    """Each kind gets its answer, with probabilities of all labels; tokens are added up, the model is named."""
    response = await model().ainvoke({"state": "Help {now}!", "questions": ALL})
    assert list(response.answers) == list(ALL)
    assert response.nouls["urgent"].noul == pytest.approx(1 / 3)
    team = response.choices["team"]
    assert team.choice == "technical"
    assert team.confidence == pytest.approx(2 / 3)
    assert team.probabilities == pytest.approx({"billing": 1 / 3, "technical": 2 / 3})
    anger = response.scores["anger"]
    assert anger.score == pytest.approx(1 * 2 / 6 + 2 * 3 / 6)
    assert anger.legend == {0: "calm", 1: "cross", 2: "furious"}
    assert anger.probabilities == pytest.approx({0: 1 / 6, 1: 2 / 6, 2: 3 / 6})
    assert (response.choices["only"].choice, response.choices["only"].confidence) == ("one", 1.0)
    assert response.model == "acme/fake"
    assert response.usage == {"input_tokens": 21, "output_tokens": 3, "total_tokens": 24}


async def test_prompts() -> None:
    """Instructions, criteria and state stand in the prompt as they are, the state last."""
    llm = FakeScoringLLM()
    await model(llm=llm).ainvoke({"state": "Help {now}!", "questions": ALL})
    prompts = [str(prompt) for prompt in llm.log.prompts]
    assert len(prompts) == 3
    assert prompts[0].startswith("Urgent?\n")
    assert 'no: {"when": "later"}' in prompts[0]
    assert prompts[1].startswith("Which {team}?\n")
    assert prompts[2].startswith('["How", "angry?"]\n')
    assert "0: calm\n" in prompts[2].replace("- ", "")
    assert all(prompt.endswith("Text: Help {now}!\nAnswer:") for prompt in prompts)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("a text", "a text"),
        (HumanMessage("hello"), "hello"),
        ([HumanMessage("hi"), AIMessage("yes?")], "Human: hi\nAI: yes?"),
        ({"score": 3, "said": HumanMessage("hé")}, '{"score": 3, "said": {"role": "human", "content": "hé"}}'),
        (["a", None, 1.5], '["a", null, 1.5]'),
    ],
)
async def test_states(state: Any, shown: str) -> None:
    """Texts, messages and JSON become a text."""
    llm = FakeScoringLLM()
    await model(llm=llm).ainvoke(ask(state, ALL["team"]))
    assert llm.log.texts == [shown]


@pytest.mark.parametrize(
    "request_",
    [
        ask("x", Box(instructions="Where?")),
        ask({"picture": {"type": "image", "base64": "AA=="}}, ALL["team"]),
        ask(HumanMessage([{"type": "image_url", "image_url": {"url": "http://x"}}]), ALL["team"]),
        ask("x", Noul(instructions=[{"type": "image", "url": "http://x"}])),
        ask({"x": object()}, ALL["team"]),
        {"state": "x", "questions": {}},
    ],
)
async def test_refused_requests(request_: Any) -> None:
    """Images, boxes, objects and requests without a question are refused before anything is asked."""
    llm = FakeScoringLLM()
    with pytest.raises(ConfigurationError):
        await model(llm=llm).ainvoke(request_)
    assert llm.log.prompts == []


async def test_labels_that_cannot_be_told_apart() -> None:
    """A choice between labels that differ in case only is refused."""
    with pytest.raises(LabelError):
        await model().ainvoke(ask("x", Choice(instructions="?", criteria={"A": None, "a": None})))


async def test_prior_is_learnt_once_per_question() -> None:
    """How the model leans is measured when a question is new, and kept."""
    llm = FakeScoringLLM()
    asked = model(llm=llm, prior="words")
    for text in ("one", "two"):
        await asked.ainvoke(ask(text, ALL["team"]))
    assert len(llm.log.prompts) == 8 + 2


async def test_few_questions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learnt of questions is given up when there are many, and learnt anew when one comes back."""
    monkeypatch.setattr(decision_model, "_KEPT", 2)
    llm = FakeScoringLLM()
    asked = model(llm=llm, prior="words")
    learns = []
    for name in ("team", "anger", "team", "urgent", "team"):
        before = len(llm.log.prompts)
        await asked.ainvoke(ask("x", ALL[name]))
        learns.append(len(llm.log.prompts) - before > 1)
    assert learns == [True, True, False, True, True]


async def test_a_model_has_the_name_that_it_was_given() -> None:
    """A model that has no name on its server goes by the one that the user gave, else by the LLM's kind."""
    llm = FakeScoringLLM(score=rising)
    assert (await model(llm=llm, model="mine").ainvoke(ask("x", ALL["team"]))).model == "mine"
    assert (await model(llm=llm).ainvoke(ask("x", ALL["team"]))).model == "fake"


async def test_usage_is_told_where_tokens_are_counted() -> None:
    """Tokens of some questions would be no sum: it is none where one is not counted, or where none was asked."""

    class Uncounted(FakeScoringLLM):
        async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
            scores = await super().ascore_row(prompt, answers)
            return replace(scores, prompt_tokens=None) if len(answers) == 2 else scores

    assert (await model(llm=Uncounted()).ainvoke({"state": "x", "questions": ALL})).usage is None
    assert (await model(llm=Uncounted()).ainvoke(ask("x", ALL["anger"]))).usage is not None
    assert (await model().ainvoke(ask("x", ALL["only"]))).usage is None


async def test_copies_with_changes() -> None:
    """A copy with another LLM or prior asks that one, and measures anew."""
    first, second = FakeScoringLLM(), FakeScoringLLM(score=rising)
    asked = model(llm=first)
    await asked.ainvoke(ask("x", ALL["team"]))
    copied = asked.model_copy(update={"llm": second})
    assert (await copied.ainvoke(ask("x", ALL["team"]))).choices["q"].confidence == pytest.approx(2 / 3)
    await asked.model_copy(update={"prior": "words"}).ainvoke(ask("x", ALL["team"]))
    assert (len(first.log.prompts), len(second.log.prompts)) == (1 + 8 + 1, 1)


def test_sync_and_batch() -> None:
    """Sync calls and batches give what async ones do, in order."""
    requests = [ask(f"text {number}", ALL["team"]) for number in range(5)]
    asked = model(llm=FakeScoringLLM())
    assert asked.batch(requests) == [asked.invoke(one) for one in requests]
    assert len({response.choices["q"].confidence for response in asked.batch(requests)}) > 1


async def test_inside_a_running_loop() -> None:
    """Sync calls work inside a running event loop."""
    assert model().invoke(ask("x", ALL["team"])).choices["q"].choice == "technical"


@pytest.mark.parametrize(("text", "error"), [("OVERLONG", OverlongInputError), ("FAIL", RequestFailedError)])
async def test_errors_are_raised(text: str, error: type[Exception]) -> None:
    """A decision model has no row that may be None: what keeps a question from its answer is raised."""
    with pytest.raises(error) as caught:
        await model().ainvoke(ask(f"{text} {SECRET}", ALL["team"]))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("llm", [FakeLLM(), FakeListLLM(responses=["yes"])])
async def test_llms_without_probabilities(llm: Any) -> None:
    """An LLM that tells no probabilities is refused."""
    with pytest.raises(ConfigurationError):
        await DecisionModel(llm=llm).ainvoke(ask("x", ALL["team"]))


def test_wrong_settings() -> None:
    """A setting that does not exist is refused in one sentence."""
    with pytest.raises(ConfigurationError, match="temperature"):
        DecisionModel(temperature=1)


def test_older_langchain() -> None:
    """Where langchain-core has no decisions, the name can be imported and says what to do when it is used."""
    code = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'langchain_core.decisions' else find(name, *rest)\n"
        "from langchain_stormtrooper import *\n"
        "try:\n    DecisionModel()\n"
        "except ConfigurationError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # ours
    assert done.stdout.startswith("DecisionModel needs langchain-core 1.8 or later, and ")
    assert "pip install --upgrade 'langchain-core>=1.8'" in done.stdout
