"""Settings of `TextGenerationInference`: what is refused when it is created, and what its copies and pickles hold."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.load import dumps

from langchain_stormtrooper import (
    ConfigurationError,
    OpenAICompletions,
    TextGenerationInference,
    ZeroShotClassifier,
    load,
)
from langchain_stormtrooper.probing import aprobe
from langchain_stormtrooper.probing_openai import aprobe_openai

KEY, HEADER = "KEYsecret", "HEADERsecret"


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's environment is not in the tests."""
    for name in ("TGI_BASE_URL", "TGI_API_KEY", "OPENAI_COMPATIBLE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


PORT, HOST, SPACE = "a number from 1 to 65535", "no possible host name", "a space, a line break"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        *[(f"http://host:{port}", PORT) for port in ("99999", "65536", "0", "abc", "-1", "8080x", "8o80")],
        *[
            (f"http://{host}", HOST)
            for host in ("a..b", ".a", "exa<mple", "%61.de", "a" * 64, ".".join(["a" * 60] * 5))
        ],
        *[(url, SPACE) for url in ("http://a b", "http://a\n", " http://a", "http://a:80\r\n80", "http://a\x00", "\t")],
        *[(url, "no IPv6 address") for url in ("http://[::1", "http://[zz]:80", "http://::1]")],
        *[(url, "must be an http:// or https:// address") for url in ("", "host:80", "ftp://a", "http://", "/x")],
        *[(url, "must not carry") for url in ("http://u:p@a", "http://u@a", "http://@a", "http://a?q", "http://a#f")],
    ],
)
def test_addresses_that_are_none(url: str, says: str) -> None:
    """Each is refused in one sentence when the LLM is created, not in a foreign one when it is used."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        TextGenerationInference(base_url=url)
    assert "\n" not in str(caught.value)
    # Once more at first use, for what validation never saw.
    changed = TextGenerationInference().model_copy(update={"base_url": url})
    with pytest.raises(ConfigurationError, match=says):
        changed.invoke("x")


@pytest.mark.parametrize(
    "url",
    [
        *[
            "http://127.0.0.1:8080",
            "http://[::1]:80",
            "https://example.org",
            "https://example.org.",
            "http://my_host:1",
        ],
        *["http://bücher.example:65535", "http://localhost/gateway/tgi", "https://xn--bcher-kva.example"],
    ],
)
def test_addresses(url: str) -> None:
    """What can be an address is taken as it is, without its last slash."""
    assert TextGenerationInference(base_url=url).base_url == url
    assert TextGenerationInference(base_url=f"{url}/").base_url == url


MARKS = ["\n", "\r\n", "\t", "\x00", "\x7f", "\u2028", "\ud800"]
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "api_key": lambda mark: {"api_key": KEY + mark},
    "header": lambda mark: {"headers": {"x-gateway": HEADER + mark}},
    "name": lambda mark: {"headers": {"x-gateway" + mark: HEADER}},
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("place", PLACES)
def test_control_characters(mark: str, place: str) -> None:
    """A key or header with a line break, as read from a file, is refused with what to do, and not shown."""
    with pytest.raises(ValueError, match="line break") as caught:
        TextGenerationInference(**PLACES[place](mark))
    assert place == "name" or "strip it" in str(caught.value)
    assert KEY not in str(caught.value)
    assert HEADER not in str(caught.value)


def test_a_key_of_the_environment_with_a_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused like one that was given, also where it is read for what was unpickled."""
    pickled = pickle.dumps(TextGenerationInference())
    monkeypatch.setenv("TGI_API_KEY", f"{KEY}\n")
    with pytest.raises(ValueError, match="strip it"):
        TextGenerationInference()
    with pytest.raises(ConfigurationError, match="strip it"):
        pickle.loads(pickled).invoke("x")  # noqa: S301  # ours


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"x": 1}, "The header x must be a text, not int: use str"),
        ({"x": HEADER.encode()}, "must be a text, not bytes"),
        ({"x": None}, "must be a text, not NoneType"),
        ({1: "x"}, "no header's"),
        ({"": "x"}, "no header's"),
        ({"a b": "x"}, "no header's"),
        ({"a:": "x"}, "no header's"),
        ({"ä": "x"}, "no header's"),
        ({"content-type": "text/plain"}, "must not have content-type"),
        ({"Content-Length": "3"}, "must not have Content-Length"),
        ({"Transfer-Encoding": "chunked"}, "must not have Transfer-Encoding"),
        ([("x", "y")], "must be a dict"),
        ("x: y", "must be a dict"),
    ],
)
def test_headers_that_are_none(headers: Any, says: str) -> None:
    """What cannot be sent as a header, or would spoil the request, is refused in one sentence."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        TextGenerationInference(headers=headers)
    assert "\n" not in str(caught.value)
    assert HEADER not in str(caught.value)


@pytest.mark.parametrize("stop", [[""], ["a", ""]])
def test_empty_stop_strings(stop: list[str]) -> None:
    """A stop string that every text ends with is refused, at creation and in a call."""
    with pytest.raises(ValueError, match="A stop string is empty"):
        TextGenerationInference(stop=stop)
    with pytest.raises(ConfigurationError, match="A stop string is empty"):
        TextGenerationInference().invoke("x", stop=stop)


def test_an_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is no key, and does not clash with an Authorization header."""
    monkeypatch.setenv("TGI_API_KEY", "")
    model = TextGenerationInference(headers={"authorization": "Basic x"})
    assert model._transport._headers == {"authorization": "Basic x"}
    with pytest.raises(ValueError, match="keep one"):
        TextGenerationInference(headers={"authorization": "Basic x"}, api_key="k")


