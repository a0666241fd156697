"""The contract of `testing.contract`, on every kind of back end that there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseLanguageModel, SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_huggingface import HuggingFaceEndpoint

from langchain_stormtrooper import LlamaCpp, OpenAICompletions, TextGenerationInference, bridge
from langchain_stormtrooper.testing import OpenAIServer, ScriptedEngine, TGIServer
from langchain_stormtrooper.testing.contract import LLMContract

KEY = "sk-contract-secret"


def say(prompt: str) -> dict[str, float]:
    """A distribution over the labels that depends on the text; the last word of the prompt's text decides."""
    likeliest = {"jazz": " play music", "Oslo": " get weather", "two": " book restaurant"}
    found = next((label for word, label in likeliest.items() if word in prompt), " play music")
    return {label: 0.5 if label == found else 0.2 for label in likeliest.values()}


ENGINE = ScriptedEngine(say, answer_after="Intent:")


class Served(LLMContract):
    """A back end behind a server that runs for a test."""

    server: Any

    keeps_secrets = (KEY,)
    settings = {"prompt": "kinds"}

    @pytest.fixture(autouse=True)
    def _serve(self) -> Iterator[None]:
        """The server of the test."""
        with self.make_server() as self.server:
            yield

    def make_server(self) -> Any:
        """A server that is not yet started."""
        raise NotImplementedError


class OnTGI(Served):
    """`TextGenerationInference` on a TGI server of some version."""

    overlong_words = 3000
    version = ""

    def make_server(self) -> TGIServer:
        """The server."""
        return TGIServer(self.version, ENGINE)

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return TextGenerationInference(base_url=self.server.url, api_key=KEY)


class TestTGI103(OnTGI):
    """TGI 1.0.3, the oldest."""

    version = "1.0.3"


class TestTGI145(OnTGI):
    """TGI 1.4.5, the first with grammars."""

    version = "1.4.5"


class TestTGI241(OnTGI):
    """TGI 2.4.1."""

    version = "2.4.1"


class TestTGI337(OnTGI):
    """TGI 3.3.7, the last."""

    version = "3.3.7"


class TestTwoServers(OnTGI):
    """Two TGI servers behind one LLM."""

    version = "3.3.7"
    other: TGIServer

    @pytest.fixture(autouse=True)
    def _serve_another(self) -> Iterator[None]:
        """The second server of the test."""
        with self.make_server() as self.other:
            yield

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return TextGenerationInference(base_url=[self.server.url, self.other.url], api_key=KEY)


class OnOpenAI(Served):
    """`OpenAICompletions` on a server of some flavour.

    Attributes:
        chooser: How it shows chosen tokens.
        constraint: The field in which it takes a pattern.
        in_vain: Fields that it is sent and drops or refuses.
        refuses: Whether it refuses them.
    """

    overlong_words = 3000
    flavour: Any = "vllm"
    options: dict[str, Any] = {}
    api: Any = "completions"
    chooser: str | None = "logprob_token_ids"
    constraint: str | None = "structured_outputs"
    in_vain: tuple[str, ...] = ()
    refuses = False

    def test_what_the_server_does_is_found_out(self) -> None:
        """What it drops or refuses was tried, and is not believed: no name or version is gone by."""
        llm = self.make_llm()
        assert isinstance(llm, OpenAICompletions)
        found = bridge.run(llm.aabilities)
        assert (found.chooser, found.constraint) == (self.chooser, self.constraint)
        bodies = [one.json for one in self.server.received if isinstance(one.json, dict)]
        assert set(self.in_vain) <= {name for body in bodies for name in body}
        refused = self.server.counters.by_error.total() - self.server.counters.by_error["routing"]
        assert refused >= len(self.in_vain) if self.refuses else refused == 0

    def make_server(self) -> OpenAIServer:
        """The server."""
        # In a chat, the template's words stand behind the prompt's.
        engine = ENGINE if self.api == "completions" else ScriptedEngine(say)
        return OpenAIServer(self.flavour, engine, api_key=KEY, **self.options)

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return OpenAICompletions(base_url=self.server.url, api_key=KEY, api=self.api)


class TestVLLM(OnOpenAI):
    """vLLM."""


class TestVLLMThatDropsTokenIds(OnOpenAI):
    """vLLM that ignores the list of tokens without a word."""

    options = {"drops_logprob_token_ids": True}
    chooser = None
    in_vain = ("logprob_token_ids",)


class TestOldVLLM(OnOpenAI):
    """vLLM before structured outputs were called so, with errors of another shape."""

    options = {"guided": True, "old_errors": True, "drops_logprob_token_ids": True}
    chooser, constraint = None, "guided_regex"
    in_vain = ("logprob_token_ids", "structured_outputs")


