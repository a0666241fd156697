"""The command `evaluate` without a server: rows, labels, examples, forms of output, errors and exit codes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeLLM, FakeScoringLLM
from typer.testing import CliRunner, Result

from langchain_stormtrooper import cli, cli_options, cli_telling
from langchain_stormtrooper.errors import ServerUnreachableError
from langchain_stormtrooper.evaluation import Evaluation
from langchain_stormtrooper.prompts import Prompt

Run = Callable[..., Result]

ROWS = [
    {"text": "some jazz", "label": "music", "split": "train"},
    {"text": "light rain", "label": "weather", "split": "train"},
    {"text": "more jazz", "label": "music", "split": "train"},
    {"text": "jazz tonight", "label": "music", "split": "test"},
    {"text": "rain tonight", "label": "weather", "split": "test"},
    {"text": "jazz in the rain", "label": "weather", "split": "test"},
    {"text": "a table for two", "label": "food", "split": "test"},
]


def keyword(prompt: Prompt) -> str:
    """The label by a word of the text."""
    text = prompt.text
    return "music" if "jazz" in text else "weather" if "rain" in text else "food" if "table" in text else "no idea"


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> FakeLLM:
    """The LLM that every command gets."""
    made = FakeLLM(answer=keyword)
    monkeypatch.setattr(cli_options, "make_llm", lambda *args, **kwargs: made)
    monkeypatch.delenv("TGI_BASE_URL", raising=False)
    return made


@pytest.fixture
def run(llm: FakeLLM) -> Run:
    """Run `evaluate` with these arguments."""

    def invoke(*arguments: str | Path, **kwargs: Any) -> Result:
        return CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)], **kwargs)

    return invoke


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three rows of the split `train`, four of `test`, one of which the model gets wrong."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def _evaluation(result: Result) -> Evaluation:
    return Evaluation.model_validate_json(result.stdout)


def test_the_result_is_json_and_the_summary_is_aside(run: Run, data: Path) -> None:
    """Standard output holds the evaluation and no text; labels left out are those of the data, sorted."""
    result = run(data, "--split", "test")
    assert result.exit_code == 0
    evaluation = _evaluation(result)
    assert evaluation.labels == ("food", "music", "weather")
    assert (evaluation.rows, evaluation.accuracy) == (4, 0.75)
    assert evaluation.confusion == ((1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0))
    assert "jazz" not in result.stdout
    assert result.stderr.startswith("4 rows: 4 labelled; ")
    assert result.stderr.endswith("accuracy 0.750 (3 of 4)\n")


def test_rows_without_an_answer_end_with_the_exit_code_of_classify(run: Run, tmp_path: Path) -> None:
    """A row without a label is wrong, counted by its reason, and told by the exit code."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({**row, "text": row["text"].replace("table", "chair")}) + "\n" for row in ROWS))
    result = run(path, "--quiet")
    assert (result.exit_code, result.stderr) == (cli_telling.EXIT_UNLABELLED, "")
    assert _evaluation(result).reasons == {"unmatched": 1}


def test_known_labels_may_be_the_option(run: Run, data: Path, llm: FakeLLM) -> None:
    """With `--out-of-scope`, rows that have its name for their label have none, and are right without one."""
    result = run(data, "--split", "test", "--out-of-scope", "weather")
    evaluation = _evaluation(result)
    assert evaluation.labels == ("food", "music")
    assert (evaluation.rows, evaluation.accuracy) == (4, 0.75)
    assert evaluation.out_of_scope is not None
    assert (evaluation.out_of_scope.support, evaluation.out_of_scope.recall) == (2, 0.5)
    assert "food, music, weather." in str(llm.log.prompts[0])
    assert "accuracy 0.750 (3 of 4)" in result.stderr
    assert "1 without a label (1 out_of_scope)" in result.stderr


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_an_empty_label_is_none_with_an_option(run: Run, tmp_path: Path, llm: FakeLLM, ending: str) -> None:
    """Rows without a known label are left out, neither measured nor shown; the option's name is out of scope."""
    path = tmp_path / f"data{ending}"
    rows = [{"text": "soup", "label": ""}, *({"text": row["text"], "label": row["label"]} for row in ROWS)]
    with path.open("w", newline="") as file:
        if ending == ".csv":
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps({**row, "label": row["label"] or None}) + "\n" for row in rows)
    result = run(path, "--out-of-scope", "weather", "--examples", "1")
    assert result.stderr.startswith("Left out: 1 of 5 rows have no label.\n")
    evaluation = _evaluation(result)
    assert (evaluation.rows, evaluation.labels) == (4, ("food", "music"))
    assert evaluation.out_of_scope is not None
    assert evaluation.out_of_scope.support == 2
    assert "soup" not in str(llm.log.prompts)


