"""Runs the notebooks of the cookbook, each in a fresh kernel, and writes them with what they then say.

`python tests/integration_tests/notebooks.py` does so in place; names of notebooks are those to run, and `--into DIR`
writes there instead. What is written has no times, paths or names of this machine. A notebook that raises, or that
writes to standard error, as warnings do, is an error and is left as it was. Kernels run in this interpreter, whatever
else Jupyter knows of, without the user's settings for it, and may connect to 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets import default
from traitlets.config import Config

from langchain_stormtrooper.llms.embedded import embedded_model_path

COOKBOOK = Path(__file__).parent.parent.parent / "cookbook"
SECONDS_PER_CELL = 300
ONLY_LOOPBACK = "import pytest_socket; pytest_socket.socket_allow_hosts(['127.0.0.1'], allow_unix_socket=True)"


class _Kernels(AsyncKernelManager):
    """Knows of one kernel only, this interpreter's."""

    @default("kernel_spec_manager")
    def _only_native(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def run(notebook: Any) -> None:
    """Run all cells in a new kernel, and put into them what they say.

    Args:
        notebook: What nbformat has read.

    Raises:
        CellExecutionError: A cell raised.
        RuntimeError: A cell wrote to standard error.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=_Kernels,
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
        timeout=SECONDS_PER_CELL,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=[f"--IPKernelApp.exec_lines={ONLY_LOOPBACK}"],
        resources={"metadata": {"path": str(COOKBOOK)}},
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise RuntimeError(f"A cell wrote to standard error:\n{cell.source}\n\n{output.text}")


def clean(notebook: Any) -> None:
    """Leave nothing in a notebook but its cells, their tags and what they say.

    Args:
        notebook: What nbformat has read; changed in place.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell["metadata"] = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output["metadata"] = {}


def main(arguments: list[str] | None = None) -> None:
    """Run and write the notebooks that are named, or all of them; tells the seconds of processor time of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "notebooks",
        nargs="*",
        type=Path,
        help="paths, or names in the cookbook; by default all of it",
    )
    parser.add_argument("--into", type=Path, help="a directory to write them to, instead of in place")
    chosen = parser.parse_args(arguments)
    notebooks = [path if path.exists() else COOKBOOK / path.name for path in chosen.notebooks]
    notebooks = notebooks or sorted(COOKBOOK.glob("*.ipynb"))
    if missing := [path.name for path in notebooks if not path.is_file()]:
        parser.error(f"there is no notebook {missing[0]}")
    if chosen.into is not None:
        chosen.into.mkdir(parents=True, exist_ok=True)
    embedded_model_path()  # fetched here, if need be, a cell would tell of it
    with tempfile.TemporaryDirectory() as directory:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            os.environ[name] = directory
        os.environ.pop("MPLBACKEND", None)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for path in notebooks:
            before = _processor_seconds()
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat
            try:
                run(notebook)
            except (CellExecutionError, RuntimeError) as error:
                error.add_note(f"This is {path.name}; it is left as it was, and those after it were not run.")
                raise
            clean(notebook)
            written = path if chosen.into is None else chosen.into / path.name
            nbformat.write(notebook, written)  # type: ignore[no-untyped-call]  # nbformat
            sys.stdout.write(f"{path.name}: {_processor_seconds() - before:.1f} s\n")
            sys.stdout.flush()


def _processor_seconds() -> float:
    """Of this process and all kernels that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
