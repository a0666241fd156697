"""The embedded model: real texts, a real language model, measured accuracy."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper import (
    Classification,
    ConfigurationError,
    FailedRequestWarning,
    FewShotClassifier,
    LabelOutputParser,
    LlamaCpp,
    ModelFileError,
    OverlongInputError,
    OverlongInputWarning,
    Reason,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.embedded import FILE_NAME, embedded_model_path
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import END
from langchain_stormtrooper.testing import TGIServer
from langchain_stormtrooper.testing.real import LlamaCppEngine
from langchain_stormtrooper.wire import llamacpp as wire

DATA = Path(__file__).parent.parent / "data"
ELECTORAL = "It is the Electoral College's responsibility to elect the president."
TOPICS = ["politics", "science", "other"]


def rows(name: str, split: str) -> list[tuple[str, str]]:
    """Texts and labels of an excerpt."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["label"]) for row in map(json.loads, lines) if row["split"] == split]


@pytest.fixture(scope="module")
def model() -> LlamaCpp:
    """The embedded model, on one thread: two are slower on a busy machine."""
    return LlamaCpp(n_threads=1)


def accuracy(answers: list[str | None], test: list[tuple[str, str]]) -> float:
    """Share of right answers; None is wrong."""
    return sum(answer == label for answer, (_, label) in zip(answers, test, strict=True)) / len(test)


def test_few_shot_accuracy_on_snips(model: LlamaCpp) -> None:
    """Three examples a label: at least .55 on 25 intents (chance is 1/7), every answer one of the labels."""
    examples, test = rows("snips", "train"), rows("snips", "test")[::8]
    labels = sorted({label for _, label in examples})
    assert (len(labels), len(examples), len(test)) == (7, 21, 25)
    answers = FewShotClassifier(labels, examples, llm=model).batch([text for text, _ in test])
    assert set(answers) <= set(labels)
    assert accuracy(answers, test) >= 0.55


def test_zero_shot_accuracy_on_sib200(model: LlamaCpp) -> None:
    """No examples: at least .50 on every sixth English sentence (chance is 1/7), every answer one of the labels."""
    test = rows("sib200_en", "test")[::6]
    labels = sorted({label for _, label in test})
    assert (len(labels), len(test)) == (7, 34)
    classifier = ZeroShotClassifier(labels, llm=model, text_kind="sentence", label_kind="topic")
    answers = classifier.batch([text for text, _ in test])
    assert set(answers) <= set(labels)
    assert accuracy(answers, test) >= 0.50


def test_the_first_sentence(model: LlamaCpp) -> None:
    """The README's sentence is politics, with probabilities of all labels that sum to one."""
    answer = ZeroShotClassifier(TOPICS, llm=model).with_details().invoke(ELECTORAL)
    assert answer.label == "politics"
    assert answer.method == "score"
    assert answer.probabilities is not None
    assert list(answer.probabilities) == TOPICS
    assert math.isclose(sum(answer.probabilities.values()), 1, abs_tol=1e-9)
    assert answer.confidence == max(answer.probabilities.values())


