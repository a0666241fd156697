"""langchain-huggingface's LLMs as a classifier's `llm`, and `from_endpoint`, against a TGI server on a socket."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

from langchain_stormtrooper import (
    AuthenticationError,
    ConfigurationError,
    FailedRequestWarning,
    OverlongInputWarning,
    ServerUnreachableError,
    SettingsWarning,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.llms import foreign_clients
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

LABELS = ["politics", "science", "sport"]
Start = Callable[..., TGIServer]


def engine() -> ScriptedEngine:
    """Answers with the label that the text names by a word of its own."""
    return ScriptedEngine(when_contains({"senate": " politics", "atom": " science"}, default=" sport"))


def classifier(llm: Any, **settings: Any) -> ZeroShotClassifier:
    """A classifier of the labels that the server answers with."""
    return ZeroShotClassifier(LABELS, llm=llm, **settings)


def endpoint(server: TGIServer, **settings: Any) -> HuggingFaceEndpoint:
    """An endpoint for a server."""
    return HuggingFaceEndpoint(endpoint_url=server.url, **settings)


def on_the_hub(**settings: Any) -> HuggingFaceEndpoint:
    """An endpoint without a server of its own."""
    return HuggingFaceEndpoint(**settings)


def chat(server: TGIServer, **settings: Any) -> ChatHuggingFace:
    """A chat model for a server."""
    return ChatHuggingFace(llm=endpoint(server, **settings))


@pytest.mark.parametrize("version", ["1.4.0", "2.4.1", "3.3.7"])
async def test_endpoint_is_greedy(tgi_server: Start, version: str) -> None:
    """An endpoint answers every row, is not asked to sample, and stays as it was."""
    server = tgi_server(version, engine())
    llm = endpoint(server)
    before = llm.model_dump()
    texts: list[Any] = ["The senate votes.", "An atom has a nucleus.", "Goal!"] * 5
    assert await classifier(llm).abatch(texts) == LABELS * 5
    for received in server.received:
        parameters = received.json["parameters"]
        assert not {"temperature", "top_p", "typical_p", "top_k"} & {k for k, v in parameters.items() if v is not None}
        assert (parameters["do_sample"], parameters["max_new_tokens"]) == (False, 32)
    assert llm.model_dump() == before


async def test_chat_is_greedy(tgi_server: Start) -> None:
    """A chat model that inherited its endpoint's temperature is asked with 0, at its own length, without stop texts."""
    server = tgi_server("3.3.7", engine())
    llm = chat(server)
    row = await classifier(llm).with_details().ainvoke("The senate votes.")
    assert row.label == "politics"
    assert (row.prompt_tokens or 0) > 10
    body = server.received[-1].json
    assert (body["temperature"], body["max_tokens"], body.get("stop")) == (0.0, 512, None)
    assert llm.temperature == 0.8


@pytest.mark.parametrize("make", [endpoint, chat])
def test_every_event_loop(tgi_server: Start, make: Callable[[TGIServer], Any]) -> None:
    """One object serves sync calls and any number of event loops, though its own client works on the first one only."""
    server = tgi_server("3.3.7", engine())
    task = classifier(make(server))
    assert task.invoke("The senate votes.") == "politics"
    for _ in range(3):
        assert asyncio.run(task.abatch(["The senate votes.", "An atom."])) == ["politics", "science"]
    assert task.batch(["Goal!"]) == ["sport"]


async def test_connections_end_with_their_classifier(tgi_server: Start) -> None:
    """A classifier that is gone leaves no client open on a loop that goes on, and the user's own is untouched."""
    llm = endpoint(tgi_server("3.3.7", engine()))
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await classifier(llm).ainvoke("Goal!")
    assert foreign_clients._guards[loop]
    gc.collect()
    for _ in range(500):
        if foreign_clients._guards[loop]:
            await asyncio.sleep(0.01)
    assert not foreign_clients._guards[loop]
    assert llm.async_client._async_client is None


@pytest.mark.parametrize("turns", [0, 1, 2, 8, 40])
def test_connections_end_with_their_loop(tgi_server: Start, turns: int) -> None:
    """A loop that ends soon after its last classifier, or while its connections are being closed, leaves none open."""
    server = tgi_server("3.3.7", engine(), latency_per_request=0.2)
    llm, texts = endpoint(server), [f"Goal number {number}" for number in range(16)]

    async def last() -> None:
        assert await classifier(llm).abatch(list(texts)) == ["sport"] * 16
        gc.collect()
        for _ in range(turns):
            await asyncio.sleep(0)

    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(last())
        gc.collect()
    assert not [str(one.message) for one in seen]
    assert server.counters.peak_permits > 2, "too few connections to show anything"


