"""What became of the mails of the key's project: looked at, withdrawn, sent again."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Status
from pydantic import Field

from mailhub.delivery import queue
from mailhub.delivery.models import WAITING, Event, Message
from mailhub.delivery.search import Span
from mailhub.lib import addresses
from mailhub.lib.api import (
    MOST,
    PAGE,
    Fault,
    IdempotencyKey,
    Moment,
    Paging,
    Problem,
    Schema,
    Scope,
    Strict,
    cursor,
    needs,
    no_cursor,
    pointer,
    read_cursor,
)
from mailhub.lib.lookups import among
from mailhub.relays.models import Stream
from transactional import resending
from transactional.api import mails
from transactional.api.access import project_of
from transactional.models import Submission
from transactional.requests import NotAccepted

# The same paths, with other methods.
router = mails.router

# Mails that one request looks through for what has no index with the project.
LOOKED_AT = 20_000


class MessageOut(Schema):
    id: UUID
    mail: UUID = Field(description="`id` of the mail that it is one recipient's of.")
    to: str
    sender: str = Field(serialization_alias="from")
    subject: str = Field(description="As it was given; of a template, with its placeholders.")
    status: Literal[tuple(Message.Status.values)]  # type: ignore[valid-type]
    reply: str = Field(description="The last answer of a server, or the reason in words.")
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="Null: none will be made.")
    settled_at: datetime | None
    template: str
    tags: list[str]
    metadata: dict[str, str]


class MessagesOut(Schema):
    messages: list[MessageOut] = Field(description="The newest mails first. There may be fewer than asked for though more follow.")
    next: str | None = Field(description="Pass it back as `cursor`; null: there are no more.")


class EventOut(Schema):
    type: Literal[tuple(Event.Type.values)]  # type: ignore[valid-type]
    at: datetime
    detail: str
    kind: str = Field(description="Of a bounce: hard or soft. Of an open or click: machine, where a machine did it.")
    category: str = Field(description="Why it came back.")


class EventsOut(Schema):
    events: list[EventOut]
    next: str | None


class Search(Schema):
    to: Annotated[str, Field(max_length=320, description="A recipient's address.")] = ""
    mail: Annotated[UUID | None, Field(description="`id` of a mail: the messages of all its recipients.")] = None
    sender: Annotated[str, Field(alias="from", max_length=320, description="The address that it is from.")] = ""
    subject: Annotated[str, Field(max_length=200, description="Words that stand in the subject.")] = ""
    status: Annotated[Literal[tuple(Message.Status.values)] | None, Field(description="A state.")] = None  # type: ignore[valid-type]
    tag: Annotated[str, Field(max_length=100, description="A tag.")] = ""
    template: Annotated[str, Field(max_length=100, description="A template's key.")] = ""
    since: Annotated[Moment | None, Field(description="Accepted from then on.")] = None
    until: Annotated[Moment | None, Field(description="Accepted before then.")] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = PAGE
    cursor: Annotated[str, Field(max_length=200)] = ""


class ResendIn(Strict):
    to: str = Field("", max_length=320, description="Another address; left out: the same.")


def of_project(request: HttpRequest) -> QuerySet[Message]:
    return Message.objects.filter(stream=Stream.TRANSACTIONAL, source_ref=project_of(request).pk)


@router.get("/messages", response=MessagesOut, by_alias=True, summary="Find messages")
@needs(Scope.MESSAGES_READ)
def find(request: HttpRequest, search: Query[Search]) -> dict[str, Any]:
    """The project's messages, the newest mails first, a page at a time."""
    for name, given in {**search.model_dump(include={"to", "subject", "tag", "template"}), "from": search.sender}.items():
        if "\0" in given:
            raise Problem("invalid", _("There is a NUL character in it."), [Fault(name, _("Leave it out."))])
    handed_in = _mails(request, search)
    if search.to:
        return _to_one(request, search, _such(handed_in, search))
    last, after = read_cursor(search.cursor, int, int) if search.cursor else (0, 0)
    handed_in = handed_in.filter(pk__lte=last) if last else handed_in
    floor = _floor(handed_in) if search.tag or search.template or search.subject or search.sender else 0
    # One more mail than is asked for, and each has a message at least, until it is forgotten.
    found = list(_such(handed_in.filter(pk__gte=floor), search).order_by("-pk")[: search.limit + 1])
    by_content = {submission.content_id: submission for submission in found}
    rows = of_project(request).filter(among("content_id", by_content))
    if search.status:
        rows = rows.filter(status=search.status)
    order = {content: number for number, content in enumerate(by_content)}
    messages = sorted(rows.defer("data"), key=lambda row: (order[row.content_id], row.pk))
    messages = [row for row in messages if not (by_content[row.content_id].pk == last and row.pk <= after)]
    shown = messages[: search.limit]
    if len(messages) > search.limit:
        further: str | None = cursor(by_content[shown[-1].content_id].pk, shown[-1].pk)
    elif len(found) > search.limit:
        further = cursor(found[-1].pk, _KEYS)
    else:
        further = cursor(floor, _KEYS) if floor else None
    return {"messages": [answer(row, by_content[row.content_id]) for row in shown], "next": further}


# Larger than any message's key.
_KEYS = 2**63 - 1


def _mails(request: HttpRequest, search: Search) -> QuerySet[Submission]:
    """By what has an index: transactional_submission_of, or that of the content."""
    found = Submission.objects.filter(project=project_of(request)).select_related("content")
    found = found.defer("content__html", "content__text", "content__raw", "content__headers")
    if search.mail:
        found = found.filter(content__public_id=search.mail)
    return Span(search.since, search.until).within(found, "accepted_at")


