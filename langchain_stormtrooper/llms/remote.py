"""What LLMs behind an HTTP server share: addresses, key, headers, limits, and one transport for each server.

A subclass brings the protocol (`_make_transport`, and what is asked); `tgi` is one. LangChain's faces are `base`'s.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

from pydantic import Field, PrivateAttr, SecretStr, field_serializer, field_validator
from typing_extensions import override

from langchain_stormtrooper.agreement import Agreement
from langchain_stormtrooper.errors import ConfigurationError, OverlongInputError
from langchain_stormtrooper.llms.base import SelfHostedLLM
from langchain_stormtrooper.llms.connection_settings import check_base_urls, check_headers, check_key
from langchain_stormtrooper.llms.several import Several
from langchain_stormtrooper.servers import times_back
from langchain_stormtrooper.transport import Transport
from langchain_stormtrooper.wire import Response


def only_one(base_url: str | Sequence[str]) -> str:
    """The address of the one server that is asked.

    Raises:
        ConfigurationError: There are several.
    """
    address = check_base_urls(base_url)
    if not isinstance(address, str):
        raise ConfigurationError("base_url names several servers, and this is asked of one: name one of them.")
    return address


_SECRET = {"api_key", "headers"}
"""What is in no pickle."""


class Known:
    """The way to the server; subclasses add what it has told. No settings: copies and pickles start without.

    Attributes:
        transport: The way there, once it is used.
        times_back: How often the server had come back when what it has told was asked.
        several: The servers, if there are more than one; None before it was looked.
        agreement: What holds for all servers of a list, if this is the LLM of one of them.
    """

    __slots__ = ("agreement", "several", "times_back", "transport")

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.times_back = 0
        self.several: tuple[Several[Any]] | tuple[()] | None = None
        self.agreement: Agreement | None = None
        self.forget()

    def forget(self) -> None:
        """Take nothing that the server has told for granted any more: it may have become another."""

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class RemoteLLM(SelfHostedLLM):
    """Base class of LLMs behind a server.

    Attributes:
        base_url: Where the server listens, without the path of a route; a list, which is kept as a tuple, for several
            servers of one model.
        api_key: Sent as a bearer token.
        headers: Further headers, for gateways. Not part of the repr or of serialised objects. Neither they nor
            `api_key` are in pickles: what is unpickled has no headers, and takes the key from the environment where
            it is unpickled. Copies keep both.
        max_concurrency: Requests in flight at once at most, for each server.
        max_downtime: Seconds to wait for a server that has answered before and is gone, as while it restarts, or that
            refuses or drops all that is sent.
        max_body_bytes: Bytes of the largest request that the server reads; more counts as overlong.
    """

    base_url: str | Sequence[str]
    api_key: SecretStr | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)
    max_concurrency: int = Field(default=64, ge=1)
    max_downtime: float = Field(default=60.0, ge=0)
    max_body_bytes: int = Field(default=2_000_000, ge=1)

    _known: Known = PrivateAttr(default_factory=Known)

    _check_base_url = field_validator("base_url", mode="before")(check_base_urls)
    _check_headers = field_validator("headers", mode="before")(check_headers)

    @field_serializer("base_url")
    def _show_base_url(self, base_url: str | Sequence[str]) -> str | list[str]:
        return base_url if isinstance(base_url, str) else list(base_url)

    @override
    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        check_key(self._key)
        if self._key is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ConfigurationError("Both `api_key` and an Authorization header are set: keep one.")

    @property
    def _key(self) -> str | None:
        return None if self.api_key is None else self.api_key.get_secret_value() or None

    @property
    @override
    def concurrency(self) -> int:
        return self.max_concurrency * (1 if isinstance(self.base_url, str) else len(self.base_url))

    @property
    def _way(self) -> Known:
        """What is known, for what does not change when the server comes back: the way there."""
        # What `self._known` gives; but that costs every row 4 µs in pydantic.
        private = self.__pydantic_private__
        known: Known = self._known if private is None else private["_known"]
        return known

    def _get_known(self) -> Known:
        known = self._way
        if known.transport is not None and known.times_back != (now := times_back(known.transport.base_url)):
            known.times_back = now
            known.forget()
        return known

    def _several(self) -> Several[Self] | None:
        """The servers, if there are more than one."""
        known = self._way
        if known.several is None:
            # Once more: copies with changes were not looked at.
            addresses = check_base_urls(self.base_url)
            known.several = () if isinstance(addresses, str) else (self._make_several(addresses),)
        return known.several[0] if known.several else None

    def _make_several(self, addresses: Sequence[str]) -> Several[Self]:
        agreement = Agreement()
        llms = [self.model_copy(update={"base_url": address}) for address in addresses]
        for llm in llms:
            llm._get_known().agreement = agreement
        return Several(llms, addresses, agreement, self.max_downtime)

    async def _atell_identity(self) -> dict[str, object]:
        """What servers of one list must have in common, by name, as far as the server tells."""
        return {}

    async def _atell_abilities(self) -> dict[str, object]:
        """What servers of one list must be able to do alike so that labels are scored alike, by name."""
        return {}

    @override
    async def ais_healthy(self) -> bool:
        several = self._several()
        return await (self._transport.is_healthy() if several is None else several.is_any_healthy())

    @property
    def _transport(self) -> Transport:
        known = self._way
        if known.transport is None:
            known.transport = self._make_transport()
            known.times_back = times_back(known.transport.base_url)
        return known.transport

    @abstractmethod
    def _make_transport(self) -> Transport:
        """The way to the server; see `_transport_for`."""

    def _transport_for(
        self, *, retries_allowed: Callable[[Response], int | None], unreachable_hint: str, **protocol: Any
    ) -> Transport:
        """A transport with this LLM's settings; the arguments are those of `Transport` that a protocol decides."""
        # Once more: copies with changes and unpickled keys were not looked at.
        check_key(self._key)
        key = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return Transport(
            only_one(self.base_url),
            headers={**check_headers(self.headers), **key},
            timeout=self.timeout,
            max_concurrency=self.max_concurrency,
            max_downtime=self.max_downtime,
            retries_allowed=retries_allowed,
            unreachable_hint=unreachable_hint,
            has_others=self._get_known().agreement is not None,
            **protocol,
        )

    def _sendable(self, body: bytes) -> bytes:
        # The server may close while such a body is still being sent, which would look like a failing server.
        if len(body) > self.max_body_bytes:
            raise OverlongInputError(
                f"The request has {len(body)} bytes, the server reads at most {self.max_body_bytes}: shorten the text, "
                f"or raise {self._payload_limit} and `max_body_bytes=`."
            )
        return body

    @property
    def _payload_limit(self) -> str:
        """What the server's own limit on the size of requests is called."""
        return "the server's limit"

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._known = type(self._known)()
        return copied

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """For pickles; copies are made in another way and keep everything."""
        state = super().__getstate__()
        return {
            **state,
            "__dict__": {name: value for name, value in state["__dict__"].items() if name not in _SECRET},
            "__pydantic_fields_set__": state["__pydantic_fields_set__"] - _SECRET,
        }

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        secrets = {name: type(self).model_fields[name].get_default(call_default_factory=True) for name in _SECRET}
        super().__setstate__({**state, "__dict__": {**state["__dict__"], **secrets}})
