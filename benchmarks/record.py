"""Writing results: figures with everything needed to make them again."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def write(name: str, figures: Any, **about: Any) -> None:
    """Write one result file.

    Args:
        name: Name of the file, without its ending.
        figures: What was measured.
        **about: Seeds and settings.
    """
    record = {
        "command": " ".join(
            ["python", *(Path(a).name if Path(a).is_absolute() or a.startswith("..") else a for a in sys.argv)]
        ),
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
