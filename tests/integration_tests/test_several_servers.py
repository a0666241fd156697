"""Several servers of one model behind one LLM: shared rows, servers that go and come, servers that are not alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from served import answering

from langchain_stormtrooper import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    OpenAICompletions,
    OverlongInputWarning,
    ServerUnreachableError,
    ServerWarning,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.llms.abilities import GrammarSupport
from langchain_stormtrooper.testing import Fault, OpenAIServer, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["politics", "science"]
ROWS = [f"report {number}" for number in range(2000)]
EXPECTED = [LABELS[number % 2] for number in range(2000)]


def engine() -> ScriptedEngine:
    """A model whose answer depends on the text alone."""

    def rule(prompt: str) -> str:
        number = prompt.rpartition("report ")[2].split("\n")[0].split(" ")[0]
        return f" {LABELS[int(number) % 2 if number.isdigit() else 0]}"

    return ScriptedEngine(rule)


def llm(*servers: TGIServer | str, **settings: Any) -> TextGenerationInference:
    """An LLM behind servers."""
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return TextGenerationInference(base_url=urls, **settings)


def classifier(*servers: TGIServer | str, **settings: Any) -> ZeroShotClassifier:
    """A classifier behind servers, which asks one request for a row."""
    return ZeroShotClassifier(LABELS, llm=llm(*servers, **settings), method="generate", prompt="{text}")


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def generated(server: TGIServer) -> int:
    """Rows that a server answered."""
    return server.counters.by_route["/generate"]


async def test_rows_are_shared_by_places(tgi_server: StartServer) -> None:
    """A server with three times as many permits answers about three times as many rows; none is overrun."""
    few = tgi_server("3.3.7", engine(), max_concurrent_requests=8, latency_per_request=0.03)
    many = tgi_server("3.3.7", engine(), max_concurrent_requests=24, latency_per_request=0.03)
    assert await classifier(few, many).abatch(ROWS[:600]) == EXPECTED[:600]
    assert few.peak_permits == 8
    assert many.peak_permits >= 20
    assert 2 < generated(many) / generated(few) < 4.5
    # One is tried beyond the limit now and then; a place too many for each row would be hundreds.
    assert few.counters.by_status[429] + many.counters.by_status[429] < 40


async def test_max_concurrency_is_per_server(tgi_server: StartServer) -> None:
    """No server ever has more requests than `max_concurrency`, all have that many, and as many rows are worked on."""
    servers = [tgi_server("3.3.7", engine(), latency_per_request=0.02) for _ in range(3)]
    model = llm(*servers, max_concurrency=5)
    assert model.concurrency == 15
    assert await model.abatch(ROWS[:150]) == [f" {label}" for label in EXPECTED[:150]]
    assert [server.peak_permits for server in servers] == [5, 5, 5]


@pytest.mark.parametrize("way", ["abatch", "stream"])
async def test_one_killed_half_way(tgi_server: StartServer, tmp_path: Path, way: str) -> None:
    """Of two servers one is killed in the middle of 2,000 rows: all are answered, as by one server."""
    stays = tgi_server("3.3.7", engine(), record=0)
    goes = tgi_server("3.3.7", engine(), record=0)
    task = classifier(stays, goes, max_concurrency=32)

    async def streamed() -> list[str | None]:
        rows = [row async for row in task.astream_rows(ROWS, ledger=tmp_path / "run", in_order=True)]
        return [row.label for row in rows]

    batch: asyncio.Task[list[str | None]]
    batch = asyncio.create_task(streamed() if way == "stream" else task.abatch(ROWS))
    await until(lambda: generated(goes) >= 300)
    assert not batch.done()
    await asyncio.to_thread(goes.close)
    answered = generated(goes)
    assert await batch == EXPECTED
    assert generated(stays) + answered <= 2000 + 2 * 32


async def test_one_restarted_gets_its_share_again(tgi_server: StartServer) -> None:
    """A server that is back after a restart gets rows in the same batch, and is asked for what it serves."""
    stays, restarts = (tgi_server("3.3.7", engine(), record=0, latency_per_request=0.02) for _ in range(2))
    task = classifier(stays, restarts, max_concurrency=16)
    batch = asyncio.create_task(task.abatch(ROWS[:1200]))
    await until(lambda: generated(restarts) >= 100)
    infos, before = restarts.counters.by_route["/info"], generated(restarts)
    restarts.restart(down_for=0.2)
    assert await batch == EXPECTED[:1200]
    assert generated(restarts) > before + 100
    assert restarts.counters.by_route["/info"] == infos + 1
    assert restarts.peak_permits == 16


async def test_all_killed(tgi_server: StartServer) -> None:
    """When both are gone rows wait for `max_downtime`, and the error names both."""
    servers = [tgi_server("3.3.7", engine()) for _ in range(2)]
    model = llm(*servers, max_downtime=0.4)
    assert await model.ainvoke("report 1") == " science"
    for server in servers:
        server.close()
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError) as caught:
        await model.abatch(ROWS[:50])
    assert 0.4 <= time.monotonic() - started < 5
    assert all(server.url in str(caught.value) for server in servers)
    assert "start Text Generation Inference there" in str(caught.value)


async def test_all_restarting(tgi_server: StartServer) -> None:
    """When both restart together rows wait, and none is lost."""
    servers = [tgi_server("3.3.7", engine(), latency_per_request=0.01) for _ in range(2)]
    batch = asyncio.create_task(classifier(*servers).abatch(ROWS[:600]))
    await until(lambda: generated(servers[1]) >= 60)
    for server in servers:
        server.restart(down_for=0.5)
    assert await batch == EXPECTED[:600]


async def test_nobody_there_at_the_start() -> None:
    """Where no server ever was it is said at once, with all addresses."""
    started = time.monotonic()
    with pytest.raises(ServerUnreachableError, match=r"127\.0\.0\.1:9 refused.*127\.0\.0\.1:7 refused"):
        await llm("http://127.0.0.1:9", "http://127.0.0.1:7").ainvoke("x")
    assert time.monotonic() - started < 3


async def test_one_missing_at_the_start(tgi_server: StartServer) -> None:
    """It is left out with one warning for the whole batch, and gets rows when it comes."""
    first, other = (tgi_server("3.3.7", engine(), latency_per_request=0.01) for _ in range(2))
    port = other.port
    other.close()
    task = classifier(first, other, max_concurrency=8)
    with pytest.warns(ServerWarning) as seen:
        assert await task.abatch(ROWS[:100]) == EXPECTED[:100]
    assert [str(one.message) for one in seen] == [
        f"The server at {other.url} is left out for now: it refused or dropped the connection."
    ]
    batch = asyncio.create_task(task.abatch(ROWS[:1000]))
    late = tgi_server("3.3.7", engine(), port=port)
    assert await batch == EXPECTED[:1000]
    assert generated(late) > 50


async def test_different_models_are_refused(tgi_server: StartServer) -> None:
    """Two models behind one list are an error with both names and both addresses, before any row."""
    servers = [tgi_server("3.3.7", engine(), model_id=name) for name in ("first/model", "second/model")]
    with pytest.raises(ConfigurationError) as caught:
        await classifier(*servers).abatch(ROWS[:10])
    for told in ("first/model", "second/model", *(server.url for server in servers)):
        assert told in str(caught.value)
    # A request of one token tells that key and path are right.
    assert max(generated(server) for server in servers) <= 1


async def test_versions_that_can_do_different_things(tgi_server: StartServer) -> None:
    """Old and new servers may generate together, but not score: what one can do is not taken for the other's."""
    old, new = tgi_server("1.0.3", engine()), tgi_server("3.3.7", engine())
    assert await classifier(old, new).abatch(ROWS[:60]) == EXPECTED[:60]
    assert generated(old) > 0
    assert generated(new) > 0
    scores = ZeroShotClassifier(LABELS, llm=llm(old, new))
    with pytest.raises(ConfigurationError, match="must serve the same") as caught:
        await scores.abatch(ROWS[:10])
    assert all(server.url in str(caught.value) for server in (old, new))
    assert len(await ZeroShotClassifier(LABELS, llm=llm(new, tgi_server("3.3.6", engine()))).abatch(ROWS[:10])) == 10


