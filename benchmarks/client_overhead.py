"""What clients cost: rows a second, CPU and memory a row, against a server that answers at once.

All in one run: every measurement is a process of its own (`overhead_clients.py`), clients alternate within a round and
the rounds go back and forth. The original stormtrooper's TGI module comes from its wheel, without its dependencies.
Four minutes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instant_server import cpu_seconds, instant_server
from record import takes_no_arguments, write

ROUNDS, IN_FLIGHT = 5, 64
# HuggingFaceEndpoint sends one request after another; the original opens all rows' tasks at once.
ROWS = {"bare": 10_000, "classifier": 10_000, "traced": 10_000, "chain": 10_000, "endpoint": 1_000, "original": 2_000}
REQUESTS_IN_FLIGHT = {**dict.fromkeys(ROWS, IN_FLIGHT), "endpoint": 1, "original": 100}
GROWTH = (1_000, 10_000, 100_000)
GROWTH_ROUNDS = 3
STORMTROOPER = "stormtrooper==1.0.1"


def run(client: str, url: str, rows: int, *further: str) -> dict[str, float]:
    """Measure one client in a fresh process, and what the server did meanwhile."""
    script = str(Path(__file__).parent / "overhead_clients.py")
    before = cpu_seconds(url)
    command = [sys.executable, script, client, url, str(rows), *further]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  # ours
    figures: dict[str, float] = json.loads(done.stdout)
    return {**figures, "server_cpu_seconds": cpu_seconds(url) - before, "rows_per_second": rows / figures["seconds"]}


@contextmanager
def original_module() -> Iterator[str]:
    """The original's TGI module, as a file."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
        subprocess.run([*pip, STORMTROOPER], check=True)  # noqa: S603  # fixed and pinned
        path = Path(folder) / "text_gen_inference.py"
        with zipfile.ZipFile(next(Path(folder).glob("stormtrooper-*.whl"))) as wheel:
            path.write_bytes(wheel.read("stormtrooper/text_gen_inference.py"))
        yield str(path)


def compare(url: str, module: str) -> dict[str, Any]:
    """All clients, several rounds."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    for number in range(ROUNDS):
        for name in [*ROWS] if number % 2 == 0 else reversed(ROWS):
            measured[name].append(run(name, url, ROWS[name], *([module] if name == "original" else [])))
            print(number, name, measured[name][-1], flush=True)
    bare = measured["bare"]
    return {
        name: {
            "rows": ROWS[name],
            "requests_in_flight": REQUESTS_IN_FLIGHT[name],
            "rows_per_second": round(median(rounds, "rows_per_second")),
            "ratio_to_bare": round(
                statistics.median(
                    one["rows_per_second"] / other["rows_per_second"] for one, other in zip(rounds, bare, strict=True)
                ),
                3,
            ),
            "cpu_microseconds_per_row": round(median(rounds, "cpu_seconds") / ROWS[name] * 1e6, 1),
            "server_cpu_microseconds_per_row": round(median(rounds, "server_cpu_seconds") / ROWS[name] * 1e6, 1),
            "rows_per_second_of_each_round": [round(one["rows_per_second"]) for one in rounds],
        }
        for name, rounds in measured.items()
    }


def grow(url: str) -> list[dict[str, Any]]:
    """The classifier with more and more rows."""
    measured: dict[int, list[dict[str, float]]] = {rows: [] for rows in GROWTH}
    for number in range(GROWTH_ROUNDS):
        for rows in GROWTH if number % 2 == 0 else reversed(GROWTH):
            measured[rows].append(run("classifier", url, rows))
            print(number, rows, measured[rows][-1], flush=True)
    return [
        {
            "rows": rows,
            "cpu_microseconds_per_row": round(median(rounds, "cpu_seconds") / rows * 1e6, 1),
            "peak_bytes_per_row": round(median(rounds, "bytes") / rows),
        }
        for rows, rounds in measured.items()
    ]


def median(rounds: list[dict[str, float]], key: str) -> float:
    """The median of one figure."""
    return statistics.median(one[key] for one in rounds)


def main() -> None:
    """Run everything and record it."""
    takes_no_arguments(__doc__)
    with instant_server() as url, original_module() as module:
        figures = {"clients": compare(url, module), "growth": grow(url)}
    print(json.dumps(figures, indent=1))
    write(
        "client_overhead",
        figures,
        rounds=ROUNDS,
        growth_rounds=GROWTH_ROUNDS,
        in_flight=IN_FLIGHT,
        original=STORMTROOPER,
        notes=[
            "Medians of the rounds; ratio_to_bare is the median of the rounds' ratios.",
            "HuggingFaceEndpoint.abatch sends one request after another and got fewer rows; the original has aiohttp's "
            "100 connections.",
            "Before each measurement the process has its inputs and has answered 64 rows: imports, connections and "
            "/info are in no figure. Peak memory is beyond that. The server's CPU includes those rows.",
        ],
    )


if __name__ == "__main__":
    main()
