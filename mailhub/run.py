"""`manage.py run`: all of MailHub in one terminal, for trying it out."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.request

from django.conf import settings

from mailhub.lib.processes import Group

LOOK_EVERY = 0.2


class EndedByItself(Exception):
    """A part that should run until it is told to stop has not."""


def parts(port: int) -> dict[str, list[str]]:
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    # Two processes of a few threads each: as in real use, and not Django's runserver, which starts itself again and again.
    web = ["mailhub.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4", "--graceful-timeout", "5"]
    quiet = ["--chdir", str(settings.BASE_DIR), "--no-control-socket", "--log-level", "warning"]
    return {
        "web": [sys.executable, "-m", "gunicorn", *web, *quiet],
        "worker": [*manage, "worker", "--skip-checks"],
        "receiver": [*manage, "receiver", "--skip-checks"],
    }


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        # As the web server does: connections that linger from its last run are no hindrance.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Everything:
    """Processes that begin together and end together."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        # Links in mails lead here, unless the environment says where else.
        environment = {"MAILHUB_PUBLIC_URL": self.address, **os.environ}
        #: signals that have come and been passed on
        self.asked = self.told = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.ask)
        self.groups = {name: Group(command, env=environment) for name, command in parts(port).items()}

    def ask(self, *args: object) -> None:
        self.asked += 1

    def ready(self) -> bool:
        """Wait until pages are served; False when it was asked to stop meanwhile."""
        while not self.asked:
            self.look()
            try:
                with urllib.request.urlopen(f"{self.address}/healthz", timeout=5):  # noqa: S310
                    return True
            except OSError:
                time.sleep(LOOK_EVERY)
        return False

    def look(self) -> None:
        """Raises EndedByItself."""
        for name, group in self.groups.items():
            if group.ended:
                raise EndedByItself(f"{name} ended by itself (exit code {group.reap()}).")

    def wait(self) -> None:
        """Until it is asked to stop. Raises EndedByItself."""
        while not self.asked:
            self.look()
            time.sleep(LOOK_EVERY)

    def stop(self) -> None:
        """Let everyone finish; each further signal is passed on and makes them hurry."""
        self.told = -1
        while not all(group.ended for group in self.groups.values()):
            if self.told < self.asked:
                self.told = self.asked
                for group in self.groups.values():
                    group.stop()
            time.sleep(LOOK_EVERY)
        for group in self.groups.values():
            group.reap()
