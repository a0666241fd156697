"""Reading and checking requests: strict types, lenient keys, and the order in which rules are looked at."""

from __future__ import annotations

import itertools
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langchain_stormtrooper.testing import RELEASES, ScriptedEngine, TGIServer
from langchain_stormtrooper.testing.bodies import BodyReader, Grammar, Parameters, parse_json
from langchain_stormtrooper.testing.openai_bodies import OpenAIReader
from langchain_stormtrooper.testing.replies import RejectionError, RouterError
from langchain_stormtrooper.testing.schema import check_grammar
from langchain_stormtrooper.testing.tokens import tokenized
from langchain_stormtrooper.testing.tools import choose_tools
from langchain_stormtrooper.testing.validation import check_best_of, check_streaming, validate

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = ScriptedEngine().text_of(5000)

# One violation of each rule with a mark of its message, in TGI's order. The prompt comes apart from the parameters.
RULES: list[tuple[dict[str, Any], str | None, str]] = [
    ({"best_of": 3}, None, "`best_of` must be > 0 and <= 2. Given: 3"),
    ({"best_of": 2}, None, "you must use sampling when `best_of` is > 1"),
    ({"temperature": 0}, None, "`temperature` must be strictly positive"),
    ({"repetition_penalty": 0}, None, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 3}, None, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 1.0}, None, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 0.0}, None, "`typical_p` must be > 0.0 and < 1.0"),
    ({"top_k": 0}, None, "`top_k` must be strictly positive"),
    ({"max_new_tokens": 0}, None, "`max_new_tokens` must be strictly positive"),
    ({"stop": ["a"] * 5}, None, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, None, "`seed` must not be set when `best_of` > 1"),
    ({"top_n_tokens": 6}, None, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({}, "", "`inputs` cannot be empty"),
    ({"truncate": 2000}, None, "`truncate` must be strictly positive and less than 1024. Given: 2000"),
    ({}, LONG, "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 5000 `inputs` tokens"),
    ({"grammar": {"type": "json", "value": 5}}, None, "grammar is not supported"),
]


def refusal(parameters: dict[str, Any], inputs: str = "x", version: str = "2.4.1") -> str:
    """Return the message with which a request is refused, or nothing."""
    config = TGIServer(version).config
    body = BodyReader(config.release).generate({"inputs": inputs, "parameters": {"max_new_tokens": 9} | parameters})
    error = attempt(lambda: (check_best_of(body.parameters, config), validate(body, config)))[1]
    if error is None:
        return ""
    assert isinstance(error, RouterError)
    assert (error.status, error.error_type) == (422, "validation")
    return error.error.removeprefix("Input validation error: ")


def attempt(action: Callable[[], Any]) -> tuple[Any, RouterError | RejectionError | None]:
    """Do something and return its result, or the refusal it met with; anything else that is raised is a crash."""
    try:
        return action(), None
    except (RouterError, RejectionError) as error:
        return None, error


@pytest.mark.parametrize(("parameters", "inputs", "message"), RULES, ids=[rule[2][:24] for rule in RULES])
def test_each_rule(parameters: dict[str, Any], inputs: str | None, message: str) -> None:
    """Each rule is enforced with its own words."""
    assert refusal(parameters, "x" if inputs is None else inputs).startswith(message)


def test_order_of_rules() -> None:
    """Of two broken rules the one that TGI checks first is reported."""
    for first, second in itertools.combinations(RULES, 2):
        if first[0].keys() & second[0].keys() or (first[1] is not None and second[1] is not None):
            continue
        if "best_of" in first[0] and ({"temperature", "top_k", "top_p", "typical_p"} & second[0].keys()):
            # These switch sampling on, and so mend the first.
            continue
        inputs = first[1] if first[1] is not None else second[1]
        found = refusal(second[0] | first[0], "x" if inputs is None else inputs)
        assert found.startswith(first[2]), (first[2], second[2], found)


def test_frequency_penalty_came_later() -> None:
    """Up to 1.4.0 keys of later versions are dropped unread, whatever they hold."""
    assert refusal({"frequency_penalty": 3}, version="1.4.0") == ""
    assert refusal({"grammar": "nonsense", "adapter_id": 5}, version="1.4.0") == ""


