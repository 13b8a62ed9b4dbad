"""What tests that start processes need: a MailHub of their own (a database that no other test uses, and the environment that leads to it),
free ports, and patience."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from django.db.utils import ConnectionHandler

# Seconds that a busy machine may need for what takes a few.
LONG = 120

T = TypeVar("T")


def free_ports(count: int) -> list[int]:
    """Of 127.0.0.1, all different."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def until(look: Callable[[], T], seconds: float = LONG) -> T:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return found


@dataclass(frozen=True, slots=True)
class Installation:
    folder: Path
    #: to look at its database from the test
    connection: Any
    #: for its processes
    environment: dict[str, str]

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())


def template() -> str:
    return f"{connection.settings_dict['NAME']}_template"


def keep_template() -> None:
    """The tests' own database as it was made, to be copied. On PostgreSQL that itself cannot be, while tests are connected to it."""
    if connection.vendor == "postgresql":
        name = connection.settings_dict["NAME"]
        drop_template()
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {template()} TEMPLATE {name} STRATEGY file_copy")


def drop_template() -> None:
    if connection.vendor == "postgresql":
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {template()}")


@contextmanager
def installed(word: str, folder: Path, blocker: Any, *, empty: bool = False) -> Iterator[Installation]:
    """A database as `manage.py migrate` makes it, or an `empty` one, on the server that the tests run on (a file in `folder` on SQLite); gone
    afterwards.

    `blocker` is pytest-django's fixture django_db_blocker; ask for django_db_setup besides."""
    with blocker.unblock():
        database = dict(connection.settings_dict)
        if connection.vendor == "postgresql":
            name = f"{word}_{os.getpid()}"
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}" if empty else f"CREATE DATABASE {name} TEMPLATE {template()} STRATEGY file_copy")
            url = "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/".format(**database) + name
        else:
            name = str(folder / "db.sqlite3")
            url = f"sqlite:///{name}"
            if not empty:
                with closing(sqlite3.connect(database["NAME"])) as full, closing(sqlite3.connect(name)) as copy:
                    full.backup(copy)
        environment = {
            **os.environ,
            "DATABASE_URL": url,
            "DEBUG": "true",
            "SECRET_KEY": settings.SECRET_KEY,
            "MAILHUB_ENCRYPTION_KEYS": ",".join(settings.MAILHUB_ENCRYPTION_KEYS),
        }
        its_own = ConnectionHandler({"default": {**database, "NAME": name}})["default"]
        try:
            yield Installation(folder, its_own, environment)
        finally:
            its_own.close()
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
