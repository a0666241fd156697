"""Wrong usage of every command: one clear sentence that names what the command has, and an exit code that is listed."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from langchain_stormtrooper import cli, cli_options
from langchain_stormtrooper.cli_output import as_record, show_report
from langchain_stormtrooper.cli_telling import (
    EXIT_USAGE,
    EXITS,
    OF_DEV_SERVER,
    OF_PROBE,
    Words,
    ended_by_signals,
    explain,
    in_shell,
    must,
    one_sentence,
    tell,
)
from langchain_stormtrooper.errors import ConfigurationError, LabelError, LedgerError
from langchain_stormtrooper.llms.abilities import GrammarSupport
from langchain_stormtrooper.probing import ServerReport
from langchain_stormtrooper.results import Classification, Method, Reason
from langchain_stormtrooper.text_files import Row
from langchain_stormtrooper.wire.tgi import ServerInfo

README = Path(__file__).parent.parent.parent / "README.md"


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(cli.app, arguments, prog_name="langchain-stormtrooper")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["classfy"], "No such command 'classfy'. Did you mean 'classify'? See `langchain-stormtrooper --help`."),
        (
            ["classify", "--limit", "0", "x"],
            "--limit must be at least 1: see `langchain-stormtrooper classify --help`.",
        ),
        (["classify", "--seed", "x"], "--seed must be a whole number: see `langchain-stormtrooper classify --help`."),
        (
            ["classify", "--limit"],
            "Option '--limit' requires an argument: see `langchain-stormtrooper classify --help`.",
        ),
        *(
            (
                ["classify", "--timeout", seconds, "-l", "a,b", "x"],
                "--timeout must be a number of seconds above 0: see `langchain-stormtrooper classify --help`.",
            )
            for seconds in ("0", "-1", "inf", "-inf", "nan")
        ),
        (
            ["evaluate", "--timeout", "inf", "x.csv"],
            "--timeout must be a number of seconds above 0: see `langchain-stormtrooper evaluate --help`.",
        ),
        (["evaluate"], "Missing argument 'FILE': see `langchain-stormtrooper evaluate --help`."),
        (["probe"], "Missing argument 'URL': see `langchain-stormtrooper probe --help`."),
        (["probe", "--llm", "x"], "No such option: --llm: see `langchain-stormtrooper probe --help`."),
        (
            ["probe", "http://h:1", "--timeout", "nan"],
            "--timeout must be a number of seconds above 0: see `langchain-stormtrooper probe --help`.",
        ),
        (["dev-server", "--wrong"], "unrecognized arguments: --wrong: see `langchain-stormtrooper dev-server --help`."),
        (
            ["dev-server", "--port", "99999"],
            "--port: '99999' is no whole number from 0 to 65535: see `langchain-stormtrooper dev-server --help`.",
        ),
        (
            ["dev-server", "--port", "http"],
            "--port: 'http' is no whole number from 0 to 65535: see `langchain-stormtrooper dev-server --help`.",
        ),
        (
            ["dev-server", "--version", "9.9"],
            "--version: '9.9' was never released; there is 1.0.3 to 3.3.7, such as 2.4.1: see "
            "`langchain-stormtrooper dev-server --help`.",
        ),
        (
            ["dev-server", "--fault-rate", "7"],
            "--fault-rate: '7' is no number from 0 to 1: see `langchain-stormtrooper dev-server --help`.",
        ),
        (
            ["dev-server", "--latency-per-token", "nan"],
            "--latency-per-token: 'nan' is no number of at least 0: see `langchain-stormtrooper dev-server --help`.",
        ),
        (
            ["dev-server", "--max-input-tokens", "5000"],
            "--max-input-tokens 5000 leaves no room for an answer: raise --max-total-tokens (now 2048) beyond it.",
        ),
        (
            ["dev-server", "--api-key", "k", "--version", "1.0.3"],
            "TGI 1.0.3 cannot ask for an api key; that came with 2.3.0: give a later --version, or leave out "
            "--api-key.",
        ),
    ],
)
def test_wrong_usage_of_any_command_is_one_sentence(arguments: list[str], sentence: str) -> None:
    """What a command does not understand is told in plain words, with the next step and exit code 2."""
    result = run(*arguments)
    assert (result.stderr, result.stdout, result.exit_code) == (f"Error: {sentence}\n", "", EXIT_USAGE)


def test_a_choice_lists_what_there_is() -> None:
    """A value that is not offered is refused with all that are, on one line."""
    result = run("classify", "--method", "guess", "x")
    assert result.exit_code == EXIT_USAGE
    assert result.stderr.startswith("Error: --method: 'guess' is not one of 'auto', 'score', 'constrain', 'generate'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("http://127.0.0.1:99999", "has no port that exists"),
        ("http://127.0.0.1:port", "has no port that exists"),
        ("http://127.0.0.1:0", "has no port that exists"),
        ("http://a b", "has a space, a line break or another control character in it"),
        ("http://host\n.example", "has a space, a line break or another control character in it"),
        ("http://", "must be an http:// or https:// address"),
        ("http://[::1", "has brackets that hold no IPv6 address"),
    ],
)
def test_an_address_where_no_server_can_be(address: str, wrong: str) -> None:
    """It is refused as wrong usage, not reported as a server that is down, under the name it was given by."""
    for arguments, name in (
        (["classify", "x", "--labels", "a,b", "--llm", address], "--llm"),
        (["probe", address], "The URL"),
    ):
        result = run(*arguments)
        assert result.stderr.startswith(f"Error: {name} {wrong}")
        assert result.stderr.count("\n") == 1
        assert result.exit_code == EXIT_USAGE


def test_probe_wants_an_address() -> None:
    """What is no address, and an address with a password in it, are refused without showing them."""
    assert run("probe", "nonsense").stderr.startswith("Error: The URL must be an http:// or https:// address such as")
    told = run("probe", "http://me:hunter2@h").stderr
    assert told == "Error: The URL must not carry credentials or a query: put the key into TGI_API_KEY.\n"


def test_a_key_with_a_line_break_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was read with the end of its line is told as such, without showing it."""
    monkeypatch.setenv("TGI_API_KEY", "hunter2\r")
    for arguments in (["classify", "x", "--labels", "a,b", "--llm", "http://h"], ["probe", "http://h"]):
        result = run(*arguments)
        assert result.exit_code == EXIT_USAGE
        assert result.stderr.startswith("Error: TGI_API_KEY has a line break or another control character in it")
        assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("words", "said", "told"),
    [
        ((), "set `base_url=` or TGI_BASE_URL.", "set --llm or TGI_BASE_URL."),
        (OF_PROBE, "set `base_url=` or TGI_BASE_URL.", "correct the URL."),
        ((), "is `base_url` the root?", "is --llm the root?"),
        (OF_PROBE, "is `base_url` the root?", "is the URL the root?"),
        ((), "raise `timeout=` or lower `max_concurrency=`.", "raise --timeout or lower --max-concurrency."),
        (OF_PROBE, "raise `timeout=` or lower `max_concurrency=`.", "raise --timeout."),
        ((), "correct `model_path=`, or LlamaCpp(model_path=...).", "correct --llm, or --llm FILE.gguf."),
        (
            OF_DEV_SERVER,
            "correct `model_path=`, or LlamaCpp(model_path=...).",
            "correct --model, or --model FILE.gguf.",
        ),
        ((), "raise `n_ctx=`.", "raise `n_ctx=` (in Python only)."),
    ],
)
def test_messages_name_what_the_command_has(words: Words, said: str, told: str) -> None:
    """Arguments of the library are called what the command calls them."""
    assert in_shell(said, words) == told


