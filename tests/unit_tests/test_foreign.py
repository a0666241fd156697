"""LLMs and chat models that are not ours: greedy copies, answers, log-probabilities, errors."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import LABELS, SECRET, Recorder, label_of
from langchain_core.exceptions import ContextOverflowError, ModelAuthenticationError, ModelRateLimitError
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation
from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import override

from langchain_stormtrooper.answering import concurrency
from langchain_stormtrooper.classifiers import ZeroShotClassifier
from langchain_stormtrooper.errors import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    FailedRequestWarning,
    LowConfidenceWarning,
    OverlongInputError,
    RequestFailedError,
    ServerUnreachableError,
    SettingsWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.llms import foreign
from langchain_stormtrooper.llms.foreign_errors import Passing, read_error
from langchain_stormtrooper.llms.foreign_logprobs import read_tokens, sureness
from langchain_stormtrooper.results import Reason


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off pauses are over at once."""
    monkeypatch.setattr("langchain_stormtrooper.answering.foreign.backoff", lambda *_: 0.001)


class HTTPError(Exception):
    """An error as HTTP libraries make it."""

    def __init__(self, status: int, message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = SimpleNamespace(status_code=status, text=message, headers=headers or {})


class Chat(BaseChatModel):
    """A chat model that answers, or raises, what its script says, and notes how it was called."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: list[Any] = Field(default_factory=lambda: [AIMessage("sport")])
    temperature: float | None = 0.7
    top_p: float | None = None
    max_tokens: int | None = None
    n: int = 2
    logprobs: bool | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    seen: list[dict[str, Any]] = Field(default_factory=list)

    @property
    @override
    def _llm_type(self) -> str:
        return "scripted-chat"

    @override
    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        fields = {name: getattr(self, name) for name in ("temperature", "top_p", "max_tokens", "n", "model_kwargs")}
        self.seen.append({"messages": messages, "stop": stop, **fields})
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(said, Exception):
            raise said
        return ChatResult(generations=[ChatGeneration(message=said)])


class Endpoint(LLM):
    """A text LLM with the fields of `HuggingFaceEndpoint`."""

    temperature: float | None = 0.8
    top_p: float | None = 0.95
    typical_p: float | None = 0.95
    top_k: int | None = None
    do_sample: bool = False
    watermark: bool = False
    return_full_text: bool = False
    max_new_tokens: int = 512
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    seen: list[dict[str, Any]] = Field(default_factory=list)

    @property
    @override
    def _llm_type(self) -> str:
        return "endpoint"

    @override
    def _call(self, prompt: str, stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any) -> str:
        self.seen.append({**{name: getattr(self, name) for name in type(self).model_fields}, "stop": stop})
        return prompt + " science"


def classifier(llm: Any, **settings: Any) -> ZeroShotClassifier:
    """A classifier of the labels that fakes know."""
    return ZeroShotClassifier(LABELS, llm=llm, **settings)


class TestSettings:
    """What is changed for classifying, on a copy."""

    async def test_chat_model(self) -> None:
        """A chat model gets a temperature of 0 and one answer; length and stop texts stay its own, and so does it."""
        llm = Chat(top_p=0.9, model_kwargs={"seed": 1, "user": "me"})
        before = llm.model_dump(exclude={"seen", "script"})
        assert await classifier(llm).ainvoke("x") == "sport"
        seen = llm.seen[0]
        assert (seen["temperature"], seen["top_p"], seen["n"], seen["max_tokens"]) == (0.0, None, 1, None)
        assert (seen["stop"], seen["model_kwargs"]) == (None, {"user": "me"})
        assert seen["messages"][0].content.startswith("Classify the text below.")
        assert "Answer with the label only." in seen["messages"][0].content
        assert llm.model_dump(exclude={"seen", "script"}) == before

    async def test_text_llm(self) -> None:
        """TGI's fields are emptied, since any of them makes it sample; a prompt that is repeated is taken off."""
        llm = Endpoint(model_kwargs={"top_k": 5})
        assert await classifier(llm).ainvoke("about sport") == "science"
        seen = llm.seen[0]
        assert [seen[name] for name in ("temperature", "top_p", "typical_p", "top_k")] == [None] * 4
        assert (seen["do_sample"], seen["model_kwargs"], seen["stop"]) == (False, {}, ["\n"])
        assert llm.temperature == 0.8

    @pytest.mark.parametrize(
        ("own", "told", "expected"),
        [({}, None, 32), ({"max_new_tokens": 77}, None, 77), ({"max_new_tokens": 77}, 5, 5), ({}, 5, 5)],
    )
    async def test_length(self, own: dict[str, int], told: int | None, expected: int) -> None:
        """The classifier's own length counts, then the user's, then what is enough for the longest label."""
        llm = Endpoint(**own)
        await classifier(llm, max_new_tokens=told).ainvoke("x")
        assert llm.seen[0]["max_new_tokens"] == expected

    async def test_length_of_a_chat(self) -> None:
        """A chat model gets a length only if the classifier was told one."""
        llm = Chat()
        await classifier(llm, max_new_tokens=9).ainvoke("x")
        assert llm.seen[0]["max_tokens"] == 9

    async def test_nothing_to_change(self) -> None:
        """An LLM without such fields is used as it is, not as a copy."""
        llm = FakeListLLM(responses=["sport", "science"])
        assert await classifier(llm).abatch(["a", "b"]) == ["sport", "science"]
        assert foreign.greedy(llm, stop=(), max_new_tokens=5, enough_tokens=9).fields == {}

    async def test_refused_temperature(self) -> None:
        """A model that takes no temperature of 0 keeps its own, which is warned about once; no row is lost."""

        class Reasoning(Chat):
            def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
                result = super()._generate(*args, **kwargs)
                if self.temperature == 0:
                    raise HTTPError(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
                return result

        llm = Reasoning()
        task = classifier(llm)
        with pytest.warns(SettingsWarning, match="Reasoning does not take `temperature`") as seen:
            assert await task.abatch(["a", "b", "c"]) == ["sport"] * 3
        assert await task.ainvoke("d") == "sport"
        assert len(seen) == 1
        assert sorted({call["temperature"] for call in llm.seen}) == [0.0, 0.7]
        assert (llm.seen[-1]["temperature"], llm.seen[-1]["n"]) == (0.7, 1)

    async def test_a_text_about_temperature(self) -> None:
        """An error that quotes a text changes nothing for others."""
        text = "temperature is not supported here"
        llm = Chat(script=[HTTPError(400, f"bad request: {text}"), AIMessage("sport")])
        with pytest.warns(FailedRequestWarning):
            assert await classifier(llm).abatch([text, "b"], {"max_concurrency": 1}) == [None, "sport"]
        assert [call["temperature"] for call in llm.seen] == [0.0, 0.0]

    def test_concurrency(self) -> None:
        """LLMs that compute in the process get one row at once, others what they say, or sixteen."""

        class HuggingFacePipeline(FakeListLLM):
            pass

        class Limited(FakeListLLM):
            max_concurrency: int = 3

        kinds = (HuggingFacePipeline, Limited, FakeListLLM)
        assert [concurrency(kind(responses=["x"])) for kind in kinds] == [1, 3, 16]


class TestAnswers:
    """What chat models and LLMs answer."""

    @pytest.mark.parametrize(
        ("content", "label"),
        [
            ("sport", "sport"),
            ([{"type": "text", "text": "Science."}], "science"),
            ([{"type": "reasoning", "reasoning": "sport? no"}, {"type": "text", "text": "politics"}], "politics"),
            ([{"type": "thinking", "thinking": "sport"}, {"type": "text", "text": "science"}], "science"),
            (["pol", "itics"], "politics"),
            ("<think>\nIt could be science.\n</think>\n\nsport", "sport"),
        ],
    )
    async def test_content(self, content: Any, label: str) -> None:
        """Texts and blocks of text are read; what a model thought is not."""
        assert await classifier(Chat(script=[AIMessage(content)])).ainvoke("x") == label

    @pytest.mark.parametrize(
        ("message", "error"),
        [
            (AIMessage(""), "the LLM's answer has no text"),
            (AIMessage([]), "the LLM's answer has no text"),
            (AIMessage("", tool_calls=[{"name": "sport", "args": {}, "id": "1"}]), "called a tool instead"),
        ],
    )
    async def test_no_text(self, message: AIMessage, error: str) -> None:
        """An answer without a text is no label, and the warning says what came instead."""
        with pytest.warns(UnmatchedLabelWarning, match=error):
            row = await classifier(Chat(script=[message])).with_details().ainvoke("x")
        assert row.reason is Reason.UNMATCHED

    @pytest.mark.parametrize(
        "message",
        [
            AIMessage("sport", usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}),
            AIMessage("sport", response_metadata={"token_usage": {"prompt_tokens": 7, "completion_tokens": 2}}),
            AIMessage("sport", response_metadata={"usage": {"input_tokens": 7, "output_tokens": 2}}),
        ],
    )
    async def test_usage(self, message: AIMessage) -> None:
        """Tokens are counted wherever the model tells them."""
        row = await classifier(Chat(script=[message])).with_details().ainvoke("x")
        assert (row.prompt_tokens, row.generated_tokens) == (7, 2)

    async def test_runs(self) -> None:
        """The chat model's run is a child of the row's."""
        recorder = Recorder()
        task = classifier(Chat())
        await task.abatch(["a", "b"], {"callbacks": [recorder]})
        assert {run["parent"] for run in recorder.llms.values()} == set(recorder.chains)

    async def test_no_async_twin(self) -> None:
        """A chat model that has no async calls is called in threads."""

        class SyncOnly(Chat):
            async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
                raise NotImplementedError("async generation is not supported")

        assert await classifier(SyncOnly()).abatch(["a", "b"]) == ["sport", "sport"]
        assert classifier(SyncOnly()).batch(["a", "b"], {"callbacks": [Recorder()]}) == ["sport", "sport"]

    @pytest.mark.parametrize("places", [1, 4])
    def test_sync_llms_run_in_threads(self, places: int) -> None:
        """LLMs with sync calls only run side by side without a deadlock, within `max_concurrency`, in order."""

        class Sleeping(LLM):
            _running: int = PrivateAttr(default=0)
            _peak: int = PrivateAttr(default=0)
            _lock: Any = PrivateAttr(default_factory=threading.Lock)

            @property
            def _llm_type(self) -> str:
                return "sleeping"

            def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
                with self._lock:
                    self._running += 1
                    self._peak = max(self._peak, self._running)
                time.sleep(0.005)
                with self._lock:
                    self._running -= 1
                return label_of(prompt.rpartition("Text: ")[2].partition("\n")[0])

        llm = Sleeping()
        texts: list[Any] = [f"text {number}" for number in range(40)]
        assert classifier(llm).batch(texts, {"max_concurrency": places}) == list(map(label_of, texts))
        assert llm._peak == places


def openai(*tokens: tuple[str, float, dict[str, float]]) -> dict[str, Any]:
    """Log-probabilities as OpenAI's chats have them."""
    return {
        "content": [
            {
                "token": text,
                "logprob": math.log(p),
                "top_logprobs": [{"token": other, "logprob": math.log(q)} for other, q in top.items()],
            }
            for text, p, top in tokens
        ]
    }


SPREAD = {"sp": 0.6, "pol": 0.2, "Sc": 0.1, "The": 0.05}


class TestLogprobs:
    """Log-probabilities that generations carry."""

    async def test_probabilities_of_all_labels(self) -> None:
        """Where each label has a first token of its own among the alternatives, all get their share of these."""
        said = AIMessage("sport", response_metadata={"logprobs": openai(("sp", 0.6, SPREAD), ("ort", 0.9, {}))})
        row = await classifier(Chat(script=[said])).with_details().ainvoke("x")
        assert row.probabilities == pytest.approx({"sport": 0.6 / 0.9, "politics": 0.2 / 0.9, "science": 0.1 / 0.9})
        assert row.confidence == pytest.approx(0.6 / 0.9)
        assert row.covered_mass == pytest.approx(0.9)

    @pytest.mark.parametrize(
        "top",
        [{}, {"sp": 0.6, "pol": 0.2}, {"sp": 0.6, "s": 0.2, "pol": 0.1}],
        ids=["no alternatives", "a label is missing", "one begins two labels"],
    )
    async def test_path(self, top: dict[str, float]) -> None:
        """Else the label has the probability of the tokens that spell it, and no other label has one."""
        said = AIMessage("sport.", response_metadata={"logprobs": openai(("sp", 0.6, top), ("ort", 0.9, {}))})
        row = await classifier(Chat(script=[said])).with_details().ainvoke("x")
        assert row.confidence == pytest.approx(0.54)
        assert (row.probabilities, row.covered_mass) == (None, None)

    @pytest.mark.parametrize(
        "info",
        [
            {"logprobs": openai((" sport", 0.5, {}))},
            {"logprobs": openai((" sport", 0.5, {}))["content"]},
            {"logprobs": {"tokens": [" sport"], "token_logprobs": [math.log(0.5)], "top_logprobs": [{" x": -1.0}]}},
            {"details": {"tokens": [{"text": " sport", "logprob": math.log(0.5)}], "top_tokens": [[]]}},
        ],
        ids=["chat", "list", "completion", "tgi"],
    )
    def test_shapes(self, info: dict[str, Any]) -> None:
        """Chats', completions' and TGI's ways of telling log-probabilities are read."""
        sure = sureness(read_tokens(Generation(text=" sport", generation_info=info)), "sport", LABELS)
        assert sure is not None
        assert sure.confidence == pytest.approx(0.5)

    @pytest.mark.parametrize(
        "info",
        [
            None,
            {"logprobs": None},
            {"logprobs": 7},
            {"logprobs": {"content": "x"}},
            {"logprobs": {"content": [{"token": "sport"}]}},
            {"logprobs": {"content": [{"token": "sport", "logprob": math.nan}]}},
            {"logprobs": {"tokens": ["sport"], "token_logprobs": 3}},
            {"details": {"tokens": [None]}},
        ],
    )
    def test_nonsense(self, info: Any) -> None:
        """What is no log-probability is none."""
        assert read_tokens(Generation(text="sport", generation_info=info)) == []

    @pytest.mark.parametrize(
        ("tokens", "label", "labels", "confidence"),
        [
            ([("The", 0.5), (" answer", 1.0), (" is", 1.0), (" sport", 0.9)], "sport", LABELS, None),
            ([("sport", 0.5), (" news", 0.8)], "sport news", ["sport", "sport news"], 0.4),
            ([("<think>", 0.3), ("sport", 0.2), ("</think>", 0.1), ("\n", 0.9), ("sport", 0.5)], "sport", LABELS, 0.5),
            ([("**", 0.5), ("Sport", 0.5), ("**", 0.5)], "sport", LABELS, 0.25),
        ],
    )
    def test_which_tokens_count(
        self, tokens: list[tuple[str, float]], label: str, labels: list[str], confidence: float | None
    ) -> None:
        """The tokens from the start of the answer to the end of its label count; a sentence tells nothing."""
        info = {"logprobs": openai(*((text, p, {}) for text, p in tokens))}
        sure = sureness(read_tokens(Generation(text="", generation_info=info)), label, labels)
        assert (None if sure is None else round(sure.confidence, 6)) == confidence

    def test_one_token_in_two_spellings(self) -> None:
        """A server that shows alternatives without their space shows the generated token twice; it counts once."""
        info = {"logprobs": openai((" sport", 0.5, {"sport": 0.5, "politics": 0.3, "science": 0.1}))}
        sure = sureness(read_tokens(Generation(text="", generation_info=info)), "sport", LABELS)
        assert sure is not None
        assert sure.covered_mass == pytest.approx(0.9)

    async def test_min_confidence(self) -> None:
        """Who asks an LLM for log-probabilities may demand a confidence; a row that tells none has not got it."""
        sure, unsure = (
            AIMessage("sport", response_metadata={"logprobs": openai(("sport", p, {}))}) for p in (0.9, 0.4)
        )
        llm = Chat(script=[sure, unsure, AIMessage("sport")], logprobs=True)
        task = classifier(llm, min_confidence=0.5).with_details()
        with pytest.warns(LowConfidenceWarning, match="2 of 3"):
            rows = await task.abatch(["a", "b", "c"], {"max_concurrency": 1})
        assert [row.label for row in rows] == ["sport", None, None]
        assert [row.confidence for row in rows] == [pytest.approx(0.9), pytest.approx(0.4), None]

    async def test_a_demand_for_one_call(self) -> None:
        """A confidence that is demanded for one call holds for that call, though the same LLM was asked before."""
        said = AIMessage("sport", response_metadata={"logprobs": openai(("sport", 0.9, {}))})
        task = classifier(Chat(script=[said] * 3, logprobs=True))
        assert await task.ainvoke("a") == "sport"
        with pytest.warns(LowConfidenceWarning):
            assert await task.bind(min_confidence=0.95).ainvoke("b") is None
        assert await task.ainvoke("c") == "sport"

    @pytest.mark.parametrize(
        ("llm", "settings"), [(Chat(), {"min_confidence": 0.5}), (Chat(logprobs=True), {"min_margin": 0.1})]
    )
    async def test_refused_demands(self, llm: Chat, settings: dict[str, float]) -> None:
        """Without log-probabilities, and for anything but a confidence, a demand is refused before the first row."""
        with pytest.raises(ConfigurationError, match=next(iter(settings))):
            await classifier(llm, **settings).ainvoke("x")
        assert llm.seen == []


OVERLONG: list[tuple[str, int | None, int | None]] = [
    (
        "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3002 `inputs` tokens and 5 `max_new_tokens`",
        3002,
        2043,
    ),
    ("Input validation error: `inputs` must have less than 1024 tokens. Given: 1030", 1030, 1024),
    ("This model's maximum context length is 4097 tokens. However, your messages resulted in 5025 tokens.", 5025, 4097),
    (
        "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens (2084 in the messages, "
        "16 in the completion).",
        2084,
        2032,
    ),
    ("This model's maximum context length is 2048 tokens. However, your request has 2084 input tokens.", 2084, 2048),
    (
        "You passed 5000 input tokens and requested 16 output tokens. However, the model's context length is only 4096 "
        "tokens",
        5000,
        4080,
    ),
    (
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
        "5000 tokens: 4984 tokens from the input messages and 16 tokens for the completion.",
        4984,
        4080,
    ),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 5000, 4096),
    ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 5000, 4096),
    (
        '{"error":{"code":400,"message":"the request exceeds the available context size","type":'
        '"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}',
        5000,
        4096,
    ),
    ("Requested tokens (5000) exceed context window of 4096", 5000, 4096),
    ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease", 190000, 180000),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
    ("{'code': 'context_length_exceeded'}", None, None),
]


