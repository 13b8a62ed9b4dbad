"""`manage.py worker` with real processes and a database of its own, killed in every way that hurts."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django_q.signing import SignedPackage

from mailhub.delivery.workers import QUEUES
from tests.installation import LONG, Installation, installed, until

pytestmark = [pytest.mark.once, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

HERE = Path(__file__).parent
# ---------------------------------------------------------------------------------------------------------------- processes


class Process:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        # The number alone may be another's, later.
        self.born = self.stat()[19]

    def stat(self) -> list[str]:
        """Fields 3 and on of proc(5)'s stat."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ["Z", *["0"] * 30]

    @property
    def niceness(self) -> int:
        return int(self.stat()[16])

    @property
    def lives(self) -> bool:
        stat = self.stat()
        return stat[0] != "Z" and stat[19] == self.born

    @property
    def sleeps(self) -> bool:
        return self.stat()[0] == "S"

    @property
    def children(self) -> list[Process]:
        everyone = [Process(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [process for process in everyone if process.lives and process.stat()[1] == str(self.pid)]

    @property
    def descendants(self) -> list[Process]:
        return [process for child in self.children for process in [child, *child.descendants]]

    @property
    def queue(self) -> str:
        environment = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        return next((line.split(b"=")[1].decode() for line in environment if line.startswith(b"Q_CLUSTER_NAME=")), "")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def gone(processes: list[Process]) -> bool:
    return not any(process.lives for process in processes)


# ---------------------------------------------------------------------------------------------------------------- the site


class Site:
    """A database that no other test uses, and what works on it."""

    def __init__(self, installation: Installation) -> None:
        self.connection = installation.connection
        self.folder = installation.folder
        self.marks = itertools.count()
        self.environment = {**installation.environment, "PYTHONPATH": str(HERE)}

    def manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]

    def put(self, queue: str, task: str) -> Path:
        """Have a worker do `task`; returns the mark that it will leave."""
        mark = self.folder / f"mark-{next(self.marks)}"
        package = {
            "id": mark.name,
            "name": mark.name,
            "func": f"worker_tasks.{task}",
            "args": (str(mark),),
            "kwargs": {},
            "started": timezone.now(),
            "ack_failure": True,
        }
        with self.connection.cursor() as cursor:
            now = self.connection.ops.adapt_datetimefield_value(timezone.now())
            row = [queue, SignedPackage.dumps(package), now]
            cursor.execute("INSERT INTO django_q_ormq (key, payload, lock) VALUES (%s, %s, %s)", row)
        return mark

    def settled(self) -> bool:
        """Every task has been taken, done and put away."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM django_q_ormq")
            return cursor.fetchone()[0] == 0


class Supervised:
    """A running `manage.py worker`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.log = site.folder / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as log:
            self.command = subprocess.Popen(site.manage("worker"), env=site.environment, stderr=log, start_new_session=True)  # noqa: S603
        self.process = Process(self.command.pid)
        self.everyone: list[Process] = []

    def rows(self) -> dict[str, int]:
        """Queue and restarts of its clusters, as the workers page shows them."""
        with self.site.connection.cursor() as cursor:
            cursor.execute("SELECT queue, restarts FROM delivery_worker WHERE node LIKE %s", [f"%:{self.process.pid}"])
            return dict(cursor.fetchall())

    def main(self, queue: str) -> Process:
        return until(lambda: next((child for child in self.process.children if child.queue == queue), None))

    def sentinel(self, queue: str) -> Process:
        return until(lambda: next(iter(self.main(queue).children), None))

    def family(self, queue: str) -> list[Process]:
        """As they are started: workers, monitor, pusher."""
        return sorted(self.sentinel(queue).children, key=lambda child: (int(child.born), child.pid))

    def done(self, queue: str) -> Process:
        """Have a task done; returns the worker that did it."""
        mark = self.site.put(queue, "leave_mark")
        until(mark.exists)
        return Process(int(mark.read_text()))

    def remember(self) -> list[Process]:
        """All of its processes, once all clusters are at work."""
        for queue in QUEUES:
            self.done(queue)
        self.everyone = self.process.descendants
        return self.everyone


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with installed("worker", tmp_path_factory.mktemp("worker"), django_db_blocker) as installation:
        yield Site(installation)


@pytest.fixture
def supervised(site: Site) -> Iterator[Supervised]:
    supervised = Supervised(site)
    yield supervised
    left = [supervised.process, *supervised.process.descendants, *supervised.everyone]
    for process in left:
        if process.lives:
            process.kill()
    supervised.command.wait()
    sys.stderr.write(supervised.log.read_text())


def test_it_works_on_all_three_queues_and_shows_itself(supervised: Supervised) -> None:
    workers = {queue: supervised.done(queue) for queue in QUEUES}
    assert len({worker.pid for worker in workers.values()}) == 3
    # Bulk mail stands back where all want the processor.
    assert workers["bulk"].niceness > workers["transactional"].niceness == workers["maintenance"].niceness
    until(lambda: supervised.rows() == dict.fromkeys(QUEUES, 0))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="several machines need a database that is a server")
