"""`OpenAICompletions` against servers of several flavours whose true distribution is known."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from langchain_stormtrooper import (
    AuthenticationError,
    Classification,
    ConfigurationError,
    EndpointNotFoundError,
    OpenAICompletions,
    OverlongInputWarning,
    ServerUnreachableError,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import Fault, OpenAIServer, ScriptedEngine

StartServer = Callable[..., OpenAIServer]

DISTINCT = ["bax", "dex", "fix", "gox", "hux"]
SHARED = ["New York", "New Jersey", "New Zealand", "sport", "science"]
PREFIXES = ["play", "play music", "play music loud", "book", "toxic", "not toxic"]
SCRIPTS = ["良い", "悪い", "нейтрально", "سلبي", "नकारात्मक"]
MANY = [f"{consonant}{vowel}x" for consonant in "bcdfghjklmnprst" for vowel in "aeiou"]
LABELS = {"distinct": DISTINCT, "shared": SHARED, "prefixes": PREFIXES, "scripts": SCRIPTS, "many": MANY}
TEXT = "It was fine."
SAID = "Text: {text}\nLabel:"


def engine_for(labels: list[str], *, covered: float = 0.9) -> tuple[ScriptedEngine, dict[str, float]]:
    """A model that spreads so much probability over the labels, unevenly, and the distribution over them."""
    weights = [1.0 / (3 + (7 * number) % len(labels)) for number in range(len(labels))]
    truth = {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}
    answers = {f" {label}": covered * share for label, share in truth.items()}
    return ScriptedEngine(lambda _: answers, words=labels, answer_after="Label:", default=" ok"), truth


def classifier(server: OpenAIServer, labels: list[str], **settings: Any) -> ZeroShotClassifier:
    """Without a prior, so that what comes back is what the server's model says."""
    of_llm = {name: settings.pop(name) for name in ("scoring", "api", "api_key", "model") if name in settings}
    llm = OpenAICompletions(base_url=server.url, **of_llm)
    return ZeroShotClassifier(labels, llm=llm, prior=None, prompt=SAID, **settings)


def error_of(answer: Classification, truth: dict[str, float]) -> float:
    """How far any label's probability is from the truth."""
    assert answer.probabilities is not None
    assert list(answer.probabilities) == list(truth)
    assert math.fsum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    return max(abs(answer.probabilities[label] - share) for label, share in truth.items())


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
@pytest.mark.parametrize("kind", LABELS)
def test_chosen_tokens_give_the_true_distribution(openai_server: StartServer, flavour: str, kind: str) -> None:
    """Servers that show chosen tokens are asked for just the labels', whatever these are, and the rest is covered."""
    labels = LABELS[kind]
    engine, truth = engine_for(labels)
    server = openai_server(flavour, engine)
    model = classifier(server, labels)
    assert model.get_method() == "score"
    answer = model.with_details().invoke(TEXT)
    assert error_of(answer, truth) < 1e-3
    assert answer.covered_mass == pytest.approx(0.9, abs=1e-2)
    assert answer.prompt_tokens == len(engine.tokenizer.encode(SAID.format(text=TEXT))) + 1


@pytest.mark.parametrize(
    ("flavour", "labels", "paths"),
    [
        ("vllm", DISTINCT, ["/v1/completions"]),
        ("vllm", SHARED, ["/tokenize", "/v1/completions"]),
        ("sglang", SHARED, ["/tokenize", "/v1/score"]),
    ],
)
def test_few_labels_take_one_request(
    openai_server: StartServer, flavour: str, labels: list[str], paths: list[str]
) -> None:
    """A text costs one request for its labels, before which it is cut into tokens where labels share some."""
    engine, _ = engine_for(labels)
    server = openai_server(flavour, engine)
    model = classifier(server, labels)
    model.invoke("first")
    before = len(server.received)
    model.invoke(TEXT)
    assert [request.path for request in list(server.received)[before:]] == paths


