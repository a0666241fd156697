"""What an LLM said, kept in a file, so that a long run can go on after an interruption; used by the benchmarks."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr
from typing_extensions import override

from langchain_stormtrooper import LlamaCpp, OpenAICompletions
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.scoring import LabelScores

_SAVED_AFTER = 250
"""Scores after which they are saved."""


def options(description: str | None, texts: int) -> argparse.ArgumentParser:
    """The options of a benchmark that asks about labelled texts, with so many test texts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with the .jsonl files")
    parser.add_argument("--texts", type=int, default=texts, help="test texts; fewer are not recorded")
    parser.add_argument("--keep", type=Path, help="file for what the model said, to go on from after an interruption")
    return parser


class Kept:
    """What was asked, in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.content: dict[str, Any] = {"original": {}, "scores": {}}
        if path is not None and path.exists():
            self.content = json.loads(path.read_text(encoding="utf-8"))

    def save(self) -> None:
        """Write the file."""
        if self._path is not None:
            self._path.write_text(json.dumps(self.content), encoding="utf-8")


class Remembering(SelfHostedLLM):
    """Scores a prompt once; what it learns is saved now and then, if there is something to save it with."""

    _kept: Kept | None = PrivateAttr(default=None)
    _scored: dict[str, Any] = PrivateAttr(default_factory=dict)
    _seconds: float = PrivateAttr(default=0.0)

    @classmethod
    def keeping(cls, kept: Kept, **settings: Any) -> Self:
        """An LLM that goes on from what is kept there, and keeps there what it learns."""
        llm = cls(**settings)
        llm._kept, llm._scored = kept, kept.content["scores"]
        return llm

    def keep(self) -> None:
        """Write what it knows, if there is a file for it."""
        if self._kept is not None:
            self._kept.save()

    @override
    async def ascore_row(self, prompt: Prompt, answers: tuple[str, ...]) -> LabelScores:
        key = hashlib.sha256(json.dumps([str(prompt), answers]).encode()).hexdigest()
        if key not in self._scored:
            started = time.process_time()
            scores = await super().ascore_row(prompt, answers)
            # So many are worked on at once, and each sees what all of them take.
            took = (time.process_time() - started) / self.concurrency
            self._scored[key] = [scores.probabilities, scores.prompt_tokens, scores.generated_tokens, took]
            if len(self._scored) % _SAVED_AFTER == 0:
                self.keep()
        probabilities, prompt_tokens, generated_tokens, took = self._scored[key]
        self._seconds += took
        return LabelScores(tuple(probabilities), None, prompt_tokens, generated_tokens)

    def spent(self) -> float:
        """CPU seconds of this process for the rows since the last call, as they took when they were asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class RememberingLlamaCpp(Remembering, LlamaCpp):
    """The engine in this process, on one thread."""

    n_threads: int = 1
    n_parallel: int = 1


class RememberingCompletions(Remembering, OpenAICompletions):
    """A server."""
