"""The name by which calibrations and presets know a model file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from langchain_stormtrooper import LlamaCpp
from langchain_stormtrooper.errors import ConfigurationError, ModelFileError
from langchain_stormtrooper.presets import choose_preset


def model_id(path: Path) -> str:
    """What `LlamaCpp` calls the model in a file."""
    name = asyncio.run(LlamaCpp(model_path=path).amodel_id())
    assert name is not None
    return name


def write(directory: Path, content: bytes | bytearray, name: str = "SmolLM2-135M.gguf") -> Path:
    """A file of that content."""
    directory.mkdir()
    (directory / name).write_bytes(content)
    return directory / name


@pytest.mark.parametrize("place", [0, 100_000, -1])
def test_files_of_the_same_name_are_told_apart(tmp_path: Path, place: int) -> None:
    """Models that differ in size, or at the start or end of the file, have own names, wherever they lie."""
    content = bytearray(200_000)
    first, again = write(tmp_path / "a", content), write(tmp_path / "b", content)
    longer = write(tmp_path / "c", content + b"\0")
    content[place] = 1
    other = write(tmp_path / "d", content)
    assert model_id(first) == model_id(again) != model_id(longer)
    # Only the ends are read: what lies between them would take seconds on large files.
    assert (model_id(first) == model_id(other)) == (place == 100_000)


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 100_000])
def test_files_of_any_size_have_a_name(tmp_path: Path, size: int) -> None:
    """Files shorter than what is read of them are no trouble."""
    assert model_id(write(tmp_path / "a", bytes(size))).startswith(f"SmolLM2-135M.gguf ({size}, ")


@pytest.mark.parametrize("name", ["SmolLM2-135M.gguf", "Qwen3-4B.gguf", "model.gguf"])
def test_the_preset_follows_the_name_alone(tmp_path: Path, name: str) -> None:
    """Whatever the sum over the file is, it is no size and no family of models."""
    for number in range(50):
        found = model_id(write(tmp_path / str(number), bytes([number]), name))
        assert choose_preset(found, renders_chat=True) == choose_preset(name, renders_chat=True)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    """A file that is not there has no name, and the error says what to correct."""
    with pytest.raises(ModelFileError, match="correct `model_path=`"):
        model_id(tmp_path / "absent.gguf")


def test_a_file_of_the_hub_goes_by_its_place_there() -> None:
    """A file that is fetched is named without being there, and not together with one that is."""
    assert asyncio.run(LlamaCpp(repo_id="org/repo", filename="model.gguf").amodel_id()) == "org/repo/model.gguf"
    with pytest.raises(ConfigurationError, match="Give either `model_path` or `repo_id`"):
        LlamaCpp(model_path="other.gguf", repo_id="org/repo", filename="model.gguf")


def test_a_file_is_read_once_for_its_name(tmp_path: Path) -> None:
    """What an LLM has called its model, it goes on calling it."""
    path = write(tmp_path / "a", b"one")
    llm = LlamaCpp(model_path=path)
    first = asyncio.run(llm.amodel_id())
    path.write_bytes(b"another")
    assert asyncio.run(llm.amodel_id()) == first != model_id(path)
