"""What the supervisor makes of the signs that a cluster gives; tests/test_worker.py has it deal with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from mailhub import supervisor
from mailhub.delivery import workers
from mailhub.delivery.models import Worker
from mailhub.lib import brokers, lifeline, processes
from mailhub.lib.lifeline import Sign
from mailhub.supervisor import PATIENCE, START_WITHIN, Register, Signs

LATER = PATIENCE + 1


def at_work(count: int = 2) -> Signs:
    """A cluster that has settled a task at time 0."""
    signs = Signs(count, now=-10)
    signs.note(Sign.BEGUN, 1, now=0)
    signs.note(Sign.ENDED, 1, now=0)
    signs.note(Sign.SETTLED, 9, now=0)
    return signs


def test_a_cluster_that_works_is_left_alone() -> None:
    signs = at_work()
    assert not signs.trouble(PATIENCE)


def test_a_cluster_in_which_nothing_begins_although_a_worker_is_free_is_in_trouble() -> None:
    signs = at_work()
    assert "no task begins" in signs.trouble(LATER)
    signs.note(Sign.BEGUN, 1, now=0)
    assert "no task begins" in signs.trouble(LATER)


def test_a_cluster_whose_workers_are_all_at_work_is_not_in_trouble_however_long_they_take() -> None:
    signs = at_work()
    signs.note(Sign.BEGUN, 1, now=0)
    signs.note(Sign.BEGUN, 2, now=0)
    assert not signs.trouble(100)
    # And when one has become free it gets its time.
    signs.note(Sign.ENDED, 2, now=101)
    signs.note(Sign.SETTLED, 9, now=101)
    assert not signs.trouble(100 + PATIENCE)
    assert signs.trouble(100 + LATER)


def test_a_worker_that_was_killed_at_its_task_does_not_count_as_at_work() -> None:
    signs = at_work()
    signs.note(Sign.BEGUN, 1, now=0)
    signs.note(Sign.BEGUN, 2, now=0)
    signs.forget_dead(lambda pid: pid == 1)
    assert signs.trouble(LATER)


def test_results_that_nobody_takes_are_trouble_although_tasks_begin() -> None:
    signs = at_work()
    for now in range(0, LATER + 5, 5):
        signs.note(Sign.BEGUN, 1, now)
        signs.note(Sign.ENDED, 1, now)
    assert "results" in signs.trouble(LATER + 5)


def test_a_cluster_may_take_its_time_to_start() -> None:
    signs = Signs(2, now=0)
    assert not signs.trouble(START_WITHIN)
    assert signs.trouble(START_WITHIN + 1)


def test_nothing_is_held_against_a_cluster_while_nobody_can_judge() -> None:
    signs = at_work()
    signs.note(Sign.ENDED, 1, now=1)
    signs.excuse(now=100)
    assert not signs.trouble(100 + PATIENCE)
    assert signs.trouble(100 + LATER)


def test_rows_are_remembered_from_their_taking_to_their_end() -> None:
    signs = at_work()
    signs.note(Sign.TAKEN, 7, now=1)
    signs.note(Sign.TAKEN, 8, now=1)
    signs.note(Sign.DELETED, 7, now=2)
    assert signs.rows == {8}


def test_a_cluster_that_ends_at_once_is_started_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.processes, "Group", Ended)
    cluster = supervisor.Cluster("bulk")
    waits = []
    for _ in range(7):
        cluster.look_after(judge=True)
        assert cluster.start_at is not None
        waits.append(round(cluster.start_at - time.monotonic()))
        cluster.start()
    cluster.close()
    assert waits == [1, 3, 7, 15, 30, 30, 30]
    assert cluster.restarts == 7


class Ended(processes.Group):
    """A command that ends at once."""

    def __init__(self, command: Any, **options: Any) -> None:
        super().__init__([sys.executable, "-c", ""])
        self.process.wait()


# ---------------------------------------------------------------------------------------------------------------- register


@pytest.mark.django_db
def test_the_register_shows_a_supervisors_clusters_and_nobody_elses_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.processes, "Group", Ended)
    long_ago = timezone.now() - 2 * supervisor.FORGET
    Worker.objects.create(node="gone:1", queue="bulk", started_at=long_ago, beat_at=long_ago)
    cluster = supervisor.Cluster("bulk")
    register = Register("here:1", [cluster])
    register.round()
    assert not Worker.objects.filter(node="here:1").exists(), "it has not given a sign of life yet"
    cluster.line.close()
    cluster.line = lifeline.SupervisorsEnd()
    with cluster.line.theirs as theirs:
        theirs.send(lifeline.SIGN.pack(Sign.BEGUN, 1))
    cluster.listen()
    register.round()
    cluster.restarts = 3
    register.stopping = True
    register.round()
    cluster.close()
    assert list(Worker.objects.values_list("node", "queue", "restarts", "stopping")) == [("here:1", "bulk", 3, True)]
    register.leave()
    assert not Worker.objects.exists()


@pytest.mark.django_db
def test_what_a_killed_cluster_had_taken_may_be_taken_by_others_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.processes, "Group", Ended)
    locked = timezone.now() + timedelta(minutes=10)
    taken, others = (OrmQ.objects.create(key="bulk", payload="", lock=locked) for _ in range(2))
    cluster = supervisor.Cluster("bulk")
    cluster.signs.note(Sign.TAKEN, taken.pk, now=1)
    cluster.close()
    Register("here:1", [cluster]).round()
    assert list(OrmQ.objects.filter(lock__lte=timezone.now())) == [taken]
    assert OrmQ.objects.get(pk=others.pk).lock == locked


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_noticed_and_its_return_too() -> None:
    register = Register("here:1", [])
    register.round()
    assert register.in_touch
    with connection.execute_wrapper(away):
        register.round()
    assert not register.in_touch
    register.round()
    assert register.in_touch


def away(*args: Any) -> None:
    raise OperationalError("gone")


# ---------------------------------------------------------------------------------------------------------------- lifeline


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ends of a lifeline in this process."""
    end = lifeline.SupervisorsEnd()
    monkeypatch.setattr(lifeline, "_line", end.theirs)
    yield end
    end.ours.close()
    end.theirs.close()


