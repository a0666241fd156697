"""The LLM and the classifier against a Text Generation Inference server."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from langchain_stormtrooper import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    FailedRequestWarning,
    FewShotClassifier,
    LabelOutputParser,
    OverlongInputError,
    OverlongInputWarning,
    RequestFailedError,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
    sessions,
)
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer, when_contains

StartServer = Callable[..., TGIServer]

LABELS = ["politics", "science", "other"]
ENGINE = ScriptedEngine(when_contains({"president": "politics", "atom": "Science."}, default=" The label is: other"))
TEXTS = ["The president spoke.", "An atom is small.", "Nothing of note."]


def llm(server: TGIServer, **kwargs: Any) -> TextGenerationInference:
    """An LLM for a server."""
    return TextGenerationInference(base_url=server.url, **kwargs)


@pytest.mark.parametrize("version", ["1.0.3", "1.4.0", "2.0.4", "2.4.1", "3.3.7"])
def test_a_chain_by_hand_and_the_classifier_agree(tgi_server: StartServer, version: str) -> None:
    """Prompt, LLM and parser composed by hand give the classifier's labels, on any version."""
    server = tgi_server(version, ENGINE)
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(server), method="generate")
    chain = classifier.get_prompt() | TextGenerationInference(base_url=server.url) | LabelOutputParser(labels=LABELS)
    assert classifier.batch(TEXTS) == LABELS
    assert chain.batch([{"text": text} for text in TEXTS]) == LABELS
    assert [chain.invoke({"text": text}) for text in TEXTS] == LABELS


async def test_every_face_of_the_llm_gives_the_same_text(tgi_server: StartServer) -> None:
    """Sync and async, single, batch and stream say the same, also inside a running event loop."""
    model = llm(tgi_server("3.3.7", ENGINE))
    said = await model.ainvoke("atom")
    assert said == "Science."
    assert model.invoke("atom") == said
    assert model.batch(["atom", "atom"]) == await model.abatch(["atom", "atom"]) == [said, said]
    assert "".join(model.stream("atom")) == said
    assert "".join([piece async for piece in model.astream("atom")]) == said
    assert model.generate(["atom", "president"]).generations[1][0].text == "politics"


def test_greedy_parameters_are_always_sent(tgi_server: StartServer) -> None:
    """No request leaves sampling to a server's defaults."""
    server = tgi_server("3.3.7", ENGINE)
    model = llm(server, max_new_tokens=7, stop=["###"])
    model.invoke("atom")
    list(model.stream("atom"))
    for received in (r for r in server.received if r.json):
        assert received.json["parameters"] == {
            "do_sample": False,
            "max_new_tokens": 7,
            "return_full_text": False,
            "stop": ["###"],
        }


def test_a_batch_is_concurrent_up_to_the_limit(tgi_server: StartServer) -> None:
    """As many requests are in flight as allowed, and no more."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=0.4)
    prompts = [f"prompt {number}" for number in range(40)]
    llm(server, max_concurrency=20).batch(prompts)
    assert server.peak_permits == 20
    server.reset()
    llm(server).batch(prompts[:9], {"max_concurrency": 3})
    assert server.peak_permits == 3
    server.reset()
    ZeroShotClassifier(labels=LABELS, llm=llm(server, max_concurrency=20), method="generate").batch(prompts)
    assert server.peak_permits == 20


@pytest.mark.parametrize("version", ["1.0.3", "3.3.7"])
def test_an_overlong_text_gives_none_and_its_neighbours_their_labels(tgi_server: StartServer, version: str) -> None:
    """One row too long is None with one warning; the others are not touched."""
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(tgi_server(version, ENGINE)), method="generate")
    with pytest.warns(OverlongInputWarning, match=r"^1 of 3 texts .* \(row 1\)\.$") as caught:
        assert classifier.batch([TEXTS[0], "long " * 3000, TEXTS[1]]) == ["politics", None, "science"]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    details = classifier.with_details()
    with pytest.warns(OverlongInputWarning):
        answer = details.invoke("long " * 3000)
    assert (answer.label, answer.reason) == (None, "overlong")
    assert answer.prompt_tokens is not None
    assert answer.prompt_tokens > 3000
    assert f"{answer.prompt_tokens} tokens" in (answer.error or "")


def test_an_overlong_prompt_in_a_chain_warns_once(tgi_server: StartServer) -> None:
    """In a chain by hand the LLM warns, and the parser makes None of it without a second warning."""
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(tgi_server("3.3.7", ENGINE)))
    chain = classifier.get_prompt() | classifier.llm | LabelOutputParser(labels=LABELS)
    with pytest.warns(OverlongInputWarning) as caught:
        assert chain.batch([{"text": "long " * 3000}, {"text": TEXTS[0]}]) == [None, "politics"]
    assert len(caught) == 1
    with pytest.raises(OverlongInputError):
        llm(tgi_server("3.3.7", ENGINE), on_overlong="raise").invoke("long " * 3000)


def test_a_failing_row_is_none_and_its_neighbours_are_not_touched(tgi_server: StartServer) -> None:
    """What cannot be retried away is None with the reason "failed", for that row only."""
    server = tgi_server("3.3.7", ENGINE)
    server.faults.add(Fault("text_422", times=None, when=lambda prompt: "atom" in prompt))
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(server), method="generate")
    with pytest.warns(FailedRequestWarning, match="row 1") as caught:
        assert classifier.batch(TEXTS) == ["politics", None, "other"]
    assert len(caught) == 1
    assert "atom" not in str(caught[0].message)
    rows = llm(server).batch(["president", "atom"], return_exceptions=True)
    assert rows[0] == "politics"
    assert isinstance(rows[1], RequestFailedError)


def test_settings_that_the_server_refuses_are_an_error_for_all(tgi_server: StartServer) -> None:
    """Settings beyond the server's bounds are told at once, in its words and with what to do, not row by row."""
    server = tgi_server("3.3.7", ENGINE, max_stop_sequences=2)
    with pytest.raises(
        ConfigurationError,
        match=r"refuses the settings \(422\): `stop` supports up to 2 stop sequences\. Given: 3: .*--max-stop-seq",
    ):
        llm(server, stop=["a", "b", "c"]).batch(TEXTS)
    with pytest.raises(ConfigurationError, match="`max_new_tokens` must be strictly positive: set `max_new_tokens="):
        llm(server).invoke("x", max_new_tokens=0)


