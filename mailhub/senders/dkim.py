"""DKIM signatures (RFC 6376, 8301 and 8463) over the bytes that leave, relaxed/relaxed and over the whole body.

Made for speed: what the mails of a campaign share is worked out once, and a signature costs little besides its RSA, which runs outside
of the GIL. No x= tag: a mail that waits in a queue for days must still verify.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.senders.models import DKIMKey, PrivateKey

# Signed once more than the mail has them, so that whoever adds one breaks the signature (RFC 6376 section 8.15): they say who writes
# to whom about what, and how the body is to be read.
SEALED = ("from", "to", "cc", "reply-to", "subject", "mime-version", "content-type", "content-transfer-encoding")
# The same, but only where the mail has one. Relays add a Date and Message-ID that are missing (RFC 6409 section 8), mailing lists add
# fields of their own, and RFC 8058 trusts no List-Unsubscribe that is not signed.
SEALED_WHERE_GIVEN = (
    "date", "message-id", "sender", "in-reply-to", "references", "list-id", "list-unsubscribe", "list-unsubscribe-post", "list-help",
    "list-subscribe", "list-post", "list-owner", "list-archive",
)  # fmt: skip
# Signed as often as they stand there: services add a Feedback-ID of their own, whoever resends a mail adds Resent- fields.
AS_GIVEN = (
    "auto-submitted", "content-description", "content-disposition", "content-id", "content-language", "feedback-id", "precedence",
    "resent-cc", "resent-date", "resent-from", "resent-message-id", "resent-sender", "resent-to",
)  # fmt: skip
SIGNED = frozenset(name.encode() for name in (*SEALED, *SEALED_WHERE_GIVEN, *AS_GIVEN))

#: name and canonical form of a header field that is signed (RFC 6376 section 3.4.2)
Line = tuple[bytes, bytes]

# RFC 5322 section 2.1.1
WANTED = 78
# Base64 a line; "b=" and a space stand before the first.
CHUNK = 72


@dataclass(frozen=True, slots=True)
class Key:
    """A private key and what its signatures say of it."""

    domain: str
    selector: str
    #: a DKIMKey.Algorithm
    algorithm: str
    private: PrivateKey

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            # RFC 8463 section 3: PureEdDSA over the hash.
            return self.private.sign(hashlib.sha256(data).digest())
        return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())


class Signer:
    """Signs the mail of one domain with each of its keys, in any number of threads."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = keys

    def fields(self, mail: bytes) -> bytes:
        """The DKIM-Signature fields to put before `mail`, each ended by CRLF.

        `mail` is an RFC 5322 message of any shape; where its last line is not ended, what is signed is the mail with the CRLF that SMTP
        adds. b"" when there is nothing to do: each key has signed already, or the mail begins in the middle of a header field, where
        ours would swallow that. Raises ValidationError when a CR or LF stands alone: no two hops agree on what that is."""
        if not mail.count(b"\r\n") == mail.count(b"\n") == mail.count(b"\r"):
            raise ValidationError(_("Not every line of the mail ends with CR LF."), code="line_break")
        if mail.startswith((b" ", b"\t")):
            return b""
        head, body = _halves(mail)
        signatures = _signatures(head)
        keys = [key for key in self.keys if (key.domain, key.selector) not in signatures]
        return self._sign(keys, signed_lines(head), relaxed_body(body)) if keys else b""

    def fields_of(self, lines: Sequence[Line], body: bytes) -> bytes:
        """The same for a mail whose canonical form is known: signed_lines() of its header, and relaxed_lines() of its body. It has no
        signature yet."""
        return self._sign(self.keys, lines, ended(body))

    def _sign(self, keys: Sequence[Key], lines: Sequence[Line], body: bytes) -> bytes:
        names = tuple([name for name, _line in lines])
        header = b"".join([line for _name, line in lines])
        rest = b"t=%d; bh=%b;" % (time.time(), b64encode(hashlib.sha256(body).digest()))
        fields = b""
        for key in keys:
            sent, signed = _beginning(key.algorithm, key.domain, key.selector, names)
            signature = b64encode(key.sign(b"%b%b %b b=" % (header, signed, rest)))
            folded = b"\r\n ".join([signature[at : at + CHUNK] for at in range(0, len(signature), CHUNK)])
            fields += b"%b\r\n %b\r\n b=%b\r\n" % (sent, rest, folded)
        return fields


