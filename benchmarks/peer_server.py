"""One llama.cpp server for every peer, behind a proxy that counts what it evaluated; a process of its own.

    python peer_server.py MODEL N_PARALLEL

prints its URL and runs until its input ends. All clients come through the proxy, so that what it costs is shared:

* `/v1/...` and whatever else llama.cpp has goes there as it is, but that no more than 256 new tokens are generated, the
  original's default: some peers set no limit, and a small model does not end by itself;
* `POST /generate` and `POST /`, as TGI's clients send them, become llama.cpp's `/completion`: `inputs` is the prompt,
  `max_new_tokens` and `stop` are kept, decoding is greedy as TGI's is unless it is told otherwise;
* `GET /counts` tells what llama.cpp's own `timings` have said since the start: tokens that it evaluated and tokens it
  found in its cache of prefixes, which together are the prompts', and tokens that it generated.

An empty MODEL is the embedded one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

import aiohttp
from aiohttp import web
from own_process import own_process, until_input_ends

from langchain_stormtrooper import LlamaCpp, bridge

COUNTED = ("requests", "refused", "evaluated", "cached", "generated")
MAX_NEW_TOKENS = 256
_NO_TIMINGS = {"prompt_n": 0, "cache_n": 0, "predicted_n": 0}


class Proxy:
    """Between the clients and llama.cpp.

    Args:
        upstream: Where llama.cpp listens.
        key: Its key.
        session: For requests to it.
    """

    def __init__(self, upstream: str, key: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._session = session
        self._counts: Counter[str] = Counter(dict.fromkeys(COUNTED, 0))

    async def counts(self, request: web.Request) -> web.Response:
        """What was counted."""
        return web.json_response(self._counts)

    async def pass_on(self, request: web.Request) -> web.Response:
        """A request that llama.cpp understands."""
        asked = await request.read()
        if request.path.startswith("/v1/") and request.method == "POST":
            settings = json.loads(asked)
            limit = settings.pop("max_completion_tokens", settings.get("max_tokens"))
            limit = MAX_NEW_TOKENS if limit is None else min(limit, MAX_NEW_TOKENS)
            asked = json.dumps({**settings, "max_tokens": limit}).encode()
        status, body = await self._ask(request.method, request.path_qs, asked)
        return web.Response(status=status, body=body, content_type="application/json")

    async def generate(self, request: web.Request) -> web.Response:
        """A request of TGI's protocol."""
        asked = await request.json()
        parameters = asked.get("parameters") or {}
        if parameters.get("do_sample"):
            raise web.HTTPBadRequest(text="peers are measured with greedy decoding")
        body = {
            "prompt": asked["inputs"],
            "n_predict": min(parameters.get("max_new_tokens") or 100, MAX_NEW_TOKENS),  # 100 is TGI's own default
            "stop": parameters.get("stop") or parameters.get("stop_sequences") or [],
            "temperature": 0,
        }
        status, answer = await self._ask("POST", "/completion", json.dumps(body).encode())
        said = json.loads(answer)
        if status != 200:
            return web.json_response({"error": said["error"]["message"], "error_type": "validation"}, status=422)
        return web.json_response({"generated_text": said["content"]})

    async def _ask(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        async with self._session.request(method, self._upstream + path, data=body, headers=self._headers) as answer:
            content = await answer.read()
        if method == "POST":
            self._count(answer.status, content)
        return answer.status, content

    def _count(self, status: int, content: bytes) -> None:
        self._counts["requests"] += 1
        self._counts["refused"] += status != 200
        if status != 200:
            return
        said = json.loads(content)
        for one in said if isinstance(said, list) else [said]:
            timings: dict[str, Any] = one.get("timings") or _NO_TIMINGS
            self._counts["evaluated"] += timings["prompt_n"]
            self._counts["cached"] += timings["cache_n"]
            self._counts["generated"] += timings["predicted_n"]


async def serve(model: str, n_parallel: int) -> None:
    """Serve until the input ends."""
    llm = LlamaCpp(**({"model_path": model} if model else {}), n_threads=1, n_parallel=n_parallel)
    engine = bridge.run(llm._arunning).engine
    everything = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )
    async with everything as session:
        proxy = Proxy(engine.base_url, engine.key, session)
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/counts", proxy.counts)
        app.router.add_post("/generate", proxy.generate)
        app.router.add_post("/", proxy.generate)
        app.router.add_route("*", "/{path:.*}", proxy.pass_on)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=256)
        await site.start()
        host, port = runner.addresses[0][:2]
        await until_input_ends(f"http://{host}:{port}")
        await runner.cleanup()


def peer_server(model: str, n_parallel: int) -> AbstractContextManager[str]:
    """Run the server in a process of its own.

    Args:
        model: A GGUF file; empty for the embedded model.
        n_parallel: Prompts that llama.cpp works on at once.

    Returns:
        A context that gives its URL.
    """
    return own_process(__file__, model, str(n_parallel))


def counts(url: str) -> dict[str, int]:
    """What a server has evaluated and generated so far."""
    with urllib.request.urlopen(f"{url}/counts") as reply:  # noqa: S310  # our own server
        read: dict[str, int] = json.loads(reply.read())
        return read


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