def test_an_empty_address_of_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is no address."""
    monkeypatch.setenv("TGI_BASE_URL", "")
    assert TextGenerationInference().base_url == "http://127.0.0.1:8080"
    monkeypatch.setenv("TGI_BASE_URL", "http://127.0.0.1:9/")
    assert TextGenerationInference().base_url == "http://127.0.0.1:9"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("whole", [False, True], ids=["llm", "classifier"])
def test_pickles_hold_no_secret(monkeypatch: pytest.MonkeyPatch, protocol: int, whole: bool) -> None:
    """Neither key nor header is in a pickle, used or not; the key is read where it is unpickled, the rest is kept."""
    model = TextGenerationInference(base_url="http://h:1", api_key=KEY, headers={"x": HEADER}, stop=["a"], timeout=3)
    assert model._transport is not None
    thing: Any = ZeroShotClassifier(["yes", "no"], llm=model) if whole else model
    pickled = pickle.dumps(thing, protocol)
    assert KEY.encode() not in pickled
    assert HEADER.encode() not in pickled

    def unpickled() -> TextGenerationInference:
        thing = pickle.loads(pickled)  # noqa: S301  # ours
        return thing.llm if whole else thing  # type: ignore[no-any-return]

    assert (unpickled().api_key, unpickled().headers) == (None, {})
    assert unpickled().model_fields_set == model.model_fields_set - {"api_key", "headers"}
    monkeypatch.setenv("TGI_API_KEY", "other")
    there = unpickled()
    assert (there.base_url, there.stop, there.timeout, there.max_concurrency) == ("http://h:1", ["a"], 3, 64)
    assert there._transport._headers == {"Authorization": "Bearer other"}
    assert model._transport._headers == {"Authorization": f"Bearer {KEY}", "x": HEADER}


def test_copies_keep_everything() -> None:
    """Copies within the process have key and headers, also when a setting is changed."""
    model = TextGenerationInference(api_key=KEY, headers={"x": HEADER})
    copies = [
        *(copy.copy(model), copy.deepcopy(model), model.model_copy(), model.model_copy(deep=True)),
        model.model_copy(update={"stop": ["x"]}),
        copy.deepcopy(ZeroShotClassifier(["yes", "no"], llm=model)).llm,
    ]
    for copied in copies:
        assert isinstance(copied, TextGenerationInference)
        assert copied._transport._headers == {"Authorization": f"Bearer {KEY}", "x": HEADER}


def test_a_transport_is_not_pickled() -> None:
    """What holds the key as it is sent cannot be pickled by itself."""
    with pytest.raises(TypeError, match="it holds the key"):
        pickle.dumps(TextGenerationInference(api_key=KEY)._transport)


URLS = ["http://a:1", "http://b:2/gateway"]


@pytest.mark.parametrize(
    "given", [URLS, tuple(URLS), "http://a:1,http://b:2/gateway", "http://a:1/ , http://b:2/gateway/"]
)
def test_several_addresses(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    """A list, a tuple or a text with commas names several servers, also in the environment; places are for each."""
    model = TextGenerationInference(base_url=given, max_concurrency=5)
    assert model.base_url == tuple(URLS)
    assert model.concurrency == 10
    if isinstance(given, str):
        monkeypatch.setenv("TGI_BASE_URL", given)
        assert TextGenerationInference().base_url == tuple(URLS)
        monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", given.replace("/gateway", "/v1"))
        assert OpenAICompletions().base_url == ("http://a:1", "http://b:2")


def test_a_list_of_one_is_one() -> None:
    """A list with one address is that address, and /v1 is dropped of each."""
    assert TextGenerationInference(base_url=["http://a:1/"]).base_url == "http://a:1"
    assert OpenAICompletions(base_url=("http://a:1/v1/", "http://b:2")).base_url == ("http://a:1", "http://b:2")


@pytest.mark.parametrize("kind", [TextGenerationInference, OpenAICompletions])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        *[
            ([], "name at least one"),
            (",", "name at least one"),
            ("http://a,", "leave none out"),
            ([""], "at least one"),
        ],
        *[(["http://a", "http://a/"], "twice"), ("http://a,b", "must be an http"), (["http://a", "http://h:0"], PORT)],
        *[(given, "the address of a server, or a list") for given in (5, None, [1], {"a": 1}, b"http://a")],
    ],
)
def test_lists_that_are_none(kind: type[TextGenerationInference], given: Any, says: str) -> None:
    """What is no list of different addresses is refused in one sentence, at once and where a copy is changed to it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        kind(base_url=given)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=says):
        kind().model_copy(update={"base_url": given}).invoke("x")


