from __future__ import annotations

import random
from datetime import timedelta

LONGEST = timedelta(hours=4)


def delay(tries: int, first: timedelta) -> timedelta:
    """How long to wait after the `tries`-th failure: doubling from `first` up to four hours, spread by a fifth either way so that a
    storm of failures does not come back as one wave."""
    base: timedelta = min(min(first, LONGEST) * 2 ** min(tries - 1, 16), LONGEST)
    return base * random.uniform(0.8, 1.2)  # noqa: S311  spreads load, guards nothing
