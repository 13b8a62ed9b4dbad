"""The client is a distribution of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
CLIENT = ROOT / "transactional/client"


def imported(path: Path) -> set[str]:
    """The first names of what a module imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("path", sorted(CLIENT.rglob("*.py")), ids=lambda path: path.name)
def test_it_imports_nothing_of_the_server(path: Path) -> None:
    assert not imported(path) & {"mailhub", "campaigns", "transactional"}


def test_the_server_does_not_import_it() -> None:
    server = [path for folder in ("mailhub", "campaigns", "transactional") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in server if CLIENT not in path.parents and "mailhub_client" in imported(path)] == []
