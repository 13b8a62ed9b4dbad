"""Settings read from the environment; nonsense is refused by name instead of being taken for something."""

from __future__ import annotations

import os
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
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


def servers(name: str, port: int) -> list[tuple[str, int]]:
    """IP addresses with ports, separated by commas: 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353. Without a port it is `port`."""
    found = []
    for part in _parts(name):
        try:
            split = urlsplit(f"//{part}" if part.count(":") < 2 or part.startswith("[") else f"//[{part}]")
            found.append((str(ip_address(split.hostname or "")), split.port or port))
        except ValueError:
            raise _refused(name, "IP addresses separated by commas, each with a port after a colon or without") from None
    return found


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """IP networks separated by commas; "true" is all of them, "false" and "" are none."""
    value = os.environ.get(name, "").strip().lower()
    if value in NO:
        return []
    if value in YES:
        return [ip_network("0.0.0.0/0"), ip_network("::/0")]
    try:
        return [ip_network(part) for part in _parts(name)]
    except ValueError:
        raise _refused(name, "true, false, or IP networks such as 10.0.5.0/24 separated by commas") from None


def addresses(name: str, default: str) -> list[str]:
    """IP addresses separated by commas."""
    try:
        return [str(ip_address(part)) for part in _parts(name) or default.split(",")]
    except ValueError:
        raise _refused(name, "IP addresses separated by commas") from None


def _parts(name: str) -> list[str]:
    return [part for part in (part.strip() for part in os.environ.get(name, "").split(",")) if part]


def _refused(name: str, wanted: str) -> ImproperlyConfigured:
    # Not the value itself: it might hold a password.
    return ImproperlyConfigured(f"The setting {name} must be {wanted}.")