@pytest.mark.parametrize("version", ["1.0.3", "2.4.1"])
@pytest.mark.parametrize("known", [False, True], ids=["before /info", "after /info"])
def test_new_tokens_beyond_the_server_are_an_error_for_all(tgi_server: StartServer, version: str, known: bool) -> None:
    """No text is too long when `max_new_tokens` alone is more than the server takes: the setting is named."""
    model = llm(tgi_server(version, ENGINE), max_new_tokens=5000)
    if known:
        asyncio.run(model.ainfo())
    classifier = ZeroShotClassifier(LABELS, llm=model, method="generate", max_new_tokens=5000)
    for ask in (
        lambda: model.invoke("x"),
        lambda: model.batch(["x", "y"]),
        lambda: list(model.stream("x")),
        lambda: classifier.invoke("x"),
        lambda: classifier.batch(["x", "y"]),
    ):
        with pytest.raises(ConfigurationError, match="lower `max_new_tokens=` below the server's limit of 2048"):
            ask()


def test_a_row_that_the_server_refuses_says_why(tgi_server: StartServer) -> None:
    """An empty prompt costs its row alone, and the warning names the cause."""
    model = llm(tgi_server("3.3.7", ENGINE))
    classifier = ZeroShotClassifier(labels=LABELS, llm=model, prompt="{text}", method="generate")
    with pytest.warns(FailedRequestWarning, match="refused the request .*`inputs` cannot be empty.*row 1"):
        assert classifier.batch(["president", "", "atom"]) == ["politics", None, "science"]


@pytest.mark.parametrize("kind", ["429", "424", "500", "502", "reset_before"])
def test_passing_faults_are_retried(tgi_server: StartServer, kind: str) -> None:
    """A fault that passes costs a retry, not the row."""
    server = tgi_server("3.3.7", ENGINE)
    model = llm(server)
    assert model.invoke("president") == "politics"
    server.faults.add(Fault(kind, times=1))
    assert model.invoke("president") == "politics"
    assert server.counters.by_fault.total() == 1


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    """Without a server, one clear error says what to do, before any retry."""
    classifier = ZeroShotClassifier(labels=LABELS, llm=TextGenerationInference(base_url="http://127.0.0.1:9"))
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:9.*start Text Generation Inference"):
        classifier.batch(TEXTS)
    assert time.monotonic() - started < 5


