"""`manage.py worker`: keeps the three clusters of this machine at work, and starts anew the one that stands still.

The main thread looks after processes and never touches the database; others speak to it, however long that takes. Signs of life come
from the clusters themselves (mailhub/lib/lifeline.py, brokers.py).
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
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils.module_loading import import_string

from mailhub import schedule
from mailhub.delivery import workers
from mailhub.delivery.models import Worker
from mailhub.feedback import idle
from mailhub.lib import brokers, clock, lifeline, processes
from mailhub.lib.lifeline import Sign, SupervisorsEnd
from mailhub.webhooks import posting

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
# Before a cluster that stands still is killed: for what its other workers have in flight.
HAND_BACK = 15
# When asked to stop: for what is in flight; for a cluster in which nothing is.
GRACE = 130
IDLE_GRACE = 15
# Between two rounds of the threads.
ROUND = 5
# Without a word from the database for this long nobody can say whether the clusters could reach it.
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
        #: rows of the broker's table that it has taken
        self.rows: set[int] = set()

    def note(self, sign: int, number: int, now: float) -> None:
        self.seen = now
        if sign == Sign.TAKEN:
            self.rows.add(number)
        elif sign == Sign.DELETED:
            self.rows.discard(number)
        elif sign == Sign.BEGUN:
            self.busy.add(number)
            self.begun = now
        elif sign == Sign.ENDED:
            self.busy.discard(number)
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

    @property
    def occupied(self) -> bool:
        """No worker is free, so no task can begin."""
        return len(self.busy) >= self.workers

    def trouble(self, now: float) -> str:
        """Why the cluster must be started anew, or ""."""
        if self.occupied:
            # How long a task may take is django-q2's to watch (`timeout`).
            self.begun = now
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
        #: when it last gave a sign of life, whether before or after a restart
        self.heard: float | None = None
        #: early ends in a row
        self.failures = 0
        #: rows of the broker's table that clusters had taken when they were killed
        self.left: deque[int] = deque()
        self.start()

    def start(self) -> None:
        self.line = SupervisorsEnd()
        with self.line.theirs as theirs:
            environment = {**os.environ, "Q_CLUSTER_NAME": self.queue, lifeline.DESCRIPTOR: str(theirs.fileno())}
            command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker", "--cluster", "--skip-checks"]
            self.group = processes.Group(command, env=environment, keep_open=[theirs.fileno()])
        self.started = time.monotonic()
        own = settings.Q_CLUSTER["ALT_CLUSTERS"].get(self.queue, settings.Q_CLUSTER)
        self.signs = Signs(own["workers"], self.started)
        #: why it is given up, and when what it still does is waited for no longer
        self.verdict, self.kill_at = "", math.inf
        #: when it is to be started again; None while it runs
        self.start_at: float | None = None

    def listen(self) -> None:
        if self.start_at is None:
            for sign, number in self.line.signs():
                self.signs.note(sign, number, time.monotonic())
                self.heard = self.signs.seen

    def look_after(self, judge: bool) -> None:
        now = time.monotonic()
        if self.start_at is not None:
            if now >= self.start_at:
                self.start_again()
            return
        self.signs.forget_dead(self.group.holds)
        if self.group.ended:
            self.bury(self.verdict or "it has ended")
        elif self.verdict:
            if not self.signs.busy or now > self.kill_at:
                self.bury(self.verdict)
        elif not judge:
            self.signs.excuse(now)
        elif trouble := self.signs.trouble(now):
            self.give_up(trouble)
        elif self.signs.occupied:
            self.heard = now

    def give_up(self, reason: str) -> None:
        """Have its workers hand back what they hold; look_after() kills it soon."""
        self.verdict, self.kill_at = reason, time.monotonic() + HAND_BACK
        self.ask_to_stop()

    def bury(self, reason: str) -> None:
        """Kill what is left of it, and have it started again."""
        self.close()
        now = time.monotonic()
        self.failures = self.failures + 1 if now - self.started < SOON else 0
        delay = min(2**self.failures - 1, LONGEST_DELAY)
        self.restarts += 1
        self.start_at = now + delay
        logger.error("cluster %s is started anew in %s s: %s", self.queue, delay, reason)

    def start_again(self) -> None:
        try:
            self.start()
        except OSError as error:  # no memory, no process or file numbers left: perhaps soon
            logger.error("cluster %s cannot be started: %s", self.queue, error)
            self.line.close()
            self.start_at = time.monotonic() + LONGEST_DELAY

    def close(self) -> None:
        self.group.reap()
        self.listen()
        self.line.close()
        self.left.extend(self.signs.rows)

    def ask_to_stop(self) -> None:
        self.signs.seen = time.monotonic()
        if self.start_at is None:
            self.line.cut()
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


class Rounds(threading.Thread):
    """Does something every few seconds that may take long, since it speaks to the database."""

    every: float = ROUND

    def __init__(self) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self.bell = threading.Event()
        self.over = False

    def run(self) -> None:
        while not self.over:
            try:
                self.round()
            except Exception:  # the next round comes
                logger.exception("%s", self.name)
                connection.close()
            self.bell.wait(self.every)
            self.bell.clear()
        self.leave()
        connection.close()

    def round(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """The last thing it does."""

    def finish(self) -> None:
        self.over = True
        self.bell.set()


class Ticks(Rounds):
    """And in between, when a relay has rested: what a quota lets through in a minute leaves in its first moments."""

    def __init__(self) -> None:
        super().__init__()
        self.next = 0.0

    def round(self) -> None:
        whole = time.monotonic() >= self.next
        if whole:
            self.next = time.monotonic() + ROUND
        for path in schedule.TICKS if whole else ["mailhub.delivery.tasks.wake_rested"]:
            try:
                import_string(path)()
            except DatabaseError as error:
                logger.warning("%s: %s", path, error)
                connection.close()
            except Exception:  # the others must not suffer
                logger.exception("%s", path)
        self.every = max(self.next - time.monotonic(), 0)
        try:
            self.every = workers.rested_in(self.every)
        except DatabaseError:
            connection.close()


class Posting(Rounds):
    """Posts webhooks: here, and not by a task, so that no other task keeps them waiting."""

    every = 2

    def round(self) -> None:
        try:
            posting.post_due(lambda: not self.over)
        except DatabaseError as error:
            logger.warning("webhooks wait: %s", error)
            connection.close()


class Listening(Rounds):
    """Has a thread listen at each mailbox whose server tells what arrives. Between its rounds it holds no connection to the database."""

    every = 30

    def __init__(self) -> None:
        super().__init__()
        self.listeners = idle.Listeners()

    def round(self) -> None:
        try:
            self.listeners.follow()
        except DatabaseError as error:
            logger.warning("mailboxes are listened at as before: %s", error)
        finally:
            connection.close()

    def leave(self) -> None:
        self.listeners.finish()


class Register(Rounds):
    """Keeps the rows of the supervisor's clusters, and knows thereby whether the database answers."""

    def __init__(self, node: str, clusters: list[Cluster]) -> None:
        super().__init__()
        self.node = node
        self.clusters = clusters
        self.stopping = False
        self.installed = False
        #: when the database last answered
        self.reached = -math.inf
        self.away = False

    @property
    def in_touch(self) -> bool:
        """The database answered not long ago."""
        return time.monotonic() - self.reached < OUT_OF_TOUCH

    def round(self) -> None:
        try:
            self.write()
            self.release()
            if not self.installed:
                schedule.install()
                self.installed = True
        except DatabaseError as error:
            self.lost(error)
        else:
            self.found()

    def write(self) -> None:
        """Tell what is known of the clusters, and forget supervisors that are long gone."""
        now = clock.now()
        present = time.monotonic()
        rows = [
            Worker(
                node=self.node,
                queue=cluster.queue,
                started_at=now - timedelta(seconds=present - cluster.started),
                beat_at=now - timedelta(seconds=present - cluster.heard),
                stopping=self.stopping,
                restarts=cluster.restarts,
            )
            for cluster in self.clusters
            if cluster.heard is not None
        ]
        Worker.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["node", "queue"],
            update_fields=["started_at", "beat_at", "stopping", "restarts"],
        )
        Worker.objects.filter(beat_at__lt=now - FORGET).exclude(node=self.node).delete()

    def release(self) -> None:
        for cluster in self.clusters:
            rows = list(cluster.left)
            brokers.release(rows)
            for _row in rows:
                cluster.left.popleft()

    def lost(self, error: DatabaseError) -> None:
        self.reached = -math.inf
        connection.close()
        if not self.away:
            logger.error("the database does not answer: %s", error)
            self.away = True

    def found(self) -> None:
        self.reached = time.monotonic()
        if self.away:
            logger.warning("the database answers again")
            self.away = False

    def leave(self) -> None:
        try:
            self.release()
            Worker.objects.filter(node=self.node).delete()
        except DatabaseError as error:
            logger.warning("the rows of %s stay behind: %s", self.node, error)