def test_the_same_server_by_two_names_of_openais() -> None:
    """With /v1 and without it is one server."""
    with pytest.raises(ConfigurationError, match="twice"):
        OpenAICompletions(base_url=["http://a", "http://a/v1"])


def test_a_list_cannot_be_changed_behind_its_check() -> None:
    """What an LLM has is its own and stays as it was checked; what is written of it is a list."""
    given = list(URLS)
    model = TextGenerationInference(base_url=given)
    given.append("junk")
    assert model.base_url == tuple(URLS)
    assert not hasattr(model.base_url, "append")
    assert model.model_dump()["base_url"] == URLS
    assert json.loads(model.model_dump_json())["base_url"] == URLS
    assert json.loads(dumps(model))["kwargs"]["base_url"] == URLS
    assert TextGenerationInference(**model.model_dump(include={"base_url"})) == model


@pytest.mark.parametrize("whole", [False, True], ids=["llm", "classifier"])
def test_lists_survive(whole: bool) -> None:
    """Copies, pickles and serialised objects keep the list, are equal, and hold no key."""
    model = TextGenerationInference(base_url=URLS, api_key=KEY)
    assert model._several() is not None
    thing: Any = ZeroShotClassifier(["yes", "no"], llm=model) if whole else model

    def of(other: Any) -> Any:
        return other.llm if whole else other

    assert KEY not in repr(thing)
    for other in (copy.copy(thing), copy.deepcopy(thing), thing.model_copy() if not whole else thing):
        assert of(other) == model
        assert of(other)._several() is not None
    pickled = pickle.dumps(thing)
    assert KEY.encode() not in pickled
    assert of(pickle.loads(pickled)).base_url == tuple(URLS)  # noqa: S301  # ours
    written = dumps(thing)
    assert KEY not in written
    loaded = load(written, secrets_map={"TGI_API_KEY": KEY})
    assert of(loaded).base_url == tuple(URLS)
    one = model.model_copy(update={"base_url": URLS[0]})
    assert one._several() is None
    assert one._transport.base_url == URLS[0]


@pytest.mark.parametrize("kind", [TextGenerationInference, OpenAICompletions])
async def test_a_probe_asks_one_server(kind: Any) -> None:
    """A report is about one server; a list is refused before anything is asked."""
    ask: Any = aprobe if kind is TextGenerationInference else aprobe_openai
    with pytest.raises(ConfigurationError, match="name one of them"):
        await ask(kind(base_url=URLS))
