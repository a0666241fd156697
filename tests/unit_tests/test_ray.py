"""`classify_dataset` without Ray: how a server is shared out, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from fakes import LABELS, FakeLLM
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListLLM

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper import ray as room
from langchain_stormtrooper.errors import ConfigurationError, MissingExtraError


@given(places=st.integers(1, 300), actors=st.integers(1, 300))
def test_shares_are_the_whole_and_nearly_equal(places: int, actors: int) -> None:
    """Together the actors have exactly the LLM's places, none two more than another; too many actors are refused."""
    llm = TextGenerationInference(base_url="http://127.0.0.1:9", max_concurrency=places)
    if actors > places:
        with pytest.raises(ConfigurationError, match=rf"{actors} actors cannot share {places} requests"):
            room._shares(llm, actors)
        return
    shares: list[Any] = room._shares(llm, actors)
    assert len(shares) == actors
    assert sum(shares) == places
    assert max(shares) - min(shares) <= 1
    assert min(shares) >= 1


def test_a_model_in_the_process_is_not_shared() -> None:
    """An LLM without a server is each actor's own, with all its places."""
    assert room._shares(FakeLLM(places=1), 3) == [None] * 3


def test_shares_are_dealt_once_each() -> None:
    """Actors get the shares in turn; one that is started again gets its own, and a second run all of them again."""
    dealer = room._Dealer([3, 2, 2])
    assert [dealer.deal(actor) for actor in ("a", "b", "a", "c")] == [3, 2, 3, 2]
    assert [dealer.deal(actor) for actor in ("d", "e", "f")] == [3, 2, 2]


@pytest.mark.parametrize(
    ("llm", "why"),
    [
        (
            TextGenerationInference(base_url="http://127.0.0.1:9", headers={"X-Key": "hush"}),
            "Headers are in no pickle, so that the actors would send none",
        ),
        (FakeListLLM(responses=["sport"]), "A FakeListLLM may have a key in its pickle"),
    ],
)
def test_what_does_not_travel_is_refused(llm: Any, why: str) -> None:
    """Headers and other packages' LLMs are refused with what to do; nothing of a header is shown."""
    with pytest.raises(ConfigurationError, match=f"{why}: write a subclass of ClassifyBatches") as raised:
        room._sendable(ZeroShotClassifier(LABELS, llm=llm))
    assert "hush" not in str(raised.value)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module can be imported, and the function says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"classify_dataset\(\).*pip install 'langchain-stormtrooper\[ray\]'"):
        room.classify_dataset(None, ZeroShotClassifier(LABELS, llm=FakeLLM()))


def test_the_module_imports_no_engine() -> None:
    """Neither Ray nor a package for tables is loaded before there is a dataset or a batch."""
    code = (
        "import sys\n"
        "for name in ('ray', 'pyarrow', 'pandas', 'numpy', 'daft', 'pyspark'): sys.modules[name] = None\n"
        "from langchain_stormtrooper.ray import ClassifyBatches, classify_dataset\n"
        "print('fine')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "fine\n"
