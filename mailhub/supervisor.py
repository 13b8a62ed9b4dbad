"""`manage.py worker`: keeps the three clusters of this machine at work, and starts anew the one that stands still.

The main thread looks after processes and never touches the database; a thread of its own, the clock, speaks to the database, however long
that takes. Signs of life come from the clusters themselves (mailhub/delivery/workers.py, mailhub/lib/brokers.py).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils.module_loading import import_string

from mailhub import schedule
from mailhub.delivery import workers
from mailhub.delivery.models import Worker
from mailhub.delivery.workers import Sign
from mailhub.lib import clock, processes

logger = logging.getLogger(__name__)

# Seconds, all of them.
# Between two looks at the clusters. The socket holds some 250 signs.
LOOK_EVERY = 0.1
# A cluster with a free worker gives a sign every 5 s (lib/brokers.py: EVERY). One that has not for this long stands still.
PATIENCE = 25
# The first sign may take as long as Django takes to start on a busy machine.
START_WITHIN = 60
# A cluster that ends sooner than this after its start is started again with growing delay.
SOON = 30
LONGEST_DELAY = 30
# When asked to stop: for what is in flight; for a cluster in which nothing is.
GRACE = 130
IDLE_GRACE = 15
# Between two rounds of the clock.
ROUND = 5
# Without a round for this long nobody can say whether the database is there.
OUT_OF_TOUCH = 15
# Rows of supervisors that did not come to remove theirs stay on view for this long.
FORGET = timedelta(hours=1)


class Signs:
    """What a cluster has told of itself since its start. Times are time.monotonic()'s."""

    def __init__(self, workers: int, now: float) -> None:
        self.workers = workers
        #: the last sign of any kind
        self.seen = now
        #: the workers that are at a task
        self.busy: set[int] = set()
        #: when a task last began, or could not because all workers were at one
        self.begun = now + START_WITHIN - PATIENCE
        #: since when a result has been waiting for the monitor
        self.unsettled = math.inf

    def note(self, sign: int, pid: int, now: float) -> None:
        self.seen = now
        if sign == Sign.BEGUN:
            self.busy.add(pid)
            self.begun = max(self.begun, now)
        elif sign == Sign.ENDED:
            self.busy.discard(pid)
            self.unsettled = min(self.unsettled, now)
        elif sign == Sign.SETTLED:
            self.unsettled = math.inf

    def excuse(self, now: float) -> None:
        """What has been missing until now says nothing."""
        self.begun = max(self.begun, now)
        self.unsettled = math.inf

    def forget_dead(self, lives: Callable[[int], bool]) -> None:
        """A worker that was killed at its task will not say that it has ended."""
        self.busy = {pid for pid in self.busy if lives(pid)}

    def trouble(self, now: float) -> str:
        """Why the cluster must be started anew, or ""."""
        if len(self.busy) >= self.workers:
            # How long a task may take is django-q2's to watch (`timeout`).
            self.begun, self.seen = max(self.begun, now), now
        if now - self.begun > PATIENCE:
            return "no task begins although a worker is free"
        if now - self.unsettled > PATIENCE:
            return "results are not taken"
        return ""


