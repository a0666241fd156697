"""How good a classifier is on labelled texts.

`running` asks the classifier, `metrics` does the arithmetic, `report` holds the numbers, `table` and `plots` show
them. scikit-learn and matplotlib are extras and imported where they are needed.
"""

from langchain_stormtrooper.evaluation.plots import plot_confusion, plot_reliability, plot_risk_coverage
from langchain_stormtrooper.evaluation.report import (
    ClassReport,
    CurvePoint,
    Evaluation,
    OutOfScopeReport,
    ReliabilityBin,
    RiskCoverage,
)
from langchain_stormtrooper.evaluation.running import aevaluate, evaluate

__all__ = [
    "ClassReport",
    "CurvePoint",
    "Evaluation",
    "OutOfScopeReport",
    "ReliabilityBin",
    "RiskCoverage",
    "aevaluate",
    "evaluate",
    "plot_confusion",
    "plot_reliability",
    "plot_risk_coverage",
]
