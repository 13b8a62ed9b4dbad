"""Settings read from the environment; nonsense is refused by name instead of being taken for something."""

from __future__ import annotations

import os
from collections.abc import Collection
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"0", "false", "no", "off", ""})


def boolean(name: str, default: bool) -> bool:
    value = os.environ.get(name, str(default)).strip().lower()
    if value not in YES | NO:
        raise _refused(name, "true or false")
    return value in YES


def whole(name: str, default: int, least: int) -> int:
    value = os.environ.get(name, "").strip() or str(default)
    if not (value.isascii() and value.isdigit() and int(value) >= least):
        raise _refused(name, f"a whole number, {least} or more")
    return int(value)


def choice(name: str, default: str, choices: Collection[str]) -> str:
    value = os.environ.get(name, "").strip() or default
    if value not in choices:
        raise _refused(name, " or ".join(choices))
    return value


def url(name: str, default: str, schemes: Collection[str]) -> str:
    """An absolute URL without query and fragment, and without a slash at its end. Empty only when the default is."""
    value = os.environ.get(name, "").strip() or default
    try:
        parts = urlsplit(value)
        sound = parts.scheme in schemes and (parts.hostname or parts.scheme == "unix") and not parts.fragment and parts.port != 0
    except ValueError:  # a port that is no number
        sound = False
    if value and not sound:
        raise _refused(name, f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return value.rstrip("/")


def _refused(name: str, wanted: str) -> ImproperlyConfigured:
    # Not the value itself: it might hold a password.
    return ImproperlyConfigured(f"The setting {name} must be {wanted}.")
