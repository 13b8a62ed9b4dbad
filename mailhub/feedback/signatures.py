"""Who posted a callback: each service proves it in its own way, or by the password that we gave it. Pure; fails closed.

What each signs stands in its documentation. A signature that covers the body makes a replay harmless, since nothing is recorded twice
(events.once()); Mailgun's covers a token alone, so that a token is good for one body. docs/callbacks.md has the table.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from django.http.request import HttpHeaders

from mailhub.lib import signing

# Who we are for services that log in: basic auth, or the password alone as a bearer token.
USER = "mailhub"
# Seconds. Services that sign the time of a callback may send the same again for so long after a failure, and a little more.
MAILGUN_TRIES = 12 * 3600
SENDGRID_TRIES = 26 * 3600
# A clock may be ahead of ours by so much.
AHEAD = 600


class Why(StrEnum):
    """Why a callback was refused."""

    NO_SECRET = "no_secret"  # noqa: S105  nothing is stored to verify it with
    UNSIGNED = "unsigned"
    SIGNATURE = "signature"  # it does not fit
    OLD = "old"
    REPLAYED = "replayed"  # its token has been used for another body
    PASSWORD = "password"  # noqa: S105
    TOPIC = "topic"  # of Amazon: not the one that was entered
    CERTIFICATE = "certificate"  # of Amazon: it cannot be fetched, or is none
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"


class Unproven(Exception):
    """A callback of which nobody has shown that the service sent it."""

    def __init__(self, why: Why, about: str = "") -> None:
        super().__init__(why)
        self.why = why
        #: what it named, such as a topic
        self.about = about


@dataclass(frozen=True, slots=True)
class Posted:
    """What came over HTTP."""

    body: bytes
    #: media type, in lower case, without parameters
    content_type: str
    #: header fields as WSGI names them
    meta: Mapping[str, Any]
    #: the address as the service was given it, without a password
    url: str = ""
    headers: HttpHeaders = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", HttpHeaders(self.meta))

    def json(self) -> Any:
        """Raises Unproven."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unproven(Why.UNREADABLE) from None

    def header(self, name: str) -> str:
        """Raises Unproven where there is none."""
        value = self.headers.get(name)
        if not value:
            raise Unproven(Why.UNSIGNED)
        return str(value)


#: returns what makes it the same callback when it comes again ("" is: the same body); raises Unproven
Verify = Callable[[Posted, Mapping[str, str], float], str]


def needed(secrets: Mapping[str, str], name: str) -> str:
    value = secrets.get(name)
    if not value:
        raise Unproven(Why.NO_SECRET)
    return value


def same(given: str, right: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), right.encode()):
        raise Unproven(Why.SIGNATURE)


def in_time(stamp: str, now: float, most: int) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise Unproven(Why.SIGNATURE)
    if not now - most <= int(stamp) <= now + AHEAD:
        raise Unproven(Why.OLD)


# --------------------------------------------------------------------------------------------------------------------- by password