@pytest.mark.parametrize(
    ("version", "parameters", "message"),
    [
        ("1.4.5", {"max_new_tokens": 1025}, "`max_new_tokens` must be <= 1024. Given: 1025"),
        ("1.4.5", {"max_new_tokens": 1025, "truncate": 100}, ""),
        ("2.0.0", {"max_new_tokens": 1025}, ""),
        ("1.4.5", {"max_new_tokens": None}, "one of `max_new_tokens` or `truncate` must be set"),
        ("2.4.0", {"max_new_tokens": None}, "one of `max_new_tokens` or `truncate` must be set"),
        ("2.4.0", {"max_new_tokens": None, "truncate": 10}, ""),
    ],
)
def test_without_tokenizer(version: str, parameters: dict[str, Any], message: str) -> None:
    """A router without a tokenizer counts nothing: it assumes a full prompt and silently loses its left part."""
    config = TGIServer(version, has_tokenizer=False).config
    body = BodyReader(config.release).generate({"inputs": LONG, "parameters": parameters})
    if message:
        with pytest.raises(RouterError, match=message.replace("(", r"\(")):
            validate(body, config)
    else:
        kept = parameters.get("truncate", 1024)
        assert len(validate(body, config).prompt_ids) == kept


NO_PATTERN: dict[str, Any] = {"properties": {"a": {"not": {}}}}


@pytest.mark.parametrize(
    ("version", "value", "kept"),
    [
        ("1.4.1", "{", "json"),
        ("1.4.2", {"const": 1}, "regex"),
        ("2.2.0", NO_PATTERN, "json"),
        ("2.4.1", NO_PATTERN, None),
        ("2.4.1", '{"properties": {"a": {"const": 1}}}', "regex"),
    ],
)
def test_schemas_by_version(version: str, value: Any, kept: str | None) -> None:
    """A JSON grammar goes to the model as it is, as the pattern that the router makes of it, or not at all."""
    found = check_grammar(Grammar("json", value), TGIServer(version).config.release)
    assert (found and found.kind) == kept


@pytest.mark.parametrize(
    ("version", "value", "message"),
    [
        ("2.3.0", {"const": 1}, "grammar is not valid: Grammar must have a 'properties' field"),
        ("2.3.0", "{", "grammar is not valid: "),
        ("2.3.0", {"type": 5}, 'grammar is not valid: 5 is not valid under any of the given schemas for "type"'),
        ("3.0.0", NO_PATTERN, "cannot compile regex from schema: Unsupported"),
    ],
)
def test_refused_schemas(version: str, value: Any, message: str) -> None:
    """What no release takes for a schema, and what a release can make nothing of, is refused in its words."""
    assert refusal({"grammar": {"type": "json", "value": value}}, version=version).startswith(message)


@pytest.mark.parametrize(
    ("version", "grammar", "message"),
    [
        ("2.0.0", "json", "adjacently tagged enum GrammarType"),
        ("2.0.0", {"type": "json"}, "missing field `value`"),
        ("3.3.0", {"type": "json_schema", "value": {"name": "x"}}, "missing field `schema`"),
        ("3.2.0", {"type": "json_schema", "value": {"schema": {}}}, "unknown variant `json_schema`"),
    ],
)
def test_grammars_of_the_wrong_shape(version: str, grammar: Any, message: str) -> None:
    """A grammar without its parts, or of a kind that came later, is rejected before anything is checked."""
    body = {"inputs": "a", "parameters": {"grammar": grammar}}
    with pytest.raises(RejectionError, match=message):
        BodyReader(TGIServer(version).config.release).generate(body)