@pytest.mark.parametrize("options", [{}, {"drops_logprob_token_ids": True}], ids=["", "dropped"])
def test_a_field_that_is_dropped_without_a_word_is_noticed(openai_server: StartServer, options: Any) -> None:
    """Where the server ignores the list of tokens, labels are scored another way, and as truly."""
    engine, truth = engine_for(SHARED)
    server = openai_server("vllm", engine, **options)
    model = classifier(server, SHARED)
    assert error_of(model.with_details().invoke(TEXT), truth) < 1e-3
    echoes = [request for request in server.received if request.path == "/v1/completions" and request.json.get("echo")]
    assert any(TEXT in str(request.json["prompt"]) for request in echoes) == bool(options)


@pytest.mark.parametrize(
    ("flavour", "options"),
    [("vllm", {}), ("sglang", {}), ("generic", {}), ("vllm", {"tokenize": False})],
    ids=["vllm", "sglang", "generic", "untokenized"],
)
@pytest.mark.parametrize("kind", ["distinct", "shared"])
def test_scored_prompts_give_the_true_distribution(
    openai_server: StartServer, flavour: str, options: Any, kind: str
) -> None:
    """Prompts that end with a label are scored by every flavour that echoes them, one request a label."""
    engine, truth = engine_for(LABELS[kind])
    server = openai_server(flavour, engine, **options)
    answer = classifier(server, LABELS[kind], scoring="prefill").with_details().invoke(TEXT)
    assert error_of(answer, truth) < 1e-3


@pytest.mark.parametrize("flavour", ["vllm", "sglang", "generic"])
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_the_likeliest_tokens_give_the_true_distribution(openai_server: StartServer, flavour: str, api: str) -> None:
    """A few labels with first tokens of their own take one request anywhere, as a completion or in a chat."""
    engine, truth = engine_for(DISTINCT[:4])
    if api == "chat":  # the template's words stand behind the prompt's last ones
        engine = ScriptedEngine(
            {}, words=DISTINCT, default={f" {label}": 0.9 * share for label, share in truth.items()}
        )
    server = openai_server(flavour, engine)
    answer = classifier(server, DISTINCT[:4], scoring="raw", api=api).with_details().invoke(TEXT)
    assert error_of(answer, truth) < 1e-2
    assert answer.generated_tokens == 1


@pytest.mark.parametrize(
    ("flavour", "options"), [("vllm", {}), ("vllm", {"guided": True}), ("sglang", {})], ids=["vllm", "old", "sglang"]
)
@pytest.mark.parametrize("kind", ["shared", "prefixes", "scripts"])
def test_constrained_answers_are_labels(openai_server: StartServer, flavour: str, options: Any, kind: str) -> None:
    """In whatever field a server takes the pattern, the answer is the likeliest label, to the letter."""
    labels = LABELS[kind]
    engine = ScriptedEngine({}, words=labels, answer_after="Label:", default=f" {labels[1]}")
    server = openai_server(flavour, engine, **options)
    answer = classifier(server, labels, method="constrain").with_details().invoke(TEXT)
    assert (answer.label, answer.method) == (labels[1], "constrain")


def test_a_gateway_without_scores_generates(openai_server: StartServer) -> None:
    """Where nothing is shown of tokens and no pattern is taken, text is generated and matched."""
    engine = ScriptedEngine({}, answer_after="Label:", default=" Science.")
    server = openai_server("generic", engine, logprobs=False)
    answer = classifier(server, ["politics", "science"]).with_details().invoke(TEXT)
    assert (answer.label, answer.method) == ("science", "generate")
    with pytest.raises(ConfigurationError, match="does not offer method='score'"):
        classifier(server, ["politics", "science"], method="score").invoke(TEXT)


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("flavour", ["vllm", "sglang", "generic"])
async def test_texts_are_generated_and_streamed(openai_server: StartServer, flavour: str, api: Any) -> None:
    """Generated at once, in a batch or piece by piece, an answer is the same, and as long as was asked for."""
    engine = ScriptedEngine({}, default=" one two three four")
    server = openai_server(flavour, engine)
    llm = OpenAICompletions(base_url=f"{server.url}/v1/", api=api, max_new_tokens=3)
    expected = llm.invoke("Count:")
    assert expected.strip().startswith("one two")
    assert "four" not in expected
    assert await llm.abatch(["Count:", "Count: "]) == [expected, expected]
    assert "".join([piece async for piece in llm.astream("Count:")]) == expected
    assert all(request.json["temperature"] == 0 for request in server.received if "completions" in request.path)


