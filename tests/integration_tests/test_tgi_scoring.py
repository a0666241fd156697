"""Labels scored and constrained on TGI servers whose true distribution is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from langchain_stormtrooper import Classification, ConfigurationError, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.testing import NextTokens, ScriptedEngine, TGIServer

StartServer = Callable[..., TGIServer]

# Words with first tokens of their own, whatever else the vocabulary holds.
_CONSONANTS = "bcdfghjklmnprstvwz"
_SYLLABLES = [f"{consonant}{vowel}x" for consonant in _CONSONANTS for vowel in "aeiou"]
DISTINCT = {number: _SYLLABLES[:number] for number in (2, 5, 6, 20, 77)}
SHARED = ["New York", "New Jersey", "New Zealand", "sport", "science"]
PREFIXES = ["play", "play music", "play music loud", "book", "toxic", "not toxic"]
OTHER_SCRIPTS = ["良い", "悪い", "нейтрально", "سلبي", "नकारात्मक"]
VERSIONS = ["1.0.3", "1.4.5", "2.4.1", "3.3.7"]
TEXT = "It was fine."


def engine_for(labels: list[str], *, covered: float = 0.9) -> tuple[ScriptedEngine, dict[str, float]]:
    """A model that spreads so much probability over the labels, unevenly, and the distribution over them."""
    weights = [1.0 / (3 + (7 * number) % len(labels)) for number in range(len(labels))]
    truth = {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}
    answers = {f" {label}": covered * share for label, share in truth.items()}
    return ScriptedEngine(lambda _: answers, words=labels, answer_after="Label:", default=" ok"), truth


def classify(server: TGIServer, labels: list[str], scoring: Any = "auto", method: Any = "score") -> Classification:
    """One text, without a prior, so that what comes back is what the server's model says."""
    llm = TextGenerationInference(base_url=server.url, scoring=scoring)
    classifier = ZeroShotClassifier(labels, llm=llm, method=method, prior=None, prompt="kinds")
    return classifier.with_details().invoke(TEXT)


def asked(server: TGIServer) -> list[dict[str, Any]]:
    """The bodies of generations asked for the text."""
    return [
        body for request in server.received if request.path == "/generate" and TEXT in (body := request.json)["inputs"]
    ]


def error_of(answer: Classification, truth: dict[str, float]) -> float:
    """How far any label's probability is from the truth."""
    assert answer.probabilities is not None
    assert list(answer.probabilities) == list(truth)
    assert math.fsum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    return max(abs(answer.probabilities[label] - share) for label, share in truth.items())


@pytest.mark.parametrize("allowed", [2, 3, 4])
@pytest.mark.parametrize("labels", [["one", "two", "three"], PREFIXES], ids=["few", "prefixes"])
def test_masked_with_few_alternatives(tgi_server: StartServer, allowed: int, labels: list[str]) -> None:
    """Labels are scored as exactly with as few alternatives as the server gives, only with more requests."""
    engine, truth = engine_for(labels)
    server = tgi_server("3.3.7", engine, max_top_n_tokens=allowed)
    assert error_of(classify(server, labels), truth) < 1e-3
    assert {body["parameters"]["top_n_tokens"] for body in asked(server)} == {allowed}


@pytest.mark.parametrize("version", ["1.4.5", "2.4.1", "3.3.7"])
@pytest.mark.parametrize(("number", "requests"), [(2, 1), (5, 1), (6, 2), (20, 5), (77, 19)])
def test_masked(tgi_server: StartServer, version: str, number: int, requests: int) -> None:
    """Anchored groups under a grammar give the true distribution, with as many requests as the protocol page counts."""
    labels = DISTINCT[number]
    engine, truth = engine_for(labels)
    server = tgi_server(version, engine)
    answer = classify(server, labels)
    assert error_of(answer, truth) < 1e-3
    bodies = asked(server)
    assert len(bodies) == requests
    assert all(body["parameters"]["max_new_tokens"] == 1 for body in bodies)
    assert answer.generated_tokens == requests
    assert answer.covered_mass == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("labels", [SHARED, PREFIXES, OTHER_SCRIPTS], ids=["shared", "prefixes", "scripts"])
