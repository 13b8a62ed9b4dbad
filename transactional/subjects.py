"""What became of the mails of some days, by what they are: by project and template, and by subject where a mail had no template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, Q, Value, When
from django.db.models.functions import Substr

from mailhub.delivery.models import Event, Message
from mailhub.delivery.search import Span
from mailhub.relays.models import Stream
from transactional.models import Submission

# So many submissions are looked at, the newest of the days; and so many kinds of mail are shown, those with the most mails.
LOOKED_AT, SHOWN = 20_000, 100
Status = Message.Status
# Whatever was told later, a relay had taken these.
TAKEN = (Status.SENT, Status.DELIVERED, Status.COMPLAINED)
LOST = (Status.BOUNCED, Status.FAILED)


@dataclass(slots=True)
class Group:
    """Mails of one project that say the same."""

    project: int | None
    project_name: str
    template: str
    subject: str
    #: recipients, each with a state; those neither sent nor lost wait, or were not sent at all
    mails: int
    sent: int
    lost: int
    #: by people, as far as is known
    opened: int = 0
    clicked: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    groups: list[Group]
    #: how many more there are than these
    more: int
    #: how far back it looked, where the days have more than LOOKED_AT submissions
    back_to: datetime | None


def look(span: Span, project: int | None = None) -> Found:
    """`project`: its mail alone. Bounded by keys of submissions, and from there by the keys of what belongs to each: indexes
    transactional_submission_of, delivery_message_content and that of an event's message."""
    rows = Submission.objects.filter(project=project) if project else Submission.objects.all()
    rows = span.within(rows.order_by("-pk"), "accepted_at")
    last = rows.values_list("pk", "accepted_at")[LOOKED_AT - 1 : LOOKED_AT + 1]
    back_to = None
    if len(ends := list(last)) == 2:
        rows, back_to = rows.filter(pk__gte=ends[0][0]), ends[0][1]
    said = Case(When(template="", then=Substr("content__subject", 1, 200)), default=Value(""))
    # What a message must be stands in one filter(), so that each is joined once.
    single = {"content__messages__stream": Stream.TRANSACTIONAL}
    mails: Any = rows.order_by().filter(**single).values("project", "project__name", "template", said=said)
    groups = {_key(row): _group(row) for row in mails.annotate(**_counts("status", mails=None, sent=TAKEN, lost=LOST))}
    hit = {"content__messages__events__kind": "", "content__messages__events__type__in": [Event.Type.OPENED, Event.Type.CLICKED]}
    people: Any = rows.order_by().filter(**single, **hit).values("project", "project__name", "template", said=said)
    for row in people.annotate(**_counts("events__type", opened=[Event.Type.OPENED], clicked=[Event.Type.CLICKED])):
        if group := groups.get(_key(row)):
            group.opened, group.clicked = row["opened"], row["clicked"]
    found = sorted(groups.values(), key=lambda group: (-group.mails, group.project_name, group.template, group.subject))
    return Found(found[:SHOWN], max(0, len(found) - SHOWN), back_to)


def _counts(column: str, **values: Any) -> dict[str, Count]:
    """Messages of which the column has one of these; None: all."""
    return {
        name: Count(
            "content__messages", distinct=True, filter=None if wanted is None else Q(**{f"content__messages__{column}__in": wanted})
        )
        for name, wanted in values.items()
    }


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["project"], row["template"], row["said"]


def _group(row: dict[str, Any]) -> Group:
    return Group(row["project"], row["project__name"] or "", row["template"], row["said"], row["mails"], row["sent"], row["lost"])