def test_a_wrong_key_is_said_at_once_and_never_shown(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """401 raises one clear error for the batch, and the key is in no message, repr or dump."""
    server = tgi_server("3.3.7", ENGINE, api_key="right")
    monkeypatch.setenv("TGI_API_KEY", "wrong-secret")
    model = llm(server, headers={"x-gateway": "other-secret"})
    classifier = ZeroShotClassifier(labels=LABELS, llm=model)
    with pytest.raises(AuthenticationError, match="TGI_API_KEY") as caught:
        classifier.batch(TEXTS)
    shown = [str(caught.value), repr(model), repr(classifier), str(model.model_dump()), classifier.model_dump_json()]
    assert not [text for text in shown if "secret" in text]
    assert ZeroShotClassifier(labels=LABELS, llm=llm(server, api_key="right")).invoke(TEXTS[0]) == "politics"


def test_no_other_credential_is_sent(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of the environment stay there; the key and headers that were given are sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_send")
    server = tgi_server("3.3.7", ENGINE)
    llm(server).invoke("atom")
    assert "authorization" not in {name.lower() for name in server.received[-1].headers}
    llm(server, api_key="mine", headers={"x-gateway": "g"}).invoke("atom")
    sent = {name.lower(): value for name, value in server.received[-1].headers.items()}
    assert (sent["authorization"], sent["x-gateway"]) == ("Bearer mine", "g")
    assert "hf_do_not_send" not in str(sent)


async def test_redirects_are_not_followed(tgi_server: StartServer) -> None:
    """A redirect is an error that says so: texts and keys go to the named host only."""
    elsewhere = tgi_server("3.3.7", ENGINE)

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(elsewhere.url + request.path)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", redirect)
    url, runner = await _serve(application)
    try:
        with pytest.raises(EndpointNotFoundError, match="redirect"):
            await TextGenerationInference(base_url=url, api_key="mine").ainvoke("atom")
    finally:
        await runner.cleanup()
    assert elsewhere.requests == 0


async def test_a_server_with_generate_alone_is_enough() -> None:
    """A server or gateway that has nothing but /generate serves the classifier, with the default prompt."""
    prompts: list[str] = []

    async def generate(request: web.Request) -> web.Response:
        body = await request.json()
        prompts.append(body["inputs"])
        return web.json_response({"generated_text": "science"})

    application = web.Application()
    application.router.add_post("/generate", generate)
    url, runner = await _serve(application)
    try:
        assert (
            await ZeroShotClassifier(labels=LABELS, llm=TextGenerationInference(base_url=url)).ainvoke("x") == "science"
        )
    finally:
        await runner.cleanup()
    assert prompts[-1].startswith("### System:\n")
    assert prompts[-1].endswith("### Assistant:\n")
    assert len(prompts) == 2  # the other one found out that there is nothing to score with


async def _until(holds: Callable[[], bool]) -> None:
    """Wait until something holds in the server's thread, five seconds at most."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


async def _serve(application: web.Application) -> tuple[str, web.AppRunner]:
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return "http://{}:{}".format(*runner.addresses[0][:2]), runner


@pytest.mark.parametrize(
    ("model_id", "start"),
    [
        ("stabilityai/StableBeluga-7B", "### System:\n"),
        ("google/flan-t5-xl", "Which label"),
        ("EleutherAI/pythia-410m", "Text: "),
    ],
)
def test_the_prompt_suits_the_model_of_the_server(tgi_server: StartServer, model_id: str, start: str) -> None:
    """The model that /info names decides on the preset."""
    server = tgi_server("2.0.4", ENGINE, model_id=model_id)
    ZeroShotClassifier(labels=LABELS, llm=llm(server)).invoke(TEXTS[0])
    assert server.received[-1].json["inputs"].startswith(start)


def test_few_shot_examples_reach_the_server_unchanged(tgi_server: StartServer) -> None:
    """Examples with braces and quotes are in the prompt as given, before the text."""
    server = tgi_server("3.3.7", ENGINE)
    examples = [('{"a": {text}}', "science"), ("{{ y }} %s", "politics")]
    FewShotClassifier(labels=LABELS, examples=examples, llm=llm(server)).invoke("the {labels} president")
    prompt = server.received[-1].json["inputs"]
    assert all(text in prompt and prompt.index(text) < prompt.index("the {labels} president") for text, _ in examples)


def test_a_second_event_loop_and_several_threads(tgi_server: StartServer) -> None:
    """One classifier serves successive `asyncio.run`s and several threads at once."""
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(tgi_server("3.3.7", ENGINE)), method="generate")
    for _ in range(2):
        assert asyncio.run(classifier.abatch(TEXTS)) == LABELS
    answers: list[list[str | None]] = []
    threads = [threading.Thread(target=lambda: answers.append(classifier.batch(TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [LABELS] * 4


def test_loops_leave_no_session_behind(tgi_server: StartServer) -> None:
    """Twenty create-use-drop cycles leave neither sessions nor warnings nor threads."""
    server = tgi_server("3.3.7", ENGINE)
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            asyncio.run(llm(server).ainvoke("atom"))
        gc.collect()
    assert threading.active_count() == threads
    assert not [loop for loop in sessions._states if loop.is_closed()]


async def test_cancelling_frees_the_place_on_the_server(tgi_server: StartServer) -> None:
    """A cancelled row closes its connection, so that the server stops working on it."""
    server = tgi_server("3.3.7", ENGINE, latency_per_request=30)
    task = asyncio.create_task(llm(server).ainvoke("atom"))
    await _until(lambda: server.permits_in_use == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: server.permits_in_use == 0)


def test_a_stalled_server_is_given_up_in_time(tgi_server: StartServer) -> None:
    """The timeout ends a wait, and the row is None with a reason."""
    server = tgi_server("3.3.7", ENGINE)
    classifier = ZeroShotClassifier(labels=LABELS, llm=llm(server, timeout=2), method="generate")
    assert classifier.invoke(TEXTS[0]) == "politics"
    server.faults.add(Fault("stall", times=None, seconds=30, when=lambda prompt: "atom" in prompt))
    with pytest.warns(FailedRequestWarning, match="within 2 s"):
        assert classifier.batch(TEXTS) == ["politics", None, "other"]
