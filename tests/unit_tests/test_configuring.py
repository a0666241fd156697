"""Settings may come with a call, with `bind` or with a config, and the same settings learn only once."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, Recorder
from langchain_core.runnables import ConfigurableField, ConfigurableFieldSingleOption, RunnableLambda

from langchain_stormtrooper import (
    Classification,
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    LabelError,
    LabelOutputParser,
    LowConfidenceWarning,
    OverlongInputError,
    OverlongInputWarning,
    ServerUnreachableError,
    ZeroShotClassifier,
)
from langchain_stormtrooper.variants import KEPT

OTHERS = ["red", "green"]
PRIOR = 8
"""Requests that learning the prior takes."""


def task(**kwargs: Any) -> Any:
    """A classifier that learns a prior from its LLM."""
    return ZeroShotClassifier(LABELS, **{"llm": FakeScoringLLM(), **kwargs})


def configurable(classifier: Any) -> Any:
    """It, with labels and thresholds to be configured."""
    return classifier.configurable_fields(
        labels=ConfigurableField("labels"), min_confidence=ConfigurableField("sure", name="Sure", description="How.")
    )


def chosen(**settings: Any) -> Any:
    """A config that chooses settings."""
    return {"configurable": settings}


WAYS: dict[str, Any] = {
    "call": lambda it, **settings: (it, {}, settings),
    "bind": lambda it, **settings: (it.bind(**settings), {}, {}),
    "config": lambda it, **settings: (configurable(it), chosen(**settings), {}),
    "with_config": lambda it, **settings: (configurable(it).with_config(chosen(**settings)), {}, {}),
    "bound config": lambda it, **settings: (configurable(it).bind(**settings), {}, {}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("labels", [OTHERS, dict.fromkeys(OTHERS, "a colour"), [{"name": name} for name in OTHERS]])
async def test_labels_at_run_time(way: Any, labels: Any) -> None:
    """The labels of a call are what a classifier made with them gives, whatever way it is called."""
    wanted = await ZeroShotClassifier(labels, llm=FakeScoringLLM()).abatch(["a", "b"])
    runnable, config, kwargs = way(task(), labels=labels)
    assert await runnable.abatch(["a", "b"], config, **kwargs) == wanted
    assert await asyncio.to_thread(runnable.batch, ["a", "b"], config, **kwargs) == wanted
    assert await runnable.ainvoke("a", config, **kwargs) == wanted[0]
    assert await asyncio.to_thread(runnable.invoke, "b", config, **kwargs) == wanted[1]
    assert [row async for row in runnable.astream("a", config, **kwargs)] == wanted[:1]
    done = [row async for row in runnable.abatch_as_completed(["a", "b"], config, **kwargs)]
    assert sorted(done) == list(enumerate(wanted))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_the_same_settings_learn_once(way: Any) -> None:
    """However often other labels come, the prior for them is learnt once, by one copy."""
    it = task()
    log = it.llm.log
    for _ in range(3):
        runnable, config, kwargs = way(it, labels=list(OTHERS))
        await runnable.abatch(["a", "b"], config, **kwargs)
    assert len(log.prompts) == PRIOR + 3 * 2
    await it.abatch(["a"])
    assert len(log.prompts) == PRIOR + 3 * 2 + PRIOR + 1


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_thresholds_share_what_was_learnt(way: Any) -> None:
    """Other thresholds ask the server for nothing but the rows."""
    it = task()
    await it.abatch(["a"])
    before = len(it.llm.log.prompts)
    by_config = way in (WAYS["config"], WAYS["with_config"])
    runnable, config, kwargs = way(it, **{"sure" if by_config else "min_confidence": 1.0})
    with pytest.warns(LowConfidenceWarning, match="2 of 2 texts"):
        assert await runnable.abatch(["a", "b"], config, **kwargs) == [None, None]
    assert len(it.llm.log.prompts) == before + 2
    assert None not in await it.abatch(["a", "b"])


async def test_settings_that_change_nothing_are_the_classifier_itself() -> None:
    """Defaults that a client sends back, as LangServe's do, make no copy."""
    it = task(min_confidence=0.25)
    prepared, _ = configurable(it).prepare(chosen(labels=[{"name": name} for name in LABELS], sure=0.25))
    assert prepared is it
    assert it.bind(labels=LABELS) is it
    assert it.bind() is it


async def test_only_the_last_copies_are_kept() -> None:
    """Labels without end do not fill the memory, and a copy in use stays."""
    it = task()
    first = it.bind(labels=OTHERS)
    for number in range(KEPT - 1):
        it.bind(labels=["x", f"y{number}"])
        assert it.bind(labels=OTHERS) is first
    for number in range(KEPT):
        it.bind(labels=["z", f"y{number}"])
    assert it.bind(labels=OTHERS) is not first
    assert len(it._variants._kept) == KEPT


