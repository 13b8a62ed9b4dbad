"""A mail that came back: stored, read, and matched to the one message that it is about.

Only proof counts: the return path that this message alone had, or our signed header in the mail that is returned. A Message-ID, which
others may have seen, names a message but proves nothing. What a mail claims about anybody else changes nothing. No mail is ever
answered.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from mailhub.delivery import events
from mailhub.delivery.models import Event, Message
from mailhub.feedback import addresses as found_addresses
from mailhub.feedback import arf, bounces, mime, probes
from mailhub.feedback.models import IncomingMail, Mailbox, Probe
from mailhub.feedback.receivers import intake
from mailhub.feedback.reports import MailKind, Reading, Report
from mailhub.lib import addresses, clock
from mailhub.lib.replies.verdicts import Kind
from mailhub.lib.tokens import BadToken
from mailhub.senders import return_path

logger = logging.getLogger(__name__)

Status = IncomingMail.Status
Proof = IncomingMail.Proof

# Of a mail that reading fails for, before it is set aside.
TRIES = 3
# Where servers write to whom a mail came, the most trustworthy first.
RECIPIENTS = ("x-original-to", "delivered-to", "envelope-to", "x-envelope-to", "original-recipient", "to")
PUBLIC_ID = 32


def take(raw: bytes, source: str, *, rcpt_to: str = "", mail_from: str = "", mailbox: Mailbox | None = None) -> IncomingMail:
    """Store a mail, and do what it asks for. On return it is committed: whoever handed it over may let go of it. Once only, however often
    and by however many ways it comes. Raises nothing but what the database raises."""
    kept = raw[: mime.MOST_BYTES * 2]
    mail, is_new = IncomingMail.objects.get_or_create(
        digest=hashlib.sha256(raw).hexdigest(),
        defaults={
            "source": source,
            "mailbox": mailbox,
            "rcpt_to": _storable(rcpt_to, 320),
            "mail_from": _storable(mail_from, 320),
            "raw": kept,
            "size": len(raw),
            "received_at": clock.now(),
        },
    )
    if is_new:
        work(mail)
    return mail


def work(mail: IncomingMail) -> None:
    """Read a stored mail. One on which we stumble, or which ends the process, stays to be read, and is set aside after TRIES."""
    this = IncomingMail.objects.filter(pk=mail.pk, status=Status.NEW)
    # Counted and committed before, since who is killed counts nothing afterwards.
    if not this.filter(tries__lt=TRIES).update(tries=F("tries") + 1):
        this.filter(tries__gte=TRIES).update(status=Status.STUCK)
        mail.refresh_from_db()
        return
    try:
        with transaction.atomic():
            held = IncomingMail.objects.select_for_update().get(pk=mail.pk)
            if held.status == Status.NEW and held.raw is not None:
                _read(held)
                held.read_at = clock.now()
                held.save()
    except Exception:
        logger.exception("incoming mail %s could not be read", mail.pk)
        this.filter(tries__gte=TRIES).update(status=Status.STUCK)
    mail.refresh_from_db()


def work_off(most: int = 500) -> int:
    """Read what was stored and not read, as when a worker died in between. Index feedback_incoming_new."""
    waiting = list(IncomingMail.objects.filter(status=Status.NEW).order_by("pk")[:most])
    for mail in waiting:
        work(mail)
    return len(waiting)


def forget() -> int:
    """Forget the words of old mails, which may quote ours, and what is left of them when messages are forgotten; returns how many mails
    that were. Indexes feedback_incoming_words and the primary key."""
    now = clock.now()
    words = now - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS)
    IncomingMail.objects.filter(raw__isnull=False, received_at__lt=words).exclude(status=Status.NEW).update(raw=None)
    newest = IncomingMail.objects.order_by("pk").filter(received_at__gte=now - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS)).first()
    old = IncomingMail.objects.filter(raw__isnull=True)
    return (old.filter(pk__lt=newest.pk) if newest else old).delete()[0]


@dataclass(frozen=True, slots=True)
class Match:
    message: Message
    proof: IncomingMail.Proof


def _read(mail: IncomingMail) -> None:
    parsed = mime.read(bytes(mail.raw or b""))
    reading = bounces.read_mail(parsed)
    mail.kind = reading.kind.value
    mail.subject, mail.sender = _storable(parsed.header("subject"), 500), _storable(parsed.header("from"), 320)
    mail.reports = [_told(report) for report in reading.reports]
    came_to = list(_came_to(mail, parsed))
    if _answers_probe(came_to, reading):
        mail.status = Status.APPLIED
        return
    if reading.kind not in (MailKind.BOUNCE, MailKind.COMPLAINT) and (leaver := _unsubscribes(came_to)):
        mail.message, mail.proof, mail.status = leaver, Proof.RETURN_PATH, Status.APPLIED
        events.record(leaver, Event.Type.UNSUBSCRIBED, at=mail.received_at, source=f"mail {mail.digest}")
        return
    match = _match(came_to, reading)
    if match:
        mail.message, mail.proof = match.message, match.proof
    if reading.kind in (MailKind.RECEIVER_REPORT, MailKind.OTHER):
        mail.status = _receiver_report(mail)
    elif reading.kind not in (MailKind.BOUNCE, MailKind.DELIVERED, MailKind.COMPLAINT):
        mail.status = Status.NOTED
    elif match is None:
        mail.status = Status.UNMATCHED
    else:
        mail.status = _apply(mail, match, reading)


def _receiver_report(mail: IncomingMail) -> IncomingMail.Status:
    """What a receiver tells of our domains is counted; why it could not be read stands where reports of bounces do."""
    taken = intake.of_mail(bytes(mail.raw or b""))
    if taken.read:
        mail.kind = MailKind.RECEIVER_REPORT.value
        return Status.APPLIED
    if mail.kind != MailKind.RECEIVER_REPORT:
        return Status.NOTED
    mail.reports = [{"diagnostic": _storable(problem, 500)} for problem in taken.problems or ["no report in it"]]
    return Status.STUCK


def _apply(mail: IncomingMail, match: Match, reading: Reading) -> IncomingMail.Status:
    about = [report for report in reading.reports if _is_about(report, match.message)]
    if match.proof == Proof.MESSAGE_ID or (not about and reading.kind != MailKind.COMPLAINT) or (reading.reports and not about):
        return Status.UNPROVEN
    claims = [claim for claim in map(_claim, about) if claim] or (
        [(str(Event.Type.COMPLAINED), "")] if reading.kind == MailKind.COMPLAINT else []
    )
    for place, (type, kind) in enumerate(claims):
        report = about[place] if place < len(about) else None
        events.record(
            match.message,
            type,
            at=mail.received_at,
            detail=_storable(report.diagnostic, 500) if report else "",
            kind=kind,
            category=report.category.value if report else "complaint",
            source=f"mail {mail.digest} {place}",
        )
    return Status.APPLIED if claims else Status.NOTED


def apply_by_hand(mail: IncomingMail, message: Message, reading: Reading) -> IncomingMail.Status:
    """What it says is recorded with the message that staff chose, though it names a forwarded address instead of the message's own."""
    if reading.kind not in (MailKind.BOUNCE, MailKind.DELIVERED, MailKind.COMPLAINT):
        return Status.APPLIED
    if len(reading.reports) == 1:
        reading = replace(reading, reports=(replace(reading.reports[0], original_recipient=message.address),))
    return _apply(mail, Match(message, Proof.STAFF), reading)


