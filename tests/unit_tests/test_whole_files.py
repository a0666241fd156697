"""Files that are written whole or not at all."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from langchain_stormtrooper import whole_files
from langchain_stormtrooper.whole_files import WholeFile, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """The new text takes the place of the old, in UTF-8, and nothing else is left in the directory."""
    path = tmp_path / "a.json"
    for text in ("old", "neu: ä"):
        write_whole(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_others_may_read_it(tmp_path: Path) -> None:
    """Its mode is that of any file that a program writes."""
    write_whole(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """What cannot be written leaves the old file as it was, and no part of the new one."""
    path = tmp_path / "a"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The error names the directory, not a file that nobody asked for."""
    with pytest.raises(FileNotFoundError, match="no such directory: create it first") as caught:
        write_whole(tmp_path / "no" / "a", "x")
    assert caught.value.filename == str(tmp_path / "no")


def test_a_new_file_is_as_private_as_the_old(tmp_path: Path) -> None:
    """Who could not read the old file cannot read the new one, nor what there is of it meanwhile."""
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o600)
    file = WholeFile(path)
    assert file.part.stat().st_mode & 0o777 == 0o600
    file.commit()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == "new"


def test_a_part_may_be_kept(tmp_path: Path) -> None:
    """What was written goes under a name of its own, which no other file has, and the old file stays."""
    path = tmp_path / "a.csv"
    path.write_text("old")
    for name in ("a.partial.csv", "a.partial-2.csv"):
        file = WholeFile(path)
        file.part.write_text("half")
        assert file.keep_part() == tmp_path / name
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_killed_processes_have_left_is_removed(tmp_path: Path) -> None:
    """Parts of the same file that nobody writes go; one that is being written stays, and so does what looks alike."""
    path = tmp_path / "a.csv"
    others = (".a.csv.0123456", ".a.csv.0123456z", ".b.csv.01234567", "a.csv.01234567")
    for name in (".a.csv.01234567", ".a.csv.89abcdef", *others):
        (tmp_path / name).write_text("half")
    (tmp_path / ".a.csv.deadbeef").mkdir()
    at_work = WholeFile(path)
    write_whole(path, "new")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"a.csv", ".a.csv.deadbeef", at_work.part.name, *others}
    at_work.part.write_text("newer")
    at_work.commit()
    assert path.read_text() == "newer"


def test_a_part_needs_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none, files are written all the same, and nothing of others is removed."""
    monkeypatch.setattr(whole_files, "fcntl", None)
    (tmp_path / ".a.01234567").write_text("perhaps at work")
    write_whole(tmp_path / "a", "x")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", ".a.01234567"}


def test_writers_at_once_take_nothing_from_each_other(tmp_path: Path) -> None:
    """However many write the same file, each of them gets through, what is there is whole, and no part is left."""

    def write(number: int) -> None:
        for _ in range(20):
            file = WholeFile(tmp_path / "a")
            file.part.write_text(str(number) * 100)
            file.part.replace(file.path)
            file.discard()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    text = (tmp_path / "a").read_text()
    assert text == text[0] * 100
