"""The command with everything that it starts, told to stop in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from mailhub.bench import surroundings
from mailhub.bench.memory import descendants
from mailhub.bench.rounds import PEERS
from tests.delivery.world import postgresql_only
from tests.installation import LONG, Installation, until

COMMAND = [sys.executable, str(settings.BASE_DIR / "manage.py"), "benchmark"]


def test_it_measures_nothing_that_others_work_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    with pytest.raises(CommandError, match="REDIS_URL= manage.py benchmark"):
        call_command("benchmark")


def test_it_needs_a_server_that_bears_many_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    ended = subprocess.run([*COMMAND, "--receiver", "127.0.0.1:9"], env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 1
    assert "It needs PostgreSQL" in ended.stderr


@pytest.mark.parametrize("receiver", ["2525", "127.0.0.1", "127.0.0.1:smtp"])
def test_a_server_is_named_with_its_port(receiver: str) -> None:
    with pytest.raises(CommandError, match="HOST:PORT"):
        call_command("benchmark", receiver=receiver)


@postgresql_only
def test_stopped_in_the_middle_it_leaves_nothing_behind(installation: Installation, tmp_path: Path) -> None:
    log = tmp_path / "output"
    with log.open("wb") as output:
        options = ["--messages", "60", "--rounds", "1", "--large", "60"]
        command = subprocess.Popen([*COMMAND, *options], env=installation.environment, stdout=output, stderr=output)  # noqa: S603
    try:
        # A worker is at work by then.
        until(lambda: "MailHub, signed" in log.read_text())
        family = descendants([command.pid])
        names = "SELECT datname FROM pg_database WHERE datname LIKE %s"
        assert len(installation.rows(names, f"mailhub_benchmark_{command.pid}%")) == 2
        command.send_signal(signal.SIGINT)
        assert command.wait(LONG) == 130
    finally:
        command.kill()
        command.wait()
    assert "Nothing of it is left" in log.read_text()
    assert len(family) > 1
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    assert not installation.rows(names, f"mailhub_benchmark_{command.pid}%")


@pytest.mark.long
@postgresql_only
def test_it_measures_everything_that_it_promises(installation: Installation) -> None:
    options = ["--messages", "500", "--rounds", "2", "--large", "3000"]
    ended = subprocess.run([*COMMAND, *options], env=installation.environment, capture_output=True, text=True, check=True)  # noqa: S603
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) == 10
    assert all(value > 0 for value in found.values())
    assert found["worker_peak_mb"] > 30
    for peer in PEERS.values():
        assert peer in ended.stdout


@pytest.mark.skipif(not Path(surroundings.SINK).exists(), reason="needs Postfix's smtp-sink")
def test_the_mail_server_ends_with_the_benchmark() -> None:
    with surroundings.sink() as (_host, port):
        assert surroundings.answers(port)
    assert not surroundings.answers(port)
