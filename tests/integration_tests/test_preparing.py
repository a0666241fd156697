"""What is learnt from a server before the rows: one spoilt answer costs nothing, and nothing is learnt from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import RequestFailedError, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
ENGINE = ScriptedEngine(lambda _: {" politics": 0.7, " science": 0.2})
LABELS = ["politics", "science", "other"]
KINDS = ["reset_middle", "stall", "truncated_json", "text_422"]


def classifier(server: TGIServer, kind: str = "") -> ZeroShotClassifier:
    """A classifier that has to find everything out, and gives a stalled answer up."""
    timeout = 1 if kind == "stall" else 30
    return ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=server.url, timeout=timeout), prior=None)


def prepared(server: TGIServer, kind: str = "") -> tuple[Any, ...]:
    """What was learnt of a server for one task, and the label of a text."""
    new = classifier(server, kind)
    answer = new.with_details().invoke("The senate votes.")
    assert isinstance(new.llm, TextGenerationInference)
    info, abilities = new.llm._known.info.peek(), new.llm._known.abilities.peek()
    return answer.label, answer.method, answer.probabilities, info, abilities, new.get_prompt()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.3.3", "3.3.7"])
def test_a_spoilt_probe_is_asked_again(tgi_server: StartServer, kind: str, version: str) -> None:
    """Whichever of the first requests goes wrong, the same is learnt, and no row is lost."""
    normal = prepared(tgi_server(version, ENGINE))
    assert normal[:2] == ("politics", "score")
    for skip in range(4):
        fault = Fault(kind, skip=skip, seconds=1.4)
        assert prepared(tgi_server(version, ENGINE, faults=fault), kind) == normal
        assert fault.hits == 1


@pytest.mark.parametrize("kind", ["reset_middle", "truncated_json"])
def test_a_spoilt_answer_to_a_prior_is_asked_again(tgi_server: StartServer, kind: str) -> None:
    """One bad answer among those that a prior is learnt from changes neither the prior nor any row."""

    def answers(faults: list[Fault]) -> list[Any]:
        llm = TextGenerationInference(base_url=tgi_server("3.3.7", ENGINE, faults=faults).url)
        task = ZeroShotClassifier(LABELS, llm=llm, method="score", prompt="kinds").with_details()
        return [row.probabilities for row in task.batch(["The senate votes.", "Atoms."])]

    normal = answers([])
    for skip in (4, 7, 11):
        fault = Fault(kind, skip=skip)
        assert answers([fault]) == normal
        assert fault.hits == 1


@pytest.mark.parametrize("path", ["/info", "/tokenize", "/chat_tokenize"])
@pytest.mark.parametrize("kind", ["reset_middle", "truncated_json", "text_422"])
def test_other_routes_are_asked_again(tgi_server: StartServer, path: str, kind: str) -> None:
    """What limits, tokens and the chat template are is learnt from a whole answer, the third one at the latest."""
    normal = prepared(tgi_server("3.3.7", ENGINE))
    fault = Fault(kind, path=path, times=2)
    assert prepared(tgi_server("3.3.7", ENGINE, faults=fault)) == normal
    assert fault.hits == 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_concluded_from_spoilt_answers(tgi_server: StartServer, kind: str) -> None:
    """When all answers to a probe are spoilt, that is an error, and the next batch finds everything out."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault(kind, skip=1, times=3, seconds=1.4))
    model = classifier(server, kind)
    with pytest.raises(RequestFailedError):
        model.invoke("The senate votes.")
    assert model.with_details().invoke("The senate votes.").method == "score"


@pytest.mark.parametrize("kind", ["truncated_json", "401", "403", "503"])
def test_what_is_no_info_is_not_kept(tgi_server: StartServer, kind: str) -> None:
    """Only the server's own word is kept: whoever asks next asks again."""
    server = tgi_server("3.3.7", ENGINE, faults=Fault(kind, path="/info", times=3))
    model = TextGenerationInference(base_url=server.url)
    for _ in range(4):
        info = asyncio.run(model.ainfo())
    assert info.version is not None
    asked = server.counters.by_route["/info"]
    assert asyncio.run(model.ainfo()) == info
    assert server.counters.by_route["/info"] == asked


def test_a_server_that_does_not_count_is_asked_once(tgi_server: StartServer) -> None:
    """Servers before 1.4.0 have no /tokenize: one 404 is enough for all texts of the labels."""
    server = tgi_server("1.3.3", ENGINE)
    assert prepared(server)[1] == "score"
    assert server.counters.by_route["/tokenize"] == 1
