"""A PostgreSQL of our own, to be stopped and started as often as we like."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from django.conf import settings

# Says where it is, and stays until its input ends.
CHILD = "import os, sys; print(os.environ['DATABASE_URL'], os.environ['POSTGRESQL_CONTROL'], sep='\\n', flush=True); sys.stdin.read()"


@dataclass(frozen=True, slots=True)
class Cluster:
    process: subprocess.Popen[str]
    #: a database URL without the database
    url: str
    #: the command that starts and stops it
    control: list[str]

    @classmethod
    def start(cls) -> Cluster:
        command = [str(settings.BASE_DIR / "scripts/with_postgresql"), sys.executable, "-c", CHILD]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603
        assert process.stdout
        url, control = process.stdout.readline().strip(), process.stdout.readline().strip()
        cluster = cls(process, urlsplit(url)._replace(path="").geturl(), shlex.split(control))
        # What the kernel has survives whatever becomes of PostgreSQL, and a test has no time.
        cluster.execute("ALTER SYSTEM SET fsync = off")
        cluster.execute("SELECT pg_reload_conf()")
        return cluster

    def execute(self, statement: str) -> None:
        """In no database of anybody's."""
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def end(self) -> None:
        self.process.communicate()

    def crash(self) -> None:
        """As a power cut would: nothing is tidied, nobody is told."""
        self._control("--mode", "immediate", "stop")

    def stop(self) -> None:
        """As an administrator would; connections are ended."""
        self._control("--mode", "fast", "stop")

    def begin(self) -> None:
        self._control("start")

    def _control(self, *arguments: str) -> None:
        subprocess.run([*self.control, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", env=dict(os.environ))  # noqa: S603
