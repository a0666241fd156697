"""Classifiers compose with LangChain's own Runnables as any Runnable does."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, Recorder, label_of
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import (
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_stormtrooper import (
    FailedRequestWarning,
    FewShotClassifier,
    LabelOutputParser,
    OverlongInputWarning,
    ServerUnreachableError,
    ZeroShotClassifier,
)
from langchain_stormtrooper.classifiers import TextClassifier


def task(**kwargs: Any) -> Any:
    """A classifier whose label for a text is `label_of` it."""
    return ZeroShotClassifier(LABELS, **{"llm": FakeLLM(), **kwargs})


TEXTS = [f"text {number}" for number in range(6)]
WANTED = [label_of(text) for text in TEXTS]

CHAINS: dict[str, tuple[Any, Any]] = {
    "dict before": ({"text": RunnablePassthrough()} | task(), lambda text: label_of(text)),
    "function after": (task() | RunnableLambda(lambda label: f"<{label}>"), lambda text: f"<{label_of(text)}>"),
    "parallel": (
        RunnableParallel(label=task(), text=RunnablePassthrough()),
        lambda text: {"label": label_of(text), "text": text},
    ),
    "assign": (
        RunnableLambda(lambda text: {"text": text}) | RunnablePassthrough.assign(label=task()),
        lambda text: {"text": text, "label": label_of(text)},
    ),
    "pick": (RunnableParallel(label=task(), text=RunnablePassthrough()).pick("label"), label_of),
    "branch": (
        RunnableParallel(label=task(), text=RunnablePassthrough())
        | RunnableBranch((lambda seen: seen["label"] == "sport", lambda seen: seen["text"]), lambda _: "other"),
        lambda text: text if label_of(text) == "sport" else "other",
    ),
    "function that returns a Runnable": (
        RunnableParallel(label=task(), text=RunnablePassthrough())
        | RunnableLambda(lambda seen: RunnableLambda(lambda _: seen["label"].upper())),
        lambda text: label_of(text).upper(),
    ),
    "details": (task().with_details() | (lambda found: found.label), label_of),
    "few shots": (FewShotClassifier(LABELS, [("a", "sport")], llm=FakeLLM()) | (lambda label: label), label_of),
    "parts by hand": (PromptTemplate.from_template("{x}") | FakeLLM() | LabelOutputParser(LABELS), None),
}


@pytest.mark.parametrize(("chain", "wanted"), CHAINS.values(), ids=CHAINS)
async def test_a_chain_gives_what_its_parts_give(chain: Any, wanted: Any) -> None:
    """Sync, async, in batches and as a stream, a chain has the label that the classifier gives."""
    wanted = wanted or label_of
    inputs: list[Any] = TEXTS
    expected = [wanted(text) for text in TEXTS]
    assert await asyncio.to_thread(chain.batch, inputs) == expected
    assert await chain.abatch(inputs) == expected
    assert [chain.invoke(inputs[0]), await chain.ainvoke(inputs[1])] == expected[:2]


async def test_lists_are_mapped() -> None:
    """`map` answers each text of a list, in order."""
    assert await task().map().ainvoke(TEXTS) == WANTED
    assert task().map().invoke(TEXTS) == WANTED


async def test_a_stream_has_one_chunk() -> None:
    """A label comes whole, whichever way it is streamed, alone and behind others."""
    chain: Any = {"text": RunnablePassthrough()} | task()
    for runnable in (task(), chain):
        assert list(runnable.stream(TEXTS[0])) == WANTED[:1]
        assert [chunk async for chunk in runnable.astream(TEXTS[0])] == WANTED[:1]
    events = [event async for event in task().astream_events(TEXTS[0], version="v2")]
    assert [event["event"] for event in events if event["name"] == "ZeroShotClassifier"] == [
        "on_chain_start",
        "on_chain_end",
    ]
    assert events[-1]["data"]["output"] == WANTED[0]
    events = [event async for event in chain.astream_events(TEXTS[0], version="v2")]
    chunks = [event["data"]["chunk"] for event in events if event["event"] == "on_chain_stream"]
    assert chunks[-1] == WANTED[0]
    assert chunks.count(WANTED[0]) == 1


@pytest.mark.filterwarnings("ignore:astream_log is deprecated")
async def test_the_log_of_a_stream_ends_with_the_label() -> None:
    """`astream_log`, which LangServe offers, shows the LLM's run and ends with the label."""
    patches = [patch async for patch in task().astream_log(TEXTS[0])]
    state = patches[0]
    for patch in patches[1:]:
        state += patch
    assert state.state["final_output"] == WANTED[0]
    assert list(state.state["logs"]) == ["FakeLLM"]


