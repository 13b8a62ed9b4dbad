"""Workers killed with SIGKILL in the middle of a campaign, with single mails in between, against a server that counts.

What the server logged is what happened: it writes each mail down before it answers.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from mailhub.delivery import engine, queue
from mailhub.delivery.models import OPEN, Batch, Lease, Message
from mailhub.lib import clock
from mailhub.relays.models import Relay, Stream
from mailhub.senders.models import Sender
from tests.delivery import world
from tests.installation import installed, until
from tests.test_worker import Site, Supervised

HERE = Path(__file__).parent
# So many that some are left for each of the drains, whatever becomes unknown with those before it.
RECIPIENTS = 600
# Of 6 connections bulk mail has 5. At 15 ms a mail they take some 300 a second.
CONNECTIONS, DELAY = 6, 0.015
# What may be unknown after a kill: on the connections, in line for them (two each, or a tenth of a second's), and not settled yet (a tenth
# of a second, and as long as storing took).
UNKNOWN = CONNECTIONS + 30 + 60


class Server:
    """tests/smtp_server.py as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "mails.jsonl"
        self.log.touch()
        command = [sys.executable, str(HERE.parent / "smtp_server.py"), "--log", str(self.log), "--delay", "dot", str(DELAY)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def taken(self) -> Counter[str]:
        """Message-IDs of the mails that it took."""
        return Counter(json.loads(line)["message_id"].strip("<>") for line in self.log.read_text().splitlines())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def site(django_db_setup: None, django_db_blocker: Any, tmp_path: Path) -> Iterator[Site]:
    """With a database of its own, to which Django speaks in the test as well."""
    with installed("kill", tmp_path, django_db_blocker) as installation, django_db_blocker.unblock():
        site = Site(installation)
        usual = connections["default"]
        connections["default"] = site.connection
        try:
            yield site
        finally:
            connections["default"] = usual


@pytest.fixture
def relay(site: Site, server: Server) -> Relay:
    options = {"host": "127.0.0.1", "port": server.port, "security": "none"}
    relay = Relay.objects.create(name="Counted", kind="smtp", options=options, max_connections=CONNECTIONS)
    for stream in Stream:
        world.make_route(relay, default_for=stream)
    return relay


@pytest.fixture
def sender(relay: Relay) -> Sender:
    return world.make_sender("shop@tea.example")


@contextmanager
def drains(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A process that drains, killed at the end of the block."""
    environment = {**site.environment, "DJANGO_SETTINGS_MODULE": "mailhub.settings", "PYTHONPATH": str(settings.BASE_DIR)}
    with (site.folder / "drain.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(HERE / "drain_process.py")], env=environment, stderr=log)  # noqa: S603
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def leases_run_out() -> None:
    """As they do by themselves, half a minute after a worker has died."""
    Lease.objects.update(expires_at=clock.now())


def settled() -> bool:
    return not Message.objects.filter(status__in=OPEN).exists()


def assert_promise_kept(server: Server, kills: int) -> None:
    taken = server.taken()
    messages = list(Message.objects.select_related("content"))
    counts = {message.pk: taken[message.message_id] for message in messages}
    campaign = [message for message in messages if message.stream == Stream.CAMPAIGN]
    single = [message for message in messages if message.stream == Stream.TRANSACTIONAL]
    world.books()
    assert sum(taken.values()) == sum(counts.values()), "the server took mails that nobody accepted"
    # Nothing is lost, and nothing is believed to have left that has not.
    assert {message.status for message in messages} <= {"sent", "unknown"}
    assert all(counts[message.pk] for message in messages if message.status == "sent")
    # A campaign's mail leaves once at most.
    assert max(counts[message.pk] for message in campaign) == 1
    unknown = [message for message in campaign if message.status == "unknown"]
    assert len(unknown) <= kills * UNKNOWN
    # Single mails leave, at the price of leaving twice when it is not known whether they did.
    assert all(1 <= counts[message.pk] <= 2 for message in single)
    assert all(counts[message.pk] == 1 for message in single if not message.repeated)
    doubled = sum(counts[message.pk] == 2 for message in single)
    arrived = sum(counts[message.pk] for message in unknown)
    sys.stderr.write(f"{kills} kills: {len(unknown)} unknown, of which {arrived} had arrived; {doubled} single mails twice\n")


def test_killed_drains_lose_nothing_and_double_no_campaign_mail(site: Site, server: Server, sender: Sender) -> None:
    chance = random.Random(1)
    batch = world.make_batch(sender, RECIPIENTS)
    points = sorted(chance.sample(range(5, RECIPIENTS // 3), 5))
    sys.stderr.write(f"killed when the server has about {points} mails\n")
    for point in points:
        with drains(site):
            until(lambda point=point: server.taken().total() >= point)
            world.post(sender, 6)
            # Some of them are through by then, and some are on their way.
            seen = server.taken().total()
            more = chance.randint(8, 35)
            until(lambda seen=seen, more=more: server.taken().total() >= seen + more)
        assert Lease.objects.exists(), "it was not at work when it was killed"
        leases_run_out()
    with drains(site):
        until(lambda: not Message.objects.filter(status__in=OPEN, repeated=False).exists())
        Message.objects.filter(status="deferred").update(next_attempt_at=clock.now())
        until(settled)
    assert_promise_kept(server, kills=len(points))
    batch.refresh_from_db()
    assert batch.status == "done"


@pytest.mark.once
def test_a_killed_worker_is_made_up_for_by_the_next(site: Site, server: Server, sender: Sender) -> None:
    """The real ones, and nobody helps: leases run out by themselves, and the tick finds what nobody was woken for."""
    first = Supervised(site)
    try:
        first.remember()
        world.make_batch(sender, RECIPIENTS)
        world.post(sender, 5)
        until(lambda: server.taken().total() >= RECIPIENTS // 3)
        # The one that drains is killed first, while the supervisor looks on; then everybody.
        everyone = first.process.descendants
        until(lambda: Lease.objects.exists())
        for process in [*everyone, first.process]:
            if process.lives:
                process.kill()
        first.command.wait()
        assert not settled()
        held = Message.objects.filter(status="claimed").count()
        second = Supervised(site)
        try:
            # A lease is 30 s long, a repetition waits for another 60.
            until(settled, seconds=180)
        finally:
            second.command.terminate()
            second.command.wait()
            sys.stderr.write(second.log.read_text())
    finally:
        for process in [first.process, *first.everyone]:
            if process.lives:
                process.kill()
    sys.stderr.write(f"{held} messages were held by the dead\n")
    assert_promise_kept(server, kills=1)
    assert Batch.objects.get().status == "done"
    assert queue.reap() == 0
    assert engine.WINDOW >= UNKNOWN