def signers(domains: Collection[str]) -> dict[str, Signer]:
    """A signer for each of `domains` whose mail is to be signed, in one query (and one a key that this process has not used yet).

    Keys are those of the domain itself or else of the nearest domain above it, which DMARC takes for the same organisation."""
    families = {domain: list(_family(domain)) for domain in domains}
    found: dict[str, list[Key]] = {}
    rows = DKIMKey.objects.filter(status=DKIMKey.Status.SIGNING, domain__name__in={name for family in families.values() for name in family})
    # RSA first: not everybody verifies Ed25519, and some look at the first signature alone.
    for row in rows.select_related("domain").defer("private_key").order_by("-algorithm"):
        key = Key(row.domain.name, row.selector, row.algorithm, _private(row.pk, row.created_at))
        found.setdefault(row.domain.name, []).append(key)
    return {
        domain: Signer(found[signing])
        for domain, family in families.items()
        if (signing := next((name for name in family if name in found), None))
    }


def _family(domain: str) -> Iterable[str]:
    """`domain` and those above it, the top level apart."""
    labels = domain.lower().split(".")
    return (".".join(labels[at:]) for at in range(max(len(labels) - 1, 1)))


@lru_cache(maxsize=1000)
def _private(pk: int, made: datetime) -> PrivateKey:
    """A key never changes; its moment tells it from another that got the same number after it was deleted."""
    return DKIMKey.objects.get(pk=pk, created_at=made).private()


# --------------------------------------------------------------------------------------------------------- canonical forms


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 section 3.4.4, of a body whose lines end with CRLF. Bytes that need no change are not copied more than once."""
    body = relaxed_lines(body)
    # The last line, which SMTP will end.
    return ended(body[:-1] if body.endswith(b" ") else body)


def relaxed_lines(body: bytes) -> bytes:
    """The same of whole lines in the middle of a body."""
    return _compressed(body).replace(b" \r\n", b"\r\n")


def ended(body: bytes) -> bytes:
    """A body in relaxed form without the empty lines at its end."""
    if body.endswith(b"\r\n\r\n") or not body.endswith(b"\r\n") or body == b"\r\n":
        body = body.rstrip(b"\r\n")
        return body + b"\r\n" if body else b""
    return body


def relaxed_fields(head: bytes) -> Iterable[tuple[bytes, bytes]]:
    """RFC 6376 section 3.4.2: name and value of each field of a header. Lines that are no field are left out."""
    for line in _compressed(head.replace(b"\t", b" ").replace(b"\r\n ", b" ")).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            yield name.rstrip(b" ").lower(), value.strip(b" ")


def _compressed(text: bytes) -> bytes:
    """Each run of spaces and tabs becomes one space. Faster than a regular expression by far; halves the longest run at each turn."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _halves(mail: bytes) -> tuple[bytes, bytes]:
    """Header and body, without the empty line between them."""
    if mail.startswith(b"\r\n"):
        return b"", mail[2:]
    head, _blank, body = mail.partition(b"\r\n\r\n")
    return head, body


def signed_lines(head: bytes) -> list[Line]:
    """The fields that are signed, the last one first: of several with one name, h= means the last one by its first mention (RFC 6376
    section 5.4.2)."""
    lines = [(name, b"%b:%b\r\n" % (name, value)) for name, value in relaxed_fields(head) if name in SIGNED]
    lines.reverse()
    return lines


def _signatures(head: bytes) -> set[tuple[str, str]]:
    """(domain, selector) of those that are there already."""
    if b"dkim-signature" not in head.lower():
        return set()
    found = [_tags(value.decode("latin-1")) for name, value in relaxed_fields(head) if name == b"dkim-signature"]
    return {(tags.get("d", "").lower(), tags.get("s", "").lower()) for tags in found}


def _tags(value: str) -> dict[str, str]:
    """RFC 6376 section 3.2, of a list that somebody else wrote."""
    parts = (part.partition("=") for part in value.split(";"))
    return {name.strip(): said.strip() for name, _equals, said in parts}


@lru_cache(maxsize=1000)
def _beginning(algorithm: str, domain: str, selector: str, names: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """A signature up to its h= tag, as it is sent and as it is signed, for mails with fields of these names."""
    listed = [name.decode() for name in names]
    listed += [*SEALED, *(name for name in SEALED_WHERE_GIVEN if name in listed)]
    tags = ["DKIM-Signature: v=1;", f" a={algorithm};", " c=relaxed/relaxed;", f" d={domain};", f" s={selector};"]
    lines = [""]
    for piece in [*tags, f" h={listed[0]}", *(f":{name}" for name in listed[1:]), ";"]:
        if len(lines[-1]) + len(piece) > WANTED:
            lines.append(" ")
            piece = piece.lstrip()
        lines[-1] += piece
    sent = "\r\n".join(lines).encode()
    ((name, value),) = relaxed_fields(sent)
    return sent, name + b":" + value
