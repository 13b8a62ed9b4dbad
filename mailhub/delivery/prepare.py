"""From a content and a message to the bytes that leave. What the mails of a content share is worked out once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

import jinja2
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.delivery import eight_bit, mime, rendering, tracking
from mailhub.delivery import html as markup
from mailhub.delivery.models import Content, Message
from mailhub.delivery.parts import Body, Part
from mailhub.delivery.rendering import Problem, Rendered
from mailhub.lib import addresses
from mailhub.relays.base import Envelope, Fault, Refused, Reply
from mailhub.senders import dkim, return_path
from mailhub.senders.models import Domain

# Filled in by us whatever the data says.
SYSTEM_NAMES = frozenset({"email", "unsubscribe_url", *tracking.TOKEN_OF.values()})
# Fields that every mail has from us, exactly once.
OWN_FIELDS = frozenset({
    "bcc", "cc", "content-transfer-encoding", "content-type", "date", "dkim-signature", "from", "list-unsubscribe",
    "list-unsubscribe-post", "message-id", "mime-version", "received", "reply-to", "return-path", "sender", "subject", "to",
    "x-mailhub-id",
})  # fmt: skip


class Words:
    """Subject, HTML and text of a mail, compiled. The text is made from the HTML where there is none.

    With `strict`, a variable without a value is an error; without, it renders as nothing."""

    def __init__(self, subject: str, html: str, text: str, *, strict: bool = False, tracked: Content | None = None) -> None:
        """`tracked`: the content whose links and pixel the HTML gets. Raises jinja2.TemplateSyntaxError, and what Python raises for a
        template beyond its limits."""
        #: what HTML and text are compiled from
        self.html_source = _inlined(html) if html else ""
        if tracked and html:
            self.html_source = tracking.rewritten(self.html_source, tracked)
        self.text_source = markup.tidy(text) if text else _text(html)
        self.subject = rendering.template(subject, escaped=False, strict=strict)
        self.html = rendering.template(self.html_source, escaped=True, strict=strict) if html else None
        self.text = rendering.template(self.text_source, escaped=False, strict=strict)

    def render(self, data: Mapping[str, Any]) -> Rendered:
        """Raises whatever a template's mistakes raise."""
        return Rendered(
            subject=rendering.render(self.subject, data).strip(),
            html=rendering.render(self.html, data) if self.html else "",
            text=rendering.render(self.text, data),
        )


# Transactional mails are a content each, of the same few templates.
_inlined = lru_cache(maxsize=64)(markup.inlined)
_text = lru_cache(maxsize=64)(markup.text)
# Thousands of a campaign's recipients come in at one moment: 6 us a mail.
_date = lru_cache(maxsize=64)(format_datetime)


