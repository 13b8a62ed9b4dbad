"""The one way in for a site's mail: the Django backend, the HTTP API and SMTP submission all end in send()."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from mailhub.delivery import events, formats, queue
from mailhub.delivery.models import Content, Event, Message
from mailhub.lib import addresses, clock
from mailhub.lib.lookups import among
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional import contents, drafts, limits, policies, variables
from transactional.models import Project, Submission, Template, TemplateVersion
from transactional.requests import Conflict, Forbidden, Invalid, Limited, NotAccepted, Request

MOST_RECIPIENTS = 1_000
# Characters of Submission.origin.
ORIGIN = 300


def send(request: Request) -> Submission:
    """Accept one mail for each recipient, all or none. Raises Invalid, Forbidden or Conflict.

    When this returns, the mails are committed and will not be lost. Called inside a transaction of the caller's, they are accepted
    with its commit, and a rollback takes them back."""
    (outcome,) = send_all([request])
    if isinstance(outcome, NotAccepted):
        raise outcome
    return outcome


def send_all(requests: Sequence[Request]) -> list[Submission | NotAccepted]:
    """Accept each mail or tell why not, as send() does: what is wrong with one is nothing to the others. The accepted ones cost one
    commit and a few statements together, however many they are."""
    senders = _usable(requests)
    repeated = _repeated(requests)
    templates = contents.in_use({request.template for request in requests if request.template})
    outcomes = _within_limits([_looked_at(request, senders, repeated, templates) for request in requests])
    fresh = [outcome for outcome in outcomes if isinstance(outcome, _Fit)]
    answers: Iterator[Submission | NotAccepted]
    try:
        answers = iter(_accept(fresh) if fresh else ())
    except (IntegrityError, DataError):
        # Perhaps the same key came twice at once, and the other was first. Each for itself, so that only that one hears of it.
        answers = iter([_accept_alone(fit) for fit in fresh])
    return [next(answers) if isinstance(outcome, _Fit) else outcome for outcome in outcomes]


def send_draft(template: Template, sender: Sender, address: str) -> Submission:
    """A template as it is written now, filled in with its samples, to somebody of ours. Raises Invalid."""
    try:
        variables.check(template)
    except ValidationError as error:
        raise Invalid("template", error.messages[0]) from None
    except formats.NotWellFormed as error:
        raise Invalid("template", str(error)) from None
    request = Request(sender=sender.email, recipients=[address], via=Submission.Via.ADMIN, template=template.key)
    return _accept([_Fit(request, "", contents.frozen(template, sender), sender, [address], contents.snapshot(template.sample), None)])[0]


@dataclass(frozen=True, slots=True)
class _Fit:
    """A request that nothing is wrong with, and what becomes of it."""

    request: Request
    digest: str
    content: Content
    sender: Sender
    recipients: Sequence[str]
    data: dict[str, Any]
    #: of the template it was filled in from
    version: TemplateVersion | None


#: (project, address) -> the sender, or why it may not be used
Senders = dict[tuple[int | None, str], Sender | Forbidden]


#: (project, idempotency key) -> what was accepted under it
Repeated = dict[tuple[int | None, str], Submission]


def _looked_at(request: Request, senders: Senders, repeated: Repeated, templates: contents.InUse) -> _Fit | Submission | NotAccepted:
    try:
        if len(request.idempotency_key) > 100:
            raise Invalid("idempotency_key", _("The key is longer than 100 characters."), _("A UUID does."))
        data = contents.snapshot(request.data)
        digest = (request.digest or _digest(request, data)) if request.idempotency_key else ""
        if earlier := repeated.get(_once(request)):
            return _same(earlier, digest)
        if request.project and (refusal := policies.not_its_stream(request.project)):
            raise refusal
        request, sender = _from(request, senders)
        recipients = _recipients(request.recipients)
        version = None
        if request.raw:
            content = contents.finished(request, sender)
        elif request.draft:
            content, version = drafts.content(request, request.draft, sender, data, templates)
        else:
            content, version = contents.filled_in(request, sender, recipients[0], data, templates)
            content.reply_to = request.reply_to or content.reply_to
    except NotAccepted as error:
        return error
    return _Fit(request, digest, content, sender, recipients, {} if content.raw is not None else data, version)


@transaction.atomic
def _accept(fits: Sequence[_Fit]) -> list[Submission]:
    now = clock.now()
    Content.objects.bulk_create([fit.content for fit in fits])
    submissions = Submission.objects.bulk_create([
        Submission(
            project=fit.request.project,
            content=fit.content,
            via=fit.request.via,
            origin=fit.request.origin[:ORIGIN],
            template=fit.request.template,
            version=fit.version.number if fit.version else None,
            idempotency_key=fit.request.idempotency_key,
            digest=fit.digest,
            tags="\n".join(["", *fit.request.tags, ""]) if fit.request.tags else "",
            metadata=dict(fit.request.metadata),
            accepted_at=now,
        )
        for fit in fits
    ])  # fmt: skip
    messages = [_message(fit, address, now) for fit in fits for address in fit.recipients]
    queue.enqueue(messages)
    kept = [message for message in messages if message.status == Message.Status.SUPPRESSED]
    events.write(Event(message=message, type=Event.Type.REJECTED, at=now, detail=message.reply) for message in kept)
    return submissions


def _message(fit: _Fit, address: str, now: datetime) -> Message:
    message = queue.new(
        Stream.TRANSACTIONAL, at=now, content=fit.content, sender=fit.sender, address=address, data=fit.data, source_ref=_ref(fit.request)
    )
    if fit.request.send_at and fit.request.send_at > now:
        message.expires_at += fit.request.send_at - now
        message.next_attempt_at = fit.request.send_at
    project = fit.request.project
    if project and project.muted and (line := project.mutes(fit.request.template, fit.request.tags, fit.content.subject)):
        words = _("Not sent, because the project has switched off such mail: %(line)s") % {"line": line}
        message.status, message.settled_at, message.reply = Message.Status.SUPPRESSED, now, words[:500]
    return message


def _ref(request: Request) -> int:
    """By which the queue gives each project its fair part; 0 for MailHub's own mail."""
    return request.project.pk if request.project else 0


