"""Writing results: figures with everything needed to make them again; refusing what a script does not read."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def takes_no_arguments(what: str | None) -> None:
    """Refuse arguments, and tell with --help what a script does.

    Args:
        what: Its docstring.
    """
    argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def write(name: str, figures: Any, **about: Any) -> None:
    """Write one result file.

    Args:
        name: Name of the file, without its ending.
        figures: What was measured.
        **about: Seeds and settings.
    """
    record = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(map(_without_folders, sys.argv[1:]))]),
        "machine": {"cpus": os.cpu_count(), "arch": platform.machine(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{
                package: version(package)
                for package in ("langchain-stormtrooper", "langchain-core", "aiohttp", "xllamacpp")
            },
        },
        **about,
        "figures": figures,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {path}")


def _without_folders(argument: str) -> str:
    """An argument without the folders of whoever ran it."""
    return Path(argument).name if Path(argument).is_absolute() or argument.startswith("..") else argument
