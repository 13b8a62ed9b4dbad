"""Processes that begin together and end together: all of MailHub in one terminal, for trying it out."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import IO

from django.conf import settings

from mailhub.demo import receiver
from mailhub.lib.processes import Group

LOOK_EVERY = 0.2


class EndedByItself(Exception):
    """A part that should run until it is told to stop has not."""


def manage(command: str, *arguments: object) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), command, *map(str, arguments)]


def web(port: int) -> list[str]:
    # Two processes of a few threads each: as in real use, and not Django's runserver, which starts itself again and again.
    served = ["mailhub.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "4", "--graceful-timeout", "5"]
    return [sys.executable, "-m", "gunicorn", *served, "--chdir", str(settings.BASE_DIR), "--no-control-socket", "--log-level", "warning"]


def working(*arguments: object) -> list[str]:
    return manage("worker", "--skip-checks", *arguments)


def taking_in() -> list[str]:
    return manage("smtpd", "--skip-checks")


def receiving(port: int, books: Path) -> list[str]:
    return manage("receiver", "--port", port, "--database", books)


def environment() -> dict[str, str]:
    """For workers: they may hand over to the receiver on this machine, besides where they may already."""
    here = ip_address(receiver.HOST)
    allowed = settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES
    networks = [*map(str, allowed)] if any(here in network for network in allowed) else [*map(str, allowed), f"{here}/32"]
    return {**os.environ, "MAILHUB_ALLOW_PRIVATE_ADDRESSES": ",".join(networks)}


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        # As the web server does: connections that linger from its last run are no hindrance.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Together:
    """Commands that run side by side until they are told to stop, which the last of them is when the others have ended."""

    def __init__(self, commands: Mapping[str, list[str]], environment: Mapping[str, str], output: IO[bytes] | None = None) -> None:
        """Call it in the main thread. What they say goes to `output`, or else to the terminal."""
        #: signals that have come, and are passed on
        self.asked = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.ask)
        self.groups = {name: Group(command, env=environment, output=output) for name, command in commands.items()}

    def ask(self, *args: object) -> None:
        self.asked += 1

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
        everyone = list(self.groups.values())
        # What workers have in flight still finds the receiver, which comes last.
        for groups in (everyone[:-1], everyone):
            told = -1
            while not all(group.ended for group in groups):
                if told < self.asked:
                    told = self.asked
                    for group in groups:
                        group.stop()
                time.sleep(LOOK_EVERY)
        for group in everyone:
            group.reap()


class Everything(Together):
    """Pages, workers, SMTP submission and a receiving mail server."""

    def __init__(self, port: int, receiver_port: int, books: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        # Links in mails lead here, unless the environment says where else.
        surroundings = {"MAILHUB_PUBLIC_URL": self.address, **environment()}
        parts = {"web": web(port), "worker": working()}
        if settings.DEBUG:
            # Elsewhere it needs a certificate, and ports that are not everybody's.
            parts["smtpd"] = taking_in()
        super().__init__({**parts, "receiver": receiving(receiver_port, books)}, surroundings)

    def ready(self) -> bool:
        """Wait until pages are served; False when it was asked to stop meanwhile. Raises EndedByItself."""
        while not self.asked:
            self.look()
            try:
                with urllib.request.urlopen(f"{self.address}/healthz", timeout=5):  # noqa: S310
                    return True
            except OSError:
                time.sleep(LOOK_EVERY)
        return False
