"""Serve from the command line: `python -m langchain_stormtrooper.testing --port 8080 --version 3.3.7`.

For benchmarks, which want the server in a process of its own, and for trying a client by hand. Only reads options; the
serving is done by `serving.serve`, which the package's own command line calls too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_stormtrooper.testing.faults import FaultPlan
from langchain_stormtrooper.testing.scripted import ScriptedEngine
from langchain_stormtrooper.testing.server import TGIServer
from langchain_stormtrooper.testing.serving import serve
from langchain_stormtrooper.testing.versions import RELEASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_stormtrooper.testing.engine import Engine


def build(arguments: Sequence[str] | None = None) -> TGIServer:
    """Build the server that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m langchain_stormtrooper.testing",
        description="A stand-in for a Text Generation Inference server of any released version: with one fixed answer, "
        "or with a small real model.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--version", default=RELEASES[-1], choices=RELEASES, metavar="VERSION", help="TGI release")
    parser.add_argument("--family", default="flash", choices=["flash", "padded", "seq2seq"], help="model family")
    parser.add_argument(
        "--model",
        default=None,
        metavar="embedded|FILE",
        help="answer with a real model: the embedded one or a GGUF file",
    )
    parser.add_argument("--answer", default=" ok", help="otherwise: what is said to every prompt (default %(default)r)")
    parser.add_argument("--max-input-tokens", type=int, default=1024)
    parser.add_argument("--max-total-tokens", type=int, default=2048)
    parser.add_argument("--max-concurrent-requests", type=int, default=128)
    parser.add_argument("--api-key", default=None)
    parser.add_argument("--latency-per-request", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--latency-per-token", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of requests that fail, 0 to 1")
    options = parser.parse_args(arguments)
    return TGIServer(
        options.version,
        _engine(options.model, options.answer),
        family=options.family,
        max_input_tokens=options.max_input_tokens,
        max_total_tokens=options.max_total_tokens,
        max_concurrent_requests=options.max_concurrent_requests,
        api_key=options.api_key,
        latency_per_request=options.latency_per_request,
        latency_per_token=options.latency_per_token,
        faults=FaultPlan(options.fault_rate) if options.fault_rate else (),
        record=0,
        model_id=_model_id(options.model),
        host=options.host,
        port=options.port,
    )


def _engine(model: str | None, answer: str) -> Engine:
    if model is None:
        return ScriptedEngine(lambda _: answer)
    # The real model needs the extra `local`, which the scripted one does not.
    from langchain_stormtrooper.llms.llamacpp import LlamaCpp
    from langchain_stormtrooper.testing.real import LlamaCppEngine

    return LlamaCppEngine(LlamaCpp() if model == "embedded" else LlamaCpp(model_path=model))


def _model_id(model: str | None) -> str:
    if model is None:
        return "stormtrooper/scripted"
    from langchain_stormtrooper.llms.embedded import MODEL_ID

    return MODEL_ID if model == "embedded" else Path(model).name


if __name__ == "__main__":
    serve(build())
