"""What `method="auto"` takes on servers that can do more or less, and what finding out costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import (
    AuthenticationError,
    FewShotClassifier,
    LabelOutputParser,
    RequestFailedError,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.errors import FailedRequestWarning, OverlongInputWarning, StormtrooperWarning
from langchain_stormtrooper.llms.abilities import PROBE
from langchain_stormtrooper.testing import Fault, FaultPlan, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]

# Words with first tokens of their own, whatever else the vocabulary holds.
WORDS = [f"{consonant}{vowel}x" for consonant in "bcdfghjklm" for vowel in "aeiou"]
TEXTS = [f"It was {word}." for word in WORDS[:5]]


def engine(labels: list[str]) -> ScriptedEngine:
    """A model that names the label that the text holds, and spreads its answers evenly over other texts."""

    def rule(prompt: str) -> dict[str, float]:
        named = any(f"was {label}." in prompt for label in labels)
        shares = {f" {label}": 0.1 if named else 0.9 for label in labels}
        return {
            answer: share / len(labels) + (0.8 if f"was {answer.strip()}." in prompt else 0.0)
            for answer, share in shares.items()
        }

    return ScriptedEngine(rule, words=labels, answer_after="Label:")


def make(server: TGIServer, labels: list[str], **kwargs: Any) -> ZeroShotClassifier:
    """A classifier with nothing said of the method."""
    return ZeroShotClassifier(labels, llm=TextGenerationInference(base_url=server.url), prompt="kinds", **kwargs)


@pytest.mark.parametrize(
    ("version", "options", "number", "method"),
    [
        ("1.0.3", {}, 5, "score"),
        ("1.0.3", {}, 8, "score"),  # by the scores of eight prompts
        ("1.0.3", {}, 9, "generate"),
        ("1.0.3", {"family": "seq2seq"}, 2, "score"),
        ("1.0.3", {"family": "seq2seq"}, 6, "generate"),
        ("1.4.3", {}, 5, "score"),
        ("1.4.3", {}, 20, "generate"),
        ("1.4.5", {}, 33, "score"),  # eight groups
        ("1.4.5", {}, 34, "constrain"),
        ("2.4.1", {"family": "padded"}, 5, "score"),
        ("2.4.1", {"family": "padded"}, 9, "constrain"),
        ("2.4.1", {"family": "seq2seq"}, 6, "constrain"),
        ("2.4.1", {"grammar": False}, 20, "generate"),
        ("3.3.7", {}, 5, "score"),
        ("3.3.7", {}, 34, "constrain"),
        ("3.3.7", {"grammar": False}, 5, "score"),
        ("3.3.7", {"grammar": False}, 6, "generate"),
    ],
)
def test_the_best_that_the_server_does(
    tgi_server: StartServer, version: str, options: dict[str, Any], number: int, method: str
) -> None:
    """Labels are scored where that is cheap, else a grammar keeps to them, else text is matched; the label is right."""
    labels = WORDS[:number]
    classifier = make(tgi_server(version, engine(labels), **options), labels)
    assert classifier.get_method() == method
    answer = classifier.with_details().invoke(f"It was {labels[-1]}.")
    assert (answer.method, answer.label) == (method, labels[-1])
    shown = method == "score" or (method == "constrain" and "family" not in options)
    assert (answer.probabilities is not None) == shown
    assert (answer.confidence is None) == (method == "generate")


def test_what_finding_out_costs(tgi_server: StartServer) -> None:
    """A server is asked once per LLM, with few tokens; the labels are cut once per task; then a row is one request."""
    labels = WORDS[:5]
    server = tgi_server("3.3.7", engine(labels))
    classifier = make(server, labels, prior=None)
    classifier.get_method()
    bodies = [request.json for request in server.received if request.path == "/generate"]
    assert len(bodies) == 4
    assert sum(body["parameters"]["max_new_tokens"] for body in bodies) <= 6
    assert {body["inputs"] for body in bodies} == {PROBE}
    assert server.counters.by_route["/tokenize"] == 1 + 2 * len(labels)
    server.reset()
    other = ZeroShotClassifier(labels, llm=classifier.llm, prompt="kinds", prior=None)
    assert classifier.batch(TEXTS) == other.batch(TEXTS) == labels
    assert server.counters.by_route == {"/generate": 2 * len(TEXTS)}


@pytest.mark.parametrize("version", ["1.4.1", "1.4.2", "1.4.3", "1.4.4"])
def test_no_grammar_where_it_would_fail_others(tgi_server: StartServer, version: str) -> None:
    """Versions on which one grammar fails the requests beside it are never sent one."""
    labels = WORDS[:3]
    server = tgi_server(version, engine(labels))
    assert make(server, labels).batch(TEXTS[:3]) == labels
    assert not any("grammar" in (request.json or {}).get("parameters", {}) for request in server.received)


@pytest.mark.parametrize("given", ["parser", "max_new_tokens"])
def test_what_only_generated_text_has_a_use_for(tgi_server: StartServer, given: str) -> None:
    """With a parser of the user's own or a length, text is generated, and nothing else is asked."""
    labels = WORDS[:2]
    server = tgi_server("3.3.7", engine(labels))
    parser = LabelOutputParser(labels, threshold=1.0)
    settings: dict[str, Any] = {"parser": parser} if given == "parser" else {"max_new_tokens": 8}
    classifier = make(server, labels, **settings)
    assert classifier.get_method() == "generate"
    assert classifier.invoke(TEXTS[0]) == labels[0]
    assert server.counters.by_route == {"/generate": 1}
    # The default parser says nothing of the method.
    assert make(server, labels, parser=LabelOutputParser(labels)).get_method() == "score"