@pytest.mark.parametrize("version", ["1.4.5", "2.4.1", "3.3.7"])
@pytest.mark.parametrize("sentencepiece", [False, True])
def test_masked_branches(tgi_server: StartServer, version: str, labels: list[str], sentencepiece: bool) -> None:
    """Labels that share first tokens, start one another or are made of bytes get their true probabilities.

    There are at most as many requests as labels but one.
    """
    engine, truth = engine_for(labels)
    server = tgi_server(version, engine, sentencepiece=sentencepiece)
    answer = classify(server, labels)
    assert answer.method == "score"
    assert error_of(answer, truth) < 1e-3
    bodies = asked(server)
    assert len(bodies) <= len(labels) - 1
    # Tokens that labels share are forced by the grammar, or stand in the prompt.
    longest = max(len(engine.tokenizer.encode(f" {label}")) for label in labels)
    assert all(body["parameters"]["max_new_tokens"] <= longest for body in bodies)
    assert answer.generated_tokens is not None
    assert answer.generated_tokens <= sum(body["parameters"]["max_new_tokens"] for body in bodies)


@pytest.mark.parametrize(
    "labels", [*DISTINCT.values(), SHARED, PREFIXES, OTHER_SCRIPTS], ids=[*map(str, DISTINCT), "sh", "pre", "scripts"]
)
@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("1.0.3", {}),
        ("1.0.3", {"family": "padded"}),
        ("1.4.5", {"family": "padded"}),
        ("2.4.1", {}),
        ("3.3.7", {"family": "padded"}),
        ("3.3.7", {"prefill_logprobs": True}),
    ],
)
def test_prefill(tgi_server: StartServer, version: str, options: dict[str, Any], labels: list[str]) -> None:
    """Scores of prompts that end with a label give the true distribution, one request per label."""
    engine, truth = engine_for(labels)
    server = tgi_server(version, engine, **options)
    answer = classify(server, labels, "prefill")
    assert error_of(answer, truth) < 1e-3
    bodies = asked(server)
    assert len(bodies) == len(labels)
    assert all(body["parameters"]["max_new_tokens"] == 1 for body in bodies)
    assert answer.generated_tokens == len(labels)
    # The prompt's own tokens, with the one that starts every prompt.
    prompt = bodies[0]["inputs"].rpartition("Label:")[0] + "Label:"
    assert answer.prompt_tokens == len(engine.tokenizer.encode(prompt)) + 1
    assert answer.covered_mass == pytest.approx(0.9, abs=1e-2)


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("family", ["flash", "padded", "seq2seq"])
@pytest.mark.parametrize("version", VERSIONS)
def test_raw(tgi_server: StartServer, version: str, family: Any, number: int) -> None:
    """The likeliest next tokens give the true odds of a few labels on every kind of server, in one request."""
    labels = DISTINCT[number]
    engine, truth = engine_for(labels)
    server = tgi_server(version, engine, family=family)
    answer = classify(server, labels, "raw")
    assert error_of(answer, truth) < 1e-3
    (body,) = asked(server)
    assert (body["parameters"]["max_new_tokens"], body["parameters"]["top_n_tokens"]) == (1, 5)
    assert answer.generated_tokens == 1
    assert answer.covered_mass == pytest.approx(0.9, abs=1e-2)


@pytest.mark.parametrize("number", [6, 20, 77])
@pytest.mark.parametrize(
    ("version", "family"), [("1.0.3", "flash"), ("2.4.1", "flash"), ("2.4.1", "padded"), ("3.3.7", "seq2seq")]
)
def test_raw_with_labels_unseen(tgi_server: StartServer, version: str, family: Any, number: int) -> None:
    """A label that is not among the alternatives is off by no more than what they leave uncovered.

    Where they cover little and the server scores prompts, it does so instead, exactly.
    """
    labels = DISTINCT[number]
    engine, truth = engine_for(labels)
    answer = classify(tgi_server(version, engine, family=family), labels, "raw")
    if family != "seq2seq" and answer.generated_tokens != 1:
        assert answer.generated_tokens == 1 + number
        assert error_of(answer, truth) < 1e-3
        return
    assert answer.covered_mass is not None
    assert 0 < answer.covered_mass < 0.9
    assert error_of(answer, truth) < 1 - answer.covered_mass
    assert answer.label == max(truth, key=truth.__getitem__)


def test_raw_alternatives_that_name_no_label(tgi_server: StartServer) -> None:
    """Where none of the likeliest tokens starts a label and nothing else can be asked, there is no label."""
    server = tgi_server("3.3.7", ScriptedEngine(default=" ok", noise=0.0), grammar=False)
    with pytest.warns(UserWarning, match="label"):
        answer = classify(server, DISTINCT[2], "raw")
    assert (answer.label, answer.reason) == (None, "unmatched")


