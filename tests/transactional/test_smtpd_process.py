"""`manage.py smtpd` as processes of its own: killed, stopped, side by side, and without a database."""

from __future__ import annotations

import os
import random
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tests.installation import LONG, Installation, free_ports, installed, until
from tests.transactional.listener import HOST, Client, envelope, hand_in, trusting

pytestmark = pytest.mark.once

SETTING_UP = """
from mailhub.senders.models import Sender
from transactional.models import Credential, Project
sender = Sender.objects.create(email="shop@example.com")
sender.confirm()
project = Project.objects.create(name="Tea shop")
project.senders.add(sender)
credential = Credential(project=project, name="production", kind="smtp")
secret = credential.issue()
credential.save()
print(credential.prefix, secret)
"""


class Site:
    """A MailHub of its own, and what a site needs to hand mail in."""

    def __init__(self, installation: Installation, certificate: str) -> None:
        self.installation = installation
        self.port, self.tls_port = free_ports(2)
        self.environment = {
            **installation.environment,
            "MAILHUB_SMTPD_CERTIFICATE": certificate,
            "MAILHUB_SMTPD_PORT": str(self.port),
            "MAILHUB_SMTPD_TLS_PORT": str(self.tls_port),
        }
        self.log = installation.folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.user, self.password = self.manage("shell", "-v0", "-c", SETTING_UP).split()

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout  # noqa: S603

    def start(self) -> subprocess.Popen[bytes]:
        """Returns once it takes mail in."""
        said = self.told()
        with self.log.open("ab") as log:
            command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "smtpd"]
            process = subprocess.Popen(command, env=self.environment, stderr=log)  # noqa: S603
        self.processes.append(process)
        until(lambda: self.told() > said or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()
        return process

    def told(self) -> int:
        """How often one has said that it listens."""
        return self.log.read_text().count("taking mail in") if self.log.exists() else 0

    def client(self) -> smtplib.SMTP_SSL:
        client = smtplib.SMTP_SSL(HOST, self.tls_port, local_hostname="web1.example", timeout=60, context=trusting())
        try:
            client.login(self.user, self.password)
        except BaseException:
            client.close()
            raise
        return client

    def talk(self) -> Client:
        client = Client(self.tls_port, tls=True)
        client.hear()
        client.say("EHLO web1.example")
        assert client.log_in(self.user, self.password).startswith("235 ")
        return client

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.installation.rows(sql, *parameters)

    def count(self, table: str) -> int:
        found: int = self.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608
        return found


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any, certificate: str) -> Iterator[Site]:
    with installed("smtpd", tmp_path_factory.mktemp("site"), django_db_blocker) as installation:
        yield Site(installation, certificate)


@pytest.fixture
def site(set_up: Site) -> Iterator[Site]:
    """Without a mail and without a process."""
    environment = dict(set_up.environment)
    try:
        yield set_up
    finally:
        for process in set_up.processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        set_up.processes.clear()
        set_up.environment = environment
        if set_up.log.exists():
            sys.stderr.write(set_up.log.read_text())
            set_up.log.unlink()
        with set_up.installation.connection.cursor() as cursor:
            for table in ("delivery_message", "transactional_submission", "delivery_content"):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608


def mail(number: int) -> bytes:
    named = b"Date: Wed, 25 Nov 2026 12:00:00 +0900\r\nMessage-ID: <%d@shop.example>\r\n" % number
    return named + b"From: Tea <shop@example.com>\r\nTo: a@example.net\r\nSubject: Order %d\r\n\r\nThank you.\r\n" % number


class Sending(threading.Thread):
    """A site that hands in its mails one after the other, and tries each again until it hears 250."""

    def __init__(self, site: Site, numbers: range) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.numbers = numbers
        self.answered: Counter[int] = Counter()
        self.tries: Counter[int] = Counter()

    def run(self) -> None:
        with ExitStack() as stack:
            client = None
            for number in self.numbers:
                while not self.answered[number]:
                    self.tries[number] += 1
                    try:
                        if client is None:
                            client = self.site.client()
                            stack.callback(client.close)
                        assert client.sendmail("shop@example.com", [f"a{number}@example.net", f"b{number}@example.net"], mail(number)) == {}
                    except (smtplib.SMTPException, OSError):
                        stack.close()
                        client = None
                        time.sleep(0.05)
                    else:
                        self.answered[number] += 1


