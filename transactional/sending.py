"""The one way in for a site's mail: the Django backend, the HTTP API and SMTP submission all end in send()."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from email.message import Message as ParsedMail
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from typing import Any

import jinja2
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from mailhub.delivery import prepare, queue
from mailhub.delivery.models import Content
from mailhub.delivery.rendering import TooMuch
from mailhub.lib import addresses, clock
from mailhub.lib.headers import LINE_BREAKS, one_line
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional.models import Project, Submission, Template

MOST_RECIPIENTS = 1_000
# Octets; what Gmail and most relays accept, before their own envelope.
LARGEST_MAIL = 25 * 1024 * 1024
# Characters of JSON.
LARGEST_DATA = 500_000
# RFC 5322 section 2.1.1, without the CRLF.
LONGEST_LINE = 998
# An escape of it in JSON, behind an even number of backslashes.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# RFC 3834: so that no out-of-office reply comes back. Mails of a template are always made by a program.
TEMPLATE_HEADERS = {"Auto-Submitted": "auto-generated"}


class NotAccepted(Exception):
    """Nothing of this mail was accepted."""

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{field}: {problem} {remedy}".strip())
        #: what was wrong, by its name in Request ("recipients[2]" for one of several)
        self.field = field
        self.problem = problem
        #: what to do about it
        self.remedy = remedy


class Invalid(NotAccepted):
    """The request cannot be made a mail."""


class Forbidden(NotAccepted):
    """Not from this sender, or not by this project."""


class Conflict(NotAccepted):
    """The idempotency key was used for another mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a site asks for: a finished mail (`raw`), or a template filled in."""

    #: the From address
    sender: str
    #: envelope recipients, each gets a mail of their own
    recipients: Sequence[str]
    via: Submission.Via
    #: RFC 5322 bytes, 7-bit, CRLF line ends, lines of 998 octets at most, without Bcc
    raw: bytes = b""
    #: key of a Template
    template: str = ""
    #: what the template's placeholders stand for; "name" is also the recipient's display name
    data: Mapping[str, Any] = field(default_factory=dict)
    #: the recipient's language; where the template lacks it, LANGUAGE_CODE's, else any
    language: str = ""
    #: None: MailHub's own mail
    project: Project | None = None
    #: a second request with the same key is answered like the first, and makes no second mail
    idempotency_key: str = ""


def send(request: Request) -> Submission:
    """Accept one mail for each recipient, all or none. Raises Invalid, Forbidden or Conflict.

    When this returns, the mails are committed and will not be lost. Called inside a transaction of the caller's, they are accepted
    with its commit, and a rollback takes them back."""
    if len(request.idempotency_key) > 100:
        raise Invalid("idempotency_key", _("The key is longer than 100 characters."), _("A UUID does."))
    data = _json(request.data)
    digest = _digest(request, data)
    if earlier := _earlier(request, digest):
        return earlier
    sender = _sender(request)
    recipients = _recipients(request.recipients)
    content = _finished(request, sender) if request.raw else _filled_in(request, sender, recipients[0], data)
    try:
        return _accept(request, digest, content, sender, recipients, {} if request.raw else data)
    except IntegrityError:
        # The same key came twice at once, and the other was first.
        if earlier := _earlier(request, digest):
            return earlier
        raise


@transaction.atomic
def _accept(request: Request, digest: str, content: Content, sender: Sender, recipients: Sequence[str], data: dict[str, Any]) -> Submission:
    content.save()
    submission = Submission.objects.create(
        project=request.project,
        content=content,
        via=request.via,
        idempotency_key=request.idempotency_key,
        digest=digest if request.idempotency_key else "",
        accepted_at=clock.now(),
    )
    queue.enqueue([queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address=address, data=data) for address in recipients])
    return submission


# --------------------------------------------------------------------------------------------------------------- idempotency


def _digest(request: Request, data: dict[str, Any]) -> str:
    asked = [request.sender, list(request.recipients), request.template, data, request.language]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + b"\0" + request.raw).hexdigest()


def _earlier(request: Request, digest: str) -> Submission | None:
    if not request.idempotency_key:
        return None
    found = Submission.objects.filter(project=request.project, idempotency_key=request.idempotency_key).first()
    if found and found.digest != digest:
        raise Conflict(
            "idempotency_key",
            _("This key was used for another mail on %(when)s.") % {"when": f"{found.accepted_at:%Y-%m-%d %H:%M:%S %Z}"},
            _("Use a new key for each mail, and the same one only to repeat the same request."),
        )
    return found


# ------------------------------------------------------------------------------------------------------- sender and recipients


def _sender(request: Request) -> Sender:
    """The confirmed sender that the request may use. Raises Invalid or Forbidden."""
    if not request.sender:
        raise Invalid("sender", _("The mail has no sender."), _("Give the From address of a confirmed sender."))
    try:
        address = addresses.normalise(request.sender)
    except ValidationError as error:
        raise Invalid("sender", error.messages[0]) from None
    found = Sender.objects.filter(email__iexact=address).first()
    if found is None:
        raise Forbidden("sender", _("%(address)s is not a sender of this MailHub.") % {"address": address}, _allowed(request.project))
    if found.status != Sender.Status.CONFIRMED:
        raise Forbidden(
            "sender",
            _("The sender %(address)s is %(status)s.") % {"address": address, "status": found.get_status_display()},
            _("Have it confirmed in MailHub's admin, under Senders."),
        )
    if request.project and not request.project.senders.filter(pk=found.pk).exists():
        raise Forbidden(
            "sender",
            _("The project %(project)s may not send from %(address)s.") % {"project": request.project, "address": address},
            _allowed(request.project),
        )
    return found


def _allowed(project: Project | None) -> str:
    senders = project.senders if project else Sender.objects
    usable = list(senders.filter(status=Sender.Status.CONFIRMED).values_list("email", flat=True)[:10])
    if not usable:
        return _("Add it in MailHub's admin, under Senders, and confirm it.")
    return _("These can be used: %(addresses)s. More are added in MailHub's admin.") % {"addresses": ", ".join(usable)}


def _recipients(given: Sequence[str]) -> list[str]:
    """The normalised addresses, each once. Raises Invalid."""
    if not given:
        raise Invalid("recipients", _("The mail has no recipient."), _("Give at least one address."))
    if len(given) > MOST_RECIPIENTS:
        raise Invalid(
            "recipients",
            _("The mail has more than %(limit)s recipients.") % {"limit": MOST_RECIPIENTS},
            _("Send it in parts, or as a campaign."),
        )
    found: dict[str, str] = {}
    for position, text in enumerate(given):
        try:
            address = addresses.normalise(text)
        except ValidationError as error:
            raise Invalid(f"recipients[{position}]", error.messages[0]) from None
        found.setdefault(addresses.key(address), address)
    return list(found.values())


# ------------------------------------------------------------------------------------------------------------ finished mail


def _finished(request: Request, sender: Sender) -> Content:
    if request.template:
        raise Invalid("template", _("The mail is finished already."), _("Give either a template or the finished mail."))
    _transportable(request.raw)
    parsed = BytesHeaderParser().parsebytes(request.raw)
    return Content(subject=_subject(parsed), raw=request.raw, from_name=_authentic(parsed, sender), from_email=sender.email)


def _transportable(raw: bytes) -> None:
    """Raises Invalid for bytes that a relay would have to change, or could be deceived by (SMTP smuggling)."""
    if len(raw) > LARGEST_MAIL:
        raise Invalid(
            "raw",
            _("The mail is larger than %(limit)s MB.") % {"limit": LARGEST_MAIL // 1024 // 1024},
            _("Send a link in place of the attachment."),
        )
    if not raw.isascii() or b"\0" in raw:
        raise Invalid("raw", _("The mail has bytes outside of ASCII."), _("Encode its parts as quoted-printable or base64."))
    lines = raw.split(b"\r\n")
    if lines[-1] or any(b"\r" in line or b"\n" in line for line in lines):
        raise Invalid("raw", _("Not every line of the mail ends with CR LF."), _("End each line, the last one too, with both."))
    if max(map(len, lines)) > LONGEST_LINE:
        raise Invalid(
            "raw",
            _("The mail has a line of more than %(limit)s characters.") % {"limit": LONGEST_LINE},
            _("Encode its parts as quoted-printable or base64."),
        )


def _authentic(parsed: ParsedMail, sender: Sender) -> str:
    """The display name of the one From address, which must be the sender's. Raises Invalid."""
    people = getaddresses(list(map(str, parsed.get_all("From", []))))
    if len(people) == 1:
        name, address = people[0]
        try:
            if addresses.key(addresses.normalise(address)) == addresses.key(sender.email):
                return LINE_BREAKS.sub(" ", decoded(name))[:200]
        except ValidationError:
            pass
    raise Invalid(
        "raw",
        _("The mail's From is not the sender %(address)s alone.") % {"address": sender.email},
        _("Give exactly one From field with exactly this address."),
    )


