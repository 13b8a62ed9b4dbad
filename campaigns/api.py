"""Contacts, lists and campaigns for programs. mailhub/api.py hands in who asks; what they may is in the key's scopes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router, Status
from pydantic import Field

from campaigns import launch, progress, subscriptions
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription
from mailhub.delivery.models import COUNTERS
from mailhub.lib import clients
from mailhub.lib.api import (
    Fault,
    Paging,
    Problem,
    Schema,
    Scope,
    Strict,
    address_key,
    cursor,
    needs,
    newest_first,
    pointer,
    read_cursor,
)
from mailhub.lib.states import WrongState

contacts = Router(tags=["Contacts"])
campaigns = Router(tags=["Campaigns"])

LANGUAGES = tuple(code for code, _name in settings.LANGUAGES)
# Characters of JSON: each mail to the contact has a copy of them.
LARGEST_ATTRIBUTES = 20_000
LINE = r"^[^\x00-\x1f\x7f\x85\u2028\u2029]*$"


# ------------------------------------------------------------------------------------------------------------ contacts and lists


class ListOut(Schema):
    id: UUID
    name: str
    description: str


class ListsOut(Schema):
    lists: list[ListOut]
    next: str | None


class SubscriptionOut(Schema):
    list: UUID
    name: str
    status: Literal[tuple(Subscription.Status.values)]  # type: ignore[valid-type]
    changed_at: datetime


class ContactOut(Schema):
    id: UUID
    email: str
    name: str
    language: str
    attributes: dict[str, Any]
    created_at: datetime
    subscriptions: list[SubscriptionOut]


class ContactsOut(Schema):
    contacts: list[ContactOut]
    next: str | None


class ContactIn(Strict):
    email: str = Field(min_length=3, max_length=320)
    name: str | None = Field(None, max_length=200, pattern=LINE)
    language: Literal["", *LANGUAGES] | None = None  # type: ignore[valid-type]
    attributes: dict[str, Any] | None = Field(None, max_length=100, description="They take the place of all that were there.")


class ConsentIn(Strict):
    """How the person agreed, as the law wants it kept."""

    email: str = Field(min_length=3, max_length=320)
    basis: Literal["opt_in", "address_given", "relationship", "published"]
    source: str = Field(min_length=1, max_length=300, pattern=LINE, examples=["sign-up form on shop.example"])
    text: str = Field("", max_length=10_000, pattern=r"^[^\x00]*$", description="The text that the person agreed to.")
    ip_address: str | None = Field(None, max_length=45, description="The person's.")


def _contacts() -> Any:
    return Contact.objects.prefetch_related("subscriptions__list")


def _contact(public_id: UUID) -> Contact:
    found = _contacts().filter(public_id=public_id).first()
    if found is None:
        raise Http404(_("There is no such contact."))
    return found  # type: ignore[no-any-return]


def _list(public_id: UUID) -> MailingList:
    found = MailingList.objects.filter(public_id=public_id).first()
    if found is None:
        raise Http404(_("There is no such list."))
    return found


def contact_answer(contact: Contact) -> dict[str, Any]:
    said = {name: getattr(contact, name) for name in ("email", "name", "language", "attributes", "created_at")}
    return {
        "id": contact.public_id,
        **said,
        "subscriptions": [
            {"list": row.list.public_id, "name": row.list.name, "status": row.status, "changed_at": row.changed_at}
            for row in contact.subscriptions.all()
        ],
    }


@contacts.get("/lists", response=ListsOut, summary="List the lists")
@needs(Scope.CONTACTS_READ)
def lists(request: HttpRequest, paging: Query[Paging]) -> dict[str, Any]:
    """The newest first, a page at a time."""
    shown, further = newest_first(paging, MailingList.objects.all())
    return {"lists": [{"id": row.public_id, "name": row.name, "description": row.description} for row in shown], "next": further}


class Whom(Paging):
    email: Annotated[str, Field(max_length=320, description="The one with this address.")] = ""
    on_list: Annotated[UUID | None, Field(alias="list", description="Those of a list: its `id`.")] = None
    status: Annotated[
        Literal[tuple(Subscription.Status.values)],  # type: ignore[valid-type]
        Field(description="Of a list: how they stand on it."),
    ] = Subscription.Status.SUBSCRIBED


@contacts.get("/contacts", response=ContactsOut, summary="List contacts")
@needs(Scope.CONTACTS_READ)
def find(request: HttpRequest, whom: Query[Whom]) -> dict[str, Any]:
    """The newest first, a page at a time; those of a list, or the one with an address."""
    rows = _contacts().filter(email=address_key(whom.email, "email")) if whom.email else _contacts()
    if whom.on_list is None:
        shown, further = newest_first(whom, rows)
    else:
        shown, further = _of_list(rows, whom.on_list, whom)
    return {"contacts": [contact_answer(row) for row in shown], "next": further}


def _of_list(rows: Any, public_id: UUID, whom: Whom) -> tuple[list[Contact], str | None]:
    """A page of them. Raises Problem. Index campaigns_subscription_walk."""
    try:
        chosen = _list(public_id)
    except Http404 as error:
        raise Problem("invalid", str(error), [Fault("list", str(error))]) from None
    (last,) = read_cursor(whom.cursor, int) if whom.cursor else (0,)
    on_it = chosen.subscriptions.filter(status=whom.status)
    if whom.email:
        on_it = on_it.filter(contact__in=rows)
    if last:
        on_it = on_it.filter(contact__lt=last)
    keys = list(on_it.order_by("-contact").values_list("contact", flat=True)[: whom.limit + 1])
    found = rows.in_bulk(keys[: whom.limit])
    return [found[key] for key in keys if key in found], cursor(keys[whom.limit - 1]) if len(keys) > whom.limit else None


@contacts.post("/contacts", response={200: ContactOut, 201: ContactOut}, summary="Add or change a contact")
@needs(Scope.CONTACTS_WRITE)
def put(request: HttpRequest, asked: ContactIn) -> Status[dict[str, Any]]:
    """By its address; what is left out stays. It gets no campaign before it is subscribed to a list."""
    key = address_key(asked.email, pointer(["email"]))
    given = {name: value for name, value in asked.model_dump(exclude={"email"}).items() if value is not None}
    if len(json.dumps(given.get("attributes"), ensure_ascii=False)) > LARGEST_ATTRIBUTES:
        words = _("The data is longer than %(limit)s characters as JSON.") % {"limit": LARGEST_ATTRIBUTES}
        raise Problem("invalid", words, [Fault(pointer(["attributes"]), words)])
    with transaction.atomic():
        # Of two requests at once, one adds it, and the other changes what the first has added.
        contact, created = Contact.objects.get_or_create(email=key)
        contact = Contact.objects.select_for_update().get(pk=contact.pk)
        for name, value in given.items():
            setattr(contact, name, value)
        try:
            contact.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            faults = [Fault(pointer([name]), words) for name, problems in error.message_dict.items() for words in problems]
            raise Problem("invalid", faults[0].problem, faults) from None
        contact.save()
    return Status(201 if created else 200, contact_answer(_contact(contact.public_id)))


@contacts.get("/contacts/{uuid:public_id}", response=ContactOut, summary="Look at a contact")
@needs(Scope.CONTACTS_READ)
def get(request: HttpRequest, public_id: UUID) -> dict[str, Any]:
    return contact_answer(_contact(public_id))


@contacts.post("/lists/{uuid:public_id}/subscribe", response=ContactOut, summary="Subscribe somebody to a list")
@needs(Scope.CONTACTS_WRITE)
def subscribe(request: HttpRequest, public_id: UUID, asked: ConsentIn) -> dict[str, Any]:
    """With the record of their consent, without which no campaign goes to them. The contact is added where there is none."""
    key = address_key(asked.email, pointer(["email"]))
    chosen = _list(public_id)
    contact, _created = Contact.objects.get_or_create(email=key)
    how = subscriptions.Circumstances(source=asked.source, text=asked.text, ip_address=_ip(asked.ip_address))
    subscriptions.subscribe(contact, [chosen], Consent.Basis(asked.basis), how)
    return contact_answer(_contact(contact.public_id))


def _ip(text: str | None) -> str | None:
    if text and not clients.parsed(text):
        words = _("This is no IP address.")
        raise Problem("invalid", words, [Fault(pointer(["ip_address"]), words)])
    return text or None


class UnsubscribeIn(Strict):
    email: str = Field(min_length=3, max_length=320)
    source: str = Field("HTTP API", min_length=1, max_length=300, pattern=LINE)


@contacts.post("/lists/{uuid:public_id}/unsubscribe", response=ContactOut, summary="Take somebody off a list")
@needs(Scope.CONTACTS_WRITE)
def unsubscribe(request: HttpRequest, public_id: UUID, asked: UnsubscribeIn) -> dict[str, Any]:
    """At once: what waits for them is kept back."""
    key = address_key(asked.email, pointer(["email"]))
    chosen = _list(public_id)
    contact = Contact.objects.filter(email=key).first()
    if contact is None:
        raise Http404(_("There is no such contact."))
    subscriptions.unsubscribe(contact, [chosen], subscriptions.Circumstances(source=asked.source))
    return contact_answer(_contact(contact.public_id))


# --------------------------------------------------------------------------------------------------------------------- campaigns


class CampaignOut(Schema):
    id: UUID
    name: str
    subject: str
    sender: str = Field(serialization_alias="from")
    status: Literal[tuple(Campaign.Status.values)]  # type: ignore[valid-type]
    progress: str = Field(description="In words.")
    lists: list[UUID]
    scheduled_at: datetime | None
    recipients: int = Field(description="Accepted so far; 0 before it is sent.")
    figures: dict[str, int] = Field(description="Recipients by what has become of their mails, and how many opened and clicked.")


class CampaignsOut(Schema):
    campaigns: list[CampaignOut]
    next: str | None


def _campaigns() -> Any:
    return Campaign.objects.select_related("sender", "batch").prefetch_related("lists")


def _campaign(public_id: UUID) -> Campaign:
    found = _campaigns().filter(public_id=public_id).first()
    if found is None:
        raise Http404(_("There is no such campaign."))
    return found  # type: ignore[no-any-return]


def campaign_answer(campaign: Campaign) -> dict[str, Any]:
    batch = campaign.batch
    return {
        "id": campaign.public_id,
        "name": campaign.name,
        "subject": campaign.subject,
        "sender": campaign.sender.email,
        "status": campaign.status,
        "progress": str(progress.words(campaign)),
        "lists": [row.public_id for row in campaign.lists.all()],
        "scheduled_at": campaign.scheduled_at,
        "recipients": batch.total if batch else 0,
        "figures": {name: getattr(batch, name) for name in (*COUNTERS, "opened", "clicked")} if batch else {},
    }


@campaigns.get("/campaigns", response=CampaignsOut, by_alias=True, summary="List campaigns")
@needs(Scope.CAMPAIGNS_READ)
def find_campaigns(
    request: HttpRequest,
    paging: Query[Paging],
    status: Annotated[Literal[tuple(Campaign.Status.values)] | None, Query(description="A state.")] = None,  # type: ignore[valid-type]
) -> dict[str, Any]:
    """The newest first, a page at a time."""
    rows = _campaigns().filter(status=status) if status else _campaigns()
    shown, further = newest_first(paging, rows)
    return {"campaigns": [campaign_answer(row) for row in shown], "next": further}


@campaigns.get("/campaigns/{uuid:public_id}", response=CampaignOut, by_alias=True, summary="Look at a campaign")
@needs(Scope.CAMPAIGNS_READ)
def get_campaign(request: HttpRequest, public_id: UUID) -> dict[str, Any]:
    return campaign_answer(_campaign(public_id))


@campaigns.post("/campaigns/{uuid:public_id}/start", response={202: CampaignOut}, by_alias=True, summary="Send a campaign")
@needs(Scope.CAMPAIGNS_SEND)
def start(request: HttpRequest, public_id: UUID) -> Status[dict[str, Any]]:
    """A draft that staff have written, or one that waits for its time: checked as on its page, and sent now."""
    campaign = _campaign(public_id)
    try:
        launch.launch(campaign, None)
    except launch.NotReady as error:
        words = str(error)
        raise Problem("invalid", words, [Fault("campaign", f"{each.message} {each.remedy}".strip()) for each in error.problems]) from None
    except WrongState:
        raise Problem("conflict", _("The campaign has been sent already.")) from None
    return Status(202, campaign_answer(_campaign(public_id)))
