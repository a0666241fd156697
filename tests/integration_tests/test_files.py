"""`classify in.parquet -o out.parquet` as a process of its own: broken off, out of space, looked at first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper import Ledger
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COMMAND = [sys.executable, "-m", "langchain_stormtrooper.cli", "classify", "--labels", "music,weather"]
ROWS = 900


@pytest.fixture
def server(tgi_server: Callable[..., TGIServer]) -> TGIServer:
    """A server that takes a moment for each row."""
    engine = ScriptedEngine(when_contains({"jazz": " music", "rain": " weather"}))
    return tgi_server("3.3.7", engine, latency_per_request=0.03, max_input_tokens=200, record=0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Different texts, of which one is too long and one is none."""
    texts = [f"{'jazz' if n % 2 else 'rain'} {n}" for n in range(ROWS - 2)]
    parquet.write_table(
        arrow.table({"id": range(ROWS), "text": [*texts, "rain " * 999, None]}), tmp_path / "in.parquet"
    )
    return tmp_path / "in.parquet"


def start(*arguments: Any, **given: Any) -> subprocess.Popen[str]:
    """Start the command."""
    left_out = ("TGI_", "COVERAGE_") if "before" in given else "TGI_"  # where space is short, no measurement has any
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Children inherit it when Ctrl-C is ignored, as it is for tests in the background of a shell.
        preexec_fn=given.get("before", lambda: signal.signal(signal.SIGINT, signal.default_int_handler)),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, told = process.communicate(timeout=120)
    return process.returncode, out, told


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals for single processes")
def test_a_run_that_is_broken_off_goes_on(server: TGIServer, source: Path, tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end it cleanly with 130 and say how it goes on; the end is that of an unbroken run."""
    output, ledger = tmp_path / "out.parquet", tmp_path / "run.sqlite"
    output.write_text("precious")
    arguments = (source, "-o", output, "--ledger", ledger, "--llm", server.url)
    sending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under `nohup`, which the command heeds
        sending.append(signal.SIGHUP)
    for number, sent in enumerate(sending, 1):
        process = start(*arguments)
        wait_for(lambda number=number: server.counters.by_route["/generate"] > 200 * number)  # type: ignore[misc]
        process.send_signal(sent)
        code, _, told = finish(process)
        assert code == 130, told
        assert f"of {ROWS:,} rows are done, and answers are kept in {ledger}: the same command goes on" in told
        assert told.endswith("Interrupted.\n")
        assert "Traceback" not in told
        assert output.read_text() == "precious"
    with Ledger(ledger) as opened:
        kept = len(opened)
    assert kept >= 250
    server.reset()
    code, _, told = finish(start(*arguments))
    assert code == 3, told
    assert f"{ROWS:,} rows: {ROWS - 2:,} labelled, 2 without a label (1 " in told
    assert "tokens/s" in told
    assert server.counters.by_route["/generate"] <= ROWS - kept + 50
    rows = parquet.read_table(output).to_pylist()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["label"] for row in rows] == [*(("weather", "music")[n % 2] for n in range(ROWS - 2)), None, None]
    assert [row["reason"] for row in rows[-2:]] == ["overlong", "failed"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.parquet", "out.parquet", "run.sqlite"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_without_space_loses_nothing(server: TGIServer, source: Path, tmp_path: Path) -> None:
    """What cannot be written ends the run with a sentence; an older output stays, and what was answered is kept."""
    import resource

    output = tmp_path / "out.jsonl"
    output.write_text("precious")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    code, _, told = finish(start(source, "-o", output, "--llm", server.url, before=limit))
    assert code == 1
    assert "Traceback" not in told
    assert told.splitlines()[-1] == "Error: File too large."
    lines = (tmp_path / "out.partial.jsonl").read_text().splitlines()
    assert f"{len(lines)} of {ROWS:,} rows are done, and left in {tmp_path / 'out.partial.jsonl'}; the others" in told
    assert [json.loads(line)["id"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 100
    assert output.read_text() == "precious"


def test_a_dry_run_tells_what_is_to_come(server: TGIServer, source: Path, tmp_path: Path) -> None:
    """Rows, tokens by the server's own count, the overlong text and the time; nothing is written or kept."""
    ledger = tmp_path / "run.sqlite"
    code, out, told = finish(start(source, "--dry-run", "--llm", server.url, "--ledger", ledger))
    assert (code, told) == (0, "")
    lines = dict(line.rstrip().split("  ", 1) for line in out.splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines["rows"] == f"{ROWS:,}"
    assert lines["without a text"].startswith("1 ")
    assert lines["different texts"].startswith(f"{ROWS - 1:,} ")
    assert lines["to be asked"] == f"{ROWS - 1:,}"
    assert lines["prompt tokens"].endswith("(counted by the model's tokenizer)")
    assert lines["too long"] == "1 (counted by the model's tokenizer)"
    assert lines["time"].startswith("about 0:0")
    assert server.counters.by_route["/generate"] < 150
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.parquet"]
