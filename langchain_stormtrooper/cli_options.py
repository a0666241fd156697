"""What the options of the command line stand for: the texts, the labels, the examples, the prompt and the model.

Each function reads one option, or two that belong together, and refuses what cannot be meant with a
`ConfigurationError` that names the option. Nothing here asks a model anything. Only `cli` calls this module.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from langchain_core.prompts import PromptTemplate

from langchain_stormtrooper.classifiers import FewShotClassifier, TextClassifier, ZeroShotClassifier
from langchain_stormtrooper.errors import ConfigurationError, LabelError, PromptError
from langchain_stormtrooper.llms.llamacpp import LlamaCpp
from langchain_stormtrooper.llms.openai import OpenAICompletions
from langchain_stormtrooper.llms.tgi import TextGenerationInference
from langchain_stormtrooper.presets import PRESETS
from langchain_stormtrooper.tables.answer_files import AnswerFile, check_output
from langchain_stormtrooper.tables.answers import AnswerColumns
from langchain_stormtrooper.tables.classifying import choose
from langchain_stormtrooper.tables.formats import TABLES
from langchain_stormtrooper.text_files import (
    ENDINGS,
    Columns,
    Row,
    Survey,
    look_through,
    read_examples,
    read_labels,
    read_rows,
    read_stream,
    read_text,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLanguageModel

    from langchain_stormtrooper.labels import LabelSpec


_MODEL_OF_OPENAI = "--model is for OpenAI-compatible servers: end the address with /v1, or leave it out."


def make_llm(
    name: str, *, timeout: float | None, max_concurrency: int | None, model: str | None = None
) -> BaseLanguageModel[Any]:
    """The language model that `--llm` names.

    Args:
        name: `embedded`, the address of a server or several as in `make_client`, or a .gguf file.
        timeout: Seconds that one answer may take; None for the LLM's own.
        max_concurrency: Rows worked on at once; None for the LLM's own.
        model: What `--model` names: the model on an OpenAI-compatible server; None for the first that it lists.

    Raises:
        ConfigurationError: The name is none of these, or `--model` is given where no server is asked by it.
    """
    if name.lower().startswith(("http://", "https://")):
        return make_client("--llm", name, several=True, timeout=timeout, max_concurrency=max_concurrency, model=model)
    if model is not None:
        raise ConfigurationError(_MODEL_OF_OPENAI)
    given: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    if name != "embedded":
        if not name.lower().endswith(".gguf"):
            raise ConfigurationError(
                f"--llm {name!r} names no model: give `embedded`, an address such as http://127.0.0.1:8080 (TGI) "
                "or http://127.0.0.1:8000/v1 (vLLM and others), or a .gguf file."
            )
        given["model_path"] = name
    if max_concurrency is not None:
        given["n_parallel"] = max_concurrency
    return LlamaCpp(**given)


def make_client(
    option: str, address: str, *, several: bool = False, **settings: Any
) -> TextGenerationInference | OpenAICompletions:
    """The client of the server at an address: an OpenAI-compatible one if it ends with /v1, else a TGI server.

    Args:
        option: What the address was given as, for messages.
        address: The address.
        several: Whether it may be a list of addresses with commas between them, all of one kind.
        settings: Further settings; None for the LLM's own.

    Raises:
        ConfigurationError: There can be no server at such an address, or no header can carry the key.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    kinds = {one.strip().rstrip("/").endswith("/v1") for one in address.split(",")}
    if "," in address and not several:
        raise ConfigurationError(f"{option} must be that of one server: ask several one by one.")
    if len(kinds) > 1:
        raise ConfigurationError(
            f"{option} names servers of two kinds: give all addresses with /v1 at the end (OpenAI-compatible servers), "
            "or none (TGI)."
        )
    is_openai = kinds == {True}
    if "model" in given and not is_openai:
        raise ConfigurationError(_MODEL_OF_OPENAI)
    key = "OPENAI_COMPATIBLE_API_KEY" if is_openai else "TGI_API_KEY"
    try:
        return (OpenAICompletions if is_openai else TextGenerationInference)(base_url=address, **given)
    except ConfigurationError as error:
        message = re.sub(r"^\w+: base_url\b", option, str(error))
        message = message.replace("use `api_key=` or `headers=`", f"put the key into {key}")
        raise ConfigurationError(re.sub(r"^\w+: api_key\b", key, message)) from None