@pytest.mark.parametrize(
    ("version", "options", "number", "way"),
    [
        ("3.3.7", {}, 5, "grammar"),
        ("1.4.5", {}, 20, "grammar"),
        ("1.0.3", {}, 2, "top"),
        ("1.0.3", {}, 6, "prefill"),
        ("2.4.1", {"family": "padded"}, 5, "top"),
        ("3.3.7", {"family": "padded"}, 6, "prefill"),
        ("1.0.3", {"family": "seq2seq"}, 2, "top"),
        ("3.3.7", {"grammar": False}, 5, "top"),
        ("2.4.1", {"grammar": False}, 6, "prefill"),
    ],
)
def test_the_cheapest_way_is_chosen(
    tgi_server: StartServer, version: str, options: dict[str, Any], number: int, way: str
) -> None:
    """What the server was seen to do decides how labels are scored."""
    engine, truth = engine_for(DISTINCT[number], covered=0.98)
    server = tgi_server(version, engine, **options)
    answer = classify(server, DISTINCT[number])
    parameters = asked(server)[-1]["parameters"]
    used = "grammar" if "grammar" in parameters else "prefill" if parameters["decoder_input_details"] else "top"
    assert used == way
    assert answer.label == max(truth, key=truth.__getitem__)


@pytest.mark.parametrize(
    "labels", [*DISTINCT.values(), SHARED, PREFIXES, OTHER_SCRIPTS], ids=[*map(str, DISTINCT), "sh", "pre", "scripts"]
)
@pytest.mark.parametrize(
    ("version", "family"),
    [("1.4.5", "flash"), ("2.4.1", "padded"), ("2.4.1", "seq2seq"), ("3.3.7", "flash"), ("3.3.7", "padded")],
)
def test_constrained(tgi_server: StartServer, version: str, family: Any, labels: list[str]) -> None:
    """A constrained generation is one of the labels, in one request, with a confidence."""
    engine, truth = engine_for(labels)
    server = tgi_server(version, engine, family=family)
    answer = classify(server, labels, method="constrain")
    assert answer.method == "constrain"
    assert answer.label in labels
    (body,) = asked(server)
    # Any way through the vocabulary has room, down to bytes, and the end; the label's own tokens and the end are taken.
    bytes_at_most = max(len(label.encode()) for label in labels) + 1
    assert body["parameters"]["max_new_tokens"] in (bytes_at_most, bytes_at_most + 1)
    assert answer.generated_tokens is not None
    # After a label that starts another, a line break may stand before the end.
    assert answer.generated_tokens <= len(engine.tokenizer.encode((answer.generation or "").rstrip("\n"))) + 2
    assert answer.confidence is not None
    if family == "flash":
        assert answer.covered_mass is not None
        assert error_of(answer, truth) <= 1 - answer.covered_mass + 1e-3
    else:
        assert answer.probabilities is None


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("number", [5, 20])
def test_half_precision(tgi_server: StartServer, precision: Any, number: int) -> None:
    """In half precision, ties included, the distribution is right up to the grid of the format."""
    engine, truth = engine_for(DISTINCT[number])
    answer = classify(tgi_server("3.3.7", engine, precision=precision), DISTINCT[number])
    assert error_of(answer, truth) < (2e-3 if precision == "float16" else 1e-2)


def test_what_a_server_cannot_do_is_refused(tgi_server: StartServer) -> None:
    """A way or a method that the server does not have is refused with what to do, before any text is sent."""
    engine, _ = engine_for(DISTINCT[2])
    server = tgi_server("2.4.1", engine, grammar=False)
    with pytest.raises(ConfigurationError, match="scoring='masked'"):
        classify(server, DISTINCT[2], "masked")
    with pytest.raises(ConfigurationError, match="does not offer method='constrain'"):
        classify(server, DISTINCT[2], method="constrain")
    assert asked(server) == []


def test_the_order_of_labels_orders_columns_only(tgi_server: StartServer) -> None:
    """Permuted labels get the same probabilities, asked with the same patterns."""
    labels = DISTINCT[20]
    engine, _ = engine_for(labels)
    server = tgi_server("3.3.7", engine, record=5000)
    first = classify(server, labels)
    patterns = {body["parameters"]["grammar"]["value"] for body in asked(server)}
    second = classify(server, labels[::-1])
    assert first.probabilities is not None
    assert second.probabilities is not None
    assert list(second.probabilities) == labels[::-1]
    assert {label: second.probabilities[label] for label in labels} == pytest.approx(first.probabilities, abs=1e-9)
    assert {body["parameters"]["grammar"]["value"] for body in asked(server)} == patterns


