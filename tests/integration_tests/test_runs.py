"""Runs against a real server: killed, their answers are an unbroken run's; long, they need no more memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from langchain_stormtrooper import Ledger, TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.errors import FailedRequestWarning, StormtrooperWarning
from langchain_stormtrooper.results import Reason
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

# The whole of it takes a minute: CI has a shorter run of the same.
KILLS, ROWS = (10, 5000) if os.environ.get("STORMTROOPER_LONG") == "1" else (4, 2000)
FAR = 20_000
WINDOW = 32
LABELS = ["sport", "politics", "science"]


def text_of(number: int) -> str:
    """A text; every tenth is one that has been there before, and some are not answered with a label."""
    kind = (number * 7919) % 1000 if number % 10 == 0 else number
    return f"report {kind}{' nobody knows' if kind % 97 == 0 else ''}"


def texts(rows: int = ROWS) -> Iterator[str]:
    """The rows of a run, one by one."""
    return (text_of(number) for number in range(rows))


def label_of(text: str) -> str | None:
    """The label that the model gives to a text."""
    return None if "nobody" in text else LABELS[int(text.split()[1]) % 3]


def engine() -> ScriptedEngine:
    """A model whose answer depends on the text alone."""

    def rule(prompt: str) -> str:
        text = prompt[prompt.rindex("report ") :]
        return f" {label_of(text) or 'hard to say'}"

    return ScriptedEngine(rule)


def classifier(url: str, prompt: str = "task") -> ZeroShotClassifier:
    """What a run classifies with."""
    llm = TextGenerationInference(base_url=url, max_concurrency=WINDOW, max_downtime=0)
    return ZeroShotClassifier(LABELS, llm=llm, method="generate", prompt=prompt)


def answers(url: str, path: Path, in_order: bool = False) -> list[tuple[int, str, str | None, str | None]]:
    """What a run says, in the order of its rows."""

    async def collect() -> list[tuple[int, str, str | None, str | None]]:
        rows = classifier(url).astream_rows(texts(), ledger=path, in_order=in_order)
        return sorted([(row.index, row.row, row.label, row.reason) async for row in rows])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StormtrooperWarning)
        return asyncio.run(collect())


async def work(url: str, path: str) -> None:
    """A run, in a process that is going to be killed; tells each row that is handed out."""
    async for row in classifier(url).astream_rows(texts(), ledger=path, window=WINDOW):
        sys.stdout.write(json.dumps([row.index, row.label, row.reason]) + "\n")
        sys.stdout.flush()


def start(url: str, path: Path) -> subprocess.Popen[bytes]:
    """Run `work` in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, "work", url, str(path)], stdout=subprocess.PIPE)


def killed_after(url: str, path: Path, fresh: int, moment: float) -> list[tuple[int, str | None, str | None]]:
    """What a run had handed out when it was killed: a moment after it had kept some more rows."""
    before = kept(path)
    process = start(url, path)
    assert process.stdout is not None
    told = []
    # The rows of earlier runs come first and cost nothing.
    while line := process.stdout.readline():
        told.append(json.loads(line))
        if len(told) % 64 == 0 and kept(path) - before >= fresh:
            break
    time.sleep(moment)
    process.kill()
    rest = process.communicate(timeout=30)[0]
    return told + [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]


def kept(path: Path) -> int:
    """Rows in the ledger."""
    if not path.exists():
        return 0
    # Read as it is: opening a ledger looks through all of it.
    with closing(sqlite3.connect(path, timeout=60)) as file:
        has_rows = file.execute("SELECT count(*) FROM sqlite_master WHERE name = 'rows'").fetchone()[0]
        return int(file.execute("SELECT count(*) FROM rows").fetchone()[0]) if has_rows else 0


