"""POST /messages: mails handed in, one or a thousand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Router, Status

from mailhub.delivery.models import Message
from mailhub.lib import addresses, clients, clock
from mailhub.lib.api import AHEAD, Fault, IdempotencyKey, Problem, Scope, digest_of, needs, pointer, reused
from mailhub.lib.lookups import among
from mailhub.relays.models import Stream
from transactional import limits, sending
from transactional.api import access
from transactional.api.schemas import MOST_RECIPIENTS, AcceptedOut, BatchIn, BatchOut, MailIn, PersonIn, Unread
from transactional.models import Project, Submission
from transactional.requests import Attachment, Conflict, Draft, Forbidden, Invalid, Limited, NotAccepted, Request

router = Router(tags=["Messages"])

# Names of Request, and what the API calls them.
PLACES = {"sender": "from", "data": "variables", "raw": "", "project": ""}
STEP = re.compile(r"[^.\[\]]+")


@router.post("/messages", response={202: AcceptedOut}, summary="Send a mail")
@needs(Scope.SEND)
def send(request: HttpRequest, mail: MailIn, idempotency_key: IdempotencyKey = "") -> Status[dict[str, Any]]:
    """One mail, for each recipient. 202 means that it is stored and will not be lost."""
    (outcome,) = _send_all(request, [mail], [idempotency_key])
    if isinstance(outcome, NotAccepted):
        raise problem(outcome, mail)
    return Status(202, outcome)


@router.post("/messages/batch", response={202: BatchOut}, summary="Send up to 1,000 mails")
@needs(Scope.SEND)
def send_batch(request: HttpRequest, batch: BatchIn, idempotency_key: IdempotencyKey = "") -> Status[dict[str, Any]]:
    """What is wrong with one is nothing to the others: each has a result of its own. All that is accepted is stored before the answer."""
    # Some may be Unread.
    given: list[MailIn | Unread] = list(batch.mails)
    mails = {number: mail for number, mail in enumerate(given) if isinstance(mail, MailIn)}
    if sum(len(mail.to) + len(mail.cc) + len(mail.bcc) for mail in mails.values()) > MOST_RECIPIENTS:
        fault = Fault(
            pointer(["mails"]), _("Send them in several batches of at most %(most)s recipients each.") % {"most": MOST_RECIPIENTS}
        )
        raise Problem("invalid", _("These are too many recipients for one batch."), [fault])
    keys = [f"{idempotency_key}/{number}" if idempotency_key else "" for number in mails]
    outcomes = dict(zip(mails, _send_all(request, list(mails.values()), keys), strict=False)) if mails else {}
    # A conflict is the only answer, where there is one.
    for number, outcome in outcomes.items():
        if isinstance(outcome, Conflict):
            raise problem(outcome, mails[number])
    results = []
    for number, mail in enumerate(given):
        found = _refusal(mail, outcomes.get(number))
        results.append({"status": found.status, "problem": found.body()} if found else {"status": 202, "accepted": outcomes[number]})
    return Status(202, {"results": results})


def _refusal(mail: MailIn | Unread, outcome: dict[str, Any] | NotAccepted | None) -> Problem | None:
    """Why the mail of a batch is not accepted; None when it is."""
    if isinstance(mail, Unread):
        first = mail.faults[0]
        return Problem("invalid", _("%(place)s: %(problem)s") % {"place": first.place, "problem": first.problem}, mail.faults)
    return problem(outcome, mail) if isinstance(outcome, NotAccepted) else None


def _send_all(request: HttpRequest, mails: Sequence[MailIn], keys: Sequence[str]) -> list[dict[str, Any] | NotAccepted]:
    """What is to be answered for each."""
    credential = request.auth  # type: ignore[attr-defined]
    # Of the whole request: a batch with another body is another batch, whichever of its mails are the same.
    digest = digest_of(request)
    whence = origin(request)
    if (key := keys[0]) and Submission.objects.filter(project=credential.project, idempotency_key=key).exclude(digest=digest).exists():
        return [Conflict("idempotency_key", _("This Idempotency-Key was used for another request."), _("Use a new one for each request."))]
    asked: list[Request | NotAccepted] = []
    for mail, key in zip(mails, keys, strict=True):
        try:
            asked.append(_request(mail, credential.project, key, digest, whence))
        except NotAccepted as error:
            asked.append(error)
    answers = iter(sending.send_all([each for each in asked if isinstance(each, Request)]))
    outcomes = [next(answers) if isinstance(each, Request) else each for each in asked]
    tell_limits(request, credential.project)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Submission)]
    messages = _messages([submission.content_id for submission in accepted])
    return [_answer(outcome, messages) if isinstance(outcome, Submission) else outcome for outcome in outcomes]


def origin(request: HttpRequest) -> str:
    """Who asks, for people."""
    return f"{request.auth}, {clients.of(request)}"  # type: ignore[attr-defined]


def tell_limits(request: HttpRequest, project: Project) -> None:
    for window in limits.standing(project):
        length = 60 if window.meter == limits.Meter.MINUTE else 86_400
        request.rates.append((f"mails-{window.meter}", window.limit, length, window.left, window.seconds))  # type: ignore[attr-defined]


def _messages(contents: Sequence[int]) -> Mapping[int, list[dict[str, Any]]]:
    """By content. One query, index delivery_message_content."""
    found: dict[int, list[dict[str, Any]]] = {}
    rows = Message.objects.filter(among("content_id", contents), stream=Stream.TRANSACTIONAL).order_by("pk")
    for content, public_id, address, status in rows.values_list("content_id", "public_id", "address", "status"):
        found.setdefault(content, []).append({"id": public_id, "to": address, "status": status})
    return found


def _answer(submission: Submission, messages: Mapping[int, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "id": submission.content.public_id,
        "accepted_at": submission.accepted_at,
        "messages": messages.get(submission.content_id, []),
    }


def _request(mail: MailIn, project: Project, key: str, digest: str, origin: str) -> Request:
    """Raises Invalid."""
    if mail.send_at and mail.send_at > clock.now() + AHEAD:
        raise Invalid("send_at", _("This is more than a year ahead."))
    # A template's words alone can be kept as such, to be filled in for each recipient; anything more is finished here.
    more = mail.subject or mail.html or mail.text or mail.attachments or mail.headers or mail.cc or mail.bcc or mail.reply_to[1:]
    plain = mail.template and not more
    answers = ""
    if plain and mail.reply_to:
        try:
            answers = addresses.normalise(mail.reply_to[0].email)
        except ValidationError as error:
            raise Invalid("reply_to[0]", error.messages[0]) from None
    everybody = [*mail.to, *mail.cc, *mail.bcc]
    data = dict(mail.variables)
    if len(mail.to) == 1 and mail.to[0].name:
        data.setdefault("name", mail.to[0].name)
    return Request(
        sender=mail.sender.email,
        recipients=[person.email for person in everybody],
        via=Submission.Via.API,
        draft=None if plain else _draft(mail),
        template=mail.template,
        data=data,
        language=mail.language,
        project=project,
        idempotency_key=key,
        digest=digest,
        origin=origin,
        reply_to=answers,
        tags=mail.tags,
        metadata=mail.metadata,
        send_at=mail.send_at,
        track_opens=mail.track_opens,
        track_clicks=mail.track_clicks,
    )


def _draft(mail: MailIn) -> Draft:
    return Draft(
        subject=mail.subject,
        html=mail.html,
        text=mail.text,
        from_name=mail.sender.name,
        to=_people(mail.to),
        cc=_people(mail.cc),
        reply_to=_people(mail.reply_to),
        headers=mail.headers,
        attachments=[
            Attachment(name=each.filename, media_type=each.content_type, octets=each.content, content_id=each.content_id)
            for each in mail.attachments
        ],
    )


def _people(people: Sequence[PersonIn]) -> list[tuple[str, str]]:
    return [(person.name, person.email) for person in people]


def problem(refusal: NotAccepted, mail: MailIn | None = None) -> Problem:
    """`mail`: whose fields the refusal names."""
    words = refusal.words
    match refusal:
        case Limited():
            return access.too_many(words, refusal.retry_after)
        case Conflict():
            return reused(words)
    faults = [Fault(place(refusal.field, mail), words)] if mail else []
    return Problem("forbidden" if isinstance(refusal, Forbidden) else "invalid", words, faults)


def place(field: str, mail: MailIn) -> str:
    """A field of Request as a place in the body: recipients[2] may be the first of cc."""
    if field.startswith("headers."):
        return pointer(["headers", field.removeprefix("headers.")])
    name, *steps = STEP.findall(field)
    if name == "recipients":
        name = "to"
        if steps:
            number = int(steps[0])
            name, number = next(
                (listed, number - before)
                for listed, before, people in (
                    ("to", 0, mail.to),
                    ("cc", len(mail.to), mail.cc),
                    ("bcc", len(mail.to) + len(mail.cc), mail.bcc),
                )
                if number - before < len(people)
            )
            steps = [str(number)]
    name = PLACES.get(name, name)
    return pointer([name, *steps] if name else [])
