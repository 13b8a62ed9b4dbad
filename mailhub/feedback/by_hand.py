"""What staff do with mails that came back: bring them, say whose they are, let them be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.utils.translation import gettext as _

from mailhub.delivery import events
from mailhub.delivery.models import Event, Message
from mailhub.feedback import bounces, incoming, mime
from mailhub.feedback.models import IncomingMail
from mailhub.feedback.receivers import intake, unpack
from mailhub.lib import clock
from mailhub.lib.states import WrongState

Status = IncomingMail.Status
# Those that need a person.
OPEN = (Status.UNMATCHED, Status.UNPROVEN, Status.STUCK)
# Bytes of an uploaded file, and mails in it.
LARGEST_FILE, MOST_MAILS = 50 * 1024 * 1024, 1_000
MBOX = re.compile(rb"^From [^\n]*\n(?=[!-9;-~]{1,76}:)", re.MULTILINE)
ESCAPED = re.compile(rb"^>(>*From )", re.MULTILINE)
LOOKS_LIKE_MAIL = re.compile(rb"\A\s*(?:>?From [^\n]*\n)?[!-9;-~]{1,76}[ \t]*:", re.MULTILINE)


@dataclass(slots=True)
class Brought:
    """What became of uploaded files."""

    mails: list[IncomingMail] = field(default_factory=list)
    reports: intake.Taken = field(default_factory=intake.Taken)

    def count(self, *states: str) -> int:
        return sum(mail.status in states for mail in self.mails)


def bring(data: bytes, name: str, brought: Brought) -> None:
    """Mails as .eml or mbox, and files of reports; what each is shows in itself."""
    start = data[:16].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data.startswith((unpack.GZIP, unpack.ZIP)) or start.startswith((b"<", b"{")):
        intake.take(data, brought.reports, name)
    elif LOOKS_LIKE_MAIL.match(data[:4000].replace(b"\r\n", b"\n")):
        brought.mails += [incoming.take(raw, IncomingMail.Source.UPLOAD) for raw in mails(data)]
    else:
        brought.reports.problems.append(f"{name}: " + _("It is neither a mail nor a report."))


def mails(data: bytes) -> Iterator[bytes]:
    """One, or those of an mbox file (RFC 4155)."""
    if not data.startswith(b"From "):
        yield data
        return
    text = data.replace(b"\r\n", b"\n")
    starts = list(MBOX.finditer(text))[:MOST_MAILS]
    for place, start in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        yield ESCAPED.sub(rb"\1", text[start.end() : end])


@transaction.atomic
def match(mail: IncomingMail, message: Message, kind: str = "") -> None:
    """Staff say whose it is; `kind` (hard or soft) where the mail does not say itself what happened. Raises WrongState."""
    held = IncomingMail.objects.select_for_update().get(pk=mail.pk)
    if Status.APPLIED not in IncomingMail.MOVES[Status(held.status)] or held.status == Status.NEW:
        raise WrongState(held.status)
    reading = bounces.read_mail(mime.read(bytes(held.raw or b"")))
    held.message, held.proof = message, IncomingMail.Proof.STAFF
    if kind in (Event.Kind.HARD, Event.Kind.SOFT):
        said = reading.reports[0].diagnostic if len(reading.reports) == 1 else held.subject
        events.record(message, Event.Type.BOUNCED, at=held.received_at, detail=said[:500], kind=kind, source=f"mail {held.digest} staff")
        held.status = Status.APPLIED
    else:
        held.status = incoming.apply_by_hand(held, message, reading)
    held.read_at = clock.now()
    held.save(update_fields=["message", "proof", "status", "read_at"])
    mail.refresh_from_db()


def dismiss(found: QuerySet[IncomingMail]) -> int:
    """Let those be that need a person; returns how many."""
    return found.filter(status__in=OPEN).update(status=Status.DISMISSED)


def read_again(mail: IncomingMail) -> None:
    """As when it came: the parser may know more by now. Raises WrongState."""
    moved = IncomingMail.objects.filter(pk=mail.pk, status__in=[*OPEN, Status.DISMISSED], raw__isnull=False)
    if not moved.update(status=Status.NEW, tries=0):
        raise WrongState(mail.status)
    incoming.work(mail)


def candidates(asked: str) -> list[Message]:
    """The newest messages to an address, or the one with a number or Message-ID. Index delivery_message_address."""
    asked = asked.strip().strip("<>")
    rows = Message.objects.select_related("content", "relay", "batch").defer("relay__secrets")
    if asked.isascii() and asked.isdigit() and len(asked) < 19:
        return list(rows.filter(pk=int(asked)))
    name = asked.partition("@")[0]
    if re.fullmatch(r"[0-9a-f]{32}", name):
        return list(rows.filter(public_id=name))
    return list(rows.annotate(lowered=Lower("address")).filter(lowered=asked.lower()).order_by("-pk")[:20]) if "@" in asked else []
