"""The command `serve`: a classifier as an HTTP app, with a page.

Its options are those of `classify` wherever they mean the same. `cli` registers it; the rest of the package is imported
inside, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from langchain_stormtrooper import cli_parameters as options
from langchain_stormtrooper.cli_telling import in_shell, one_sentence, tell

HELP = (
    "Serve a classifier over HTTP: POST /classify for one text or many, a page at /, Prometheus figures at "
    "/metrics.\n\nWith a key in the environment variable LANGCHAIN_STORMTROOPER_API_KEY, requests must bring it as a "
    "bearer token. "
    "SIGTERM and Ctrl-C end it once what was accepted is answered."
)

SERVER = "Server"

_WORDS = (
    ("create_app()", "`serve`"),
    ("`api_key=` must be printable", f"The environment variable {options.KEY_VARIABLE} must be printable"),
)


def serve(
    labels: options.Labels = None,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to listen at; 0.0.0.0 for all.", rich_help_panel=SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0: any free one.", rich_help_panel=SERVER)
    ] = 8000,
    max_requests: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Requests in work at once; more are a 429.", rich_help_panel=SERVER),
    ] = 64,
    max_texts: Annotated[
        int, typer.Option(min=1, metavar="N", help="Texts that one request may have.", rich_help_panel=SERVER)
    ] = 1000,
    max_body_bytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Bytes of the longest body.", rich_help_panel=SERVER)
    ] = 2**20,
    allow_host: options.AllowHost = None,
    fixed_labels: Annotated[
        bool, typer.Option("--fixed-labels", help="Requests may bring no labels of their own.", rich_help_panel=SERVER)
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long accepted requests may take at the end.", rich_help_panel=SERVER
        ),
    ] = 30.0,
    examples: options.Examples = None,
    text_column: options.TextColumn = "text",
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            "--label-field",
            metavar="COLUMN",
            help="The column that holds the labels of the examples. Default: label.",
            rich_help_panel=options.IN,
        ),
    ] = None,
    examples_where: options.ExamplesWhere = None,
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
    debug: options.Debug = False,
) -> None:
    """Serve a classifier; see `HELP`."""
    with one_sentence(debug, _WORDS):
        from langchain_stormtrooper import cli_options
        from langchain_stormtrooper.addresses import is_loopback
        from langchain_stormtrooper.serving import create_app
        from langchain_stormtrooper.serving.settings import require_serve
        from langchain_stormtrooper.text_files import Columns, read_where

        require_serve("`serve`", "uvicorn")
        cli_options.check_columns(Columns(text_column, label_column), [examples])
        columns = Columns(text_column, label_column or "label", read_where(examples_where or ()))
        shown = cli_options.find_examples(examples, columns, per_label)
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
        # As everywhere, a variable that is empty counts as not set.
        key = os.environ.get(options.KEY_VARIABLE) or None
        app = create_app(
            classifier,
            api_key=key,
            max_body_bytes=max_body_bytes,
            max_texts=max_texts,
            max_requests=max_requests,
            fixed_labels=fixed_labels,
            allowed_hosts=_hosts(host, allow_host),
        )

        from langchain_stormtrooper.serving.running import address_of, listen, run

        listening = listen(host, port)
        with listening:
            if key is None and not is_loopback(listening.getsockname()[0]):
                tell(f"Whoever reaches this address can use the model: put a key into {options.KEY_VARIABLE}.")
            tell(f"Serving at {address_of(host, listening.getsockname()[1])}")
            asyncio.run(run(app, listening, grace=grace, tell=lambda message: tell(in_shell(message, _WORDS))))


def _hosts(host: str, further: list[str] | None) -> list[str] | None:
    """The names that the app answers to; None for any, where it listens at all addresses and nothing is said."""
    from langchain_stormtrooper.addresses import LOOPBACK, is_all, names_of

    if is_all(host) and not further:
        return None
    return [*LOOPBACK, *names_of(host), *(further or ())]
