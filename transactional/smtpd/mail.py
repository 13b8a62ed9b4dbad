"""What is done to a mail on its way in (RFC 6409 section 8): as little as may be. All other bytes stay as they came."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.delivery import eight_bit
from mailhub.lib import addresses
from transactional import contents

# Bytes of header, and Received fields in it (RFC 5321 section 6.3 wants a hundred at least): more is a bomb, or a loop.
LARGEST_HEADER = 128 * 1024
MOST_HOPS = 100
# The code of a refusal after which nothing of the connection can be trusted: the other side may see another end of the mail than we do,
# and what it says next may have been meant as a part of it.
CUT = 521
# Never leave: blind copies, and what only the last server may write.
DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path"})
# RFC 5322 section 3.6; receivers such as Gmail refuse a mail that has one of them twice.
ONCE = frozenset({
    b"date", b"from", b"sender", b"reply-to", b"to", b"cc", b"message-id", b"in-reply-to", b"references", b"subject",
})  # fmt: skip
# What may stand in a Received field of what the client said about itself.
UNFIT = re.compile(r"[^A-Za-z0-9.:\[\]_-]")


class Unfit(Exception):
    """The mail cannot be accepted as it is."""

    def __init__(self, code: int, enhanced: str, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.enhanced = enhanced
        self.why = why


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a mail came, for its Received field."""

    #: what the client called itself
    helo: str
    #: its IP address
    peer: str
    #: ours
    name: str
    encrypted: bool
    #: SMTPUTF8 was asked for
    international: bool
    reference: UUID
    at: datetime
    #: the recipient, where there is but one: others must not see who was copied blindly
    only_to: str = ""

    def received(self) -> bytes:
        """RFC 5321 section 4.4, with the words of RFC 3848 and RFC 6531 for the protocol."""
        helo = UNFIT.sub("?", self.helo)[:255]
        peer = f"IPv6:{self.peer}" if ":" in self.peer else self.peer
        protocol = f"{'UTF8' if self.international else 'E'}SMTP{'S' if self.encrypted else ''}A"
        lines = [f"from {helo} ([{peer}])", f"by {self.name} (MailHub) with {protocol} id {self.reference}"]
        if self.only_to:
            lines.append(f"for <{addresses.on_the_wire(self.only_to)}>")
        said = "\r\n\t".join(lines)
        return f"Received: {said};\r\n\t{format_datetime(self.at)}\r\n".encode()


@dataclass(frozen=True, slots=True)
class Fit:
    #: the mail as it is kept
    raw: bytes
    #: its one From address
    sender: str
    #: it came with a Date and a Message-ID, so that no other is the same byte for byte
    named: bool


def fit(raw: bytes, arrival: Arrival) -> Fit:
    """The mail with its trace, and with what it lacks. Raises Unfit."""
    _whole_lines(raw)
    head, blank, body = (b"", b"\r\n", raw[2:]) if raw.startswith(b"\r\n") else raw.partition(b"\r\n\r\n")
    if not blank:
        head, blank = raw.removesuffix(b"\r\n"), b"\r\n\r\n"
    if len(head) > LARGEST_HEADER:
        raise Unfit(552, "5.3.4", _("The mail's header is larger than %(limit)s KB.") % {"limit": LARGEST_HEADER // 1024})
    if not head.isascii() and not arrival.international:
        head = _in_ascii(head)
    fields = [(field.partition(b":")[0].strip().lower(), field) for field in eight_bit.FIELDS.split(head)]
    names = [name for name, _field in fields]
    if names.count(b"received") > MOST_HOPS:
        raise Unfit(554, "5.4.6", _("The mail goes in circles: it has passed more than %(limit)s servers.") % {"limit": MOST_HOPS})
    for name in ONCE:
        if names.count(name) > 1:
            raise Unfit(554, "5.6.0", _("The mail has the header field “%(name)s” twice.") % {"name": name.decode().title()})
    sender = _sender(fields)
    added = [arrival.received()]
    if b"date" not in names:
        added.append(f"Date: {format_datetime(arrival.at)}\r\n".encode())
    if b"message-id" not in names:
        added.append(f"Message-ID: <{arrival.reference}@{addresses.domain(sender)}>\r\n".encode())
    kept = b"\r\n".join(field for name, field in fields if name not in DROPPED)
    return Fit(b"".join([*added, kept, blank, body]), sender, named=len(added) == 1)


def same(raw: bytes, recipients: Collection[str], credential: int, at: datetime) -> str:
    """What the same bytes for the same recipients with the same credential have in common, on one day (UTC). Short, as each is indexed."""
    seen = hashlib.blake2b(raw, digest_size=16)
    seen.update("\0".join([f"{credential} {at.astimezone(UTC):%Y%m%d}", *sorted(set(recipients))]).encode())
    return f"smtp-{seen.hexdigest()}"


def _whole_lines(raw: bytes) -> None:
    """Refuses what some servers take for a line's end, and what follows it for the end of the mail (CVE-2023-51764 to -51766)."""
    lines = raw.count(b"\n")
    if lines != raw.count(b"\r\n") or lines != raw.count(b"\r"):
        raise Unfit(CUT, "5.5.2", _("The mail holds a CR or LF that is no line's end. Every line must end with both."))


def _in_ascii(head: bytes) -> bytes:
    """Words in UTF-8 that the client did not announce, encoded as they should have been: no server without SMTPUTF8 would take them."""
    try:
        return eight_bit.header(head)
    except ValidationError as error:
        raise Unfit(550, "5.6.7", error.messages[0]) from None


def _sender(fields: list[tuple[bytes, bytes]]) -> str:
    """The normalised From address. That it is the only one is seen to where it is checked against the senders."""
    field = next((field for name, field in fields if name == b"from"), None)
    if field is None:
        raise Unfit(554, "5.6.0", _("The mail has no From."))
    people = contents.people_of((field.partition(b":")[2].decode(errors="replace"),))
    try:
        if len(people) == 1:
            return addresses.normalise(people[0][1])
    except ValidationError:
        pass
    raise Unfit(554, "5.6.0", _("The mail's From is not one mail address."))
