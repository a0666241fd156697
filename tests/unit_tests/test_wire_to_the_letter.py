"""TGI and llama.cpp to the letter: whole bodies, whole answers, limits at their edges."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wire_answers import answer

from langchain_stormtrooper.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    OverlongInputError,
    RequestFailedError,
    ResponseFormatError,
)
from langchain_stormtrooper.wire import Response, as_count, encode, encode_text, llamacpp, tgi, tgi_details
from langchain_stormtrooper.wire.details import NoDetailsError
from langchain_stormtrooper.wire.overlong import overlong
from langchain_stormtrooper.wire.tgi_refusals import TopTokensError, explain


def test_json_without_spaces_or_escapes() -> None:
    """Bodies are as short as they can be, in UTF-8."""
    assert encode({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()
    assert encode_text("a\ud800") == b"a\xef\xbf\xbd"


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("0", 0),
        ("9" * 12, 10**12 - 1),
        ("9" * 13, None),
        (10**12 - 1, 10**12 - 1),
        (10**12, None),
        ("-1", None),
        (-1, None),
        (0, 0),
        (True, None),
        ("\u0661", None),
        (1.0, None),
    ],
)
def test_counts(value: object, count: int | None) -> None:
    """Whole numbers of up to twelve digits, in JSON or in a header; anything else tells nothing."""
    assert as_count(value) == count


def test_an_answer_that_is_not_json_keeps_its_status() -> None:
    """The error says with which status it came."""
    with pytest.raises(ResponseFormatError, match="answered 502") as caught:
        Response(502, {}, b"<html>").json()
    assert caught.value.status == 502


@pytest.mark.parametrize("limit", [0, -1])
def test_no_room_for_any_prompt_is_a_setting(limit: int) -> None:
    """Where the tokens to generate fill the context, that is said, and no limit that nothing could meet."""
    error = overlong(9, limit)
    assert "lower `max_new_tokens=`" in str(error)
    assert (error.tokens, error.limit) == (9, None)
    error = overlong(9, 1)
    assert "has 9 tokens, the model takes at most 1" in str(error)
    assert (error.tokens, error.limit) == (9, 1)


@pytest.mark.parametrize(("tokens", "limit"), [(None, 5), (9, None), (None, None)])
def test_what_is_not_known_of_a_length_is_not_said(tokens: int | None, limit: int | None) -> None:
    """Numbers are told where both are known, and kept where one is."""
    error = overlong(tokens, limit)
    assert "longer than the model accepts" in str(error)
    assert (error.tokens, error.limit) == (tokens, limit)


class TestTgi:
    """Text Generation Inference."""

    def test_tokens(self) -> None:
        """A text is sent alone, and its ids are read; a server without the route or a fast tokenizer has none."""
        assert json.loads(tgi.tokenize_body("é")) == {"inputs": "é"}
        assert tgi.parse_tokenize(answer([{"id": 3, "text": "x"}, {"id": 1}])) == (3, 1)
        assert tgi.parse_tokenize(answer([])) == ()
        assert tgi.parse_tokenize(answer([{"id": 3}], 404)) is None
        others: list[Any] = [{"id": 3}, [3], [{"id": "3"}], [{"id": 3}, None]]
        for body in others:
            with pytest.raises(ResponseFormatError, match="/tokenize") as caught:
                tgi.parse_tokenize(answer(body))
            assert caught.value.status == 200
        with pytest.raises(EndpointNotFoundError):
            tgi.parse_tokenize(answer([{"id": 3}], 405))

    def test_the_revision_of_the_model(self) -> None:
        """It is read beside the name."""
        info = {"model_id": "m", "model_sha": "abc", "max_input_tokens": 0, "max_input_length": 7}
        assert tgi.parse_info(answer(info)) == tgi.ServerInfo(model_id="m", model_sha="abc", max_input_tokens=7)
        with pytest.raises(ResponseFormatError) as caught:
            tgi.parse_info(answer([]))
        assert caught.value.status == 200

    @pytest.mark.parametrize(
        ("version", "numbers"),
        [
            ("3.1.1", (3, 1, 1)),
            ("2.3.1-dev0", (2, 3, 1)),
            ("10.0.12345", (10, 0, 1234)),
            ("v3.1.1", None),
            ("3.1", None),
            ("", None),
            (None, None),
        ],
    )
    def test_versions(self, version: str | None, numbers: tuple[int, ...] | None) -> None:
        """Three numbers at the start, or nothing."""
        assert tgi.read_version(version) == numbers

    @pytest.mark.parametrize(
        ("info", "new", "limit"),
        [
            (tgi.ServerInfo(max_input_tokens=7), 99, 7),
            (tgi.ServerInfo(max_total_tokens=10), 9, 1),
            (tgi.ServerInfo(max_input_tokens=7, max_total_tokens=10), 2, 7),
            (tgi.ServerInfo(max_input_tokens=7, max_total_tokens=10), 4, 6),
            (tgi.ServerInfo(version="3.1.0", max_total_tokens=2000), 1100, 900),
            (tgi.ServerInfo(version="3.1.1", max_total_tokens=2000), 1100, 976),
            (tgi.ServerInfo(version="3.1.1", max_total_tokens=2000), 1023, 977),
            (tgi.ServerInfo(max_total_tokens=2000), 1100, 900),
        ],
    )
    def test_room_for_a_prompt(self, info: tgi.ServerInfo, new: int, limit: int) -> None:
        """It is what the input's and the total's limit leave, of which 3.1.1 and later count 1,024 new tokens."""
        assert tgi.prompt_limit(info, new) == limit

    def test_no_room_for_a_prompt(self) -> None:
        """Tokens to generate that are the total, to the last, leave none."""
        with pytest.raises(ConfigurationError, match="limit of 10 tokens"):
            tgi.prompt_limit(tgi.ServerInfo(max_total_tokens=10), 10)

    @pytest.mark.parametrize("status", [300, 399])
    def test_redirects_to_the_edge(self, status: int) -> None:
        """All of 300 to 399 leads elsewhere."""
        with pytest.raises(EndpointNotFoundError, match=str(status)):
            raise tgi.parse_error(answer({}, status))

    def test_other_statuses_are_no_redirects(self) -> None:
        """What is just outside fails as it is."""
        for status in (299, 400):
            error = tgi.parse_error(answer({}, status))
            assert isinstance(error, RequestFailedError)
            assert (error.status, error.is_retryable) == (status, False)

    def test_a_special_piece_of_the_last_event(self) -> None:
        """An end token adds nothing to the text; odd reasons and details are unknown."""
        token = {"text": "</s>", "special": True}
        event = {"token": token, "generated_text": " a", "details": {"finish_reason": 3}}
        piece, whole = tgi.parse_event(json.dumps(event))
        assert piece == ""
        assert whole is not None
        assert (whole.text, whole.finish_reason, whole.prompt_tokens) == (" a", None, None)

    @pytest.mark.parametrize(
        "data", ["x", "[]", '{"token": {"text": null}}', '{"token": {"text": "a"}, "generated_text": 3}']
    )
    def test_events_of_another_form_came_with_200(self, data: str) -> None:
        """The stream had begun, so that its status is known."""
        with pytest.raises(ResponseFormatError) as caught:
            tgi.parse_event(data)
        assert caught.value.status == 200
        assert tgi.event_status("{") is None

    def test_chats_that_are_refused_keep_their_status(self) -> None:
        """A 422 that no handler wrote is an error; one in JSON means that the model has no template."""
        with pytest.raises(ResponseFormatError) as caught:
            tgi.parse_chat_tokenize(Response(422, {"content-type": "text/plain"}, b"x"))
        assert caught.value.status == 422
        assert tgi.parse_chat_tokenize(Response(500, {"content-type": "text/plain"}, b"x")) is None

    def test_an_overload_by_its_type(self) -> None:
        """The type counts where a gateway has another status, except for what is said to be invalid."""
        for kind, status in (("overloaded", 429), ("generation", 424), ("incomplete_generation", 500)):
            error = tgi.parse_error(answer({"error": "x", "error_type": kind}, 500))
            assert isinstance(error, RequestFailedError)
            assert (error.status, error.is_retryable) == (status, True)
        error = tgi.parse_error(answer({"error": "x", "error_type": "validation"}, 500))
        assert isinstance(error, RequestFailedError)
        assert (error.status, error.is_retryable) == (500, False)

    def test_errors_of_unknown_kinds_in_a_stream(self) -> None:
        """The stream had begun with a 200, and nothing says that asking again would help."""
        with pytest.raises(RequestFailedError) as caught:
            tgi.parse_event('{"error": "x", "error_type": "unheard of"}')
        assert (caught.value.status, caught.value.is_retryable) == (200, False)

    def test_more_alternatives_than_the_server_gives(self) -> None:
        """The number that it gives can be read, so that fewer can be asked for."""
        error = explain("Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 6")
        assert isinstance(error, TopTokensError)
        assert error.allowed == 5
        assert type(explain("`max_new_tokens` must be strictly positive")) is ConfigurationError
        assert explain("`max_new_tokens` must be positive") is None

    def test_whole_body_of_details(self) -> None:
        """The prompt stands beside the parameters."""
        body = json.loads(tgi_details.details_body("x", max_new_tokens=1, top_n_tokens=0))
        assert (body["inputs"], body["parameters"]["top_n_tokens"]) == ("x", 0)

    def test_tokens_of_the_prompt(self) -> None:
        """Beside details, too, a header tells how many the server counted."""
        body = json.dumps({"generated_text": "a", "details": {}}).encode()
        assert tgi_details.parse_details(Response(200, {"x-prompt-tokens": "7"}, body)).prompt_tokens == 7
        assert tgi_details.parse_details(Response(200, {}, body)).prompt_tokens is None

    def test_special_tokens(self) -> None:
        """Only what the server calls special is."""
        tokens = [{"id": 1, "text": "a", "logprob": -1, "special": special} for special in (True, False, 1, None)]
        details = tgi_details.parse_details(answer({"generated_text": "a", "details": {"tokens": tokens}}))
        assert [token.special for token in details.tokens] == [True, False, False, False]

    def test_answers_without_details(self) -> None:
        """A text alone is a server that shows none; anything else is no answer, and both came with a 200."""
        cases: list[tuple[Any, type[Exception]]] = [
            ({"generated_text": "a"}, NoDetailsError),
            ({"generated_text": "a", "details": 3}, ResponseFormatError),
            ({"generated_text": 3, "details": {}}, ResponseFormatError),
            ({"details": {}}, ResponseFormatError),
            ([], ResponseFormatError),
        ]
        for body, kind in cases:
            with pytest.raises(ResponseFormatError) as caught:
                tgi_details.parse_details(answer(body))
            assert type(caught.value) is kind
            assert caught.value.status == 200

    @pytest.mark.parametrize(
        "details",
        [
            {"tokens": {}},
            {"tokens": [3]},
            {"tokens": [{"id": "1", "text": "a", "logprob": -1}]},
            {"tokens": [{"id": True, "text": "a", "logprob": -1}]},
            {"tokens": [{"id": 1, "text": None, "logprob": -1}]},
            {"tokens": [{"id": 1, "text": "a", "logprob": True}]},
            {"tokens": [{"id": 1, "text": "a", "logprob": "x"}]},
        ],
    )
    def test_tokens_of_another_form(self, details: Any) -> None:
        """What is no list of tokens with scores is refused."""
        with pytest.raises(ResponseFormatError, match="details hold") as caught:
            tgi_details.parse_details(answer({"generated_text": "a", "details": details}))
        assert caught.value.status == 200

    def test_details_that_no_handler_refused(self) -> None:
        """A 422 in plain text says nothing of what was asked for; other refusals are what they are."""
        with pytest.raises(ResponseFormatError) as caught:
            tgi_details.parse_details(Response(422, {"content-type": "text/plain"}, b"x"))
        assert caught.value.status == 422
        with pytest.raises(RequestFailedError) as refused:
            tgi_details.parse_details(Response(500, {"content-type": "text/plain"}, b"x"))
        assert type(refused.value) is RequestFailedError
        assert refused.value.status == 500


class TestLlamaCpp:
    """The server of llama.cpp."""

    def test_whole_body_of_a_branch(self) -> None:
        """One sampled token with all probabilities, with and without a decoy."""
        body = {
            "prompt": [1, 2],
            "n_predict": 1,
            "temperature": 1.0,
            "samplers": ["temperature"],
            "logit_bias": [[5, 80.0], [6, 80.0]],
            "n_probs": 2,
            "post_sampling_probs": True,
            "cache_prompt": True,
        }
        assert json.loads(llamacpp.branch_body((1, 2), (5, 6))) == body
        decoy = [*body["logit_bias"], [9, 130.0]]  # type: ignore[misc]
        assert json.loads(llamacpp.branch_body((1, 2), (5, 6), 9)) == {**body, "logit_bias": decoy, "n_probs": 3}

    def test_whole_body_of_a_constrained_answer(self) -> None:
        """Greedy, with a grammar, no stops, and room for the longest label."""
        assert json.loads(llamacpp.constrain_body((1, 2), [" a", " ab"])) == {
            "temperature": 0.0,
            "samplers": ["temperature"],
            "cache_prompt": True,
            "prompt": [1, 2],
            "n_predict": 4,
            "stop": [],
            "grammar": 'root ::= " a" | " ab"',
        }

    def test_the_context(self) -> None:
        """It is read from `/props`; a server without the route, or with another answer, does not tell."""
        assert llamacpp.parse_n_ctx(answer({"default_generation_settings": {"n_ctx": 512}})) == 512
        assert llamacpp.parse_n_ctx(answer({"default_generation_settings": {"n_ctx": 512}}, 404)) is None
        assert llamacpp.parse_n_ctx(answer({"default_generation_settings": 3})) is None
        assert llamacpp.parse_n_ctx(answer({"n_ctx": 512})) is None

    def test_a_context_of_unknown_size(self) -> None:
        """An overlong prompt is one also where the server tells no numbers."""
        error = llamacpp._error(400, {"error": {"type": "exceed_context_size_error"}})
        assert isinstance(error, OverlongInputError)
        assert (error.tokens, error.limit) == (None, None)

    def test_answers_of_another_form_came_with_200(self) -> None:
        """Whatever is missing, the error knows the status."""
        parsers: list[Any] = [
            llamacpp.parse_tokenize,
            llamacpp.parse_detokenize,
            llamacpp.parse_generate,
            llamacpp.parse_eos,
            lambda response: llamacpp.parse_branch(response, (1, 2)),
        ]
        bodies: list[Any] = [{}, []]
        for parse in parsers:
            for body in bodies:
                with pytest.raises(ResponseFormatError) as caught:
                    parse(answer(body))
                assert caught.value.status == 200
        for data in ("x", "[]", "{}"):
            with pytest.raises(ResponseFormatError) as caught:
                llamacpp.parse_event(data)
            assert caught.value.status == 200
        with pytest.raises(RequestFailedError) as failed:
            llamacpp.parse_event('{"error": {}}')
        assert failed.value.status == 200

    @pytest.mark.parametrize(
        ("shares", "fits"),
        [((0.5, 0.49), True), ((0.51, 0.5), True), ((0.5, 0.4799), False), ((0.52, 0.5), False)],
    )
    def test_shares_may_miss_one_by_a_hundredth(self, shares: tuple[float, float], fits: bool) -> None:
        """Rounding is forgiven, a bias that was not applied is not."""
        shown = [{"id": token, "prob": share} for token, share in enumerate(shares, 1)]
        response = answer({"completion_probabilities": [{"top_probs": shown}]})
        if fits:
            assert sum(llamacpp.parse_branch(response, (1, 2)).values()) == pytest.approx(1)
        else:
            with pytest.raises(ResponseFormatError, match="did not restrict") as caught:
                llamacpp.parse_branch(response, (1, 2))
            assert caught.value.status == 200

    def test_shares_of_no_token(self) -> None:
        """What is listed without an id counts for nothing."""
        shown = [{"id": 1, "prob": 0.5}, {"id": 2, "prob": 0.2}, {"id": None, "prob": 0.3}]
        with pytest.raises(ResponseFormatError, match="did not restrict"):
            llamacpp.parse_branch(answer({"completion_probabilities": [{"top_probs": shown}]}), (1, 2))

    def test_bodies_that_are_not_json(self) -> None:
        """With a 200 it is no answer of llama.cpp's; with another status that status is what counts."""
        parsers: list[Any] = [llamacpp.parse_generate, llamacpp.shows_branch, llamacpp.parse_apply_template]
        for parse in parsers:
            with pytest.raises(ResponseFormatError, match="not JSON"):
                parse(Response(200, {}, b"<html>"))
        with pytest.raises(RequestFailedError) as caught:
            llamacpp.parse_generate(Response(502, {}, b"<html>"))
        assert type(caught.value) is RequestFailedError
        assert caught.value.status == 502
