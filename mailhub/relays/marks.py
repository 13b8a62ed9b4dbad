"""How a service is told which message a mail is, so that what it calls back says it: as metadata, which all of them hand back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from mailhub.relays.base import Envelope
from mailhub.relays.client import header

# The metadata's name.
METADATA = "mailhub"

# By the end of its SMTP server's name, the header field in which a service takes metadata, and its value. The others name a mail by its
# Message-ID, or not at all. From general knowledge of the services' documentation; tried with none of them.
FIELDS = {
    ".postmarkapp.com": (b"X-PM-Metadata-" + METADATA.encode(), b"%d"),
    ".mailjet.com": (b"X-MJ-EventPayload", b'{"' + METADATA.encode() + b'": "%d"}'),
    ".sparkpostmail.com": (b"X-MSYS-API", b'{"metadata": {"' + METADATA.encode() + b'": "%d"}}'),
    ".mandrillapp.com": (b"X-MC-Metadata", b'{"' + METADATA.encode() + b'": "%d"}'),
    ".mailtrap.io": (b"X-MT-Custom-Variables", b'{"' + METADATA.encode() + b'": "%d"}'),
}

#: an envelope -> the same with a mark
Marker = Callable[[Envelope], Envelope]


def marker(host: str) -> Marker | None:
    """For mail to this SMTP server; None where nothing is to be said."""
    host = f".{host.lower().rstrip('.')}"
    field = next((field for end, field in FIELDS.items() if host.endswith(end)), None)
    return None if field is None else lambda envelope: _marked(envelope, *field)


def _marked(envelope: Envelope, name: bytes, value: bytes) -> Envelope:
    """Above the signature, which does not name the field. A mail that has one is its sender's business."""
    if not envelope.message or re.search(rb"^%b:" % re.escape(name), header(envelope.data), re.IGNORECASE | re.MULTILINE):
        return envelope
    line = b"%b: %b\r\n" % (name, value % envelope.message)
    seven_bit = envelope.seven_bit
    return replace(envelope, data=line + envelope.data, seven_bit=seven_bit and (lambda: line + seven_bit()))
