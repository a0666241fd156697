"""Reports that are saved: they come back as they were, and other files are refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from langchain_stormtrooper import ConfigurationError, Evaluation, TuningEvidence
from langchain_stormtrooper.saving import Saved


class Report(Saved):
    """A report for the tests."""

    rows: int = Field(ge=0)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    """What is loaded equals what was saved, as JSON for people to read."""
    Report(rows=3).save(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == '{\n  "rows": 3\n}\n'
    assert Report.load(tmp_path / "report.json") == Report(rows=3)


@pytest.mark.parametrize("content", [b"", b"{", b'{"rows": -1}', b'{"rows": 1, "secret": 2}', b"\xff\xfe", b"{}"])
@pytest.mark.parametrize("kind", [Report, Evaluation, TuningEvidence])
def test_another_file_is_refused(tmp_path: Path, kind: type[Saved], content: bytes) -> None:
    """A file that holds something else is an error which names it and what would do, and quotes nothing of it."""
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"other\.json holds no {kind.__name__} .*`{kind.__name__}\.save`"):
        kind.load(path)


def test_no_file_is_said_as_ever(tmp_path: Path) -> None:
    """A file that is not there is Python's own error, with its name."""
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        Report.load(tmp_path / "none.json")
