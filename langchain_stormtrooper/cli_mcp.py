"""The command `mcp`: a classifier's tools for programs that speak the Model Context Protocol.

Its options are those of `classify` wherever they mean the same. `cli` registers it; the rest of the package is imported
inside, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from langchain_stormtrooper import cli_parameters as options
from langchain_stormtrooper.cli_telling import one_sentence, tell

HELP = (
    "Offer a classifier as tools over the Model Context Protocol.\n\nOne tool takes a text, the other a list of texts. "
    "A client starts this command and speaks over standard input and output; with --http it serves at /mcp until it is "
    "stopped, and prints the URL."
)

_HTTP = "Server"


def mcp(
    labels: options.Labels = None,
    examples: options.Examples = None,
    per_label: options.PerLabel = None,
    text_kind: options.TextKind = "text",
    label_kind: options.LabelKind = "label",
    out_of_scope: options.OutOfScope = None,
    prompt: options.PromptOption = None,
    llm: options.LLMOption = "embedded",
    model: options.ModelName = None,
    method: options.MethodName = options.MethodOption.AUTO,
    prior: options.Prior = True,
    on_overlong: options.OnOverlong = options.OverlongOption.NONE,
    timeout: options.Timeout = None,
    max_concurrency: options.MaxConcurrency = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP, with the bearer key in " + options.KEY_VARIABLE + ".")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The address to listen at (default: 127.0.0.1).", rich_help_panel=_HTTP),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port; 0 for one that is free (default: 8090).", rich_help_panel=_HTTP),
    ] = None,
    allow_host: options.AllowHost = None,
    debug: options.Debug = False,
) -> None:
    """Serve tools; see `HELP`."""
    with one_sentence(debug), warnings.catch_warnings(), _log_of_ours(debug):
        from langchain_stormtrooper import addresses, cli_options, mcp_transports
        from langchain_stormtrooper.errors import ConfigurationError, StormtrooperWarning
        from langchain_stormtrooper.mcp_server import make_server
        from langchain_stormtrooper.text_files import Columns
        from langchain_stormtrooper.tools import ClassifierTool

        if not http and (host, port, allow_host) != (None, None, None):
            raise ConfigurationError("--host, --port and --allow-host are about HTTP: give --http, too.")
        shown = cli_options.find_examples(examples, Columns(label="label"), per_label)
        classifier = cli_options.make_classifier(
            cli_options.find_labels(labels, shown),
            shown,
            llm=llm,
            model=model,
            prompt=prompt,
            method=method.value,
            prior=prior,
            on_overlong=on_overlong.value,
            text_kind=text_kind,
            label_kind=label_kind,
            out_of_scope=out_of_scope,
            timeout=timeout,
            max_concurrency=max_concurrency,
        )
        server = make_server([ClassifierTool(classifier), ClassifierTool(classifier, many=True)])
        # A client is told with the result.
        warnings.simplefilter("ignore", StormtrooperWarning)
        if not http:
            asyncio.run(mcp_transports.aserve_stdio(server))
            return
        address = "127.0.0.1" if host is None else host
        key = os.environ.get(options.KEY_VARIABLE) or None
        hosts = [*addresses.names_of(address), *(allow_host or ())]

        def ready(url: str) -> None:
            typer.echo(url)
            if key is None and not addresses.is_loopback(address):
                tell(f"Warning: whoever reaches this machine can use the server: set {options.KEY_VARIABLE} to a key.")
            if not hosts and not addresses.is_loopback(address):
                tell("Only requests to 127.0.0.1 and localhost are answered: give --allow-host for other names.")

        app = mcp_transports.http_app(server, hosts=hosts, key=key)
        asyncio.run(mcp_transports.aserve_http(app, address, 8090 if port is None else port, ready=ready))


@contextmanager
def _log_of_ours(debug: bool) -> Iterator[None]:
    """Keep out of the log what the SDK says of requests that it does not understand: it quotes them."""
    handler = logging.StreamHandler()
    handler.addFilter(logging.Filter("" if debug else "langchain_stormtrooper"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