def _accept_alone(fit: _Fit) -> Submission | NotAccepted:
    fit.content.pk = None
    try:
        return _accept([fit])[0]
    except DataError as error:
        return Invalid("raw" if fit.request.raw else "data", _("The database cannot hold this mail: %(problem)s") % {"problem": error})
    except IntegrityError:
        try:
            if earlier := _repeated([fit.request]).get(_once(fit.request)):
                return _same(earlier, fit.digest)
        except Conflict as conflict:
            return conflict
        return Forbidden("sender", _("The sender or the project has just been deleted."))


# --------------------------------------------------------------------------------------------------------------- idempotency


def _digest(request: Request, data: dict[str, Any]) -> str:
    asked = [request.sender, list(request.recipients), request.template, data, request.language]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + b"\0" + request.raw).hexdigest()


def _once(request: Request) -> tuple[int | None, str]:
    return (request.project.pk if request.project else None, request.idempotency_key)


def _repeated(requests: Sequence[Request]) -> Repeated:
    """What was accepted earlier under the keys of these requests: one query a project."""
    keys: dict[int | None, list[str]] = {}
    for request in requests:
        if request.idempotency_key:
            keys.setdefault(_once(request)[0], []).append(request.idempotency_key)
    found = [
        Submission.objects.filter(among("idempotency_key", each), ~Q(idempotency_key=""), project=project).select_related("content")
        for project, each in keys.items()
    ]
    return {(row.project_id, row.idempotency_key): row for rows in found for row in rows}


def _same(earlier: Submission, digest: str) -> Submission:
    """Raises Conflict where it was another request."""
    if earlier.digest == digest:
        return earlier
    raise Conflict(
        "idempotency_key",
        _("This key was used for another mail on %(when)s.") % {"when": f"{earlier.accepted_at:%Y-%m-%d %H:%M:%S %Z}"},
        _("Use a new key for each mail, and the same one only to repeat the same request."),
    )


# -------------------------------------------------------------------------------------------------------------------- limits


def _within_limits(outcomes: list[_Fit | Submission | NotAccepted]) -> list[_Fit | Submission | NotAccepted]:
    """The same, but for mails that are more than their projects may hand in now. What is taken and then not stored, because another was
    quicker with the same key, stays taken."""
    limited: dict[int, list[int]] = {}
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, _Fit) and (project := outcome.request.project) and (most := limits.smallest(project)):
            if len(outcome.recipients) > most:
                words = _("The mail has more recipients than the project may send to at once (%(limit)s).") % {"limit": most}
                outcomes[number] = Invalid("recipients", words, _("Send it in parts, or have the limit raised in MailHub's admin."))
            else:
                limited.setdefault(project.pk, []).append(number)
    for numbers in limited.values():
        fits = [fit for number in numbers if isinstance(fit := outcomes[number], _Fit)]
        project = fits[0].request.project
        assert project  # noqa: S101  it has limits
        fitting, window = limits.take(project, [len(fit.recipients) for fit in fits])
        if window:
            for number in numbers[fitting:]:
                outcomes[number] = too_many(project, window)
    return outcomes


