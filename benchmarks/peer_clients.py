"""One peer as a process of its own, in an environment of its own: jobs come in as lines of JSON, answers go out so.

    python peer_clients.py PEER URL FILE

A job is `{"labels", "texts", "text_kind", "label_kind", "in_flight", "unlabelled", "labelled", "remember"}`; what
comes back is `{"rows", "seconds", "first"}`. A row is `[label, valid, confidence]`: what the peer answers (null where
it has no answer), whether the model itself had said a label, before any repair, and how sure the peer says to be, if
it says so. `first` are the seconds until its caller has the first answer. FILE is what a peer needs besides: the
original's module, the model for those that load it themselves, and for ours what it remembers. Nothing but the
standard library is imported at the top: each environment has its own packages.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import os
import random
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

Row = tuple[str | None, bool, float | None]
Job = dict[str, Any]
# A peer gives its answers one by one where it can, or all at once.
Peer = Callable[[Job], Iterator[tuple[int, Row]]]

MAX_NEW_TOKENS = 256
# What users write where a peer leaves the prompt to them.
PROMPT = """Classify the {text_kind} into one of these {label_kind}s: {labels}.
Answer with the {label_kind} alone.

{Text_kind}: {text}
{Label_kind}:"""


def said(text: str, labels: Sequence[str]) -> Row:
    """What an exact parser makes of a generation."""
    label = text.strip()
    return (label, True, None) if label in labels else (None, False, None)


def asked(job: Job, text: str) -> str:
    """The prompt for a text."""
    kinds = {"text_kind": job["text_kind"], "label_kind": job["label_kind"]}
    upper = {name.capitalize(): kind.capitalize() for name, kind in kinds.items()}
    return PROMPT.format(text=text, labels=", ".join(job["labels"]), **kinds, **upper)


def original(url: str, file: str) -> Peer:
    """The original stormtrooper's TGI module, out of its wheel; it opens all rows' requests at once."""
    module = types.ModuleType("text_gen_inference")
    exec(compile(Path(file).read_text(), file, "exec"), vars(module))  # noqa: S102  # the wheel is pinned

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        classifier = module.TGIZeroShotClassifier(f"{url}/generate", fuzzy_match=False).fit(None, job["labels"])
        # Its `fit` puts labels through a set, whose order changes from process to process.
        classifier.classes_ = import_module("numpy").array(job["labels"])
        for number, label in enumerate(classifier.predict(job["texts"])):
            if label in classifier.classes_:
                yield number, (str(label), True, None)
            else:  # as `predict` goes on with fuzzy_match=True
                nearest, _ = module.process.extractOne(str(label), classifier.classes_)
                yield number, (str(nearest), False, None)

    return answer


def endpoint(url: str, file: str) -> Peer:
    """`PromptTemplate | HuggingFaceEndpoint | StrOutputParser`; threads of LangChain's `batch`."""
    llm = import_module("langchain_huggingface").HuggingFaceEndpoint(
        endpoint_url=f"{url}/generate", max_new_tokens=MAX_NEW_TOKENS, do_sample=False, stop_sequences=["\n"]
    )
    chain = llm | import_module("langchain_core.output_parsers").StrOutputParser()

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        prompts = [asked(job, text) for text in job["texts"]]
        for number, text in chain.batch_as_completed(prompts, {"max_concurrency": job["in_flight"]}):
            yield number, said(text, job["labels"])

    return answer


def scikit_llm(url: str, file: str) -> Peer:
    """scikit-llm's `ZeroShotGPTClassifier` at an address of one's own; one row after another."""
    config = import_module("skllm.config").SKLLMConfig
    config.set_openai_key("none")
    config.set_openai_org("none")
    config.set_gpt_url(f"{url}/v1/")
    classification = import_module("skllm.models.gpt.classification.zero_shot")

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        # Where the model names no label, it draws one by default; a name of ours shows when, and then we draw.
        classifier = classification.ZeroShotGPTClassifier(model="custom_url::model", default_label="(none)")
        classifier.fit(None, job["labels"])
        for number, (text, label) in enumerate(zip(job["texts"], classifier.predict(job["texts"]), strict=True)):
            valid = label in job["labels"]
            yield number, (label if valid else random.Random(text).choice(job["labels"]), valid, None)  # noqa: S311

    return answer