@pytest.mark.parametrize(
    ("flavour", "options"), [("vllm", {}), ("vllm", {"old_errors": True}), ("sglang", {}), ("generic", {})]
)
def test_a_prompt_that_is_too_long_is_none(openai_server: StartServer, flavour: str, options: Any) -> None:
    """Every flavour's refusal for length, in old words and new, is None with a warning; its neighbours are answered."""
    engine, _ = engine_for(SHARED)
    server = openai_server(flavour, engine, max_model_len=200, **options)
    model = classifier(server, SHARED, method="generate")
    with pytest.warns(OverlongInputWarning):
        answers = model.with_details().batch([TEXT, "word " * 300, TEXT + "!"])
    assert [answer.reason for answer in answers] == [None, "overlong", None]
    cut = model.model_copy(update={"on_overlong": "truncate"}).with_details().invoke("word " * 300)
    assert cut.label is not None
    assert cut.truncated


def test_a_body_that_is_too_large_is_not_sent(openai_server: StartServer) -> None:
    """A row whose request has more bytes than the server reads is too long; its neighbours are answered."""
    engine, _ = engine_for(DISTINCT)
    server = openai_server("generic", engine)
    llm = OpenAICompletions(base_url=server.url, max_body_bytes=1000)
    model = ZeroShotClassifier(DISTINCT, llm=llm, prompt=SAID, method="generate")
    with pytest.warns(OverlongInputWarning):
        answers = model.with_details().batch([TEXT, "word " * 300, TEXT + "!"])
    assert [answer.reason for answer in answers] == [None, "overlong", None]
    assert "the server reads at most 1000" in str(answers[1].error)
    assert not any("word word" in str(request.json) for request in server.received)


def test_what_is_wrong_for_every_row_says_what_to_do(openai_server: StartServer) -> None:
    """A wrong key, model, route or address is raised at once, each with its remedy."""
    engine, _ = engine_for(DISTINCT)
    keyed = openai_server("vllm", engine, api_key="right")
    with pytest.raises(AuthenticationError, match="OPENAI_COMPATIBLE_API_KEY"):
        classifier(keyed, DISTINCT, api_key="wrong", model="stormtrooper/scripted").invoke(TEXT)
    assert classifier(keyed, DISTINCT, api_key="right").invoke(TEXT) in DISTINCT
    with pytest.raises(ConfigurationError, match="no model of that name"):
        classifier(openai_server("vllm", engine), DISTINCT, model="other").invoke(TEXT)
    with pytest.raises(EndpointNotFoundError, match="api='chat'"):
        classifier(openai_server("generic", engine, completions=False), DISTINCT, method="generate").invoke(TEXT)
    with pytest.raises(ConfigurationError, match="set `model=`"):
        classifier(openai_server("generic", engine, models=False), DISTINCT).invoke(TEXT)
    with pytest.raises(ServerUnreachableError, match="OPENAI_COMPATIBLE_BASE_URL"):
        ZeroShotClassifier(DISTINCT, llm=OpenAICompletions(base_url="http://127.0.0.1:9")).invoke(TEXT)


def test_faults_are_the_rows_own(openai_server: StartServer) -> None:
    """Overload is waited for; a row that fails is None, and its neighbours are answered."""
    engine, _ = engine_for(DISTINCT)
    server = openai_server("vllm", engine)
    model = classifier(server, DISTINCT, method="generate")
    assert model.invoke(TEXT) is not None
    server.faults.add(Fault("429", times=5))
    server.faults.add(Fault("500", when=lambda prompt: "broken" in prompt))
    with pytest.warns(UserWarning, match="no answer could be had"):
        answers = model.with_details().batch([f"{TEXT} {n}" if n != 7 else "broken" for n in range(20)])
    assert [answer.reason for answer in answers] == [None] * 7 + ["failed"] + [None] * 12


