"""Options that several commands of the command line share, with their help.

Declared once, so that they are written, and mean, the same everywhere. What they stand for is `cli_options`' business;
nothing here imports the rest of the package, so that `--help` is quick.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

IN, TASK, MODEL, OUT = "Texts", "Labels, examples and prompt", "Model", "Output"


class MethodOption(StrEnum):
    """How labels are obtained."""

    AUTO = "auto"
    SCORE = "score"
    CONSTRAIN = "constrain"
    GENERATE = "generate"


class OverlongOption(StrEnum):
    """What an overlong text gives."""

    NONE = "none"
    TRUNCATE = "truncate"
    RAISE = "raise"


def _check_seconds(given: float | None) -> float | None:
    # No clock can wait for `inf` or `nan`, which are numbers to Python.
    if given is not None and not 0 < given < math.inf:
        raise typer.BadParameter("must be a number of seconds above 0")
    return given


KEY_VARIABLE = "LANGCHAIN_STORMTROOPER_API_KEY"
"""The environment variable that holds the key of what is served; arguments can be seen by everybody on the machine."""

AllowHost: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="A further name that clients reach the server by; repeatable. Requests to others are refused.",
        rich_help_panel="Server",
    ),
]
Labels: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="A,B,C|FILE",
        help="Names separated by commas (a name that holds one in double quotes), or a file with one a line "
        "(optionally name, tab, description). Default: those of the labelled texts.",
    ),
]
TextColumn: TypeAlias = Annotated[
    str,
    typer.Option(
        "--text-column",
        "--text-field",
        metavar="COLUMN",
        help="The column that holds the texts, also of the examples.",
        rich_help_panel=IN,
    ),
]
Where: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value; repeatable.", rich_help_panel=IN),
]
Limit: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only the first rows.", rich_help_panel=IN)
]
Seed: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="Shuffle the rows before --limit (all are read first).", rich_help_panel=IN),
]
Examples: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A .csv, .jsonl or .parquet to show texts and labels of.", rich_help_panel=TASK),
]
ExamplesWhere: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Only examples with this value; repeatable.", rich_help_panel=TASK),
]
PerLabel: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Only the first examples of each label.", rich_help_panel=TASK),
]
TextKind: TypeAlias = Annotated[
    str, typer.Option(metavar="WORD", help="What the texts are: review, …", rich_help_panel=TASK)
]
LabelKind: TypeAlias = Annotated[
    str, typer.Option(metavar="WORD", help="What the labels are: sentiment, …", rich_help_panel=TASK)
]
OutOfScope: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="One more choice for texts that no label fits, such as 'none of these': they get none, with the reason "
        "out_of_scope. Labelled texts that no label fits have NAME for their label; an empty one is not known.",
        rich_help_panel=TASK,
    ),
]
PromptOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A preset (stable-beluga, flan-t5, task, kinds, chat, codes) or a file with a template: {text}, {labels}, "
        "{examples}, {text_kind}, {label_kind}. Default: what suits the model.",
        rich_help_panel=TASK,
    ),
]
LLMOption: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="TGI_BASE_URL",
        metavar="embedded|URL|FILE",
        help="`embedded`, the address of a TGI server, that of an OpenAI-compatible one (vLLM, SGLang, llama.cpp, …) "
        "with /v1 at its end, or a .gguf file. Several servers of one model: their addresses with commas between them. "
        "The key is read from TGI_API_KEY, or OPENAI_COMPATIBLE_API_KEY.",
        rich_help_panel=MODEL,
    ),
]
ModelName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="The model's name on an OpenAI-compatible server. Default: the first that it lists.",
        rich_help_panel=MODEL,
    ),
]
MethodName: TypeAlias = Annotated[
    MethodOption, typer.Option(help="How labels are obtained; auto: the LLM's default.", rich_help_panel=MODEL)
]
Prior: TypeAlias = Annotated[
    bool, typer.Option(help="Divide scores by the model's lean towards each label.", rich_help_panel=MODEL)
]
OnOverlong: TypeAlias = Annotated[
    OverlongOption, typer.Option(help="Too long a text: no label, cut to fit, or stop.", rich_help_panel=MODEL)
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Seconds that one answer may take.", callback=_check_seconds, rich_help_panel=MODEL
    ),
]
MaxConcurrency: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Rows worked on at once.", rich_help_panel=MODEL)
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=OUT)]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=OUT)]
