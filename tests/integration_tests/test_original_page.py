"""The page that this project began with, sentence by sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from langchain_stormtrooper import (
    FewShotClassifier,
    OverlongInputWarning,
    TextGenerationInference,
    TGIZeroShotClassifier,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["atheism/christianity", "astronomy/space"]
EXAMPLES = [("God never existed.", "atheism/christianity"), ("The Big Bang was long ago.", "astronomy/space")]
TEXT = "God came down to earth to save us."
# Of other texts it knows nothing: a model that says the same of all of them could not be told from a biased one.
ENGINE = ScriptedEngine(lambda prompt: LABELS[0] if TEXT in prompt else dict.fromkeys(LABELS, 0.5))


def classifiers(server: TGIServer) -> list[ZeroShotClassifier | FewShotClassifier]:
    """Both kinds, with nothing said but where the server is."""
    llm = TextGenerationInference(base_url=server.url)
    return [ZeroShotClassifier(LABELS, llm=llm), FewShotClassifier(LABELS, EXAMPLES, llm=llm)]


def prompt_sent(server: TGIServer) -> str:
    """The prompt that the server was given last."""
    inputs = server.received[-1].json["inputs"]
    assert isinstance(inputs, str)
    return inputs


def test_the_server_is_at_port_8080_unless_told(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address, a classifier asks the server on this machine's port 8080; TGI_BASE_URL names another."""
    for classifier in (ZeroShotClassifier(LABELS), FewShotClassifier(LABELS, EXAMPLES)):
        assert isinstance(classifier.llm, TextGenerationInference)
        assert classifier.llm.base_url == "http://127.0.0.1:8080"
    monkeypatch.setenv("TGI_BASE_URL", tgi_server("3.3.7", ENGINE).url)
    assert ZeroShotClassifier(LABELS).invoke(TEXT) == "atheism/christianity"


@pytest.mark.parametrize("model_id", ["stabilityai/StableBeluga-13B", "stabilityai/StableBeluga2", ""])
def test_the_default_prompt_is_stable_belugas(tgi_server: StartServer, model_id: str) -> None:
    """A StableBeluga, or a model of which the server tells no name, is asked in StableBeluga's format."""
    server = tgi_server("2.0.4", ENGINE, model_id=model_id)
    for classifier in classifiers(server):
        assert classifier.invoke(TEXT) == "atheism/christianity"
        prompt = prompt_sent(server)
        places = [prompt.index(part) for part in ("### System:\n", "### User:\n", TEXT, "### Assistant:\n")]
        assert places == sorted(places)
        assert places[0] == 0
        assert prompt.endswith("### Assistant:\n")
        assert all(label in prompt for label in LABELS)
    assert all(text in prompt_sent(server) for text, _ in EXAMPLES)


@pytest.mark.parametrize("model_id", ["google/flan-t5-small", "google/flan-t5-xxl", "google/flan-ul2"])
def test_flan_t5_has_a_prompt_of_its_own(tgi_server: StartServer, model_id: str) -> None:
    """A FLAN-T5 is asked a question, without StableBeluga's headings, and its answer is a label like any."""
    server = tgi_server("2.0.4", ENGINE, model_id=model_id, family="seq2seq")
    for classifier in classifiers(server):
        assert classifier.invoke(TEXT) == "atheism/christianity"
        prompt = prompt_sent(server)
        assert prompt.startswith("Which label does the text have? Choose one of:")
        assert prompt.endswith(f"Text: {TEXT}\nLabel:")
        assert "###" not in prompt
        assert all(label in prompt for label in LABELS)


@pytest.mark.parametrize("version", ["1.0.3", "2.4.1", "3.3.7"])
def test_a_prompt_that_is_too_long_is_warned_about_and_none(tgi_server: StartServer, version: str) -> None:
    """A text that makes the prompt too long gives a warning and None, with the text itself out of the warning."""
    server = tgi_server(version, ENGINE)
    for classifier in classifiers(server):
        with pytest.warns(OverlongInputWarning, match="the prompt is longer than the model accepts") as seen:
            assert classifier.invoke("God " * 2000) is None
        assert len(seen) == 1
        assert "God" not in str(seen[0].message)
        with pytest.warns(OverlongInputWarning):
            assert classifier.batch([TEXT, "God " * 2000]) == ["atheism/christianity", None]


