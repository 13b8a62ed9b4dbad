"""Standard Webhooks (standardwebhooks.com): who posts a message signs its id, its time and its bytes, so that the receiver knows who sent
it, that nobody changed it, and that it is not an old one once more.

A secret is "whsec_" and the base64 of 24 to 64 random bytes. While it is changed, both the new and the old one sign: a receiver takes the
message if one of the signatures is right."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping

PREFIX = "whsec_"
# Bytes of a secret.
SHORTEST, SIZE, LONGEST = 24, 32, 64
# A message whose time is further off than this, either way, is not taken (seconds).
TOLERANCE = 300

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class BadSecret(ValueError):
    """A webhook secret is “whsec_” and the base64 of 24 to 64 bytes."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class BadSignature(Exception):
    """Not signed with this secret, changed on its way, or too old. The text says which, for the log; a stranger is told 400."""


class NotSigned(BadSignature):
    pass


class BadTime(BadSignature):
    pass


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SIZE)).decode()


def key(secret: str) -> bytes:
    """The bytes that a secret stands for. Raises BadSecret."""
    try:
        octets = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecret from None
    if not secret.startswith(PREFIX) or not SHORTEST <= len(octets) <= LONGEST:
        raise BadSecret
    return octets


def headers(secrets: Iterable[str], id: str, at: int, body: bytes) -> dict[str, str]:
    """The header fields to post `body` with: signed by each of the secrets, the newest first. `id` is the same when it is tried again,
    `at` (Unix time in seconds) is when it is tried. Raises BadSecret."""
    return {ID: id, TIMESTAMP: str(at), SIGNATURE: " ".join(signature(secret, id, str(at), body) for secret in secrets)}


def signature(secret: str, id: str, timestamp: str, body: bytes) -> str:
    """Raises BadSecret."""
    mac = hmac.digest(key(secret), b"%s.%s.%s" % (id.encode(), timestamp.encode(), body), "sha256")
    return "v1," + base64.b64encode(mac).decode()


def verify(
    secrets: Iterable[str],
    fields: Mapping[str, str],
    body: bytes,
    *,
    now: float | None = None,
    tolerance: int = TOLERANCE,
    names: str = "webhook",
) -> str:
    """The id of a message that one of the secrets signed. `fields` are its header fields, by any case (Django's request.headers will do);
    `names` is what their names begin with ("svix" at Svix, where the standard comes from).

    Raises BadSignature, or BadSecret. Whoever must not take a message twice remembers the id for twice the tolerance."""
    given = {name.lower(): value for name, value in fields.items()}
    id, timestamp, signatures = (given.get(name.replace("webhook", names), "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (id and timestamp and signatures):
        raise NotSigned("it is not signed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 15):
        raise BadSignature("its time is none")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        raise BadTime("its time is too far from ours")
    right = [signature(secret, id, timestamp, body).encode() for secret in secrets]
    offered = [one.encode() for one in signatures.split(" ")]
    # Each is compared with each, whichever fits: how long it takes tells nothing.
    fits = [hmac.compare_digest(one, other) for one in right for other in offered]
    if not any(fits):
        raise BadSignature("no signature fits")
    return id
