"""What is concluded from a server's refusals, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_stormtrooper.errors import ConfigurationError, RequestFailedError, ResponseFormatError
from langchain_stormtrooper.llms.abilities import GrammarSupport
from langchain_stormtrooper.llms.asking import ask_again
from langchain_stormtrooper.llms.tgi_abilities import find_abilities
from langchain_stormtrooper.wire.details import Details, NoDetailsError, Token
from langchain_stormtrooper.wire.tgi_refusals import TopTokensError

TOKENS = tuple(Token(number, f" t{number}", -1.0) for number in range(5))


class Server:
    """Answers every request, but for those with one parameter, or for all."""

    def __init__(self, error: Exception | None, parameter: str | None = None) -> None:
        self.error = error
        self.parameter = parameter
        self.asked: list[dict[str, Any]] = []

    async def ask(self, prompt: str, **wanted: Any) -> Details:
        """Called by what is tested."""
        self.asked.append(wanted)
        if self.error is not None and (self.parameter is None or wanted.get(self.parameter)):
            raise self.error
        top = wanted.get("top_n_tokens") or 0
        return Details(" 7", TOKENS[:1], (TOKENS[:top],) if top else (), TOKENS if wanted.get("prefill") else ())


@pytest.mark.parametrize("status", [422, 424])
async def test_a_refusal_while_plain_requests_work(status: int) -> None:
    """A parameter that is refused for good, in words we do not know, is an ability that the server lacks."""
    server = Server(RequestFailedError("no", status=status, retryable=status == 424), "top_n_tokens")
    abilities = await find_abilities(server.ask, None)
    assert (abilities.top_tokens, abilities.prefill) == (0, True)
    assert server.asked.count({"max_new_tokens": 1}) == 2  # once more after the refusal


@pytest.mark.parametrize(
    "error",
    [
        RequestFailedError("no", status=422),
        RequestFailedError("no", status=424, retryable=True),
        RequestFailedError("no", status=429, retryable=True),
        RequestFailedError("too late", retryable=True),
        ResponseFormatError("spoilt", status=200),
        ResponseFormatError("spoilt", status=422),
    ],
)
async def test_nothing_is_concluded_while_nothing_works(error: Exception) -> None:
    """What every request meets with says nothing of abilities."""
    with pytest.raises(type(error)):
        await find_abilities(Server(error).ask, None)


@pytest.mark.parametrize(
    "error", [ResponseFormatError("spoilt", status=422), RequestFailedError("late", retryable=True)]
)
@pytest.mark.parametrize("parameter", ["top_n_tokens", "prefill", "grammar"])
async def test_nothing_is_concluded_from_spoilt_answers(error: Exception, parameter: str) -> None:
    """An answer that is spoilt or late is raised, whichever ability was asked for."""
    with pytest.raises(type(error)):
        await find_abilities(Server(error, parameter).ask, (3, 3, 7))


async def test_known_refusals() -> None:
    """What the server says in words that we know needs no second look."""
    server = Server(ConfigurationError("grammar is not supported"), "grammar")
    assert (await find_abilities(server.ask, (3, 3, 7))).grammar is GrammarSupport.REFUSED
    assert server.asked.count({"max_new_tokens": 1}) == 1


@pytest.mark.parametrize("allowed", [5, 9])
async def test_an_odd_number_of_alternatives(allowed: int) -> None:
    """A server that refuses as many as it says it allows is not asked for ever."""
    server = Server(TopTokensError("no", allowed), "top_n_tokens")
    assert (await find_abilities(server.ask, None)).top_tokens == 0
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (ResponseFormatError("spoilt", status=200), 3),
        (RequestFailedError("no", status=422), 3),
        (RequestFailedError("late", retryable=True), 3),
        (RequestFailedError("overloaded", status=429, retryable=True), 1),
        (NoDetailsError("none", status=200), 1),
        (ConfigurationError("no"), 1),
    ],
)
async def test_how_often_is_asked(error: Exception, times: int) -> None:
    """Spoilt and lost answers are asked for twice more; not a clear word, nor what was retried with pauses."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise error

    with pytest.raises(type(error)):
        await ask_again(ask)
    assert asked == times