def make_classifier(
    labels: LabelSpec,
    examples: Sequence[tuple[str, str]],
    *,
    llm: str,
    prompt: str | None,
    method: str,
    prior: bool,
    on_overlong: str,
    text_kind: str,
    label_kind: str,
    timeout: float | None,
    max_concurrency: int | None,
    model: str | None = None,
    out_of_scope: str | None = None,
) -> TextClassifier:
    """The classifier that the options of a command describe: zero-shot, or with examples few-shot.

    Args:
        labels: The labels.
        examples: Pairs of text and label to show.
        llm: What `--llm` names, as in `make_llm`.
        prompt: What `--prompt` names, as in `find_prompt`.
        method: As in the classifier.
        prior: Whether scores are divided by the model's lean.
        on_overlong: As in the classifier.
        text_kind: As in the classifier.
        label_kind: As in the classifier.
        timeout: As in `make_llm`.
        max_concurrency: As in `make_llm`.
        model: As in `make_llm`.
        out_of_scope: As in the classifier; where labelled texts have it for a label, it is none.
    """
    if out_of_scope is not None and isinstance(labels, list):
        labels = [label for label in labels if label != out_of_scope]
    settings: dict[str, Any] = {
        "llm": make_llm(llm, timeout=timeout, max_concurrency=max_concurrency, model=model),
        "prompt": find_prompt(prompt),
        "method": method,
        "prior": "words" if prior else None,
        "on_overlong": on_overlong,
        "text_kind": text_kind,
        "label_kind": label_kind,
        "out_of_scope": out_of_scope,
    }
    if examples:
        return FewShotClassifier(labels, examples, **settings)
    return ZeroShotClassifier(labels=labels, **settings)


def choose_form(form: str, output: Path | None) -> str:
    """How rows are written to standard output: as asked, else as suits who reads them."""
    if output is not None and form != "auto":
        raise ConfigurationError("--format is for standard output: the ending of --output says what the file holds.")
    if form != "auto":
        return form
    return "table" if sys.stdout.isatty() else "jsonl"


def check_no_directory(output: Path) -> None:
    """Refuse to write over a directory."""
    if os.path.isdir(output):  # noqa: PTH112  # a Path raises for what is too long to name a file
        raise ConfigurationError(f"--output {output} is a directory: name a file.")


def check_outputs(
    output: Path | None, ledger: Path | None, prefix: str, inputs: Sequence[Path | None], *, dry_run: bool
) -> None:
    """Refuse what could not be written, while nothing has been asked."""
    if output is not None:
        check_output(output, *inputs, ledger)
    elif prefix:
        raise ConfigurationError("--prefix is about the columns that are added to a file: name it by --output.")
    if dry_run and not any(inputs[:1]):
        raise ConfigurationError("--dry-run looks through a file of texts: name it by --input.")


def make_file(
    output: Path | None, survey: Survey | None, classifier: TextClassifier, prefix: str, ledger: Path | None
) -> AnswerFile | None:
    """What writes `--output`, if it is given; without a ledger it keeps what a broken run has answered."""
    if output is None:
        return None
    added = AnswerColumns(classifier.labels.names, prefix, has_option=classifier.out_of_scope is not None)
    return AnswerFile(output, survey, added, keeps=ledger is None)


def find_source(texts: list[str], source: Path | None) -> tuple[list[str], Path | None]:
    """The texts and the file to classify: an argument that is alone and names a file of texts is that file."""
    if source is not None:
        if texts:
            raise ConfigurationError("There are texts as arguments and --input: give one or the other.")
        return [], source
    for text in texts:
        is_one = text.lower().endswith(ENDINGS) and _is_file(text)
        if is_one and len(texts) == 1:
            return [], Path(text)
        if is_one:
            raise ConfigurationError(f"{text} is a file: to classify the texts in it, give it alone.")
        if len(texts) == 1 and _is_file(text) and Path(text).suffix:
            raise ConfigurationError(
                f"{text} is a file of another kind than is read: its name must end with {', '.join(ENDINGS)} (a text "
                "that is the name of a file can be piped in)."
            )
        # A .txt may well be the end of a text, a table hardly.
        if len(texts) == 1 and text.lower().endswith(tuple(TABLES)):
            if os.path.exists(text):  # noqa: PTH110  # a Path raises for what is too long to name a file
                kind = "a directory" if os.path.isdir(text) else "no regular file"  # noqa: PTH112  # as before
                raise ConfigurationError(f"{text} is {kind}: name a file of texts.")
            raise ConfigurationError(
                f"There is no file {text}: check its name (a text that ends like that can be piped in)."
            )
    return texts, None


