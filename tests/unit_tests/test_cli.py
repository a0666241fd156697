"""The command line without a server: options, forms of output, errors and exit codes."""

import asyncio
import csv
import errno
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from typer.testing import CliRunner, Result
from typing_extensions import override

from langchain_stormtrooper import (
    LlamaCpp,
    OpenAICompletions,
    TextGenerationInference,
    ZeroShotClassifier,
    cli,
    cli_options,
    cli_telling,
)
from langchain_stormtrooper.cli_output import TableWriter, as_record
from langchain_stormtrooper.cli_progress import Tally
from langchain_stormtrooper.errors import (
    ConfigurationError,
    LedgerError,
    MissingExtraError,
    ModelFileError,
    RequestFailedError,
    ServerUnreachableError,
    ServerWarning,
    UnmatchedLabelWarning,
)
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.tables.classifying import answered
from langchain_stormtrooper.text_files import Columns, Row

LABELS = ["--labels", "music,weather"]


class KeywordLLM(LLM):
    """Answers by a word in the text; earlier texts take longer where they say so."""

    prompts: list[str] = Field(default_factory=list)
    otherwise: str = "no idea"
    error: BaseException | None = None
    ends_at: int | None = None

    @override
    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        raise NotImplementedError

    @override
    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        self.prompts.append(prompt)
        if self.error is not None:
            raise self.error
        if self.ends_at is not None and len(self.prompts) > self.ends_at:
            raise KeyboardInterrupt
        text = prompt.rpartition("ext: ")[2]
        if "slow" in text:
            await asyncio.sleep(0.05)
        return "music" if "jazz" in text else "weather" if "rain" in text else self.otherwise

    @property
    @override
    def _llm_type(self) -> str:
        return "keyword"

    @property
    @override
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "keyword"}


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> KeywordLLM:
    """The LLM that every command gets."""
    made = KeywordLLM()
    monkeypatch.setattr(cli_options, "make_llm", lambda *args, **kwargs: made)
    monkeypatch.delenv("TGI_BASE_URL", raising=False)
    return made