def pickled(value: Any) -> Any:
    """What comes out of its pickle."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # ours


def test_copies_and_pickles_start_without_copies() -> None:
    """What is kept is no part of a classifier's value."""
    it = ZeroShotClassifier(LABELS)
    bound = it.bind(min_confidence=0.5)
    for other in (copy.copy(it), copy.deepcopy(it), pickled(it), it.model_copy()):
        assert other == it
        assert other._variants._kept == ()
    assert pickled(bound) == bound == it.model_copy(update={"min_confidence": 0.5})


async def test_rows_of_one_call_may_differ() -> None:
    """A batch with several configurations has the answers of each, and one warning that counts all its rows."""
    it, recorder = configurable(task(prior=None)), Recorder()
    sure: Any = chosen(sure=1.0)
    configs = [chosen(labels=OTHERS), sure, chosen(labels=OTHERS), {}, sure]
    texts = ["a", "b", "c", "d", "e"]
    with pytest.warns(LowConfidenceWarning, match=r"2 of 5 texts .* \(rows 1, 4\)") as caught:
        answers = await it.abatch(texts, [{**one, "callbacks": [recorder]} for one in configs])
    assert len(caught) == 1
    assert [answer in OTHERS for answer in answers] == [True, False, True, False, False]
    assert [answer is None for answer in answers] == [False, True, False, False, True]
    assert sorted(run["inputs"] for run in recorder.chains.values()) == texts
    with pytest.warns(LowConfidenceWarning, match=r"2 of 5"):
        done = sorted([row async for row in it.abatch_as_completed(texts, configs)])
    assert [answer for _, answer in done] == answers


async def test_concurrency_and_equal_rows_of_configured_batches() -> None:
    """A batch under a configuration is one batch: bounded as a whole, and equal rows share a request."""
    it = task(llm=FakeScoringLLM(delay=0.001), prior=None)
    log = it.llm.log
    config = {**chosen(labels=OTHERS), "max_concurrency": 2}
    await configurable(it).abatch(["same"] * 10, config)
    assert len(log.prompts) == 1
    half = [{**chosen(labels=OTHERS), "max_concurrency": 2}, {"max_concurrency": 2}] * 5
    await configurable(it).abatch([f"text {number}" for number in range(10)], half)
    assert log.peak == 2
    assert await configurable(it).abatch([], config) == []


async def test_errors_of_configured_batches() -> None:
    """What is wrong for every row is raised, or returned in each row's place where that is asked for."""
    it = configurable(task(llm=FakeLLM()))
    with pytest.raises(ServerUnreachableError):
        await it.abatch(["DOWN", "DOWN"], [chosen(labels=OTHERS), {}])
    rows = await it.abatch(["DOWN", "x"], [chosen(labels=LABELS[:2]), {}], return_exceptions=True)
    assert isinstance(rows[0], ServerUnreachableError)
    assert rows[1] in LABELS
    with pytest.raises(LabelError, match="at least two labels"):
        await it.ainvoke("x", chosen(labels=["one"]))
    with pytest.raises(ConfigurationError, match="min_confidence"):
        await it.ainvoke("x", chosen(sure=7))


async def test_details_can_be_configured() -> None:
    """Details of a configurable classifier, and a configurable classifier of details, are the same."""
    for it in (configurable(task()).with_details(), configurable(task().with_details())):
        (found,) = await it.abatch(["a"], chosen(labels=OTHERS))
        assert list(found.probabilities) == OTHERS
        assert [spec.id for spec in it.config_specs] == ["labels", "sure"]
        assert it.OutputType is Classification
    assert list((await task().with_details().ainvoke("a", labels=OTHERS)).probabilities) == OTHERS


def test_schemas_are_honest() -> None:
    """The config's schema has labels and defaults; the output's has the labels only where they are settled."""
    it = configurable(task(min_confidence=0.5))
    schema = it.config_schema(include=["configurable"]).model_json_schema()["$defs"]["Configurable"]["properties"]
    assert [label["name"] for label in schema["labels"]["default"]] == LABELS
    assert (schema["sure"]["default"], schema["sure"]["title"], schema["sure"]["description"]) == (0.5, "Sure", "How.")
    anything = [{"type": "string"}, {"type": "null"}]
    assert it.get_output_jsonschema()["anyOf"] == anything
    wanted = [{"enum": OTHERS, "type": "string"}, {"type": "null"}]
    assert it.get_output_jsonschema(chosen(labels=OTHERS))["anyOf"] == wanted
    assert it.with_config(chosen(labels=OTHERS)).get_output_jsonschema()["anyOf"] == wanted
    assert task().bind(labels=OTHERS).get_output_jsonschema()["anyOf"] == wanted
    threshold = task().configurable_fields(min_confidence=ConfigurableField("sure"))
    assert threshold.get_output_jsonschema()["anyOf"] == [{"enum": LABELS, "type": "string"}, {"type": "null"}]
    assert "red" not in it.get_graph().draw_mermaid()
    with pytest.raises(ConfigurationError, match=r"no settings \['lables'\]"):
        task().configurable_fields(lables=ConfigurableField("labels"))


