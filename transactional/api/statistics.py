"""The project in figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from django.db.models import Count
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import Field

from mailhub.delivery.models import Message
from mailhub.delivery.search import Span
from mailhub.lib import clock
from mailhub.lib.api import Fault, Moment, Problem, Schema, Scope, needs
from mailhub.relays.models import Stream
from transactional import limits
from transactional.api.access import project_of
from transactional.models import Submission

router = Router(tags=["Statistics"])

LONGEST = timedelta(days=31)


class LimitOut(Schema):
    name: str = Field(examples=["minute"])
    limit: int
    left: int
    until: datetime


class StatisticsOut(Schema):
    project: str
    since: datetime
    until: datetime
    messages: int
    by_status: dict[str, int] = Field(description="Messages of the project's mails accepted within this time, by what has become of them.")
    limits: list[LimitOut]


class Period(Schema):
    since: Annotated[Moment | None, Field(description="Left out: a day before `until`.")] = None
    until: Annotated[Moment | None, Field(description="Left out: now.")] = None


@router.get("/statistics", response=StatisticsOut, summary="The project in figures")
@needs(Scope.STATISTICS_READ)
def get(request: HttpRequest, period: Query[Period]) -> dict[str, Any]:
    """Of 31 days at most."""
    project = project_of(request)
    try:
        until = period.until or clock.now()
        since = period.since or until - timedelta(days=1)
        fits = timedelta() < until - since <= LONGEST
    except OverflowError:
        fits = False
    if not fits:
        words = _("Ask for some time between a moment and 31 days.")
        raise Problem("invalid", words, [Fault("since", words)])
    # By the project's own mails, and not through everybody's of that time: index transactional_submission_of, then for each
    # delivery_message_content.
    mails = Span(since, until).within(Submission.objects.filter(project=project), "accepted_at").order_by()
    rows = Message.objects.filter(stream=Stream.TRANSACTIONAL, source_ref=project.pk, content__in=mails.values("content"))
    by_status = dict(rows.order_by().values_list("status").annotate(n=Count("pk")))
    windows = limits.standing(project)
    return {
        "project": project.name,
        "since": since,
        "until": until,
        "messages": sum(by_status.values()),
        "by_status": by_status,
        "limits": [{"name": window.meter.value, "limit": window.limit, "left": window.left, "until": window.ends_at} for window in windows],
    }
