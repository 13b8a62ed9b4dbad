from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.lib import backoff


@pytest.mark.parametrize(("tries", "minutes"), [(1, 1), (2, 2), (3, 4), (7, 64), (8, 128), (9, 240), (10, 240), (1000, 240)])
def test_each_wait_is_twice_the_one_before_up_to_four_hours(tries: int, minutes: int) -> None:
    waits = [backoff.delay(tries, timedelta(minutes=1)).total_seconds() / 60 for _time in range(200)]
    assert minutes * 0.8 <= min(waits) < minutes * 0.85
    assert minutes * 1.15 < max(waits) <= minutes * 1.2


@given(st.integers(0, 40_000), st.integers(1, 2**31 - 1))
def test_whatever_the_relay_is_set_to_there_is_a_wait(tries: int, seconds: int) -> None:
    wait = backoff.delay(tries, timedelta(seconds=seconds))
    assert timedelta(0) < wait <= 1.2 * backoff.LONGEST
