"""What an operator can set and call is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
README = (ROOT / "README.md").read_text()


def read_from_the_environment() -> set[str]:
    """Names that settings.py asks the environment for."""
    source = (ROOT / "mailhub/settings.py").read_text()
    return set(re.findall(r"""(?:env(?:vars)?\.\w+|secret)\(\s*"([A-Z_]+)\"""", source))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_settings_are_found_where_they_are_read() -> None:
    assert {"DEBUG", "SECRET_KEY", "DATABASE_URL", "MAILHUB_WORKERS", "TIME_ZONE"} <= read_from_the_environment()


@pytest.mark.parametrize("name", sorted(read_from_the_environment()))
def test_every_setting_has_a_row_in_the_readme(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|", README, re.MULTILINE)


@pytest.mark.parametrize("target", sorted(targets()))
def test_every_make_target_is_in_the_readme(target: str) -> None:
    assert f"make {target}" in README


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_the_readme_names_the_version_that_the_changelog_begins_with() -> None:
    assert settings.VERSION in README


def test_no_example_setting_is_unknown() -> None:
    given = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert set(given) <= read_from_the_environment()