def test_the_prefix_cache_is_filled_before_the_others_go(tgi_server: StartServer) -> None:
    """Of the groups of one text all but the first find the prompt computed."""
    labels = DISTINCT[20]
    engine, _ = engine_for(labels)
    server = tgi_server("3.3.7", engine, latency_per_token=0.01)
    hits = server.counters.cache_hits
    classify(server, labels)
    assert server.counters.cache_hits - hits >= 4


@pytest.mark.parametrize(("version", "family"), [("1.0.3", "flash"), ("2.4.1", "flash"), ("3.3.7", "padded")])
@pytest.mark.parametrize("scoring", ["auto", "raw", "prefill"])
@pytest.mark.parametrize(("ending", "space"), [("Label:", " "), ("Label:\n", ""), ('Label: "', "")])
def test_the_space_before_a_label(
    tgi_server: StartServer, version: str, family: Any, scoring: Any, ending: str, space: str
) -> None:
    """Labels are scored with a leading space where running text has one, and without it after a line break or quote."""
    labels = DISTINCT[2]
    answers = {f"{space}{labels[0]}": 0.6, f"{space}{labels[1]}": 0.3}
    engine = ScriptedEngine(lambda _: answers, words=labels, answer_after=ending, default=" ok")
    server = tgi_server(version, engine, family=family)
    llm = TextGenerationInference(base_url=server.url, scoring=scoring)
    classifier = ZeroShotClassifier(labels, llm=llm, prior=None, prompt="Text: {text}\n" + ending)
    answer = classifier.with_details().invoke(TEXT)
    assert error_of(answer, {labels[0]: 2 / 3, labels[1]: 1 / 3}) < 1e-3
    assert answer.covered_mass == pytest.approx(1 if "grammar" in asked(server)[-1]["parameters"] else 0.9, abs=1e-2)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(("version", "family"), [("1.0.3", "flash"), ("2.4.1", "flash"), ("3.3.7", "padded")])
@pytest.mark.parametrize("number", [5, 6, 20])
def test_ties(tgi_server: StartServer, version: str, family: Any, precision: Any, number: int) -> None:
    """Labels that are all equally likely, so that lists of alternatives grow, come out equal up to the grid."""
    labels = DISTINCT[number]
    answers = {f" {label}": 0.98 / number for label in labels}
    engine = ScriptedEngine(lambda _: answers, words=labels, answer_after="Label:")
    answer = classify(tgi_server(version, engine, family=family, precision=precision), labels)
    assert error_of(answer, dict.fromkeys(labels, 1 / number)) < (2e-3 if precision == "float16" else 1e-2)


@pytest.mark.parametrize("version", ["2.4.1", "3.3.7"])
def test_groups_cost_one_prompt(tgi_server: StartServer, version: str) -> None:
    """Of 19 requests for one text, the first alone has its prompt computed; the others cost a token or two each."""
    labels = DISTINCT[77]
    engine, _ = engine_for(labels)
    server = tgi_server(version, engine)
    llm = TextGenerationInference(base_url=server.url)
    classifier = ZeroShotClassifier(labels, llm=llm, method="score", prior=None, prompt="kinds")
    classifier.get_method()
    before, long = server.counters.computed_tokens, "It was fine. " * 40
    answer = classifier.with_details().invoke(long)
    assert answer.prompt_tokens is not None
    assert answer.prompt_tokens > 100
    assert server.counters.computed_tokens - before <= answer.prompt_tokens + 2 * 18


def test_letters_take_one_request_where_labels_share_tokens(tgi_server: StartServer) -> None:
    """With `prompt="codes"` labels that share first tokens cost what as many different letters cost: one request."""
    answers = {" A": 0.5, " B": 0.2, " C": 0.12, " D": 0.08, " E": 0.07}
    engine = ScriptedEngine(lambda _: answers, words="ABCDE", answer_after="Label:")
    server = tgi_server("3.3.7", engine)
    for scoring in ("masked", "raw"):
        llm = TextGenerationInference(base_url=server.url, scoring=scoring)
        classifier = ZeroShotClassifier(SHARED, llm=llm, prior=None, prompt="codes")
        answer = classifier.with_details().invoke(TEXT)
        truth = dict(zip(SHARED, [share / 0.97 for share in answers.values()], strict=True))
        assert error_of(answer, truth) < 1e-3
        assert answer.generated_tokens == 1
    constrained = ZeroShotClassifier(SHARED, llm=llm, method="constrain", prompt="codes").with_details().invoke(TEXT)
    assert (constrained.label, (constrained.generation or "").strip()) == (SHARED[0], "A")


