"""TGI's protocol: request bodies, answers, streams, `/info`."""

from __future__ import annotations

import json
import re
import time
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from wire_answers import answer

from langchain_stormtrooper.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.wire import Generated, Response, as_count, encode
from langchain_stormtrooper.wire.tgi import (
    ServerInfo,
    chat_tokenize_body,
    generate_body,
    neutralize_images,
    parse_chat_tokenize,
    parse_event,
    parse_generate,
    parse_info,
)

LABEL_ANSWER = {"generated_text": " sport", "details": None}


def test_generate_body() -> None:
    """Greedy parameters are always there, since servers from 1.4.0 on sample without `parameters`."""
    assert (
        generate_body('Say "é"\n', max_new_tokens=5)
        == (
            '{"inputs":"Say \\"é\\"\\n","parameters":'
            '{"do_sample":false,"max_new_tokens":5,"return_full_text":false,"stop":[]}}'
        ).encode()
    )


def test_stops_are_sent_as_a_list() -> None:
    """Stop sequences of any kind of sequence go out as a JSON list; null would be refused."""
    assert json.loads(generate_body("x", max_new_tokens=1, stop=("\n", "###")))["parameters"]["stop"] == ["\n", "###"]


@given(st.text(alphabet=st.characters(codec=None, categories=None), max_size=30))
def test_bodies_are_utf8_whatever_the_text(text: str) -> None:
    """Every text can be sent: lone surrogates, which no server accepts, become U+FFFD; all else stays."""
    sent = json.loads(encode({"inputs": text}).decode("utf-8"))["inputs"]
    assert sent == surrogates_replaced(text)


def surrogates_replaced(text: str) -> str:
    """Character by character: pairs of surrogates make their character, single ones U+FFFD."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    done, rest = "", text
    while rest:
        if "\ud800" <= rest[0] <= "\udbff" and "\udc00" <= rest[1:2] <= "\udfff":
            done += chr(0x10000 + (ord(rest[0]) - 0xD800) * 0x400 + ord(rest[1]) - 0xDC00)
            rest = rest[2:]
        else:
            done += "\ufffd" if "\ud800" <= rest[0] <= "\udfff" else rest[0]
            rest = rest[1:]
    return done


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00", "\ud83dx\ude00", "\ufeff\ud800\ufeff"])
def test_lone_surrogates_encode(text: str) -> None:
    """The cases that matter, for certain."""
    assert json.loads(encode(text).decode("utf-8")) == surrogates_replaced(text)


def test_generated() -> None:
    """The text comes as it is; token counts come from the headers, whatever their case."""
    response = answer(LABEL_ANSWER, X_Prompt_Tokens="12", x_generated_tokens="3")
    assert parse_generate(response) == Generated(" sport", prompt_tokens=12, generated_tokens=3)


def test_servers_before_1_4_send_no_counts() -> None:
    """Missing or odd headers give no counts, and no error."""
    assert parse_generate(answer(LABEL_ANSWER)) == Generated(" sport")
    assert parse_generate(answer(LABEL_ANSWER, x_prompt_tokens="many", x_generated_tokens="-3")) == Generated(" sport")


def test_answer_in_a_list() -> None:
    """The root route's form, a list of one, is understood as well."""
    assert parse_generate(answer([LABEL_ANSWER])).text == " sport"


@pytest.mark.parametrize("body", [{}, [], [LABEL_ANSWER] * 2, None, "sport", {"generated_text": None}, [["x"]], 3])
def test_answers_of_another_form(body: Any) -> None:
    """A 200 without a generated text is no answer of TGI's, and the error says so."""
    with pytest.raises(ResponseFormatError, match="is it a Text Generation Inference server") as caught:
        parse_generate(answer(body))
    assert caught.value.status == 200


@pytest.mark.parametrize("body", [b"", b"<html>sport</html>", b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5000])
def test_answers_that_are_not_json(body: bytes) -> None:
    """A 200 whose body is not JSON is an error of our own, and shows nothing of the body."""
    with pytest.raises(ResponseFormatError) as caught:
        parse_generate(Response(200, CIMultiDict(), body))
    assert "sport" not in str(caught.value)


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/problem+json", True),
        ("text/plain; charset=utf-8", False),
        ("text/json-ish", False),
        ("", False),
    ],
)
def test_media_types(content_type: str, is_json: bool) -> None:
    """The media type decides whether a body is JSON, whatever its case and parameters."""
    assert Response(422, CIMultiDict({"Content-Type": content_type}), b"{}").is_json is is_json


def test_response_hides_its_body() -> None:
    """The repr of an answer shows no body, and that of a generation no text."""
    assert "sport" not in repr(answer(LABEL_ANSWER))
    assert "sport" not in repr(Generated("sport"))


