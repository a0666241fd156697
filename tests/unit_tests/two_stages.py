"""Stages that answer what a text says: "sport 90 politics" is sport at 90 % for one, politics for the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fakes import LABELS, FakeScoringLLM

from langchain_stormtrooper import Cascade, ZeroShotClassifier
from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError, ServerUnreachableError
from langchain_stormtrooper.prompts import Prompt

TEXTS = ["sport 90 sport", "sport 60 politics", "politics 75 science", "science 40 science"]


def _spread(label: str, confidence: float, answers: Sequence[str]) -> tuple[float, ...]:
    rest = (1 - confidence) / (len(answers) - 1)
    return tuple(confidence if answer.strip() == label else rest for answer in answers)


def score_cheaply(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """The first word, as surely as the second says."""
    label, confidence, *_ = prompt.text.split()
    return _spread(label, int(confidence) / 100, answers)


def score_strongly(prompt: Prompt, answers: Sequence[str]) -> tuple[float, ...]:
    """The third word."""
    return _spread(prompt.text.split()[2], 0.99, answers)


def fail_where_asked(stage: str) -> Any:
    """What one stage does before it scores: a mishap where the text asks for one of this stage."""

    def answer(prompt: Prompt) -> str:
        if f"{stage}-OVERLONG" in prompt.text:
            raise OverlongInputError("The prompt has 99 tokens, the server takes at most 9.", tokens=99, limit=9)
        if f"{stage}-FAIL" in prompt.text:
            raise RequestFailedError("The model failed while generating (424).", status=424)
        if f"{stage}-DOWN" in prompt.text:
            raise ServerUnreachableError("The server at http://127.0.0.1:9 refused the connection: start it.")
        return LABELS[0]

    return answer


def cheap_one(model: str = "small", **given: Any) -> ZeroShotClassifier:
    """The cheap stage, with three places."""
    llm = FakeScoringLLM(score=score_cheaply, answer=fail_where_asked("CHEAP"), model_id=model, places=3, delay=0.001)
    return ZeroShotClassifier(LABELS, **{"llm": llm, "prior": None, "prompt": "kinds", **given})


def strong_one(model: str = "large", **given: Any) -> ZeroShotClassifier:
    """The strong stage, with two places."""
    llm = FakeScoringLLM(score=score_strongly, answer=fail_where_asked("STRONG"), model_id=model, places=2, delay=0.001)
    return ZeroShotClassifier(LABELS[::-1], **{"llm": llm, "prior": None, "prompt": "kinds", **given})


def cascade(**given: Any) -> Cascade:
    """Both, with a threshold of .7 set by hand."""
    stages = {"cheap": cheap_one(), "strong": strong_one()}
    return Cascade(**{**stages, **({} if "target_error" in given else {"threshold": 0.7}), **given})


def asked(classifier: Any) -> list[str]:
    """The texts that a stage was asked about."""
    return list(classifier.llm.log.texts)