def test_killed_again_and_again_the_answers_are_an_unbroken_runs(
    tgi_server: Callable[..., TGIServer], tmp_path: Path
) -> None:
    """With kill -9 at random moments: no row differs, and no more is asked for twice than was in flight."""
    server = tgi_server("3.3.7", engine(), record=0)
    expected = answers(server.url, tmp_path / "unbroken")
    unbroken = server.counters.by_route["/generate"]
    distinct = len(set(texts()))
    assert unbroken == distinct < ROWS
    server.reset()
    seed = random.SystemRandom().randrange(10**6)
    print(f"The moments come from seed {seed}.")  # noqa: T201  # shown where the test fails
    moments = random.Random(seed)
    path = tmp_path / "run"
    handed_out: dict[int, tuple[str | None, str | None]] = {}
    for _ in range(KILLS):
        told = killed_after(server.url, path, moments.randrange(distinct // 12), moments.random() * 0.02)
        handed_out |= {row: (label, reason) for row, label, reason in told}
        with Ledger(path) as ledger:
            # What came out is in the file: of equal texts, once.
            assert len(ledger) >= len({text_of(row) for row, *_ in told})
    before = kept(path)
    assert 0 < before < distinct
    assert answers(server.url, path) == expected
    assert all((expected[row][2:]) == said for row, said in handed_out.items())
    assert unbroken <= server.counters.by_route["/generate"] <= unbroken + KILLS * WINDOW
    # The file is whole, and a further run asks for nothing.
    server.reset()
    assert answers(server.url, path, in_order=True) == expected
    assert server.counters.by_route["/generate"] == 0


def test_a_server_that_goes_away_costs_no_answer(tgi_server: Callable[..., TGIServer], tmp_path: Path) -> None:
    """Rows that failed because the server was gone are asked for by the next run, the others are not."""
    server = tgi_server("3.3.7", engine(), record=0)
    path = tmp_path / "run"
    rows = [f"report {number}" for number in range(1, 90)]

    def until_closed() -> Iterator[str]:
        yield from rows[:50]
        while server.counters.by_route["/generate"] < 50:
            time.sleep(0.01)
        time.sleep(0.2)
        server.close()
        yield from rows[50:]

    with pytest.warns(FailedRequestWarning, match="39 of 89"):
        found = list(classifier(server.url).stream_rows(until_closed(), ledger=path, in_order=True))
    assert [row.reason for row in found] == [None] * 50 + [Reason.FAILED] * 39
    again = tgi_server("3.3.7", engine(), record=0)
    resumed = list(classifier(again.url).stream_rows(rows, ledger=path, in_order=True))
    assert [row.label for row in resumed] == [LABELS[number % 3] for number in range(1, 90)]
    assert again.counters.by_route["/generate"] == 39


def peak() -> int:
    """The most memory that this process has had, in KiB; `getrusage` would tell of the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


async def go_far(url: str, path: str) -> None:
    """A long run, in a process whose memory is its own; tells its rows, and by how much it grew."""
    seen = bytearray(FAR)
    gc.collect()
    peaks = []
    warnings.simplefilter("ignore", StormtrooperWarning)
    # A short prompt: most of the time is the server's.
    async for row in classifier(url, "{text}\nAnswer:").astream_rows(texts(FAR), ledger=path):
        assert (row.row, row.label) == (text_of(row.index), label_of(row.row))
        seen[row.index] += 1
        if row.index % (FAR // 4) == 0:
            peaks.append(peak())
    json.dump({"once": seen.count(1), "peaks": [*peaks, peak()]}, sys.stdout)


def serve() -> None:
    """The server, until there is a line to be read; tells its URL, then the requests that it has had."""
    with TGIServer("3.3.7", engine(), record=0) as server:
        print(server.url, flush=True)  # noqa: T201  # for the process that has started it
        sys.stdin.readline()
        print(server.counters.by_route["/generate"])  # noqa: T201


@contextmanager
def server_apart(requests: list[int]) -> Iterator[str]:
    """`serve` in a process of its own; its requests are there when it has ended."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            requests.append(int(server.communicate("\n", timeout=30)[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_long_run_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    """Of 20,000 rows each has its answer, equal texts are asked for once, and memory stays what it was early on."""
    requests: list[int] = []
    with server_apart(requests) as url:
        command = [sys.executable, __file__, "go_far", url, str(tmp_path / "run")]
        told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert told["once"] == FAR
    assert requests == [len(set(texts(FAR)))] == [kept(tmp_path / "run")]
    # 15,000 rows that are held take more than twice as much, in KiB.
    assert told["peaks"][-1] - told["peaks"][1] < 6000


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        asyncio.run({"work": work, "go_far": go_far}[sys.argv[1]](*sys.argv[2:]))
