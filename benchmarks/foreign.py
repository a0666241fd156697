"""`HuggingFaceEndpoint` as a classifier's LLM against its own `abatch`: 200 rows at 50 ms each, in one run.

The server is the package's own, in a process of its own. Half a minute.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from importlib.metadata import version

from concurrency import LATENCY, PROMPTS, SERVER
from langchain_huggingface import HuggingFaceEndpoint
from record import takes_no_arguments, write

from langchain_stormtrooper import ZeroShotClassifier
from langchain_stormtrooper.llms.foreign import CONCURRENCY


async def measure(url: str) -> dict[str, float]:
    """Seconds for each way."""
    llm = HuggingFaceEndpoint(model=url, max_new_tokens=16)
    classifier = ZeroShotClassifier(labels=["politics", "science", "other"], llm=llm)
    texts = [f"text number {number}" for number in range(PROMPTS)]
    async with llm.async_client:
        # Connections and TLS settings are made before either is measured.
        await llm.ainvoke("warm up")
        await classifier.ainvoke("warm up")
        started = time.perf_counter()
        assert await classifier.abatch(list(texts)) == ["politics"] * PROMPTS
        rows = time.perf_counter() - started
        started = time.perf_counter()
        assert len(await llm.abatch(list(texts))) == PROMPTS
        own = time.perf_counter() - started
    return {
        "own_abatch_seconds": round(own, 3),
        "classifier_abatch_seconds": round(rows, 3),
        "ratio": round(own / rows, 1),
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
    write(
        "foreign",
        figures,
        prompts=PROMPTS,
        latency_seconds=LATENCY,
        in_flight=CONCURRENCY,
        langchain_huggingface=version("langchain-huggingface"),
    )


if __name__ == "__main__":
    main()
