"""Secrets of a development machine: made once, kept in `.env`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path


def keep(path: Path, name: str, make: Callable[[], str]) -> str:
    """The value of `name` in the file at `path`, made and appended when it has none; nobody but its owner may read the file then."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as file:
        # Of two processes that start at once, one makes the value and the other finds it.
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        value = next((line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")), "")
        if not value:
            value = make()
            os.fchmod(file.fileno(), 0o600)
            file.write(f"{name}={value}\n" if text.endswith("\n") or not text else f"\n{name}={value}\n")
    os.environ[name] = value
    return value
