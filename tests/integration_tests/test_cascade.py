"""A cascade of two TGI servers: what each is asked over HTTP, and what is left for a run that goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from langchain_stormtrooper import (
    CalibrationError,
    Cascade,
    Ledger,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.cascade import CascadeEvidence
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["sport", "politics", "science"]
TEXTS = [f"{label} number {number}" for number in range(8) for label in LABELS]
TRUTHS = [text.split()[0] for text in TEXTS]


def small(prompt: str) -> Mapping[str, float]:
    """Sure of sport, and else at a loss."""
    text = prompt.rpartition("Text: ")[2]
    return (
        {" sport": 0.9, " politics": 0.05, " science": 0.04}
        if "sport" in text
        else dict.fromkeys((" sport", " politics", " science"), 0.33)
    )


def large(prompt: str) -> str:
    """Knows everything."""
    return " " + prompt.rpartition("Text: ")[2].split()[0]


def start(tgi_server: StartServer, rule: Callable[[str], Mapping[str, float] | str], model: str) -> TGIServer:
    """A server with one of the models."""
    engine = ScriptedEngine(rule, words=LABELS, answer_after="Label:", default=" ok")
    return tgi_server("3.3.7", engine, model_id=model)


def stage(server: TGIServer) -> ZeroShotClassifier:
    """A classifier of a server."""
    llm = TextGenerationInference(base_url=server.url)
    return ZeroShotClassifier(LABELS, llm=llm, method="score", prompt="kinds", prior=None)


def texts_asked(server: TGIServer, texts: list[str]) -> set[str]:
    """Which of some texts a server has seen."""
    seen = [request.raw.decode() for request in server.received]
    return {text for text in texts if any(f"Text: {text}\\n" in body for body in seen)}


def test_two_servers(tgi_server: StartServer, tmp_path: Path) -> None:
    """The large model sees what the small one is not sure of and nothing else; a ledger spares both the second run."""
    cheap, strong = start(tgi_server, small, "acme/small-1B"), start(tgi_server, large, "acme/large-70B")
    cascade = Cascade(stage(cheap), stage(strong), target_error=0.3, confidence=0.9).calibrate(TEXTS, TRUTHS)
    assert cascade.evidence is not None
    assert (cascade.evidence.kept, cascade.evidence.errors) == (8, 0)
    assert texts_asked(strong, TEXTS) == set()
    further = [f"{label} once more {number}" for number in range(5) for label in LABELS]
    with Ledger(tmp_path / "run.sqlite") as ledger:
        rows = list(cascade.stream_rows(further, ledger=ledger, in_order=True))
        assert [row.label for row in rows] == [text.split()[0] for text in further]
        assert [row.stage for row in rows] == [0, 1, 1] * 5
        assert texts_asked(strong, further) == {text for text in further if "sport" not in text}
        before = len(cheap.received), len(strong.received)
        assert [row.label for row in cascade.stream_rows(further, ledger=ledger, in_order=True)] == [
            row.label for row in rows
        ]
        assert (len(cheap.received), len(strong.received)) == before


def test_evidence_is_of_the_servers_models(tgi_server: StartServer) -> None:
    """Another model under the same address is refused before a row is asked of it."""
    cheap, strong = start(tgi_server, small, "acme/small-1B"), start(tgi_server, large, "acme/large-70B")
    learnt = Cascade(stage(cheap), stage(strong), target_error=0.3, confidence=0.9).calibrate(TEXTS)
    assert learnt.evidence is not None
    kept = CascadeEvidence.model_validate_json(learnt.evidence.model_dump_json())
    assert Cascade(stage(cheap), stage(strong), evidence=kept).invoke("sport tonight") == "sport"
    other = start(tgi_server, small, "acme/small-2B")
    with pytest.raises(CalibrationError, match="another cheap stage"):
        Cascade(stage(other), stage(strong), evidence=kept).invoke("sport tonight")
    assert texts_asked(other, ["sport tonight"]) == set()


async def test_a_server_that_is_down_is_told(tgi_server: StartServer) -> None:
    """Whichever stage it is of: rows do not drift to the other one unnoticed."""
    up, gone = start(tgi_server, small, "acme/small-1B"), TGIServer()
    async with gone:
        down = stage(gone)
    for stages in ((down, stage(up)), (stage(up), down)):
        with pytest.raises(ServerUnreachableError):
            await Cascade(*stages, threshold=0.5).abatch(["sport tonight", "science tonight"])