def or_nobody(label: str | None) -> str:
    """A label, or who has none."""
    return label or "nobody"


async def test_rows_stay_apart_in_chains() -> None:
    """A row that fails or is too long is None for the next step, and its neighbours have their labels."""
    chain: Any = {"text": RunnablePassthrough()} | task() | RunnableLambda(or_nobody)
    with pytest.warns(FailedRequestWarning), pytest.warns(OverlongInputWarning):
        answers = await chain.abatch([TEXTS[0], "FAIL", "OVERLONG", TEXTS[1]])
    assert answers == [WANTED[0], "nobody", "nobody", WANTED[1]]


async def test_a_config_reaches_the_rows() -> None:
    """Tags, metadata, names and callbacks of `with_config` are those of each row's run; `max_concurrency` holds."""
    recorder, llm = Recorder(), FakeLLM(delay=0.001)
    bound = task(llm=llm).with_config(
        tags=["t"], metadata={"m": 1}, run_name="mine", max_concurrency=2, callbacks=[recorder]
    )
    assert await bound.abatch(TEXTS) == WANTED
    assert llm.log.peak == 2
    assert len(recorder.chains) == len(TEXTS)
    for run in recorder.chains.values():
        assert (run["tags"], run["metadata"]["m"], run["name"]) == (["t"], 1, "mine")


