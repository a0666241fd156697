"""`classify_file`: rows of a file with their answers in another one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, FakeScoringLLM, label_of

from langchain_stormtrooper import (
    HierarchicalClassifier,
    Ledger,
    ZeroShotClassifier,
    aclassify_file,
    classify_file,
)
from langchain_stormtrooper.errors import (
    ConfigurationError,
    FailedRequestWarning,
    LedgerError,
    PromptError,
    ServerUnreachableError,
)
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.tables.classifying import answered, check_complete
from langchain_stormtrooper.text_files import Row


def classifier(llm: FakeLLM | None = None, **given: Any) -> ZeroShotClassifier:
    """A classifier on a fake LLM."""
    return ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="m") if llm is None else llm, **given)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six rows, of which one has no text and one cannot be read."""
    path = tmp_path / "in.jsonl"
    lines = [*(json.dumps({"id": n, "body": f"text {n}", "split": "ab"[n % 2]}) for n in range(4)), '{"id": 4}', "oh"]
    path.write_text("\n".join(lines))
    return path


def load(path: Path) -> list[dict[str, Any]]:
    """The rows of an output."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_row_goes_into_the_output(source: Path, tmp_path: Path) -> None:
    """Rows keep their order and columns; those without a text have a reason, and are not asked for."""
    llm, seen = FakeScoringLLM(model_id="m"), list[tuple[int, str | None]]()
    with pytest.warns(FailedRequestWarning, match="2 of 6"):
        summary = await aclassify_file(
            classifier(llm),
            source,
            tmp_path / "out.jsonl",
            text_column="body",
            on_answer=lambda row, answer: seen.append((row.index, answer.label)),
        )
    rows = load(tmp_path / "out.jsonl")
    assert (summary.rows, summary.labelled, summary.reasons) == (6, 4, {Reason.FAILED: 2})
    assert summary.output == tmp_path / "out.jsonl"
    assert [row.get("id") for row in rows] == [0, 1, 2, 3, 4, None]
    assert [row["label"] for row in rows] == [label for _, label in seen]
    assert [index for index, _ in seen] == list(range(6))
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4) for row in rows[:4])
    assert [row["error"] for row in rows[4:]] == [
        "holds no text",
        f"{source}, line 6: this is not valid JSON (Expecting value, column 1): one object a line.",
    ]
    assert sorted(text for text in llm.log.texts if "text " in text) == [f"text {n}" for n in range(4)]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_option_has_a_column(source: Path, tmp_path: Path, ending: str) -> None:
    """With `out_of_scope=` its probability is in every format, after any prefix; without it there is no such column."""
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    out, given = tmp_path / f"out.{ending}", {"prior": None, "method": "score"}
    option = classifier(FakeScoringLLM(model_id="m"), out_of_scope="none of these", **given)
    seen: list[float | None] = []
    classify_file(option, source, out, text_column="body", on_answer=lambda _, answer: seen.append(answer.out_of_scope))
    told = read_column(out, "out_of_scope")
    assert told[:4] == pytest.approx(seen[:4], abs=1e-6)
    assert all(value is not None and 0 < value < 1 for value in told[:4])
    assert told[4:] == [None, None]
    with pytest.raises(ConfigurationError, match=r"would overwrite \(.*'out_of_scope'"):
        classify_file(option, out, tmp_path / f"again.{ending}", text_column="body")
    classify_file(option, out, tmp_path / f"again.{ending}", text_column="body", prefix="my ")
    assert read_column(tmp_path / f"again.{ending}", "my out_of_scope") == told
    classify_file(classifier(FakeScoringLLM(model_id="m"), **given), source, out, text_column="body")
    with pytest.raises(KeyError):
        read_column(out, "out_of_scope")


def read_column(path: Path, name: str) -> list[float | None]:
    """The numbers of a column."""
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        numbers: list[float | None] = table.column(name).to_pylist()
        return numbers
    if path.suffix == ".jsonl":
        return [row[name] for row in load(path)]
    with path.open(newline="") as file:
        return [float(row[name]) if row[name] else None for row in csv.DictReader(file)]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_rows_are_chosen(source: Path, tmp_path: Path) -> None:
    """Conditions and a limit choose rows, those before that cannot be read not being counted as met."""
    given: dict[str, Any] = {"text_column": "body", "prefix": "my_"}
    summary = classify_file(classifier(), source, tmp_path / "out.jsonl", where={"split": "b"}, limit=2, **given)
    assert [row["id"] for row in load(tmp_path / "out.jsonl")] == [1, 3]
    assert [row["my_label"] for row in load(tmp_path / "out.jsonl")] == [label_of(f"text {n}") for n in (1, 3)]
    assert summary.rows == 2
    with pytest.raises(ConfigurationError, match="line 6: this is not valid JSON"):
        classify_file(classifier(), source, tmp_path / "out.jsonl", on_bad_row="fail", **given)
    with pytest.raises(ConfigurationError, match="'skip': it must be 'report' or 'fail'"):
        classify_file(classifier(), source, tmp_path / "out.jsonl", on_bad_row="skip", **given)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_a_ledger_serves_files_of_any_format(source: Path, tmp_path: Path) -> None:
    """What one file has had answered is not asked for another file, nor for a list; rows that failed are."""
    llm = FakeLLM(model_id="m")
    with Ledger(tmp_path / "run.sqlite") as ledger:
        classify_file(classifier(llm), source, tmp_path / "out.csv", text_column="body", ledger=ledger)
        assert len(llm.log.prompts) == len(ledger) == 4
        with (tmp_path / "out.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        classify_file(
            classifier(llm),
            tmp_path / "out.csv",
            tmp_path / "again.jsonl",
            text_column="body",
            prefix="2_",
            ledger=ledger,
        )
        list(classifier(llm).stream_rows(["text 2"], ledger=ledger))
    assert len(llm.log.prompts) == 4
    assert [row["2_label"] for row in load(tmp_path / "again.jsonl")] == [row["label"] or None for row in rows]


def test_further_variables_of_a_prompt_are_columns(tmp_path: Path) -> None:
    """A template may have the text's title, and a row without one is that row's trouble."""
    (tmp_path / "in.jsonl").write_text('{"text": "x", "title": "T"}\n{"text": "y"}\n')
    llm = FakeLLM(model_id="m")
    task = classifier(llm, prompt="{labels} {title}: {text}")
    with pytest.warns(FailedRequestWarning, match="1 of 2"):
        classify_file(task, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert any("T: x" in str(prompt) for prompt in llm.log.prompts)
    assert [row["reason"] for row in load(tmp_path / "out.jsonl")] == [None, "failed"]


def test_what_is_wrong_is_told_before_anything_is_asked(source: Path, tmp_path: Path) -> None:
    """A column, the output, the ledger: each is an error of its own, and no output is there afterwards."""
    llm = FakeLLM(model_id="m")
    (tmp_path / "ledger").write_text("no ledger, but a text that is much longer than the head of one " * 20)
    (tmp_path / "out.csv").write_text("precious")
    for given, error in (
        ({}, "'text' holds no text"),
        ({"text_column": "body", "ledger": tmp_path / "ledger"}, "ledger"),
        ({"text_column": "body", "ledger": tmp_path / "out.csv"}, "would overwrite"),
        ({"text_column": "body", "limit": 0}, "`limit=` is 0"),
        ({"text_column": "body", "limit": "3"}, "`limit=` is '3': it must be a whole number from 1 on, or left out"),
        ({"text_column": "body", "where": {"split": "c"}, "on_bad_row": "fail"}, "line 6"),
    ):
        with pytest.raises(ConfigurationError, match=error):
            classify_file(classifier(llm), source, tmp_path / "out.csv", **given)
    assert llm.log.prompts == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"in.jsonl", "ledger", "out.csv"}
    assert (tmp_path / "out.csv").read_text() == "precious"


def test_an_error_of_every_row_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is an error, and not a file of failed rows."""

    async def refuse(self: FakeLLM, *args: Any, **kwargs: Any) -> None:
        raise ServerUnreachableError("Nobody is there.")

    monkeypatch.setattr(FakeLLM, "agenerate_row", refuse)
    with pytest.raises(ServerUnreachableError):
        classify_file(classifier(), source, tmp_path / "out.csv", text_column="body")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_a_ledger_that_breaks_keeps_the_older_output(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that cannot be kept ends the run with its error; the output stays as it was."""

    def refuse(self: Ledger, *args: Any) -> list[Classification]:
        raise LedgerError("The disk is full.")

    (tmp_path / "out.csv").write_text("precious")
    monkeypatch.setattr(Ledger, "put", refuse)
    with pytest.raises(LedgerError):
        classify_file(classifier(), source, tmp_path / "out.csv", text_column="body", ledger=tmp_path / "run.sqlite")
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert not list(tmp_path.glob("*partial*"))


async def test_blank_rows_never_stop_a_run() -> None:
    """However many rows without a text come first, in between and last, all are told in their places."""
    rows = [Row(n, text) for n, text in enumerate([None] * 200 + ["x"] + [" "] * 200 + ["y", None])]
    llm = FakeLLM(model_id="m")
    with pytest.warns(FailedRequestWarning):
        found = [(row.index, answer.reason, answer.error) async for row, answer in answered(classifier(llm), rows)]
    assert found == [(row.index, *((Reason.FAILED, "holds no text") if row.blank else (None, None))) for row in rows]
    assert sorted(llm.log.texts) == ["x", "y"]
    assert [row async for row in answered(classifier(llm), rows[:3])]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_an_error_says_where_the_answers_are(source: Path, tmp_path: Path) -> None:
    """Without a ledger, what was answered before an error is left beside the output, and the error tells."""

    def stop(row: Row, answer: Classification) -> None:
        if row.index == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError) as caught:
        classify_file(classifier(), source, tmp_path / "out.jsonl", text_column="body", on_answer=stop)
    kept = tmp_path / "out.partial.jsonl"
    assert caught.value.__notes__ == [f"The first 3 rows are in {kept}, the others have to be asked again."]
    assert [row["id"] for row in load(tmp_path / "out.partial.jsonl")] == [0, 1, 2]
    assert not (tmp_path / "out.jsonl").exists()


def test_lost_rows_are_noticed() -> None:
    """A file with another number of rows than at first sight was changed."""
    check_complete(3, 3)
    with pytest.raises(ConfigurationError, match="had 4 rows when it was looked through, and 3 when it was read"):
        check_complete(4, 3)


def test_a_missing_variable_of_all_rows_is_an_error(tmp_path: Path) -> None:
    """Where no row has a column that the prompt needs, the call is wrong and not the rows."""
    (tmp_path / "in.csv").write_text("text\nx\n")
    with pytest.raises(PromptError, match="title"):
        classify_file(classifier(prompt="{labels} {title}: {text}"), tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_tree_of_labels_takes_files_too(tmp_path: Path) -> None:
    """Rows get paths, and there is no column for an option that trees do not have."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\nab\ncd\n")
    tree: Any = HierarchicalClassifier({"a": ["x", "y"], "b": ["z", "w"]}, llm=FakeScoringLLM(model_id="m"))
    classify_file(tree, source, out)
    head, *rows = out.read_text().splitlines()
    assert head == "text,label,confidence,reason,error,probability:a/x,probability:a/y,probability:b/z,probability:b/w"
    assert all(row.split(",")[1].count("/") == 1 for row in rows)
