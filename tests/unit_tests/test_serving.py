"""The HTTP app, asked in the process: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import render
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, label_of
from langchain_core.language_models.fake import FakeListLLM
from pydantic import SecretStr

from langchain_stormtrooper import (
    AuthenticationError,
    Classification,
    ConfigurationError,
    FewShotClassifier,
    MissingExtraError,
    ServerError,
    ServerUnreachableError,
    ZeroShotClassifier,
    create_app,
)
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.serving import readiness
from langchain_stormtrooper.serving.tasks import Tasks

FIELDS = list(Classification.model_fields)


def make(llm: FakeLLM | None = None, **settings: Any) -> ZeroShotClassifier:
    """A classifier of the fakes' labels."""
    return ZeroShotClassifier(LABELS, llm=llm or FakeScoringLLM(), **settings)


@asynccontextmanager
async def client(classifier: Any = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app in this process."""
    app = create_app(classifier or make(), **options)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as asked:
        yield asked


async def classify(classifier: Any, **body: Any) -> httpx.Response:
    """What an app of its own answers to one body."""
    async with client(classifier) as asked:
        return await asked.post("/classify", json=body)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The rows of an answer to many texts, in the order of the texts."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(len(rows)))
    return sorted(rows, key=lambda row: int(row["index"]))


async def test_one_text_is_answered_with_everything_known() -> None:
    """The answer to one text is its Classification, field by field."""
    classifier = make()
    answer = await classify(classifier, text="a match")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == FIELDS
    assert Classification(**answer.json()) == await classifier.with_details().ainvoke("a match")


async def test_many_texts_are_lines_with_their_index() -> None:
    """Each text has one line with its index, and the same answer as in a batch."""
    classifier = make()
    texts = [f"text {n}" for n in range(20)] + ["text 3"]
    rows = lines(await classify(classifier, texts=texts))
    assert list(rows[0]) == ["index", *FIELDS]
    batch = await classifier.with_details().abatch(list(texts))
    assert [Classification(**{name: row[name] for name in FIELDS}) for row in rows] == batch


@pytest.mark.parametrize(("text", "reason"), [("OVERLONG", "overlong"), ("FAIL", "failed"), ("MUTTER", "unmatched")])
async def test_a_row_without_a_label_is_no_error(text: str, reason: str) -> None:
    """Overlong, failed and unmatched rows are 200 with their reason, alone and among others."""
    classifier = make(FakeLLM())
    alone = await classify(classifier, text=text)
    assert (alone.status_code, alone.json()["label"], alone.json()["reason"]) == (200, None, reason)
    rows = lines(await classify(classifier, texts=["fine", text]))
    assert [(row["label"], row["reason"]) for row in rows] == [(label_of("fine"), None), (None, reason)]


async def test_overlong_is_a_row_also_where_the_classifier_raises() -> None:
    """`on_overlong="raise"` does not turn a row of a request into an error of the request."""
    answer = await classify(make(FakeLLM(), on_overlong="raise"), text="OVERLONG")
    assert answer.json()["reason"] == "overlong"


@pytest.mark.parametrize(
    "labels", [["yes", "no"], {"yes": "it is", "no": None}, [{"name": "yes", "description": "it is"}, {"name": "no"}]]
)
async def test_a_request_may_bring_labels(labels: Any) -> None:
    """Labels as names, as descriptions by name or as objects take the place of the app's."""
    answer = await classify(make(), text="is it?", labels=labels, text_kind="question", label_kind="answer")
    assert answer.status_code == 200
    assert list(answer.json()["probabilities"]) == ["yes", "no"]


async def test_descriptions_and_kinds_get_into_the_prompt() -> None:
    """What a request says of its labels and texts is what the model is told."""
    llm = FakeScoringLLM()
    classifier = make(llm, prompt="task")
    await classify(classifier, text="x", labels={"yes": "it surely is", "no": None}, label_kind="verdict")
    assert any("it surely is" in str(prompt) and "verdict" in str(prompt) for prompt in llm.log.prompts)


async def test_other_labels_drop_a_calibration() -> None:
    """A calibrated app answers for other labels, without what was learnt of its own."""
    learnt = await make().acalibrate([f"text {n}" for n in range(30)])
    assert (await classify(learnt, text="x", labels=["yes", "no"])).status_code == 200


async def test_classifiers_of_requests_are_kept_and_few() -> None:
    """The same labels lead to the same classifier, and no more are kept than allowed."""
    tasks = Tasks(make(), kept=2)
    first = tasks.classifier_for({"labels": make().labels, "text_kind": "joke"})
    assert tasks.classifier_for({"text_kind": "joke"}) is first
    assert tasks.classifier_for({"text_kind": "text"}) is tasks.own
    for kind in ("a", "b"):
        tasks.classifier_for({"text_kind": kind})
    assert len(tasks._others) == 2
    assert tasks.classifier_for({"text_kind": "joke"}) is not first


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "either `text`"),
        ({"text": SECRET, "texts": [SECRET]}, "either `text`"),
        ({"text": None}, "text: input should be a valid string"),
        ({"text": [SECRET]}, "text: input should be a valid string"),
        ({"texts": [SECRET, 7]}, "texts.1: input should be a valid string"),
        ({"texts": []}, "texts: list should have at least 1 item"),
        ({"texts": SECRET}, "texts: input should be a valid array"),
        ({"text": SECRET, "model": SECRET}, "model: there is no such field"),
        ({"text": SECRET, "labels": ["one"]}, "labels: a classification needs at least two labels"),
        ({"text": SECRET, "labels": ["one", "One"]}, "labels: labels 'one' and 'One' differ only in case"),
        ({"text": SECRET, "labels": "one,two"}, "labels: labels must be a list"),
        ({"text": SECRET, "labels": [f"label {n}" for n in range(201)]}, "labels: there are 201"),
        ({"text": SECRET, "text_kind": ""}, "text_kind: string should have at least 1 character"),
        ({"texts": [SECRET] * 1001}, "texts: there are 1001"),
        ([SECRET], "input should be an object"),
    ],
)
async def test_a_wrong_body_is_a_422_that_shows_nothing_of_it(body: Any, detail: str) -> None:
    """What is wrong is told in one sentence with the field's name, and the text is not in it."""
    async with client() as asked:
        answer = await asked.post("/classify", json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["detail"]
    assert detail in answer.json()["detail"].replace("Input", "input")
    assert SECRET not in answer.text


@pytest.mark.parametrize("content", [b"", b"{", b'{"text": "\xff"}', b'{"text": "\\ud800"}', b"[" * 10_000])
async def test_what_is_no_json_is_a_422(content: bytes) -> None:
    """A body that cannot be read is the client's mistake."""
    async with client() as asked:
        answer = await asked.post("/classify", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonlines"])
async def test_another_content_type_is_a_415(kind: str | None) -> None:
    """Only JSON is taken, so that no form of another site can post it."""
    headers = {} if kind is None else {"content-type": kind}
    async with client() as asked:
        answer = await asked.post("/classify", content=b'{"text": "a"}', headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


async def test_fixed_labels_refuse_others() -> None:
    """An app with fixed labels takes texts and nothing else."""
    async with client(fixed_labels=True) as asked:
        assert (await asked.post("/classify", json={"text": "a"})).status_code == 200
        answer = await asked.post("/classify", json={"text": "a", "labels": ["yes", "no"]})
        assert (await asked.get("/info")).json()["labels_may_be_given"] is False
        schema = (await asked.get("/openapi.json")).json()["components"]["schemas"]["ClassifyRequest"]
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("labels: this app has labels of its own")
    assert set(schema["properties"]) == {"text", "texts"}


async def test_labels_that_do_not_suit_the_examples_are_a_422() -> None:
    """A request's labels that the app's examples do not have are the request's trouble."""
    shown = FewShotClassifier(LABELS, examples=[("a goal", "sport"), ("a vote", "politics")], llm=FakeScoringLLM())
    answer = await classify(shown, text="x", labels=["yes", "no"])
    assert answer.status_code == 422


def raising(error: Exception) -> FakeLLM:
    """An LLM that always raises."""

    def answer(prompt: Prompt) -> str:
        raise error

    return FakeLLM(answer=answer)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 503),
        (ServerError("The server is wrong."), 503),
        (AuthenticationError("The server refused the key."), 502),
        (ConfigurationError("The server has no such method."), 500),
        (MissingExtraError("LlamaCpp", "local"), 500),
        (KeyError(SECRET), 500),
    ],
)
async def test_what_is_wrong_for_all_rows_is_a_status(error: Exception | None, status: int, many: bool) -> None:
    """A model that cannot be asked is a 502 or 503 with a sentence, also for many texts."""
    llm = FakeLLM() if error is None else raising(error)
    answer = await classify(make(llm), **({"texts": ["DOWN", "DOWN"]} if many else {"text": "DOWN"}))
    assert answer.status_code == status
    assert answer.json()["detail"].endswith(".")
    assert SECRET not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_after_the_first_row_failures_are_rows() -> None:
    """Once an answer has begun, every text still gets its line, whatever happens."""

    def answer(prompt: Prompt) -> str:
        if "late" in prompt.text:
            raise KeyError(SECRET)
        return label_of(prompt.text)

    rows = lines(await classify(make(FakeLLM(answer=answer, places=1)), texts=["a", "b", "late", "c", "d"]))
    assert [row["reason"] for row in rows] == [None, None, "failed", "failed", "failed"]
    assert rows[2]["error"] == "Unexpected error: KeyError."


