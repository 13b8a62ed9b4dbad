"""Whose request it is: the address of the program that asks, behind proxies too."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings
from django.http import HttpRequest


def of(request: HttpRequest) -> str:
    """The client's IP address: the last one that none of our own proxies (MAILHUB_TRUSTED_PROXIES) has, since whatever stands before it
    in X-Forwarded-For is the client's own claim. "" where the server has none, as behind a UNIX socket."""
    address = str(request.META.get("REMOTE_ADDR") or "")
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    while hops and _trusted(address):
        address = hops.pop()
    return str(parsed(address) or "")


def _trusted(address: str) -> bool:
    """A UNIX socket is a proxy's wherever there is one."""
    found = parsed(address)
    networks = settings.MAILHUB_TRUSTED_PROXIES
    return bool(networks) and (not address or (found is not None and any(found in network for network in networks)))


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """None for what is no IP address."""
    try:
        return ip_address(address.partition("%")[0])
    except ValueError:
        return None