def _floor(handed_in: QuerySet[Submission]) -> int:
    """The key of the mail down to which a request looks; 0: there are no more. Index transactional_submission_of."""
    return handed_in.order_by("-pk").values_list("pk", flat=True)[LOOKED_AT : LOOKED_AT + 1].first() or 0


def _such(handed_in: QuerySet[Submission], search: Search) -> QuerySet[Submission]:
    """Those of the mails that have what no index tells of a project's."""
    if search.template:
        handed_in = handed_in.filter(template=search.template)
    if search.tag:
        handed_in = handed_in.filter(tags__contains=f"\n{search.tag}\n")
    if search.subject:
        handed_in = handed_in.filter(content__subject__icontains=search.subject)
    if search.sender:
        handed_in = handed_in.filter(content__from_email__iexact=search.sender)
    return handed_in


def _to_one(request: HttpRequest, search: Search, handed_in: QuerySet[Submission]) -> dict[str, Any]:
    """To one address: few. Index delivery_message_address."""
    (last,) = read_cursor(search.cursor, int) if search.cursor else (0,)
    rows = of_project(request).alias(key=Lower("address")).filter(key=search.to.lower())
    if last:
        rows = rows.filter(pk__lt=last)
    if search.status:
        rows = rows.filter(status=search.status)
    found = list(rows.defer("data").order_by("-pk")[: search.limit + 1])
    shown = found[: search.limit]
    known = {mail.content_id: mail for mail in handed_in.filter(among("content_id", [row.content_id for row in shown]))}
    further = cursor(shown[-1].pk) if len(found) > search.limit else None
    return {"messages": [answer(row, known[row.content_id]) for row in shown if row.content_id in known], "next": further}


def answer(message: Message, submission: Submission) -> dict[str, Any]:
    content = submission.content
    return {
        "id": message.public_id,
        "mail": content.public_id,
        "to": message.address,
        "sender": content.from_email,
        "subject": content.subject,
        "status": message.status,
        "reply": message.reply,
        "attempts": message.attempts,
        "created_at": message.created_at,
        "next_attempt_at": message.next_attempt_at if message.status in WAITING else None,
        "settled_at": message.settled_at,
        "template": submission.template,
        "tags": submission.labels,
        "metadata": submission.metadata,
    }


def one(request: HttpRequest, public_id: UUID) -> tuple[Message, Submission]:
    """Raises Http404 for what is not of the key's project, too."""
    message = of_project(request).filter(public_id=public_id).first()
    handed_in = Submission.objects.select_related("content")
    submission = handed_in.filter(content=message.content_id).first() if message else None
    if message is None or submission is None:
        raise Http404(_("There is no such message of this project."))
    return message, submission


@router.get("/messages/{uuid:public_id}", response=MessageOut, by_alias=True, summary="Look at a message")
@needs(Scope.MESSAGES_READ)
def get(request: HttpRequest, public_id: UUID) -> dict[str, Any]:
    return answer(*one(request, public_id))


@router.get("/messages/{uuid:public_id}/events", response=EventsOut, summary="What happened to a message")
@needs(Scope.MESSAGES_READ)
def events(request: HttpRequest, public_id: UUID, paging: Query[Paging]) -> dict[str, Any]:
    """In the order in which it happened, a page at a time."""
    message, _submission = one(request, public_id)
    rows = message.events.order_by("at", "pk")
    if paging.cursor:
        at, last = read_cursor(paging.cursor, int, int)
        since = _moment(at)
        rows = rows.filter(Q(at__gt=since) | Q(at=since, pk__gt=last))
    found = list(rows[: paging.limit + 1])
    shown = found[: paging.limit]
    further = cursor(_microseconds(shown[-1].at), shown[-1].pk) if len(found) > paging.limit else None
    return {"events": [{name: getattr(row, name) for name in EventOut.model_fields} for row in shown], "next": further}


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    """Raises Problem for what is none."""
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise no_cursor() from None


@router.post("/messages/{uuid:public_id}/cancel", response=MessageOut, by_alias=True, summary="Withdraw a message")
@needs(Scope.MESSAGES_WRITE)
def cancel(request: HttpRequest, public_id: UUID) -> dict[str, Any]:
    """One that still waits; 409 for one that is being handed over, or has been."""
    message, submission = one(request, public_id)
    if not queue.cancel(Message.objects.filter(pk=message.pk)):
        message.refresh_from_db(fields=["status"])
        raise Problem("conflict", _("The message does not wait any more: it is %(status)s.") % {"status": message.status})
    message.refresh_from_db(fields=["status", "settled_at"])
    return answer(message, submission)


@router.post("/messages/{uuid:public_id}/resend", response={202: MessageOut}, by_alias=True, summary="Send a message again")
@needs(Scope.MESSAGES_WRITE)
def resend(
    request: HttpRequest, public_id: UUID, how: ResendIn | None = None, idempotency_key: IdempotencyKey = ""
) -> Status[dict[str, Any]]:
    """A copy of it, as a message of its own, to the same address or to another; it counts towards the project's limits. 409 once its words
    have been forgotten."""
    message, submission = one(request, public_id)
    try:
        address = addresses.normalise(how.to) if how and how.to else message.address
    except ValidationError as error:
        raise Problem("invalid", error.messages[0], [Fault(pointer(["to"]), error.messages[0])]) from None
    digest = hashlib.sha256(f"{public_id} ".encode() + request.body).hexdigest()
    try:
        made = resending.resend(message, address, project_of(request), mails.origin(request), idempotency_key, digest)
    except NotAccepted as refusal:
        raise mails.problem(refusal) from None
    if made is None:
        raise Problem("conflict", _("What the message said has been forgotten."))
    mails.tell_limits(request, project_of(request))
    return Status(202, answer(made, submission))
