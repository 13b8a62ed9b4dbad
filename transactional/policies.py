"""What a project's settings make of its mail: refused by its stream; from the default sender in place of another From, always or where the
site gives one that it may not use."""

from __future__ import annotations

import re
from dataclasses import replace
from email.parser import HeaderParser
from email.utils import getaddresses

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from mailhub.delivery import mime
from mailhub.lib import addresses
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional import contents
from transactional.models import Project
from transactional.requests import Forbidden, Person, Request

FIELD = re.compile(rb"\r\n(?![ \t])")
# Signatures are over the From that was.
REPLACED = (b"from", b"sender", b"dkim-signature")


def not_its_stream(project: Project) -> Forbidden | None:
    """Why the project hands in no mails, if it is one for campaigns: those want consent and a way out, which a mail does not bring."""
    if project.stream == Stream.TRANSACTIONAL:
        return None
    return Forbidden(
        "project",
        _("The project %(project)s is for campaigns, and its mails are not taken.") % {"project": project},
        _("Make a campaign (POST /api/v1/campaigns), or hand in mails such as orders by a project of their own."),
    )


def forced(request: Request, sender: Sender) -> Request:
    """The request from this sender. Who it was from before gets the answers, unless the mail names somebody for them."""
    before = request.sender
    if not before or addresses.key(before.strip()) == addresses.key(sender.email):
        return replace(request, sender=sender.email)
    if request.raw:
        return replace(request, sender=sender.email, raw=_rewritten(request.raw, before, sender))
    if request.draft:
        answers = request.draft.reply_to or _people(before)
        return replace(request, sender=sender.email, draft=replace(request.draft, reply_to=answers))
    return replace(request, sender=sender.email, reply_to=request.reply_to or before)


def _rewritten(raw: bytes, before: str, sender: Sender) -> bytes:
    """The finished mail with another From; the display name stays."""
    head, blank, body = raw.partition(b"\r\n\r\n")
    parsed = HeaderParser().parsestr(head.decode(errors="replace"))
    people = getaddresses(list(map(str, parsed.get_all("From", []))))
    if len(people) != 1:
        # It is refused for that, with words of its own.
        return raw
    new = _from(people[0][0], sender)
    if "Reply-To" not in parsed and (answers := _people(before)):
        new += mime.mailboxes("Reply-To", answers)
    fields = []
    for field in FIELD.split(head):
        name = field.partition(b":")[0].strip().lower()
        if name == b"from":
            fields.append(new.removesuffix("\r\n").encode())
        elif name not in REPLACED:
            fields.append(field)
    return b"\r\n".join(fields) + blank + body


def _from(name: str, sender: Sender) -> str:
    try:
        return mime.mailbox("From", contents.decoded(name) or sender.name, sender.email)
    except ValidationError:
        return mime.mailbox("From", sender.name, sender.email)


def _people(address: str) -> list[Person]:
    try:
        return [("", addresses.normalise(address))]
    except ValidationError:
        return []
