"""What each released TGI version does differently, as plain facts.

The one table of version boundaries for the test server: every other module asks a `Release` what it does and never
compares version numbers itself. It opens no socket and knows nothing of requests. Called by `config` and, through it,
by every part of the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

RELEASES: tuple[str, ...] = (
    "1.0.3", "1.1.0", "1.1.1", "1.2.0", "1.3.0", "1.3.1", "1.3.2", "1.3.3", "1.3.4",
    "1.4.0", "1.4.1", "1.4.2", "1.4.3", "1.4.4", "1.4.5",
    "2.0.0", "2.0.1", "2.0.2", "2.0.3", "2.0.4", "2.1.0", "2.1.1", "2.2.0", "2.3.0", "2.3.1", "2.4.0", "2.4.1",
    "3.0.0", "3.0.1", "3.0.2", "3.1.0", "3.1.1", "3.2.0", "3.2.1", "3.2.2", "3.2.3",
    "3.3.0", "3.3.1", "3.3.2", "3.3.3", "3.3.4", "3.3.5", "3.3.6", "3.3.7",
)  # fmt: skip
"""Every release tag from 1.0.3 to 3.3.7, oldest first."""

# Some tags were released with another number in Cargo.toml, and that number is what /info shows.
_REPORTED = {"2.0.3": "2.0.2", "2.3.0": "2.3.1-dev0", "3.3.6": "3.3.6-dev0", "3.3.7": "3.3.6-dev0"}


class Family(StrEnum):
    """How the server runs its model; no route tells a client which one it is."""

    FLASH = "flash"
    """Causal models with flash or paged attention: Llama, Mistral, Falcon and the like on a GPU."""
    PADDED = "padded"
    """Other causal models, and anything on a CPU."""
    SEQ2SEQ = "seq2seq"
    """Encoder-decoder models: T5, FLAN-T5, mT0."""


class Absent(StrEnum):
    """What a server does when `max_new_tokens` is not sent."""

    TWENTY = "20"
    HUNDRED = "100"
    FILL = "fill"
    """Use all that is left of `max_total_tokens`."""


@dataclass(frozen=True)
class Release:
    """One TGI release, as the answers to every question the server asks about its version."""

    tag: str
    number: tuple[int, int, int]

    @staticmethod
    @cache
    def of(version: str) -> Release:
        """Look a release up by its tag.

        Args:
            version: The tag, such as "2.4.1".

        Raises:
            ValueError: If TGI never released that version.
        """
        if version not in RELEASES:
            raise ValueError(f"TGI {version!r} was never released; choose one of {', '.join(RELEASES)}")
        major, minor, patch = (int(part) for part in re.findall(r"\d+", version))
        return Release(version, (major, minor, patch))

    def since(self, version: str) -> bool:
        """Tell whether this release is `version` or later."""
        return self.number >= Release.of(version).number

    def between(self, first: str, last: str) -> bool:
        """Tell whether this release lies in the closed interval from `first` to `last`."""
        return Release.of(first).number <= self.number <= Release.of(last).number

    @property
    def reported(self) -> str:
        """The version that `/info` shows, which is not always the tag."""
        return _REPORTED.get(self.tag, self.tag)

    # --- limits and defaults ---

    @property
    def absent_max_new_tokens(self) -> Absent:
        """The default of `max_new_tokens` when the key is not sent."""
        if not self.since("1.1.1"):
            return Absent.TWENTY
        return Absent.HUNDRED if self.between("1.3.3", "2.4.1") else Absent.FILL

    @property
    def null_max_new_tokens(self) -> bool:
        """Whether an explicit null is accepted for `max_new_tokens`."""
        return self.since("1.1.1")

    @property
    def clips_new_tokens(self) -> bool:
        """Whether the length check counts at most 1024 new tokens."""
        return self.since("3.1.1")

    @property
    def truncate_ignored_by_checks(self) -> bool:
        """The bug of 2.0.0 to 2.0.2: length checks look at the untruncated prompt."""
        return self.between("2.0.0", "2.0.2")

    @property
    def sizes_truncate(self) -> bool:
        """Whether `/tokenize` applies `truncate`."""
        return self.between("1.4.0", "1.4.5")

    @property
    def always_has_tokenizer(self) -> bool:
        """Whether a model without a fast tokenizer is still counted (in Python)."""
        return self.since("2.4.1")

    @property
    def budget_check_without_tokenizer(self) -> bool:
        """Whether, lacking a tokenizer, `max_new_tokens` is checked against what the limits leave."""
        return not self.since("2.0.0")

    @property
    def samples_without_parameters(self) -> bool:
        """Whether a body without any `parameters` object is sampled instead of decoded greedily."""
        return self.since("1.4.0")

    @property
    def payload_limit(self) -> int:
        """The largest accepted request body, in bytes."""
        return 2_000_000 if self.since("2.4.1") else 2_097_152

    # --- routes ---

    @property
    def has_get_root(self) -> bool:
        """Whether `GET /` is a health check; 1.4.0 alone answers 405."""
        return self.tag != "1.4.0"

    @property
    def has_tokenize(self) -> bool:
        """Whether `/tokenize` exists."""
        return self.since("1.4.0")

    @property
    def has_chat(self) -> bool:
        """Whether `/v1/chat/completions` exists."""
        return self.since("1.4.0")

    @property
    def has_completions(self) -> bool:
        """Whether `/v1/completions` exists."""
        return self.since("1.4.4")

    @property
    def has_models(self) -> bool:
        """Whether `/v1/models` and `/chat_tokenize` exist."""
        return self.since("2.3.0")

    @property
    def has_api_key(self) -> bool:
        """Whether the server can ask for a bearer token."""
        return self.since("2.3.0")

    @property
    def invocations_any(self) -> bool:
        """Whether `/invocations` takes chat and completion bodies too, and is protected by the key."""
        return self.since("2.4.0")

    # --- shapes ---

    @property
    def info_layout(self) -> int:
        """Which of the six `/info` layouts this release shows, oldest 0."""
        return sum(self.since(tag) for tag in ("1.4.1", "2.0.1", "2.0.3", "2.1.0", "2.3.0"))

    @property
    def sse_space(self) -> bool:
        """Whether stream frames start with `data: ` instead of `data:`."""
        return self.since("2.1.0")

    @property
    def stream_index(self) -> bool:
        """Whether stream events carry `index`."""
        return self.since("1.4.0")

    @property
    def stream_input_length(self) -> bool:
        """Whether the details of the last stream event carry `input_length`."""
        return self.since("2.3.0")

    @property
    def stream_incomplete_type(self) -> bool:
        """Whether a stream that breaks off has an error type of its own."""
        return self.since("2.3.0")

    @property
    def compute_time_in_seconds(self) -> bool:
        """Whether `x-compute-time` is in seconds with decimals instead of whole milliseconds."""
        return self.since("1.4.3")

    @property
    def token_headers(self) -> bool:
        """Whether `x-prompt-tokens` and `x-generated-tokens` are sent."""
        return self.since("1.4.0")

    @property
    def root_full_text_without_tag(self) -> bool:
        """Whether `/` returns the full text when the model has no pipeline tag."""
        return self.since("1.4.2")

    @property
    def tokenize_text_by_bytes(self) -> bool:
        """Whether the `text` of `/tokenize` is cut right after non-ASCII characters."""
        return self.between("2.1.0", "2.2.0") or self.since("2.4.1")

    # --- grammar and log-probabilities ---

    @property
    def grammar_known(self) -> bool:
        """Whether the `grammar` parameter is read at all."""
        return self.since("1.4.1")

    @property
    def grammar_mix_fails(self) -> bool:
        """Whether flash batches that mix grammar and plain requests fail."""
        return self.between("1.4.1", "1.4.4")

    @property
    def grammar_on_padded(self) -> bool:
        """Whether padded models can follow a grammar."""
        return self.since("1.4.4")

    @property
    def checks_schemas(self) -> bool:
        """Whether the router looks at JSON grammars before the model does."""
        return self.since("1.4.2")

    @property
    def wants_properties(self) -> bool:
        """Whether JSON grammars must have `properties`."""
        return self.since("2.3.0")

    @property
    def compiles_schemas_in_router(self) -> bool:
        """Whether a schema that cannot be compiled is refused by the router."""
        return self.since("3.0.0")

    @property
    def requeues(self) -> bool:
        """Whether long answers are made in chunks, each of which starts the grammar afresh."""
        return self.since("3.0.0")

    @property
    def chunks_prefill(self) -> bool:
        """Whether a failing prefill takes every running request with it."""
        return self.tag == "2.4.0" or self.since("3.0.0")

    @property
    def prefill_flag_needed(self) -> bool:
        """Whether flash models return prefill log-probabilities only when the operator asked for them."""
        return self.since("3.0.0")

    @property
    def has_prefix_cache(self) -> bool:
        """Whether prefixes of earlier prompts can be reused."""
        return self.since("2.3.0")

    # --- chat ---

    @property
    def model_required(self) -> bool:
        """Whether OpenAI-style bodies must name a model."""
        return not self.since("2.2.0")

    @property
    def done_event(self) -> bool:
        """Whether OpenAI-style streams end with `[DONE]`."""
        return self.since("2.2.0")

    @property
    def openai_error_events(self) -> bool:
        """Whether errors inside OpenAI-style streams have OpenAI's shape."""
        return self.since("2.4.1")

    @property
    def swallows_chat_errors(self) -> bool:
        """Whether a streamed chat that fails shows nothing but `[DONE]`."""
        return self.tag == "2.4.0"

    @property
    def chat_greedy_at_zero(self) -> bool:
        """Whether `temperature: 0` in chat means greedy instead of an error."""
        return self.since("2.0.2")

    @property
    def completion_greedy_at_zero(self) -> bool:
        """Whether `temperature: 0` in completions means greedy instead of an error."""
        return self.since("2.0.4")