@pytest.mark.parametrize("method", ["score", "generate"])
async def test_a_tracer_sees_label_and_tokens_of_each_row(method: Any) -> None:
    """One run per row with its label, the LLM's run beneath it with prompt and tokens; tags are inherited."""
    collector = RunCollectorCallbackHandler()
    chain = RunnableLambda(lambda text: {"text": text}) | task(llm=FakeScoringLLM(), method=method, prior=None)
    answers = await chain.abatch(TEXTS, {"callbacks": [collector], "tags": ["night"], "metadata": {"job": 7}})
    assert [run.name for run in collector.traced_runs] == ["RunnableSequence"] * len(TEXTS)
    rows = [run.child_runs[1] for run in collector.traced_runs]
    assert [run.name for run in rows] == ["ZeroShotClassifier"] * len(TEXTS)
    assert [run.outputs for run in rows] == [{"output": label} for label in answers]
    for row in rows:
        (asked,) = row.child_runs
        assert (asked.name, asked.run_type, "night" in (asked.tags or [])) == ("FakeScoringLLM", "llm", True)
        assert asked.metadata["job"] == 7
        assert row.inputs["text"] in asked.inputs["prompts"][0]
        assert asked.outputs is not None
        usage = asked.outputs["llm_output"]["token_usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        message = asked.outputs["generations"][0][0]["message"]["kwargs"]
        assert message["usage_metadata"] == {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
        }


@pytest.mark.parametrize("method", ["score", "generate"])
async def test_langchain_adds_up_the_tokens(method: Any) -> None:
    """LangChain's own counter of tokens counts those of all rows, under the model's name."""
    counter = UsageMetadataCallbackHandler()
    llm = FakeScoringLLM(model_id="the model")
    await task(llm=llm, method=method, prior=None).abatch(TEXTS, {"callbacks": [counter]})
    per_row = 1 if method == "score" else 2
    assert {name: usage["output_tokens"] for name, usage in counter.usage_metadata.items()} == {
        "FakeScoringLLM": per_row * len(TEXTS)
    }


async def test_fallbacks_answer_when_the_server_is_gone() -> None:
    """What raises for every row is answered by the fallback, in batches too; a None row is an answer and stays."""
    reserve = task(llm=FakeLLM(answer=lambda _: "science"))
    dead = task(llm=FakeLLM(answer=unreachable))
    assert await dead.with_fallbacks([reserve]).abatch(TEXTS[:2]) == ["science"] * 2
    assert dead.with_fallbacks([reserve]).invoke("x") == "science"
    with pytest.warns(FailedRequestWarning):
        assert await task().with_fallbacks([reserve]).abatch(["FAIL", TEXTS[0]]) == [None, WANTED[0]]


def unreachable(prompt: Any) -> str:
    """No server."""
    raise ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection: start it.")


async def test_none_rows_can_be_handed_on() -> None:
    """A function behind the classifier hands rows without a label to another one."""
    reserve = task(llm=FakeLLM(answer=lambda _: "science"))
    chain = RunnableParallel(label=task(), text=RunnablePassthrough()) | RunnableLambda(
        lambda seen: seen["label"] or (RunnableLambda(lambda found: found["text"]) | reserve)
    )
    with pytest.warns(FailedRequestWarning):
        assert await chain.abatch(["FAIL", TEXTS[0]]) == ["science", WANTED[0]]


async def test_retrying_is_left_to_the_client() -> None:
    """`with_retry` works on single rows: what is wrong for every row is tried again."""
    tries: list[int] = []

    def sometimes(prompt: Any) -> str:
        tries.append(1)
        return unreachable(prompt) if len(tries) < 3 else "sport"

    retried = task(llm=FakeLLM(answer=sometimes), method="generate").with_retry(
        retry_if_exception_type=(ServerUnreachableError,), wait_exponential_jitter=False
    )
    assert await retried.ainvoke("x") == "sport"


def test_the_graph_shows_the_parts() -> None:
    """Input, prompt, LLM, what makes a label of the answer, output; nothing is asked for it."""
    llm = FakeScoringLLM()
    drawn = {
        "LabelProbabilitiesOrParser": task(llm=llm),
        "LabelProbabilities": task(llm=llm, method="score", prompt="kinds"),
        "LabelOutputParser": task(llm=llm, method="generate"),
    }
    for end, classifier in drawn.items():
        names = [node.name for node in classifier.get_graph().nodes.values()]
        prompt = "Prompt kinds" if classifier.prompt else "Prompt"
        assert names == ["ZeroShotClassifierInput", prompt, "FakeScoringLLM", end, "ZeroShotClassifierOutput"]
        mermaid = classifier.get_graph().draw_mermaid()
        assert f"FakeScoringLLM --> {end};" in mermaid
        assert classifier.with_details().get_graph().draw_mermaid().count("-->") == 4
    whole = (RunnablePassthrough() | task(llm=llm) | RunnableLambda(str)).get_graph()
    assert [node.name for node in whole.nodes.values()][2:5] == [
        "Prompt",
        "FakeScoringLLM",
        "LabelProbabilitiesOrParser",
    ]
    assert llm.log.prompts == []


async def test_the_graph_shows_the_method_once_it_is_known() -> None:
    """After the first row, the graph has what "auto" stands for."""
    used = task(llm=FakeScoringLLM())
    await used.ainvoke("x")
    assert "LabelProbabilities" in [node.name for node in used.get_graph().nodes.values()]


def test_names_prompts_and_schemas() -> None:
    """A classifier names itself, its own template, and types that are the labels or null."""
    own = task(prompt="{labels} {text}", name="topics")
    assert (own.get_name(), task().get_name()) == ("topics", "ZeroShotClassifier")
    assert own.get_prompts() == [own.prompt]
    assert task().get_prompts() == []
    either: list[tuple[TextClassifier, str]] = [(task(), "ZeroShotClassifier"), (own, "topics_")]
    for classifier, name in either:
        schema = classifier.get_output_jsonschema()
        assert schema["anyOf"] == [{"enum": LABELS, "type": "string"}, {"type": "null"}]
        assert schema["title"].lower() == f"{name}Output".lower()
        kinds = [one["type"] for one in classifier.get_input_jsonschema()["anyOf"]]
        assert kinds == ["string", "object"]
    details = task().with_details().get_output_jsonschema()
    assert details["properties"]["label"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


def test_two_values_are_no_hash() -> None:
    """Classifiers hold an LLM, which can be changed: they are compared, and are no keys of dicts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task(llm=(llm := FakeLLM())) == task(llm=llm)
    with pytest.raises(TypeError, match="unhashable"):
        hash(task())
