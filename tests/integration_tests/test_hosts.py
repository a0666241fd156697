"""TLS and redirects: texts and keys reach the host that was named and has proved who it is, and no other."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from langchain_stormtrooper import (
    EndpointNotFoundError,
    ServerUnreachableError,
    TextGenerationInference,
    ZeroShotClassifier,
)
from langchain_stormtrooper.testing import TGIServer

StartServer = Callable[..., TGIServer]
LABELS = ["politics", "science"]
KEY = "sk-of-mine"


class Site:
    """A server with /generate alone, which notes what reaches it.

    Attributes:
        url: Its base URL.
        bodies: What was posted.
    """

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """The answer to anything."""
        self.bodies.append(await request.text())
        return web.json_response({"generated_text": "science"})


@asynccontextmanager
async def serving(handler: Callable[[web.Request], object], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The base URL of a server that answers everything with a handler."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]  # any result will do
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def secured(name: str, authority: trustme.CA) -> AsyncIterator[Site]:
    """A server with a certificate for a name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    site = Site()
    async with serving(site.answer, tls) as site.url:
        yield site


def classifier(url: str) -> ZeroShotClassifier:
    """A classifier with a key."""
    return ZeroShotClassifier(LABELS, llm=TextGenerationInference(base_url=url, api_key=KEY))


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    """A server with a certificate of its own making gets neither text nor key, and the error says why and where."""
    async with secured("127.0.0.1", trustme.CA()) as site:
        with pytest.raises(ServerUnreachableError) as caught:
            await classifier(site.url).ainvoke("x")
        with pytest.raises(ServerUnreachableError, match="not trusted"):
            [piece async for piece in TextGenerationInference(base_url=site.url, api_key=KEY).astream("x")]
    assert f"The server at {site.url} has a TLS certificate that is not trusted (" in str(caught.value)
    assert KEY not in str(caught.value)
    assert site.bodies == []


@pytest.mark.parametrize(("name", "says"), [("127.0.0.1", "science"), ("example.org", "not trusted (IP address mism")])
async def test_a_certificate_is_for_its_host(tmp_path: Path, name: str, says: str) -> None:
    """A certificate that the system trusts is taken for the host it names, and for no other."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    script = (
        "import sys; from langchain_stormtrooper import TextGenerationInference as LLM, ServerUnreachableError\n"
        "try: print(LLM(base_url=sys.argv[1]).invoke('x'))\n"
        "except ServerUnreachableError as error: print(error)"
    )
    async with secured(name, authority) as site:
        # A process of its own, since which authorities are trusted is read when aiohttp is imported.
        python = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, site.url),
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await python.communicate()
    assert says in said.decode()
    assert len(site.bodies) == (name == "127.0.0.1")


async def test_https_for_a_server_without_it(tgi_server: StartServer) -> None:
    """A plain server that is addressed with https:// is said to speak no TLS."""
    url = tgi_server("3.3.7").url.replace("http:", "https:")
    said = f"The server at {url} does not speak TLS (is it http:// rather than https://?): "
    with pytest.raises(ServerUnreachableError, match=re.escape(said)):
        await classifier(url).ainvoke("x")


async def test_http_for_a_server_with_tls() -> None:
    """A TLS server that is addressed with http:// is an error that names the address, and gets nothing it can read."""
    async with secured("127.0.0.1", trustme.CA()) as site:
        url = site.url.replace("https:", "http:")
        with pytest.raises(ServerUnreachableError, match=f"The server at {url} (does not speak HTTP|refused or dropp)"):
            await classifier(url).ainvoke("x")
    assert site.bodies == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(tgi_server: StartServer, status: int) -> None:
    """Whatever the redirect and whoever asks, the other host sees no request; the error says what to set."""
    elsewhere = tgi_server("3.3.7")

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": elsewhere.url + request.path})

    async with serving(redirect) as url:
        model = TextGenerationInference(base_url=url, api_key=KEY)
        with pytest.raises(EndpointNotFoundError, match=rf"redirects elsewhere \({status}\).*set `base_url`"):
            await classifier(url).abatch(["x", "y"])
        with pytest.raises(EndpointNotFoundError, match="redirects elsewhere") as caught:
            [piece async for piece in model.astream("x")]
        with pytest.raises(EndpointNotFoundError, match="redirects elsewhere"):
            await model.ainvoke("x")
    assert elsewhere.requests == 0
    assert elsewhere.url not in str(caught.value)
