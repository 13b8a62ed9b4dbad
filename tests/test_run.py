"""`manage.py run` with everything that it starts, on a database and ports of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from django.conf import settings

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif("postgresql" in settings.DATABASES["default"]["ENGINE"], reason="walks what a fresh machine has: SQLite"),
]

# What a busy machine may need for a step that takes a few seconds.
LONG = 90

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = LONG) -> T:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.1)
    return found


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


class Running:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.log = folder / "log"
        environment = {
            **os.environ,
            "DEBUG": "true",
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "SECRET_KEY": settings.SECRET_KEY,
            "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
        }
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603

    def said(self, words: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return words in self.log.read_text()

    def works(self) -> set[int]:
        """All that it started, once all of it is at work."""
        until(lambda: self.said("/admin/") and self.get("/readyz"))
        return descendants(self.process.pid)

    def get(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as page:
                return page.status == 200
        except OSError:
            return False


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    for pid in [running.process.pid, *descendants(running.process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    running.process.wait()
    sys.stderr.write(running.log.read_text())


def test_one_command_brings_up_pages_and_workers_and_ctrl_c_ends_them_all(running: Running) -> None:
    everyone = running.works()
    assert running.said(f"http://127.0.0.1:{running.port}/admin/")
    assert running.get("/admin/login/")
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
    web = next(pid for pid in everyone if "gunicorn" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(web, signal.SIGKILL)
    assert running.process.wait(LONG) == 1
    assert "web ended by itself" in running.log.read_text()
    until(lambda: not alive(everyone))


def test_a_port_that_is_taken_is_told_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run", "--port", str(port)]
        environment = {**os.environ, "DEBUG": "true", "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken." in result.stderr
    assert f"--port {port + 1}" in result.stderr