def too_many(project: Project, window: limits.Window) -> Limited:
    words = {"project": project, "limit": window.limit, "what": window.meter.label}
    return Limited(
        "",
        _("The project %(project)s may hand in no more at present: its limit is %(limit)s %(what)s.") % words,
        _("Try again in %(seconds)s seconds.") % {"seconds": window.seconds},
        retry_after=window.seconds,
    )


# ------------------------------------------------------------------------------------------------------- sender and recipients


def _from(request: Request, known: Senders) -> tuple[Request, Sender]:
    """The request as the project's policy has it, and its sender. Raises Invalid or Forbidden."""
    project = request.project
    if project is None or project.from_policy == Project.FromPolicy.KEEP:
        return request, _sender(request, known)
    if project.from_policy == Project.FromPolicy.DEFAULT:
        try:
            return request, _sender(request, known)
        except (Invalid, Forbidden):
            pass
    return _forced(request, project, known)


def _forced(request: Request, project: Project, known: Senders) -> tuple[Request, Sender]:
    """From the project's default sender. Raises Invalid or Forbidden."""
    sender = project.default_sender
    if sender is None or sender.status != Sender.Status.CONFIRMED:
        remedy = _("Choose one that is confirmed, on the project's page in MailHub's admin.")
        raise Forbidden("sender", _("The project %(project)s has no default sender that is confirmed.") % {"project": project}, remedy)
    return policies.forced(request, sender), sender


def _sender(request: Request, known: Senders) -> Sender:
    """The confirmed sender that the request may use, asked of the database where it is not `known`. Raises Invalid or Forbidden."""
    if not request.sender:
        raise Invalid("sender", _("The mail has no sender."), _("Give the From address of a confirmed sender."))
    try:
        address = addresses.normalise(request.sender)
    except ValidationError as error:
        raise Invalid("sender", error.messages[0]) from None
    key = (request.project.pk if request.project else None, address)
    if key not in known:
        known[key] = permitted(request.project, address)
    found = known[key]
    if isinstance(found, Forbidden):
        raise found
    return found


def _usable(requests: Sequence[Request]) -> Senders:
    """The senders that nothing is wrong with, by two queries for them all. Any other is asked for alone, and gets its reason."""
    wanted = {(request.project.pk if request.project else None, _plain(request.sender)) for request in requests}
    found = {sender.email: sender for sender in Sender.objects.filter(email__in={address for _project, address in wanted})}
    pairs = Project.senders.through.objects.filter(
        project__in={project for project, _address in wanted if project}, sender__in=found.values()
    )
    allowed = set(pairs.values_list("project", "sender"))
    return {
        (project, address): sender
        for project, address in wanted
        if (sender := found.get(address)) and sender.status == Sender.Status.CONFIRMED and (not project or (project, sender.pk) in allowed)
    }


def _plain(text: str) -> str:
    try:
        return addresses.normalise(text)
    except ValidationError:
        return ""


def permitted(project: Project | None, address: str) -> Sender | Forbidden:
    """The confirmed sender with this normalised address, or why the project may not use it."""
    found = Sender.objects.filter(email__iexact=address).first()
    if found is None:
        return Forbidden("sender", _("%(address)s is not a sender of this MailHub.") % {"address": address}, _allowed(project))
    if found.status != Sender.Status.CONFIRMED:
        return Forbidden(
            "sender",
            _("The sender %(address)s is %(status)s.") % {"address": address, "status": found.get_status_display()},
            _("Have it confirmed in MailHub's admin, under Senders."),
        )
    if project and not project.senders.filter(pk=found.pk).exists():
        return Forbidden(
            "sender",
            _("The project %(project)s may not send from %(address)s.") % {"project": project, "address": address},
            _allowed(project),
        )
    return found


def usable(project: Project, sender: Sender) -> Sender | Forbidden:
    """The sender of a mail that was accepted before, or why the project may not use it any more."""
    replaces = project.from_policy != Project.FromPolicy.KEEP and project.default_sender_id == sender.pk
    if replaces and sender.status == Sender.Status.CONFIRMED:
        return sender
    return permitted(project, sender.email)


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
