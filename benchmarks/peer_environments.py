"""The peers' own virtual environments: what each needs, pinned; made once, and again where a pin has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TRANSFORMERS = ["torch==2.13.0+cpu", "transformers==4.57.1", "gguf==0.17.1", "accelerate==1.10.1"]
"""For peers that load the model themselves. PyTorch's CPU build must come from an index that has it."""

ENVIRONMENTS: dict[str, list[list[str]]] = {
    # Its own requirements are torch, transformers, datasets and more, of which its TGI module imports none.
    "original": [
        ["aiohttp==3.13.2", "numpy==1.26.4", "scikit-learn==1.7.2", "thefuzz==0.18.0"],
        ["--no-deps", "stormtrooper==1.0.1"],
    ],
    "endpoint": [["langchain-huggingface==1.2.3"]],
    "scikit-llm": [["scikit-llm==1.4.3"]],
    "dspy": [["dspy==3.4.1"]],
    "outlines": [["outlines==1.3.3", "openai==3.57.0"]],
    "skorch": [["skorch==1.4.0", *TRANSFORMERS]],
    "cappr": [["cappr==0.9.6", "numpy==1.26.4", "openai==3.57.0", "tiktoken==0.14.0", *TRANSFORMERS]],
}
"""What is installed for a peer, in one or two steps; the rest is what these require."""

PACKAGES = {"original": "stormtrooper", "endpoint": "langchain-huggingface"}
"""A peer's package, where it has another name."""


def python_of(peer: str, folder: Path) -> str:
    """The Python of a peer's environment, which is made if it is not there.

    Args:
        peer: The peer.
        folder: Where environments are kept.
    """
    home = folder / peer
    python, done = home / "bin" / "python", home / "pins.json"
    wanted = json.dumps(ENVIRONMENTS[peer])
    if not done.exists() or done.read_text() != wanted:
        print(f"making an environment for {peer}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)  # noqa: S603  # ours
        for packages in ENVIRONMENTS[peer]:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-compile", *packages], check=True)  # noqa: S603
        done.write_text(wanted)
    return str(python)


def version_of(peer: str, python: str) -> str:
    """The version of a peer's package in its environment."""
    ask = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    package = PACKAGES.get(peer, peer)
    got = subprocess.run([python, "-c", ask, package], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return f"{package}=={got.stdout.strip()}"
