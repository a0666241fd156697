"""What the package exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import time

import langchain_stormtrooper

EXPORTED = [
    "AuthenticationError",
    "CalibrationError",
    "CalibrationWarning",
    "Cascade",
    "Classification",
    "ClassifiedRow",
    "ClassifyBatches",
    "ClassifierTool",
    "ConfigurationError",
    "DecisionModel",
    "EndpointNotFoundError",
    "Evaluation",
    "Example",
    "FailedRequestWarning",
    "FewShotClassifier",
    "FileSummary",
    "HierarchicalClassifier",
    "Label",
    "LabelError",
    "LabelOutputParser",
    "LabelSet",
    "Ledger",
    "LedgerError",
    "LlamaCpp",
    "LowConfidenceWarning",
    "MatchKind",
    "Method",
    "MissingExtraError",
    "ModelFileError",
    "MultiLabelClassification",
    "MultiLabelClassifier",
    "OpenAICompletions",
    "OutOfScopeWarning",
    "OverlongInputError",
    "OverlongInputWarning",
    "PromptError",
    "Reason",
    "Shortlist",
    "RequestFailedError",
    "ResponseFormatError",
    "RowError",
    "ServerError",
    "ServerUnreachableError",
    "ServerWarning",
    "SettingsWarning",
    "StormtrooperError",
    "StormtrooperWarning",
    "TGIFewShotClassifier",
    "TGIZeroShotClassifier",
    "TextGenerationInference",
    "Tuned",
    "TuningEvidence",
    "UnmatchedLabelWarning",
    "ZeroShotClassifier",
    "aclassify_file",
    "aevaluate",
    "atune",
    "classify_file",
    "create_app",
    "evaluate",
    "load",
    "tune",
]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # ours
    return done.stdout.strip()


def test_the_exported_names_are_these() -> None:
    """The public surface changes only on purpose."""
    assert sorted(langchain_stormtrooper._HOME_OF) == sorted(EXPORTED)
    # `import *` needs no extra.
    made_of_sklearn = {"TGIFewShotClassifier", "TGIZeroShotClassifier"}
    assert sorted(langchain_stormtrooper.__all__) == sorted(set(EXPORTED) - made_of_sklearn)
    for name in EXPORTED:
        assert getattr(langchain_stormtrooper, name).__name__ == name
    assert langchain_stormtrooper.__version__ == "0.1.0"
    assert set(EXPORTED) <= set(dir(langchain_stormtrooper))


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The import alone brings neither LangChain nor pydantic nor aiohttp, and takes less than 100 ms of a processor."""
    loaded = run(
        "import sys; before = set(sys.modules); import langchain_stormtrooper;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    assert not {"langchain_core", "pydantic", "aiohttp", "typer", "xllamacpp"} & set(loaded.split())
    timed = "import time; t = time.process_time(); import langchain_stormtrooper; print(time.process_time() - t)"
    started = time.perf_counter()
    # The best of three: other processes share the processor and its caches.
    took = [float(run(timed)) for _ in range(3)]
    assert 0 < min(took) < 0.1
    assert sum(took) < time.perf_counter() - started


def test_no_extra_is_imported_by_the_public_names() -> None:
    """Everything public can be imported without what the extras install; scikit-learn's estimators name theirs."""
    code = (
        "import sys\n"
        "extras = ('fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'langserve')\n"
        "extras += ('xllamacpp', 'interegular', 'pyarrow', 'sklearn', 'scipy', 'numpy', 'matplotlib')\n"
        "extras += ('pytest', 'hypothesis')\n"
        "for name in extras: sys.modules[name] = None\n"
        "from langchain_stormtrooper import *\n"
        "import langchain_stormtrooper as package\n"
        "for name in ('TGIFewShotClassifier', 'TGIZeroShotClassifier'):\n"
        "    try: getattr(package, name)\n"
        "    except package.MissingExtraError as error: assert '[sklearn]' in str(error)\n"
        "    else: raise AssertionError(name)\n"
        "import langchain_stormtrooper.cli, langchain_stormtrooper.testing\n"
        "print('fine')"
    )
    assert run(code) == "fine"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    assert not hasattr(langchain_stormtrooper, "ZeroShotClasifier")