def test_tools_are_chosen_by_name() -> None:
    """A tool that is named is the only one that may be called; one without a function or a name is rejected."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    for choice in ("b", {"type": "function", "function": {"name": "b"}}, {"name": "b"}):
        assert choose_tools(tools, choice)["properties"]["function"]["anyOf"] == [{"$ref": "#/$functions/b"}]
    assert len(choose_tools(tools, "auto")["$functions"]) == 2
    with pytest.raises(RouterError, match="Tool with name c not found"):
        choose_tools(tools, "c")
    for wrong in ({"type": "function"}, {"function": {"name": 5}}, "a"):
        with pytest.raises(RejectionError, match=r"tools\[1\]: missing field `function`"):
            choose_tools([tools[0], wrong], "auto")


@pytest.mark.parametrize(("version", "tokens"), [("1.3.0", 4), ("1.4.3", 2), ("2.0.0", 4)])
def test_tokenize_heeds_truncate_for_some_versions(version: str, tokens: int) -> None:
    """Of `/tokenize`, some versions cut the beginning off as `truncate` says, and the others do not look at it."""
    config = TGIServer(version).config
    assert len(tokenized("a b c", 2, config)) == tokens
    assert len(tokenized("a b c", None, config)) == 4


def test_truncate_keeps_the_end() -> None:
    """`truncate` drops tokens from the left and keeps the one that starts every prompt."""
    config = TGIServer("3.3.7").config
    body = BodyReader(config.release).generate({"inputs": "a b c d e", "parameters": {"truncate": 3}})
    job = validate(body, config)
    assert job.prompt == " d e"
    assert (len(job.prompt_ids), job.prompt_ids[0]) == (3, 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 2, "do_sample": True}, "`best_of` != 1 is not supported when streaming tokens"),
        ({"decoder_input_details": True}, "`decoder_input_details` == true is not supported when streaming tokens"),
    ],
)
def test_streams_refuse(parameters: dict[str, Any], message: str) -> None:
    """Streams refuse what they cannot show."""
    with pytest.raises(RouterError) as caught:
        check_streaming(Parameters(**parameters))
    assert caught.value.error == f"Input validation error: {message}"


def test_best_of_switched_off() -> None:
    """A server that allows one sequence says so in other words."""
    config = TGIServer("3.3.7", max_best_of=1).config
    with pytest.raises(RouterError, match="`best_of` != 1 is not allowed for this endpoint"):
        check_best_of(Parameters(best_of=2), config)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = [*Parameters.__dataclass_fields__, "nonsense"]
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.text(max_size=20) | JSON,
        "parameters": st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6) | JSON,
        "stream": st.booleans() | JSON,
        "grammar": JSON,
    },
)
CHATS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("tgi") | JSON,
        "messages": st.lists(st.fixed_dictionaries({"role": st.text(max_size=5), "content": JSON}), max_size=2) | JSON,
        "prompt": st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=5) | JSON,
        "tools": JSON,
        "tool_choice": JSON,
        "response_format": JSON,
        "temperature": JSON,
        "stop": JSON,
        "stream_options": JSON,
        "logprobs": JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(BODIES | JSON, st.sampled_from(RELEASES))
@example({"inputs": "x", "parameters": {"grammar": {"type": "json", "value": {"properties": 5}}}}, "3.3.7")
@example({"inputs": "x", "parameters": {"grammar": {"type": [], "value": 1}}}, "3.3.7")
def test_any_json_is_accepted_or_refused(body: Any, version: str) -> None:
    """Whatever JSON arrives, it becomes a job or a refusal that TGI could have worded, never a crash."""
    config = TGIServer(version).config
    job, error = attempt(lambda: validate(BodyReader(config.release).generate(body), config))
    if isinstance(error, RejectionError):
        assert error.status == 422
        assert error.text.startswith("Failed to deserialize the JSON body into the target type: ")
    elif error is not None:
        assert (error.status, error.error_type) == (422, "validation")
    else:
        assert 0 < len(job.prompt_ids) <= 1024


@settings(max_examples=150, deadline=None)
@given(CHATS | JSON, st.sampled_from(RELEASES))
def test_any_chat_is_accepted_or_refused(body: Any, version: str) -> None:
    """The same holds for chat and completions bodies."""
    reader = OpenAIReader(TGIServer(version).config)
    for read in (reader.chat, reader.completion):
        _, error = attempt(partial(read, body))
        assert error is None or error.status == 422


@given(st.binary(max_size=40) | BODIES.map(lambda body: json.dumps(body).encode()))
@example(b'{"inputs":"\\ud800"}')
@example(b"[" * 100_000)
@example(b'{"inputs": NaN}')
def test_any_bytes_are_json_or_a_400(data: bytes) -> None:
    """Whatever bytes arrive, they are parsed or refused as not JSON."""
    _, error = attempt(lambda: parse_json(data))
    if error is not None:
        assert isinstance(error, RejectionError)
        assert error.status == 400
        assert error.text.startswith("Failed to parse the request body as JSON: ")


def test_valid_escapes_are_kept() -> None:
    """A pair of escaped surrogates is a character and not an error."""
    assert parse_json(b'{"inputs":"\\ud83d\\ude42"}') == {"inputs": "🙂"}
