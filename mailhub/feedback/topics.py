"""Amazon SNS, by which SES tells what became of mails: its signatures, and the subscription that it asks us to confirm.

Anymail verifies none of this. The certificate is fetched from Amazon's own hosts alone; anybody at Amazon can have a message signed with
it, so what counts besides is the topic that staff entered.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from asgiref.sync import async_to_sync
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailhub.feedback.signatures import Posted, Unproven, Why, needed
from mailhub.lib import http

HOST = re.compile(r"\Asns\.[a-z0-9-]{3,30}\.amazonaws\.com(\.cn)?\Z")
PATH = re.compile(r"\A/SimpleNotificationService-[0-9a-zA-Z]{1,80}\.pem\Z")
ARN = re.compile(r"\Aarn:(aws[a-z-]*):sns:([a-z0-9-]{3,30}):(\d{12}):([A-Za-z0-9_.-]{1,256})\Z")
TOKEN = re.compile(r"\A[0-9a-fA-F]{32,512}\Z")
NOTIFICATION, CONFIRMATION, FAREWELL = "Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"
# What is signed, in this order.
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    FAREWELL: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
HASHES: dict[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}
# Seconds for a certificate, or for a subscription; bytes of either answer.
PATIENCE = 5.0
MOST = 20_000


class CannotFetch(Exception):
    """Amazon's certificate is not to be had now: the service tries again."""


def verify(posted: Posted, secrets: Mapping[str, str], now: float) -> str:
    wanted = needed(secrets, "topic")
    found = posted.json()
    if not isinstance(found, dict) or found.get("Type") not in SIGNED:
        raise Unproven(Why.UNSIGNED)
    topic = str(found.get("TopicArn") or "")
    # Before anything is fetched.
    if topic != wanted:
        raise Unproven(Why.TOPIC, topic[:300])
    algorithm = HASHES.get(str(found.get("SignatureVersion") or ""))
    if algorithm is None:
        raise Unproven(Why.UNSIGNED)
    try:
        signature = base64.b64decode(str(found.get("Signature") or ""), validate=True)
    except (binascii.Error, ValueError):
        raise Unproven(Why.SIGNATURE) from None
    certificate_key = key_at(str(found.get("SigningCertURL") or ""), now)
    try:
        certificate_key.verify(signature, signed(found), padding.PKCS1v15(), algorithm())
    except InvalidSignature:
        raise Unproven(Why.SIGNATURE) from None
    return f"sns {found.get('MessageId')}"


def signed(found: Mapping[str, Any]) -> bytes:
    """Names and values, a line each; a notification without a subject has none here either."""
    pairs = ((name, found.get(name)) for name in SIGNED[str(found["Type"])])
    return "".join(f"{name}\n{value}\n" for name, value in pairs if value is not None).encode("utf-8", "replace")


def key_at(url: str, now: float) -> rsa.RSAPublicKey:
    """Of the certificate there. Raises Unproven, CannotFetch."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not HOST.match(parts.netloc) or not PATH.match(parts.path) or parts.query or parts.fragment:
        raise Unproven(Why.CERTIFICATE, url[:300])
    certificate = certificate_at(url)
    if not certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp():
        raise Unproven(Why.CERTIFICATE, url[:300])
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise Unproven(Why.CERTIFICATE, url[:300])
    return key


@lru_cache(maxsize=32)
def certificate_at(url: str) -> x509.Certificate:
    """Kept by the process: Amazon changes them about once a year, and their addresses with them."""
    page = fetch(url)
    try:
        return x509.load_pem_x509_certificate(page)
    except ValueError:
        raise Unproven(Why.CERTIFICATE, url[:300]) from None


def fetch(url: str) -> bytes:
    try:
        page = async_to_sync(http.get)(url, most=MOST, seconds=PATIENCE)
    except http.HTTPError as error:
        raise CannotFetch(str(error)) from None
    if page.status != 200:
        raise CannotFetch(f"{url}: {page.status}")
    return page.body


def confirm(found: Mapping[str, Any]) -> None:
    """Say yes to the subscription that a verified message asks for: at an address that we write ourselves. Raises CannotFetch."""
    topic, token = str(found.get("TopicArn") or ""), str(found.get("Token") or "")
    arn = ARN.match(topic)
    if not arn or not TOKEN.match(token):
        raise CannotFetch(f"{topic[:300]} is no topic, or its token is none")
    host = f"sns.{arn[2]}.amazonaws.com" + (".cn" if arn[1] == "aws-cn" else "")
    fetch(f"https://{host}/?Action=ConfirmSubscription&TopicArn={quote(topic, safe='')}&Token={token}")