class TestVLLMConstrained(OnOpenAI):
    """vLLM kept within the labels: it listens to `structured_outputs`, and drops `guided_regex`."""

    settings = {"prompt": "kinds", "method": "constrain"}


class TestOldVLLMConstrained(OnOpenAI):
    """vLLM before that: it listens to `guided_regex`, and drops `structured_outputs`."""

    settings = {"prompt": "kinds", "method": "constrain"}
    options = {"guided": True, "old_errors": True}
    constraint = "guided_regex"
    in_vain = ("structured_outputs",)


class TestVLLMChat(OnOpenAI):
    """vLLM's chat route alone."""

    api = "chat"
    chooser = None


class TestSGLang(OnOpenAI):
    """SGLang, which drops what is vLLM's."""

    flavour = "sglang"
    chooser, constraint = "score", "regex"
    in_vain = ("logprob_token_ids", "structured_outputs")


class TestSGLangConstrained(TestSGLang):
    """SGLang kept within the labels by its `regex`."""

    settings = {"prompt": "kinds", "method": "constrain"}


class TestStrictSGLang(OnOpenAI):
    """SGLang that refuses fields it does not know and scores nothing."""

    flavour = "sglang"
    options = {"refuses_unknown": True, "scores": False}
    chooser, constraint = None, "regex"
    in_vain = ("logprob_token_ids", "structured_outputs")
    refuses = True


class TestGateway(OnOpenAI):
    """A gateway that refuses fields it does not know."""

    flavour = "generic"
    chooser = constraint = None
    in_vain = ("structured_outputs", "regex", "guided_regex")
    refuses = True


class TestLlamaCppBehindAGateway(OnOpenAI):
    """llama.cpp of which only OpenAI's routes are let through."""

    flavour = "llama.cpp"
    chooser = constraint = None
    in_vain = ("structured_outputs", "regex", "guided_regex")


class TestSilentGateway(OnOpenAI):
    """A gateway that shows nothing of tokens."""

    flavour = "generic"
    options = {"logprobs": False}
    chooser = constraint = None
    in_vain = ("structured_outputs", "regex", "guided_regex")
    refuses = True


class OnTGIsOpenAIRoutes(OnTGI):
    """TGI's own OpenAI-compatible routes, for those who change the client before the server."""

    api: Any = "completions"

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM; the oldest of these servers list no model, and take any name."""
        return OpenAICompletions(base_url=self.server.url, api_key=KEY, api=self.api, model="tgi")


class TestCompletionsOfTGI204(OnTGIsOpenAIRoutes):
    """TGI 2.0.4, the first that is greedy there."""

    version = "2.0.4"


class TestCompletionsOfTGI337(OnTGIsOpenAIRoutes):
    """TGI 3.3.7, the last."""

    version = "3.3.7"


class OnLlamaCpp(LLMContract):
    """The embedded model, loaded once."""

    overlong_words = 400
    settings = {"prior": None}

    @pytest.fixture(autouse=True)
    def _load(self, small_model: LlamaCpp) -> None:
        """The model."""
        self.model = small_model


@pytest.fixture(scope="module")
def small_model() -> LlamaCpp:
    """The embedded model, with a small context, on one thread."""
    return LlamaCpp(n_threads=1, n_ctx=256)


class TestLlamaCpp(OnLlamaCpp):
    """llama.cpp in this process."""

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return self.model


class TestLlamaCppServer(OnLlamaCpp):
    """A real llama.cpp server, over HTTP: the one that runs in this process."""

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        engine = bridge.run(self.model._arunning).engine
        return OpenAICompletions(base_url=f"{engine.base_url}/v1", api_key=engine.key)


class TestHuggingFaceEndpoint(Served):
    """LangChain's own client of TGI."""

    overlong_words = 3000

    def make_server(self) -> TGIServer:
        """The server."""
        return TGIServer("3.3.7", ENGINE)

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return HuggingFaceEndpoint(
            model=self.server.url,
            huggingfacehub_api_token=KEY,
        )


class _Chat(SimpleChatModel):
    """A chat model that says what the script says."""

    @property
    def _llm_type(self) -> str:
        return "scripted-chat"

    def _call(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        probabilities = say(str(messages[-1].content))
        return max(probabilities, key=probabilities.__getitem__)


class TestChatModel(LLMContract):
    """A LangChain chat model."""

    def make_llm(self) -> BaseLanguageModel[Any]:
        """The LLM."""
        return _Chat()