async def test_the_server_is_never_left_waiting(tgi_server: StartServer) -> None:
    """While rows are left, the server has as many requests as it may have: its speed is all that is waited for."""
    at_once, in_use = 8, []

    def say(prompt: str) -> str:
        in_use.append(server.permits_in_use)
        return "astronomy/space"

    server = tgi_server("3.3.7", ScriptedEngine(say), latency_per_request=0.02)
    llm = TextGenerationInference(base_url=server.url, max_concurrency=at_once)
    classifier = ZeroShotClassifier(LABELS, llm=llm, prompt="Text: {text}\nLabel:", method="generate")
    rows = await classifier.abatch([f"{TEXT} {number}" for number in range(20 * at_once)])
    assert rows == ["astronomy/space"] * (20 * at_once)
    assert server.peak_permits == at_once
    # In every stretch of the run that gives each place two turns, all places were taken at some time.
    stretches = [in_use[start : start + 2 * at_once] for start in range(0, len(in_use) - 2 * at_once, at_once)]
    assert len(stretches) >= 18
    assert [max(stretch) for stretch in stretches] == [at_once] * len(stretches)


async def test_a_slow_row_holds_up_no_other(tgi_server: StartServer) -> None:
    """Rows do not wait for each other: one that takes long is simply the last to be there."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.01)
    server.faults.add(Fault("stall", when=lambda prompt: "slow" in prompt, seconds=60))
    classifier = ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=server.url, max_concurrency=4))
    rows = classifier.abatch_as_completed(["slow", *(f"{TEXT} {number}" for number in range(60))])
    quick = [await asyncio.wait_for(anext(rows), 30) for _ in range(60)]
    assert sorted(index for index, _ in quick) == list(range(1, 61))
    assert server.permits_in_use == 1
    await rows.aclose()  # type: ignore[attr-defined]  # LangChain calls its generators iterators


PAGE = """
from stormtrooper import TGIZeroShotClassifier, TGIFewShotClassifier

sample_text = "It is the Electoral College's responsibility to elect the president."

labels = ["politics", "science", "other"]


model = TGIZeroShotClassifier().fit(None, labels)
predictions = model.predict([sample_text])
assert list(predictions) == ["politics"]
"""


@pytest.mark.parametrize("version", ["1.0.3", "2.0.4", "3.3.7"])
def test_the_code_of_the_page_runs(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's page runs as it stands, but for the import line, on the server at its default address."""
    engine = ScriptedEngine(
        lambda prompt: " politics" if "Electoral" in prompt else {"politics": 0.3, "science": 0.3, "other": 0.3}
    )
    code = PAGE.replace("from stormtrooper import", "from langchain_stormtrooper import")
    with ExitStack() as running:
        try:
            server = running.enter_context(TGIServer(version, engine, port=8080))
        except OSError:  # somebody else's
            server = running.enter_context(TGIServer(version, engine))
            monkeypatch.setenv("TGI_BASE_URL", server.url)
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102  # the page
        assert server.requests > 0
        assert names["sample_text"] in prompt_sent(server)
        few_shot = names["TGIFewShotClassifier"]().fit(
            ["The senate votes.", "Atoms are small."], ["politics", "science"]
        )
        assert list(few_shot.predict([names["sample_text"]])) == ["politics"]


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"model_id": "google/flan-t5-small", "family": "seq2seq"}, ["politics", "science"]),
        ({"model_id": "stabilityai/StableBeluga-13B"}, ["politics", "science"]),
        ({"model_id": "someone/some-model-7B"}, ["yes", "no"]),
    ],
)
def test_an_estimator_does_not_care_what_the_server_runs(
    tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], labels: list[str]
) -> None:
    """The same call works with every model, with the prompt that suits it; an overlong text is warned of and None."""
    server = tgi_server("2.0.4", ScriptedEngine(lambda _: f"{labels[1]}"), **settings)
    monkeypatch.setenv("TGI_BASE_URL", server.url)
    model = TGIZeroShotClassifier(max_new_tokens=16).fit(None, labels)
    with pytest.warns(OverlongInputWarning, match="the prompt is longer than the model accepts"):
        assert list(model.predict(["short", "God " * 2000])) == [labels[1], None]