def test_without_a_supervisor_a_task_may_always_go_on() -> None:
    assert workers.beat()


def test_a_beat_is_a_sign_and_says_when_to_stop(line: lifeline.SupervisorsEnd) -> None:
    assert workers.beat()
    assert list(line.signs()) == [(Sign.ALIVE, os.getpid())]
    line.cut()
    assert not workers.beat()
    assert list(line.signs()) == [(Sign.ALIVE, os.getpid())]


def test_a_supervisor_that_is_gone_stops_its_tasks(line: lifeline.SupervisorsEnd) -> None:
    line.close()
    assert not workers.beat()


def test_signs_that_nobody_takes_hold_nobody_up(line: lifeline.SupervisorsEnd) -> None:
    for _ in range(100_000):
        lifeline.give(Sign.ALIVE)
    assert len(list(line.signs())) > 100


# ---------------------------------------------------------------------------------------------------------------- broker


@pytest.mark.django_db
def test_a_broker_without_tasks_gives_a_pulse_now_and_then() -> None:
    broker = brokers.DatabaseBroker("bulk")
    ((row, package),) = broker.dequeue() or []
    assert row is None
    assert SignedPackage.loads(package)["func"] == "mailhub.lib.brokers.pulse"
    assert broker.dequeue() == []


@pytest.mark.django_db
def test_a_broker_tells_the_supervisor_what_it_takes_and_deletes(line: lifeline.SupervisorsEnd) -> None:
    broker = brokers.DatabaseBroker("bulk")
    row = broker.enqueue("package")
    assert broker.dequeue() == [(row, "package")]
    broker.acknowledge(row)
    assert list(line.signs()) == [(Sign.TAKEN, row), (Sign.DELETED, row)]


@pytest.mark.django_db(transaction=True)
def test_a_broker_outlives_an_absence_of_its_database_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = brokers.DatabaseBroker("bulk")
    broker.dequeue()
    with connection.execute_wrapper(away):
        assert broker.dequeue() == broker.dequeue() == []
    assert len(caplog.messages) == 1
    row = broker.enqueue("package")
    assert broker.dequeue() == [(row, "package")]


# ---------------------------------------------------------------------------------------------------------------- processes


def test_a_group_is_killed_with_all_that_it_started() -> None:
    group = processes.Group(["sh", "-c", "sleep 100 & echo started; wait"])
    try:
        until_children(group.pid, 1)
        assert not group.ended
        assert group.holds(group.pid)
        assert not group.holds(os.getpid())
    finally:
        code = group.reap()
    assert code == -signal.SIGKILL
    assert group.ended
    assert not group.holds(group.pid)


def until_children(pid: int, count: int) -> None:
    end = time.monotonic() + 30
    while len(subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True).stdout.split()) < count:  # noqa: S603, S607
        assert time.monotonic() < end
        time.sleep(0.05)