async def test_scores_are_those_of_one_server(tgi_server: StartServer) -> None:
    """Probabilities from two servers, one killed half-way, are those that one server gives."""
    stays, goes = (tgi_server("3.3.7", engine(), record=0) for _ in range(2))
    expected = await ZeroShotClassifier(LABELS, llm=llm(stays)).with_details().abatch(ROWS[:200])
    task = ZeroShotClassifier(LABELS, llm=llm(stays, goes)).with_details()
    batch = asyncio.create_task(task.abatch(ROWS[:200]))
    await until(lambda: generated(goes) >= 40)
    await asyncio.to_thread(goes.close)
    assert [row.probabilities for row in await batch] == [row.probabilities for row in expected]


@pytest.mark.parametrize("becomes", [{"model_id": "another/model"}, {"grammar": False}])
async def test_one_that_comes_back_as_another(tgi_server: StartServer, becomes: dict[str, Any]) -> None:
    """A server that returns with another model, or that can do less, stays out with a warning; rows go on."""
    stays, goes = (tgi_server("3.3.7", engine(), record=0) for _ in range(2))
    asked = llm(stays, goes)
    task = ZeroShotClassifier(LABELS, llm=asked)
    assert await task.ainvoke(ROWS[0]) == "politics"
    batch = asyncio.create_task(task.abatch(ROWS[:600]))
    await until(lambda: generated(goes) >= 60)
    port = goes.port
    await asyncio.to_thread(goes.close)
    # A server that is replaced before anybody has missed it is not looked at again.
    several = asked._several()
    assert several is not None
    _, member = several._balancer()._members
    await until(lambda: not member.is_in)
    in_work = member.in_work
    other = tgi_server("3.3.7", ScriptedEngine(" wrong"), port=port, **becomes)
    with pytest.warns(ServerWarning, match=f"{other.url} is left out for now: it cannot be used: The servers of one"):
        assert await batch == EXPECTED[:600]
    # A row in work when the server went may knock there once more; its answer is not taken, and no further row comes.
    knocked = {one.json["inputs"] for one in other.received if b"report " in one.raw}
    assert len(knocked) <= in_work


