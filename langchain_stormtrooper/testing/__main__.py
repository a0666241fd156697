"""Serve from the command line: `python -m langchain_stormtrooper.testing`, the same as `… dev-server`.

For benchmarks, which want the server in a process of its own, and for trying a client by hand. Only reads options; the
serving is done by `serving.serve`, errors are told by the package's own command line, which calls `build`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

from langchain_stormtrooper.errors import ConfigurationError
from langchain_stormtrooper.testing.faults import FaultPlan
from langchain_stormtrooper.testing.scripted import ScriptedEngine
from langchain_stormtrooper.testing.server import TGIServer
from langchain_stormtrooper.testing.versions import RELEASES, Release

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_stormtrooper.testing.engine import Engine

_PORTS = 65535


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to others to tell what is wrong."""

    @override
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message.removeprefix('argument ')}: see `{self.prog} --help`.")


def build(
    arguments: Sequence[str] | None = None,
    *,
    prog: str = "python -m langchain_stormtrooper.testing",
    epilog: str | None = None,
) -> TGIServer:
    """Build the server that the command line asks for.

    Args:
        arguments: The options; those of the process by default.
        prog: What the command is called.
        epilog: The end of its help.

    Raises:
        ConfigurationError: The options make no server.
    """
    options = _parser(prog, epilog).parse_args(arguments)
    if options.max_input_tokens >= options.max_total_tokens:
        raise ConfigurationError(
            f"--max-input-tokens {options.max_input_tokens} leaves no room for an answer: raise --max-total-tokens "
            f"(now {options.max_total_tokens}) beyond it."
        )
    if options.api_key is not None and not Release.of(options.version).has_api_key:
        raise ConfigurationError(
            f"TGI {options.version} cannot ask for an api key; that came with 2.3.0: give a later --version, or leave "
            "out --api-key."
        )
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


def _parser(prog: str, epilog: str | None) -> _Parser:
    parser = _Parser(
        prog=prog,
        description="A stand-in for a Text Generation Inference server of any released version, until Ctrl-C: with one "
        "fixed answer, or with a small real model (extra `local`). It must not face a network you do not trust.",
        epilog=epilog,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--port", type=_whole(0, _PORTS), default=0, help="port to listen on (default: any free one)")
    add("--version", type=_release, default=RELEASES[-1], help="TGI release (default %(default)s)")
    add("--family", default="flash", choices=["flash", "padded", "seq2seq"], help="model family (default %(default)s)")
    add("--model", metavar="embedded|FILE", help="answer with a real model: the embedded one or a GGUF file")
    add("--answer", default=" ok", help="otherwise: what is said to every prompt (default %(default)r)")
    for name, default, meaning in (
        ("--max-input-tokens", 1024, "longest prompt"),
        ("--max-total-tokens", 2048, "longest prompt with its answer"),
        ("--max-concurrent-requests", 128, "requests at once; one more is refused"),
    ):
        add(name, type=_whole(1), default=default, metavar="N", help=f"{meaning} (default %(default)s)")
    add("--api-key", metavar="KEY", help="the key to ask for (2.3.0 and later)")
    for name, meaning in (("--latency-per-request", "each request"), ("--latency-per-token", "each generated token")):
        add(name, type=_number(math.inf), default=0.0, metavar="SECONDS", help=f"what {meaning} takes")
    add("--fault-rate", type=_number(1), default=0.0, metavar="SHARE", help="share of requests that fail, 0 to 1")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """A reader of whole numbers."""

    def read(written: str) -> int:
        try:
            number = int(written)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            end = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{written!r} is no whole number {end}")
        return number

    return read


def _number(most: float) -> Callable[[str], float]:
    """A reader of numbers from 0."""

    def read(written: str) -> float:
        try:
            number = float(written)
        except ValueError:
            number = math.nan
        if not (0 <= number <= most and math.isfinite(number)):
            end = f"from 0 to {most}" if most < math.inf else "of at least 0"
            raise argparse.ArgumentTypeError(f"{written!r} is no number {end}")
        return number

    return read


def _release(written: str) -> str:
    if written not in RELEASES:
        raise argparse.ArgumentTypeError(
            f"{written!r} was never released; there is {RELEASES[0]} to {RELEASES[-1]}, such as 2.4.1"
        )
    return written


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
    import sys

    from langchain_stormtrooper import cli

    cli.app(["dev-server", *sys.argv[1:]], prog_name="langchain-stormtrooper")
