from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.faults.postgresql import Cluster
from tests.faults.world import Hub, Nursery

numbers = itertools.count(1)
#: FAULTS_SEED repeats a run
SEED = int(os.environ.get("FAULTS_SEED") or random.randrange(10**6))
#: how many random points each of the long tests tries
POINTS = int(os.environ.get("FAULTS_POINTS") or 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They bring a PostgreSQL of their own, so one of the suite's two runs is enough."""
    if sys.platform != "linux" or "postgresql" not in settings.DATABASES["default"]["ENGINE"]:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs Linux, and runs once: where the suite runs on PostgreSQL"))


@pytest.fixture(scope="session")
def cluster(django_db_blocker: Any) -> Iterator[Cluster]:
    """With a database `mailhub` that has all tables, to copy."""
    cluster = Cluster.start()
    try:
        environment = {**os.environ, "DATABASE_URL": f"{cluster.url}/mailhub", "DEBUG": "true"}
        subprocess.run([sys.executable, str(settings.BASE_DIR / "manage.py"), "migrate", "-v0"], env=environment, check=True)  # noqa: S603
        yield cluster
    finally:
        cluster.end()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery") / "log")
    yield nursery
    nursery.end()


@pytest.fixture
def seed() -> int:
    return SEED


@pytest.fixture
def points() -> int:
    return POINTS


@pytest.fixture
def hub(cluster: Cluster, nursery: Nursery, seed: int, tmp_path: Path, django_db_blocker: Any) -> Iterator[Hub]:
    name = f"hub_{next(numbers)}"
    with django_db_blocker.unblock():
        # A copy of files is twice as fast as one by way of the log.
        cluster.execute(f"CREATE DATABASE {name} TEMPLATE mailhub STRATEGY file_copy")
        with Hub(cluster, name, nursery, tmp_path, seed) as hub:
            yield hub
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