@pytest.mark.parametrize(
    ("kind", "says"),
    [("424", "424"), ("text_422", "422"), ("truncated_json", "not JSON"), ("reset_middle", "broke off")],
)
def test_a_failure_that_may_pass_decides_nothing(tgi_server: StartServer, kind: str, says: str) -> None:
    """While answers fail or are spoilt, that is raised, nothing is concluded, and later the best method is found."""
    labels = WORDS[:2]
    server = tgi_server("3.3.7", engine(labels))
    server.faults.add(Fault(kind, times=None, when=lambda prompt: prompt == PROBE))
    classifier = make(server, labels)
    with pytest.raises(RequestFailedError, match=says):
        classifier.invoke(TEXTS[0])
    server.faults.clear()
    assert classifier.with_details().invoke(TEXTS[0]).method == "score"


@pytest.mark.parametrize("version", ["1.0.3", "2.3.0"])
def test_faults_that_pass_change_nothing(tgi_server: StartServer, version: str) -> None:
    """With a fifth of all requests failing for a while, the same method is found and every row has its label."""
    labels = WORDS[:5]
    plan = FaultPlan(rate=0.2, kinds=["429", "424", "500", "502", "reset_before"], seed=3, max_per_prompt=2)
    server = tgi_server(version, engine(labels), faults=plan)
    classifier = make(server, labels)
    rows: list[Any] = [f"{TEXTS[number % 5]} Said {number}." for number in range(200)]
    assert classifier.batch(rows) == [labels[number % 5] for number in range(200)]
    assert classifier.get_method() == "score"
    assert server.counters.by_fault.total() > 20


def test_a_batch_that_cannot_start(tgi_server: StartServer) -> None:
    """No server and a wrong key are said at once, or stand in every row's place where exceptions are asked for."""
    server = tgi_server("3.3.7", engine(WORDS[:2]), api_key="right")
    gone = ZeroShotClassifier(WORDS[:2], llm=TextGenerationInference(base_url="http://127.0.0.1:9"))
    kinds: list[tuple[ZeroShotClassifier, type[Exception]]] = [
        (make(server, WORDS[:2]), AuthenticationError),
        (gone, ServerUnreachableError),
    ]
    for classifier, error in kinds:
        with pytest.raises(error):
            classifier.batch(TEXTS)
        returned: list[Any] = classifier.batch(TEXTS, return_exceptions=True)
        assert [type(row) for row in returned] == [error] * len(TEXTS)
        completed = dict(classifier.batch_as_completed(TEXTS, return_exceptions=True))
        assert sorted(completed) == list(range(len(TEXTS)))
    assert sum(server.counters.by_prompt.values()) <= 3


@pytest.mark.parametrize("few", [False, True], ids=["zero-shot", "few-shot"])
@pytest.mark.parametrize("version", ["1.0.3", "1.4.5", "2.4.1", "3.3.7"])
def test_rows_keep_their_contract(tgi_server: StartServer, version: str, few: bool) -> None:
    """Scored rows fail, are overlong and are right each for itself, in order, with one warning per kind."""
    labels = WORDS[:5]
    server = tgi_server(version, engine(labels))
    server.faults.add(Fault("text_422", times=None, when=lambda prompt: "broken" in prompt))
    llm = TextGenerationInference(base_url=server.url)
    classifier = (
        FewShotClassifier(labels, [("A bax.", "bax"), ("A bex.", "bex")], llm=llm, prompt="kinds")
        if few
        else ZeroShotClassifier(labels, llm=llm, prompt="kinds")
    )
    rows: list[Any] = [TEXTS[0], "so " * 3000, TEXTS[1], "broken", {"text": TEXTS[2]}, TEXTS[0]]
    expected = [labels[0], None, labels[1], None, labels[2], labels[0]]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert classifier.batch(rows) == expected
    assert [warning.category for warning in seen] == [OverlongInputWarning, FailedRequestWarning]
    with pytest.warns(StormtrooperWarning):
        details = classifier.with_details().batch(rows)
    assert [(row.label, row.reason) for row in details] == [
        (label, None if label else reason)
        for label, reason in zip(expected, ["", "overlong", "", "failed", "", ""], strict=True)
    ]
    assert {row.method for row in details if row.label} == {"score"}


def test_an_instruction_without_room_for_a_text(tgi_server: StartServer) -> None:
    """Where the prompt alone fills the server's limit, each row is None as overlong."""
    labels = WORDS[:2]
    server = tgi_server("3.3.7", engine(labels), max_input_tokens=8, max_total_tokens=64)
    for on_overlong in ("none", "truncate"):
        classifier = make(server, labels, text_kind="word " * 9, on_overlong=on_overlong)
        with pytest.warns(OverlongInputWarning, match="2 of 2"):
            assert classifier.batch(TEXTS[:2]) == [None, None]
