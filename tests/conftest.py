from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailhub.relays.providers import memory


@pytest.fixture(autouse=True)
def nothing_taken() -> Iterator[None]:
    """Memory relays of other tests leave nothing behind."""
    yield
    memory.clear()
