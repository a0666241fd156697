"""One client against a server, measured in a process of its own; `client_overhead.py` runs it.

    python overhead_clients.py CLIENT URL ROWS [PATH]

prints JSON: seconds, CPU seconds, and bytes by which the process grew at its peak. Inputs are made and 64 rows are
answered before the measurement begins, so that imports, connections and what is asked once are in none of the figures.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
import types
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import LabelOutputParser, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.wire import Generated

IN_FLIGHT = 64
LABELS = ["politics", "science", "other"]
ANSWER = "politics"

Client = Callable[[list[str]], Awaitable[list[Any]]]


def peak_bytes() -> int:
    """The most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def measure(texts: list[str], client: Client, expected: Any = ANSWER) -> dict[str, float]:
    """Measure one client; every answer must be the expected one."""
    assert await client(texts[:IN_FLIGHT]) == [expected] * IN_FLIGHT
    texts = texts[IN_FLIGHT:]
    gc.collect()
    before = peak_bytes()
    cpu, started = time.process_time(), time.perf_counter()
    answers = await client(texts)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    grown = peak_bytes() - before
    assert answers == [expected] * len(texts)
    return {"seconds": seconds, "cpu_seconds": cpu, "bytes": grown}


def classifier(url: str) -> ZeroShotClassifier:
    """The classifier, with a prompt that suits the model of the server."""
    llm = TextGenerationInference(base_url=url, max_concurrency=IN_FLIGHT)
    return ZeroShotClassifier(LABELS, llm=llm, method="generate")


class _Recorder(TextGenerationInference):
    """An LLM that keeps what it would send."""

    _bodies: list[bytes] = PrivateAttr(default_factory=list)

    @override
    async def agenerate_row(
        self, prompt: Prompt, *, stop: Sequence[str] | None = None, max_new_tokens: int | None = None
    ) -> Generated:
        self._bodies.append(self._body(prompt, stop, max_new_tokens))
        return Generated(ANSWER)


async def bare(url: str, texts: list[str]) -> dict[str, float]:
    """A loop over aiohttp that posts the bodies of the classifier and reads `generated_text`."""
    recorder = _Recorder(base_url=url, max_concurrency=IN_FLIGHT)
    await ZeroShotClassifier(LABELS, llm=recorder, method="generate").abatch(texts)
    body_of = dict(zip(texts, recorder._bodies, strict=True))

    async with aiohttp.ClientSession() as session:

        async def post(texts: list[str]) -> list[str]:
            answers = [""] * len(texts)
            waiting = iter(enumerate(texts))

            async def work() -> None:
                for number, text in waiting:
                    async with session.post(
                        f"{url}/generate", data=body_of[text], headers={"Content-Type": "application/json"}
                    ) as answer:
                        answers[number] = (await answer.json())["generated_text"]

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
            return answers

        return await measure(texts, post, f" {ANSWER}")


async def classify(url: str, texts: list[str]) -> dict[str, float]:
    """`ZeroShotClassifier.abatch`."""
    return await measure(texts, classifier(url).abatch)


async def traced(url: str, texts: list[str]) -> dict[str, float]:
    """`ZeroShotClassifier.abatch` with a callback handler."""
    from langchain_core.callbacks import AsyncCallbackHandler

    class Handler(AsyncCallbackHandler):
        ended = 0

        @override
        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            self.ended += 1

    handler, watched = Handler(), classifier(url)
    figures = await measure(texts, lambda texts: watched.abatch(texts, {"callbacks": [handler]}))
    assert handler.ended == len(texts)
    return figures


async def chain(url: str, texts: list[str]) -> dict[str, float]:
    """The classifier's parts, composed by hand."""
    llm = TextGenerationInference(base_url=url, max_concurrency=IN_FLIGHT, max_new_tokens=32, stop=["###"])
    composed = await classifier(url).aget_prompt() | llm | LabelOutputParser(LABELS)
    return await measure(texts, lambda texts: composed.abatch([{"text": text} for text in texts]))


async def endpoint(url: str, texts: list[str]) -> dict[str, float]:
    """langchain-huggingface's LLM, which sends one request after another."""
    from langchain_huggingface import HuggingFaceEndpoint

    prompt = await classifier(url).aget_prompt()
    settings: dict[str, Any] = {"endpoint_url": f"{url}/generate", "max_new_tokens": 32, "do_sample": False}
    llm = HuggingFaceEndpoint(**settings)
    async with llm.async_client:
        return await measure(
            [prompt.format(text=text) for text in texts], lambda texts: llm.abatch([*texts]), f" {ANSWER}"
        )


def original(url: str, texts: list[str], path: Path) -> dict[str, float]:
    """The original stormtrooper's TGI module, alone."""

    def stub(name: str, **members: Any) -> None:
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(members)

    # The module wants numpy, scikit-learn and thefuzz for five names. It matches fuzzily only what is no label as it
    # stands, which never happens here.
    stub("numpy", array=list, ndarray=list)
    stub("sklearn")
    stub("sklearn.base", BaseEstimator=type("BaseEstimator", (), {}), ClassifierMixin=type("ClassifierMixin", (), {}))
    stub("sklearn.exceptions", NotFittedError=RuntimeError)
    stub("thefuzz", process=None)
    module = types.ModuleType("text_gen_inference")
    exec(compile(path.read_text(), path.name, "exec"), vars(module))  # noqa: S102  # the wheel is pinned
    predictor = module.TGIZeroShotClassifier(f"{url}/generate", max_new_tokens=32).fit(None, LABELS)

    async def predict(texts: list[str]) -> list[Any]:
        # It runs an event loop of its own.
        return list(await asyncio.to_thread(predictor.predict, texts))

    return asyncio.run(measure(texts, predict))


def main() -> None:
    """Measure one client."""
    name, url, rows, *path = sys.argv[1:]
    # The first texts are for warming up.
    texts = [f"Parliament has debated bill number {number} today." for number in range(int(rows) + IN_FLIGHT)]
    if name == "original":
        figures = original(url, texts, Path(path[0]))
    else:
        ways = {"bare": bare, "classifier": classify, "traced": traced, "chain": chain, "endpoint": endpoint}
        figures = asyncio.run(ways[name](url, texts))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