async def test_one_server_that_comes_back_as_another_is_tried_anew(tgi_server: StartServer) -> None:
    """What an LLM has learnt of a server does not outlive it: its abilities are those of the one that is there."""
    server = tgi_server("1.0.3", engine())
    model = TextGenerationInference(base_url=server.url)
    assert (await model.aabilities()).grammar is GrammarSupport.IGNORED
    port = server.port
    await asyncio.to_thread(server.close)
    row = asyncio.create_task(model.ainvoke("report 1"))
    await asyncio.sleep(0.2)
    tgi_server("3.3.7", engine(), port=port)
    assert await row == " science"
    assert (await model.aabilities()).grammar is GrammarSupport.ENFORCED
    assert (await model.ainfo()).version != "1.0.3"


async def test_the_smallest_limit_holds(tgi_server: StartServer) -> None:
    """What is too long for one server is too long for all, wherever it would have gone."""
    servers = [tgi_server("3.3.7", engine(), max_input_tokens=tokens) for tokens in (1000, 60, 1000)]
    task = classifier(*servers, max_new_tokens=8)
    texts = [f"{'long ' * 80}report {number}" for number in range(30)]
    with pytest.warns(OverlongInputWarning, match="30 of 60"):
        assert await task.abatch([*texts, *ROWS[:30]]) == [None] * 30 + EXPECTED[:30]


async def test_one_that_joins_with_a_smaller_limit(tgi_server: StartServer) -> None:
    """It stays out, so that no text is too long of a sudden: neither while it is there nor when it is gone again."""
    roomy: dict[str, Any] = {"max_input_tokens": 1000, "max_total_tokens": 1100, "latency_per_request": 0.02}
    first, other = (tgi_server("3.3.7", engine(), max_concurrent_requests=4, **roomy) for _ in range(2))
    port = other.port
    other.close()
    task = classifier(first, other, max_new_tokens=8)
    texts = [f"{'long ' * 300}report {number}" for number in range(60)]
    with pytest.warns(ServerWarning):
        assert await task.abatch(texts) == EXPECTED[:60]
    small = tgi_server("3.3.7", engine(), port=port, max_input_tokens=200, max_total_tokens=300)
    with pytest.warns(ServerWarning, match=r"max_input_tokens is 200 at .*, and texts are asked up to 1000"):
        assert await task.abatch([f"again {text}" for text in texts * 3]) == EXPECTED[:60] * 3
    small.close()
    assert await task.abatch([f"once more {text}" for text in texts]) == EXPECTED[:60]