async def test_health_ready_and_info() -> None:
    """An app tells that it is alive, that it is ready, and what it does."""
    classifier = make(FakeScoringLLM(model_id="org/model"), text_kind="news", label_kind="topic")
    async with client(classifier, max_texts=7, max_requests=3) as asked:
        assert (await asked.get("/health")).json() == {"status": "alive"}
        assert (await asked.get("/ready")).json() == {"status": "ready"}
        info = (await asked.get("/info")).json()
    assert info == {
        "version": "0.1.0",
        "labels": [{"name": name, "description": None} for name in LABELS],
        "text_kind": "news",
        "label_kind": "topic",
        "model_id": "org/model",
        "method": "score",
        "labels_may_be_given": True,
        "needs_key": False,
        "langserve": "/langserve",
        "limits": {"max_body_bytes": 2**20, "max_texts": 7, "max_labels": 200, "max_requests": 3},
    }


async def test_ready_tells_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot be asked, or is not healthy, is a 503 with the reason, while the process is alive."""
    async with client(make(FakeScoringLLM(answer=raising(ServerError("The server is wrong.")).answer))) as asked:
        answer = await asked.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"detail": "The server is wrong."})
        assert answer.headers["retry-after"] == "1"
        info = (await asked.get("/info")).json()
        assert (info["method"], info["model_id"]) == (None, None)
        assert (await asked.get("/health")).status_code == 200

    class UnwellLLM(FakeScoringLLM):
        async def ais_healthy(self) -> bool:
            looks.append(1)
            return False

    looks: list[int] = []
    async with client(make(UnwellLLM())) as asked:
        answers = [await asked.get("/ready") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {503}
    assert "not healthy" in answers[0].json()["detail"]
    # The answer is kept for a moment.
    assert len(looks) == 1


async def test_an_app_that_is_about_to_end_is_not_ready() -> None:
    """Who asks whether to send more is told no, and finds the process alive."""
    async with client(make()) as asked:
        assert (await asked.get("/ready")).status_code == 200
        asked._transport.app.state.readiness.is_closing = True  # type: ignore[attr-defined]  # httpx's for an app
        answer = await asked.get("/ready")
        assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (503, "The app is ending")
        assert (await asked.get("/health")).status_code == 200


async def test_a_look_that_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model is on its way the app is being prepared; at its end the look ends, too."""
    monkeypatch.setattr(readiness, "_PATIENCE_SECONDS", 0.01)
    ended: list[str] = []

    class ComingLLM(FakeScoringLLM):
        async def ais_healthy(self) -> bool:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("look")
            return True

    ready = readiness.Readiness(make(ComingLLM()))
    assert [await ready.reason() for _ in range(2)] == ["The classifier is being prepared: ask again in a moment."] * 2
    assert ended == []
    await ready.close()
    assert ended == ["look"]