class Cluster:
    """One queue's processes on this machine."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        #: since the supervisor began
        self.restarts = 0
        #: early ends in a row
        self.failures = 0
        self.start()

    def start(self) -> None:
        self.wire, theirs = socket.socketpair()
        self.wire.setblocking(False)
        with theirs:
            environment = {**os.environ, "Q_CLUSTER_NAME": self.queue, workers.WIRE: str(theirs.fileno())}
            command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker", "--cluster"]
            self.group = processes.Group(command, env=environment, keep_open=[theirs.fileno()])
        self.started = time.monotonic()
        self.signs = Signs(settings.Q_CLUSTER["ALT_CLUSTERS"][self.queue]["workers"], self.started)
        #: a sign of which a part has come
        self.part = b""
        #: when it is to be started again; None while it runs
        self.start_at: float | None = None

    def listen(self) -> None:
        if self.start_at is not None:
            return
        try:
            data = self.part + self.wire.recv(1 << 16)
        except OSError:
            return
        whole = len(data) - len(data) % workers.SIGN.size
        self.part = data[whole:]
        for sign, pid in workers.SIGN.iter_unpack(data[:whole]):
            self.signs.note(sign, pid, time.monotonic())

    def look_after(self, judge: bool) -> None:
        now = time.monotonic()
        if self.start_at is not None:
            if now >= self.start_at:
                self.start()
            return
        self.signs.forget_dead(self.group.holds)
        if self.group.ended:
            self.bury("it has ended")
        elif not judge:
            self.signs.excuse(now)
        elif reason := self.signs.trouble(now):
            self.bury(reason)

    def bury(self, reason: str) -> None:
        """Kill what is left of it, and have it started again."""
        self.close()
        now = time.monotonic()
        self.failures = self.failures + 1 if now - self.started < SOON else 0
        delay = min(2**self.failures - 1, LONGEST_DELAY)
        self.restarts += 1
        self.start_at = now + delay
        logger.error("cluster %s is started anew in %s s: %s", self.queue, delay, reason)

    def close(self) -> None:
        self.group.reap()
        self.wire.close()

    def ask_to_stop(self) -> None:
        self.signs.seen = time.monotonic()
        if self.start_at is None:
            self.wire.shutdown(socket.SHUT_WR)
            self.group.stop()

    def stopped(self, at_once: bool) -> bool:
        """Whether it has; killed when nothing goes on in it any more, or `at_once`."""
        if self.start_at is not None:
            return True
        self.listen()
        self.signs.forget_dead(self.group.holds)
        idle = not self.signs.busy and time.monotonic() - self.signs.seen > IDLE_GRACE
        if not (self.group.ended or idle or at_once):
            return False
        if not self.group.ended:
            logger.warning("cluster %s did not stop by itself and was killed", self.queue)
        self.close()
        self.start_at = math.inf
        return True


class Clock(threading.Thread):
    """All that the supervisor has to do with the database: the rows of its clusters, the schedule, the ticks."""

    def __init__(self, node: str, clusters: list[Cluster]) -> None:
        super().__init__(name="clock", daemon=True)
        self.node = node
        self.clusters = clusters
        self.bell = threading.Event()
        self.stopping = False
        self.over = False
        self.installed = False
        #: when the database last answered
        self.reached = -math.inf
        self.away = False

    @property
    def in_touch(self) -> bool:
        """The database answered not long ago."""
        return time.monotonic() - self.reached < OUT_OF_TOUCH

    def run(self) -> None:
        while not self.over:
            self.round()
            self.bell.wait(ROUND)
            self.bell.clear()
        self.leave()

    def round(self) -> None:
        try:
            self.write()
            if not self.installed:
                schedule.install()
                self.installed = True
        except DatabaseError as error:
            self.lost(error)
            return
        self.reached = time.monotonic()
        if self.away:
            logger.warning("the database answers again")
            self.away = False
        if not self.stopping:
            self.tick()

    def tick(self) -> None:
        for path in schedule.TICKS:
            try:
                import_string(path)()
            except Exception:  # the others must not suffer, and the next round comes
                logger.exception("%s failed", path)
                connection.close()
            else:
                self.reached = time.monotonic()

    def write(self) -> None:
        """Tell what is known of the clusters, and forget supervisors that are long gone."""
        now = clock.now()
        present = time.monotonic()
        rows = [
            Worker(
                node=self.node,
                queue=cluster.queue,
                started_at=now - timedelta(seconds=present - cluster.started),
                beat_at=now - timedelta(seconds=present - cluster.signs.seen),
                stopping=self.stopping,
                restarts=cluster.restarts,
            )
            for cluster in self.clusters
        ]
        Worker.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["node", "queue"],
            update_fields=["started_at", "beat_at", "stopping", "restarts"],
        )
        Worker.objects.filter(beat_at__lt=now - FORGET).exclude(node=self.node).delete()

    def lost(self, error: DatabaseError) -> None:
        self.reached = -math.inf
        if not self.away:
            logger.error("the database does not answer: %s", error)
            self.away = True
        connection.close()

    def leave(self) -> None:
        try:
            Worker.objects.filter(node=self.node).delete()
        except DatabaseError as error:
            logger.warning("the rows of %s stay behind: %s", self.node, error)


class Supervisor:
    def __init__(self, node: str = "") -> None:
        self.stops = 0
        self.clusters: list[Cluster] = []
        self.clock = Clock(node or f"{socket.gethostname()}:{os.getpid()}", self.clusters)

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP; a second one cuts the stopping short. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self.asked_to_stop)
        self.clusters.extend(Cluster(queue) for queue in workers.QUEUES)
        self.clock.start()
        while not self.stops:
            time.sleep(LOOK_EVERY)
            self.look()
        self.stop()

    def asked_to_stop(self, *args: object) -> None:
        self.stops += 1

    def look(self) -> None:
        judge = self.clock.in_touch
        for cluster in self.clusters:
            cluster.listen()
            cluster.look_after(judge)

    def stop(self) -> None:
        logger.info("stopping: what is in flight is finished, the rest is handed back")
        self.clock.stopping = True
        self.clock.bell.set()
        for cluster in self.clusters:
            cluster.ask_to_stop()
        deadline = time.monotonic() + GRACE
        left = list(self.clusters)
        while left:
            time.sleep(LOOK_EVERY)
            at_once = self.stops > 1 or time.monotonic() > deadline
            left = [cluster for cluster in left if not cluster.stopped(at_once)]
        self.clock.over = True
        self.clock.bell.set()
        self.clock.join(timeout=10)
