"""The version table: every release is there, in order, and asked for by its tag."""

from __future__ import annotations

import pytest

from langchain_stormtrooper.testing import RELEASES, TGIServer
from langchain_stormtrooper.testing.versions import Absent, Release


def test_all_releases_in_order() -> None:
    """There are 44 releases from 1.0.3 to 3.3.7, and their numbers rise."""
    numbers = [Release.of(tag).number for tag in RELEASES]
    assert (RELEASES[0], RELEASES[-1], len(numbers)) == ("1.0.3", "3.3.7", 44)
    assert numbers == sorted(set(numbers))


def test_unknown_release() -> None:
    """A version that was never released is refused with those that were."""
    with pytest.raises(ValueError, match=r"was never released; choose one of 1\.0\.3, "):
        TGIServer("9.9.9")


def test_reported_versions() -> None:
    """`/info` shows the number of the build, which four times is not the tag."""
    odd = {tag: Release.of(tag).reported for tag in RELEASES if Release.of(tag).reported != tag}
    assert odd == {"2.0.3": "2.0.2", "2.3.0": "2.3.1-dev0", "3.3.6": "3.3.6-dev0", "3.3.7": "3.3.6-dev0"}


def test_default_of_new_tokens() -> None:
    """The default of `max_new_tokens` changed three times."""
    defaults = [Release.of(tag).absent_max_new_tokens for tag in RELEASES]
    changes = [tag for tag, old, new in zip(RELEASES[1:], defaults, defaults[1:], strict=False) if old != new]
    assert changes == ["1.1.1", "1.3.3", "3.0.0"]
    assert defaults[0] is Absent.TWENTY


def test_impossible_settings() -> None:
    """Settings that no TGI would start with are refused."""
    with pytest.raises(ValueError, match="less than max_total_tokens"):
        TGIServer(max_input_tokens=2048, max_total_tokens=2048)
    with pytest.raises(ValueError, match=r"that came with 2\.3\.0"):
        TGIServer("2.2.0", api_key="key")
    with pytest.raises(ValueError, match="at least 1"):
        TGIServer(max_concurrent_requests=0)