async def test_another_packages_llm_is_served() -> None:
    """An LLM whose model and health nobody can ask for is ready, and its model has no name."""
    async with client(make(FakeListLLM(responses=["sport"]))) as asked:  # type: ignore[arg-type]  # for the fakes
        assert (await asked.get("/ready")).json() == {"status": "ready"}
        info = (await asked.get("/info")).json()
        assert (info["model_id"], info["method"]) == (None, "generate")


@pytest.mark.parametrize("key", ["key-17", SecretStr("key-17")])
@pytest.mark.parametrize(
    ("sent", "is_right"),
    [
        ("Bearer key-17", True),
        ("bearer key-17", True),
        ("Bearer key-18", False),
        ("Bearer key-1", False),
        ("Basic key-17", False),
        ("key-17", False),
        ("", False),
        (None, False),
    ],
)
async def test_the_key_is_asked_for(key: Any, sent: str | None, is_right: bool) -> None:
    """Only the right bearer token opens what is not open to all; the rest is a 401 with a challenge."""
    headers = {} if sent is None else {"authorization": sent}
    async with client(api_key=key) as asked:
        answers = [
            await asked.post("/classify", json={"text": "a"}, headers=headers),
            await asked.get("/info", headers=headers),
            await asked.get("/metrics", headers=headers),
            await asked.post("/langserve/invoke", json={"input": "a"}, headers=headers),
        ]
        for path in ("/health", "/ready", "/openapi.json"):
            assert (await asked.get(path)).status_code == 200
        assert (await asked.get("/nowhere", headers=headers)).status_code == (404 if is_right else 401)
    assert {answer.status_code for answer in answers} == {200 if is_right else 401}
    if not is_right:
        assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
        assert "key-17" not in answers[0].text


