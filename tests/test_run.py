"""`manage.py run` with everything that it starts, on a database and ports of its own."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from mailhub.demo import sample
from mailhub.run import Together
from tests.installation import LONG, free_ports, installed, until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif("postgresql" in settings.DATABASES["default"]["ENGINE"], reason="walks what a fresh machine has: SQLite"),
]


def parents() -> dict[int, int]:
    """The parent of each process that lives."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                state, parent, *_rest = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                found[int(path.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    everyone = parents()
    found = {pid}
    while more := {child for child, parent in everyone.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    return pids & parents().keys()


def manage(*arguments: object) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *map(str, arguments)]


def surroundings(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DEBUG": "true",
        "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
        "SECRET_KEY": settings.SECRET_KEY,
        "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
    }


class Running:
    def __init__(self, folder: Path) -> None:
        self.port, self.receiver_port = free_ports(2)
        self.log = folder / "log"
        ports = ["--port", self.port, "--receiver-port", self.receiver_port]
        command = manage("run", *ports, "--receiver-database", folder / "receiver.sqlite3")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=surroundings(folder), stdout=log, stderr=log, start_new_session=True)  # noqa: S603

    def said(self, words: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def works(self) -> set[int]:
        """All that it started, once all of it is at work."""
        until(lambda: self.said("/admin/") and self.get("/readyz"))
        return descendants(self.process.pid)

    def receives(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.receiver_port, timeout=10) as client:
                return client.sendmail("news@shop.example.com", "somebody1@example.com", "Subject: Tea\n\nHello\n") == {}
        except ConnectionRefusedError:
            return False

    def get(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as page:
                return page.status == 200
        except OSError:
            return False


@contextmanager
def started(folder: Path) -> Iterator[Running]:
    """`manage.py run` on a database in this folder, and nothing of it left afterwards."""
    running = Running(folder)
    try:
        yield running
    finally:
        for pid in [running.process.pid, *descendants(running.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait()
        sys.stderr.write(running.log.read_text())


@pytest.fixture
def prepared(django_db_setup: None, django_db_blocker: Any, tmp_path: Path) -> Iterator[Path]:
    """A folder with a database that has all tables."""
    with installed("run", tmp_path, django_db_blocker) as installation:
        yield installation.folder


@pytest.fixture
def running(prepared: Path) -> Iterator[Running]:
    with started(prepared) as running:
        yield running


def test_one_command_brings_up_pages_workers_and_a_mail_server_and_ctrl_c_ends_them_all(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        everyone = running.works()
        assert running.said(f"http://127.0.0.1:{running.port}/admin/")
        assert running.said("Nobody can log in yet.") and running.said("make demo")
        assert running.get("/admin/login/")
        until(running.receives)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(LONG) == 0
        assert not alive(everyone)


def test_no_part_outlives_it_when_it_is_killed(running: Running) -> None:
    everyone = running.works()
    assert len(everyone) > 15
    running.process.kill()
    until(lambda: not alive(everyone))


def test_it_ends_when_a_part_does(running: Running) -> None:
    everyone = running.works()
    # Its main process; gunicorn starts another for one of those below it.
    mains = [pid for pid, parent in parents().items() if parent == running.process.pid]
    web = next(pid for pid in mains if "gunicorn" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(web, signal.SIGKILL)
    assert running.process.wait(LONG) == 1
    assert "web ended by itself" in running.log.read_text()
    until(lambda: not alive(everyone))


def test_with_the_demo_it_tells_the_login_and_has_the_demos_relays_lead_to_its_own_receiver(prepared: Path) -> None:
    setting_up = "from mailhub.demo import sample; sample.load(3, 1)"
    subprocess.run(manage("shell", "-v0", "-c", setting_up), env=surroundings(prepared), check=True)  # noqa: S603
    with started(prepared) as running:
        until(lambda: running.said("Ctrl-C ends it."))
        assert running.said(f"Log in as demo with the password {sample.password()}")
        with closing(sqlite3.connect(prepared / "db.sqlite3")) as database:
            options = database.execute("SELECT options FROM relays_relay WHERE kind = 'smtp'").fetchall()
        assert [json.loads(row[0])["port"] for row in options] == [running.receiver_port] * 2
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(LONG) == 0


@pytest.mark.parametrize("option", ["--port", "--receiver-port"])
def test_a_port_that_is_taken_is_told_with_the_remedy(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        free = dict(zip(["--port", "--receiver-port"], free_ports(2), strict=True))
        arguments = [word for pair in (free | {option: port}).items() for word in pair]
        result = subprocess.run(manage("run", *arguments), env=surroundings(tmp_path), capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken." in result.stderr
    assert f"{option} {port + 1}" in result.stderr


def test_the_receiver_ends_when_the_workers_have(tmp_path: Path) -> None:
    """What they have in flight would be of unknown outcome otherwise."""
    ended, ready = tmp_path / "ended", tmp_path / "ready"
    ready.touch()
    slow = f"trap 'sleep 1; echo worker >> {ended}; exit' TERM; echo >> {ready}; while true; do sleep 0.1; done"
    quick = f"trap 'echo receiver >> {ended}; exit' TERM; echo >> {ready}; while true; do sleep 0.1; done"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        together = Together({"worker": ["/bin/sh", "-c", slow], "receiver": ["/bin/sh", "-c", quick]}, os.environ)
        until(lambda: ready.read_text() == "\n\n")  # They have set their traps.
        together.stop()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert ended.read_text().split() == ["worker", "receiver"]
