"""200 prompts against a TGI server that answers after 50 ms: 64 in flight against one after another, in one run.

The server is the package's own, in a process of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from record import takes_no_arguments, write

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier

PROMPTS, LATENCY, IN_FLIGHT = 200, 0.05, 64
SERVER = f"""
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer
with TGIServer("3.3.7", ScriptedEngine(lambda prompt: " politics"), latency_per_request={LATENCY}) as server:
    print(server.url, flush=True)
    input()
"""


async def measure(url: str) -> dict[str, float]:
    """Seconds for each way."""
    llm = TextGenerationInference(base_url=url, max_concurrency=IN_FLIGHT)
    classifier = ZeroShotClassifier(labels=["politics", "science", "other"], llm=llm, method="generate")
    prompts = [f"text number {number}" for number in range(PROMPTS)]
    await classifier.ainvoke("warm up")
    started = time.perf_counter()
    for prompt in prompts:
        await llm.ainvoke(prompt)
    sequential = time.perf_counter() - started
    started = time.perf_counter()
    await llm.abatch(list(prompts))
    llm_batch = time.perf_counter() - started
    started = time.perf_counter()
    assert await classifier.abatch(list(prompts)) == ["politics"] * PROMPTS
    classifier_batch = time.perf_counter() - started
    return {
        "sequential_seconds": round(sequential, 3),
        "llm_abatch_seconds": round(llm_batch, 3),
        "classifier_abatch_seconds": round(classifier_batch, 3),
        "llm_ratio": round(sequential / llm_batch, 1),
        "classifier_ratio": round(sequential / classifier_batch, 1),
    }


def main() -> None:
    """Run and record."""
    takes_no_arguments(__doc__)
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # ours
        assert server.stdout is not None
        figures = asyncio.run(measure(server.stdout.readline().strip()))
        server.communicate("\n")
    print(figures)
    write("concurrency", figures, prompts=PROMPTS, latency_seconds=LATENCY, in_flight=IN_FLIGHT)


if __name__ == "__main__":
    main()