def test_examples_are_the_first_of_the_split_train(run: Run, data: Path, llm: FakeLLM) -> None:
    """They stand in the prompt and are not evaluated, with a split and without."""
    assert run(data, "--split", "test", "--examples", "1").exit_code == 0
    assert sorted(llm.log.texts) == sorted(row["text"] for row in ROWS if row["split"] == "test")
    shown = str(llm.log.prompts[0])
    assert "some jazz" in shown
    assert "light rain" in shown
    assert "more jazz" not in shown
    llm.log.prompts.clear()
    assert _evaluation(run(data, "--examples", "1")).rows == 5
    assert "more jazz" in llm.log.texts
    assert "some jazz" not in llm.log.texts


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_examples_without_a_split_are_the_first_of_all(run: Run, tmp_path: Path, llm: FakeLLM, ending: str) -> None:
    """Without a split `train`, the first rows of each label are shown and left out of the evaluation."""
    path = tmp_path / f"data{ending}"
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS[:-1]]
    with path.open("w", newline="") as file:
        if ending == ".csv":
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    assert _evaluation(run(path, "--examples", "1")).rows == 4
    assert sorted(llm.log.texts) == ["jazz in the rain", "jazz tonight", "more jazz", "rain tonight"]


def test_columns_have_the_names_of_the_file(run: Run, tmp_path: Path) -> None:
    """Text and label may be in any columns; fields without a label are left out, and that is told."""
    path = tmp_path / "data.csv"
    path.write_text("body,topic\nsome jazz,music\nrain,weather\nmore rain,\n")
    result = run(path, "--text-field", "body", "--label-field", "topic")
    assert (_evaluation(result).rows, _evaluation(result).accuracy) == (2, 1)
    assert result.stderr.startswith("Left out: 1 of 3 rows have no label.\n")
    assert _evaluation(run(path, "--text-column", "body", "--label-column", "topic")).rows == 2


def test_rows_without_a_text_are_wrong_and_told(run: Run, tmp_path: Path, llm: FakeLLM) -> None:
    """They count as failed and are not asked about, again with rotations; other rows are measured and shown."""
    path = tmp_path / "data.jsonl"
    bad = [{"text": text, "label": "music"} for text in (None, 5, " ")]
    rows = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*bad, {"label": "music"}, *rows]))
    result = run(path, "--rotations", "1")
    assert result.exit_code == cli_telling.EXIT_UNLABELLED
    evaluation = _evaluation(result)
    assert (evaluation.rows, evaluation.reasons, evaluation.accuracy) == (11, {"failed": 4}, 6 / 11)
    assert len(llm.log.prompts) == 2 * len(ROWS)
    assert result.stderr.startswith("11 rows: 7 labelled, 4 without a label (4 failed); ")
    assert result.stderr.endswith("The first failure, row 0 (counted from 0): holds no text\n")
    shown = _evaluation(run(path, "--examples", "1"))
    assert (shown.rows, shown.reasons) == (8, {"failed": 4})
    nothing = run(path, "--limit", "3")
    assert (nothing.exit_code, nothing.stdout) == (cli_telling.EXIT_USAGE, "")
    assert nothing.stderr.startswith("Error: No row to evaluate on holds a text in the column 'text'")


def test_a_seed_chooses_the_sample_and_labels_come_from_all_rows(run: Run, data: Path, llm: FakeLLM) -> None:
    """The same seed gives the same rows; labels of rows beyond the limit are labels, too."""
    samples = []
    for seed in ("1", "1", "2"):
        llm.log.prompts.clear()
        evaluation = _evaluation(run(data, "--limit", "3", "--seed", seed))
        assert (evaluation.rows, evaluation.labels) == (3, ("food", "music", "weather"))
        samples.append(sorted(llm.log.texts))
    assert samples[0] == samples[1] != samples[2]


def test_labels_and_kinds_are_those_of_classify(run: Run, data: Path, llm: FakeLLM, tmp_path: Path) -> None:
    """Labels keep the order given, and templates get the kinds."""
    template = tmp_path / "prompt.txt"
    template.write_text("{text_kind}|{label_kind}|{labels}|{text}")
    options = ["--prompt", template, "--text-kind", "wish", "--label-kind", "theme"]
    result = run(data, "--where", "text=some jazz", "--labels", "weather,music,food", *options)
    assert _evaluation(result).labels == ("weather", "music", "food")
    assert [str(prompt) for prompt in llm.log.prompts] == ["wish|theme|weather, music, food.|some jazz"]


def test_rotations_give_a_flip_rate(run: Run, data: Path, llm: FakeLLM) -> None:
    """All rows are asked again for each rotation; the summary counts them once."""
    result = run(data, "--rotations", "2")
    assert _evaluation(result).flip_rates == (0, 0)
    assert len(llm.log.prompts) == 3 * len(ROWS)
    assert result.stderr.startswith("7 rows: 7 labelled")


