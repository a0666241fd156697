"""Generate tokens one by one, the way TGI's model process does.

Takes a `Job` and an engine and yields tokens with their log-probabilities and top lists, then tells why it stopped.
Everything about HTTP, time and batches is elsewhere (`shard`, `routes`); nothing here waits or fails by design.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_stormtrooper.testing.choosing import Chooser
from langchain_stormtrooper.testing.validation import CHUNK
from langchain_stormtrooper.testing.versions import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_stormtrooper.testing.config import Config
    from langchain_stormtrooper.testing.engine import Engine, Prediction
    from langchain_stormtrooper.testing.guides import RegexGuide
    from langchain_stormtrooper.testing.validation import Job

REPLACEMENT = "\ufffd"


@dataclass(slots=True)
class Step:
    """One generated token."""

    token: int
    text: str
    logprob: float
    special: bool
    top: list[tuple[int, float]]


@dataclass(slots=True)
class Generation:
    """The outcome of one job, filled while its steps are made."""

    steps: list[Step] = field(default_factory=list)
    finish_reason: str = "length"
    text: str = ""
    seed: int | None = None


class Decoder:
    """Runs jobs on an engine.

    Args:
        config: The server's settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._engine = config.engine
        self._chooser = Chooser(config)
        vocabulary = config.engine.vocabulary
        self._special = frozenset(token for token, text in enumerate(vocabulary) if not text)
        # The text of a token on its own, as top lists and prefill show it. SentencePiece loses its leading space.
        self._texts = [
            self._alone(text) if text else config.engine.name(token) for token, text in enumerate(vocabulary)
        ]

    def _alone(self, text: bytes) -> str:
        shown = text.decode("utf-8", "replace")
        return shown.removeprefix(" ") if self._config.sentencepiece else shown

    def run(self, job: Job, into: Generation, guide: RegexGuide | None = None) -> Iterator[Step]:
        """Generate until the job is done, yielding each token as soon as it is chosen.

        Args:
            job: What to generate.
            into: Where to put the tokens and, at the end, the text and the reason for stopping.
            guide: The compiled grammar, if any.
        """
        sampling = job.sampling
        rng = random.Random(sampling.seed) if sampling else None  # noqa: S311 - repeatable draws, not secrets
        into.seed = sampling.seed if sampling else None
        stops = [re.compile(re.escape(stop) + "$") for stop in job.parameters.stop]
        state = guide.start() if guide else None
        generated: list[int] = []
        pending, said = b"", ""
        while True:
            prediction = self._engine.next_token(job.prompt, generated)
            allowed = guide.allowed(state) if guide and state else None
            token, logprob, top = self._chooser.choose(prediction, allowed, job, rng, generated)
            generated.append(token)
            special = token in self._special
            if special:
                text = self._texts[token]
            else:
                # A character cut into bytes shows up as one text once it is whole, and as "" until then.
                pending += self._engine.vocabulary[token]
                text = pending.decode("utf-8", "replace")
                if text.endswith(REPLACEMENT):
                    text = ""
                else:
                    pending = b""
                    said += text
            step = Step(token, text, logprob, special, top)
            into.steps.append(step)
            reason = self._stopped(token, len(generated), job.max_new_tokens, stops, said)
            if reason is not None:
                into.finish_reason = reason
                # An answer that ends inside a character is shown as no answer at all (`decode_token` in TGI).
                into.text = self._finish(said) if not pending else ""
                yield step
                return
            if guide and state:
                state = guide.advance(state, token)
                if self._config.release.requeues and len(generated) % CHUNK == 0:
                    state = guide.start()
            yield step

    def _stopped(self, token: int, count: int, limit: int, stops: list[re.Pattern[str]], said: str) -> str | None:
        """Tell why to stop, if at all; the length comes before the end of text, as in TGI."""
        if count >= limit:
            return "length"
        if token == self._engine.eos:
            return "eos_token"
        if any(stop.search(said) for stop in stops):
            return "stop_sequence"
        return None

    def _finish(self, said: str) -> str:
        """Return the text of the answer; encoder-decoder models decode it without a leading space."""
        return said[1:] if self._config.family is Family.SEQ2SEQ and said.startswith(" ") else said

    def shown(self, token: int, logprob: float | None) -> dict[str, Any]:
        """Write a token of a top list."""
        return {
            "id": token,
            "text": self._texts[token],
            "logprob": logprob,
            "special": token in self._special,
        }

    def prefill(self, job: Job) -> list[dict[str, Any]]:
        """Write the tokens of the prompt with their log-probabilities; the first has none."""
        if self._config.family is Family.SEQ2SEQ:
            pad = self._engine.pad
            return [{"id": pad, "text": self._texts[pad], "logprob": None}]
        result: list[dict[str, Any]] = []
        for token, prediction in zip(job.prompt_ids, prompt_predictions(self._engine, job.prompt_ids), strict=True):
            logprob = None if prediction is None else self._chooser.logprob(prediction.probability(token))
            result.append({"id": token, "text": self._texts[token], "logprob": logprob})
        return result


def prompt_predictions(engine: Engine, ids: Sequence[int]) -> Iterator[Prediction | None]:
    """Predict each token of a prompt from those before it; there is no prediction for the first.

    Args:
        engine: The model.
        ids: The tokens of the prompt, special ones included.
    """
    # The text so far, and the tokens of a character that is not complete yet.
    text, partial = "", list[int]()
    for index, token in enumerate(ids):
        yield engine.next_token(text, partial) if index else None
        partial.append(token)
        piece = b"".join(engine.vocabulary[part] for part in partial).decode("utf-8", "replace")
        if not piece.endswith(REPLACEMENT):
            text, partial = text + piece, []