@pytest.mark.parametrize(
    ("value", "count"),
    [
        *[(0, 0), (7, 7), ("7", 7), ("007", 7), (-1, None), ("-1", None), (True, None), (1.0, None), (None, None)],
        *[("", None), ("１", None), ("²", None), (" 7", None), ("9" * 13, None), (10**12, None), ([7], None)],
    ],
)
def test_counts(value: object, count: int | None) -> None:
    """Only what is certainly a count is one."""
    assert as_count(value) == count


class TestStream:
    """Events of `/generate_stream`."""

    def event(self, text: str = " sp", special: object = False, **more: Any) -> str:
        """An event as TGI sends it."""
        token = {"id": 5, "text": text, "logprob": -0.1, "special": special}
        return json.dumps({"index": 1, "token": token, "generated_text": None, "details": None, **more})

    def test_pieces(self) -> None:
        """An event before the last gives its token's text, and nothing for a special token."""
        assert parse_event(self.event()) == (" sp", None)
        assert parse_event(self.event("</s>", special=True)) == ("", None)
        assert parse_event(self.event("ort", special=None)) == ("ort", None)

    def test_last(self) -> None:
        """The last event has the whole answer with it, and its counts from 2.3.0 on."""
        details = {"finish_reason": "stop_sequence", "generated_tokens": 2, "seed": None}
        piece, whole = parse_event(self.event("ort", generated_text=" sport", details=details | {"input_length": 9}))
        assert (piece, whole) == ("ort", Generated(" sport", "stop_sequence", 9, 2))
        assert parse_event(self.event(generated_text="", details=details))[1] == Generated("", "stop_sequence", None, 2)
        assert parse_event(self.event(generated_text=" sport"))[1] == Generated(" sport")

    @pytest.mark.parametrize("data", ["", "[DONE]", "3", "[]", "{}", '{"token": {}}', '{"token": {"text": 3}}'])
    def test_other_events(self, data: str) -> None:
        """What is no event of this route is an error of our own."""
        with pytest.raises(ResponseFormatError):
            parse_event(data)

    def test_generated_text_of_another_type(self) -> None:
        """A last event without a text is not taken for an answer."""
        with pytest.raises(ResponseFormatError):
            parse_event(self.event(generated_text=3))

    def test_errors(self) -> None:
        """Errors come as events with status 200: overlong ones are known by their message, others by their type."""
        too_long = "Input validation error: `inputs` must have less than 5 tokens. Given: 9"
        with pytest.raises(OverlongInputError):
            parse_event(json.dumps({"error": too_long, "error_type": "validation"}))
        for kind, status, retryable in [
            ("validation", 422, False),
            ("overloaded", 429, True),
            ("generation", 424, True),
            ("incomplete_generation", 500, True),
            ("incomplete_generation_stream", 500, True),
        ]:
            with pytest.raises(RequestFailedError) as caught:
                parse_event(json.dumps({"error": "confidential", "error_type": kind}))
            assert (caught.value.status, caught.value.is_retryable) == (status, retryable)
            assert "confidential" not in str(caught.value)

    def test_other_errors_in_a_stream(self) -> None:
        """An error of an unknown kind is reported as one, not as 'the server answered 200'."""
        with pytest.raises(RequestFailedError, match="error in its stream") as caught:
            parse_event(json.dumps({"error": "confidential", "error_type": "stream_serialization_error"}))
        assert "confidential" not in str(caught.value)


