"""Tests of the identifiers of events and results."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_hooks.identifiers import new_id

SECOND = 1_000_000_000
LAST = 2**32 * SECOND - 1  # eight digits are enough until the year 2106


def id_at(nanoseconds: int) -> str:
    """Return an identifier made at this time since 1970."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: nanoseconds)
        return new_id()


def test_identifier_is_24_hexadecimal_digits() -> None:
    """An identifier has the form of those in the specification's examples."""
    assert re.fullmatch("[0-9a-f]{24}", new_id())


@given(st.integers(min_value=0, max_value=LAST))
def test_first_eight_digits_are_the_seconds(nanoseconds: int) -> None:
    """The first eight digits are the time in seconds, up to the year 2106."""
    identifier = id_at(nanoseconds)
    assert len(identifier) == 24
    assert int(identifier[:8], 16) == nanoseconds // SECOND


@given(st.integers(min_value=0, max_value=LAST - 60), st.integers(min_value=60, max_value=SECOND * 3600))
def test_later_identifier_sorts_after_an_earlier_one(nanoseconds: int, passed: int) -> None:
    """Identifiers made at least 60 ns apart sort by time."""
    assert id_at(nanoseconds) < id_at(min(nanoseconds + passed, LAST))


def test_identifiers_of_the_same_time_differ() -> None:
    """Identifiers made at the same time differ by their random digits."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as threads:
        patch.setattr(time, "time_ns", lambda: SECOND)
        assert len(set(threads.map(lambda _: new_id(), range(2000)))) == 2000