def test_dev_server_names_its_own_option() -> None:
    """A model file that is not there is to be corrected in --model."""
    pytest.importorskip("xllamacpp")
    result = run("dev-server", "--model", "absent.gguf")
    assert (result.exit_code, result.stderr) == (4, "Error: There is no model file absent.gguf: correct --model.\n")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("a,b", ["a", "b"]),
        ('"a, b",c', ["a, b", "c"]),
        (' a , "b, c" , d ', ["a", "b, c", "d"]),
        ('"say ""hi""",c', ['say "hi"', "c"]),
        ('5" nail,c', ['5" nail', "c"]),
        ('"a","b"', ["a", "b"]),
        ("a,,b", ["a", "", "b"]),
        ("a,", ["a", ""]),
        ("", [""]),
    ],
)
def test_labels_follow_the_rules_of_csv(given: str, names: list[str]) -> None:
    """Commas in double quotes belong to a label, and spaces around labels do not."""
    assert cli_options.split_names(given) == names


@pytest.mark.parametrize("given", ['"a,b', ' "a,b', '"a" b,c', 'a,"'])
def test_quotes_that_are_no_csv_are_refused(given: str) -> None:
    """A quote that does not end, or ends in the middle, is no label."""
    with pytest.raises(LabelError, match="quote whole labels"):
        cli_options.split_names(given)


@pytest.mark.parametrize("command", [[], ["classify"], ["evaluate"], ["probe"], ["dev-server"]])
def test_every_help_lists_the_exit_codes(command: list[str]) -> None:
    """Each code with its meaning stands at the end of each help."""
    result = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": "100"})
    shown = " ".join(re.sub("[│╭╰╮╯─]", " ", result.stdout).split())
    assert result.exit_code == 0
    for code, meaning in EXITS.items():
        assert f"{code} {meaning}" in shown


def test_the_readme_lists_the_exit_codes() -> None:
    """The README's table is that of the program."""
    text = README.read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)) == {
        str(code): meaning for code, meaning in EXITS.items()
    }


def test_a_report_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """What a server says of itself is neither obeyed by the terminal nor read as markup."""
    info = ServerInfo(model_id="evil\x1b[31m/[bold]m\x9b2J\u202e", version="3.3.7\x1b]0;title\x07")
    report = ServerReport(info, True, True, 5, True, GrammarSupport.ENFORCED, "task", Method.GENERATE, "\x1b[2J.")
    show_report(report)
    shown = capsys.readouterr().out
    assert "evil [31m/[bold]m 2J" in shown
    assert all(character.isprintable() for character in shown.replace("\n", ""))


