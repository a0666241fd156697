"""The command line as a process of its own: against a TGI server, without one, and with the embedded model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper.testing import ScriptedEngine, TGIServer, when_contains

COMMAND = [sys.executable, "-m", "langchain_stormtrooper.cli"]
ENGINE = {"jazz": " music", "rain": " weather"}
SENTENCE = "It is the Electoral College's responsibility to elect the president."


def _environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TGI_")}
    return {**kept, **variables}


def _classify(*arguments: str, **variables: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, rows and standard error of `classify`."""
    done = subprocess.run(
        [*COMMAND, "classify", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=_environment(**variables),
        timeout=120,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_no_server() -> None:
    """Without a server the command ends with 4 and one sentence that says what to do."""
    code, rows, told = _classify("jazz", "--labels", "music,weather", "--llm", "http://127.0.0.1:9")
    assert (code, rows) == (4, [])
    assert told.count("\n") == 1
    assert "start Text Generation Inference there, or set --llm" in told


@pytest.mark.parametrize(("key", "code"), [("key-17", 0), ("key-18", 4)])
def test_the_key_comes_from_the_environment(key: str, code: int) -> None:
    """The right key is sent; a wrong one ends the command with 4 and a sentence that does not show it."""
    with TGIServer("2.3.0", ScriptedEngine(when_contains(ENGINE)), api_key="key-17") as server:
        found, _, told = _classify("jazz", "--labels", "music,weather", TGI_API_KEY=key, TGI_BASE_URL=server.url)
    assert found == code
    assert ("set the environment variable TGI_API_KEY" in told) == (code == 4)
    assert "Traceback" not in told
    assert key not in told


def test_an_overlong_row_has_no_label_and_its_neighbours_do(tmp_path: Path) -> None:
    """A text that the server refuses as too long is null with its reason, and the exit code is 3."""
    path = tmp_path / "texts.txt"
    path.write_text("jazz\n" + "rain " * 2000 + "\nrain\n")
    with TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE)), max_input_tokens=300) as server:
        code, rows, told = _classify("-i", str(path), "--labels", "music,weather", "--llm", server.url)
    assert code == 3
    assert [(row["label"], row.get("reason")) for row in rows] == [
        ("music", None),
        (None, "overlong"),
        ("weather", None),
    ]
    assert "3 rows: 2 labelled, 1 without a label (1 overlong)" in told
    assert "Warning" not in told


def test_rows_are_in_flight_together(tmp_path: Path) -> None:
    """Many rows of a slow server keep their order, and as many as asked for are worked on at once."""
    path = tmp_path / "texts.txt"
    texts = [f"{word} {n}" for n in range(60) for word in ("jazz", "rain")]
    path.write_text("\n".join(texts))
    with TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE)), latency_per_request=0.05) as server:
        code, rows, _ = _classify(
            "-i", str(path), "--labels", "music,weather", "--llm", server.url, "--max-concurrency", "20"
        )
        assert 10 < server.peak_permits <= 20
    assert code == 0
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == ["music", "weather"] * 60


def test_every_piped_text_is_answered_when_it_comes() -> None:
    """A text's answer does not wait for the next text; the end of the pipe ends the command."""
    with (
        TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE))) as server,
        subprocess.Popen(
            [*COMMAND, "classify", "--labels", "music,weather", "--llm", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for text, label in (("jazz", "music"), ("rain", "weather")):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == label
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`| head -1` ends the command quietly, with 141 as the shell's own tools do."""
    path = tmp_path / "texts.txt"
    path.write_text("jazz\n" * 2000)
    with (
        TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE)), latency_per_request=0.01) as server,
        subprocess.Popen(
            [*COMMAND, "classify", "-q", "-i", str(path), "--labels", "music,weather", "--llm", server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["label"] == "music"
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr.read() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for single processes")
def test_an_interrupt_ends_with_what_was_done() -> None:
    """Ctrl-C while standard input is awaited tells what was done and ends with 130, without a traceback."""
    # Children inherit it when Ctrl-C is ignored, as it is for tests in the background of a shell.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        TGIServer("3.3.7", ScriptedEngine(when_contains(ENGINE))) as server,
        subprocess.Popen(
            [*COMMAND, "classify", "--labels", "music,weather", "--llm", server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("jazz\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        told = process.stderr.read()
    signal.signal(signal.SIGINT, before)
    assert told.startswith("1 row: 1 labelled")
    assert told.endswith("Interrupted.\n")


def test_a_model_file_that_is_not_there() -> None:
    """A .gguf file that does not exist ends the command with 4 and one sentence."""
    code, _, told = _classify("jazz", "--labels", "music,weather", "--llm", "absent.gguf")
    assert code == 4
    assert told == "Error: There is no model file absent.gguf: correct --llm.\n"


def test_help_is_quick() -> None:
    """The help does not load what classifying needs."""
    program = (
        "import sys; from langchain_stormtrooper import cli; "
        "print([name for name in ('langchain_core', 'aiohttp', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stand_in_server_serves() -> None:
    """`dev-server` prints its address, answers there, and ends when it is told to."""
    with subprocess.Popen([*COMMAND, "dev-server", "--answer", " music"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            code, rows, _ = _classify("anything", "--labels", "music,weather", "--llm", url)
        finally:
            process.send_signal(signal.SIGTERM)
        assert (code, rows[0]["label"]) == (0, "music")
        assert process.wait(timeout=30) == 0


def test_the_embedded_model_knows_politics() -> None:
    """The sentence of the README is politics, with probabilities of every label that sum to one."""
    pytest.importorskip("xllamacpp")
    code, rows, told = _classify(SENTENCE, "--labels", "politics,science,other", "--llm", "embedded")
    assert code == 0, told
    assert rows[0]["label"] == "politics"
    assert list(rows[0]["probabilities"]) == ["politics", "science", "other"]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
