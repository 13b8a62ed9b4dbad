"""A MailHub with a database of its own, servers that misbehave as told, and workers to kill."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import environ
from django.conf import settings
from django.db import connection, connections
from django.db.utils import ConnectionHandler

from mailhub.delivery import engine, queue
from mailhub.delivery.models import OPEN, Lease, Message
from mailhub.lib import clock
from mailhub.relays.models import Parking, Relay, Slowdown, Stream
from mailhub.senders.models import Sender
from tests.delivery import world
from tests.faults.drains import Options
from tests.faults.postgresql import Cluster
from tests.faults.tally import TOTAL, Tally
from tests.installation import until
from tests.smtp_server import Connection, Hangup, Reply, SMTPServer
from tests.test_worker import Supervised
from transactional.models import Template

HERE = Path(__file__).parent
# States in which MailHub says that a server has the mail, and in which it says that none has it.
GONE = {"sent", "delivered", "complained"}
KEPT = {"failed", "suppressed", "canceled"}


class Nursery:
    """Starts workers without their cluster, and sites that hand mail in (drains.py)."""

    def __init__(self, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            # Of none of the tests.
            "DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing",
            "DEBUG": "true",
            "SECRET_KEY": settings.SECRET_KEY,
            "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
            "DJANGO_SETTINGS_MODULE": "mailhub.settings",
            "PYTHONPATH": str(settings.BASE_DIR),
        }
        with log.open("ab") as errors:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, str(HERE / "drains.py")],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            )  # fmt: skip

    def start(self, options: Options) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(asdict(options)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Hub:
    def __init__(self, cluster: Cluster, name: str, nursery: Nursery, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.nursery = nursery
        self.url = f"{cluster.url}/{name}"
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.environment = {
            **os.environ,
            "DATABASE_URL": self.url,
            "DEBUG": "true",
            "SECRET_KEY": settings.SECRET_KEY,
            "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
        }
        self.connection = self.connect()
        self.ends = ExitStack()
        self.servers: list[SMTPServer] = []
        self.workers: set[int] = set()
        self.kills = 0
        self.said = nursery.log.stat().st_size

    # -- the database

    def connect(self) -> Any:
        """For the thread that calls it."""
        return ConnectionHandler({"default": environ.Env.db_url_config(self.url)})["default"]

    def hang_up_soon(self) -> None:
        """Have the database wait for workers that it has started from now on no longer than 2 s (mailhub/settings.py: a minute)."""
        self.url += "?options=-c%20idle_in_transaction_session_timeout%3D2s"

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def crash_database(self) -> None:
        self.kills += 1
        self.cluster.crash()
        connection.close()

    @contextmanager
    def database_refuses(self, table: str, what: str = "INSERT OR UPDATE", *, at_commit: bool = False) -> Iterator[None]:
        """Every such change fails, at once or when its transaction commits, as on a disk that is full."""
        self.rows(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
        )
        if at_commit:
            self.rows(f"CREATE CONSTRAINT TRIGGER refuse AFTER {what} ON {table} DEFERRABLE INITIALLY DEFERRED"
                      " FOR EACH ROW EXECUTE FUNCTION refuse()")  # fmt: skip
        else:
            self.rows(f"CREATE TRIGGER refuse BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
        try:
            yield
        finally:
            self.rows(f"DROP TRIGGER refuse ON {table}")

    # -- servers and senders

    def server(self, **options: Any) -> SMTPServer:
        server = self.ends.enter_context(SMTPServer(**options))
        self.servers.append(server)
        return server

    def relay(self, server: SMTPServer, *, connections: int = 6, password: str = "", **options: object) -> Relay:
        where = {"host": server.host, "port": server.port, "security": "none"}
        secrets = {"password": password} if password else {}
        return world.make_relay(kind="smtp", options={**where, **options}, secrets=secrets, max_connections=connections, first_retry=1)

    def shop(self, *relays: Relay) -> Sender:
        """A sender whose mail of both kinds goes through these."""
        for stream in Stream:
            world.make_route(*relays, default_for=stream)
        words = {"subject": "Your order", "source": "<p>Dear {{ name }}, thank you.</p>", "sample": {"name": "Taro"}}
        Template.objects.create(key="order", language="en", **words).publish(None)
        return world.make_sender("shop@tea.example")

    # -- workers

    def start(self, **options: Any) -> int:
        """A worker without its cluster; its process number."""
        pid = self.nursery.start(Options(url=self.url, **options))
        self.workers.add(pid)
        return pid

    def manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]

    def supervised(self) -> Supervised:
        """A `manage.py worker`, at work."""
        supervised = Supervised(self)  # type: ignore[arg-type]
        self.ends.callback(self.bury, supervised)
        until(lambda: len(supervised.rows()) == 3)
        return supervised

    def bury(self, supervised: Supervised) -> None:
        for process in [supervised.process, *supervised.process.descendants, *supervised.everyone]:
            if process.lives:
                process.kill()
        supervised.command.wait()

    def kill(self, pid: int) -> None:
        self.kills += 1
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.workers.discard(pid)

    def kill_all(self) -> None:
        """Counted are those that were at work."""
        before, at_work = self.kills, Lease.objects.filter(expires_at__gt=clock.now()).count()
        for pid in list(self.workers):
            self.kill(pid)
        self.kills = before + max(at_work, 1)
        self.leases_run_out()

    def dismiss(self) -> None:
        """End workers that have nothing left to do."""
        until(lambda: not Lease.objects.filter(messages__isnull=False).exists())
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)
        self.workers.clear()

    # -- time

    def leases_run_out(self) -> None:
        """As they do half a minute after a worker has died."""
        Lease.objects.update(expires_at=clock.now())

    def time_passes(self) -> None:
        """What is deferred is due, and relays and destinations have rested."""
        now = clock.now()
        Parking.objects.filter(until__gt=now).update(until=now)
        Slowdown.objects.all().delete()
        Message.objects.filter(status="deferred").update(next_attempt_at=now)
        Relay.objects.exclude(resting_until=None).update(resting_until=now)

    def settled(self) -> bool:
        self.time_passes()
        # What came back after its batch was cancelled: the tick's business.
        for batch in queue.canceled():
            queue.withdraw_some(batch)
        return not Message.objects.filter(status__in=OPEN).exists()

    def finish(self, seconds: float = 60) -> None:
        """A worker hands over what is left, however often it has to be tried."""
        if not self.workers:
            self.start()
        until(self.settled, seconds)
        self.dismiss()

    # -- books

    def copies(self) -> Counter[str]:
        """What all servers took, by Message-ID."""
        return Counter(mail.message_id.strip("<>") for server in self.servers for mail in server.mails)

    def reckon(self, cut: int = 0) -> Tally:
        """Hold what MailHub believes against what the servers have, and assert the promise. `cut`: how many mails were taken, or not, by
        a server that did not say so."""
        copies = self.copies()
        tally = Tally(kills=self.kills)
        false = []
        for message in Message.objects.select_related("content"):
            count = copies.pop(message.message_id, 0)
            tally.accepted += 1
            tally.lost += message.status in GONE and not count
            tally.unknown += message.status == "unknown"
            tally.stuck += message.status in OPEN
            if message.stream == Stream.CAMPAIGN:
                tally.doubled_campaign += count > 1
            else:
                tally.doubled_transactional += count > 1
                assert count < 3, f"{message} arrived {count} times"
                assert count < 2 or message.repeated, f"{message} arrived twice without need"
            if message.status in KEPT and count:
                false.append(str(message))
        TOTAL.add(tally)
        sys.stderr.write(f"seed {self.seed}: {tally}\n")
        assert not tally.lost
        assert not tally.doubled_campaign
        assert not tally.stuck
        assert tally.unknown <= self.kills * engine.WINDOW + cut
        assert not false, f"they arrived: {false}"
        assert not copies, f"servers took what nobody accepted: {copies}"
        world.books()
        return tally

    def __enter__(self) -> Hub:
        self.usual = connections["default"]
        connections["default"] = self.connection
        return self

    def __exit__(self, *args: object) -> None:
        for pid in self.workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.ends.close()
        self.connection.close()
        connections["default"] = self.usual
        sys.stderr.write(self.nursery.log.read_bytes()[self.said :].decode())
        for log in sorted(self.folder.glob("log-*")):
            sys.stderr.write(log.read_text())

    @contextmanager
    def meanwhile(self, work: Callable[[], None]) -> Iterator[None]:
        """`work` again and again in a thread with a connection of its own, while the block runs."""
        over = threading.Event()
        errors: list[BaseException] = []

        def run() -> None:
            connections["default"] = self.connect()
            try:
                while not over.is_set():
                    work()
            except BaseException as error:  # noqa: BLE001  told below
                errors.append(error)
            finally:
                connections["default"].close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if errors:
            raise errors[0]


# -------------------------------------------------------------------------------------------------------------------- killing


@dataclass
class Kill:
    """Kill the worker at the other end, and hang up."""

    hub: Hub
    #: answer as usual first, and wait so many seconds
    once_answered: float | None = None
    code: int | None = None

    async def perform(self, connection: Connection, usual: Reply) -> int | None:
        if self.once_answered is not None:
            await connection.write(usual.wire)
            await asyncio.sleep(self.once_answered)
        pid = owner(connection.peer[1])
        assert pid in self.hub.workers
        self.hub.kill(pid)
        raise Hangup


def owner(port: int) -> int:
    """The process that speaks from this port of the loopback interface."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            wanted = f"socket:[{fields[9]}]"
            for link in Path("/proc").glob("[0-9]*/fd/*"):
                with suppress(OSError):
                    if os.readlink(link) == wanted:
                        return int(link.parts[2])
    raise AssertionError(f"nobody speaks from port {port}")