@pytest.mark.parametrize(
    ("names", "requests"),
    [
        (("sport", "politics", "science"), 1),
        (("search creative work", "search screening event", "play music", "play"), 3),
        (("New York", "New Jersey", "New Zealand", "York"), 2),
        (("play", "play music", "play music loud", "toxic", "not toxic"), 3),
        (("良い", "悪い", "нейтрально", "naïve"), None),
    ],
    ids=["distinct", "both", "shared", "prefixes", "scripts"],
)
@pytest.mark.parametrize("space", [" ", ""])
async def test_scores_are_the_models_own_probabilities(
    model: LlamaCpp, names: tuple[str, ...], requests: int | None, space: str
) -> None:
    """The label trie gives what each label scored on its own gives, token by token, from the whole vocabulary."""
    answers = tuple(space + name for name in names)
    prompt = Prompt(head="Text: ", text="find me a film", tail="\nLabel:" + ("" if space else "\n"))
    client = await model._aclient()
    scored = await model.ascore_row(prompt, answers)
    tokens = await client.prompt_tokens(prompt)
    paths = await client.answer_tokens(answers)
    every: dict[tuple[int, ...], dict[int, float]] = {}
    (line_break,) = await client.tokenize("\n")
    (eos,) = await client.tokenize("<|im_end|>", special=True)

    async def following(prefix: tuple[int, ...]) -> dict[int, float]:
        """Log-probability of each token of the vocabulary."""
        if prefix not in every:
            body = {"prompt": [*tokens, *prefix], "n_predict": 1, "temperature": 0, "n_probs": 60_000}
            response = await client.post("/completion", json.dumps(body).encode())
            listed = response.json()["completion_probabilities"][0]["top_logprobs"]
            every[prefix] = {entry["id"]: entry["logprob"] for entry in listed}
            ends = [math.exp(every[prefix][token]) for token in (line_break, eos)]
            every[prefix][END] = math.log(sum(ends))
        return every[prefix]

    async def log_probability(path: tuple[int, ...]) -> float:
        total = 0.0
        for position in range(len(path)):
            children = {other[position] for other in paths if other[:position] == path[:position]}
            if len(children) > 1:
                logprobs = await following(path[:position])
                total += logprobs[path[position]] - math.log(sum(math.exp(logprobs[token]) for token in children))
        return total

    expected = [math.exp(await log_probability(path)) for path in paths]
    assert sum(expected) == pytest.approx(1, abs=1e-4)
    assert scored.probabilities == pytest.approx(expected, abs=2e-3)
    # A token for each branch of the trie: one where labels differ in their first token.
    assert scored.generated_tokens == len(every)
    if requests is not None and space:
        assert scored.generated_tokens == requests


def test_labels_that_start_others_over_both_wires(model: LlamaCpp) -> None:
    """The same model behind TGI's wire gives a label that starts another the same share."""
    labels = ["play", "play music", "book"]

    def classify(llm: SelfHostedLLM, method: Any = "score") -> Classification:
        classifier = ZeroShotClassifier(labels, llm=llm, method=method, prior=None, text_kind="command", prompt="kinds")
        return classifier.with_details().invoke("play some jazz")

    here = classify(model)
    assert here.probabilities is not None
    assert min(here.probabilities["play"], here.probabilities["play music"]) > 0.01  # neither is dropped
    with TGIServer("3.3.7", LlamaCppEngine(model), prefill_logprobs=True) as server:
        masked, prefill = (
            classify(TextGenerationInference(base_url=server.url, scoring=scoring)) for scoring in ("masked", "prefill")
        )
        constrained = classify(TextGenerationInference(base_url=server.url), "constrain")
    assert masked.probabilities == pytest.approx(here.probabilities, abs=1e-3)
    assert prefill.covered_mass is not None
    # Where the end of the short label is not among the alternatives, half of what it can have is taken.
    assert prefill.probabilities == pytest.approx(here.probabilities, abs=min(0.1, 1 - prefill.covered_mass))
    assert constrained.covered_mass is not None
    assert constrained.probabilities == pytest.approx(here.probabilities, abs=1 - constrained.covered_mass + 1e-3)
    best = max(here.probabilities, key=here.probabilities.__getitem__)
    assert {answer.label for answer in (here, masked, prefill)} == {best}


ODD_LABELS = [
    'a "quoted" one',
    "back\\slash [x]",
    "line\nbreak",
    "naïve 良い",
    "🙂 smile",
    "play",
    "play music",
    "tab\there",
    "\u2028sep",
    "سلبي",
]


@pytest.mark.parametrize("label", ODD_LABELS)
def test_constrained_answers_are_labels_to_the_letter(model: LlamaCpp, label: str) -> None:
    """Under the grammar a label comes out as given, whatever it holds, without a confidence."""
    classifier = ZeroShotClassifier([label, "q"], llm=model, method="constrain", prompt="{text}")
    answer = classifier.with_details().invoke(f"{label}, {label}, {label}, {label},")
    assert (answer.method, answer.label) == ("constrain", label)
    assert (answer.confidence, answer.probabilities, answer.covered_mass) == (None, None, None)
    assert answer.generated_tokens is not None


@pytest.mark.parametrize("method", ["score", "constrain"])
def test_letters_for_labels(model: LlamaCpp, method: str) -> None:
    """With `prompt="codes"` letters are the answers, and labels come out."""
    classifier = ZeroShotClassifier(TOPICS, llm=model, prompt="codes", method=method)
    answer = classifier.with_details().invoke(ELECTORAL)
    assert answer.label in TOPICS
    if method == "constrain":
        assert (answer.generation or "").strip() in ("A", "B", "C")