def dspy(url: str, file: str) -> Peer:
    """DSPy's `Predict` with a `Literal` for the answer, through litellm's OpenAI client."""
    library = import_module("dspy")
    library.configure(
        lm=library.LM(
            "openai/model",
            api_base=f"{url}/v1",
            api_key="none",
            temperature=0.0,
            max_tokens=MAX_NEW_TOKENS,
            cache=False,
            num_retries=0,
        )
    )

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        signature = library.Signature(
            {"text": (str, library.InputField()), "answer": (Literal[tuple(job["labels"])], library.OutputField())},
            f"Classify the {job['text_kind']} by its {job['label_kind']}.",
        )
        predict = library.Predict(signature)

        def row(text: str) -> Row:
            try:
                return str(predict(text=text).answer), True, None
            except Exception as error:
                if "Adapter" not in type(error).__name__:  # else the model said what it cannot read
                    raise
                return None, False, None

        run = library.Parallel(num_threads=job["in_flight"], disable_progress_bar=True, max_errors=10**6)
        yield from enumerate(run([(row, (text,)) for text in job["texts"]]))

    return answer


def outlines(url: str, file: str) -> Peer:
    """The choice of outlines: an enumeration as JSON schema, which the server's grammar holds the model to."""
    library, openai = import_module("outlines"), import_module("openai")
    model = library.from_openai(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=600), "model")
    pydantic = import_module("pydantic")

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        names = {f"label{number}": label for number, label in enumerate(job["labels"])}
        labels = enum.Enum("Label", names, type=str)  # type: ignore[misc]  # known at run time only
        schema = pydantic.create_model("Answer", label=(labels, ...))

        async def all_rows() -> list[Row]:
            free = asyncio.Semaphore(job["in_flight"])

            async def row(text: str) -> Row:
                async with free:
                    got = await model(asked(job, text), schema, temperature=0, max_tokens=MAX_NEW_TOKENS)
                try:
                    return said(json.loads(got)["label"], job["labels"])
                except (ValueError, KeyError):
                    return None, False, None

            return await asyncio.gather(*(row(text) for text in job["texts"]))

        yield from enumerate(runner.run(all_rows()))

    runner = asyncio.Runner()
    return answer