async def test_metrics_hold_no_label_and_no_text() -> None:
    """Requests, rows and tokens are counted by names of a bounded number, apart for each app."""
    async with client() as other, client(make(FakeLLM())) as asked:
        await other.post("/classify", json={"text": "of another app"})
        for body in ({"text": SECRET}, {"texts": ["OVERLONG", "FAIL"]}, {"text": "x", "labels": [SECRET, "no"]}, {}):
            await asked.post("/classify", json=body)
        await asked.get(f"/{SECRET}")
        await asked.request("BREW", "/health")
        await asked.post("/langserve/invoke", json={"input": "a"})
        answer = await asked.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    told = answer.text
    for line in (
        'stormtrooper_http_requests_total{method="POST",path="/classify",status="200"} 3.0',
        'stormtrooper_http_requests_total{method="POST",path="/classify",status="422"} 1.0',
        'stormtrooper_http_requests_total{method="GET",path="other",status="404"} 1.0',
        'stormtrooper_http_requests_total{method="other",path="/health",status="405"} 1.0',
        'stormtrooper_http_requests_total{method="POST",path="/langserve/*",status="200"} 1.0',
        'stormtrooper_http_request_seconds_count{path="/classify"} 4.0',
        'stormtrooper_rows_total{outcome="labelled"} 1.0',
        'stormtrooper_rows_total{outcome="overlong"} 1.0',
        'stormtrooper_rows_total{outcome="failed"} 1.0',
        'stormtrooper_tokens_total{kind="generated"} 4.0',
        "stormtrooper_http_requests_in_flight 0.0",
    ):
        assert line in told, line
    assert SECRET not in told
    assert not any(label in told for label in LABELS)


