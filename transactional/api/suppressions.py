"""Addresses that get no mail: those of the whole MailHub, and those of the key's project alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router, Status
from pydantic import Field

from mailhub.delivery import suppressions
from mailhub.delivery.models import Suppression
from mailhub.lib.api import Moment, Paging, Problem, Schema, Scope, Strict, address_key, needs, newest_first, pointer
from transactional.api.access import project_of

router = Router(tags=["Suppressions"])

For = Literal["everybody", "project"]


class SuppressionOut(Schema):
    email: str
    scope: Literal[tuple(Suppression.Scope.values)] = Field(description="What it keeps back: all mail, or campaigns alone.")  # type: ignore[valid-type]
    holds_for: For = Field(description="Mail of everybody, or of this project alone.")
    reason: Literal[tuple(Suppression.Reason.values)]  # type: ignore[valid-type]
    detail: str
    created_at: datetime
    expires_at: datetime | None


class SuppressionsOut(Schema):
    suppressions: list[SuppressionOut]
    next: str | None


class SuppressionIn(Strict):
    email: str = Field(min_length=3, max_length=320)
    holds_for: For = Field("project", description="Mail of this project alone, or of everybody.")
    scope: Literal["all", "campaign"] = Field("all", description="Campaigns are nobody's project: with `campaign`, it holds for everybody.")
    detail: str = Field("", max_length=500, pattern=r"^[^\x00]*$", description="Why, for people.")
    expires_at: Moment | None = Field(None, description="Left out: for good.")


def _seen(request: HttpRequest) -> QuerySet[Suppression]:
    return Suppression.objects.filter(Q(project=0) | Q(project=project_of(request).pk), erased=False)


def answer(row: Suppression) -> dict[str, Any]:
    said = {name: getattr(row, name) for name in ("scope", "reason", "detail", "created_at", "expires_at")}
    return {"email": row.address, "holds_for": "project" if row.project else "everybody", **said}


class Which(Paging):
    reason: Annotated[Literal[tuple(Suppression.Reason.values)] | None, Field(description="Why.")] = None  # type: ignore[valid-type]
    holds_for: Annotated[For | None, Field(description="Of everybody, or of this project alone.")] = None


@router.get("/suppressions", response=SuppressionsOut, summary="List suppressions")
@needs(Scope.SUPPRESSIONS_READ)
def find(request: HttpRequest, which: Query[Which]) -> dict[str, Any]:
    """The newest first, a page at a time; those that have run out stand there, too."""
    rows = _seen(request)
    if which.reason:
        rows = rows.filter(reason=which.reason)
    if which.holds_for:
        rows = rows.filter(project=project_of(request).pk if which.holds_for == "project" else 0)
    shown, further = newest_first(which, rows)
    return {"suppressions": [answer(row) for row in shown], "next": further}


@router.post("/suppressions", response={201: SuppressionOut}, summary="Suppress an address")
@needs(Scope.SUPPRESSIONS_WRITE)
def add(request: HttpRequest, asked: SuppressionIn) -> Status[dict[str, Any]]:
    """One that is there already stays, and may come to hold for more or for longer."""
    key = address_key(asked.email, pointer(["email"]))
    own = asked.holds_for == "project" and asked.scope == "all"
    project = project_of(request).pk if own else 0
    suppressions.add([key], asked.scope, asked.detail, project=project, until=asked.expires_at)
    return Status(201, answer(Suppression.objects.get(address=key, project=project)))


@router.get("/suppressions/{email}", response=SuppressionsOut, summary="Whether an address is suppressed")
@needs(Scope.SUPPRESSIONS_READ)
def get(request: HttpRequest, email: str) -> dict[str, Any]:
    """What keeps mail from it: nothing, or up to two."""
    rows = _seen(request).filter(address=address_key(email, "email")).order_by("project")
    return {"suppressions": [answer(row) for row in rows], "next": None}


@router.delete("/suppressions/{email}", response={204: None}, summary="Lift a suppression")
@needs(Scope.SUPPRESSIONS_WRITE)
def lift(request: HttpRequest, email: str, holds_for: Annotated[For, Query(description="Which of them.")] = "project") -> Status[None]:
    """A complaint is lifted by staff alone, in the admin: the person asked for it."""
    project = project_of(request).pk if holds_for == "project" else 0
    row = _seen(request).filter(address=address_key(email, "email"), project=project).first()
    if row is None:
        raise Http404(_("There is no such suppression."))
    if row.reason == Suppression.Reason.COMPLAINT:
        raise Problem("conflict", _("The recipient called a mail spam. Staff can lift this in MailHub's admin."))
    row.delete()
    return Status(204, None)
