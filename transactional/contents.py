"""The content that a request makes: a finished mail as it came, or a template frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from email.header import decode_header, make_header
from email.message import Message as ParsedMail
from email.parser import HeaderParser
from email.utils import getaddresses
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jinja2
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext as _

from mailhub.delivery import mime, prepare, tracking
from mailhub.delivery.models import Content
from mailhub.delivery.rendering import TooMuch
from mailhub.lib import addresses
from mailhub.lib.headers import LINE_BREAKS, one_line
from mailhub.senders.models import Sender
from transactional import variables
from transactional.models import Template, TemplateVersion
from transactional.requests import Invalid, Request

# Octets; what Gmail and most relays accept, before their own envelope.
LARGEST_MAIL = 25 * 1024 * 1024
# Characters of JSON.
LARGEST_DATA = 500_000
# RFC 5322 section 2.1.1, without the CRLF.
LONGEST_LINE = 998
# An escape of it in JSON, behind an even number of backslashes.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# What a template's key may be (validate_slug).
SLUG = re.compile(r"[-a-zA-Z0-9_]+")
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
    if lines[-1] or not len(lines) - 1 == raw.count(b"\r") == raw.count(b"\n"):
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
    people = people_of(tuple(map(str, parsed.get_all("From", []))))
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


def people_of(fields: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and addresses. A site's mails come from few, so short ones are remembered: 1 us in place of 10, at the door and here."""
    return list(_remembered(fields) if sum(map(len, fields)) < 500 else getaddresses(list(fields)))


@lru_cache(maxsize=1_000)
def _remembered(fields: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(getaddresses(list(fields)))


def _subject(parsed: ParsedMail) -> str:
    return LINE_BREAKS.sub(" ", decoded(str(parsed.get("Subject", ""))))[:1000]


def decoded(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, UnicodeError, ValueError):
        # An unknown or wrongly named character set: shown as it came.
        return value


# ---------------------------------------------------------------------------------------------------------------- templates


#: key of a template -> language -> the version in use
InUse = Mapping[str, Mapping[str, TemplateVersion]]


def in_use(keys: Collection[str]) -> InUse:
    """The published templates with these keys: one query, index of transactional_template_once."""
    found: dict[str, dict[str, TemplateVersion]] = {}
    # Of what else sites may write there, the database would not even look at some.
    asked = {key for key in keys if SLUG.fullmatch(key)}
    rows = Template.objects.filter(key__in=asked, published__isnull=False).select_related("published") if asked else ()
    for row in rows:
        assert row.published is not None  # noqa: S101  the query asked for it
        found.setdefault(row.key, {})[row.language] = row.published
    return found


def filled_in(request: Request, sender: Sender, recipient: str, data: dict[str, Any], known: InUse) -> tuple[Content, TemplateVersion]:
    if not request.template:
        raise Invalid("template", _("The mail says nothing."), _("Give a template's key, or a finished mail."))
    version = published(request.template, request.language, known)
    _fits(version, {**data, "email": recipient, "unsubscribe_url": ""})
    content = frozen(version, sender, request.reference)
    project = request.project
    track(content, request, sender, opens=bool(project and project.tracks_opens), clicks=bool(project and project.tracks_clicks))
    return content, version


def track(content: Content, request: Request, sender: Sender, *, opens: bool = False, clicks: bool = False) -> None:
    """Have the content tell of opens and clicks as the request wants it, and where it says nothing, as is given."""
    opens = opens if request.track_opens is None else request.track_opens
    clicks = clicks if request.track_clicks is None else request.track_clicks
    if opens or clicks:
        tracking.switch_on(content, opens=opens, clicks=clicks, host=sender.domain.link_host)


def frozen(words: Template | TemplateVersion, sender: Sender, reference: UUID | None = None) -> Content:
    return Content(
        public_id=reference or uuid4(),
        subject=words.subject,
        html=words.html,
        text=words.text,
        from_name=sender.name,
        from_email=sender.email,
        reply_to=sender.reply_to,
        headers=TEMPLATE_HEADERS,
    )


def published(key: str, language: str, known: InUse) -> TemplateVersion:
    """The version in use of the template with this key, in this language where there is one, else in LANGUAGE_CODE, else in any.
    Raises Invalid."""
    found = known.get(key)
    if not found:
        raise _no_template(key)
    for wanted in (language.lower(), settings.LANGUAGE_CODE.lower()):
        for name in (wanted, wanted.partition("-")[0]):
            if name in found:
                return _with_key(found[name], key, name)
    name, version = next(iter(found.items()))
    return _with_key(version, key, name)


def _with_key(version: TemplateVersion, key: str, language: str) -> TemplateVersion:
    """With as much of its template as its name takes, so that none is read for it."""
    version.template = Template(pk=version.template_id, key=key, language=language)
    return version


def _no_template(key: str) -> Invalid:
    if SLUG.fullmatch(key) and Template.objects.filter(key=key).exists():
        return Invalid(
            "template",
            _("The template “%(key)s” has not been published.") % {"key": key},
            _("Publish it in MailHub's admin, under Templates."),
        )
    known = Template.objects.filter(published__isnull=False).order_by("key").values_list("key", flat=True).distinct()[:50]
    return Invalid(
        "template",
        _("There is no template “%(key)s”.") % {"key": key},
        _("There are: %(keys)s.") % {"keys": ", ".join(known)} if known else _("Add it in MailHub's admin, under Templates."),
    )


def _fits(version: TemplateVersion, data: Mapping[str, Any]) -> None:
    """Fill the template in once, so that what is missing is the site's error and not a mail with a hole. Raises Invalid."""
    remedy = _("Give a value for each placeholder of the template “%(template)s”.") % {"template": version.template}
    if lacking := variables.missing(version, data):
        raise Invalid("data", _("There is no value for “%(name)s”.") % {"name": ", ".join(lacking[:20])}, remedy)
    try:
        said = prepare.Words(version.subject, version.html, version.text, strict=True).render(variables.filled(version, data))
        one_line(said.subject)
        one_line(str(data.get("name") or ""))
    except jinja2.UndefinedError as error:
        raise Invalid("data", str(error), remedy) from None
    except ValidationError as error:
        raise Invalid("data", error.messages[0], _("Names and what stands in the subject must be single lines.")) from None
    except TooMuch as error:
        raise Invalid("data", str(error)) from None
    except Exception as error:
        raise Invalid(
            "template",
            _("The template “%(template)s” fails with this data: %(problem)s") % {"template": version.template, "problem": error},
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
