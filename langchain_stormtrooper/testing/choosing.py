"""Choose the next token and report its log-probability, as TGI's token choosers do.

Masks, penalties and sampling filters are applied in TGI's order, and the reported numbers are taken before or after
them depending on the model family. Works on one prediction at a time and keeps no state between jobs. Called by
`decoding` only.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from langchain_stormtrooper.testing.config import Config, Precision
    from langchain_stormtrooper.testing.engine import Prediction
    from langchain_stormtrooper.testing.validation import Job, Sampling

Ranked = list[tuple[int, float]]
"""Tokens with log-probabilities, best first."""


def rounded(value: float, precision: Precision) -> float:
    """Round a log-probability to what a number format can hold."""
    if precision == "float64" or not math.isfinite(value):
        return value
    if precision == "float32":
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    if precision == "float16":
        return float(struct.unpack("<e", struct.pack("<e", value))[0]) if abs(value) < 65504 else -math.inf
    # bfloat16 is the upper half of a float32, rounded to the nearest even.
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


class Chooser:
    """Chooses tokens for one server.

    Args:
        config: The server's settings.
    """

    def __init__(self, config: Config) -> None:
        self._precision = config.precision
        # Padded families report top tokens from the raw scores, before mask, penalties and filters.
        self._raw_top = config.family is not Family.FLASH
        self._vocabulary = range(len(config.engine.vocabulary))

    def choose(
        self,
        prediction: Prediction,
        allowed: frozenset[int] | None,
        job: Job,
        rng: random.Random | None,
        generated: Sequence[int],
    ) -> tuple[int, float, Ranked]:
        """Choose one token.

        Returns:
            The token, its log-probability, and the top list (empty if none was asked for).
        """
        top_n = job.parameters.top_n_tokens or 0
        penalised = self._penalises(job)
        if rng is None and not penalised:
            ranked = self._ranked(prediction, allowed, max(top_n, 1))
            token, logprob = ranked[0]
            top = ranked
        else:
            ranked, bounds = self._warped(prediction, allowed, job, generated)
            index = min(bisect(bounds, rng.random() * bounds[-1]), len(ranked) - 1) if rng else 0
            token, logprob = ranked[index]
            top = _best(ranked, top_n)
        if not top_n:
            return token, logprob, []
        return token, logprob, self._ranked(prediction, None, top_n) if self._raw_top else top

    def logprob(self, probability: float) -> float | None:
        """Turn a probability into a rounded log-probability; None where JSON would show null."""
        return rounded(math.log(probability), self._precision) if probability > 0 else None

    @staticmethod
    def _penalises(job: Job) -> bool:
        parameters = job.parameters
        return parameters.repetition_penalty not in (None, 1.0) or parameters.frequency_penalty not in (None, 0.0)

    def _ranked(self, prediction: Prediction, allowed: frozenset[int] | None, n: int) -> Ranked:
        """Return the n best allowed tokens, and all that tie with the last of them."""
        key = ("ranked", allowed, n)
        found = prediction.memo.get(key)
        if found is None:
            candidates = self._candidates(prediction, allowed, n)
            total = math.fsum(candidates.values()) if allowed is not None else 1.0
            found = prediction.memo[key] = _best(self._scored(candidates, total), n)
        ranking: Ranked = found
        return ranking

    def _candidates(self, prediction: Prediction, allowed: Iterable[int] | None, n: int) -> dict[int, float]:
        """Return the probabilities worth ranking: all allowed ones, or enough of the best."""
        if allowed is not None:
            return {token: prediction.probability(token) for token in allowed}
        candidates = dict(prediction.listed)
        if prediction.background is not None:
            # Ties among background tokens cannot reach further than rounding makes neighbours equal.
            for token in prediction.background.ranked[: len(candidates) + 4 * n + 64]:
                candidates.setdefault(token, prediction.probability(token))
        return candidates

    def _scored(self, candidates: dict[int, float], total: float) -> Ranked:
        """Turn probabilities into rounded log-probabilities, best first."""
        precision = self._precision
        ranked = [(token, rounded(math.log(p / total), precision)) for token, p in candidates.items() if p > 0]
        ranked.sort(key=lambda item: (-item[1], item[0]))
        return ranked

    def _warped(
        self, prediction: Prediction, allowed: frozenset[int] | None, job: Job, generated: Sequence[int]
    ) -> tuple[Ranked, list[float]]:
        """Apply penalties, mask, temperature and filters over the whole vocabulary."""
        sampling, penalised = job.sampling, self._penalises(job)
        key = ("warped", allowed, _filters(sampling))
        found = None if penalised else prediction.memo.get(key)
        if found is None:
            scores = {
                token: math.log(p)
                for token in (self._vocabulary if allowed is None else allowed)
                if (p := prediction.probability(token)) > 0
            }
            if penalised:
                _penalise(scores, job, generated)
            if sampling is not None:
                scores = _filtered(scores, sampling)
            probabilities = _softmax(scores)
            ranked = self._scored(probabilities, 1.0)
            bounds: list[float] = []
            total = 0.0
            for token, _ in ranked:
                total += probabilities[token]
                bounds.append(total)
            found = (ranked, bounds)
            if not penalised:
                prediction.memo[key] = found
        result: tuple[Ranked, list[float]] = found
        return result


def _filters(sampling: Sampling | None) -> tuple[float | None, ...]:
    if sampling is None:
        return ()
    return (sampling.temperature, sampling.top_k, sampling.top_p, sampling.typical_p)


def _best(ranked: Ranked, n: int) -> Ranked:
    """Cut a ranking after n tokens, keeping all that tie with the last."""
    if len(ranked) <= n or n == 0:
        return ranked[:n]
    last = ranked[n - 1][1]
    end = n
    while end < len(ranked) and ranked[end][1] == last:
        end += 1
    return ranked[:end]


def _softmax(scores: dict[int, float]) -> dict[int, float]:
    highest = max(scores.values())
    raw = {token: math.exp(score - highest) for token, score in scores.items()}
    total = math.fsum(raw.values())
    return {token: value / total for token, value in raw.items()}


def _penalise(scores: dict[int, float], job: Job, generated: Sequence[int]) -> None:
    """Apply the repetition and frequency penalties to the scores in place."""
    repetition = job.parameters.repetition_penalty
    if repetition not in (None, 1.0):
        for token in {*job.prompt_ids, *generated} & scores.keys():
            score = scores[token]
            scores[token] = score * repetition if score < 0 else score / repetition
    frequency = job.parameters.frequency_penalty
    if frequency not in (None, 0.0):
        for token in (token for token in generated if token in scores):
            scores[token] -= frequency


def _filtered(scores: dict[int, float], sampling: Sampling) -> dict[int, float]:
    """Apply temperature, top-k, top-p and typical-p, in TGI's order."""
    if sampling.temperature != 1.0:
        scores = {token: score / sampling.temperature for token, score in scores.items()}
    order = sorted(scores, key=lambda token: (-scores[token], token))
    if sampling.top_k is not None:
        order = order[: sampling.top_k]
    if sampling.top_p is not None:
        order = _until(order, _softmax({token: scores[token] for token in order}), sampling.top_p)
    if sampling.typical_p is not None:
        probabilities = _softmax({token: scores[token] for token in order})
        entropy = -math.fsum(p * math.log(p) for p in probabilities.values() if p > 0)
        typical = sorted(
            (token for token in order if probabilities[token] > 0),
            key=lambda token: abs(-math.log(probabilities[token]) - entropy),
        )
        order = _until(typical, probabilities, sampling.typical_p)
    return {token: scores[token] for token in order}


def _until(order: Sequence[int], probabilities: dict[int, float], mass: float) -> list[int]:
    """Keep tokens until their probabilities reach a mass, at least one."""
    kept: list[int] = []
    total = 0.0
    for token in order:
        kept.append(token)
        total += probabilities[token]
        if total >= mass:
            break
    return kept