@pytest.mark.parametrize(("status", "told"), [(429, r"has no place for any request \(429\)"), (500, r"fails \(500\)")])
async def test_one_that_refuses_everything(
    tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    """The warning says what it answers, and not that it does not answer."""
    monkeypatch.setattr("langchain_stormtrooper.balancing._LATE", 0.3)
    well, ill = (tgi_server("3.3.7", engine()) for _ in range(2))
    ill.faults.add(Fault(str(status), times=None, path="/generate"))
    with pytest.warns(ServerWarning, match=f"{ill.url} is left out for now: it {told}"):
        assert await classifier(well, ill).abatch(ROWS[:20]) == EXPECTED[:20]


async def test_a_wrong_key_on_one(tgi_server: StartServer) -> None:
    """It is an error that names the server, whichever gets the row."""
    servers = [tgi_server("3.3.7", engine(), api_key=key) for key in ("one", "two")]
    with pytest.raises(AuthenticationError, match=f"The server at {servers[1].url} refused") as caught:
        await llm(*servers, api_key="one").abatch(ROWS[:10])
    assert "one" not in str(caught.value).split()


async def test_a_wrong_path_on_one(tgi_server: StartServer) -> None:
    """An address with a path that is none is an error that names it."""
    server, other = tgi_server("3.3.7", engine()), tgi_server("3.3.7", engine())
    with pytest.raises(EndpointNotFoundError, match=f"The server at {other.url}/x has no such endpoint"):
        await llm(server, f"{other.url}/x").abatch(ROWS[:10])


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_without_its_server(tgi_server: StartServer, status: int) -> None:
    """One gateway that says that its server is gone, and to come back later, is told of and holds nobody up."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "30"})

    server = tgi_server("3.3.7", engine())
    async with answering(answer) as url:
        with pytest.warns(ServerWarning, match=rf"is left out for now: it is gone, says its gateway \({status}\)"):
            rows = await asyncio.wait_for(classifier(url, server).abatch(ROWS[:100]), 15)
    assert rows == EXPECTED[:100]


async def test_one_that_hangs(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a server that takes them and never answers, not even for its health, are repeated on another."""
    monkeypatch.setattr("langchain_stormtrooper.transport._HEALTH_SECONDS", 0.3)
    hanging, server = tgi_server("3.3.7", engine()), tgi_server("3.3.7", engine())
    task = classifier(hanging, server, timeout=1.5, max_concurrency=8)
    assert await task.ainvoke(ROWS[0]) == "politics"
    hanging.faults.add(Fault("stall", times=None, seconds=60))
    hanging.faults.add(Fault("stall", times=None, seconds=60, path="/health"))
    assert await task.abatch(ROWS[:60]) == EXPECTED[:60]


async def test_dropped_connections(tgi_server: StartServer) -> None:
    """Servers that drop requests before their answers or, one of them, in the middle, and are well, lose no row."""
    # Each has faults of its own: one that two servers share is spent by whichever comes first.
    servers = [
        tgi_server(
            "3.3.7", engine(), faults=[Fault(kind, times=10, skip=5) for kind in kinds], latency_per_request=0.01
        )
        for kinds in (["reset_before"], ["reset_before", "reset_middle"])
    ]
    assert await classifier(*servers).abatch(ROWS[:300]) == EXPECTED[:300]
    assert all(server.counters.by_fault.total() > 0 for server in servers)


async def test_one_that_never_has_a_place(tgi_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that one server refuses for want of a place, again and again, are answered by another."""
    monkeypatch.setattr("langchain_stormtrooper.retrying._AT_LEAST", 0.5)
    full, free = tgi_server("3.3.7", engine()), tgi_server("3.3.7", engine())
    task = classifier(full, free, max_concurrency=8)
    assert await task.ainvoke(ROWS[0]) == "politics"
    full.faults.add(Fault("429", times=None))
    assert await task.abatch(ROWS[:60]) == EXPECTED[:60]
    assert full.counters.by_fault.total() >= 8


@pytest.mark.parametrize("sync", [False, True])
async def test_streams(tgi_server: StartServer, sync: bool) -> None:
    """A stream goes to a server that is there, also when the other went away since."""
    goes, stays = (tgi_server("3.3.7", engine()) for _ in range(2))
    model = llm(goes, stays)
    assert await model.ainvoke("report 1") == " science"
    goes.close()
    for _ in range(3):
        if sync:
            pieces = await asyncio.to_thread(lambda: list(model.stream("report 1")))
        else:
            pieces = [piece async for piece in model.astream("report 1")]
        assert "".join(pieces) == " science"


def test_from_loop_to_loop(tgi_server: StartServer) -> None:
    """Servers and what was agreed on are known on every event loop, with patience or without."""
    goes, stays = (tgi_server("3.3.7", engine()) for _ in range(2))
    task = classifier(goes, stays, max_downtime=0)
    assert task.batch(ROWS[:20]) == EXPECTED[:20]
    for _ in range(2):
        assert asyncio.run(task.abatch(ROWS[:20])) == EXPECTED[:20]
    goes.close()
    for _ in range(2):
        assert asyncio.run(task.abatch(ROWS[:20])) == EXPECTED[:20]
        assert task.batch(ROWS[:20]) == EXPECTED[:20]
    stays.restart(down_for=0.2, wait=True)
    assert task.batch(ROWS[:20]) == EXPECTED[:20]
    assert [server.counters.by_route["/info"] for server in (goes, stays)] == [1, 1]


async def test_health_of_several(tgi_server: StartServer) -> None:
    """They are well as long as one is."""
    servers = [tgi_server("3.3.7", engine()) for _ in range(2)]
    model = llm(*servers)
    assert await model.ais_healthy()
    servers[0].close()
    assert await model.ais_healthy()
    servers[1].healthy = False
    assert not await model.ais_healthy()


async def test_a_ledger_is_the_same_for_any_number_of_servers(tgi_server: StartServer, tmp_path: Path) -> None:
    """Rows that one server answered are not asked for again when another stands beside it."""
    first, second = tgi_server("3.3.7", engine()), tgi_server("3.3.7", engine())

    async def run(*servers: TGIServer) -> list[str | None]:
        task = ZeroShotClassifier(LABELS, llm=llm(*servers), method="generate", prompt="task")
        return [row.label async for row in task.astream_rows(ROWS[:50], ledger=tmp_path / "run", in_order=True)]

    assert await run(first) == EXPECTED[:50]
    before = generated(first)
    assert await run(second, first) == EXPECTED[:50]
    # But for one token that tells that key and path are right.
    assert generated(first) == before + 1
    assert generated(second) == 1


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp"])
async def test_openai_compatible_servers(openai_server: Callable[..., OpenAIServer], flavour: str) -> None:
    """Two servers score the rows of one, one killed half-way; /v1 at the end of the addresses is understood."""
    stays, goes = (openai_server(flavour, engine(), record=0) for _ in range(2))
    urls = [f"{stays.url}/v1", f"{goes.url}/v1/"]
    task = ZeroShotClassifier(LABELS, llm=OpenAICompletions(base_url=urls))
    one = ZeroShotClassifier(LABELS, llm=OpenAICompletions(base_url=urls[0]))
    expected = await one.with_details().abatch(ROWS[:300])
    batch = asyncio.create_task(task.with_details().abatch(ROWS[:300]))
    await until(lambda: goes.requests >= 60)
    assert not batch.done()
    await asyncio.to_thread(goes.close)
    assert [row.probabilities for row in await batch] == [row.probabilities for row in expected]


@pytest.mark.parametrize("differs", ["model_id", "max_model_len", "flavour"])
async def test_openai_compatible_servers_that_are_not_alike(
    openai_server: Callable[..., OpenAIServer], differs: str
) -> None:
    """Other models, lengths or kinds of servers are refused."""
    first = openai_server("vllm", engine())
    kind = "sglang" if differs == "flavour" else "vllm"
    second = openai_server(kind, engine(), **{"model_id": {"model_id": "another"}}.get(differs, {}))
    if differs == "max_model_len":
        second = openai_server(kind, engine(), max_model_len=512)
    with pytest.raises(ConfigurationError, match="must serve the same") as caught:
        await ZeroShotClassifier(LABELS, llm=OpenAICompletions(base_url=[first.url, second.url])).abatch(ROWS[:4])
    assert first.url in str(caught.value)
    assert second.url in str(caught.value)
