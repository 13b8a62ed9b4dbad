"""Public links carry what they need, signed for one purpose (HMAC-SHA256). Keys in SECRET_KEY_FALLBACKS still verify."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from itertools import product

from django.conf import settings

# Of a short token's MAC, in bytes.
SHORT = 16


class BadToken(Exception):
    """This link is not one of ours, or it was damaged on its way."""


def sign(purpose: str, payload: str) -> str:
    return f"{payload}~{_written(_mac(settings.SECRET_KEY, purpose, payload.encode(), 32))}"


def read(purpose: str, token: str) -> str:
    """The payload of a token made for `purpose`. Raises BadToken."""
    payload, _mark, mac = token.rpartition("~")
    made = (_written(_mac(key, purpose, payload.encode(errors="replace"), 32)) for key in _keys())
    if not any(hmac.compare_digest(mac.encode(errors="replace"), each.encode()) for each in made):
        raise BadToken
    return payload


def short(purpose: str, payload: bytes) -> str:
    """For mail addresses: lower-case letters and digits alone, which no server on the way tells from capitals. 3 us."""
    return _base32(payload + _mac(settings.SECRET_KEY, purpose, payload))


def _base32(octets: bytes) -> str:
    """RFC 4648 section 6, in lower case and without padding: base64.b32encode() takes three times as long."""
    bits = 8 * len(octets)
    places = -(-bits // 15)
    number = int.from_bytes(octets) << 15 * places - bits
    threes = _threes()
    return "".join([threes[number >> 15 * place & 0x7FFF] for place in reversed(range(places))])[: -(-bits // 5)]


@lru_cache
def _threes() -> list[str]:
    """What each 15 bits are written as."""
    return ["".join(letters) for letters in product("abcdefghijklmnopqrstuvwxyz234567", repeat=3)]


def read_short(purpose: str, token: str) -> bytes:
    """Raises BadToken."""
    try:
        data = base64.b32decode(token.upper() + "=" * (-len(token) % 8))
    except (binascii.Error, ValueError) as error:
        raise BadToken from error
    return _proven(purpose, data)


def _proven(purpose: str, data: bytes) -> bytes:
    payload, mac = data[:-SHORT], data[-SHORT:]
    if not any(hmac.compare_digest(mac, _mac(key, purpose, payload)) for key in _keys()):
        raise BadToken
    return payload


def _keys() -> tuple[str | bytes, ...]:
    return settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS


def compact(purpose: str, payload: bytes) -> str:
    """For web addresses of which a mail has many: base64url. 2 us."""
    return _written(payload + _mac(settings.SECRET_KEY, purpose, payload))


def _written(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def read_compact(purpose: str, token: str) -> bytes:
    """Raises BadToken."""
    try:
        data = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadToken from error
    # What another spelling of the same octets says is not what we wrote.
    if _written(data) != token:
        raise BadToken
    return _proven(purpose, data)


def digest(purpose: str, text: str) -> str:
    """A keyed hash that is told from others, and not back to what it was made of."""
    return _mac(settings.SECRET_KEY, purpose, text.encode(), 32).hex()


def digests(purpose: str, text: str) -> list[str]:
    """By each key that was ever in use: what was kept under an older one is found, too."""
    return [_mac(key, purpose, text.encode(), 32).hex() for key in _keys()]


def _mac(secret: str | bytes, purpose: str, data: bytes, length: int = SHORT) -> bytes:
    return hmac.digest(_key(secret, purpose), data, "sha256")[:length]


@lru_cache(maxsize=64)
def _key(secret: str | bytes, purpose: str) -> bytes:
    octets = secret if isinstance(secret, bytes) else secret.encode()
    return hashlib.sha256(b"mailhub." + purpose.encode() + b"\0" + octets).digest()