@pytest.fixture
def run(llm: KeywordLLM) -> Callable[..., Result]:
    """Run `classify` with these arguments, LABELS unless others are given."""

    def invoke(*arguments: str, labels: bool = True, **kwargs: Any) -> Result:
        return CliRunner().invoke(cli.app, ["classify", *arguments, *(LABELS if labels else [])], **kwargs)

    return invoke


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Five records; the third has a wrong label."""
    path = tmp_path / "songs.jsonl"
    rows = [
        {"text": "jazz now", "label": "music", "split": "train"},
        {"text": "rain soon", "label": "weather", "split": "train"},
        {"text": "rain again", "label": "music", "split": "test"},
        {"text": "jazz again", "label": "music", "split": "test"},
        {"text": "more rain", "label": "weather", "split": "test"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


Run = Callable[..., Result]


def test_arguments_become_json_lines_with_a_summary_aside(run: Run) -> None:
    """Rows go to standard output and nothing else does; the summary goes to standard error."""
    result = run("some jazz", "will it rain?")
    assert result.exit_code == 0
    assert _rows(result) == [
        {
            "index": n,
            "text": text,
            "label": label,
            "method": "generate",
            "match": "exact",
            "generation": label,
        }
        for n, (text, label) in enumerate([("some jazz", "music"), ("will it rain?", "weather")])
    ]
    assert result.stderr.startswith("2 rows: 2 labelled; ")


def test_rows_without_a_label_are_counted_by_reason(run: Run) -> None:
    """A row that has no label says why, and the exit code and the summary tell of it instead of Python warnings."""
    result = run("jazz", "who are you?")
    assert result.exit_code == cli_telling.EXIT_UNLABELLED
    assert [(row["label"], row.get("reason")) for row in _rows(result)] == [("music", None), (None, "unmatched")]
    assert "1 labelled, 1 without a label (1 unmatched)" in result.stderr
    assert "Warning" not in result.stderr


def test_order_is_kept_though_rows_finish_out_of_order(run: Run, llm: KeywordLLM) -> None:
    """A slow first row is overtaken in work and not in the output."""
    texts = ["slow jazz", "rain", "jazz", "slow rain", "jazz"]
    result = run(*texts)
    assert [row["text"] for row in _rows(result)] == texts
    assert [row["label"] for row in _rows(result)] == ["music", "weather", "music", "weather", "music"]


def test_standard_input_is_read_where_nothing_else_is_named(run: Run) -> None:
    """Piped lines are texts, with `-` and without; their number is that of the line."""
    for arguments in ([], ["-"]):
        rows = _rows(run(*arguments, input="jazz\n\nrain\n"))
        assert [(row["index"], row["label"]) for row in rows] == [(0, "music"), (2, "weather")]


def test_bad_standard_input_is_told_after_the_rows_before_it(run: Run) -> None:
    """Rows before a line that cannot be read are answered, and then the line is named."""
    result = run(input=b"jazz\n\xff\n")
    assert result.exit_code == cli_telling.EXIT_USAGE
    assert [row["label"] for row in _rows(result)] == ["music"]
    assert "stdin, line 2" in result.stderr


def _check_blank(result: Result, llm: KeywordLLM, labels: list[str | None]) -> None:
    """Rows with these labels; those without one hold no text, are told and counted, and were not asked about."""
    rows = _rows(result)
    assert [row["label"] for row in rows] == labels
    blank = [row for row in rows if row["label"] is None]
    assert {row["reason"] for row in blank} == {"failed"}
    assert all(row["error"] == "holds no text" or "this is not a JSON object" in row["error"] for row in blank)
    assert len(llm.prompts) == len(rows) - len(blank)
    assert result.exit_code == cli_telling.EXIT_UNLABELLED
    assert f"{len(blank)} without a label ({len(blank)} failed)" in result.stderr
    assert f"The first failure, row {blank[0]['index']} (counted from 0): {blank[0]['error']}\n" in result.stderr


def test_rows_without_a_text_are_failed_rows(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """JSON that holds no text, or white space, is null with its reason; the rows around it have their labels."""
    path = tmp_path / "rows.jsonl"
    bad = ["5", '{"text": null}', '{"text": 7}', '{"body": "x"}', '{"text": ""}', '{"text": " \\n"}', "null"]
    path.write_text("\n".join(['{"text": "jazz"}', *bad, '{"text": "rain"}']))
    result = run("-i", str(path))
    _check_blank(result, llm, ["music", *[None] * len(bad), "weather"])
    assert [row["text"] for row in _rows(result)] == ["jazz", None, None, None, None, "", " \n", None, "rain"]
    for form in ("csv", "table"):
        shown = run("-i", str(path), "--format", form)
        assert (shown.exit_code, shown.stdout.count("failed")) == (cli_telling.EXIT_UNLABELLED, len(bad))


def test_blank_cells_and_arguments_are_failed_rows(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """An empty cell of a .csv and a blank argument are treated as JSON without a text is, alone, too."""
    path = tmp_path / "rows.csv"
    path.write_text('id,text\n1,jazz\n2,\n3," "\n4,rain\n')
    _check_blank(run("-i", str(path)), llm, ["music", None, None, "weather"])
    llm.prompts.clear()
    _check_blank(run("jazz", "", " ", "rain"), llm, ["music", None, None, "weather"])
    llm.prompts.clear()
    _check_blank(run(""), llm, [None])


@pytest.mark.parametrize("piped", ["", "\n \n"])
def test_empty_standard_input_is_wrong_usage(run: Run, piped: str) -> None:
    """Nothing to classify is an error, as an empty file is, and no empty success."""
    result = run(input=piped)
    assert (result.exit_code, result.stdout) == (cli_telling.EXIT_USAGE, "")
    assert result.stderr == "Error: There are no texts: standard input is empty, or has blank lines only.\n"


def test_known_labels_give_an_accuracy(run: Run, songs: Path) -> None:
    """Conditions choose rows, and rows are compared with the label column."""
    result = run("--input", str(songs), "--where", "split=test", "--label-column", "label")
    assert [(row["index"], row["expected"], row["label"]) for row in _rows(result)] == [
        (2, "music", "weather"),
        (3, "music", "music"),
        (4, "weather", "weather"),
    ]
    assert "accuracy 0.667 (2 of 3)" in result.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_empty_known_label_is_none(run: Run, llm: KeywordLLM, tmp_path: Path, form: str) -> None:
    """Empty labels and null are left out of the accuracy, which is told; the option's name is out of scope."""
    known = [("jazz", "music"), ("rain", "music"), ("soup", "other"), ("stew", ""), ("more jazz", " ")]
    path = tmp_path / f"known.{form}"
    if form == "csv":
        path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in known))
    else:
        path.write_text("".join(json.dumps({"text": t, "label": label or None}) + "\n" for t, label in known))
    llm.otherwise = "other"
    result = run(str(path), "--label-column", "label", "--out-of-scope", "other")
    assert [row["label"] for row in _rows(result)] == ["music", "weather", None, None, "music"]
    assert ["expected" in row for row in _rows(result)] == [True, True, True, False, False]
    assert result.stderr.endswith("; accuracy 0.667 (2 of 3), without 2 rows that have no known label\n")
    result = run(str(path), "--label-column", "label", "--out-of-scope", "other", "--limit", "4")
    assert result.stderr.endswith("; accuracy 0.667 (2 of 3), without 1 row that has no known label\n")


