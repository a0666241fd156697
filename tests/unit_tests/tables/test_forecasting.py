"""What classifying a file will take, told beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import LABELS, FakeLLM, say_label
from langchain_core.language_models.fake import FakeListLLM

from langchain_stormtrooper import Ledger, ZeroShotClassifier
from langchain_stormtrooper.errors import OverlongInputError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.tables.forecasting import ASKED, Forecast, aforecast
from langchain_stormtrooper.tables.records import Record
from langchain_stormtrooper.text_files import Columns, Row

LIMIT = 400


def refuse_long(prompt: Prompt) -> str:
    """Answer what has no more characters than the limit."""
    if len(str(prompt)) > LIMIT:
        raise OverlongInputError("Too long.", tokens=len(str(prompt)), limit=LIMIT)
    return say_label(prompt)


class Counting(FakeLLM):
    """Counts a token for each character, if it does."""

    tells: bool = True

    async def acount_tokens(self, prompt: Prompt) -> int | None:
        """The number of characters."""
        return len(str(prompt)) if self.tells else None


def rows() -> Iterator[Row]:
    """A hundred different texts, each twice; three that are too long, and two that are none."""
    texts = [*(f"text {n:03d}" for n in range(100)), *("x" * (LIMIT + n) for n in range(3))]
    return (Row(n, text) for n, text in enumerate([*texts, *texts, None, " "]))


async def forecast(llm: Any, **given: Any) -> Forecast:
    """The forecast for `rows`."""
    task = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels}: {text}", method="generate")
    return await aforecast(task, rows, Columns(), **given)


HEAD = len("sport, politics, science.: ")


@pytest.mark.parametrize(
    ("sample", "tells", "how", "margin"),
    [(1000, True, "counted", 0.0), (30, True, "scaled", 0.5), (1000, False, "scaled", 0.5)],
)
@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
async def test_what_is_counted(sample: int, tells: bool, how: str, margin: float) -> None:
    """Rows, different ones, tokens and long texts are counted; a sample is scaled, and it is said which it was."""
    llm = Counting(answer=refuse_long, tells=tells)
    found = await forecast(llm, sample=sample)
    assert (found.rows, found.without_text, found.different, found.kept) == (208, 2, 103, 0)
    exact = 103 * HEAD + 100 * 8 + sum(LIMIT + n for n in range(3))
    assert found.tokens_are == how
    assert found.prompt_tokens == pytest.approx(exact, rel=margin)
    assert found.overlong == 3
    assert found.overlong_is == ("counted" if tells else "guessed")
    # Some to see how long it takes, and the longest to see whether they fit.
    assert found.asked <= ASKED
    assert len(llm.log.prompts) <= ASKED + 3
    assert found.rows_per_second is not None
    assert found.seconds == pytest.approx(103 / found.rows_per_second)


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
async def test_what_is_kept_is_not_to_be_asked(tmp_path: Path) -> None:
    """Rows in the ledger are left out of tokens and time, and the look adds nothing to it."""
    llm = Counting(answer=refuse_long, model_id="m")
    task = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels}: {text}", method="generate")
    texts = [f"text {n:03d}" for n in range(100)]
    with Ledger(tmp_path / "run.sqlite") as ledger:
        _ = [row async for row in task.astream_rows(texts[:60], ledger=ledger)]
        found = await aforecast(task, rows, Columns(), ledger=ledger)
        assert (found.different, found.kept, len(ledger)) == (103, 60, 60)
        assert found.prompt_tokens == 43 * HEAD + 40 * 8 + sum(LIMIT + n for n in range(3))
        _ = [row async for row in task.astream_rows([row.text or "x" for row in rows()], ledger=ledger)]
        done = await aforecast(task, rows, Columns(), ledger=ledger)
        assert (done.kept, done.asked, done.prompt_tokens, done.seconds) == (104 - 1, 0, 0, 0.0)


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
async def test_a_model_that_tells_nothing() -> None:
    """Without any count, tokens are guessed and called so; texts that are not refused are not too long."""
    task = ZeroShotClassifier(LABELS, llm=FakeListLLM(responses=["sport"]), prompt="{labels}: {text}")
    found = await aforecast(task, lambda: [Row(0, "a text"), Row(1, "another")], Columns())
    assert found.tokens_are == "guessed"
    assert found.prompt_tokens == round((2 * HEAD + len("a text") + len("another")) / 4)
    assert found.overlong == 0


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
async def test_a_model_without_a_limit() -> None:
    """Where a long text is refused without a number, it is only known that there are some."""

    def refuse(prompt: Prompt) -> str:
        if len(str(prompt)) > LIMIT:
            raise OverlongInputError("Too long.")
        return "sport"

    task = ZeroShotClassifier(LABELS, llm=Counting(answer=refuse), prompt="{labels}: {text}", method="generate")
    assert (await aforecast(task, rows, Columns())).overlong is None


async def test_texts_are_in_the_column_that_is_named() -> None:
    """Records whose texts are in another column than the classifier's own are looked at all the same."""
    llm = Counting()
    task = ZeroShotClassifier(LABELS, llm=llm, prompt="{labels}: {text}", method="generate")
    records = [Record(n, {"text": "x" * 500, "body": f"body {n}"}) for n in range(3)]
    found = await aforecast(
        task, lambda: (Row(n, one.fields["body"], record=one) for n, one in enumerate(records)), Columns("body")
    )
    assert (found.different, found.prompt_tokens) == (3, 3 * (HEAD + len("body 0")))
    assert set(llm.log.texts) == {"body 0", "body 1", "body 2"}


@pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")
async def test_a_model_that_fails_has_no_speed() -> None:
    """Where no row that was tried got an answer, how long all will take is not known."""
    found = await forecast(Counting(answer=lambda _: say_label(Prompt(text="FAIL"))))
    assert found.asked > 0
    assert (found.rows_per_second, found.seconds) == (None, None)