def test_the_key_is_in_no_pickle_and_no_repr(openai_server: StartServer) -> None:
    """A pickled LLM has the address and the model, and leaves the key out."""
    llm = OpenAICompletions(base_url="http://127.0.0.1:8000/v1", api_key="sk-secret", model="m")
    pickled = pickle.dumps(llm)
    assert b"sk-secret" not in pickled
    assert "sk-secret" not in repr(llm)
    loaded = pickle.loads(pickled)  # noqa: S301  # our own
    assert (loaded.base_url, loaded.model, loaded.api_key) == ("http://127.0.0.1:8000", "m", None)


def test_the_models_chat_template_is_had_from_the_server(openai_server: StartServer) -> None:
    """With prompt="chat" the prompt is what the server's own template makes of it, where the server tells."""
    engine, _ = engine_for(DISTINCT)
    server = openai_server("vllm", engine)
    model = ZeroShotClassifier(DISTINCT, llm=OpenAICompletions(base_url=server.url), prior=None, prompt="chat")
    rendered = model.get_prompt().invoke({"text": TEXT}).to_string()
    assert TEXT in rendered
    assert rendered != model.model_copy(update={"prompt": "task"}).get_prompt().invoke({"text": TEXT}).to_string()


@pytest.mark.parametrize("start", ["", "<s>"], ids=["plain", "started"])
@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_a_rendered_chat_is_the_chats_prompt_to_the_token(openai_server: StartServer, flavour: str, start: str) -> None:
    """Special tokens of a chat template are in the prompt, and the start token, which the server adds, only once."""

    def template(messages: Sequence[Mapping[str, str]], header: bool) -> str:
        return start + "".join(f"[{one['role']}] {one['content']}</s>" for one in messages) + "[answer] " * header

    engine = ScriptedEngine(lambda _: "bax", words=DISTINCT)
    server = openai_server(flavour, engine, chat_template=template)
    llm = OpenAICompletions(base_url=server.url)
    model = ZeroShotClassifier(DISTINCT, llm=llm, prompt="chat", method="generate")
    rendered = model.get_prompt().invoke({"text": TEXT}).to_string()
    assert rendered.startswith("[user] ")
    assert rendered.endswith(f"{TEXT}</s>[answer] ")
    whole = engine.tokenizer.encode(rendered.replace("</s>", ""))
    assert model.with_details().invoke(TEXT).prompt_tokens == len(whole) + len(["<s>", "</s>"])


@pytest.mark.parametrize(("flavour", "options"), [("sglang", {"version": "0.5.11"}), ("generic", {})])
def test_a_template_that_no_server_shows_is_told_of(openai_server: StartServer, flavour: str, options: Any) -> None:
    """Where no chat is rendered, prompt="chat" says so, another prompt is chosen, and a chat is wrapped anyway."""
    server = openai_server(flavour, ScriptedEngine(lambda _: "bax", words=DISTINCT), **options)
    llm = OpenAICompletions(base_url=server.url)
    with pytest.raises(ConfigurationError, match="choose another `prompt=`"):
        ZeroShotClassifier(DISTINCT, llm=llm, prompt="chat").invoke(TEXT)
    kinds = ZeroShotClassifier(DISTINCT, llm=llm, prompt="kinds").get_prompt()
    assert ZeroShotClassifier(DISTINCT, llm=llm).get_prompt() == kinds
    wrapped = ZeroShotClassifier(
        DISTINCT, llm=OpenAICompletions(base_url=server.url, api="chat"), prompt="chat", method="generate"
    )
    assert wrapped.invoke(TEXT) == "bax"
    (message,) = server.received[-1].json["messages"]
    assert message["role"] == "user"
    assert message["content"].endswith(f"Text: {TEXT}")
