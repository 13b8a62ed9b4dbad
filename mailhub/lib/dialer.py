"""The one way out: every connection that somebody else's data can steer (a relay's host, a recipient's MX, a webhook's URL) begins here.

Only public addresses are connected to, unless settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES names their network. What is looked at is the
address itself, after the name was resolved, and the very address that passed is the one connected to: a name that answers differently
the second time gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from django.utils.translation import gettext as _

# One address is given this long to answer (seconds).
TIMEOUT = 10.0

# Version 6 addresses that carry one of version 4, and how far from the right it stands (RFC 4291, 6052, 3056): a router on the way may
# translate them, so what they carry must pass too.
CARRIERS = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
# Not public either, though `is_global` says so in some versions of Python.
SPECIAL: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocols' own
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("::/96"),  # version 4, as it was once written
    IPv6Network("64:ff9b:1::/48"),  # translation within an organisation
    IPv6Network("2001::/23"),  # Teredo and other protocols' own
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
    IPv6Network("fec0::/10"),  # site-local, as it was once
)


class Forbidden(OSError):
    """The address is none that may be connected to."""


def check(address: str) -> None:
    """Raises Forbidden for what is not public and not allowed by settings, ValueError for what is no IP address."""
    if not _permitted(ip_address(address)):
        raise Forbidden(_("%(address)s is not a public address.") % {"address": address})


def _permitted(address: IPv4Address | IPv6Address) -> bool:
    if any(address in network for network in settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES):
        return True
    if isinstance(address, IPv6Address):
        for network, shift in CARRIERS:
            if address in network:
                return _permitted(IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast and not any(address in network for network in SPECIAL)


async def resolve(host: str) -> list[str]:
    """The addresses of a host as this machine knows them (its hosts file included), best first. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise OSError(_("“%(name)s” cannot be a host name.") % {"name": host[:255]}) from None
    return list(dict.fromkeys(str(address[0]) for _family, _type, _protocol, _name, address in found))


async def connect(addresses: Sequence[str], port: int, *, source: str | None = None, timeout: float = TIMEOUT) -> socket.socket:
    """A connected, non-blocking TCP socket to the first of `addresses` that answers, each within `timeout` seconds.

    `source` is the address to leave from, of the same version as they. Raises Forbidden when none of them may be connected to, otherwise
    the OSError (TimeoutError is one) of the last that was tried."""
    failure: OSError = Forbidden(_("There is no address to connect to."))
    for address in addresses:
        try:
            check(address)
            return await _connect(address, port, source, timeout)
        except Forbidden as error:
            if isinstance(failure, Forbidden):
                failure = error
        except OSError as error:
            failure = error
    raise failure


async def _connect(address: str, port: int, source: str | None, timeout: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.bind((source, 0))
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except TimeoutError:
        sock.close()
        raise TimeoutError(_("%(address)s did not answer within %(seconds)d seconds.") % {"address": address, "seconds": timeout}) from None
    except BaseException:
        sock.close()
        raise
    return sock
