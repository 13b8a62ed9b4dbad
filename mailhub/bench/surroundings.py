"""What a benchmark needs around it, and leaves no trace of: databases of its own and a mail server that takes everything."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from mailhub.lib.processes import Group

HOST = "127.0.0.1"
# Who the mail server is when we are root; it asks to be somebody else then.
NOBODY = "nobody"
SINK = "/usr/sbin/smtp-sink"
START_WITHIN = 10.0


class Unable(Exception):
    """The benchmark cannot be run like this."""


@contextmanager
def databases() -> Iterator[tuple[str, str]]:
    """Two empty databases on the server that DATABASE_URL names: their addresses. The first has MailHub's tables, and this process's
    default connection leads to it from here on. Raises Unable."""
    if connection.vendor != "postgresql":
        raise Unable("It needs PostgreSQL: set DATABASE_URL, or run “make bench”, which starts one.")
    server = urlsplit(os.environ["DATABASE_URL"])
    names = [f"mailhub_benchmark_{os.getpid()}", f"mailhub_benchmark_{os.getpid()}_peers"]
    before = str(connection.settings_dict["NAME"])
    try:
        for name in names:
            _execute(f"CREATE DATABASE {name}")
        _lead_to(names[0])
        call_command("migrate", verbosity=0, interactive=False)
        mine, theirs = (server._replace(path=f"/{name}").geturl() for name in names)
        yield mine, theirs
    finally:
        _lead_to(before)
        for name in names:
            _execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.close()


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _lead_to(name: str) -> None:
    """As Django's test runner does it."""
    connection.close()
    settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = name


@contextmanager
def sink() -> Iterator[tuple[str, int]]:
    """Postfix's smtp-sink, which answers everything with yes and keeps nothing: its host and port. Raises Unable."""
    program = shutil.which("smtp-sink") or SINK
    if not Path(program).exists():
        raise Unable("smtp-sink is not on this machine (Debian: postfix). Run scripts/install_packages, or give --receiver HOST:PORT.")
    port = free_port()
    user = ["-u", NOBODY] if os.geteuid() == 0 else []
    with Path(os.devnull).open("wb") as nowhere:
        group = Group([program, *user, f"{HOST}:{port}", "1000"], output=nowhere)
    try:
        until = time.monotonic() + START_WITHIN
        while not answers(port):
            if group.ended or time.monotonic() > until:
                raise Unable("smtp-sink does not answer.")
            time.sleep(0.05)
        yield HOST, port
    finally:
        group.reap()


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connected:
        connected.sendall(b"QUIT\r\n")
        return bool(connected.recv(1))
    return False
