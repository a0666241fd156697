"""The command `evaluate` as a process of its own, with the embedded model and real texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from langchain_stormtrooper.evaluation import Evaluation

DATA = Path(__file__).parent.parent / "data" / "snips.jsonl"


def test_the_embedded_model_on_commands(tmp_path: Path) -> None:
    """Better than chance, with probabilities, figures and numbers that agree with each other."""
    output = tmp_path / "result.json"
    arguments = [DATA, "--split", "test", "--limit", "28", "--seed", "0", "--output", output, "--plots", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "langchain_stormtrooper.cli", "evaluate", *map(str, arguments)]
        + ["--text-kind", "command", "--label-kind", "intent", "--format", "table"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    evaluation = Evaluation.load(output)
    assert (evaluation.rows, len(evaluation.labels)) == (28, 7)
    assert evaluation.accuracy >= 0.4
    assert evaluation.accuracy == sum(evaluation.confusion[n][n] for n in range(7)) / 28
    assert evaluation.accuracy_interval is not None
    assert evaluation.accuracy_interval[0] < evaluation.accuracy < evaluation.accuracy_interval[1]
    assert evaluation.methods == {"score": 28}
    assert evaluation.risk_coverage is not None
    assert evaluation.risk_coverage.points[-1].coverage == 1
    assert evaluation.risk_coverage.points[-1].error == pytest.approx(1 - evaluation.accuracy)
    assert evaluation.reliability is not None
    assert sum(b.rows for b in evaluation.reliability) == 28
    assert evaluation.prompt_tokens is not None
    assert evaluation.seconds > 0
    assert f"{evaluation.accuracy:.3f}" in done.stdout
    assert f"({evaluation.accuracy * 28:.0f} of 28)" in done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 3