def test_examples_out_of_scope_have_the_name_of_the_option(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """An example's empty label is refused with what to write instead, and that is shown and is none of the labels."""
    path = tmp_path / "examples.csv"
    path.write_text("text,label\njazz now,music\nrain soon,weather\nsoup,\n")
    given = ("stew", "--examples", str(path), "--out-of-scope", "other")
    result = run(*given, labels=False)
    assert (result.exit_code, result.stdout, llm.prompts) == (cli_telling.EXIT_USAGE, "", [])
    assert "row 2: an example needs a label in 'label'; of a text that no label fits it is the name" in result.stderr
    path.write_text(path.read_text().replace("soup,", "soup,other"))
    llm.otherwise = "other"
    (row,) = _rows(run(*given, labels=False))
    assert (row["label"], row["reason"]) == (None, "out_of_scope")
    assert "soup" in llm.prompts[0]


def test_examples_and_their_labels_come_from_a_file(run: Run, llm: KeywordLLM, songs: Path) -> None:
    """Examples stand in the prompt; the labels are theirs where none are given."""
    result = run("jazz", "--examples", str(songs), "--examples-where", "split=test", "--per-label", "1", labels=False)
    assert result.exit_code == 0
    assert "rain again" in llm.prompts[0]
    assert "more rain" in llm.prompts[0]
    assert "jazz again" not in llm.prompts[0]
    assert "jazz now" not in llm.prompts[0]


def test_kinds_and_a_template_of_ones_own(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """A template file is used as it stands, and kinds are filled in."""
    template = tmp_path / "prompt.txt"
    template.write_text("{text_kind}|{label_kind}|{labels}|text: {text}\n")
    assert run("jazz", "--prompt", str(template), "--text-kind", "song", "--label-kind", "mood").exit_code == 0
    assert llm.prompts == ["song|mood|music, weather.|text: jazz"]


def test_a_seed_shuffles_before_the_limit(run: Run, tmp_path: Path) -> None:
    """The same seed chooses the same sample, which is not the head of the file."""
    path = tmp_path / "many.txt"
    path.write_text("".join(f"jazz {n}\n" for n in range(100)))
    samples = [_rows(run("-i", str(path), "--seed", seed, "--limit", "10")) for seed in ("1", "1", "2")]
    indices = [[row["index"] for row in sample] for sample in samples]
    assert indices[0] == indices[1] != indices[2]
    assert indices[0] != list(range(10))
    assert [row["index"] for row in _rows(run("-i", str(path), "--limit", "3"))] == [0, 1, 2]


def test_labels_from_a_file(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """A file of labels may have names with commas, and descriptions, which the prompt shows."""
    path = tmp_path / "labels.txt"
    path.write_text("music, all of it\tSongs.\nweather\n")
    assert _rows(run("rain", "--labels", str(path), labels=False))[0]["label"] == "weather"
    assert "music, all of it: Songs." in llm.prompts[0]


def test_many_labels_are_no_name_of_a_file(run: Run) -> None:
    """A list of labels, and a text, may be longer than the name of a file can be."""
    labels = ",".join(["music", "weather", *(f"further label {n}" for n in range(500))])
    assert _rows(run("rain " * 1000 + ".txt", "--labels", labels, labels=False))[0]["label"] == "weather"


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, all values of a .csv being texts."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
        return rows
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return [dict(row) for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_output_files_by_their_ending(run: Run, songs: Path, tmp_path: Path, ending: str) -> None:
    """The output has the columns of the file and the answers, by any ending, and standard output stays empty."""
    path = tmp_path / f"out{ending}"
    result = run(str(songs), "--label-column", "label", "--prefix", "my_", "-o", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "accuracy 0.800 (4 of 5)" in result.stderr
    rows = _read(path)
    probabilities = ["my_probabilities"] if ending == ".jsonl" else ["my_probability:music", "my_probability:weather"]
    added = ["my_label", "my_confidence", "my_reason", "my_error", *probabilities]
    assert all(list(row) == ["text", "label", "split", *added] for row in rows)
    original = [json.loads(line) for line in songs.read_text().splitlines()]
    assert [{name: row[name] for name in ("text", "label", "split")} for row in rows] == original
    assert [row["my_label"] for row in rows] == ["music", "weather", "weather", "music", "weather"]
    assert {row["my_reason"] for row in rows} <= {None, ""}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_texts_go_to_a_file_with_their_numbers(run: Run, tmp_path: Path, ending: str) -> None:
    """Texts that are in no table are written with their number, by any ending."""
    path = tmp_path / f"out{ending}"
    assert run("-o", str(path), input="jazz\n\nwho?\n").exit_code == cli_telling.EXIT_UNLABELLED
    rows = [(int(row["index"]), row["text"], row["label"] or None, row["reason"] or None) for row in _read(path)]
    assert rows == [(0, "jazz", "music", None), (2, "who?", None, "unmatched")]


def test_columns_are_not_overwritten(run: Run, llm: KeywordLLM, songs: Path, tmp_path: Path) -> None:
    """A column that has the name of an added one is an error that names the option, before anything is asked."""
    result = run(str(songs), "-o", str(tmp_path / "out.csv"))
    assert result.exit_code == cli_telling.EXIT_USAGE
    assert "would overwrite ('label'): name the added columns otherwise by --prefix, such as" in result.stderr
    assert llm.prompts == []


def test_a_row_that_cannot_be_read_is_reported(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """The rows around a malformed line have labels, it has a reason and its line; or the file is refused."""
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(b'{"text": "jazz"}\n{"text": "ja\n{"text": "caf\xe9"}\n{"text": "rain", "n": 1.10}\n')
    result = run(str(path), "-o", str(out))
    assert result.exit_code == cli_telling.EXIT_UNLABELLED
    assert "4 rows: 2 labelled, 2 without a label (2 failed)" in result.stderr
    assert f"The first failure, row 1 (counted from 0): {path}, line 2: this is not valid JSON" in result.stderr
    rows = _read(out)
    assert [(row["label"], row["reason"]) for row in rows] == [
        ("music", None),
        (None, "failed"),
        (None, "failed"),
        ("weather", None),
    ]
    assert "line 3: this is not UTF-8" in rows[2]["error"]
    assert '"n": 1.10, ' in out.read_text()
    llm.prompts.clear()
    refused = run(str(path), "-o", str(out), "--on-bad-row", "fail")
    assert (refused.exit_code, llm.prompts) == (cli_telling.EXIT_USAGE, [])
    assert "line 2: this is not valid JSON" in refused.stderr


def test_a_ledger_saves_asking_again(run: Run, llm: KeywordLLM, songs: Path, tmp_path: Path) -> None:
    """With --ledger the same command asks for nothing twice, and its output is the same."""
    outputs = []
    for number in range(2):
        out = tmp_path / f"out{number}.csv"
        result = run(str(songs), "-o", str(out), "--prefix", "my_", "--ledger", str(tmp_path / "run.sqlite"))
        assert f"{5 if number == 0 else 0} new answers in {tmp_path / 'run.sqlite'}" in result.stderr
        outputs.append(out.read_text())
        assert len(llm.prompts) == 5
    assert outputs[0] == outputs[1]


def test_rows_that_are_appended_meanwhile_are_left_out(songs: Path) -> None:
    """A file that grows is taken as it was when it was looked through."""
    rows, total, _ = cli_options.find_rows([], songs, Columns(), None, None)
    with songs.open("a") as file:
        file.write('{"text": "late"}\n')
    assert [row.text for row in rows][-1] == "more rain"
    assert total == 5


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("with_ledger", [True, False])
def test_a_run_that_is_broken_off(run: Run, llm: KeywordLLM, tmp_path: Path, with_ledger: bool, quiet: bool) -> None:
    """An older output stays; what was answered is in the ledger, or beside the output, and it is always said where."""
    path, out, ledger = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / "run.sqlite"
    path.write_text("id,text\n" + "".join(f"{n},jazz {n}\n" for n in range(100)))
    out.write_text("precious")
    llm.ends_at = 80
    result = run(
        *(str(path), "-o", str(out), "--max-concurrency", "8"),
        *(["--ledger", str(ledger)] if with_ledger else []),
        *(["-q"] if quiet else []),
    )
    assert result.exit_code == cli_telling.EXIT_INTERRUPTED
    assert result.stderr.endswith("Interrupted.\n")
    # Where no row was handed out yet, there is nothing to sum up.
    assert ("labelled" in result.stderr) == (not quiet and not result.stderr.startswith("0 of"))
    assert out.read_text() == "precious"
    left = {entry.name for entry in tmp_path.iterdir()} - {"in.csv", "out.csv"}
    llm.ends_at = None
    if with_ledger:
        assert f"of 100 rows are done, and answers are kept in {ledger}: the same command goes on" in result.stderr
        assert left == {"run.sqlite"}
        asked = len(llm.prompts)
        assert run(str(path), "-o", str(out), "--ledger", str(ledger)).exit_code == 0
        assert len(llm.prompts) - asked <= 100 - 40
        assert len(_read(out)) == 100
    else:
        assert left == {"out.partial.csv"}
        kept = _read(tmp_path / "out.partial.csv")
        assert (
            f"{len(kept)} of 100 rows are done, and left in {tmp_path / 'out.partial.csv'}; the others have to be "
            "asked again. With --ledger" in result.stderr
        )
        assert [row["id"] for row in kept] == [str(n) for n in range(len(kept))]
        assert {row["label"] for row in kept} == {"music"}


def test_an_older_output_survives_a_run_that_fails_at_once(run: Run, llm: KeywordLLM, tmp_path: Path) -> None:
    """Nothing is overwritten before there is a first row."""
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    llm.error = ServerUnreachableError("The server is down: start it.")
    assert run("jazz", "--output", str(path)).exit_code == cli_telling.EXIT_MODEL
    assert path.read_text() == "precious"


def test_a_table_shows_what_was_expected(run: Run, songs: Path) -> None:
    """Where the labels are known, they stand in a column beside those that were given."""
    result = run("-i", str(songs), "--label-column", "label", "--format", "table")
    head, _, first, _, third, *_ = result.stdout.splitlines()
    assert head.split()[:2] == ["label", "expected"]
    assert first.split()[:2] == ["music", "music"]
    assert third.split()[:2] == ["weather", "music"]


def test_a_table_on_request(run: Run) -> None:
    """The table has a head, one line a row, and the text without line breaks or control characters."""
    result = run("some\njazz \x1b[31m[bold]red", "x" * 200, "--format", "table", env={"COLUMNS": "60"})
    head, _, first, second = result.stdout.splitlines()
    assert head.split() == ["label", "text"]
    assert first.rstrip().split(maxsplit=1) == ["music", "some jazz  [31m[bold]red"]
    assert second.startswith("– unmatched")
    assert second.rstrip().endswith("x…")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jazz", "--labels", ""], "at least two labels, and there is none"),
        (["jazz", "--labels", "music"], "--labels 'music' is neither a list nor a file"),
        (["jazz", "--labels", "absent.txt"], "There is no file absent.txt"),
        (["jazz", "--labels", "Music,music"], "differ only in case"),
        (["jazz", "--labels", "a,,b"], "label 1 is '', which is blank"),
        (["jazz"], "There are no labels"),
        (["jazz", "-i", "x.txt", *LABELS], "give one or the other"),
        (["-i", "absent.txt", *LABELS], "There is no file absent.txt"),
        (["-", "jazz", *LABELS], "`-` stands for standard input"),
        (["jazz", "--label-column", "label", *LABELS], "--text-column and --label-column are about"),
        (["jazz", "--where", "split=test", *LABELS], "--where chooses among the rows of a file"),
        (["jazz", "--per-label", "3", *LABELS], "--per-label and --examples-where"),
        (["jazz", "--prompt", "nonsense", *LABELS], "--prompt 'nonsense' is neither a preset"),
        (["jazz", "--method", "score", *LABELS], "does not offer method='score'"),
        (["jazz", "--text-kind", "", *LABELS], "--text-kind: "),
        (["jazz", "-o", "out.xml", *LABELS], "must end with .csv, .jsonl, .parquet"),
        (["absent.parquet", *LABELS], "There is no file absent.parquet: check its name (a text that ends like that"),
        (["jazz", "--prefix", "x", *LABELS], "--prefix is about the columns that are added to a file"),
        (["jazz", "--dry-run", *LABELS], "--dry-run looks through a file"),
        (["jazz", "-o", "absent/out.csv", *LABELS], "There is no directory absent"),
        (["jazz", "-o", "out.csv", "--format", "csv", *LABELS], "--format is for standard output"),
    ],
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: list[str], message: str) -> None:
    """What cannot be meant is refused on one line, without a traceback and before any work."""
    result = run(*arguments, labels=False)
    assert (result.exit_code, result.stdout) == (cli_telling.EXIT_USAGE, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_of_files_is_one_sentence(run: Run, songs: Path, tmp_path: Path) -> None:
    """A file as argument, an output over the input, a foreign label, a broken template: each is refused."""
    template = tmp_path / "prompt.txt"
    template.write_text("{text} {oh")
    for arguments, message in (
        ([str(songs), "jazz"], f"{songs} is a file: to classify the texts in it, give it alone"),
        ([str(songs), "-o", str(tmp_path)], "must end with .csv, .jsonl, .parquet"),
        (["-i", str(songs), "-o", str(songs)], f"--output would overwrite {songs}"),
        (["jazz", "--examples", str(songs), "--label-column", "split"], "has the label 'train', which is not among"),
        (["jazz", "--prompt", str(template)], "is no template"),
        (["-i", str(songs), "--text-column", "body"], "'body' holds no text"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (cli_telling.EXIT_USAGE, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ServerUnreachableError("Nobody at x: set `base_url=` or TGI_BASE_URL."), 4, "set --llm or TGI_BASE_URL."),
        (ModelFileError("Too bad: LlamaCpp(model_path=...)."), 4, "Too bad: --llm FILE.gguf."),
        (MissingExtraError("LlamaCpp", "local"), 4, "pip install 'langchain-stormtrooper[local]'"),
        (ConfigurationError("Raise `max_concurrency=`."), 2, "Raise --max-concurrency."),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_errors_become_exit_codes(run: Run, llm: KeywordLLM, error: BaseException, code: int, message: str) -> None:
    """Each family of errors has its exit code and speaks of options instead of arguments."""
    llm.error = error
    result = run("jazz")
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_unexpected_errors_point_to_debug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is told in one sentence too, and --debug shows where it is."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(cli_options, "find_rows", fail)
    plain, debugged = run("jazz"), run("jazz", "--debug")
    assert (plain.exit_code, debugged.exit_code) == (1, 1)
    assert plain.stderr == "Error: RuntimeError: boom (--debug shows where).\n"
    assert "Traceback" in debugged.stderr


def test_a_failed_row_is_told_and_the_others_have_labels(
    run: Run, llm: KeywordLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row's failure is shown with its cause, and its neighbours go on."""
    llm.error = ValueError("the prompt, which nobody may see")
    result = run("jazz")
    assert result.exit_code == cli_telling.EXIT_UNLABELLED
    assert _rows(result)[0]["reason"] == "failed"
    assert "The first failure, row 0 (counted from 0): The LLM raised ValueError." in result.stderr
    assert "nobody may see" not in result.stderr


def test_quiet_says_nothing(run: Run) -> None:
    """With --quiet only rows are left."""
    assert run("jazz", "--quiet").stderr == ""


def test_version_and_help() -> None:
    """The version is printed, and the help of a command is about it."""
    from importlib.metadata import version

    assert (
        CliRunner().invoke(cli.app, ["--version"]).stdout
        == f"langchain-stormtrooper {version('langchain-stormtrooper')}\n"
    )
    assert "Sort texts into classes" in CliRunner().invoke(cli.app, ["classify", "--help"]).stdout


def test_the_llm_option_names_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model, a file and a server are told apart, and what is none of them is refused."""
    monkeypatch.delenv("TGI_API_KEY", raising=False)
    embedded = cli_options.make_llm("embedded", timeout=5, max_concurrency=3)
    assert isinstance(embedded, LlamaCpp)
    assert (embedded.model_path, embedded.timeout, embedded.n_parallel) == (None, 5, 3)
    local = cli_options.make_llm("models/m.gguf", timeout=None, max_concurrency=None)
    assert isinstance(local, LlamaCpp)
    assert local.model_path == "models/m.gguf"
    server = cli_options.make_llm("http://host:1", timeout=5, max_concurrency=3)
    assert isinstance(server, TextGenerationInference)
    assert (server.base_url, server.timeout, server.max_concurrency) == ("http://host:1", 5, 3)
    with pytest.raises(ConfigurationError, match="'localhost:8080' names no model"):
        cli_options.make_llm("localhost:8080", timeout=None, max_concurrency=None)


def test_the_llm_option_names_several_servers() -> None:
    """Addresses with commas between them are one LLM behind servers of one kind; `probe` asks one."""

    def made(name: str) -> Any:
        return cli_options.make_llm(name, timeout=None, max_concurrency=3)

    assert made("http://a:1, http://b:2/").base_url == ("http://a:1", "http://b:2")
    openai = made("http://a:1/v1/,http://b:2/v1")
    assert isinstance(openai, OpenAICompletions)
    assert (openai.base_url, openai.max_concurrency) == (("http://a:1", "http://b:2"), 3)
    with pytest.raises(ConfigurationError, match="--llm names servers of two kinds"):
        made("http://a:1,http://b:2/v1")
    with pytest.raises(ConfigurationError, match=r"^--llm names a server twice"):
        made("http://a:1,http://a:1")
    told = CliRunner().invoke(cli.app, ["probe", "http://a:1,http://b:2"])
    assert (told.exit_code, told.stderr) == (2, "Error: The URL must be that of one server: ask several one by one.\n")


def test_the_model_option() -> None:
    """It names the model on an OpenAI-compatible server, and is refused where nothing is asked by it."""

    def made(name: str) -> Any:
        return cli_options.make_llm(name, timeout=None, max_concurrency=None, model="m")

    assert made("http://a:1/v1").model == "m"
    for name in ("http://a:1", "embedded", "m.gguf"):
        with pytest.raises(ConfigurationError, match="--model is for OpenAI-compatible servers"):
            made(name)


async def test_reading_ahead_is_bounded(llm: KeywordLLM) -> None:
    """Of endless rows only a few are read beyond those that were answered."""
    read = 0

    def endless() -> Iterator[Row]:
        nonlocal read
        while True:
            yield Row(read, "jazz")
            read += 1

    classifier = ZeroShotClassifier(labels=["music", "weather"], llm=llm)
    answers = answered(classifier, endless(), config={"max_concurrency": 2})
    seen = [(await anext(answers))[0].index for _ in range(50)]
    await answers.aclose()
    assert seen == list(range(50))
    assert read <= 50 + 4 * 2 + 1


def test_records_hold_what_is_set() -> None:
    """The label is always there; other fields only where they are known, probabilities with six digits."""
    scored = Classification(label="a", confidence=2 / 3, probabilities={"a": 2 / 3, "b": 1 / 3}, method=Method.SCORE)
    assert as_record(Row(7, "t", "b"), scored) == {
        "index": 7,
        "text": "t",
        "expected": "b",
        "label": "a",
        "method": "score",
        "confidence": 0.666667,
        "probabilities": {"a": 0.666667, "b": 0.333333},
    }
    overlong = Classification(reason=Reason.OVERLONG, error="too long")
    assert as_record(Row(0, "t"), overlong) == {
        "index": 0,
        "text": "t",
        "label": None,
        "reason": "overlong",
        "error": "too long",
    }


def _table(width: int, labels: list[str]) -> list[str]:
    """A table of two rows, as lines."""
    out = io.StringIO()
    writer = TableWriter(Console(file=out, width=width), labels, probabilities=True, expected=False)
    rest = {label: 0.2 / (len(labels) - 2) for label in labels[2:]}
    probabilities = {labels[0]: 0.05, labels[1]: 0.75, **rest}
    writer.write(Row(0, "a text"), Classification(label=labels[1], confidence=0.75, probabilities=probabilities))
    writer.write(Row(1, "long text"), Classification(reason=Reason.OVERLONG))
    return out.getvalue().splitlines()


def test_the_table_has_a_bar_for_every_label_where_there_is_room() -> None:
    """Each label has a column in the given order; rows without probabilities leave them empty."""
    head, _, first, second = _table(100, ["sport", "art", "law"])
    assert head.split() == ["label", "sport", "art", "law", "text"]
    assert [part for part in first.split() if part.startswith(".")] == [".05", ".75", ".20"]
    assert first.split()[0] == "art"
    assert second.split() == ["–", "overlong", "long", "text"]


def test_the_table_names_the_next_best_labels_where_there_is_not() -> None:
    """With more labels than fit, the best has a bar and the others are named, and no line is too long."""
    lines = _table(70, [f"label {n}" for n in range(12)])
    assert lines[0].split() == ["label", "next", "text"]
    assert "label 0 .05" in lines[2]
    assert "label 2" not in lines[0]
    assert all(len(line) <= 70 for line in lines)


class _Strict(BaseModel):
    number: int


def _wrong_number() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        _Strict(number="x")
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (_wrong_number(), 2, "Number must be a whole number."),
        (RequestFailedError("The server is overloaded."), 3, "The server is overloaded."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "There is no space left on the disk"),
        (OSError(errno.EACCES, "Permission denied", "x.csv"), 1, "Permission denied: x.csv."),
        (OSError(errno.EIO, "Input/output error"), 1, "Input/output error."),
        (LedgerError("The disk is full.", is_of_disk=True), 1, "The disk is full."),
    ],
)
def test_every_error_has_a_sentence_and_a_code(error: Exception, code: int, message: str) -> None:
    """What ends a command from anywhere in it: wrong values, a row where there is but one, files, disks."""
    found, told = cli_telling.explain(error)
    assert (found, told.startswith(message)) == (code, True), told


def test_warnings_of_others_are_shown_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the summary, what is said of servers is told in a line, and what others warn of stays a warning."""

    def work() -> None:
        with cli_telling.summary(Tally(), quiet=False):
            warnings.warn("from elsewhere", UserWarning, stacklevel=1)
            warnings.warn("A server is left out: set `base_url=`.", ServerWarning, stacklevel=1)
            warnings.warn("in the summary", UnmatchedLabelWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="from elsewhere"):
        work()
    assert capsys.readouterr().err == "A server is left out: set --llm.\n"