async def test_rows_run_side_by_side(tgi_server: Start) -> None:
    """Sixteen rows are in flight at once, or as many as `max_concurrency` says; the endpoint's own batch has one."""
    texts: list[Any] = [f"Goal number {number}" for number in range(32)]
    for config, peak in (({}, 16), ({"max_concurrency": 4}, 4)):
        server = tgi_server("3.3.7", engine(), latency_per_request=0.2)
        assert await classifier(endpoint(server)).abatch(texts, config) == ["sport"] * 32  # type: ignore[arg-type]
        # On a busy machine the first is answered before the last is sent.
        assert peak / 2 <= server.counters.peak_permits <= peak
    server = tgi_server("3.3.7", engine(), latency_per_request=0.01)
    llm = endpoint(server)
    async with llm.async_client:
        await llm.abatch(texts[:4])
    assert server.counters.peak_permits == 1


@pytest.mark.parametrize("make", [endpoint, chat])
@pytest.mark.parametrize("version", ["2.4.1", "3.3.7"])
async def test_overlong(tgi_server: Start, make: Callable[[TGIServer], Any], version: str) -> None:
    """A text beyond the server's limit is None; with `truncate` it is cut to fit, and the row is marked."""
    server = tgi_server(version, engine())
    long = "The senate votes. " * 700
    with pytest.warns(OverlongInputWarning, match="1 of 2"):
        assert await classifier(make(server)).abatch([long, "An atom."]) == [None, "science"]
    row = await classifier(make(server), on_overlong="truncate").with_details().ainvoke(long)
    assert (row.label, row.truncated) == ("politics", True)


@pytest.mark.parametrize("make", [endpoint, chat])
@pytest.mark.parametrize("kind", ["429", "503", "424", "reset_before"])
async def test_one_failure_loses_no_row(tgi_server: Start, make: Callable[[TGIServer], Any], kind: str) -> None:
    """What passes is asked again: overload, gateways' errors, failed generations, dropped connections."""
    server = tgi_server("3.3.7", engine(), faults=Fault(kind, times=3))
    assert await classifier(make(server)).abatch(["The senate.", "An atom.", "Goal!"]) == LABELS


async def test_few_permits(tgi_server: Start) -> None:
    """A server with two permits answers sixteen rows at once, after refusing some."""
    server = tgi_server("3.3.7", engine(), max_concurrent_requests=2, latency_per_request=0.02)
    rows = await classifier(endpoint(server)).abatch([f"Goal {number}" for number in range(16)])
    assert rows == ["sport"] * 16
    assert server.counters.by_status[429] > 0


async def test_refused_settings_are_a_rows_trouble(tgi_server: Start) -> None:
    """A 422 that is about something else than length is no overlong text."""
    server = tgi_server("3.3.7", engine(), faults=Fault("text_422", times=None, when=lambda prompt: "odd" in prompt))
    with pytest.warns(FailedRequestWarning, match="1 of 2"):
        assert await classifier(endpoint(server)).abatch(["odd", "An atom."]) == [None, "science"]


@pytest.mark.parametrize("make", [endpoint, chat])
async def test_wrong_for_every_row(tgi_server: Start, make: Callable[[TGIServer], Any]) -> None:
    """A missing key and a missing server are raised at once."""
    locked = tgi_server("3.3.7", engine(), api_key="s3cret")
    with pytest.raises(AuthenticationError, match="401"):
        await classifier(make(locked)).abatch(["a", "b"])
    gone = tgi_server("3.3.7", engine())
    llm = make(gone)
    gone.close()
    with pytest.raises(ServerUnreachableError):
        await classifier(llm).abatch(["a", "b"])


async def test_log_probabilities(tgi_server: Start) -> None:
    """A chat model that was asked for log-probabilities tells how sure it is, also among all labels."""
    spread = {" politics": 0.6, " science": 0.3, " sport": 0.05}
    server = tgi_server("3.3.7", ScriptedEngine(lambda _: spread))
    llm = chat(server, model_kwargs={"logprobs": True, "top_logprobs": 5})
    row = await classifier(llm, min_confidence=0.3).with_details().ainvoke("x")
    assert row.label == "politics"
    told = server.received[-1].json
    assert (told["logprobs"], told["top_logprobs"]) == (True, 5)
    # Of 0.95, what the script gives to the labels; the server shows it in single precision.
    assert row.probabilities == pytest.approx({name[1:]: p / 0.95 for name, p in spread.items()}, abs=1e-3)
    assert row.confidence == (row.probabilities or {})["politics"]
    assert row.covered_mass == pytest.approx(0.95, abs=1e-3)