def test_errors_show_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence stays one line without control characters, and so do the lines of a traceback."""
    tell("a\x1b[2J\nb\x9b")
    assert capsys.readouterr().err == "a [2J b \n"
    with pytest.raises(Exception, match="2"), one_sentence(debug=True):
        raise ConfigurationError("x\x1b[2J")
    assert "\x1b" not in capsys.readouterr().err.replace("\x1b[31mError: \x1b[0m", "")


def test_json_lines_escape_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control characters, also those beyond ASCII, and line separators are escaped; the data is the same."""
    from langchain_stormtrooper.cli_output import LineWriter

    generation = "a\x1b[2J\x9b\u2028é"
    with LineWriter("jsonl", ["a", "b"]) as writer:
        writer.write(Row(0, "t"), Classification(reason=Reason.UNMATCHED, generation=generation))
    written = capsys.readouterr().out
    assert written.count("\n") == 1
    assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", written) is None
    assert "é" in written
    assert json.loads(written)["generation"] == generation
    with LineWriter("csv", ["a", "b"]) as writer:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        writer.write(Row(0, "t"), Classification(reason=Reason.UNMATCHED, generation=generation))
    assert re.search("[\x1b\x9b]", capsys.readouterr().out) is None
    assert as_record(Row(0, "t"), Classification(label="a"))["label"] == "a"


def test_the_option_has_a_column_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV tells the option's probability, whatever labels are called, where there is an option."""
    from langchain_stormtrooper.cli_output import LineWriter

    answer = Classification(label="a", probabilities={"a": 0.5, "out_of_scope": 0.2}, out_of_scope=0.3)
    for has_option in (True, False):
        with LineWriter("csv", ["a", "out_of_scope"], has_option=has_option) as writer:
            writer.write(Row(0, "t"), answer)
        (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
        assert row["probability:out_of_scope"] == "0.2"
        assert row.get("out_of_scope") == ("0.3" if has_option else None)


def test_what_must_hold_is_said_in_plain_words() -> None:
    """The words of validators become a requirement of the option."""
    assert must("--x", "Input should be greater than or equal to 1") == "--x must be at least 1"
    assert must("--x", "Input should be a valid integer, unable to parse string\nas an integer") == (
        "--x must be a whole number"
    )
    assert must("--x", "Value error, nobody knows.") == "--x: nobody knows"
    assert must("--x", "'y' is no choice.") == "--x: 'y' is no choice"


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    """A directory is refused before any work."""
    directory = tmp_path / "out.csv"
    directory.mkdir()
    result = run("classify", "x", "--labels", "a,b", "--output", str(directory))
    assert (result.exit_code, result.stderr) == (
        EXIT_USAGE,
        f"Error: --output {directory} is a directory: name a file.\n",
    )
    from langchain_stormtrooper.cli_output import writing

    path = tmp_path / "absent" / "out.csv"
    with pytest.raises(ConfigurationError, match=r"out\.csv cannot be written \(.+\): give another"), writing(path):
        path.touch()


def test_a_full_disk_is_told_as_such() -> None:
    """It is no wrong usage, and its sentence says what to do."""
    assert explain(OSError(errno.ENOSPC, "No space left on device")) == (
        1,
        "There is no space left on the disk: make room and try again.",
    )
    assert explain(LedgerError("No room.", is_of_disk=True)) == (1, "No room.")
    assert explain(LedgerError("No ledger.")) == (2, "No ledger.")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("excel.csv.gz", "is a file of another kind than is read: its name must end with .txt, .csv, .jsonl, .parquet"),
        ("tab.tsv", "is a file of another kind than is read: its name must end with .txt, .csv, .jsonl, .parquet"),
        ("directory.csv", "is a directory: name a file of texts."),
        ("pipe.csv", "is no regular file: name a file of texts."),
        ("absent.csv", "There is no file"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_file_that_is_not_read_is_no_text(tmp_path: Path, name: str, told: str) -> None:
    """The name of something that is there and cannot be read is not taken for a text, and it is said what it is."""
    (tmp_path / "excel.csv.gz").touch()
    (tmp_path / "tab.tsv").touch()
    (tmp_path / "directory.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    result = run("classify", str(tmp_path / name), "--labels", "a,b")
    assert result.exit_code == EXIT_USAGE
    assert told in result.stderr


def hang_up() -> None:
    """Get a SIGHUP while a command is at work."""
    with ended_by_signals():
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.1)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_ends_a_run_unless_it_was_told_otherwise() -> None:
    """SIGHUP is as Ctrl-C, but one that `nohup` has turned off stays so; afterwards all is as it was."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            hang_up()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        hang_up()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    """Commands run where a stream is closed (`>&-`); what would go there is lost."""
    program = (
        "import sys; from langchain_stormtrooper import cli, cli_telling; "
        f"sys.{closed} = None; sys.argv[1:] = ['--version']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("langchain-stormtrooper ") == (closed != "stdout")
