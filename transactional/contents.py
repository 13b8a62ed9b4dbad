"""The content that a request makes: a finished mail as it came, or a template frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.header import decode_header, make_header
from email.message import Message as ParsedMail
from email.parser import HeaderParser
from email.utils import getaddresses
from typing import Any
from uuid import uuid4

import jinja2
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext as _

from mailhub.delivery import mime, prepare
from mailhub.delivery.models import Content
from mailhub.delivery.rendering import TooMuch
from mailhub.lib import addresses
from mailhub.lib.headers import LINE_BREAKS, one_line
from mailhub.senders.models import Sender
from transactional.models import Template
from transactional.requests import Invalid, Request

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


# ------------------------------------------------------------------------------------------------------------ finished mail


def finished(request: Request, sender: Sender) -> Content:
    if request.template:
        raise Invalid("template", _("The mail is finished already."), _("Give either a template or the finished mail."))
    _transportable(request.raw)
    parsed = HeaderParser().parsestr(request.raw.partition(b"\r\n\r\n")[0].decode())
    return Content(
        public_id=request.reference or uuid4(),
        subject=_subject(parsed),
        raw=request.raw,
        from_name=_authentic(parsed, sender),
        from_email=sender.email,
    )


def _transportable(raw: bytes) -> None:
    """Raises Invalid for bytes that a relay would have to change, or could be deceived by (SMTP smuggling)."""
    if len(raw) > LARGEST_MAIL:
        raise Invalid(
            "raw",
            _("The mail is larger than %(limit)s MB.") % {"limit": LARGEST_MAIL // 1024 // 1024},
            _("Send a link in place of the attachment."),
        )
    if b"\0" in raw:
        raise Invalid("raw", _("The mail holds a NUL character."), _("Encode its parts as quoted-printable or base64."))
    try:
        raw.partition(b"\r\n\r\n")[0].decode()
    except UnicodeDecodeError:
        remedy = _("Encode header fields as RFC 2047 has it, or write them in UTF-8.")
        raise Invalid("raw", _("The mail's header is neither ASCII nor UTF-8."), remedy) from None
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
    if parsed.defects or parsed.get_unixfrom() or not all(map(mime.NAME.fullmatch, parsed.keys())):
        # Others might read a From there that we do not see.
        raise Invalid("raw", _("The mail's header is malformed."), _("Give one field a line, name and colon first, then an empty line."))
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


def filled_in(request: Request, sender: Sender, recipient: str, data: dict[str, Any]) -> Content:
    if not request.template:
        raise Invalid("template", _("The mail says nothing."), _("Give a template's key, or a finished mail."))
    template = _template(request.template, request.language)
    _fits(template, {**data, "email": recipient, "unsubscribe_url": ""})
    return Content(
        public_id=request.reference or uuid4(),
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


def snapshot(data: Mapping[str, Any]) -> dict[str, Any]:
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