async def test_nothing_loads_from_elsewhere_and_no_other_site_may_read() -> None:
    """There are no pages that load scripts of others, and no answer invites other sites."""
    async with client() as asked:
        for path in ("/docs", "/redoc"):
            assert (await asked.get(path)).status_code == 404
        answer = await asked.post("/classify", json={"text": "a"}, headers={"origin": "https://example.org"})
        flight = await asked.options("/classify", headers={"origin": "https://example.org"})
    assert flight.status_code == 405
    assert not any(name.startswith("access-control") for name in (*answer.headers, *flight.headers))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/classify", "POST"),
        ("DELETE", "/classify", "POST"),
        ("POST", "/info", "GET"),
        ("HEAD", "/ready", "GET"),
    ],
)
async def test_another_method_is_a_405(method: str, path: str, allowed: str) -> None:
    """A method that a route does not have is a 405 that tells the one that it has."""
    async with client() as asked:
        answer = await asked.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_openapi_describes_what_is_asked_and_answered() -> None:
    """The schema has exactly one of text and texts, both kinds of answers, all refusals and the key."""
    async with client(api_key="key-17", max_texts=7) as asked:
        schema = (await asked.get("/openapi.json")).json()
        assert (await asked.get("/openapi.json")).json() == schema
    assert {"/classify", "/health", "/ready", "/info", "/metrics"} <= set(schema["paths"])
    operation = schema["paths"]["/classify"]["post"]
    assert set(operation["responses"]) == {"200", "401", "408", "413", "415", "422", "429", "500", "502", "503"}
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "application/x-ndjson"}
    assert operation["security"] == [{"key": []}]
    body = schema["components"]["schemas"]["ClassifyRequest"]
    assert body["oneOf"] == [{"required": ["text"]}, {"required": ["texts"]}]
    assert body["additionalProperties"] is False
    assert body["properties"]["texts"]["maxItems"] == 7


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"api_key": ""}, "api_key"),
        ({"api_key": "clef é"}, "api_key"),
        ({"api_key": "a b"}, "api_key"),
        ({"max_texts": 0}, "max_texts"),
        ({"max_requests": 1.5}, "max_requests"),
        ({"max_body_bytes": True}, "max_body_bytes"),
        ({"max_labels": 1}, "max_labels"),
        ({"body_timeout": 0}, "body_timeout"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    """A wrong option is a ConfigurationError that names it and shows no key."""
    with pytest.raises(ConfigurationError, match=f"`{told}=`") as caught:
        create_app(make(), **options)
    assert "clef" not in str(caught.value)


def test_only_classifiers_are_served() -> None:
    """What is no classifier is refused with the names of those that are."""
    with pytest.raises(ConfigurationError, match="ZeroShotClassifier"):
        create_app(make().with_details())  # type: ignore[arg-type]  # which is the point


@pytest.mark.parametrize("missing", ["fastapi", "prometheus_client"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"create_app\(\).*langchain-stormtrooper\[serve\]"):
        create_app(make())


async def test_without_langserve_there_are_no_routes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app without LangServe says so and has no such routes."""
    monkeypatch.setitem(__import__("sys").modules, "langserve", None)
    async with client() as asked:
        assert (await asked.get("/info")).json()["langserve"] is None
        assert (await asked.post("/langserve/invoke", json={"input": "a"})).status_code == 404


def test_what_the_page_says_was_measured() -> None:
    """Memory stayed flat over 20,000 requests."""
    measured = render.figures("serving")
    assert measured["requests"] >= 20_000
    first, *_, last = measured["app_megabytes"]
    assert last < 1.02 * first


async def test_langserves_routes_keep_the_apps_rules() -> None:
    """Other bodies than JSON are refused, so is what is no text, without repeating it; a missing server is a 503."""
    async with client(make(FakeLLM())) as asked:
        body = json.dumps({"inputs": ["a"]})
        plain = await asked.post("/langserve/batch", content=body, headers={"content-type": "text/plain"})
        assert plain.status_code == 415
        for wrong in ({"input": {"labels": [SECRET]}}, {"input": [SECRET]}, {"nothing": SECRET}):
            answer = await asked.post("/langserve/invoke", json=wrong)
            assert (answer.status_code, set(answer.json())) == (422, {"detail"})
            assert SECRET not in answer.text
        assert (await asked.post("/langserve/batch", json={"inputs": ["a", None]})).status_code == 422

    def missing(prompt: Prompt) -> str:
        raise ServerUnreachableError("The server at http://10.0.0.7:8080 is gone: set `base_url=`.")

    async with client(make(FakeLLM(answer=missing), method="generate")) as asked:
        for path, body_ in (("/langserve/invoke", {"input": "a"}), ("/classify", {"text": "a"})):
            answer = await asked.post(path, json=body_)
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert "10.0.0.7" not in answer.text


async def test_examples_fix_the_labels() -> None:
    """An app with examples says that it takes no other labels, and refuses them without showing its own examples."""
    classifier = FewShotClassifier(LABELS, [(SECRET, LABELS[0])], llm=FakeLLM())
    async with client(classifier) as asked:
        assert (await asked.get("/info")).json()["labels_may_be_given"] is False
        answer = await asked.post("/classify", json={"text": "a", "labels": ["x", "y"]})
        assert (answer.status_code, "labels of its own" in answer.text) == (422, True)