async def test_llms_and_classifiers_to_choose_from() -> None:
    """A config chooses the LLM by name, or a whole classifier; a batch stays a batch."""
    small, large = FakeLLM(answer=lambda _: "sport"), FakeLLM(answer=lambda _: "science")
    options = ConfigurableFieldSingleOption(id="llm", options={"small": small, "large": large}, default="small")
    by_llm = task(llm=small).configurable_fields(llm=options)
    assert await by_llm.abatch(["a", "b"]) == ["sport"] * 2
    assert await by_llm.abatch(["a", "a"], chosen(llm="large")) == ["science"] * 2
    assert len(large.log.prompts) == 1
    with pytest.raises(ConfigurationError, match=r"no llm='huge' to choose, only \['large', 'small'\]"):
        await by_llm.ainvoke("a", chosen(llm="huge"))
    colours = ZeroShotClassifier(OTHERS, llm=FakeLLM(answer=lambda _: "red"))
    either = task(llm=small).configurable_alternatives(ConfigurableField("kind"), default_key="topic", colour=colours)
    assert await either.abatch(["a", "b"], [chosen(kind="colour"), {}]) == ["red", "sport"]
    assert either.batch(["a", "a"], chosen(kind="colour")) == ["red"] * 2
    assert len(colours.llm.log.prompts) == 2  # type: ignore[attr-defined]  # a fake
    with pytest.raises(ConfigurationError, match=r"no kind='taste' to choose, only \['colour', 'topic'\]"):
        either.invoke("a", chosen(kind="taste"))
    names = [one for choice in either.get_output_jsonschema()["anyOf"] for one in choice.get("enum", [])]
    assert sorted(names) == sorted([*OTHERS, *LABELS])
    assert either.get_output_jsonschema(chosen(kind="colour"))["anyOf"][0]["enum"] == OTHERS
    foreign = task(llm=small).configurable_alternatives(ConfigurableField("kind"), none=RunnableLambda(lambda _: "-"))
    assert foreign.batch(["a"], chosen(kind="none")) == ["-"]


async def test_other_settings_of_a_call() -> None:
    """Any setting but the LLM may come with a call; what is no setting is refused, and says so."""
    it = task(llm=FakeLLM())
    with pytest.raises(OverlongInputError):
        await it.abatch(["OVERLONG", "a"], on_overlong="raise")
    with pytest.warns(OverlongInputWarning):
        assert await it.ainvoke({"body": "OVERLONG"}, text_key="body") is None
    wrongs: list[dict[str, Any]] = [{"stop": ["x"]}, {"llm": FakeLLM()}, {"name": "x"}]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match=rf"takes no \['{next(iter(wrong))}'\] per call"):
            await it.ainvoke("a", **wrong)
        with pytest.raises(ConfigurationError, match="per call"):
            it.bind(**wrong)
    with pytest.raises(LabelError, match="at least two"):
        it.bind(labels=["one"])


async def test_parts_follow_the_labels_or_say_that_they_cannot() -> None:
    """A parser of ours follows with its settings; examples of other labels are refused."""
    strict = task(llm=FakeLLM(), parser=LabelOutputParser(LABELS, fuzzy_match=False))
    assert strict.bind(labels=OTHERS).parser == LabelOutputParser(OTHERS, fuzzy_match=False)
    shots = FewShotClassifier(LABELS, [("a", "sport")], llm=FakeLLM())
    with pytest.raises(LabelError, match="'sport', which is not among the labels"):
        shots.bind(labels=OTHERS)
    other = shots.bind(labels=OTHERS, examples=[["a", "red"]])
    assert other == FewShotClassifier(OTHERS, [("a", "red")], llm=shots.llm)


async def test_causes_of_configured_batches_are_counted_together() -> None:
    """Rows with settings of their own fail for the same reason: one warning counts them, whoever answered them."""
    it = configurable(task(llm=FakeLLM()))
    configs = [chosen(labels=labels) for labels in (LABELS, OTHERS, LABELS, OTHERS)]
    with pytest.warns(FailedRequestWarning, match=r"^3 of 4 texts got .*\(424\).*rows 0, 1, 3") as told:
        assert (await it.abatch(["FAIL a", "FAIL b", "c", "FAIL d"], configs))[:2] == [None, None]
    assert len(told) == 1