def find_rows(
    texts: list[str],
    source: Path | None,
    columns: Columns,
    limit: int | None,
    seed: int | None,
    *,
    reports: bool = False,
) -> tuple[Iterator[Row], int | None, Survey | None]:
    """The rows to classify, how many there are, if known, and what their file holds, if there is one.

    Args:
        texts: The texts; none, or "-", for standard input.
        source: The file to read them from instead.
        columns: What to read from it.
        limit: How many rows to take at most.
        seed: To shuffle with; None for their order.
        reports: As in `read_rows`.
    """
    rows: Iterator[Row]
    total: int | None = None
    survey: Survey | None = None
    if source is not None:
        # Shuffled rows may come from anywhere in the file, so all of it is checked.
        survey = look_through(source, columns, None if seed is not None else limit, reports=reports)
        total = survey.rows
        # What is appended meanwhile is none of it.
        rows = islice(read_rows(source, columns, reports=reports), survey.rows)
    elif columns.where:
        raise ConfigurationError("--where chooses among the rows of a file: name the file by --input.")
    elif texts and texts != ["-"]:
        if "-" in texts:
            raise ConfigurationError("`-` stands for standard input: give it alone, without further texts.")
        total = len(texts)
        rows = (Row(index, text) for index, text in enumerate(texts))
    elif not texts and sys.stdin.isatty():
        raise ConfigurationError("There is no text: give texts as arguments, a file with --input, or pipe them in.")
    else:
        rows = read_stream(_stdin())
    total = total if total is None or limit is None else min(total, limit)
    return choose(rows, limit, seed), total, survey


def _stdin() -> IO[bytes]:
    """Standard input as a file of our own: Python breaks down at its end if a thread still reads from `sys.stdin`."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)  # read to its end elsewhere; no path
    except OSError:  # not the real one: a test's, or a notebook's
        return sys.stdin.buffer


def _is_file(name: str) -> bool:
    return os.path.isfile(name)  # noqa: PTH113  # a Path raises for what is too long to name a file


def check_columns(columns: Columns, files: Sequence[Path | None]) -> None:
    """Refuse names of columns where no file is read that could have them."""
    if not any(files) and (columns.text, columns.label) != (Columns().text, Columns().label):
        raise ConfigurationError("--text-column and --label-column are about a file: name it by --input or --examples.")


def find_examples(path: Path | None, columns: Columns, per_label: int | None) -> list[tuple[str, str]]:
    """The examples to show, if there are any."""
    if path is not None:
        return read_examples(path, columns, per_label)
    if columns.where or per_label is not None:
        raise ConfigurationError(
            "--per-label and --examples-where choose among examples: name their file by --examples."
        )
    return []


def find_labels(given: str | None, examples: Sequence[tuple[str, str]]) -> LabelSpec:
    """Labels from `--labels`, else those of the examples."""
    if given is None:
        if not examples:
            raise LabelError("There are no labels: give them as --labels politics,science,other or in a file.")
        return list(dict.fromkeys(label for _, label in examples))
    # One name alone is no classification, so without a comma it can only be a file.
    if _is_file(given) or ("," not in given and given.lower().endswith((".txt", ".tsv"))):
        return read_labels(Path(given))
    names = split_names(given)
    if len(names) == 1 and names[0]:
        raise LabelError(
            f"--labels {given!r} is neither a list nor a file: separate at least two labels by commas, or name a file "
            "with one label a line."
        )
    return names if any(names) else []


_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|((?!["\s])[^,]*))(,|$)')
"""A quoted or a bare name with what ends it, by the rules of CSV, save that spaces may surround the quotes."""


def split_names(given: str) -> list[str]:
    """Names separated by commas; one that holds a comma stands in double quotes.

    Raises:
        LabelError: The quotes are not those of CSV.
    """
    names: list[str] = []
    end: int | None = 0
    while end is not None:
        found = _NAME.match(given, end)
        if found is None:
            raise LabelError(
                f"--labels {given!r} has a quote that does not end, or something after it: quote whole labels, as in "
                "'\"a, b\",c'."
            )
        quoted, bare, comma = found.groups()
        names.append((bare if quoted is None else quoted.replace('""', '"')).strip())
        end = found.end() if comma else None
    return names


def find_prompt(given: str | None) -> Any:
    """A preset's name, or the template in a file."""
    if given is None:
        return None
    if given in PRESETS:
        return given
    if not _is_file(given):
        raise PromptError(f"--prompt {given!r} is neither a preset ({', '.join(PRESETS)}) nor a file.")
    template = read_text(Path(given))
    try:
        return PromptTemplate.from_template(template)
    except ValueError as error:
        raise PromptError(f"{given} is no template ({error}): braces of the text are doubled, {{{{ and }}}}.") from None
