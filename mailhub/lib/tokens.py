"""Public links carry what they need, signed for one purpose (HMAC-SHA256). Keys in SECRET_KEY_FALLBACKS still verify."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache

from django.conf import settings
from django.core import signing

# Of a short token's MAC, in bytes.
SHORT = 16


class BadToken(Exception):
    """This link is not one of ours, or it was damaged on its way."""


def sign(purpose: str, payload: str) -> str:
    return signing.Signer(salt=f"mailhub.{purpose}", sep="~").sign(payload)


def read(purpose: str, token: str) -> str:
    """The payload of a token made for `purpose`. Raises BadToken."""
    try:
        return signing.Signer(salt=f"mailhub.{purpose}", sep="~").unsign(token)
    except signing.BadSignature as error:
        raise BadToken from error


def short(purpose: str, payload: bytes) -> str:
    """For mail addresses: lower-case letters and digits alone, which no server on the way tells from capitals. 3 us."""
    return base64.b32encode(payload + _mac(settings.SECRET_KEY, purpose, payload)).decode().rstrip("=").lower()


def read_short(purpose: str, token: str) -> bytes:
    """Raises BadToken."""
    try:
        data = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
    except (binascii.Error, ValueError) as error:
        raise BadToken from error
    payload, mac = data[:-SHORT], data[-SHORT:]
    if not any(hmac.compare_digest(mac, _mac(key, purpose, payload)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)):
        raise BadToken
    return payload


def digest(purpose: str, text: str) -> str:
    """A keyed hash that is told from others, and not back to what it was made of."""
    return _mac(settings.SECRET_KEY, purpose, text.encode(), 32).hex()


def _mac(secret: str | bytes, purpose: str, data: bytes, length: int = SHORT) -> bytes:
    return hmac.digest(_key(secret, purpose), data, "sha256")[:length]


@lru_cache(maxsize=64)
def _key(secret: str | bytes, purpose: str) -> bytes:
    octets = secret if isinstance(secret, bytes) else secret.encode()
    return hashlib.sha256(b"mailhub." + purpose.encode() + b"\0" + octets).digest()
