"""Secrets of a development machine: made once, kept in `.env`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def keep(path: Path, name: str, make: Callable[[], str]) -> str:
    """The value of `name`, made and appended to the file at `path` when the environment has none."""
    value = make()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as file:
        if file.tell() and not path.read_text().endswith("\n"):
            file.write("\n")
        file.write(f"{name}={value}\n")
    os.environ[name] = value
    return value