KINDS = ["politics", "science", "sport", "weather", "music", "health", "travel", "economy"]
STARTS = ["sport", "sports", "art", "arts", "tech", "health", "new", "news", "car", "cars"]


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
@pytest.mark.parametrize("unlikely", range(len(KINDS)))
def test_pieces_that_hide_an_unlikely_label(tgi_server: StartServer, precision: Any, unlikely: int) -> None:
    """Other spellings take an unlikely label's place in a group, and still no label gets what is not its own."""
    shares = [0.02] * 8
    shares[(unlikely + 1) % 8], shares[(unlikely + 6) % 8], shares[unlikely] = 0.3, 0.55, 1e-6
    steps = {f" {label}": share for label, share in zip(KINDS, shares, strict=True)}
    pieces = dict.fromkeys([" p", " s", " m"], 1e-4)
    rule = NextTokens(lambda said: {"": 1.0} if said.strip() else steps | pieces)
    engine = ScriptedEngine(lambda _: rule, words=KINDS, answer_after="Label:", noise=1e-9)
    server = tgi_server("3.3.7", engine, precision=precision)
    answer = classify(server, KINDS)
    truth = {label: share / sum(shares) for label, share in zip(KINDS, shares, strict=True)}
    assert error_of(answer, truth) < (1e-3 if precision == "float64" else 1e-2)
    assert answer.label == max(truth, key=truth.__getitem__)
    assert answer.covered_mass is not None
    assert error_of(answer, truth) <= 1 - answer.covered_mass + (1e-9 if precision == "float64" else 1e-2)
    assert len(asked(server)) <= 6


@pytest.mark.parametrize("labels", [STARTS, [f"intent number {n}" for n in range(20)]], ids=["starts", "numbers"])
@pytest.mark.parametrize("sentencepiece", [False, True])
def test_labels_spelled_like_the_start_of_another(
    tgi_server: StartServer, labels: list[str], sentencepiece: bool
) -> None:
    """A label that a grammar lists beside a longer one counts as itself, and covers what it covers."""
    engine, truth = engine_for(labels)
    answer = classify(tgi_server("3.3.7", engine, sentencepiece=sentencepiece), labels)
    assert error_of(answer, truth) < 1e-3
    assert answer.covered_mass is not None
    assert answer.covered_mass > 0.95


@pytest.mark.parametrize("sentencepiece", [False, True])
@pytest.mark.parametrize("end", [{"\n": 0.9, "": 0.01}, {"": 0.91}, {"\n": 0.3, "": 0.3}, {"\n": 1e-5, "": 1e-6}])
@pytest.mark.parametrize(
    ("version", "family", "scoring"),
    [
        ("1.4.5", "flash", "masked"),
        ("3.3.7", "flash", "masked"),
        ("3.3.7", "flash", "constrain"),
        ("2.4.1", "flash", "prefill"),
        ("3.3.7", "padded", "prefill"),
    ],
)
def test_the_end_of_a_label_that_starts_another(
    tgi_server: StartServer, version: str, family: Any, scoring: str, end: dict[str, float], sentencepiece: bool
) -> None:
    """A line break ends "play" as the end of the text does, whichever way labels are asked for."""
    on, ends = 0.09, sum(end.values())
    following = {"": {" play": 0.6, " book": 0.4}, " play": {" music": on, **end, " more": max(0.0, 1 - on - ends)}}
    rule = NextTokens(lambda said: following.get(said, {"\n": 0.99, "": 0.01}))
    engine = ScriptedEngine(lambda _: rule, words=["play", "music", "book", "more"], answer_after="Label:", noise=1e-9)
    server = tgi_server(version, engine, family=family, sentencepiece=sentencepiece)
    method, way = ("constrain", "auto") if scoring == "constrain" else ("score", scoring)
    answer = classify(server, ["play", "play music", "book"], way, method)
    truth = {"play": 0.6 * ends / (ends + on), "play music": 0.6 * on / (ends + on), "book": 0.4}
    assert answer.covered_mass is not None
    error = error_of(answer, truth)
    assert error < 1e-3
    assert error <= 1 - answer.covered_mass + 1e-6
    assert answer.label == max(truth, key=truth.__getitem__)