def _claim(report: Report) -> tuple[str, str] | None:
    """The event that a report becomes, and the kind of a bounce."""
    if report.kind == Kind.COMPLAINT:
        return (Event.Type.COMPLAINED, "") if report.feedback_type != "not-spam" else None
    if report.action == "delivered":
        return Event.Type.DELIVERED, ""
    if report.action == "delayed":
        return Event.Type.DEFERRED, ""
    if report.kind not in (Kind.HARD, Kind.SOFT):
        return None
    return Event.Type.BOUNCED, Event.Kind.HARD if report.kind == Kind.HARD else Event.Kind.SOFT


def _is_about(report: Report, message: Message) -> bool:
    """About the message's own recipient, or nobody by name: the proof then says whom."""
    said = [address for address in (report.recipient, report.original_recipient) if address]
    if report.feedback_type:
        said = [address for address in said if not arf.REDACTED.match(address)]
    named = {addresses.key(address) for address in said}
    return not named or addresses.key(message.address) in named


def _match(came_to: list[str], reading: Reading) -> Match | None:
    # Complaints go to an address of their own, and say in what they return which return path the mail had.
    for token in filter(None, map(return_path.found, [*came_to, reading.returned.get("return-path", "")])):
        if message := _message(_public_id(token)):
            return Match(message, Proof.RETURN_PATH)
    if message := _message(_public_id(reading.returned.get("x-mailhub-id", "").strip())):
        return Match(message, Proof.HEADER)
    written = reading.returned.get("message-id", "").strip().lstrip("<")[:PUBLIC_ID]
    try:
        message = _message(UUID(hex=written)) if len(written) == PUBLIC_ID else None
    except ValueError:
        return None
    return Match(message, Proof.MESSAGE_ID) if message else None


def _unsubscribes(came_to: list[str]) -> Message | None:
    """The message whose recipient wants no more: a mail came to the address that its List-Unsubscribe named. Nobody else knows it, so what
    the mail says, and whom it says it is from, is not looked at."""
    for token in filter(None, map(return_path.found, came_to)):
        if message := _message(_public_id(token, return_path.UNSUBSCRIBE)):
            return message
    return None


def _public_id(token: str, purpose: str = return_path.MESSAGE) -> UUID | None:
    try:
        return return_path.read(token, purpose)
    except (BadToken, ValueError):
        return None


def _message(public_id: UUID | None) -> Message | None:
    return Message.objects.filter(public_id=public_id).first() if public_id else None


def _answers_probe(came_to: list[str], reading: Reading) -> bool:
    """The bounce of a test mail came to the return path that it had: its relay keeps those."""
    for address in came_to:
        try:
            return_path.read(return_path.found(address), return_path.PROBE)
        except (BadToken, ValueError):
            continue
        probe = Probe.objects.filter(return_path=address.lower()).first()
        if probe and reading.kind == MailKind.BOUNCE:
            probes.came_back(probe, clock.now())
            return True
    return False


def _came_to(mail: IncomingMail, parsed: mime.Part) -> Iterator[str]:
    """The addresses that it came to: as whoever handed it over says, else as servers on its way have written."""
    if mail.rcpt_to:
        yield mail.rcpt_to
        return
    for name in RECIPIENTS:
        for value in parsed.headers.get(name, ())[:10]:
            yield from found_addresses.every(value)[:10]


def _told(report: Report) -> dict[str, Any]:
    return {
        "recipient": _storable(report.recipient, 320),
        "kind": report.kind.value,
        "category": report.category.value,
        "action": report.action,
        "status": report.status,
        "code": report.code,
        "diagnostic": _storable(report.diagnostic, 500),
    }


def _storable(text: str, length: int) -> str:
    return text.replace("\0", "").encode(errors="replace").decode()[:length]
