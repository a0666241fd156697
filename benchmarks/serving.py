"""What `langchain-stormtrooper serve` costs: p99 and requests a second beside its bare back end, and its memory.

All in one run: the back end answers at once and is a process of its own, as is the app; one load generator asks both,
64 requests at once, and rounds alternate. Memory is looked at after every 2,000 requests. About two minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
from instant_server import instant_server
from record import takes_no_arguments, write

AT_ONCE, ROUNDS, REQUESTS, LOOK_EVERY = 64, 5, 4_000, 2_000
MANY_TEXTS, MANY_REQUESTS = 1_000, 10
LABELS = ("politics", "science", "other")


@dataclass
class Load:
    """What a load generator saw.

    Attributes:
        statuses: How often each status came.
        seconds: Seconds that each answered request took.
        took: Seconds of all of it.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    took: float = 0.0

    def figures(self) -> dict[str, float]:
        """Requests a second and milliseconds of a request."""
        cuts = statistics.quantiles(self.seconds, n=100)
        return {
            "requests_per_second": len(self.seconds) / self.took,
            "p50_milliseconds": 1000 * cuts[49],
            "p99_milliseconds": 1000 * cuts[98],
        }


async def generate_load(url: str, bodies: Iterator[bytes], at_once: int) -> Load:
    """POST bodies, so many at once, each when there is an answer to one before."""
    load = Load()
    headers = {"Content-Type": "application/json"}

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            started = time.perf_counter()
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
            load.statuses[answer.status] += 1
            load.seconds.append(time.perf_counter() - started)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(worker(session) for _ in range(at_once)))
        load.took = time.perf_counter() - started
    return load


@dataclass
class App:
    """The app as a process.

    Attributes:
        url: Its address.
        pid: Its process.
    """

    url: str
    pid: int

    def resident_bytes(self) -> int:
        """Memory that it holds (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return 1024 * int(found[1])

    def cpu_seconds(self) -> float:
        """CPU seconds that it has used (Linux)."""
        words = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(llm: str, *options: str) -> Iterator[App]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "langchain_stormtrooper.cli", "serve", "--llm", llm, "--port", "0"]
    command += ["--labels", ",".join(LABELS), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  # ours
        assert process.stderr is not None
        try:
            told = process.stderr.readline()
            assert told.startswith("Serving at "), told
            yield App(told.split()[-1], process.pid)
        finally:
            process.terminate()
            process.wait(60)


def one_text(start: int, number: int) -> Iterator[bytes]:
    """Bodies with a text each, all different."""
    return (
        json.dumps({"text": f"Text number {n} of a load generator."}).encode() for n in range(start, start + number)
    )


def generate(number: int) -> Iterator[bytes]:
    """Bodies as the app itself sends them to its back end."""
    body = {"inputs": "Text of a load generator. " * 8, "parameters": {"max_new_tokens": 16, "do_sample": False}}
    return (json.dumps(body).encode() for _ in range(number))


async def measure(backend: str, app: App) -> dict[str, Any]:
    """Rounds of both, then requests with many texts."""
    classify = f"{app.url}/classify"
    await generate_load(classify, one_text(0, 1_000), AT_ONCE)
    bare: list[dict[str, float]] = []
    served: list[dict[str, float]] = []
    memory = [app.resident_bytes()]
    asked = 1_000
    cpu = 0.0
    for _ in range(ROUNDS):
        bare.append((await generate_load(f"{backend}/generate", generate(REQUESTS), AT_ONCE)).figures())
        before = app.cpu_seconds()
        for _ in range(REQUESTS // LOOK_EVERY):
            load = await generate_load(classify, one_text(asked, LOOK_EVERY), AT_ONCE)
            assert set(load.statuses) == {200}, load.statuses
            served.append(load.figures())
            memory.append(app.resident_bytes())
            asked += LOOK_EVERY
        cpu += app.cpu_seconds() - before
    texts = [f"Text {n} of many." for n in range(MANY_TEXTS)]
    many = [json.dumps({"texts": [f"{n}: {text}" for text in texts]}).encode() for n in range(MANY_REQUESTS)]
    load = await generate_load(classify, iter(many), 4)
    return {
        "bare": middle(bare),
        "app": middle(served),
        "requests": REQUESTS * ROUNDS,
        "in_flight": AT_ONCE,
        "app_cpu_microseconds_per_request": round(1e6 * cpu / (REQUESTS * ROUNDS)),
        "app_megabytes": [round(size / 2**20, 1) for size in memory],
        "many": {
            "texts_per_request": MANY_TEXTS,
            "rows_per_second": round(MANY_TEXTS * MANY_REQUESTS / load.took),
        },
    }


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(one[name] for one in rounds), 2) for name in rounds[0]}


def main() -> None:
    """Measure and write the result."""
    takes_no_arguments(__doc__)
    with instant_server() as backend, serving(backend, "--method", "generate") as app:
        figures = asyncio.run(measure(backend, app))
    print(json.dumps(figures, indent=2))
    write("serving", figures, served_by={name: version(name) for name in ("fastapi", "starlette", "uvicorn", "h11")})


if __name__ == "__main__":
    main()