class TestFromEndpoint:
    """`TextGenerationInference.from_endpoint`."""

    @pytest.mark.parametrize("route", ["", "/", "/generate", "/generate_stream", "/v1/chat/completions"])
    @pytest.mark.parametrize("field", ["endpoint_url", "model"])
    def test_answers(self, tgi_server: Start, field: str, route: str) -> None:
        """The LLM talks to the endpoint's server, whatever route its address names, and says what it left out."""
        server = tgi_server("3.3.7", engine())
        old = HuggingFaceEndpoint(
            **{field: server.url + route}, max_new_tokens=7, stop_sequences=["!"], timeout=9, top_k=3, seed=41
        )
        with pytest.warns(SettingsWarning) as seen:
            llm = TextGenerationInference.from_endpoint(old)
        assert str(seen[0].message) == (
            "Settings of the endpoint were dropped: temperature, top_p, typical_p, top_k, seed."
        )
        assert seen[0].filename == __file__
        assert (llm.base_url, llm.max_new_tokens, llm.stop, llm.timeout) == (server.url, 7, ["!"], 9.0)
        assert classifier(llm, method="generate").invoke("An atom.") == "science"

    def test_own_address_of_a_tgi_server(self, tgi_server: Start) -> None:
        """The field for a TGI server's address, which the endpoint itself never reads, is read where it is the only."""
        server = tgi_server("3.3.7", engine())
        old = HuggingFaceEndpoint(
            repo_id="acme/model",
            inference_server_url=server.url,
            **dict.fromkeys(("temperature", "top_p", "typical_p")),
        )
        assert TextGenerationInference.from_endpoint(old).base_url == server.url

    def test_only_a_token_that_was_passed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The token of the call is taken over, that of the environment is not; neither is in the warning."""
        monkeypatch.setenv("HUGGINGFACEHUB_API_TOKEN", "hf_environment")
        monkeypatch.setenv("HF_TOKEN", "hf_environment")
        address = "http://127.0.0.1:9"
        for passed, key in (({}, None), ({"huggingfacehub_api_token": "hf_passed"}, "hf_passed")):
            old = HuggingFaceEndpoint(endpoint_url=address, **passed)
            with pytest.warns(SettingsWarning) as seen:
                llm = TextGenerationInference.from_endpoint(old)
            assert (llm.api_key.get_secret_value() if llm.api_key else None) == key
            assert "hf_" not in str(seen[0].message)

    def test_further_settings(self) -> None:
        """Headers are taken over, arguments of the call come first, and other settings are named."""
        old = HuggingFaceEndpoint(
            endpoint_url="http://127.0.0.1:9",
            server_kwargs={"headers": {"X-Team": "a"}, "cookies": {"b": "c"}},
            model_kwargs={"adapter_id": "d"},
            **dict.fromkeys(("temperature", "top_p", "typical_p")),
        )
        with pytest.warns(SettingsWarning, match="dropped: adapter_id, cookies"):
            llm = TextGenerationInference.from_endpoint(old, max_new_tokens=3)
        assert (llm.headers, llm.max_new_tokens) == ({"X-Team": "a"}, 3)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: on_the_hub(repo_id="acme/model"),
            lambda: on_the_hub(model="acme/model"),
            lambda: on_the_hub(endpoint_url="https://router.huggingface.co/hf-inference"),
            lambda: ChatHuggingFace(llm=on_the_hub(repo_id="acme/model")),
        ],
    )
    def test_what_is_no_tgi_server(self, make: Callable[[], Any]) -> None:
        """A model on the Hub and a chat model are refused with what to do."""
        with pytest.raises(ConfigurationError, match=r"pass (the endpoint itself|its `llm`)"):
            TextGenerationInference.from_endpoint(make())


def test_the_embedded_model_decides() -> None:
    """The decision model scores with a real model: answers are distributions, and differ from text to text."""
    decisions = pytest.importorskip("langchain_core.decisions")
    from langchain_stormtrooper import DecisionModel, LlamaCpp

    model = DecisionModel(llm=LlamaCpp(), prior=None)
    questions = {
        "urgent": decisions.Noul(instructions="Does this message require an urgent response?"),
        "team": decisions.Choice(instructions="What is it about?", criteria={"sport": "games", "money": "invoices"}),
        "mood": decisions.Score(instructions="How angry is it?", criteria=["calm", "cross", "furious"]),
    }
    states = ["The invoice shows a wrong amount of money.", "Our football team won the game of the season."]
    about_money, about_sport = model.batch([{"state": state, "questions": questions} for state in states])
    assert about_money.model.startswith("HuggingFaceTB/SmolLM2-135M")
    for response in (about_money, about_sport):
        for probabilities in (response.choices["team"].probabilities, response.scores["mood"].probabilities):
            assert sum(probabilities.values()) == pytest.approx(1)
    money = [response.choices["team"].probabilities["money"] for response in (about_money, about_sport)]
    assert money[0] > money[1]
