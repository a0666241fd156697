"""Faults hit exactly the requests they are meant for, in every run the same."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.testing import RETRYABLE, Fault, FaultKind, FaultPlan
from langchain_stormtrooper.testing.faults import Faults


def hit(faults: Faults, prompt: str, path: str = "/generate") -> bool:
    """Tell whether a generating request is hit."""
    return faults.take(path, prompt, generates=path == "/generate") is not None


def test_nth_request() -> None:
    """A fault with `skip` and `times` hits just these requests in the row."""
    faults = Faults([Fault("424", skip=2, times=2)])
    assert [hit(faults, "x") for _ in range(6)] == [False, False, True, True, False, False]


def test_predicate() -> None:
    """A fault with a predicate hits and counts only prompts for which it is true."""
    fault = Fault("reset_before", times=1, when=lambda prompt: "bad" in prompt)
    faults = Faults([fault])
    assert [hit(faults, prompt) for prompt in ("good", "bad", "bad")] == [False, True, False]
    assert fault.hits == 1


def test_path() -> None:
    """A fault hits generating routes, or the one route that it names."""
    assert not hit(Faults([Fault("503")]), "", "/info")
    assert hit(Faults([Fault("503", path="/info")]), "", "/info")
    assert not hit(Faults([Fault("503", path="/info")]), "x")


@pytest.mark.parametrize(
    ("kind", "path", "says"),
    [
        ("424", "/info", "does not ask the model"),
        ("500", "/tokenize", "does not ask the model"),
        ("reset_middle", "/health", "without a body"),
        ("drip", "/ping", "without a body"),
        ("truncated_json", "/health", "without a body"),
    ],
)
def test_what_cannot_happen_on_a_route(kind: str, path: str, says: str) -> None:
    """A fault that would be counted and never seen is an error where it is written."""
    with pytest.raises(ValueError, match=says):
        Fault(kind, path=path)


def test_unknown_kind() -> None:
    """A misspelled kind is an error where it is written."""
    with pytest.raises(ValueError, match="not a valid FaultKind"):
        Fault("explode")


def test_clear_and_add() -> None:
    """Faults can be removed and added while a server runs."""
    faults = Faults([Fault("424", times=None), FaultPlan(1.0)])
    faults.clear()
    assert not faults.active
    assert not hit(faults, "x")
    faults.add(Fault("429"))
    assert faults.active
    assert hit(faults, "x")


def plan_hits(plan: FaultPlan, prompts: list[str]) -> dict[tuple[str, int], str]:
    """Ask three times for each prompt and return what went wrong when."""
    found: dict[tuple[str, int], str] = {}
    asked: dict[str, int] = {}
    for prompt in prompts:
        asked[prompt] = asked.get(prompt, 0) + 1
        fault = plan.take(prompt)
        if fault is not None:
            found[prompt, asked[prompt]] = str(fault.kind)
    return found


def test_plan_does_not_depend_on_order() -> None:
    """Whatever the order of prompts, the same requests are hit by the same faults; another seed hits others."""
    prompts = [f"prompt {number}" for number in range(300)]
    forward = plan_hits(FaultPlan(0.2, seed=1), [prompt for prompt in prompts for _ in range(3)])
    backward = plan_hits(FaultPlan(0.2, seed=1), prompts[::-1] * 3)
    assert forward == backward
    assert forward != plan_hits(FaultPlan(0.2, seed=2), prompts * 3)


def test_plan_rate() -> None:
    """About the wanted share of requests is hit, by every kind there is."""
    found = plan_hits(FaultPlan(0.2, max_per_prompt=None), [f"prompt {number}" for number in range(3000)])
    assert len(found) == pytest.approx(600, abs=100)
    assert set(found.values()) == {str(kind) for kind in RETRYABLE}


def test_plan_lets_each_prompt_through() -> None:
    """No prompt is hit more often than the plan allows, even at a rate of one."""
    plan = FaultPlan(1.0, kinds=[FaultKind.RESET_BEFORE], max_per_prompt=2)
    assert [plan.take("x") is not None for _ in range(5)] == [True, True, False, False, False]


def test_only_one_plan() -> None:
    """Two plans would contradict each other."""
    with pytest.raises(ValueError, match="only one FaultPlan"):
        Faults([FaultPlan(0.1), FaultPlan(0.2)])
