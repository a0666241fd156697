"""Zero- and few-shot text classification with self-hosted LLMs, as LangChain Runnables.

The public names are imported when they are first used: `import langchain_stormtrooper` itself loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_stormtrooper.cascade import Cascade
    from langchain_stormtrooper.classifiers import FewShotClassifier, ZeroShotClassifier
    from langchain_stormtrooper.decisions import DecisionModel
    from langchain_stormtrooper.errors import (
        AuthenticationError,
        CalibrationError,
        CalibrationWarning,
        ConfigurationError,
        EndpointNotFoundError,
        FailedRequestWarning,
        LabelError,
        LedgerError,
        LowConfidenceWarning,
        MissingExtraError,
        ModelFileError,
        OutOfScopeWarning,
        OverlongInputError,
        OverlongInputWarning,
        PromptError,
        RequestFailedError,
        ResponseFormatError,
        RowError,
        ServerError,
        ServerUnreachableError,
        ServerWarning,
        SettingsWarning,
        StormtrooperError,
        StormtrooperWarning,
        UnmatchedLabelWarning,
    )
    from langchain_stormtrooper.estimators import TGIFewShotClassifier as TGIFewShotClassifier
    from langchain_stormtrooper.estimators import TGIZeroShotClassifier as TGIZeroShotClassifier
    from langchain_stormtrooper.evaluation import Evaluation, aevaluate, evaluate
    from langchain_stormtrooper.examples import Example
    from langchain_stormtrooper.hierarchy import HierarchicalClassifier
    from langchain_stormtrooper.labels import Label, LabelSet
    from langchain_stormtrooper.llms.llamacpp import LlamaCpp
    from langchain_stormtrooper.llms.openai import OpenAICompletions
    from langchain_stormtrooper.llms.tgi import TextGenerationInference
    from langchain_stormtrooper.loading import load
    from langchain_stormtrooper.multi_label import MultiLabelClassifier
    from langchain_stormtrooper.parsers import LabelOutputParser
    from langchain_stormtrooper.results import Classification, MatchKind, Method, MultiLabelClassification, Reason
    from langchain_stormtrooper.runs import ClassifiedRow, Ledger
    from langchain_stormtrooper.selecting import Shortlist
    from langchain_stormtrooper.serving import create_app
    from langchain_stormtrooper.tables.batches import ClassifyBatches
    from langchain_stormtrooper.tables.classifying import FileSummary, aclassify_file, classify_file
    from langchain_stormtrooper.tools import ClassifierTool
    from langchain_stormtrooper.tuning import Tuned, TuningEvidence, atune, tune

_HOMES = {
    "cascade": ("Cascade",),
    "classifiers": ("FewShotClassifier", "ZeroShotClassifier"),
    "decisions": ("DecisionModel",),
    "errors": (
        "AuthenticationError",
        "CalibrationError",
        "CalibrationWarning",
        "ConfigurationError",
        "EndpointNotFoundError",
        "FailedRequestWarning",
        "LabelError",
        "LedgerError",
        "LowConfidenceWarning",
        "MissingExtraError",
        "ModelFileError",
        "OutOfScopeWarning",
        "OverlongInputError",
        "OverlongInputWarning",
        "PromptError",
        "RequestFailedError",
        "ResponseFormatError",
        "RowError",
        "ServerError",
        "ServerUnreachableError",
        "ServerWarning",
        "SettingsWarning",
        "StormtrooperError",
        "StormtrooperWarning",
        "UnmatchedLabelWarning",
    ),
    "estimators": ("TGIFewShotClassifier", "TGIZeroShotClassifier"),
    "evaluation": ("Evaluation", "aevaluate", "evaluate"),
    "examples": ("Example",),
    "hierarchy": ("HierarchicalClassifier",),
    "labels": ("Label", "LabelSet"),
    "llms.llamacpp": ("LlamaCpp",),
    "llms.openai": ("OpenAICompletions",),
    "llms.tgi": ("TextGenerationInference",),
    "loading": ("load",),
    "multi_label": ("MultiLabelClassifier",),
    "parsers": ("LabelOutputParser",),
    "results": ("Classification", "MatchKind", "Method", "MultiLabelClassification", "Reason"),
    "runs": ("ClassifiedRow", "Ledger"),
    "selecting": ("Shortlist",),
    "tables.batches": ("ClassifyBatches",),
    "tables.classifying": ("FileSummary", "aclassify_file", "classify_file"),
    "tools": ("ClassifierTool",),
    "tuning": ("Tuned", "TuningEvidence", "atune", "tune"),
    "serving": ("create_app",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

# Without what is made of scikit-learn's classes, so that `import *` needs no extra.
__all__ = [  # noqa: RUF022  # by subject
    "Cascade",
    "Classification",
    "ClassifiedRow",
    "ClassifyBatches",
    "ClassifierTool",
    "DecisionModel",
    "Evaluation",
    "Example",
    "FewShotClassifier",
    "FileSummary",
    "HierarchicalClassifier",
    "Label",
    "LabelOutputParser",
    "LabelSet",
    "Ledger",
    "LlamaCpp",
    "MatchKind",
    "Method",
    "MultiLabelClassification",
    "MultiLabelClassifier",
    "OpenAICompletions",
    "Reason",
    "Shortlist",
    "TextGenerationInference",
    "Tuned",
    "TuningEvidence",
    "ZeroShotClassifier",
    "aclassify_file",
    "aevaluate",
    "atune",
    "classify_file",
    "create_app",
    "evaluate",
    "load",
    "tune",
    "AuthenticationError",
    "CalibrationError",
    "ConfigurationError",
    "EndpointNotFoundError",
    "LabelError",
    "LedgerError",
    "MissingExtraError",
    "ModelFileError",
    "OverlongInputError",
    "PromptError",
    "RequestFailedError",
    "ResponseFormatError",
    "RowError",
    "ServerError",
    "ServerUnreachableError",
    "StormtrooperError",
    "CalibrationWarning",
    "FailedRequestWarning",
    "LowConfidenceWarning",
    "OutOfScopeWarning",
    "OverlongInputWarning",
    "ServerWarning",
    "SettingsWarning",
    "StormtrooperWarning",
    "UnmatchedLabelWarning",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is not None:
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("langchain-stormtrooper")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, "__version__"})