def test_two_of_them_share_the_work_and_one_goes_on_when_the_other_ends(site: Site, supervised: Supervised) -> None:
    """As on two machines: neither knows of the other."""
    second = Supervised(site)
    try:
        both = {each.process.pid: each for each in (supervised, second)}
        until(lambda: all(len(each.rows()) == len(QUEUES) for each in both.values()))
        at_work: set[int] = set()
        while at_work != set(both):
            worker = supervised.done("bulk")
            at_work |= {pid for pid, each in both.items() if worker.pid in {child.pid for child in each.process.descendants}}
        second.command.terminate()
        assert second.command.wait(LONG) == 0
        supervised.done("bulk")
        until(site.settled)
    finally:
        if second.process.lives:
            for each in [second.process, *second.process.descendants]:
                each.kill()
            second.command.wait()


def test_clusters_that_stand_still_are_started_anew(site: Site, supervised: Supervised) -> None:
    supervised.remember()
    mains = [supervised.main(queue) for queue in QUEUES]
    # All three wait in a pipe and take its lock with them: the only worker of one cluster,
    worker = supervised.done("maintenance")
    # what puts away the results of another,
    _one, _other, monitor, _pusher = supervised.family("bulk")
    until(site.settled)
    # and, of the third, the worker that has no task while the other has.
    drain = site.put("transactional", "work_until_told")
    until(drain.exists)
    idle = next(worker for worker in supervised.family("transactional")[:2] if worker.pid != int(drain.read_text()))
    victims = [worker, monitor, idle]
    until(lambda: all(victim.sleeps for victim in victims))
    for victim in victims:
        victim.kill()
    for queue in ("maintenance", "transactional"):
        supervised.done(queue)
    until(lambda: gone(mains))
    supervised.done("bulk")
    until(lambda: supervised.rows() == dict.fromkeys(QUEUES, 1))
    assert drain.with_name(f"{drain.name}.handed-back").exists(), "a worker was killed at its task without a chance to hand back"


@pytest.mark.parametrize("victim", ["main", "sentinel"])
def test_a_cluster_that_lost_its_head_is_started_anew_and_leaves_no_orphan(supervised: Supervised, victim: str) -> None:
    supervised.remember()
    main = supervised.main("bulk")
    family = [main, *main.descendants]
    getattr(supervised, victim)("bulk").kill()
    until(lambda: gone(family))
    supervised.done("bulk")
    assert supervised.main("bulk").pid != main.pid


def test_nothing_outlives_a_killed_supervisor(supervised: Supervised) -> None:
    everyone = supervised.remember()
    assert len(everyone) >= 3 * 5
    supervised.process.kill()
    until(lambda: gone(everyone))


def test_sigterm_has_tasks_hand_back_and_ends_cleanly(site: Site, supervised: Supervised) -> None:
    everyone = supervised.remember()
    until(lambda: len(supervised.rows()) == 3)
    mark = site.put("bulk", "work_until_told")
    until(mark.exists)
    supervised.command.terminate()
    assert supervised.command.wait(LONG) == 0
    assert mark.with_name(f"{mark.name}.handed-back").exists()
    assert gone(everyone)
    assert supervised.rows() == {}
    assert site.settled()


def test_a_second_ctrl_c_does_not_wait_for_a_deaf_task(site: Site, supervised: Supervised) -> None:
    everyone = supervised.remember()
    mark = site.put("transactional", "be_deaf")
    until(mark.exists)
    supervised.command.send_signal(signal.SIGINT)
    until(lambda: supervised.log.read_text().count("stopping"))
    supervised.command.send_signal(signal.SIGINT)
    assert supervised.command.wait(LONG) == 0
    assert gone(everyone)
