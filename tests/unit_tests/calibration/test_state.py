"""`Calibration`: applied, saved, loaded, and refused where it does not belong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import softmax

from langchain_stormtrooper.calibration import Calibration, CalibrationReport, Candidate, Quality, divide_by_prior
from langchain_stormtrooper.calibration.thresholds import Threshold
from langchain_stormtrooper.errors import CalibrationError, ConfigurationError

TASK = "0123456789abcdef" * 4
QUALITY = Quality(accuracy=0.5, macro_f1=0.4, ece=0.1, brier=0.6, log_loss=0.9)
NUMBERS = st.floats(-50, 50)


def prior(**changes: Any) -> Calibration:
    """A small calibration."""
    given_ = {"labels": ("a", "b"), "task": TASK, "model_id": "m", "kind": "prior", "prior": (0.8, 0.2)}
    return Calibration(**{**given_, **changes})


REPORT = CalibrationReport(
    texts=8,
    per_class=(4, 4),
    folds=4,
    before=QUALITY,
    after=QUALITY,
    candidates=(Candidate(name="as they are", log_loss=0.7, weight=1),),
)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    """Any calibration."""
    size = draw(st.integers(2, 5))
    numbers = st.tuples(*[NUMBERS] * size)
    kind = draw(st.sampled_from(["prior", "temperature", "logistic"]))
    parameters: dict[str, Any] = {"bias": draw(numbers)}
    if kind == "prior":
        parameters = {"prior": draw(st.tuples(*[st.floats(1e-6, 1)] * size))}
    elif kind == "temperature":
        parameters["temperature"] = draw(st.floats(0.02, 50))
    else:
        parameters["weights"] = draw(st.tuples(*[numbers] * size))
    threshold = Threshold(min_confidence=0.7, target_error=0.05, confidence=0.9, share_decided=0.3, texts=80)
    report = REPORT.model_copy(update={"per_class": (4,) * size})
    return Calibration(
        labels=draw(st.lists(st.text(min_size=1), min_size=size, max_size=size, unique=True)),
        task=TASK,
        model_id=draw(st.none() | st.text()),
        kind=kind,
        threshold=draw(st.none() | st.just(threshold)),
        report=draw(st.none() | st.just(report)),
        **parameters,
    )


PROBABILITIES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 5e-324, 1e-30]))


@given(calibrations(), st.data())
def test_apply_is_the_softmax_it_says(calibration: Calibration, data: st.DataObject) -> None:
    """The result is numpy's softmax of the documented scores, also for probabilities of 0, and sums to 1."""
    size = len(calibration.labels)
    row = data.draw(st.lists(PROBABILITIES, min_size=size, max_size=size))
    logs = np.log(np.maximum(row, 1e-9))
    if calibration.prior is not None:
        scores = logs - np.log(calibration.prior)
    elif calibration.kind == "temperature":
        scores = logs / calibration.temperature + np.array(calibration.bias)
    else:
        scores = np.array(calibration.weights) @ logs + np.array(calibration.bias)
    answer = calibration.apply(row)
    assert answer == pytest.approx(softmax(scores), rel=1e-6, abs=1e-12)
    assert math.isclose(math.fsum(answer), 1, abs_tol=1e-12)
    assert all(type(value) is float and 0 <= value <= 1 for value in answer)


@given(st.lists(st.floats(1e-8, 1), min_size=3, max_size=3), st.lists(st.floats(1e-8, 1), min_size=3, max_size=3))
def test_a_prior_divides(row: list[float], lean: list[float]) -> None:
    """A calibration of kind "prior" is `divide_by_prior`."""
    calibration = prior(labels=("a", "b", "c"), prior=tuple(lean))
    assert calibration.apply(row) == pytest.approx(divide_by_prior(row, lean), rel=1e-9)


def test_apply_needs_no_numpy(tmp_path: Path) -> None:
    """Loading and applying import neither numpy nor scikit-learn."""
    import subprocess
    import sys

    path = tmp_path / "calibration.json"
    prior().save(path)
    code = (
        "import sys\n"
        "for name in ('numpy', 'scipy', 'sklearn'): sys.modules[name] = None\n"
        "from langchain_stormtrooper.calibration import Calibration\n"
        f"print(Calibration.load({str(path)!r}).apply([.5, .5])[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(0.8)


@pytest.mark.parametrize("row", [[0.5], [0.2, 0.3, 0.5], [math.nan, 1], [-0.1, 1.1], [math.inf, 0]])
def test_what_are_no_probabilities_is_refused(row: list[float]) -> None:
    """Another number of labels, or numbers that are none, end in our error."""
    with pytest.raises(CalibrationError):
        prior().apply(row)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calibrations())
