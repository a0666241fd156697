"""What a public host reads: forms for issues, the template for pull requests, and the workflow that runs CI."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")  # langchain-core brings it

ROOT = Path(__file__).parent.parent.parent
GITHUB = ROOT / ".github"
FORMS = ("bug", "feature")
WRITTEN = {"textarea", "input", "dropdown", "checkboxes"}


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture
def workflow() -> Any:
    """The workflow."""
    return read(GITHUB / "workflows" / "ci.yml")


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_one(name: str) -> None:
    """A form has what the host asks for: a name, a description, and elements of known kinds with labels and ids."""
    form = read(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert set(form) == {"name", "description", "labels", "body"}
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description"))
    written = [element for element in form["body"] if element["type"] in WRITTEN]
    assert len(written) >= 3
    for element in form["body"]:
        assert set(element) <= {"type", "id", "attributes", "validations"}
        if element in written:
            assert re.fullmatch(r"[a-z][a-z-]*", element["id"])
            assert element["attributes"]["label"]
            assert all(isinstance(value, bool) for value in element.get("validations", {}).values())
        else:
            assert element["type"] == "markdown"
            assert element["attributes"]["value"]
        options = element["attributes"].get("options")
        assert (options is not None) == (element["type"] == "dropdown")
        assert options is None or len(options) == len(set(options)) >= 2
    ids = [element["id"] for element in written]
    assert len(ids) == len(set(ids))
    assert any(element.get("validations", {}).get("required") for element in written)


def test_all_forms_are_looked_at() -> None:
    """No other form is there, and the configuration is one."""
    found = {path.name for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()}
    assert found == {"config.yml", *(f"{name}.yml" for name in FORMS)}
    assert read(GITHUB / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": True}


def test_the_bug_form_names_the_llms_that_there_are() -> None:
    """The LLMs to choose from are public names."""
    import langchain_stormtrooper

    (choice,) = (one for one in read(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"] if one["type"] == "dropdown")
    names = [option for option in choice["attributes"]["options"] if " " not in option]
    assert {"TextGenerationInference", "LlamaCpp"} <= set(names)
    assert set(names) <= set(langchain_stormtrooper.__all__)


def test_the_workflow_runs_what_must_hold(workflow: Any) -> None:
    """Every change and every push to main runs `.ci/run`, which can be run, and nothing else."""
    # YAML 1.1, which PyYAML speaks, takes `on` for true; GitHub does not.
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_workflow_runs_on_all_supported_pythons(workflow: Any) -> None:
    """The oldest Python is the one that the package names, and the image follows the matrix."""
    (job,) = workflow["jobs"].values()
    pythons = job["strategy"]["matrix"]["python"]
    assert all(isinstance(version, str) for version in pythons)  # 3.10 as a number is 3.1
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert oldest == f">={pythons[0]}"
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]
    assert "${{ matrix.python }}" in job["container"]["image"]


def test_the_workflow_may_do_little(workflow: Any) -> None:
    """It only reads the repository, keeps no credentials, and takes from others what is pinned to a commit."""
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    taken = [step for step in job["steps"] if "uses" in step]
    assert taken
    for step in taken:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert "checkout" not in step["uses"] or step["with"]["persist-credentials"] is False
    assert "secrets" not in (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8")
