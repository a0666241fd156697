"""Which prompt, which descriptions and how many examples: `tune` tries them on labelled texts and chooses.

`arguments` reads what users pass, `candidates` makes classifiers of what is to be tried, `splitting` takes examples out
of the texts, `racing` is the statistics (all pure); `searching` asks, `evidence` holds what was found, `remarks` says
it in sentences and `table` shows it. `running` is what users call.
"""

from langchain_stormtrooper.tuning.evidence import CandidateEvidence, Drop, TuningEvidence
from langchain_stormtrooper.tuning.running import Tuned, atune, tune

__all__ = ["CandidateEvidence", "Drop", "Tuned", "TuningEvidence", "atune", "tune"]