def test_constrained_among_all_odd_labels(model: LlamaCpp) -> None:
    """A generation under a grammar of many labels, one the start of another, is one of them."""
    classifier = ZeroShotClassifier(ODD_LABELS, llm=model, method="constrain")
    assert set(classifier.batch([ELECTORAL, "Put on some jazz.", "🙂"])) <= set(ODD_LABELS)


@pytest.mark.parametrize("label", ["nul\0", "control \x04"])
def test_what_the_vocabulary_lacks_is_never_in_a_grammar(model: LlamaCpp, label: str) -> None:
    """A label that the model cannot write is refused: llama.cpp would end this process when no token can follow."""
    with pytest.raises(ConfigurationError, match="does not offer method='constrain' for this task: use 'score'"):
        ZeroShotClassifier([label, "other"], llm=model, method="constrain").invoke("x")
    with pytest.raises(ConfigurationError, match="the model's vocabulary lacks"):
        asyncio.run(model.aconstrain_row(Prompt(before="x"), (f" {label}",)))
    assert ZeroShotClassifier([label, "other"], llm=model, method="generate").get_method() == "generate"


def test_special_tokens_in_a_text_are_ordinary_text(model: LlamaCpp) -> None:
    """A text cannot end the user's turn of a chat prompt: its special tokens are spelled out."""
    prompt = Prompt(before="<|im_start|>user\n", text="<|im_end|>", after="<|im_end|>\n")
    client = asyncio.run(model._aclient())
    tokens = asyncio.run(client.prompt_tokens(prompt))
    end = asyncio.run(client.tokenize("<|im_end|>", special=True))
    assert len(end) == 1
    assert tokens.count(end[0]) == 1


@pytest.mark.parametrize("text", ["", "{text} {labels} {{x}}", "\ud800 lone", "\x00\x01", "🙂" * 50, "<|im_end|>"])
def test_odd_texts_get_a_label(model: LlamaCpp, text: str) -> None:
    """Empty, template-like, broken and special texts are texts like any other."""
    assert ZeroShotClassifier(TOPICS, llm=model).invoke(text) in TOPICS


def test_an_overlong_text_gives_none_and_its_neighbours_their_labels(model: LlamaCpp) -> None:
    """A text beyond the context is None with one warning, here as on a server."""
    classifier = ZeroShotClassifier(TOPICS, llm=model)
    with pytest.warns(OverlongInputWarning) as caught:
        assert classifier.batch([ELECTORAL, "long " * 5000, ELECTORAL]) == ["politics", None, "politics"]
    assert len(caught) == 1
    with pytest.raises(OverlongInputError, match="4096"):
        ZeroShotClassifier(TOPICS, llm=model, on_overlong="raise").invoke("long " * 5000)


@pytest.mark.parametrize("preset", ["stable-beluga", "flan-t5", "task", "kinds", "chat"])
@pytest.mark.parametrize("method", ["score", "constrain", "generate"])
@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.UnmatchedLabelWarning")
def test_every_preset_and_method_runs(model: LlamaCpp, preset: str, method: str) -> None:
    """Each preset works with each method: a label comes out, or None from free text."""
    classifier = ZeroShotClassifier(TOPICS, llm=model, prompt=preset, method=method)
    answer = classifier.with_details().invoke(ELECTORAL)
    assert answer.method == method
    assert answer.label in TOPICS or (method == "generate" and answer.reason == "unmatched")


async def test_every_face_generates_the_same(model: LlamaCpp) -> None:
    """Sync, async and streamed generation say the same, and a chain by hand parses it."""
    said = await model.ainvoke("The capital of France is", stop=["."])
    assert said.strip().startswith("Paris")
    assert model.invoke("The capital of France is", stop=["."]) == said
    pieces = [piece async for piece in model.astream("The capital of France is", stop=["."])]
    assert len(pieces) > 1
    assert "".join(pieces) == said
    chain = model.bind(stop=["."]) | LabelOutputParser(["Paris", "London"])
    assert chain.batch(["The capital of France is"] * 3) == ["Paris"] * 3


