"""Imports run one way, those inside of functions included (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
# Each may import itself and what stands before it.
LAYERS = [
    "mailhub.lib",
    "mailhub.relays",
    "mailhub.senders",
    "mailhub.delivery",
    "mailhub.feedback",
    "mailhub.webhooks",
    "mailhub.watching",
]
# These stand on top of the layers, and never import each other.
DOORS = ["campaigns", "transactional"]
# Registers nothing; every admin.py stands on it.
SHARED = ["mailhub.admin"]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> list[Path]:
    folders = [*(ROOT / layer.replace(".", "/") for layer in LAYERS), *(ROOT / door for door in DOORS)]
    return sorted(path for folder in folders for path in folder.rglob("*.py")) + [ROOT / "mailhub/admin.py"]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, dotted paths of tasks and providers apart."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # "from mailhub import checks" imports mailhub.checks.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def allowed(name: str) -> list[str]:
    if within(name, "mailhub.admin"):
        return ["mailhub.admin"]
    for door in DOORS:
        if within(name, door):
            return [*LAYERS, door, *SHARED]
    for place, layer in enumerate(LAYERS):
        if within(name, layer):
            return [*LAYERS[: place + 1], *([] if layer == "mailhub.lib" else SHARED)]
    raise AssertionError(f"{name} has no layer")


@pytest.mark.parametrize("path", modules(), ids=module)
def test_a_module_imports_only_its_own_package_and_those_below(path: Path) -> None:
    ours = [(line, name) for line, name in imports(path) if name.split(".")[0] in ("mailhub", *DOORS)]
    wrong = [f"line {line}: {name}" for line, name in ours if not any(within(name, package) for package in allowed(module(path)))]
    assert not wrong, f"{module(path)} may not import {wrong}"


def test_an_import_inside_of_a_function_counts(tmp_path: Path) -> None:
    source = tmp_path / "sample.py"
    source.write_text("def f():\n    from campaigns.models import Campaign\n    import transactional.sending\n")
    assert list(imports(source)) == [(2, "campaigns.models.Campaign"), (3, "transactional.sending")]