def test_what_is_saved_is_loaded(tmp_path: Path, calibration: Calibration) -> None:
    """A round through a file gives an equal calibration, to the last bit."""
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(str(path)) == calibration
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_can_be_read_by_people(tmp_path: Path) -> None:
    """Labels stand in it as they are spelled, and fields on lines of their own."""
    path = tmp_path / "calibration.json"
    prior(labels=("é", "b")).save(path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert any('"é"' in line for line in lines)
    assert len(lines) > 10
    assert lines[-1] == "}\n"


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing breaks off, the older calibration is still there, and nothing else."""
    path = tmp_path / "calibration.json"
    prior().save(path)

    def break_off(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", break_off)
    with pytest.raises(OSError, match="no space"):
        prior(prior=(0.1, 0.9)).save(path)
    assert Calibration.load(path) == prior()
    assert list(tmp_path.iterdir()) == [path]


def changed(tmp_path: Path, **changes: Any) -> Path:
    """A saved calibration whose file is then changed."""
    path = tmp_path / "calibration.json"
    prior().save(path)
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"{", "cut short"),
        (b"\xff\xfe", "cut short"),
        (b"[" * 100_000, "cut short"),
        (b"[]", "is not a calibration"),
        (b'{"labels": ["a"]}', "is not a calibration"),
    ],
)
def test_broken_and_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Whatever else a file is, it is our error that says so."""
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        Calibration.load(path)


@pytest.mark.parametrize("version", [0, "1", None, 1.5, True])
def test_versions_that_never_were_are_refused(tmp_path: Path, version: object) -> None:
    """Only the versions that releases wrote are read."""
    with pytest.raises(CalibrationError, match="no format version"):
        Calibration.load(changed(tmp_path, version=version))


def test_a_newer_file_asks_for_an_upgrade(tmp_path: Path) -> None:
    """A file of a later release is not misread but refused, with what to do."""
    with pytest.raises(CalibrationError, match=r"newer release \(format 2, this one reads 1\): upgrade"):
        Calibration.load(changed(tmp_path, version=2, calibration={"unknown": 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": [0.5]}, "another number"),
        ({"prior": [0.5, -0.5]}, "prior.1: Input should be greater than 0"),
        ({"prior": [0.5, math.nan]}, "not valid"),
        ({"prior": None}, "no other parameters"),
        ({"bias": [0, 0]}, "no other parameters"),
        ({"kind": "magic"}, "kind: Input should be 'prior'"),
        ({"task": "short"}, "task: "),
        ({"text": "secret words"}, "text: Extra inputs are not permitted"),
        ({"labels": ["a", "a"]}, r"not valid \(Value error, a label is there twice\)"),
        ({"labels": ["a", "\ud800"]}, "not valid"),
        ({"prior": [0.5, 10**400]}, "not valid"),
        ({"prior": [0.5, "x"]}, "prior.1: Input should be a valid number"),
        ({"report": REPORT.model_copy(update={"per_class": (4, 4, 4)}).model_dump(mode="json")}, "on another number"),
    ],
)
def test_invalid_contents_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A file with a wrong field says which, and does not quote what stands there."""
    content = prior().model_dump(mode="json") | change
    with pytest.raises(CalibrationError, match=message) as caught:
        Calibration.load(changed(tmp_path, calibration=content))
    assert "secret" not in str(caught.value)
    with pytest.raises(CalibrationError, match="not valid"):
        Calibration.load(changed(tmp_path, calibration=None))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """No file is not the same as a broken one."""
    with pytest.raises(FileNotFoundError):
        Calibration.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "parameters",
    [
        {"kind": "temperature", "temperature": 0.0, "bias": (0, 0)},
        {"kind": "temperature", "temperature": 1.0, "bias": (0,)},
        {"kind": "temperature", "temperature": math.inf, "bias": (0, 0)},
        {"kind": "logistic", "weights": ((1, 0),), "bias": (0, 0)},
        {"kind": "logistic", "weights": ((1, 0), (0, 1, 0)), "bias": (0, 0)},
        {"kind": "logistic", "weights": ((1, 0), (0, math.nan)), "bias": (0, 0)},
        {"kind": "logistic", "bias": (0, 0)},
    ],
)
def test_shapes_and_numbers_are_checked(parameters: dict[str, Any]) -> None:
    """Parameters of another size, missing, or not finite never make a calibration."""
    with pytest.raises(ValidationError):
        prior(prior=None, **parameters)


def test_its_own_task_is_accepted() -> None:
    """Same labels, prompt and model: nothing happens, also when labels come as a list."""
    prior().check(["a", "b"], TASK, "m")
    prior(model_id=None).check(("a", "b"), TASK, None)


@pytest.mark.parametrize(
    ("labels", "task", "model_id", "named", "unnamed"),
    [
        (["a", "c"], TASK, "m", ["labels (['a', 'b'] there, ['a', 'c'] here)"], ["prompt", "model"]),
        (["b", "a"], TASK, "m", ["in another order"], ["model"]),
        (["a", "b"], "f" * 64, "m", ["prompt (instruction"], ["labels", "model"]),
        (["a", "b"], TASK, "n", ["model ('m' there, 'n' here)"], ["labels", "prompt"]),
        (["a", "b"], TASK, None, ["model ('m' there, unknown here)"], ["labels", "prompt"]),
        (["a"], "f" * 64, "n", ["labels (", "and model ("], ["prompt"]),
        (["a", "b"], "f" * 64, "n", ["prompt (", "and model ("], ["labels"]),
    ],
)
def test_another_task_is_refused(
    labels: list[str], task: str, model_id: str | None, named: list[str], unnamed: list[str]
) -> None:
    """The error names what differs, nothing that does not, and what to do."""
    with pytest.raises(CalibrationError) as caught:
        prior().check(labels, task, model_id)
    message = str(caught.value)
    differences, _, remedy = message.rpartition(": calibrate this classifier")
    assert all(words in differences for words in named)
    assert not any(word in differences for word in unnamed)
    assert "texts of its own task" in remedy
    assert isinstance(caught.value, ConfigurationError)
