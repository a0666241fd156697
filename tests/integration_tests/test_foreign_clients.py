"""Clients that know nothing of this package work against the test server, unchanged.

`InferenceClient`, `AsyncInferenceClient` and `HuggingFaceEndpoint` are installed with the package. TGI's own
`text-generation` client and the original stormtrooper come as wheels from the package index, without their
dependencies, and run in a process of their own; those tests are marked `foreign` and need pip.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import GenerationError, OverloadedError
from huggingface_hub.errors import ValidationError as HubValidationError
from langchain_huggingface import HuggingFaceEndpoint

from langchain_stormtrooper.testing import Fault, ScriptedEngine, TGIServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSIONS = ("1.0.3", "1.3.4", "1.4.0", "1.4.5", "2.0.4", "2.1.0", "2.4.1", "3.3.7")
CHATTING = tuple(version for version in VERSIONS if version >= "1.4.0")
ANSWERS = {" positive": 0.7, " negative": 0.2}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[TGIServer]:
    """Run a server of the version that the test is parametrised with."""
    with TGIServer(request.param, ScriptedEngine(lambda _: ANSWERS)) as running:
        yield running


everywhere = pytest.mark.parametrize("server", VERSIONS, indirect=True)
where_chat_exists = pytest.mark.parametrize("server", CHATTING, indirect=True)
oldest_and_newest = pytest.mark.parametrize("server", ["1.0.3", "3.3.7"], indirect=True)


# --- huggingface_hub ---


@everywhere
def test_hub_client_generates(server: TGIServer) -> None:
    """`InferenceClient` reads texts, details and top tokens of every version."""
    with InferenceClient(server.url) as client:
        text = client.text_generation("x", max_new_tokens=5, return_full_text=False)
        output = client.text_generation("x", max_new_tokens=5, details=True, top_n_tokens=2, return_full_text=False)
    assert text == output.generated_text == " positive"
    assert output.details is not None
    assert output.details.finish_reason == "eos_token"
    # The client leaves the inner lists as they came.
    top: Any = output.details.top_tokens
    assert [token["text"] for token in top[0]] == [" positive", " negative"]
    assert math.exp(output.details.tokens[0].logprob) == pytest.approx(0.7, abs=1e-3)


@everywhere
def test_hub_client_streams(server: TGIServer) -> None:
    """`InferenceClient` reads the streams of every version, with a space after `data:` or without."""
    with InferenceClient(server.url) as client:
        stream = client.text_generation("x", max_new_tokens=5, stream=True, details=True, return_full_text=False)
        chunks = list(stream)
    assert [chunk.token.text for chunk in chunks] == [" positive", "</s>"]
    assert [chunk.generated_text for chunk in chunks] == [None, " positive"]


@everywhere
def test_hub_client_knows_the_errors(server: TGIServer) -> None:
    """`InferenceClient` tells TGI's kinds of errors apart by their bodies."""
    server.faults.add(Fault("424", when=lambda prompt: prompt == "boom"))
    server.faults.add(Fault("429", when=lambda prompt: prompt == "busy"))
    with InferenceClient(server.url) as client:
        with pytest.raises(HubValidationError, match=r"must have less than 1024 tokens\. Given: 1030"):
            client.text_generation(ScriptedEngine().text_of(1030), max_new_tokens=5)
        with pytest.raises(GenerationError, match="boom"):
            client.text_generation("boom")
        with pytest.raises(OverloadedError, match="Model is overloaded"):
            client.text_generation("busy")


@where_chat_exists
def test_hub_client_chats(server: TGIServer) -> None:
    """`InferenceClient` reads chats and chat streams of every version that has them."""
    messages = [{"role": "user", "content": "Is it good?"}]
    with InferenceClient(server.url) as client:
        output = client.chat_completion(messages, max_tokens=5, seed=1, temperature=0.01)
        chunks = list(client.chat_completion(messages, max_tokens=5, seed=1, temperature=0.01, stream=True))
    assert output.choices[0].message.content == " positive"
    assert chunks[0].choices[0].delta.content == " positive"
    assert chunks[-1].choices[0].finish_reason in {"eos_token", "stop"}


@oldest_and_newest
async def test_async_hub_client(server: TGIServer) -> None:
    """`AsyncInferenceClient` generates and streams."""
    async with AsyncInferenceClient(server.url) as client:
        text = await client.text_generation("x", max_new_tokens=5, return_full_text=False)
        stream = await client.text_generation("x", max_new_tokens=5, stream=True, return_full_text=False)
        tokens = [token async for token in stream]
    assert (text, tokens) == (" positive", [" positive", "</s>"])


# --- langchain-huggingface ---


@everywhere
def test_endpoint(server: TGIServer) -> None:
    """`HuggingFaceEndpoint` invokes, batches and streams."""
    model = HuggingFaceEndpoint(model=server.url, max_new_tokens=5, temperature=0.01)
    with model.client:
        assert model.invoke("x") == " positive"
        assert model.batch(["x", "y"]) == [" positive", " positive"]
        assert "".join(model.stream("x")).startswith(" positive")


