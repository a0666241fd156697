"""A long run with a ledger: rows a second beside `abatch` without one, and the most memory that it takes.

`astream_rows` gets its rows from a generator; a tenth of them have been there before. After some of the blocks the run
is held, and `abatch` classifies the rows of that block: both figures are of the same minutes, whatever else the machine
does then. Five to forty minutes.

    python benchmarks/ledger.py [--rows 1000000] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from instant_server import cpu_seconds, instant_server
from overhead_clients import ANSWER, IN_FLIGHT, classifier, peak_bytes
from record import write

from langchain_stormtrooper import Ledger, ZeroShotClassifier

BLOCK, COMPARED, SEED = 20_000, 10, 7919


def text_of(number: int) -> str:
    """The text of a row; every tenth row has that of an earlier one of its block."""
    if number % 10 == 9:
        start = number - number % BLOCK
        number = start + number * SEED % (number - start) // 10 * 10
    return f"Parliament has debated bill number {number} today."


class Times(NamedTuple):
    """Wall seconds, and CPU seconds of all threads of this process."""

    wall: float
    cpu: float


@contextmanager
def timed(times: list[Times]) -> Iterator[None]:
    """Add the times of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    times.append(Times(time.perf_counter() - wall, time.process_time() - cpu))


class Run(NamedTuple):
    """What was measured.

    Attributes:
        streamed: The times of each block.
        batches: Those of `abatch` for the same rows, where it was asked for them.
        grown: Bytes by which the process grew at its peak.
    """

    streamed: list[Times]
    batches: list[Times | None]
    grown: int


async def compare(task: ZeroShotClassifier, rows: int, path: Path) -> Run:
    """Run, with `abatch` in between."""
    assert await task.abatch([f"Text {number}." for number in range(IN_FLIGHT)]) == [ANSWER] * IN_FLIGHT
    gc.collect()
    before = peak_bytes()
    blocks = rows // BLOCK
    every = max(1, blocks // COMPARED)
    streamed: list[Times] = []
    batches: list[Times | None] = []
    seen = bytearray(rows)
    answers = task.astream_rows((text_of(number) for number in range(rows)), ledger=path)
    for block in range(blocks):
        with timed(streamed):
            for _ in range(BLOCK):
                row = await anext(answers)
                assert (row.row, row.label) == (text_of(row.index), ANSWER)
                seen[row.index] += 1
        if block % every:
            batches.append(None)
            continue
        texts = [text_of(number) for number in range(block * BLOCK, (block + 1) * BLOCK)]
        batch: list[Times] = []
        with timed(batch):
            assert await task.abatch(texts) == [ANSWER] * BLOCK
        batches += batch
        print(block, streamed[-1], batch[0], file=sys.stderr, flush=True)
    assert await anext(answers, None) is None
    assert seen == bytes([1]) * rows
    return Run(streamed, batches, peak_bytes() - before)


def measure(url: str, rows: int, path: Path) -> dict[str, Any]:
    """All figures of one run."""
    server = cpu_seconds(url)
    streamed, batches, grown = asyncio.run(compare(classifier(url), rows, path))
    server = cpu_seconds(url) - server
    pairs = [(one, other) for one, other in zip(streamed, batches, strict=True) if other is not None]
    with Ledger(path) as ledger:
        kept = len(ledger)
    return {
        "rows": rows,
        "different_rows": kept,
        "rows_per_second": round(rows / sum(block.wall for block in streamed)),
        "cpu_microseconds_per_row": round(sum(block.cpu for block in streamed) / rows * 1e6, 1),
        "peak_megabytes_above_start": round(grown / 1e6, 1),
        "ledger_megabytes": round(path.stat().st_size / 1e6, 1),
        "abatch_rows_per_second": round(BLOCK / statistics.median(batch.wall for _, batch in pairs)),
        "abatch_cpu_microseconds_per_row": round(statistics.median(batch.cpu for _, batch in pairs) / BLOCK * 1e6, 1),
        "ratio_to_abatch": round(statistics.median(batch.wall / block.wall for block, batch in pairs), 3),
        "ratio_of_each_round": [round(batch.wall / block.wall, 3) for block, batch in pairs],
        "cpu_ratio_to_abatch": round(statistics.median(batch.cpu / block.cpu for block, batch in pairs), 3),
        "server_cpu_microseconds_per_request": round(server / (kept + len(pairs) * BLOCK * 0.9) * 1e6, 1),
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000, help=f"a multiple of {BLOCK}")
    parser.add_argument("--folder", help="where the ledger is made; its disk is part of what is measured")
    given = parser.parse_args()
    if given.rows < BLOCK or given.rows % BLOCK:
        parser.error(f"--rows must be a multiple of {BLOCK}")
    with instant_server() as url, tempfile.TemporaryDirectory(dir=given.folder) as folder:
        figures = measure(url, given.rows, Path(folder) / "run.sqlite")
    print(json.dumps(figures, indent=1))
    write(
        "ledger",
        figures,
        in_flight=IN_FLIGHT,
        block=BLOCK,
        seed=SEED,
        notes=[
            "The server answers at once with the same answer; it is a process of its own, on the same cores.",
            "A round is one block of the run, then `abatch` without a ledger for the same rows; ratios are of rows per "
            "second (or of CPU per row), and medians of the rounds. A tenth of each block's texts are equal to others "
            "of it, so that both ask for the same number of rows.",
            "Peak memory is that of the whole process, `abatch` included, beyond what it had when 64 rows were "
            "answered.",
        ],
    )


if __name__ == "__main__":
    main()
