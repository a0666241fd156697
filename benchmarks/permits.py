"""A server with 8 permits that it does not tell of: the classifier against a bare loop that knows the 8."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time

import aiohttp
from record import takes_no_arguments, write

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.wire.tgi import generate_body

ROWS, PERMITS, LATENCY, REPETITIONS = 2000, 8, 0.02, 3
SERVER = f"""
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer
server = TGIServer("3.3.7", ScriptedEngine(lambda prompt: " politics"), max_concurrent_requests={PERMITS},
                   latency_per_request={LATENCY}, record=0)
with server:
    print(server.url, flush=True)
    input()
    print(server.counters.by_status[429], flush=True)
"""
TEXTS = [f"text number {number}" for number in range(ROWS)]
TEMPLATE = "{text}\nAnswer:"


async def bare(url: str) -> float:
    """Seconds of a loop with eight workers."""
    bodies = iter([generate_body(TEMPLATE.format(text=text), max_new_tokens=32) for text in TEXTS])

    async def work(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            async with session.post(
                f"{url}/generate", data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                assert (await answer.json())["generated_text"] == " politics"

    async with aiohttp.ClientSession() as session:
        started = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(PERMITS)))
        return time.perf_counter() - started


async def classify(url: str) -> float:
    """Seconds of the classifier, which starts with 64 in flight and is not told of the permits."""
    llm = TextGenerationInference(base_url=url, max_concurrency=64)
    # A template of one's own: nothing is asked of /info.
    classifier = ZeroShotClassifier(["politics", "science"], llm=llm, prompt=TEMPLATE, method="generate")
    started = time.perf_counter()
    assert await classifier.abatch(TEXTS) == ["politics"] * ROWS
    return time.perf_counter() - started


def main() -> None:
    """Run alternately and record the medians."""
    takes_no_arguments(__doc__)
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # ours
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        # A new event loop each time: nothing learnt is carried over.
        pairs = [(asyncio.run(bare(url)), asyncio.run(classify(url))) for _ in range(REPETITIONS)]
        refused = int(server.communicate("\n")[0])
    bare_seconds, seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    figures = {
        "bare_rows_per_second": round(ROWS / bare_seconds),
        "classifier_rows_per_second": round(ROWS / seconds),
        "ratio": round(statistics.median(b / c for b, c in pairs), 3),
        "refused_requests_per_run": round(refused / REPETITIONS, 1),
        "rows_lost": 0,
    }
    print(figures)
    write("permits", figures, rows=ROWS, permits=PERMITS, latency_seconds=LATENCY, repetitions=REPETITIONS)


if __name__ == "__main__":
    main()
