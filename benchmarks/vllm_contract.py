"""The contract of `langchain_stormtrooper.testing.contract` on a real vLLM, and its scores beside vLLM's own.

Not part of the tests, since vLLM is no dependency. Run by `real_vllm.py`, whose docstring says how to install vLLM:

    python benchmarks/real_vllm.py run --python vllm/bin/python --option=--max-model-len=512 -- \
        python -m pytest -q benchmarks/vllm_contract.py
"""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
from langchain_core.language_models import BaseLanguageModel

from langchain_stormtrooper import OpenAICompletions, ZeroShotClassifier
from langchain_stormtrooper.testing.contract import TEXTS, LLMContract

URL = os.environ.get("STORMTROOPER_VLLM_URL", "")
LABELS = ["play music", "play", "get weather", "book restaurant", "bé良い"]


class OnVLLM(LLMContract):
    """A vLLM that `real_vllm.py` has started with a context of 512 tokens."""

    overlong_words = 600
    settings = {"prompt": "kinds", "prior": None}
    api: Any = "completions"

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return OpenAICompletions(base_url=URL, api=self.api)


class TestCompletions(OnVLLM):
    """Its route for completions."""


class TestChat(OnVLLM):
    """Its route for chats."""

    api = "chat"
    settings = {}


@pytest.mark.parametrize("labels", [["politics", "science", "other"], LABELS], ids=["few", "odd"])
def test_ways_of_scoring_agree(labels: list[str]) -> None:
    """Chosen tokens and scored prompts give every label the same probability, whatever the labels.

    Half-precision arithmetic differs with what is computed together, hence the tolerance.
    """
    found = {}
    for way in ("chosen", "prefill"):
        llm = OpenAICompletions(base_url=URL, scoring=way)
        classifier = ZeroShotClassifier(labels, llm=llm, prompt="kinds", prior=None)
        found[way] = classifier.with_details().batch(TEXTS[:3])
    for chosen, prefill in zip(found["chosen"], found["prefill"], strict=True):
        assert chosen.probabilities is not None
        assert prefill.probabilities is not None
        assert math.fsum(chosen.probabilities.values()) == pytest.approx(1)
        for label, probability in chosen.probabilities.items():
            assert probability == pytest.approx(prefill.probabilities[label], abs=0.05)


@pytest.mark.parametrize("labels", [["politics", "science", "other"], LABELS], ids=["few", "odd"])
def test_constrained_answers_are_labels(labels: list[str]) -> None:
    """A grammar keeps every answer within the labels, to the letter."""
    classifier = ZeroShotClassifier(labels, llm=OpenAICompletions(base_url=URL), prompt="kinds", method="constrain")
    answers = classifier.with_details().batch(TEXTS)
    assert [answer.reason for answer in answers] == [None] * len(TEXTS)
    assert {answer.method for answer in answers} == {"constrain"}


def test_the_chat_template_is_the_models_own() -> None:
    """With prompt="chat" the server renders its model's template around the instruction."""
    classifier = ZeroShotClassifier(LABELS, llm=OpenAICompletions(base_url=URL), prompt="chat", prior=None)
    assert "<|im_start|>user" in classifier.get_prompt().invoke({"text": TEXTS[0]}).to_string()
    assert classifier.invoke(TEXTS[0]) in LABELS