@functools.cache
def transformers_model(file: str) -> tuple[Any, Any]:
    """The GGUF file's model and tokenizer, as transformers reads them; its weights become 32-bit floats."""
    transformers, torch = import_module("transformers"), import_module("torch")
    torch.set_num_threads(1)
    path = Path(file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    # The file does not name the class, which CAPPr asks for.
    model.config.architectures = [type(model).__name__]
    return model.eval(), tokenizer


def by_rows(job: Job, predict: Callable[[str], Any], classes: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """One text after another, each with a probability for every class."""
    for number, text in enumerate(job["texts"]):
        probabilities = [float(one) for one in predict(text)]
        best = max(range(len(classes)), key=probabilities.__getitem__)
        yield number, (str(classes[best]), True, probabilities[best] / sum(probabilities))


def skorch(url: str, file: str) -> Peer:
    """The `ZeroShotClassifier` of skorch with its own prompt."""
    model, tokenizer = transformers_model(file)

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        classifier = import_module("skorch.llm").ZeroShotClassifier(model=model, tokenizer=tokenizer, device="cpu")
        classifier.fit(None, job["labels"])
        yield from by_rows(job, lambda text: classifier.predict_proba([text])[0], classifier.classes_)

    return answer


def cappr(url: str, file: str) -> Peer:
    """CAPPr on a transformers model."""
    classify = import_module("cappr.huggingface.classify")
    both = transformers_model(file)

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        def predict(text: str) -> Any:
            return classify.predict_proba(asked(job, text), job["labels"], model_and_tokenizer=both)

        yield from by_rows(job, predict, job["labels"])

    return answer


def ours(url: str, file: str) -> Peer:
    """`ZeroShotClassifier`: the default, calibrated with unlabelled texts, or with labelled ones.

    Calibrations differ in arithmetic alone. Where nothing but answers is measured, a prompt is therefore asked once for
    all of them, and FILE remembers what the server said.
    """
    library, kept = import_module("langchain_stormtrooper"), import_module("kept").Kept(Path(file) if file else None)
    learnt: dict[str, Any] = {}

    def answer(job: Job) -> Iterator[tuple[int, Row]]:
        key = json.dumps([job[name] for name in ("labels", "unlabelled", "labelled", "in_flight", "remember")])
        if key not in learnt:
            kind = import_module("kept").RememberingCompletions if job["remember"] else library.OpenAICompletions
            in_flight = {"max_concurrency": job["in_flight"]} if job["in_flight"] else {}
            llm = kind(base_url=f"{url}/v1", timeout=600, **in_flight)
            if job["remember"]:
                llm._scored = kept.content["scores"]
            kinds = {"prompt": "kinds", "text_kind": job["text_kind"], "label_kind": job["label_kind"]}
            # Where requests in flight are measured, without the prior, which is asked once and makes no row slower.
            prior = {} if job["remember"] else {"prior": None}
            classifier = library.ZeroShotClassifier(job["labels"], llm=llm, method="score", **kinds, **prior)
            if job["unlabelled"]:
                classifier = classifier.calibrate(job["unlabelled"])
            if job["labelled"]:
                texts, labels = zip(*job["labelled"], strict=True)
                classifier = classifier.calibrate([*texts], [*labels])
            learnt[key] = classifier.with_details()
        for number, got in learnt[key].batch_as_completed(job["texts"]):
            yield number, (got.label, got.label is not None, got.confidence)
        kept.save()

    return answer


PEERS: dict[str, Callable[[str, str], Peer]] = {
    "original": original,
    "endpoint": endpoint,
    "scikit-llm": scikit_llm,
    "dspy": dspy,
    "outlines": outlines,
    "skorch": skorch,
    "cappr": cappr,
    "ours": ours,
}


def try_cappr(url: str) -> str:
    """CAPPr's way over OpenAI's completions, which wants log-probabilities of the prompt's own tokens."""
    os.environ.update(OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY="none")
    classify = import_module("cappr.openai.classify")
    return str(classify.predict("The sky is", ["blue", "made of stone"], model="davinci-002"))


def try_cappr_words(url: str) -> str:
    """The same, with words for OpenAI's tokens, whose vocabulary tiktoken fetches: what the server makes of it."""
    words = types.SimpleNamespace(encode_batch=lambda texts: [text.split() for text in texts])
    tiktoken: Any = import_module("tiktoken")
    tiktoken.encoding_for_model = lambda model: words
    return try_cappr(url)


def try_outlines_literal(url: str) -> str:
    """The own choice of outlines, a `Literal`, over its OpenAI model."""
    openai = import_module("openai")
    model = import_module("outlines").from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), "model")
    return str(model("The sky is", Literal["blue", "made of stone"], max_tokens=5))


def try_outlines_vllm(url: str) -> str:
    """The same over its vLLM model, which names the choice in vLLM's own fields."""
    openai = import_module("openai")
    model = import_module("outlines").from_vllm(openai.OpenAI(base_url=f"{url}/v1", api_key="none"), "model")
    return str(model("The sky is", Literal["blue", "made of stone"], max_tokens=5))


TRIES: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "CAPPr over the server": ("cappr", "`cappr.openai.classify.predict`", try_cappr),
    "CAPPr over the server, no vocabulary fetched": ("cappr", "the same, words for tokens", try_cappr_words),
    "outlines' `Literal` over the server": ("outlines", "`outlines.from_openai`", try_outlines_literal),
    "outlines' `Literal` as for vLLM": ("outlines", "`outlines.from_vllm`", try_outlines_vllm),
}
"""What is known to be another way of a peer to the server: in which environment, by what, and how it is tried."""


def work(peer: Peer, job: Job) -> dict[str, Any]:
    """One job."""
    rows: list[Row | None] = [None] * len(job["texts"])
    started, first = time.perf_counter(), None
    for number, row in peer(job):
        first = first or time.perf_counter() - started
        rows[number] = row
    assert None not in rows
    return {"rows": rows, "seconds": time.perf_counter() - started, "first": first}


def end_with_input() -> Iterator[Job]:
    """Jobs, until there are none."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Answer jobs until the input ends."""
    name, url, file = sys.argv[1:]
    if name in TRIES:
        try:
            print(json.dumps(f"no error; the model said {TRIES[name][2](url)!r}"))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what came of it
            print(json.dumps(f"{type(error).__name__}: {str(error)[:300]}"))
        return
    # What libraries print is not for whoever waits for answers.
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        peer = PEERS[name](url, file)
        for job in end_with_input():
            print(json.dumps(work(peer, job)), file=out, flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {str(error)[:500]}"}), file=out, flush=True)
        raise


if __name__ == "__main__":
    main()
