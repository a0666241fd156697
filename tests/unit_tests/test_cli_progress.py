"""What the command line tells of a run: speeds, counts, the bar and the forecast."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from langchain_stormtrooper.cli_dry_run import _lines
from langchain_stormtrooper.cli_progress import CountingLedger, Shown, Speed, Tally, speed
from langchain_stormtrooper.results import Classification, Reason
from langchain_stormtrooper.tables.forecasting import Forecast
from langchain_stormtrooper.text_files import Row


def test_a_speed_is_written_as_a_number() -> None:
    """Three digits count, however large it is, and none of them is an exponent."""
    told = [speed(number) for number in (0.01234, 0.5, 99.96, 999.4, 999.7, 14_123.0, 1_234_567.0)]
    numbers = ["0.0123", "0.5", "100", "999", "1,000", "14,100", "1,230,000"]
    assert told == [f"{number} rows/s" for number in numbers]


def test_a_speed_is_that_of_late() -> None:
    """What was done long ago, such as rows from a ledger at the start, does not count."""
    measured = Speed()
    assert measured.at(0.0, 0) == 0.0
    assert measured.at(10.0, 100_000) == 10_000.0
    for second in range(11, 100):
        latest = measured.at(float(second), 100_000 + second * 5)
    assert round(latest, 6) == 5.0
    assert len(measured._samples) < 110


def test_a_tally_counts_tokens_of_what_was_asked(tmp_path: Path) -> None:
    """With a ledger, rows that it had before cost none; without one, equal rows count once."""
    answer = Classification(label="a", prompt_tokens=10, generated_tokens=2)
    alone = Tally()
    with CountingLedger(tmp_path / "run.sqlite") as ledger:
        kept = Tally(2, ledger)
        ledger.put("task", [(b"one", answer)])
        for tally in (alone, kept):
            tally.start()
            tally.add(Row(0, "x"), answer)
            tally.add(Row(1, "y"), answer)
            tally.add(Row(2, "x"), answer)
        assert (alone.tokens, kept.tokens) == (24, 12)
        assert "24 tokens (" in str(alone)
        assert f"1 new answer in {ledger.path}" in str(kept)


def test_the_bar_tells_rows_speeds_reasons_and_what_is_read_ahead() -> None:
    """On a terminal that is wide enough all of it can be read."""
    out = io.StringIO()
    tally = Tally(2000)
    tally.reasons.update({"unmatched": 3, "failed": 1})
    with Shown(Console(file=out, width=160, force_terminal=True), "Classifying", tally, 2000) as shown:
        tally._tokens = 10
        shown.show(1, 5)
        tally._tokens = 5_000
        shown.show(1500, 16)
        assert shown._bar is not None
        shown._bar.refresh()
    told = out.getvalue()
    for part in ("1500/2000", "rows/s", "tokens/s", "3 unmatched, 1 failed", "16 read ahead"):
        assert part in told
    with Shown(None, "Classifying", tally, None) as nothing:
        nothing.show(1)


def test_the_note_of_a_tally() -> None:
    """Reasons are told by number, and how many are right where that is known."""
    tally = Tally()
    assert tally.note() == ""
    tally.add(Row(0, "x", "a"), Classification(label="a"))
    tally.add(Row(1, "x", "a"), Classification(reason=Reason.OVERLONG))
    assert tally.note() == "50% right, 1 overlong"


def test_a_forecast_is_told_in_full() -> None:
    """What is counted, scaled and guessed is told apart, and what is not known is called so."""
    told = dict(_lines(Forecast(10, 1, 8, 3, 1234, "scaled", 2, "guessed", 5, 2.5, 3600.0)))
    assert told["prompt tokens"] == "1,234 (about, from a sample counted by the model's tokenizer)"
    assert told["too long"] == "2 (a guess from the length of the texts)"
    assert told["to be asked"] == "5"
    assert told["time"] == "about 1:00:00"
    unknown = dict(_lines(Forecast(1, 0, 1, 0, 9, "guessed", None, "counted", 1, None, None)))
    assert (unknown["too long"], unknown["time"]) == ("some; the model does not tell its limit", "unknown")
    done = dict(_lines(Forecast(1, 0, 1, 1, 0, "counted", 0, "counted", 0, None, 0.0)))
    assert done["time"] == "none: all answers are there"
