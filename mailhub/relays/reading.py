"""A mail taken apart, to be looked at: whatever it is, it is shown as far as it can be understood."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import SMTP, compat32

# What a reader sees first.
FIRST = ("from", "to", "cc", "reply-to", "subject", "date")
CID = re.compile(r"cid:([^\s\"'<>()]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    kind: str
    octets: int


class Mail:
    def __init__(self, data: bytes) -> None:
        # The old policy takes what is malformed as it comes; the new one reads single fields better.
        parsed = message_from_bytes(data, policy=compat32)
        #: every header field, decoded, in the mail's order
        self.fields = [(name, _value(name, value)) for name, value in parsed.raw_items()]
        self.text = ""
        self.html = ""
        self.attachments: list[Attachment] = []
        #: Content-ID -> data: address, so that pictures of the mail show without any request
        self.pictures: dict[str, str] = {}
        for part in parsed.walk():
            if not part.is_multipart():
                self._take(part)
        self.html = CID.sub(lambda found: self.pictures.get(found[1], found[0]), self.html)

    @property
    def first(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.fields if name.lower() in FIRST]

    def _take(self, part: Message) -> None:
        kind = part.get_content_type()
        attached = part.get_content_disposition() == "attachment"
        if kind == "text/plain" and not attached and not self.text:
            self.text = _text(part)
        elif kind == "text/html" and not attached and not self.html:
            self.html = _text(part)
        else:
            octets = _octets(part)
            self.attachments.append(Attachment(_value("filename", part.get_filename() or ""), kind, len(octets)))
            if kind.startswith("image/") and (name := part.get("Content-ID")):
                self.pictures[str(name).strip().strip("<>")] = f"data:{kind};base64,{b64encode(octets).decode()}"


def _value(name: str, raw: str) -> str:
    try:
        value = str(SMTP.header_fetch_parse(name, raw))
    except Exception:  # noqa: BLE001  the standard library's parser gives up in many ways
        value = raw
    return " ".join(value.encode(errors="replace").decode(errors="replace").split())


def _octets(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    try:
        return _octets(part).decode(part.get_content_charset() or "utf-8", errors="replace")
    except LookupError:
        # A character set that nobody knows.
        return _octets(part).decode(errors="replace")
