"""Servers for tests and laptops: Text Generation Inference of any release, and OpenAI-compatible ones.

`TGIServer` and `OpenAIServer` serve on a real socket what `ScriptedEngine` (or a real model) says; `Fault` and
`FaultPlan` make them fail to order. Nothing in the rest of the package imports this one.
"""

from langchain_stormtrooper.testing.engine import Background, Engine, Prediction
from langchain_stormtrooper.testing.faults import RETRYABLE, Fault, FaultKind, FaultPlan
from langchain_stormtrooper.testing.ledger import Counters, Received
from langchain_stormtrooper.testing.openai.options import Flavour
from langchain_stormtrooper.testing.openai_server import OpenAIServer
from langchain_stormtrooper.testing.scripted import NextTokens, ScriptedEngine, when_contains
from langchain_stormtrooper.testing.server import TGIServer
from langchain_stormtrooper.testing.serving import serve
from langchain_stormtrooper.testing.tokenizer import ToyTokenizer
from langchain_stormtrooper.testing.versions import RELEASES, Family

__all__ = [
    "RELEASES",
    "RETRYABLE",
    "Background",
    "Counters",
    "Engine",
    "Family",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Flavour",
    "NextTokens",
    "OpenAIServer",
    "Prediction",
    "Received",
    "ScriptedEngine",
    "TGIServer",
    "ToyTokenizer",
    "serve",
    "when_contains",
]