def test_a_table_on_request(run: Run, data: Path) -> None:
    """People see a table with a line for each number."""
    lines = run(data, "--split", "test", "--format", "table").stdout.splitlines()
    assert any(line.startswith("accuracy") and "0.750" in line for line in lines)
    assert lines[-1].split() == ["3", "weather", "0", "1", "1", "0"]


def test_output_and_plots(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds the evaluation, the directory a figure each; standard output is empty then, unless asked for."""
    scoring = FakeScoringLLM(answer=keyword)
    monkeypatch.setattr(cli_options, "make_llm", lambda *args, **kwargs: scoring)
    output, plots = tmp_path / "result.json", tmp_path / "plots"
    result = run(data, "--output", output, "--plots", plots)
    assert (result.exit_code, result.stdout) == (0, "")
    assert Evaluation.load(output).rows == len(ROWS)
    assert sorted(path.name for path in plots.iterdir()) == ["confusion.png", "reliability.png", "risk_coverage.png"]
    again = run(data, "-o", output, "--plots", plots, "--format", "json")
    assert again.stdout == output.read_text()


def test_without_probabilities_there_is_one_plot(run: Run, data: Path, tmp_path: Path) -> None:
    """What there is no confidence for is not drawn, and that is no error."""
    assert run(data, "--plots", tmp_path).exit_code == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["confusion.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl"], "There is no file absent.jsonl"),
        (["data.txt"], "data.txt has no labels"),
        (["DATA", "--label-field", "topic"], "has a label in the column 'topic'"),
        (["DATA", "--text-field", "body"], "'body' holds no text"),
        (["DATA", "--split", "dev"], "has split=dev"),
        (["DATA", "--labels", "music,weather"], "The known label 'food' is not one of the classifier's labels"),
        (["DATA", "--labels", "music"], "--labels 'music' is neither a list nor a file"),
        (["DATA", "--split", "train", "--examples", "2"], "left to evaluate on beside the examples"),
        (["DATA", "--rotations", "3"], "--rotations must be from 0 to 2"),
        (["DATA", "--method", "score"], "does not offer method='score'"),
        (["DATA", "--output", "result.csv"], "--output result.csv must end with .json"),
        (["DATA", "--output", "absent/result.json"], "There is no directory absent"),
        (["DATA", "--plots", "absent/plots"], "--plots absent/plots is no directory"),
        (["DATA", "--plots", "DATA"], "is no directory"),
    ],
)
def test_wrong_usage_is_one_sentence(run: Run, data: Path, llm: FakeLLM, arguments: list[str], message: str) -> None:
    """What cannot be meant is refused on one line, before the model is asked anything."""
    result = run(*(str(data) if argument == "DATA" else argument for argument in arguments))
    assert (result.exit_code, result.stdout) == (cli_telling.EXIT_USAGE, "")
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not llm.log.prompts


@pytest.mark.parametrize(
    ("module", "extra", "options"), [("sklearn.metrics", "sklearn", []), ("matplotlib.figure", "plots", ["--plots"])]
)
def test_a_missing_extra_is_told_at_once(
    run: Run,
    data: Path,
    tmp_path: Path,
    llm: FakeLLM,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    extra: str,
    options: list[str],
) -> None:
    """What to install is said with the exit code of a model that cannot be used, before the model has worked."""
    monkeypatch.setitem(sys.modules, module, None)
    result = run(data, *options, *([tmp_path] if options else []))
    assert result.exit_code == cli_telling.EXIT_MODEL
    assert f"langchain-stormtrooper[{extra}]" in result.stderr
    assert not llm.log.prompts


def test_no_server_ends_without_a_result(run: Run, data: Path, tmp_path: Path, llm: FakeLLM) -> None:
    """What is wrong for every row ends the command, and an older result stays as it is."""

    def fail(prompt: Prompt) -> str:
        raise ServerUnreachableError("Nobody at x: set `base_url=` or TGI_BASE_URL.")

    object.__setattr__(llm, "answer", fail)
    output = tmp_path / "result.json"
    output.write_text("precious")
    result = run(data, "--output", output)
    assert (result.exit_code, result.stdout) == (cli_telling.EXIT_MODEL, "")
    assert "set --llm or TGI_BASE_URL." in result.stderr
    assert output.read_text() == "precious"


def test_help_names_the_exit_codes_and_loads_nothing_heavy() -> None:
    """The help is complete, and neither LangChain nor scikit-learn is imported for it."""
    code = (
        "import sys\n"
        "from langchain_stormtrooper import cli\n"
        "try: cli.app(['evaluate', '--help'])\n"
        "finally: print({'langchain_core', 'aiohttp', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("set()\n")
    for part in ("--rotations", "--text-field", "--examples", "some rows have no label"):
        assert part in shown
