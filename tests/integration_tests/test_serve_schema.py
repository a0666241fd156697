"""schemathesis against the HTTP app's own OpenAPI: every kind of wrong request, every kind of right one."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import schemathesis
from fakes import LABELS, FakeScoringLLM
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from langchain_stormtrooper import ZeroShotClassifier, create_app

EXAMPLES = 40

# A label that differs from another in case only, or is blank once control characters are gone, is refused with a 422;
# JSON Schema has no words for that.
UNSAYABLE = [422]


@schemathesis.deserializer("application/x-ndjson")  # type: ignore[untyped-decorator,unused-ignore]
def read_lines(context: Any, response: Any) -> Any:
    """The first line, which the schema describes as it does all others."""
    return json.loads(response.content.splitlines()[0])


def findings(app: Any, *, key: str | None = None, accepts: list[int] | None = None) -> tuple[set[str], list[str]]:
    """The operations that were tested, and what was found."""
    positive: dict[str, Any] = {"enabled": True}
    if accepts is not None:
        positive["expected-statuses"] = ["2xx", *accepts]
    config = SchemathesisConfig.from_dict(
        {
            "seed": 17,
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            "checks": {"enabled": True, "positive_data_acceptance": positive},
            **({} if key is None else {"headers": {"Authorization": f"Bearer {key}"}}),
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    tested: set[str] = set()
    found: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(repr(event))
        if not isinstance(event, events.ScenarioFinished):
            continue
        if event.recorder.label and event.recorder.cases:
            tested.add(event.recorder.label)
        for checks in event.recorder.checks.values():
            found += [f"{check.name}: {check.failure_info}" for check in checks if check.failure_info is not None]
    return tested, found


@pytest.mark.parametrize(
    ("options", "accepts"),
    [
        pytest.param({"fixed_labels": True}, None, id="fixed labels"),
        pytest.param({"api_key": "key-17"}, UNSAYABLE, id="own labels and a key"),
    ],
)
def test_schemathesis_finds_nothing(options: dict[str, Any], accepts: list[int] | None) -> None:
    """No server errors, no undocumented answers, nothing wrong accepted and nothing right refused, with all checks."""
    app = create_app(ZeroShotClassifier(LABELS, llm=FakeScoringLLM()), **options)
    with warnings.catch_warnings():
        # Of its own making and its test client's.
        warnings.simplefilter("ignore")
        tested, found = findings(app, key=options.get("api_key"), accepts=accepts)
    assert {"POST /classify", "GET /health", "GET /ready", "GET /info", "GET /metrics"} <= tested
    assert found == []
