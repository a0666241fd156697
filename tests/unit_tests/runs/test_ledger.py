"""`Ledger`, and streams that keep their answers in one."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, SECRET, FakeLLM, FakeScoringLLM, label_of
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake import FakeListLLM
from pydantic import BaseModel, SecretStr

from langchain_stormtrooper import FewShotClassifier, LabelOutputParser, Ledger, ZeroShotClassifier
from langchain_stormtrooper.calibration import Calibration
from langchain_stormtrooper.errors import LedgerError, StormtrooperWarning
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.runs import ledger as ledger_module
from langchain_stormtrooper.runs import stream as stream_module
from langchain_stormtrooper.runs.keys import row_key

ROWS = ["a", "b", "OVERLONG c", "MUTTER d", "a", "e"]


def classifier(llm: Any = None, **given: Any) -> ZeroShotClassifier:
    """A classifier on a fake LLM."""
    return ZeroShotClassifier(LABELS, llm=FakeLLM(model_id="m") if llm is None else llm, **given)


def run(task: Any, rows: Any, ledger: Any, **given: Any) -> list[tuple[Any, ...]]:
    """The answers of a run, in order."""
    return [(row.label, row.reason, row.confidence) for row in task.stream_rows(rows, ledger=ledger, in_order=True)]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
@pytest.mark.parametrize("kind", [FakeLLM, FakeScoringLLM])
def test_finished_rows_are_not_asked_again(tmp_path: Path, kind: type[FakeLLM]) -> None:
    """The same call again asks for nothing and gives the same rows; more rows are asked for alone."""
    path = tmp_path / "run.sqlite"
    first, second, third = kind(model_id="m"), kind(model_id="m"), kind(model_id="m")
    answers = run(classifier(first, method="generate"), ROWS, path)
    assert len(first.log.prompts) == 5
    assert run(classifier(second, method="generate"), ROWS, str(path)) == answers
    assert second.log.prompts == []
    run(classifier(third, method="generate"), [*ROWS, "f"], path)
    assert third.log.texts == ["f"]


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
@given(st.lists(st.text(max_size=4), min_size=1, max_size=25), st.integers(0, 25), st.booleans())
@settings(max_examples=20)
def test_a_broken_run_goes_on_to_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], stop: int, scores: bool
) -> None:
    """Left anywhere and started again, a run has an unbroken one's answers in full, and no row was asked for twice."""
    path = tmp_path_factory.mktemp("run") / "run.sqlite"
    kind = FakeScoringLLM if scores else FakeLLM
    llm = kind(model_id="m")
    task = classifier(llm, prior=None)
    whole = [row.model_dump() for row in classifier(kind(model_id="m"), prior=None).stream_rows(rows, in_order=True)]

    async def break_off() -> int:
        answers = task.astream_rows(rows, {"max_concurrency": 2}, ledger=path, window=2)
        for number in range(stop):
            if await anext(answers, None) is None:
                return number
        await answers.aclose()
        return stop

    handed_out = asyncio.run(break_off())
    asked = len(llm.log.prompts)
    resumed = [row.model_dump() for row in task.stream_rows(rows, ledger=path, in_order=True)]
    assert [row | {"generation": None} for row in whole] == resumed
    # What was cancelled had no answer; at most the window.
    assert len(llm.log.prompts) - len(set(rows)) <= 2
    assert asked >= len(set(rows[:1])) * bool(handed_out)


def test_a_row_is_kept_before_it_is_handed_out(tmp_path: Path) -> None:
    """When a row comes out, another connection finds it in the file."""
    path = tmp_path / "run.sqlite"
    answers = classifier().stream_rows((f"text {n}" for n in itertools.count()), ledger=path)
    for number in range(1, 40):
        next(answers)
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT count(*) FROM rows").fetchone()[0] >= number
        other.close()
    answers.close()  # type: ignore[attr-defined]  # a generator


