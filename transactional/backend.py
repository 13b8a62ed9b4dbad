"""Django's mail, in this process, by MailHub's own door: `EMAIL_BACKEND = "transactional.backend.EmailBackend"`."""

from __future__ import annotations

import email
import re
from collections.abc import Sequence
from email.generator import BytesGenerator
from email.message import Message as Part
from email.policy import compat32
from email.utils import getaddresses, make_msgid
from io import BytesIO
from typing import Any

from django.core.exceptions import ValidationError
from django.core.mail import BadHeaderError, EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError

from mailhub.delivery import mime
from mailhub.lib import addresses
from mailhub.lib.headers import one_line
from transactional import contents, sending
from transactional.models import Submission
from transactional.requests import Invalid, NotAccepted, Request

SAFE = ("base64", "quoted-printable")
# Django writes ASCII addresses as they came; ours are quoted where they must be, and keep what only UTF-8 can say (RFC 6532).
ADDRESS_FIELDS = ("From", "To", "Cc", "Reply-To")
# Never leave: blind copies, and what only the last server may write.
DROPPED = ("Bcc", "Resent-Bcc", "Return-Path")
ONCE = ("Date", "From", "Message-ID", "Subject", "To", "Cc", "Reply-To", "Sender", "Auto-Submitted", "MIME-Version", "Content-Type")


class EmailBackend(BaseEmailBackend):
    """Mail is accepted when send_messages() returns, or with the commit of a transaction around it."""

    def __init__(self, fail_silently: bool = False, alias: str | None = None, **kwargs: Any) -> None:
        """Servers and passwords, which Django may pass, are the relays' business; `alias` is what Django 6.1 calls its mailer."""
        super().__init__()
        self.fail_silently = fail_silently

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many were accepted. Raises BadHeaderError or requests.NotAccepted, unless `fail_silently`."""
        accepted = 0
        for message in email_messages:
            if not message.recipients():
                continue
            try:
                sending.send(request(message))
            except (NotAccepted, BadHeaderError, DatabaseError):
                if not self.fail_silently:
                    raise
            else:
                accepted += 1
        return accepted


def request(message: EmailMessage) -> Request:
    """What Django's message asks for. Raises BadHeaderError, or Invalid when its From is no address."""
    _single_lines(message)
    people = getaddresses([str(message.extra_headers.get("From", message.from_email))])
    if len(people) != 1:
        raise Invalid("sender", f"“{message.from_email}” is not one address.")
    return Request(
        sender=people[0][1],
        recipients=[address for _name, address in getaddresses(list(map(str, message.recipients())))],
        raw=frozen(message, addresses.domain(people[0][1])),
        via=Submission.Via.BACKEND,
    )


def _single_lines(message: EmailMessage) -> None:
    """Raises BadHeaderError for what would become more than one header line (Django looks for CR and LF alone)."""
    names = [
        getattr(attachment, "filename", None) or attachment[0] for attachment in message.attachments if not isinstance(attachment, Part)
    ]
    values = [message.subject, message.from_email, *message.to, *message.cc, *message.bcc, *message.reply_to]
    try:
        for value in (*values, *message.extra_headers.values(), *filter(None, names)):
            one_line(str(value))
        for name in message.extra_headers:
            mime.given(name, "")
    except ValidationError as error:
        raise BadHeaderError(error.messages[0]) from None


def frozen(message: EmailMessage, domain: str) -> bytes:
    """The mail as it will leave, fit for every hop: ASCII in lines of 998 at most, each field once. `domain`: for the Message-ID.

    Raises BadHeaderError for fields that are given twice."""
    mail = email.message_from_bytes(message.message().as_bytes(), policy=compat32)
    given = {name.lower() for name in message.extra_headers}
    for name in DROPPED:
        del mail[name]
    if "message-id" not in given:
        # Django's would tell this machine's name.
        del mail["Message-ID"]
        mail["Message-ID"] = make_msgid(domain=domain)
    if "auto-submitted" not in given:
        mail["Auto-Submitted"] = "auto-generated"
    for name in ONCE:
        if len(mail.get_all(name, [])) > 1:
            raise BadHeaderError(f"The header field “{name}” is given twice.")
    for part in mail.walk():
        _encode(part)
    return _with_address_fields(_flat(mail), message)


def _encode(part: Part) -> None:
    """Give the part a transfer encoding that every hop can carry, unless it has one."""
    if part.is_multipart():
        if part.get("Content-Transfer-Encoding", "").lower() in ("8bit", "binary"):
            part.replace_header("Content-Transfer-Encoding", "7bit")
        return
    octets = part.get_payload(decode=True)
    if not isinstance(octets, bytes) or part.get("Content-Transfer-Encoding", "").strip().lower() in SAFE or _plain(octets):
        return
    encoding = "base64"
    if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment":
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
        encoding = mime.transfer_encoding(octets.decode(errors="replace"))
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = encoding
    part.set_payload(mime.encoded(octets, encoding).decode())


def _plain(octets: bytes) -> bool:
    lines = re.split(rb"\r\n|\r|\n", octets)
    return octets.isascii() and b"\0" not in octets and max(map(len, lines)) <= contents.LONGEST_LINE


def _flat(mail: Part) -> bytes:
    out = BytesIO()
    BytesGenerator(out, mangle_from_=False, policy=compat32.clone(linesep="\r\n", cte_type="7bit")).flatten(mail)
    flat = out.getvalue()
    return flat if flat.endswith(b"\r\n") else flat + b"\r\n"


def _with_address_fields(flat: bytes, message: EmailMessage) -> bytes:
    head, blank, body = flat.partition(b"\r\n\r\n")
    ours = {name.lower(): field for name in ADDRESS_FIELDS if (field := _address_field(name, message))}
    fields = re.split(rb"\r\n(?![ \t])", head)
    written = [ours.get(field.partition(b":")[0].decode().lower(), field) for field in fields]
    return b"\r\n".join(written) + blank + body


def _address_field(name: str, message: EmailMessage) -> bytes:
    listed = {"From": [message.from_email], "To": message.to, "Cc": message.cc, "Reply-To": message.reply_to}
    people = getaddresses([str(message.extra_headers[name])] if name in message.extra_headers else list(map(str, listed[name])))
    try:
        written = [(contents.decoded(display_name), addresses.normalise(address)) for display_name, address in people]
    except ValidationError:
        # "undisclosed-recipients:;" and the like; the envelope is checked elsewhere.
        return b""
    return mime.mailboxes(name, written).removesuffix("\r\n").encode() if written else b""
