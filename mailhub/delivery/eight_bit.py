"""Mail beyond 7-bit, for servers that take no more than that: what cannot pass is encoded, all else stays byte for byte.

A finished mail is kept and signed as it came. The servers without 8BITMIME (RFC 6152) and SMTPUTF8 (RFC 6531) are few, and only for them
is it changed, before it is signed for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.message import Message as Fields
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.delivery import mime

# Parts within parts.
DEEPEST = 20
# Where each field begins but the first.
FIELDS = re.compile(rb"\r\n(?![ \t])")
FOLD = re.compile(r"\r\n(?=[ \t])")
SPARE = re.compile(rb"[\x80-\xff]")
# Fields of addresses, and those of parameters; all others are taken for words.
ADDRESSES = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc"})
PARAMETERS = frozenset({b"content-type", b"content-disposition"})
PARAMETER = re.compile(r'([\w-]+)="([^"]*)"')
ENCODING = b"content-transfer-encoding"
# A body whose hash is part of the mail, or that nobody but its recipient can read.
SEALED = frozenset({"multipart/signed", "multipart/encrypted"})


def encoded(mail: bytes) -> bytes:
    """`mail` in ASCII. Raises ValidationError where that would break it."""
    if mail.isascii():
        return mail
    return _entity(mail, 0)


def header(head: bytes) -> bytes:
    """A mail's header, without the empty line below it, in ASCII: words in UTF-8 become encoded-words (RFC 2047), parameters extended
    ones (RFC 2231). Raises ValidationError for other bytes, and for addresses that only UTF-8 can say."""
    return _each_field(head, lambda name, field: field if field.isascii() else _field(name, field))


def _each_field(head: bytes, change: Callable[[bytes, bytes], bytes]) -> bytes:
    fields = [change(field.partition(b":")[0].strip().lower(), field) for field in FIELDS.split(head)]
    return b"\r\n".join(field for field in fields if field)


def _field(name: bytes, field: bytes) -> bytes:
    try:
        label, _colon, value = field.decode().partition(":")
    except UnicodeDecodeError:
        raise ValidationError(_("The header field “%(name)s” is neither ASCII nor UTF-8.") % {"name": ascii(name)[2:-1]}) from None
    value = FOLD.sub("", value).strip()
    if name in ADDRESSES:
        written = mime.mailboxes(label, getaddresses([value]))
    elif name in PARAMETERS:
        written = f"{label}: {PARAMETER.sub(_extended, value)}\r\n"
    else:
        written = mime.field(label, value)
    if not written.isascii():
        raise ValidationError(_("The header field “%(name)s” holds what only UTF-8 can say.") % {"name": label})
    return written.removesuffix("\r\n").encode()


def _extended(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    return parameter[0] if value.isascii() else f"{name}*=utf-8''{quote(value, safe='')}"


# ------------------------------------------------------------------------------------------------------------------------- bodies


def _entity(entity: bytes, depth: int) -> bytes:
    """A mail or a part of one (RFC 2045)."""
    if depth > DEEPEST:
        raise ValidationError(_("The mail has parts within parts more than %(limit)s deep.") % {"limit": DEEPEST})
    head, blank, body = (b"", b"\r\n", entity[2:]) if entity.startswith(b"\r\n") else entity.partition(b"\r\n\r\n")
    fields = BytesHeaderParser().parsebytes(head + b"\r\n\r\n")
    head = header(head)
    if body.isascii():
        return head + blank + body
    kind = fields.get_content_type()
    if kind in SEALED:
        raise ValidationError(_("The mail is signed or encrypted in 8-bit text, which cannot be changed."))
    if fields.get_content_maintype() == "multipart" and (boundary := fields.get_boundary()):
        return _with_encoding(head, "7bit", blank) + _parts(body, boundary.encode(errors="surrogateescape"), depth)
    if kind == "message/rfc822":
        return _with_encoding(head, "7bit", blank) + _entity(body, depth + 1)
    return _leaf(fields, head, blank, body, depth)


def _parts(body: bytes, boundary: bytes, depth: int) -> bytes:
    """What stands between the boundaries (RFC 2046 section 5.1.1), encoded; what stands before and after them is for nobody."""
    edge = re.compile(rb"((?:\A|\r\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r\n|\Z))")
    pieces = edge.split(body)
    last = len(pieces) - 1
    ended = False
    for at in range(0, len(pieces), 2):
        inside = at > 0 and not ended
        if inside and pieces[at].startswith(b"\r\n"):
            pieces[at] = b"\r\n" + _entity(pieces[at][2:], depth + 1)
        else:
            pieces[at] = SPARE.sub(b"?", pieces[at])
        if at < last:
            ended = pieces[at + 1].rstrip(b" \t").endswith(b"--" + boundary + b"--")
    return b"".join(pieces)


def _leaf(fields: Fields, head: bytes, blank: bytes, body: bytes, depth: int) -> bytes:
    text = fields.get_content_maintype() == "text"
    encoding = mime.transfer_encoding(body.decode(errors="replace")) if text else "base64"
    if "Content-Type" not in fields:
        # Mail as it was before MIME; what its bytes mean was never said (RFC 1428).
        head = _joined(head, b"Content-Type: text/plain; charset=" + (b"utf-8" if _is_utf8(body) else b"unknown-8bit"))
        if depth == 0 and "MIME-Version" not in fields:
            head = _joined(head, b"MIME-Version: 1.0")
    written = mime.encoded(body, encoding)
    if not body.endswith(b"\r\n"):
        # Within a multipart the line's end before a boundary is the boundary's.
        written = written.removesuffix(b"\r\n")
    return _with_encoding(head, encoding, blank) + written


def _with_encoding(head: bytes, encoding: str, blank: bytes) -> bytes:
    """The header with this transfer encoding in place of its own, and the empty line."""
    rest = _each_field(head, lambda name, field: b"" if name == ENCODING else field)
    return _joined(rest, b"Content-Transfer-Encoding: " + encoding.encode()) + (blank if head else b"\r\n\r\n")


def _joined(head: bytes, field: bytes) -> bytes:
    return head + b"\r\n" + field if head else field


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