def _subject(parsed: ParsedMail) -> str:
    return LINE_BREAKS.sub(" ", decoded(str(parsed.get("Subject", ""))))[:1000]


def decoded(value: str) -> str:
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, UnicodeError, ValueError):
        # An unknown or wrongly named character set: shown as it came.
        return value


# ---------------------------------------------------------------------------------------------------------------- templates


def _filled_in(request: Request, sender: Sender, recipient: str, data: dict[str, Any]) -> Content:
    if not request.template:
        raise Invalid("template", _("The mail says nothing."), _("Give a template's key, or a finished mail."))
    template = _template(request.template, request.language)
    _fits(template, {**data, "email": recipient, "unsubscribe_url": ""})
    return Content(
        subject=template.subject,
        html=template.html,
        text=template.text,
        from_name=sender.name,
        from_email=sender.email,
        reply_to=sender.reply_to,
        headers=TEMPLATE_HEADERS,
    )


def _template(key: str, language: str) -> Template:
    found = {template.language: template for template in Template.objects.filter(key=key)}
    if not found:
        known = Template.objects.order_by("key").values_list("key", flat=True).distinct()[:50]
        raise Invalid(
            "template",
            _("There is no template “%(key)s”.") % {"key": key},
            _("There are: %(keys)s.") % {"keys": ", ".join(known)} if known else _("Add it in MailHub's admin, under Templates."),
        )
    for wanted in (language.lower(), settings.LANGUAGE_CODE.lower()):
        for name in (wanted, wanted.partition("-")[0]):
            if name in found:
                return found[name]
    return next(iter(found.values()))