def test_failed_rows_are_asked_again(tmp_path: Path) -> None:
    """A row that failed is none that is finished: the next run asks, and gets an answer."""
    path = tmp_path / "run.sqlite"
    with pytest.warns(StormtrooperWarning):
        assert run(classifier(), ["FAIL a", "b"], path)[0] == (None, "failed", None)
    mended = FakeLLM(model_id="m", answer=lambda prompt: label_of(prompt.text))
    assert run(classifier(mended), ["FAIL a", "b"], path)[0][0] == label_of("FAIL a")
    assert mended.log.texts == ["FAIL a"]


PRIOR = Calibration(labels=tuple(LABELS), task="0" * 64, kind="prior", prior=(0.2, 0.3, 0.5))
OTHERS: dict[str, Any] = {
    "model": {"llm": FakeScoringLLM(model_id="other")},
    "labels": {"labels": [*LABELS, "music"]},
    "order": {"labels": LABELS[::-1]},
    "descriptions": {"labels": dict.fromkeys(LABELS, "what it is")},
    "prompt": {"prompt": "Which? {text}\nAnswer:"},
    "kinds": {"text_kind": "review"},
    "method": {"method": "generate"},
    "prior": {"prior": "content-free"},
    "no prior": {"prior": None},
    "rotations": {"rotations": 2, "prompt": "task"},
    "confidence": {"min_confidence": 0.3},
    "margin": {"min_margin": 0.01},
    "mass": {"min_covered_mass": 0.1},
    "overlong": {"on_overlong": "truncate"},
    "tokens": {"max_new_tokens": 9},
    "parser": {"parser": LabelOutputParser(LABELS, threshold=0.99)},
    "stop": {"llm": FakeScoringLLM(model_id="m", stop=["x"])},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_task_never_reuses_a_row(tmp_path: Path, other: str) -> None:
    """Whatever changes answers makes another task, in the same file; the first task's rows stay."""
    path = tmp_path / "run.sqlite"
    given_first = {
        "labels": LABELS,
        "llm": FakeScoringLLM(model_id="m"),
        **({"prompt": "task"} if other == "rotations" else {}),
    }
    run(ZeroShotClassifier(**given_first), ["a"], path)
    changed = ZeroShotClassifier(**{**given_first, "llm": FakeScoringLLM(model_id="m"), **OTHERS[other]})
    run(changed, ["a"], path)
    assert "a" in changed.llm.log.texts  # type: ignore[attr-defined]  # the fake's
    with Ledger(path) as ledger:
        assert len(ledger) == 2


def test_examples_and_calibrations_make_tasks(tmp_path: Path) -> None:
    """Other examples or another calibration are another task, and so is an LLM of another kind or setting."""
    path = tmp_path / "run.sqlite"
    for number, example in enumerate(["x", "y", "x"]):
        few = FewShotClassifier(LABELS, [(example, LABELS[0])], llm=FakeLLM(model_id="m"))
        run(few, ["a"], path)
        assert len(few.llm.log.prompts) == (number < 2)  # type: ignore[attr-defined]  # the fake's
    for answer in ("sport", "politics", "sport"):
        run(ZeroShotClassifier(LABELS, llm=FakeListLLM(responses=[answer])), ["a"], path)
    raw = FakeScoringLLM(model_id="m")
    task = asyncio.run(classifier(raw).afingerprint())
    for prior in ((0.2, 0.3, 0.5), (0.5, 0.3, 0.2)):
        learnt = PRIOR.model_copy(update={"task": task, "prior": prior, "model_id": "m"})
        run(classifier(FakeScoringLLM(model_id="m"), calibration=learnt), ["a"], path)
    with Ledger(path) as ledger:
        assert len(ledger) == 6


class Inner(BaseModel):
    """A setting of settings."""

    size: int


class Revised(FakeLLM):
    """Tells which state of its model is served."""

    revision: str

    async def amodel_revision(self) -> str | None:
        """The field."""
        return self.revision


def test_another_revision_of_the_model_is_another_task(tmp_path: Path) -> None:
    """Where the server tells the model's revision, answers of another one are not taken."""
    asked = []
    for revision in ("1", "2", "1"):
        llm = Revised(model_id="m", revision=revision)
        run(classifier(llm), ["a"], tmp_path / "run.sqlite")
        asked.append(len(llm.log.prompts))
    assert asked == [1, 1, 0]


@given(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.tuples(st.text(max_size=3), st.text(max_size=3)))
def test_other_variables_are_other_rows(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two rows have the same key only if text and rendered variables are the same."""
    keys = [row_key(Prompt(head=head, text=text), constant=False) for head, text in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_no_text_and_no_secret_is_in_the_file(tmp_path: Path) -> None:
    """Neither a text, nor what the model repeats of it, nor the prompt is in the file, also while it is open."""
    path = tmp_path / "run.sqlite"
    echoing = FakeLLM(model_id="m", answer=lambda prompt: f"sport, since it says {prompt.text}")
    with Ledger(path) as ledger:
        found = list(classifier(echoing).stream_rows([SECRET, {"text": f"{SECRET}!"}], ledger=ledger))
        held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    held += path.read_bytes()
    assert [row.generation for row in found] == [None, None]
    assert len(held) > 4096
    assert SECRET.encode() not in held
    assert b"Classify" not in held


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    """After a run there is one file, whose copy is a ledger with all rows."""
    run(classifier(), ["a", "b"], tmp_path / "run.sqlite")
    assert [file.name for file in tmp_path.iterdir()] == ["run.sqlite"]
    (tmp_path / "copy").write_bytes((tmp_path / "run.sqlite").read_bytes())
    with Ledger(tmp_path / "copy") as copy:
        assert (len(copy), repr(copy)) == (2, f"Ledger({str(tmp_path / 'copy')!r})")
    with pytest.raises(LedgerError, match="is closed"):
        run(classifier(), ["a"], copy)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE rows (id)")
    other.close()


def _foreign_id(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA application_id=77")
    other.close()


def _newer(path: Path) -> None:
    run(classifier(), ["a"], path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version=2")
    other.close()


def _torn(path: Path) -> None:
    run(classifier(), ["a"], path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)


def _overwritten(path: Path) -> None:
    run(classifier(), [f"text {number}" for number in range(300)], path)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 8000)


def _emptied(path: Path) -> None:
    run(classifier(), ["a"], path)
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE rows")
    other.close()


SPOILT: dict[str, tuple[Any, str]] = {
    "foreign": (_foreign, "another program's"),
    "foreign id": (_foreign_id, "another program's"),
    "newer": (_newer, "newer release"),
    "torn": (_torn, "damaged"),
    "emptied": (_emptied, "damaged"),
    "overwritten": (_overwritten, "damaged"),
    "text": (lambda path: path.write_text("text,label\n" * 99), "no ledger"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_no_ledger_is_refused(tmp_path: Path, what: str) -> None:
    """Each is one sentence that names the file, before a row is asked for, and the file stays as it is."""
    path = tmp_path / "run.sqlite"
    spoil, said = SPOILT[what]
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    llm = FakeLLM()
    with pytest.raises(LedgerError, match=said) as caught:
        run(classifier(llm), ["a"], path)
    assert str(path) in str(caught.value)
    assert llm.log.prompts == []
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("code", "said", "is_of_disk"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full", True),
        (sqlite3.SQLITE_IOERR_WRITE, "whether the disk has room", True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked by another process", False),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "give yourself the right", False),
        (sqlite3.SQLITE_CORRUPT_INDEX, "is damaged", False),
        (sqlite3.SQLITE_NOMEM, "cannot be used", False),
    ],
)
def test_sqlites_errors_are_told_in_our_words(tmp_path: Path, code: int, said: str, is_of_disk: bool) -> None:
    """Each kind of error says what to do, whatever its particulars, and those of the disk are known as such."""
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    with Ledger(tmp_path / "run.sqlite") as ledger, pytest.raises(LedgerError, match=said) as caught, ledger._told():
        raise error
    assert caught.value.is_of_disk is is_of_disk


@pytest.mark.parametrize(("code", "turns"), [(sqlite3.SQLITE_BUSY, 3), (sqlite3.SQLITE_READONLY, 1)])
def test_a_file_in_use_is_waited_for(code: int, turns: int) -> None:
    """While another process has the file, its mode is tried again; any other error is one at once."""
    asked: list[str] = []

    class Connection:
        def execute(self, statement: str) -> Any:
            asked.append(statement)
            if len(asked) < 3:
                error = sqlite3.OperationalError()
                error.sqlite_errorcode = code
                raise error
            return self

        def fetchone(self) -> None:
            return None

    with nullcontext() if turns == 3 else pytest.raises(sqlite3.OperationalError):
        ledger_module._use_wal(Connection())  # type: ignore[arg-type]  # stands for one
    assert asked == ["PRAGMA journal_mode=WAL"] * turns


class Odd(FakeListLLM):
    """Another package's LLM, with settings that are no JSON."""

    settings: dict[str, Any]

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self.settings


class Listed:
    """A setting that tells its values, as a frame's column does."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def to_list(self) -> list[int]:
        """The values."""
        return list(self.values)


def test_settings_of_other_packages_make_tasks(tmp_path: Path) -> None:
    """Functions go by their names and values by what they are; a key or an address in memory makes no difference."""
    path = tmp_path / "run.sqlite"
    kept = []
    for given_ones in (
        {"key": SecretStr("one"), "with": label_of, "values": Listed(1, 2), "what": object(), "given": Inner(size=1)},
        {"key": SecretStr("two"), "with": label_of, "values": Listed(1, 2), "what": object(), "given": Inner(size=1)},
        {"key": SecretStr("one"), "with": run, "values": Listed(1, 2), "what": object(), "given": Inner(size=1)},
        {"key": SecretStr("one"), "with": label_of, "values": Listed(1, 3), "what": object(), "given": Inner(size=1)},
        {"key": SecretStr("one"), "with": label_of, "values": Listed(1, 2), "what": object(), "given": Inner(size=2)},
    ):
        run(ZeroShotClassifier(LABELS, llm=Odd(responses=["sport"], settings=given_ones)), ["a"], path)
        with Ledger(path) as ledger:
            kept.append(len(ledger))
    assert kept == [1, 1, 2, 3, 4]


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """A directory that is not there is named."""
    with pytest.raises(LedgerError, match="create it first"):
        Ledger(tmp_path / "none" / "run.sqlite")


def test_a_changed_answer_is_noticed(tmp_path: Path) -> None:
    """An answer that is no longer what was written is refused, also where the file as such is whole."""
    path = tmp_path / "run.sqlite"
    run(classifier(), ["a"], path)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE rows SET answer = replace(answer, ?, 'science!')", (label_of("a"),))
    other.close()
    with pytest.raises(LedgerError, match="damaged"):
        run(classifier(), ["a"], path)


def test_a_read_only_ledger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be written is refused before the first row, not after it was paid for."""
    path = tmp_path / "run.sqlite"
    run(classifier(), ["a"], path)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **given: connect(f"file:{file}?mode=ro", uri=True, **given))
    llm = FakeLLM(model_id="m")
    with pytest.raises(LedgerError, match="cannot be read and written: give yourself the right"):
        run(classifier(llm), ["b"], path)
    assert llm.log.prompts == []


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """What was handed out is kept; with room again, the same call asks for the rest only."""
    path = tmp_path / "run.sqlite"
    rows = [f"text {number}" for number in range(1200)]
    llm = FakeLLM(model_id="m")
    found: list[int] = []
    with Ledger(path) as ledger:
        assert ledger._writer is not None
        ledger._writer.execute("PRAGMA max_page_count=30")
        with pytest.raises(LedgerError, match="disk is full: make room") as caught:
            found.extend(row.index for row in classifier(llm).stream_rows(rows, ledger=ledger))
        kept = len(ledger)
    assert caught.value.is_of_disk
    again = FakeLLM(model_id="m")
    assert run(classifier(again), rows, path) == [(label_of(row), None, None) for row in rows]
    assert 0 < kept < 1200
    assert len(again.log.prompts) == 1200 - kept


FILL = """
import resource, sys
from langchain_stormtrooper import Ledger
from langchain_stormtrooper.errors import LedgerError
from langchain_stormtrooper.results import Classification
kept = 0
with Ledger(sys.argv[1]) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        for number in range(10_000):
            ledger.put("t", [(ledger.name("t", b"%d" % number), Classification(label="sport"))])
            kept += 1
    except LedgerError as error:
        print(kept, error)
"""


def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """A limit that the system sets on files is told in one sentence, and all that was kept is there afterwards."""
    path = tmp_path / "run.sqlite"
    command = [sys.executable, "-c", FILL, str(path)]
    kept, _, said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.partition(" ")
    assert f"The ledger {path} cannot be read or written (disk I/O error): see whether the disk has room" in said
    with Ledger(path) as ledger:
        assert 0 < len(ledger) == int(kept) < 10_000


def _may_not_be_made(folder: Path) -> Path:
    folder.chmod(0o555)
    return folder / "run.sqlite"


def _in_a_read_only_directory(folder: Path) -> Path:
    run(classifier(), ["a"], folder / "run.sqlite")
    (folder / "run.sqlite").chmod(0o666)
    folder.chmod(0o555)
    return folder / "run.sqlite"


def _read_only(folder: Path) -> Path:
    run(classifier(), ["a"], folder / "run.sqlite")
    (folder / "run.sqlite").chmod(0o444)
    folder.chmod(0o777)
    return folder / "run.sqlite"


def _unreadable(folder: Path) -> Path:
    _read_only(folder).chmod(0)
    return folder / "run.sqlite"


def _in_a_closed_directory(folder: Path) -> Path:
    (folder / "closed").mkdir(mode=0)
    folder.chmod(0o777)
    return folder / "closed" / "run.sqlite"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that others can reach, which those of `tmp_path` are not."""
    made = Path(tempfile.mkdtemp())
    yield made
    for directory in (made, made / "closed"):
        if directory.exists():
            directory.chmod(0o700)
    shutil.rmtree(made)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As somebody whom rights bind, also where tests are run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(0)


@pytest.mark.parametrize(
    "locked", [_may_not_be_made, _in_a_read_only_directory, _read_only, _unreadable, _in_a_closed_directory]
)
def test_a_ledger_without_the_right_to_it_is_refused(folder: Path, locked: Any) -> None:
    """Whichever right is missing, to the file or its directory: a sentence names the file and says what to do."""
    path = locked(folder)
    with (
        unprivileged(),
        pytest.raises(LedgerError, match="give yourself the right to, and to write into its") as caught,
    ):
        Ledger(path)
    assert str(path) in str(caught.value)


def test_two_who_ask_the_same_have_one_answer(tmp_path: Path) -> None:
    """Where another was first, its answer is handed out, and the file has one."""
    path = tmp_path / "run.sqlite"
    with Ledger(path) as one, Ledger(path) as other:
        name = one.name("t", b"row")
        assert name == other.name("t", b"row") != one.name("u", b"row")
        first, second = Classification(label="sport"), Classification(reason=Reason.UNMATCHED, error="\ud800")
        assert one.put("t", [(name, first)]) == [first]
        assert other.put("t", [(name, second), (b"else", second)]) == [first, second]
        assert other.find([name]) == {name: first}
        assert one.find([b"else"]) == {b"else": second}
        assert len(one) == 2


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(LABELS)), max_size=9), max_size=6))
@settings(max_examples=20)
def test_what_is_kept_is_found(tmp_path_factory: pytest.TempPathFactory, groups: list[list[tuple[int, str]]]) -> None:
    """Of groups of any size, larger than one statement too, the first answer under each name is found, and no other."""
    expected: dict[bytes, Classification] = {}
    with pytest.MonkeyPatch.context() as patch, Ledger(tmp_path_factory.mktemp("run") / "run.sqlite") as ledger:
        patch.setattr(ledger_module, "_PART", 4)
        names = [ledger.name("t", b"%d" % number) for number in range(21)]
        for group in groups:
            rows = [(names[number], Classification(label=label)) for number, label in group]
            told = ledger.put("t", rows)
            for name, answer in rows:
                expected.setdefault(name, answer)
            assert told == [expected[name] for name, _ in rows]
        assert ledger.find(names) == expected
        assert [ledger.get(name) for name in names] == [expected.get(name) for name in names]
        assert ledger.find(names[:1]) == {name: expected[name] for name in names[:1] if name in expected}
        assert len(ledger) == len(expected)


class Counted(Ledger):
    """Takes down how many rows it is asked for, and is given, at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.found: list[int] = []
        self.put_together: list[int] = []

    def find(self, names: Sequence[bytes]) -> dict[bytes, Classification]:
        """As in `Ledger`."""
        self.found.append(len(names))
        return super().find(names)

    def put(self, task: str, rows: Sequence[tuple[bytes, Classification]]) -> list[Classification]:
        """As in `Ledger`."""
        self.put_together.append(len(rows))
        return super().put(task, rows)


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
def test_rows_are_kept_and_looked_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are written several at once, without waiting for what cannot come, and read by eighths of the window."""
    # Whoever waited for rows that cannot come would wait for an hour.
    monkeypatch.setattr(stream_module, "_MOMENT", 3600)
    rows = [f"{'FAIL' if number % 7 == 0 else 'text'} {number}" for number in range(320)]
    with Counted(tmp_path / "run.sqlite") as ledger:
        for _ in range(2):
            answers = classifier(FakeLLM(model_id="m", delay=0.001)).stream_rows(
                rows, {"max_concurrency": 8}, ledger=ledger, window=80
            )
            assert len(list(answers)) == 320
        assert sum(ledger.put_together) == len(ledger) == 320 - 46
        assert len(ledger.put_together) <= 274 / 4
        assert min(ledger.found) >= 10


async def test_a_slow_row_keeps_no_other_from_being_kept(tmp_path: Path) -> None:
    """A row is kept and handed out while another is still being answered."""
    go_on = asyncio.Event()

    class Uneven(FakeLLM):
        async def agenerate_row(self, prompt: Prompt, **kwargs: Any) -> Any:
            if prompt.text == "slow":
                await go_on.wait()
            return await super().agenerate_row(prompt, **kwargs)

    answers = classifier(Uneven(model_id="m")).astream_rows(["slow", "a"], ledger=tmp_path / "run.sqlite")
    assert (await asyncio.wait_for(anext(answers), 30)).row == "a"
    go_on.set()
    assert [row.row async for row in answers] == ["slow"]


WRITE = """
import sys
from langchain_stormtrooper import Ledger
from langchain_stormtrooper.results import Classification
with Ledger(sys.argv[1]) as ledger:
    for start in range(0, 300, 3):
        names = [ledger.name("t", b"%d" % number) for number in range(start, start + 3)]
        ledger.put("t", [(name, Classification(label=sys.argv[2])) for name in names])
"""


def test_processes_share_a_ledger(tmp_path: Path) -> None:
    """Processes that make and fill one file at once do not spoil it, and each row has one answer."""
    path = tmp_path / "run.sqlite"
    command = [sys.executable, "-c", WRITE, str(path)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in ("sport", "science", "politics")]
    for writer in writers:
        _, told = writer.communicate(timeout=60)
        assert (writer.returncode, told) == (0, b"")
    with Ledger(path) as ledger:
        assert len(ledger) == 300
        for number in range(0, 300, 3):
            names = [ledger.name("t", b"%d" % n) for n in range(number, number + 3)]
            group = ledger.find(names)
            assert list(group.values()) == [group[names[0]]] * 3


def test_streams_in_threads_share_a_ledger(tmp_path: Path) -> None:
    """One open ledger serves several runs at once."""
    rows = [f"text {number}" for number in range(100)]
    found: list[Any] = []
    with Ledger(tmp_path / "run.sqlite") as ledger:
        threads = [threading.Thread(target=lambda: found.append(run(classifier(), rows, ledger))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger) == 100
    assert found == [[(label_of(row), None, None) for row in rows]] * 3
