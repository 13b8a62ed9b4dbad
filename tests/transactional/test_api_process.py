"""Real servers, killed while sites hand mail in and try again: what was answered is there, once for each idempotency key.

`make kills` does it with 5,000 mails over HTTP and 5,000 over SMTP, has workers hand them over, and counts what arrives."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests

from mailhub import run
from tests.installation import LONG, Installation, free_ports, installed, until
from tests.smtp_server import SMTPServer
from tests.transactional.test_smtpd_process import Sending
from tests.transactional.test_smtpd_process import Site as Listening

pytestmark = pytest.mark.once

MAILS = int(os.environ.get("KILLS_MAILS", "60"))
# How often each server is killed.
KILLS = max(10, MAILS // 100) if "KILLS_MAILS" in os.environ else 2
CLIENTS = 4
SETTING_UP = """
from mailhub.relays.models import Relay, Route, RouteMember
from mailhub.senders.models import Sender
from transactional.models import Credential, Project
relay = Relay.objects.create(name="Receiver", kind="smtp", options={"host": "127.0.0.1", "port": PORT, "security": "none"})
RouteMember.objects.create(route=Route.objects.create(name="All", default_for="transactional"), relay=relay)
key = Credential(project=Project.objects.get(), name="web", kind="api_key", scopes=["send"])
secret = key.issue()
key.save()
print(secret)
"""


class Site:
    """A MailHub with both doors, and a mail server to hand over to."""

    def __init__(self, installation: Installation, certificate: str) -> None:
        self.smtp = Listening(installation, certificate)
        self.installation = installation
        self.port, self.receiver = free_ports(2)
        self.environment = {**self.smtp.environment, "MAILHUB_API_RATE": "0", "MAILHUB_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8"}
        self.secret = self.smtp.manage("shell", "-v0", "-c", SETTING_UP.replace("PORT", str(self.receiver))).strip()

    @contextmanager
    def started(self, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(command, env=self.environment, start_new_session=True)  # noqa: S603
        try:
            yield process
        finally:
            kill(process)

    def web(self) -> subprocess.Popen[bytes]:
        """Returns once it answers."""
        process = subprocess.Popen(run.web(self.port), env=self.environment, start_new_session=True, stderr=subprocess.DEVNULL)  # noqa: S603
        until(lambda: self.answers() or process.poll() is not None)
        assert process.poll() is None
        return process

    def answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).ok
        return False

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.installation.rows(sql)

    def hand_over(self) -> Counter[str]:
        """Have workers hand over all that waits; how often each recipient's mail has arrived since they began."""
        with SMTPServer(port=self.receiver) as server, self.started(run.working()):
            until(lambda: not self.rows("SELECT 1 FROM delivery_message WHERE status <> 'sent' LIMIT 1"), 10 * LONG)
            return server.by_recipient()


def kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started, where it has a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


class Posting(threading.Thread):
    """A site that hands in its mails one after the other, and tries each again until it hears 202."""

    def __init__(self, site: Site, numbers: range) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.numbers = numbers
        self.answered: Counter[int] = Counter()
        self.tries: Counter[int] = Counter()
        #: the mail's id, by number
        self.ids: dict[int, str] = {}

    def run(self) -> None:
        session = requests.Session()
        for number in self.numbers:
            mail = {"from": "shop@example.com", "to": [f"a{number}@example.net"], "subject": f"Order {number}", "text": "Thank you."}
            headers = {"Authorization": f"Bearer {self.site.secret}", "Idempotency-Key": f"order-{number}"}
            while not self.answered[number]:
                self.tries[number] += 1
                try:
                    answer = session.post(f"http://127.0.0.1:{self.site.port}/api/v1/messages", json=mail, headers=headers, timeout=30)
                except requests.RequestException:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 202:
                    self.answered[number] += 1
                    self.ids[number] = answer.json()["id"]
                else:
                    assert answer.status_code in (502, 503), answer.text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any, certificate: str) -> Iterator[Site]:
    with installed("kills", tmp_path_factory.mktemp("kills"), django_db_blocker) as installation:
        yield Site(installation, certificate)


def killed_while(sites: list[Any], start: Any, least: int) -> int:
    """How often the server was killed: `least` times, at moments that nobody chose, while the sites hand in their mails."""
    process = start()
    kills = 0
    try:
        for each in sites:
            each.start()
        total = sum(len(each.numbers) for each in sites)
        for part in range(1, least + 1):
            until(lambda part=part: sum(each.answered.total() for each in sites) >= total * part // (least + 1), 10 * LONG)
            time.sleep(random.uniform(0, 0.05))
            kill(process)
            kills += 1
            process = start()
        for each in sites:
            each.join(10 * LONG)
            assert not each.is_alive()
    finally:
        kill(process)
    return kills


def shares(count: int) -> list[range]:
    return [range(begin, count, CLIENTS) for begin in range(CLIENTS)]


def test_every_mail_answered_202_is_there_once_however_often_the_server_is_killed(site: Site) -> None:
    posting = [Posting(site, numbers) for numbers in shares(MAILS)]
    kills = killed_while(posting, site.web, KILLS)
    answered = sum((each.answered for each in posting), Counter())
    assert answered == Counter(range(MAILS))
    kept = dict(site.rows("SELECT address, count(*) FROM delivery_message GROUP BY address"))
    assert kept == {f"a{number}@example.net": 1 for number in range(MAILS)}
    told = {told.replace("-", "") for each in posting for told in each.ids.values()}
    assert told == {str(row[0]).replace("-", "") for row in site.rows("SELECT public_id FROM delivery_content")}
    if "KILLS_MAILS" in os.environ:
        arrived = site.hand_over()
        tries = sum((each.tries for each in posting), Counter()).total()
        tell("http", kills, tries, arrived, {f"a{number}@example.net" for number in range(MAILS)})
        assert arrived == Counter(kept)


@pytest.mark.skipif("KILLS_MAILS" not in os.environ, reason="test_smtpd_process.py does it with fewer")
def test_every_mail_answered_250_arrives_however_often_the_server_is_killed(site: Site) -> None:
    sending = [Sending(site.smtp, numbers) for numbers in shares(MAILS)]
    kills = killed_while(sending, site.smtp.start, KILLS)
    answered = sum((each.answered for each in sending), Counter())
    assert answered == Counter(range(MAILS))
    arrived = site.hand_over()
    tries = sum((each.tries for each in sending), Counter())
    tell("smtp", kills, tries.total(), arrived, {f"{who}{number}@example.net" for number in range(MAILS) for who in "ab"})
    # A reply that got lost with the server has its mail sent again, which is seen on the same day: see `doubled`.
    assert all(1 <= arrived[f"{who}{number}@example.net"] <= tries[number] for number in range(MAILS) for who in "ab")


def tell(door: str, kills: int, tries: int, arrived: Counter[str], wanted: set[str]) -> None:
    figures = {
        "door": door,
        "answered": MAILS,
        "kills": kills,
        "tries": tries,
        "recipients": len(wanted),
        "lost": len(wanted - set(arrived)),
        "doubled": sum(count - 1 for count in arrived.values()),
    }
    sys.stdout.write(f"\n{json.dumps(figures)}\n")