def _fits(template: Template, data: Mapping[str, Any]) -> None:
    """Fill the template in once, so that what is missing is the site's error and not a mail with a hole. Raises Invalid."""
    try:
        said = prepare.Words(template.subject, template.html, template.text, strict=True).render(data)
        one_line(said.subject)
        one_line(str(data.get("name") or ""))
    except jinja2.UndefinedError as error:
        remedy = _("Give a value for each placeholder of the template “%(template)s”.") % {"template": template}
        raise Invalid("data", str(error), remedy) from None
    except ValidationError as error:
        raise Invalid("data", error.messages[0], _("Names and what stands in the subject must be single lines.")) from None
    except TooMuch as error:
        raise Invalid("data", str(error)) from None
    except Exception as error:
        raise Invalid(
            "template",
            _("The template “%(template)s” fails with this data: %(problem)s") % {"template": template, "problem": error},
            _("Correct the template, or the data's types."),
        ) from error


def _json(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as the database will give it back: dates and decimals as text. Raises Invalid for what JSON cannot hold."""
    try:
        text = json.dumps(data, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Invalid("data", str(error), _("Give text, numbers, lists and objects.")) from None
    if len(text) > LARGEST_DATA:
        raise Invalid("data", _("The data is longer than %(limit)s characters as JSON.") % {"limit": LARGEST_DATA})
    if NUL.search(text):
        raise Invalid("data", _("The data holds a NUL character."), _("Leave it out."))
    copy = json.loads(text)
    if not isinstance(copy, dict):
        raise Invalid("data", _("The data is not an object of names and values."))
    return copy
