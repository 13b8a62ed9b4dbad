from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, installed


@pytest.fixture
def installation(django_db_setup: None, django_db_blocker: Any, tmp_path: Path) -> Iterator[Installation]:
    with installed("bench", tmp_path, django_db_blocker, empty=True) as installation:
        yield installation
