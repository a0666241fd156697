"""The original stormtrooper's way, its prompt taken from its wheel: used by the benchmarks that compare with it."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kept import Kept
from rapidfuzz import fuzz, process, utils

from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.tasks import run_all

STORMTROOPER = "stormtrooper==1.0.1"


def original_prompt() -> str:
    """The original's default prompt for TGI, out of its wheel."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
        subprocess.run([*pip, STORMTROOPER], check=True)  # noqa: S603  # fixed and pinned
        with zipfile.ZipFile(next(Path(folder).glob("stormtrooper-*.whl"))) as wheel:
            module = ast.parse(wheel.read("stormtrooper/text_gen_inference.py"))
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "default_prompt":
            return str(ast.literal_eval(node.value))
    raise ValueError("the wheel has no default prompt")


def original_parts(template: str, labels: Sequence[str]) -> tuple[str, str]:
    """What stands before and after a text in the original's prompt."""
    head, tail = template.replace("{classes}", ", ".join(f"'{label}'" for label in labels)).split("{X}")
    return head, tail


def ask_original(
    llm: SelfHostedLLM,
    template: str,
    labels: Sequence[str],
    texts: Sequence[str],
    done: dict[str, Any],
    kept: Kept,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Generate what the original would have generated, text by text: the answer, its tokens and seconds."""
    head, tail = original_parts(template, labels)

    async def ask(text: str) -> None:
        started = clock()
        generated = await llm.agenerate_row(Prompt(head=head, text=text, tail=tail), max_new_tokens=256)
        took = (clock() - started) / llm.concurrency
        done[text] = [generated.text, generated.generated_tokens, took]
        if len(done) % 20 == 0:
            kept.save()

    asyncio.run(run_all(ask, [text for text in dict.fromkeys(texts) if text not in done], llm.concurrency))


def nearest(answer: str, labels: Sequence[str]) -> str:
    """The original's match: the label itself, or the one with the best fuzzy score, however low."""
    answer = answer.strip()
    if answer in labels:
        return answer
    return str(process.extractOne(answer, labels, scorer=fuzz.WRatio, processor=utils.default_process)[0])