class TestInfo:
    """`/info` of all generations."""

    OLD: ClassVar[dict[str, Any]] = {
        "model_id": "google/flan-t5-xxl",
        "model_sha": None,
        "model_dtype": "torch.float16",
        "max_concurrent_requests": 128,
        "max_input_length": 1024,
        "max_total_tokens": 2048,
        "version": "1.0.3",
    }
    NEW: ClassVar[dict[str, Any]] = {
        "model_id": "/data",
        "max_concurrent_requests": 64,
        "max_input_tokens": 4095,
        "max_total_tokens": 4096,
        "router": "text-generation-router",
        "version": "3.3.6-dev0",
    }

    def test_names_of_both_generations(self) -> None:
        """The longest input is called `max_input_length` up to 2.0.4 and `max_input_tokens` from 2.1.0 on."""
        assert parse_info(answer(self.OLD)) == ServerInfo("google/flan-t5-xxl", "1.0.3", 1024, 2048, 128)
        assert parse_info(answer(self.NEW)) == ServerInfo("/data", "3.3.6-dev0", 4095, 4096, 64)

    @pytest.mark.parametrize("left_out", sorted(NEW))
    def test_every_key_is_optional(self, left_out: str) -> None:
        """A key that is missing or of another type is unknown, and the others are not lost with it."""
        whole = parse_info(answer(self.NEW))
        for body in ({k: v for k, v in self.NEW.items() if k != left_out}, self.NEW | {left_out: [None]}):
            info = parse_info(answer(body))
            for field in ServerInfo.__slots__:
                assert getattr(info, field) == (None if field == left_out else getattr(whole, field))

    @pytest.mark.parametrize(
        "response",
        [
            answer([NEW]),
            answer(None),
            Response(200, CIMultiDict(), b"<html>"),
            Response(500, CIMultiDict(), b""),
        ],
    )
    def test_other_answers(self, response: Response) -> None:
        """What is neither TGI's answer nor that there is no such route is an error: nothing is learnt from it."""
        with pytest.raises(RequestFailedError):
            parse_info(response)

    @pytest.mark.parametrize("status", [404, 405])
    def test_servers_without_it(self, status: int) -> None:
        """A server without the route is a server about which nothing is known."""
        assert parse_info(answer(self.NEW, status=status)) == ServerInfo()


class TestChat:
    """`/chat_tokenize`, which renders the model's own chat template."""

    def test_body(self) -> None:
        """One message of a user is sent."""
        assert json.loads(chat_tokenize_body("Hé")) == {
            "model": "tgi",
            "messages": [{"role": "user", "content": "Hé"}],
        }

    @pytest.mark.parametrize("start", ["", "<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>"])
    def test_start_token_is_taken_off(self, start: str) -> None:
        """`/generate` puts the start token before a prompt itself, and twice would be wrong."""
        body = {"tokenize_response": [], "templated_text": f"{start}[INST] x [/INST]"}
        assert parse_chat_tokenize(answer(body)) == "[INST] x [/INST]"

    @pytest.mark.parametrize(
        "response",
        [
            answer({"templated_text": "x"}, status=422),
            answer({"templated_text": 3}),
            answer(["x"]),
        ],
    )
    def test_servers_that_cannot(self, response: Response) -> None:
        """A server without the route, or a model without a template, gives None."""
        assert parse_chat_tokenize(response) is None

    @pytest.mark.parametrize("status", [200, 422])
    def test_spoilt_answers(self, status: int) -> None:
        """An answer that is not JSON says nothing of what the server can do."""
        with pytest.raises(ResponseFormatError):
            parse_chat_tokenize(Response(status, CIMultiDict({"content-type": "text/plain"}), b"x"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects(status: int) -> None:
    """Redirects are not followed, and the error says what to set."""
    with pytest.raises(EndpointNotFoundError, match="set `base_url` to the final address"):
        parse_generate(answer({}, status=status))


# What TGI looks for, and what Markdown would take for an image.
IMAGES = [re.compile(r"!\[[^\]]*\]\([^\)]*\)"), re.compile(r"!\[.*?\]\(", re.DOTALL)]


@given(st.text(st.sampled_from("![]() \nhttp:a/é"), max_size=40) | st.text(max_size=10))
def test_no_image_is_left(text: str) -> None:
    """What a server would take for an image and fetch is one no longer; nothing but spaces is added."""
    neutral = neutralize_images(text)
    assert not [pattern for pattern in IMAGES if pattern.search(neutral)]
    assert len(neutral) == len(text) + text.count("![")
    assert neutral.replace("! [", "![") == text.replace("! [", "![")
    assert neutralize_images(neutral) == neutral


def test_every_start_of_an_image_is_spelled_apart() -> None:
    """Also what is no image: whether it is would take long to find out. Links and exclamations keep their meaning."""
    assert neutralize_images("See ![x](http://a/b.png)!") == "See ! [x](http://a/b.png)!"
    assert neutralize_images("Ah! [x](http://a) ![y] (z) ![c !") == "Ah! [x](http://a) ! [y] (z) ! [c !"


@pytest.mark.parametrize("part", ["![", "![](", "![a]", "![](http://x)", "![a](b", "!", "["])
def test_neutralizing_takes_linear_time(part: str) -> None:
    """A megabyte of starts of images takes no time to speak of."""
    text = part * (1_000_000 // len(part))
    started = time.process_time()
    neutralize_images(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("stop", [("",), ("a", "")])
def test_empty_stop_strings_are_not_sent(stop: tuple[str, ...]) -> None:
    """A stop string that every text ends with is refused, wherever it was given."""
    with pytest.raises(ConfigurationError, match="A stop string is empty: leave it out"):
        generate_body("x", max_new_tokens=1, stop=stop)