def test_every_mail_that_was_answered_250_is_there_once_and_none_half_however_often_it_is_killed(site: Site) -> None:
    began = datetime.now(UTC).date()
    sites = [Sending(site, range(begin, begin + 60)) for begin in range(0, 240, 60)]
    process = site.start()
    for each in sites:
        each.start()
    for part in (40, 110, 180):
        until(lambda part=part: sum(each.answered.total() for each in sites) >= part)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.wait()
        process = site.start()
    for each in sites:
        each.join(LONG)
        assert not each.is_alive()
    answered = Counter[int]()
    for each in sites:
        answered += each.answered
    assert answered == Counter(range(240))
    kept = Counter(dict(site.rows("SELECT subject, count(*) FROM delivery_content GROUP BY subject")))
    assert set(kept) == {f"Order {number}" for number in range(240)}
    # A reply that got lost with the process has its mail sent again, and that is seen: at any hour but midnight (UTC).
    assert kept.total() == 240 or datetime.now(UTC).date() != began
    halves = "SELECT content_id, count(*) FROM delivery_message GROUP BY content_id HAVING count(*) <> 2"
    assert site.rows(halves) == []
    assert site.count("delivery_content") == site.count("transactional_submission") == site.count("delivery_message") / 2 == kept.total()


def test_asked_to_stop_it_finishes_the_mail_at_hand_and_takes_no_other(site: Site) -> None:
    process = site.start()
    with site.talk() as busy, site.talk() as idle:
        assert hand_in(idle).startswith("250 ")
        envelope(busy)
        busy.send(mail(1))
        # It has come in before the signal goes out.
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert idle.hear().startswith("421 4.3.2 ") and idle.hear() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, site.tls_port))
        assert process.poll() is None
        assert busy.say(".").startswith("250 2.0.0 ")
        assert busy.hear().startswith("421 4.3.2 ") and busy.hear() == ""
    assert process.wait(LONG) == 0
    assert site.count("delivery_message") == 2


def test_a_second_signal_does_not_wait(site: Site) -> None:
    process = site.start()
    with site.talk() as busy:
        envelope(busy)
        process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in site.log.read_text())
        process.send_signal(signal.SIGTERM)
        assert busy.hear() == ""
    assert process.wait(LONG) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not share the connections out")
def test_several_share_the_ports_and_one_may_go(site: Site) -> None:
    first, second = site.start(), site.start()

    def served(process: subprocess.Popen[bytes]) -> bool:
        """It has connections of its own."""
        links = Path(f"/proc/{process.pid}/fd").iterdir()
        sockets = {os.readlink(link) for link in links}
        established = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return any(
            f"socket:[{line[9]}]" in sockets and line[3] == "01" and line[1].endswith(f":{site.tls_port:04X}") for line in established
        )

    clients = [site.talk() for _ in range(40)]
    try:
        assert served(first) and served(second)
        assert all(hand_in(client).startswith("250 ") for client in clients)
    finally:
        for client in clients:
            client.socket.close()
    first.send_signal(signal.SIGTERM)
    assert first.wait(LONG) == 0
    for _ in range(10):
        with site.talk() as client:
            assert hand_in(client).startswith("250 ")
    assert site.count("delivery_message") == 50


@pytest.mark.skipif("postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="a file is never away")
def test_while_the_database_is_away_mail_is_put_off_and_then_taken(site: Site, django_db_blocker: Any) -> None:
    site.start()
    name = site.installation.connection.settings_dict["NAME"]

    def let_in(allowed: bool) -> None:
        site.installation.connection.close()
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(allowed).lower()}")
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    with site.talk() as client:
        assert hand_in(client).startswith("250 ")
        envelope(client)
        let_in(False)
        client.send(mail(1))
        assert client.say(".").startswith("451 4.3.0 ")
        with Client(site.tls_port, tls=True) as other:
            other.hear()
            other.say("EHLO a.example")
            assert other.log_in(site.user, site.password).startswith("454 4.7.0 ")
        let_in(True)
        assert hand_in(client).startswith("250 ")
    assert site.count("delivery_message") == site.count("transactional_submission") == 2


@pytest.mark.parametrize("setting", ["MAILHUB_SMTPD_PORT", "MAILHUB_SMTPD_TLS_PORT"])
def test_a_port_that_another_program_has_is_told_with_the_remedy(site: Site, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        site.environment[setting] = port
        with pytest.raises(subprocess.CalledProcessError) as caught:
            site.manage("smtpd")
    assert caught.value.returncode == 1
    assert port in caught.value.stderr and "is taken. Choose" in caught.value.stderr


@pytest.mark.parametrize("path", ["", "/nowhere/certificate.pem"])
def test_without_a_certificate_it_does_not_start_in_production(site: Site, path: str) -> None:
    site.environment |= {"DEBUG": "false", "MAILHUB_SMTPD_CERTIFICATE": path}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        site.manage("smtpd")
    assert caught.value.returncode == 1
    assert (path or "Set MAILHUB_SMTPD_CERTIFICATE") in caught.value.stderr


def test_no_password_and_no_mail_stands_in_its_log(site: Site) -> None:
    site.start()
    with site.talk() as client:
        assert hand_in(client).startswith("250 ")
        # A client that has lost its place says its password where a command should be.
        client.say(site.password)
    with Client(site.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        client.log_in(site.user, f"{site.password}x")
    until(lambda: "failed to log in" in site.log.read_text())
    log = site.log.read_text()
    assert site.user in log
    assert site.password not in log and site.password.upper() not in log and "Thank you" not in log and "a@example.net" not in log