class Supervisor:
    def __init__(self, node: str = "") -> None:
        #: how often it was asked to stop
        self.stops = 0
        self.clusters: list[Cluster] = []
        self.register = Register(node or f"{socket.gethostname()}:{os.getpid()}", self.clusters)
        self.ticks = Ticks()
        self.listening = Listening()
        self.posting = Posting()

    def run(self) -> None:
        """Work until SIGTERM, SIGINT or SIGHUP; a second one cuts the stopping short. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self.asked_to_stop)
        self.clusters.extend(Cluster(queue) for queue in workers.QUEUES)
        self.register.start()
        self.ticks.start()
        self.listening.start()
        self.posting.start()
        while not self.stops:
            time.sleep(LOOK_EVERY)
            self.look()
        self.stop()

    def asked_to_stop(self, *args: object) -> None:
        self.stops += 1

    def look(self) -> None:
        judge = self.register.in_touch
        for cluster in self.clusters:
            cluster.listen()
            cluster.look_after(judge)
            if cluster.left:
                self.register.bell.set()

    def stop(self) -> None:
        logger.info("stopping: what is in flight is finished, the rest is handed back")
        self.ticks.finish()
        self.listening.finish()
        self.posting.finish()
        self.register.stopping = True
        self.register.bell.set()
        for cluster in self.clusters:
            cluster.ask_to_stop()
        deadline = time.monotonic() + GRACE
        left = list(self.clusters)
        while left:
            time.sleep(LOOK_EVERY)
            at_once = self.stops > 1 or time.monotonic() > deadline
            left = [cluster for cluster in left if not cluster.stopped(at_once)]
        self.register.finish()
        self.register.join(timeout=10)
        # The post that is under way; one that is cut off is posted again.
        self.posting.join(timeout=1 if self.stops > 1 else posting.TIMEOUT)