@oldest_and_newest
async def test_endpoint_async(server: TGIServer) -> None:
    """`HuggingFaceEndpoint` answers `ainvoke` and `abatch`."""
    model = HuggingFaceEndpoint(model=server.url, max_new_tokens=5, temperature=0.01)
    async with model.async_client:
        assert await model.ainvoke("x") == " positive"
        assert await model.abatch(["x", "y"]) == [" positive", " positive"]


# --- clients from wheels ---


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Download the two wheels, 40 kB together; pure Python, so that they can be imported as they are."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    # The command is fixed and the packages are pinned.
    subprocess.run([*command, str(folder), "text-generation==0.7.0", "stormtrooper==1.0.1"], check=True)
    return folder


def run(script: str, *arguments: str) -> Any:
    """Run a script in a fresh interpreter and return the JSON it prints."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TEXT_GENERATION = """
import asyncio, json, sys
url, wheel, chats = sys.argv[1:]
sys.path.insert(0, wheel)
from text_generation import AsyncClient, Client
from text_generation.errors import ValidationError

client = Client(url)
answer = client.generate("x", max_new_tokens=5, top_n_tokens=2)
try:
    client.generate(" word" * 1029, max_new_tokens=5)
except ValidationError as error:
    refusal = str(error)
print(json.dumps({
    "text": answer.generated_text,
    "reason": answer.details.finish_reason.value,
    "top": [token.text for token in answer.details.top_tokens[0]],
    "stream": [event.token.text for event in client.generate_stream("x", max_new_tokens=5)],
    "refusal": refusal,
    "async": asyncio.run(AsyncClient(url).generate("x", max_new_tokens=5)).generated_text,
    "chat": client.chat([{"role": "user", "content": "x"}], seed=1, temperature=0.01).choices[0].message.content
            if chats == "yes" else None,
}))
"""


@pytest.mark.foreign
@everywhere
def test_text_generation_client(server: TGIServer, wheels: Path) -> None:
    """TGI's own Python client 0.7 generates, streams, chats and recognises a refusal."""
    chats = server.config.release.has_chat
    wheel = str(next(wheels.glob("text_generation-*.whl")))
    result = run(TEXT_GENERATION, server.url, wheel, "yes" if chats else "no")
    assert result == {
        "text": " positive",
        "reason": "eos_token",
        "top": [" positive", " negative"],
        "stream": [" positive", "</s>"],
        "refusal": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1030",
        "async": " positive",
        "chat": " positive" if chats else None,
    }


# The module wants numpy, scikit-learn and thefuzz for five names; these are all it uses of them.
STORMTROOPER = """
import json, sys, types, warnings

def stub(name, **members):
    module = sys.modules[name] = types.ModuleType(name)
    vars(module).update(members)
    return module

class Base: pass
class Mixin: pass
stub("numpy", array=list, ndarray=list, concatenate=None)
stub("sklearn")
stub("sklearn.base", BaseEstimator=Base, ClassifierMixin=Mixin)
stub("sklearn.exceptions", NotFittedError=RuntimeError)
stub("thefuzz", process=types.SimpleNamespace(extractOne=lambda query, choices: (
    max(choices, key=lambda choice: len(set(choice) & set(query))), 100)))

endpoint, path = sys.argv[1:]
module = types.ModuleType("text_gen_inference")
exec(compile(open(path).read(), path, "exec"), vars(module))

zero = module.TGIZeroShotClassifier(endpoint, max_new_tokens=20).fit(None, ["positive", "negative"])
few = module.TGIFewShotClassifier(endpoint, max_new_tokens=20).fit(["Fine.", "Poor."], ["positive", "negative"])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    overlong = zero.predict(["word " * 2000])
print(json.dumps({
    "zero": zero.predict(["I love it.", "It was awful."]),
    "few": few.predict(["I love it.", "It was awful."]),
    "overlong": overlong,
    "warned": [str(warning.message) for warning in caught],
}))
"""


@pytest.mark.foreign
@pytest.mark.parametrize("version", VERSIONS)
def test_original_stormtrooper(version: str, wheels: Path, tmp_path: Path) -> None:
    """The original stormtrooper classifies, and returns None with a warning for an overlong text."""
    path = tmp_path / "text_gen_inference.py"
    with zipfile.ZipFile(next(wheels.glob("stormtrooper-*.whl"))) as wheel:
        path.write_bytes(wheel.read("stormtrooper/text_gen_inference.py"))
    engine = ScriptedEngine(lambda prompt: " negative!" if "'It was awful.'\n### Ass" in prompt else " positive")
    with TGIServer(version, engine) as server:
        result = run(STORMTROOPER, f"{server.url}/generate", str(path))
    assert result["zero"] == result["few"] == ["positive", "negative"]
    assert result["overlong"] == [None]
    assert len(result["warned"]) == 1
    assert "`inputs` tokens + `max_new_tokens` must be <= 2048" in result["warned"][0]
