"""A cheap classifier before a strong one: `Cascade`, and what its threshold rests on.

`runnable` is what users create; `stages` says what may be cheap, `answering` how a row goes through, `learning` asks
the stages about texts, and `evidence` chooses the threshold and says what is promised.
"""

from langchain_stormtrooper.cascade.evidence import CascadeEvidence
from langchain_stormtrooper.cascade.runnable import Cascade

__all__ = ["Cascade", "CascadeEvidence"]