class TestErrors:
    """What foreign errors mean."""

    @pytest.mark.parametrize(("said", "tokens", "limit"), OVERLONG)
    def test_overlong(self, said: str, tokens: int | None, limit: int | None) -> None:
        """Known sentences say that a prompt is too long, and how many tokens it has and may have."""
        for error in (HTTPError(400, said), ValueError(said), RuntimeError("x")):
            if str(error) == "x":
                error.__cause__ = HTTPError(422, said)
            meaning = read_error(error)
            assert isinstance(meaning, OverlongInputError)
            assert (meaning.tokens, meaning.limit) == (tokens, limit)

    @pytest.mark.parametrize(
        ("error", "meaning"),
        [
            (ContextOverflowError(SECRET), OverlongInputError),
            (HTTPError(413, SECRET), OverlongInputError),
            (HTTPError(422, f"unknown variant {SECRET}"), RequestFailedError),
            (HTTPError(400, SECRET), RequestFailedError),
            (HTTPError(401, SECRET), AuthenticationError),
            (HTTPError(403, SECRET), AuthenticationError),
            (HTTPError(404, SECRET), EndpointNotFoundError),
            (ConnectionRefusedError(SECRET), ServerUnreachableError),
            (HTTPError(429, f"insufficient_quota {SECRET}"), RequestFailedError),
            (ZeroDivisionError(SECRET), RequestFailedError),
        ],
    )
    def test_meaning(self, error: Exception, meaning: type[Exception]) -> None:
        """A status or a kind of error says whose trouble it is; 422 alone is not overlong; messages are not shown."""
        read = read_error(error)
        assert type(read) is meaning
        assert SECRET not in str(read)

    @pytest.mark.parametrize(
        ("error", "is_refusal"),
        [
            (HTTPError(429), True),
            (ModelRateLimitError("slow down"), True),
            (HTTPError(503), False),
            (HTTPError(424), False),
            (ConnectionResetError("reset"), False),
            (RuntimeError("Event loop is closed"), False),
        ],
    )
    def test_passing(self, error: Exception, is_refusal: bool) -> None:
        """Refusals, gateways' errors and dropped connections may pass."""
        meaning = read_error(error)
        assert isinstance(meaning, Passing)
        assert meaning.is_refusal is is_refusal

    def test_retry_after(self) -> None:
        """The pause that a server asks for is kept."""
        meaning = read_error(HTTPError(429, headers={"retry-after": "3"}))
        assert isinstance(meaning, Passing)
        assert meaning.pause == 3.0

    @pytest.mark.parametrize("trouble", [HTTPError(429), HTTPError(503), ConnectionResetError("x")])
    async def test_no_row_is_lost_to_one_error(self, trouble: Exception) -> None:
        """A row that met trouble that passes is asked again."""
        llm = Chat(script=[trouble, trouble, AIMessage("sport")])
        assert await classifier(llm).abatch(["a", "b"]) == ["sport", "sport"]

    async def test_trouble_that_stays(self) -> None:
        """Trouble of a row's own ends it after four tries; its neighbour goes on."""
        llm = Chat(script=[*[HTTPError(503)] * 4, AIMessage("sport")])
        with pytest.warns(FailedRequestWarning, match="1 of 2 .*raised HTTPError"):
            assert await classifier(llm).abatch(["a", "b"], {"max_concurrency": 1}) == [None, "sport"]
        assert len(llm.seen) == 5

    async def test_a_server_that_refuses_everybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refusals are borne for a time that all rows share, not for one each."""
        monkeypatch.setattr("langchain_stormtrooper.answering.foreign._IN_VAIN", 0.05)
        started = time.monotonic()
        with pytest.warns(FailedRequestWarning, match="40 of 40"):
            rows = await classifier(Chat(script=[HTTPError(429)])).abatch([str(number) for number in range(40)])
        assert rows == [None] * 40
        assert time.monotonic() - started < 2

    async def test_refusals_lower_what_is_in_flight(self) -> None:
        """A server with few places answers all rows, because fewer are sent."""

        class Narrow(Chat):
            async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
                self.model_kwargs["now"] = now = self.model_kwargs.get("now", 0) + 1
                try:
                    await asyncio.sleep(0.002)
                    if now > 3:
                        self.model_kwargs["refused"] = self.model_kwargs.get("refused", 0) + 1
                        raise HTTPError(429)
                    return self._generate(*args, **kwargs)
                finally:
                    self.model_kwargs["now"] -= 1

        llm = Narrow()
        assert await classifier(llm).abatch([str(number) for number in range(100)]) == ["sport"] * 100
        assert llm.model_kwargs["refused"] < 50

    async def test_truncate(self) -> None:
        """With the counts that an error tells, a long text is cut to fit, and the row is marked."""

        class Short(Chat):
            def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
                tokens = len(messages[0].content.split())
                if tokens > 100:
                    raise HTTPError(400, f"prompt is too long: {tokens} tokens > 100 maximum")
                return super()._generate(messages, *args, **kwargs)

        llm = Short()
        row = await classifier(llm, on_overlong="truncate").with_details().ainvoke("word " * 500)
        assert (row.label, row.truncated) == ("sport", True)
        assert 70 < len(llm.seen[0]["messages"][0].content.split()) <= 100

    async def test_wrong_key(self) -> None:
        """A wrong key is raised, LangChain's own error as it is."""
        for error, raised in (
            (HTTPError(401), AuthenticationError),
            (ModelAuthenticationError("k"), ModelAuthenticationError),
        ):
            with pytest.raises(raised):
                await classifier(Chat(script=[error])).abatch(["a", "b"])