def password(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """RFC 7617, or RFC 6750."""
    right = needed(secrets, "password")
    given = str(posted.headers.get("Authorization") or "")
    scheme, _space, rest = given.partition(" ")
    if scheme.lower() == "basic":
        try:
            rest = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            raise Unproven(Why.PASSWORD) from None
        right = f"{USER}:{right}"
    elif scheme.lower() != "bearer":
        raise Unproven(Why.PASSWORD)
    if not hmac.compare_digest(rest.strip().encode(), right.encode()):
        raise Unproven(Why.PASSWORD)
    return ""


# ------------------------------------------------------------------------------------------------------------------- by shared key


def body_hmac(header: str) -> Verify:
    """MailerSend and Mailtrap: HMAC-SHA256 of the body, in hexadecimal."""

    def verify(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
        key = needed(secrets, "signing_key").encode()
        same(posted.header(header).lower(), hmac.digest(key, posted.body, "sha256").hex())
        return ""

    return verify


def mailgun(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """HMAC-SHA256 of a time and a token, which say nothing of the body: the token is used up."""
    key = needed(secrets, "signing_key").encode()
    found = posted.json()
    block = found.get("signature") if isinstance(found, dict) else None
    if not isinstance(block, dict):
        raise Unproven(Why.UNSIGNED)
    stamp, token, signature = (str(block.get(name) or "") for name in ("timestamp", "token", "signature"))
    same(signature.lower(), hmac.digest(key, f"{stamp}{token}".encode("utf-8", "replace"), "sha256").hex())
    in_time(stamp, now, MAILGUN_TRIES)
    return f"token {token}"


def mandrill(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """HMAC-SHA1 of the address and the fields of the form, in base64."""
    key = needed(secrets, "signing_key").encode()
    given = posted.header("X-Mandrill-Signature")
    signed = posted.url + "".join(name + value for name, value in sorted(form(posted.body).items()))
    same(given, base64.b64encode(hmac.digest(key, signed.encode("utf-8", "replace"), "sha1")).decode())
    return ""


def form(body: bytes) -> dict[str, str]:
    """Raises Unproven."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise Unproven(Why.UNREADABLE) from None


def svix(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """Resend: Standard Webhooks by its older names."""
    secret = needed(secrets, "signing_key")
    try:
        return "svix " + signing.verify([secret], posted.headers, posted.body, now=now, names="svix")
    except signing.BadSecret:
        raise Unproven(Why.NO_SECRET) from None
    except signing.NotSigned:
        raise Unproven(Why.UNSIGNED) from None
    except signing.BadTime:
        raise Unproven(Why.OLD) from None
    except signing.BadSignature:
        raise Unproven(Why.SIGNATURE) from None


def unisender(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """MD5 of the body in which the key stands where the digest does."""
    key = needed(secrets, "api_key")
    found = posted.json()
    given = found.get("auth") if isinstance(found, dict) else None
    if not isinstance(given, str) or len(given) != 32 or posted.body.count(given.encode("utf-8", "replace")) != 1:
        raise Unproven(Why.UNSIGNED)
    signed = posted.body.replace(given.encode(), key.encode())
    same(given.lower(), hashlib.md5(signed, usedforsecurity=False).hexdigest())
    return ""


# ------------------------------------------------------------------------------------------------------------------- by public key


@lru_cache(maxsize=64)
def public_key(text: str) -> Any:
    """Of PEM, or the base64 that stands in it. Raises ValueError."""
    inner = "".join(line for line in text.split("\n") if "-----" not in line)
    try:
        return serialization.load_der_public_key(base64.b64decode("".join(inner.split()), validate=True))
    except (binascii.Error, UnsupportedAlgorithm) as error:
        raise ValueError("that is no public key") from error


def key_of(secrets: Mapping[str, str], kind: type) -> Any:
    try:
        key = public_key(needed(secrets, "public_key"))
    except ValueError:
        raise Unproven(Why.NO_SECRET) from None
    if not isinstance(key, kind):
        raise Unproven(Why.NO_SECRET)
    return key


def decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unproven(Why.SIGNATURE) from None


def sendgrid(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """Twilio's event webhook: ECDSA of a time and the body."""
    key = key_of(secrets, ec.EllipticCurvePublicKey)
    signature = decoded(posted.header("X-Twilio-Email-Event-Webhook-Signature"))
    stamp = posted.header("X-Twilio-Email-Event-Webhook-Timestamp")
    try:
        key.verify(signature, stamp.encode("utf-8", "replace") + posted.body, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Unproven(Why.SIGNATURE) from None
    in_time(stamp, now, SENDGRID_TRIES)
    return ""


def postal(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    """RSA of the body: SHA-256 where the server is new enough to add it, else SHA-1."""
    key = key_of(secrets, rsa.RSAPublicKey)
    newer = posted.headers.get("X-Postal-Signature-256")
    signature = decoded(str(newer) if newer else posted.header("X-Postal-Signature"))
    try:
        # SHA-1 is what these servers sign with: nothing else proves that it is they.
        key.verify(signature, posted.body, padding.PKCS1v15(), hashes.SHA256() if newer else hashes.SHA1())  # noqa: S303
    except InvalidSignature:
        raise Unproven(Why.SIGNATURE) from None
    return ""
