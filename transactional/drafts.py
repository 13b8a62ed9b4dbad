"""A draft made a finished mail: the header, the words as text and as HTML, pictures that the HTML shows, and files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from email.utils import encode_rfc2231, format_datetime
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _

from mailhub.delivery import html as markup
from mailhub.delivery import mime, prepare
from mailhub.delivery.models import Content
from mailhub.lib import addresses
from mailhub.lib.headers import one_line
from mailhub.senders.models import Sender
from transactional import contents, variables
from transactional.models import TemplateVersion
from transactional.requests import Attachment, Draft, Invalid, Request

# RFC 6838 section 4.2, with no type that has parts of its own: what is within them could be no base64.
MEDIA_TYPE = re.compile(r"(?!multipart/|message/)[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}", re.IGNORECASE)
# What would begin a placeholder.
OPENING = re.compile(r"\{(?=[{%#])")
CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,200}")


def content(
    request: Request, draft: Draft, sender: Sender, data: dict[str, Any], known: contents.InUse
) -> tuple[Content, TemplateVersion | None]:
    """What the draft says, or what the template says that the request names; frozen as a finished mail. Raises Invalid."""
    version = None
    if request.template:
        if draft.subject or draft.html or draft.text:
            raise Invalid("template", _("The mail has words already."), _("Give either a template or subject, html and text."))
        whole = {**data, "email": request.recipients[0], "unsubscribe_url": ""}
        _content, version = contents.filled_in(request, sender, request.recipients[0], data, known)
        said = prepare.Words(version.subject, version.html, version.text).render(variables.filled(version, whole))
        draft = replace(draft, subject=said.subject, html=said.html, text=said.text)
    elif not (draft.html or draft.text):
        raise Invalid("text", _("The mail says nothing."), _("Give html or text, or a template's key."))
    elif (request.track_opens or request.track_clicks) and _is_plain(request, draft):
        return _told(request, draft, sender), None
    request = replace(request, reference=request.reference or uuid4(), template="")
    assert request.reference  # noqa: S101
    raw = finished(draft, sender, request.reference)
    return contents.finished(replace(request, raw=raw), sender), version


def _is_plain(request: Request, draft: Draft) -> bool:
    """It needs no more than what the mails of a campaign have, which can be tracked."""
    more = draft.attachments or draft.cc or draft.reply_to[1:]
    return bool(draft.html) and not more and len(draft.to) == len(request.recipients) == 1


def _told(request: Request, draft: Draft, sender: Sender) -> Content:
    """One that tells of opens and clicks: links and pixel are put in when it is made. Raises Invalid."""
    reference = request.reference or uuid4()
    # What is wrong with the header is found now.
    _header(draft, sender, reference)
    made = Content(
        public_id=reference,
        subject=_literal(draft.subject),
        html=_literal(draft.html),
        text=_literal(draft.text),
        from_name=draft.from_name or sender.name,
        from_email=sender.email,
        reply_to=_address(draft.reply_to[0][1], "reply_to[0]") if draft.reply_to else sender.reply_to,
        headers={**contents.TEMPLATE_HEADERS, **draft.headers},
    )
    contents.track(made, request, sender)
    return made


def _literal(words: str) -> str:
    """A template that says just this."""
    return OPENING.sub('{{ "{" }}', words)


def finished(draft: Draft, sender: Sender, reference: UUID) -> bytes:
    """RFC 5322 bytes, fit for every hop. Raises Invalid."""
    boundary = f"=_{reference.hex}"
    words = _words(draft, f"{boundary}.w")
    files = [(attachment, f"attachments[{number}]") for number, attachment in enumerate(draft.attachments)]
    if shown := [_file(*file) for file in files if file[0].content_id]:
        words = _multipart("related", f"{boundary}.r", [words, *shown])
    if beside := [_file(*file) for file in files if not file[0].content_id]:
        words = _multipart("mixed", f"{boundary}.m", [words, *beside])
    return _header(draft, sender, reference).encode() + words


def _header(draft: Draft, sender: Sender, reference: UUID) -> str:
    answers = draft.reply_to or ([("", sender.reply_to)] if sender.reply_to else [])
    people = {"From": [(draft.from_name or sender.name, sender.email)], "Reply-To": answers, "To": draft.to, "Cc": draft.cc}
    fields = [f"Date: {format_datetime(timezone.now())}\r\n"]
    for name, listed in people.items():
        if listed:
            field = name.lower().replace("-", "_")
            known = [(display_name, _address(address, f"{field}[{number}]")) for number, (display_name, address) in enumerate(listed)]
            with _about(field):
                fields.append(mime.mailboxes(name, known))
    with _about("subject"):
        fields.append(mime.field("Subject", draft.subject))
    fields.append(f"Message-ID: <{reference.hex}@{addresses.domain(sender.email)}>\r\n")
    if not any(name.lower() == "auto-submitted" for name in draft.headers):
        # RFC 3834: so that no out-of-office reply comes back.
        fields.append("Auto-Submitted: auto-generated\r\n")
    for name, value in draft.headers.items():
        if name.lower() in prepare.OWN_FIELDS:
            raise Invalid(f"headers.{name}", _("The header field “%(name)s” cannot be given: every mail has it already.") % {"name": name})
        with _about(f"headers.{name}"):
            fields.append(mime.given(name, value))
    return "".join(fields) + "MIME-Version: 1.0\r\n"


def _address(text: str, field: str) -> str:
    with _about(field):
        return addresses.normalise(text)


@contextmanager
def _about(field: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise Invalid(field, error.messages[0]) from None


def _words(draft: Draft, boundary: str) -> bytes:
    """The text alone, or both; the text is made from the HTML where there is none."""
    if not draft.html:
        return _text("plain", draft.text)
    text = draft.text or markup.text(draft.html)
    return _multipart("alternative", boundary, [_text("plain", text), _text("html", draft.html)])


def _text(subtype: str, words: str) -> bytes:
    encoding = mime.transfer_encoding(words)
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + mime.body(words, encoding)


def _multipart(subtype: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    line = f"--{boundary}".encode()
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _file(attachment: Attachment, place: str) -> bytes:
    with _about(f"{place}.filename"):
        one_line(attachment.name)
    if not MEDIA_TYPE.fullmatch(attachment.media_type):
        raise Invalid(f"{place}.content_type", _("“%(type)s” is not the media type of a file.") % {"type": attachment.media_type[:100]})
    if attachment.content_id and not CONTENT_ID.fullmatch(attachment.content_id):
        raise Invalid(f"{place}.content_id", _("A content id is letters, digits, dots and hyphens, perhaps with one @."))
    head = [f"Content-Type: {attachment.media_type}", "Content-Transfer-Encoding: base64"]
    head.append(f"Content-Disposition: {'inline' if attachment.content_id else 'attachment'}{_filename(attachment.name)}")
    if attachment.content_id:
        head.append(f"Content-ID: <{attachment.content_id}>")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + mime.encoded(attachment.octets, "base64")


def _filename(name: str) -> str:
    """RFC 2231 where it is not plain, in pieces that fit on their lines."""
    if not name:
        return ""
    if name.isascii() and name.isprintable() and len(name) <= 60:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'; filename="{quoted}"'
    encoded = encode_rfc2231(name, "utf-8")
    pieces = re.findall(r"(?:%..|[^%]){1,20}", encoded)
    return "".join(f";\r\n filename*{number}*={piece}" for number, piece in enumerate(pieces))
