"""`DecisionModel`: LangChain's interface for typed decisions, on our scorers.

LangChain has it from langchain-core 1.8 on; with an older one the name can be imported, and says so when it is used.
The model itself is in `decision_model`.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.errors import ConfigurationError

if TYPE_CHECKING or find_spec("langchain_core.decisions") is not None:
    from langchain_stormtrooper.decision_model import DecisionModel as DecisionModel
else:

    class DecisionModel:
        """What stands for the decision model where LangChain has no such interface."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ConfigurationError(
                f"DecisionModel needs langchain-core 1.8 or later, and {version('langchain-core')} is installed: run "
                "`pip install --upgrade 'langchain-core>=1.8'`."
            )