class Compiled:
    """One content, ready for any number of its messages, in any thread."""

    def __init__(self, content: Content, signer: dkim.Signer | None = None) -> None:
        """`signer` is that of the From address's domain, which load() finds. Raises Refused when no mail can be made of it."""
        self.content = content
        #: where the bounces of its mails come to, which load() finds
        self.bounce_address: str = getattr(content, "bounce_address", "")
        self.signer = signer
        #: the signature of a finished mail, the same for all its recipients
        self.signature: bytes | None = None
        self.raw = None if content.raw is None else bytes(content.raw)
        # Only a finished mail can be: what we make ourselves is encoded.
        self.eight_bit = self.raw is not None and not self.raw.isascii()
        self.dotless = False
        self.mail_from = addresses.on_the_wire(content.from_email)
        self.domain = addresses.domain(content.from_email)
        if self.raw is None:
            try:
                self._compile()
            except Exception as error:  # noqa: BLE001  templates are data, and so are their mistakes
                raise refusal(error) from error

    def envelope(self, message: Message, *, own_path: bool = False, signed: bool = False) -> Envelope:
        """The mail as it is handed over. `own_path`: with a return path of its own where its domain has an address for them. `signed`:
        where its domain has a key; nearly all of the time that this takes passes outside of the GIL, so threads share it out. Raises
        Refused when it cannot be made, or not be signed."""
        signer = self.signer if signed else None
        try:
            data = self._mail(message, signer) if self.raw is None else self._finished(self.raw, signer)
        except Exception as error:  # noqa: BLE001
            raise refusal(error) from error
        return Envelope(
            message=message.id,
            mail_from=return_path.make(self.bounce_address, message.public_id) if own_path and self.bounce_address else self.mail_from,
            rcpt_to=addresses.on_the_wire(message.address),
            data=data,
            seven_bit=self.seven_bit if self.eight_bit else None,
            dotless=self.dotless,
        )

    def seven_bit(self) -> bytes:
        """The finished mail for a server that takes no 8-bit text, signed as such. Raises Refused."""
        try:
            data = eight_bit.encoded(self.raw or b"")
            return self.signer.fields(data) + data if self.signer else data
        except ValidationError as error:
            raise refusal(error) from error

    def _finished(self, raw: bytes, signer: dkim.Signer | None) -> bytes:
        if signer is None:
            return raw
        if self.signature is None:
            self.signature = signer.fields(raw)
        return self.signature + raw

    def _compile(self) -> None:
        content = self.content
        self.tracked = content if content.tracking_base and tracking.allowed() else None
        self.words = words = Words(content.subject, content.html, content.text, tracked=self.tracked)
        self.subject = rendering.plain(content.subject, escaped=False)
        encoding = mime.transfer_encoding(content.html or content.text)
        self.text = Part("plain", words.text, words.text_source, encoding)
        self.html = Part("html", words.html, words.html_source, encoding, tracked=bool(self.tracked)) if words.html else None
        shared = mime.mailbox("From", content.from_name, content.from_email)
        if content.reply_to:
            shared += mime.mailbox("Reply-To", "", content.reply_to)
        for name, value in content.headers.items():
            if name.lower() in OWN_FIELDS:
                raise ValidationError(_("The header field “%(name)s” cannot be given: every mail has it already.") % {"name": name})
            shared += mime.given(name, value)
        shared += "MIME-Version: 1.0\r\n"
        if self.html is None:
            shared += self.text.header
        else:
            # "=_" stands in no quoted-printable or base64 text, so the boundary stands in no part.
            boundary = f"=_{content.public_id.hex}"
            shared += f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n'
            self.before_text = f"--{boundary}\r\n{self.text.header}\r\n".encode()
            self.before_html = f"\r\n--{boundary}\r\n{self.html.header}\r\n".encode()
            self.after_html = f"\r\n--{boundary}--\r\n".encode()
        self.shared = shared.encode()
        self.shared_lines = dkim.signed_lines(self.shared)
        # No line of a part does, nor of the header but for a field of such a name.
        self.dotless = b"\n." not in self.shared

    def _mail(self, message: Message, signer: dkim.Signer | None) -> bytes:
        # Not by way of the message, which would look for its content.
        unsubscribe = self.content.unsubscribe_url(message.batch_id, message.recipient_ref)
        data = {**message.data, "email": message.address, "unsubscribe_url": unsubscribe}
        if self.tracked:
            data.update(tracking.values(self.tracked, message.id))
        subject = self.subject.render(data) if self.subject else rendering.render(self.words.subject, data)
        fields = [
            f"Date: {_date(message.created_at)}\r\n",
            mime.mailbox("To", str(message.data.get("name") or ""), message.address),
            mime.field("Subject", subject.strip()),
            f"Message-ID: <{self.content.message_id(message.public_id)}>\r\n",
            # Proves whose it is when it comes back, even where a relay has put its own return path on it.
            f"X-MailHub-ID: {return_path.token(message.public_id)}\r\n",
        ]
        if unsubscribe:
            # RFC 8058: never folded and never encoded, whatever the length. By mail for programs that cannot post (RFC 2369).
            by_mail = ""
            if self.bounce_address:
                address = return_path.make(self.bounce_address, message.public_id, return_path.UNSUBSCRIBE)
                by_mail = f", <mailto:{address}?subject=unsubscribe>"
            fields.append(f"List-Unsubscribe: <{unsubscribe}>{by_mail}\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")
        own = "".join(fields).encode()
        body, signed = self._body(data)
        signature = signer.fields_of([*dkim.signed_lines(own), *self.shared_lines], signed) if signer else b""
        return b"%b%b%b\r\n%b" % (signature, self.shared, own, body)

    def _body(self, data: Mapping[str, Any]) -> Body:
        text = self.text.make(data)
        if self.html is None:
            return text
        html = self.html.make(data)
        seams = self.before_text, self.before_html, self.after_html
        sent, signed = (b"%b%b%b%b%b" % (seams[0], words, seams[1], page, seams[2]) for words, page in zip(text, html, strict=True))
        return sent, signed


def load(contents: Collection[int]) -> list[tuple[Content, dkim.Signer | None]]:
    """The contents with these keys, each with the signer of its mails, for Compiled: three queries, however many there are."""
    found = list(Content.objects.filter(pk__in=contents))
    domains = {addresses.domain(content.from_email) for content in found}
    signers = dkim.signers(domains)
    bounces = dict(Domain.objects.filter(name__in=domains).exclude(bounce_address="").values_list("name", "bounce_address"))
    for content in found:
        content.bounce_address = bounces.get(addresses.domain(content.from_email), "")  # type: ignore[attr-defined]
    return [(content, signers.get(addresses.domain(content.from_email))) for content in found]


def refusal(error: Exception) -> Refused:
    match error:
        case jinja2.TemplateSyntaxError():
            reason = _("Line %(line)s of the template: %(problem)s") % {"line": error.lineno, "problem": error.message}
        case jinja2.UndefinedError() | rendering.TooMuch():
            reason = str(error)
        case ValidationError():
            reason = " ".join(error.messages)
        case _:
            reason = _("The mail could not be made from its template: %(problem)s") % {"problem": f"{type(error).__name__}: {error}"}
    return Refused(Reply(None, "5.6.0", reason[:500]), Fault.CONTENT)


def check(subject: str, html: str, text: str, known: Collection[str] | None = None) -> list[Problem]:
    """What is wrong with a mail's templates. With `known`, the names that can be filled in, others count as mistakes."""
    names = None if known is None else SYSTEM_NAMES | set(known)
    parts = (("subject", subject), ("html", html), ("text", text))
    return [problem for field, source in parts for problem in rendering.check(source, field, names)]