def test_a_row_has_its_probabilities_whatever_was_asked_before_and_beside_it() -> None:
    """No digit depends on what of a long prompt an earlier row has left in the cache, or on the row in the other slot.

    llama.cpp's flash attention rounds 64 tokens at once otherwise than fewer: probabilities then differ by .04.
    """
    examples, test = rows("snips", "train")[::3], rows("snips", "test")[:2]
    llm = LlamaCpp(n_threads=1, n_ctx=272)
    classifier = FewShotClassifier(
        sorted({label for _, label in examples}), examples, llm=llm, prior=None, prompt="kinds"
    ).with_details()
    texts = [text for text, _ in test]

    def probabilities(*texts: str) -> list[dict[str, float] | None]:
        # Beforehand, both slots hold something else.
        llm.batch(["Once upon a time", "Far away"], max_new_tokens=1)
        return [answer.probabilities for answer in classifier.batch(list(texts))]

    together = probabilities(*texts)
    assert min(answer.prompt_tokens or 0 for answer in classifier.batch(texts)) > 64 + 32
    assert probabilities(*texts[::-1]) == together[::-1]
    assert [probabilities(text)[0] for text in texts] == together


def test_models_with_the_same_settings_share_an_engine(model: LlamaCpp) -> None:
    """A second LLM with the same settings loads nothing again, and a pickled one finds its way back."""
    other, copied = LlamaCpp(n_threads=1), pickle.loads(pickle.dumps(model))  # noqa: S301  # our own bytes
    engines = {id(asyncio.run(llm._arunning()).engine) for llm in (model, other, copied)}
    assert len(engines) == 1


def test_a_file_on_the_hub_is_loaded_through_huggingface_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`repo_id` and `filename` go through the hub's own cache, here one that already holds the file."""
    commit = "0" * 40
    snapshot = tmp_path / "models--someone--SmolLM2-135M-GGUF" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / FILE_NAME).symlink_to(embedded_model_path())
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub = LlamaCpp(repo_id="someone/SmolLM2-135M-GGUF", filename=FILE_NAME, n_threads=1)
    assert hub.invoke("The capital of France is", stop=["."]).strip().startswith("Paris")
    with pytest.raises(ModelFileError, match="hub"):
        LlamaCpp(repo_id="someone/SmolLM2-135M-GGUF", filename="absent.gguf").invoke("x")


def test_a_model_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    """A missing or broken file, or half of a hub address, is one clear error."""
    with pytest.raises(ModelFileError, match="no model file"):
        LlamaCpp(model_path=tmp_path / "absent.gguf").invoke("x")
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="cannot load"):
        LlamaCpp(model_path=tmp_path / "broken.gguf").invoke("x")
    with pytest.raises(ValueError, match="go together"):
        LlamaCpp(repo_id="someone/model")


def test_wire_notices_a_dropped_bias() -> None:
    """Probabilities that do not fill the labels mean that the server ignored the bias, and are refused."""
    from langchain_stormtrooper.errors import ResponseFormatError
    from langchain_stormtrooper.wire import Response

    body = {"completion_probabilities": [{"top_probs": [{"id": 1, "prob": 0.2}, {"id": 2, "prob": 0.1}]}]}
    with pytest.raises(ResponseFormatError, match="restrict"):
        wire.parse_branch(Response(200, {}, json.dumps(body).encode()), (1, 2))


def test_the_interpreter_may_end_while_the_model_works() -> None:
    """A process that ends with rows in work ends as it would without them, not by a signal."""
    code = (
        "import threading, time\n"
        "from langchain_stormtrooper import LlamaCpp, ZeroShotClassifier\n"
        "classifier = ZeroShotClassifier(['a', 'b'], llm=LlamaCpp(n_threads=1), prior=None)\n"
        "rows = [f'{number} words ' * 50 for number in range(500)]\n"
        "threading.Thread(target=classifier.batch, args=(rows,), daemon=True).start()\n"
        "time.sleep(3)\n"
    )
    for _ in range(2):
        assert (
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60).returncode == 0
        )


def test_a_row_given_up_does_not_hold_up_the_next() -> None:
    """A prompt that takes longer than `timeout` fails by itself: the rows after it are answered in good time."""
    impatient = LlamaCpp(n_threads=1, n_ctx=4096, timeout=3)
    classifier = ZeroShotClassifier(["good", "bad"], llm=impatient, prior=None, on_overlong="truncate")
    asked = classifier.with_details()
    assert asked.invoke("A good film.").reason is None
    with pytest.warns(FailedRequestWarning, match=r"The model did not answer within 3 s"):
        assert asked.invoke("a b c " * 9000).reason is Reason.FAILED
    assert asked.invoke("A bad film.").reason is None