class TestPipeline:
    """`HuggingFacePipeline` without transformers: a function that does what its pipeline does."""

    @staticmethod
    def pipeline(calls: list[dict[str, Any]]) -> Any:
        """A text-generation pipeline that repeats its prompt unless it is told not to."""

        def run(prompts: list[str], **kwargs: Any) -> list[list[dict[str, str]]]:
            calls.append(kwargs)
            shown = [prompt if kwargs.get("return_full_text", True) else "" for prompt in prompts]
            return [[{"generated_text": f"{one} politics"}] for one in shown]

        run.task = "text-generation"  # type: ignore[attr-defined]
        run.model = SimpleNamespace(name_or_path="fake")  # type: ignore[attr-defined]
        run.tokenizer = None  # type: ignore[attr-defined]
        return run

    async def test_llm(self) -> None:
        """The pipeline is told with every call not to sample, not to repeat the prompt, and when to end."""
        from langchain_huggingface import HuggingFacePipeline

        calls: list[dict[str, Any]] = []
        llm = HuggingFacePipeline(pipeline=self.pipeline(calls))
        assert await classifier(llm).abatch(["a", "b"]) == ["politics"] * 2
        expected = {"do_sample": False, "max_new_tokens": 32, "return_full_text": False}
        assert [call for call in calls if call] == [expected] * 2

    def test_own_length(self) -> None:
        """A length among the pipeline's own settings stays."""
        from langchain_huggingface import HuggingFacePipeline

        llm = HuggingFacePipeline(pipeline=self.pipeline([]), pipeline_kwargs={"max_new_tokens": 4})
        settings = foreign.greedy(llm, stop=(), max_new_tokens=None, enough_tokens=32)
        assert settings.keywords == {"pipeline_kwargs": {"do_sample": False, "return_full_text": False}}


def test_a_cancellation_from_within_is_the_rows_trouble() -> None:
    """An LLM in which something was cancelled fails its row with a warning, and no other."""

    class Cancelled(FakeListLLM):
        async def _acall(self, *args: Any, **kwargs: Any) -> Any:
            raise asyncio.CancelledError

    classifier = ZeroShotClassifier(LABELS, llm=Cancelled(responses=["x"]))
    with pytest.warns(FailedRequestWarning, match="CancelledError"):
        answers = classifier.with_details().batch(["a", "b"])
    assert [answer.reason for answer in answers] == ["failed", "failed"]
