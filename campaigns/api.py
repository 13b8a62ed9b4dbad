"""Contacts, lists and campaigns for programs. mailhub/api.py hands in who asks (lib/api.py: Asker); what they may stands in their key."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router, Status
from pydantic import Field, StrictBool

from campaigns import launch, progress, subscriptions
from campaigns.forms import AddressesForm
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription, Template
from mailhub.delivery.models import COUNTERS
from mailhub.lib import clients, clock, sentences
from mailhub.lib.api import (
    AHEAD,
    Asker,
    Fault,
    IdempotencyKey,
    Moment,
    Paging,
    Problem,
    Schema,
    Scope,
    Strict,
    address_key,
    asker,
    cursor,
    digest_of,
    needs,
    newest_first,
    normalised,
    pointer,
    read_cursor,
    reused,
)
from mailhub.lib.states import WrongState
from mailhub.senders.models import Sender

contacts = Router(tags=["Contacts"])
campaigns = Router(tags=["Campaigns"])

LANGUAGES = tuple(code for code, _name in settings.LANGUAGES)
# Characters of JSON: each mail to the contact has a copy of them.
LARGEST_ATTRIBUTES = 20_000
NO_NUL = r"^[^\x00]*$"
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
    text: str = Field("", max_length=10_000, pattern=NO_NUL, description="The text that the person agreed to.")
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


class CampaignIn(Strict):
    """What the admin's form has, but for the route: it is the sender's for campaigns."""

    name: str = Field(min_length=1, max_length=200, pattern=LINE, description="For staff; recipients do not see it.", examples=["May"])
    sender: str = Field(alias="from", min_length=3, max_length=320, description="The address of one of the project's senders.")
    lists: list[UUID] = Field(min_length=1, max_length=100, description="`id` of each list whose subscribers get it.")
    template: str = Field("", max_length=100, pattern=NO_NUL, description="Name of a campaign template, in place of html and text.")
    language: Literal["", *LANGUAGES] = Field("", description="Of the lines that the law asks for.")  # type: ignore[valid-type]
    subject: str = Field("", max_length=1000, pattern=LINE, description="Left out: the template's.")
    html: str = Field("", max_length=5_000_000, pattern=NO_NUL, description="With placeholders, such as `{{ name }}`.")
    text: str = Field("", max_length=5_000_000, pattern=NO_NUL, description="Without it, it is made from the HTML.")
    track_opens: StrictBool = True
    track_clicks: StrictBool = True


class StartIn(Strict):
    at: Moment | None = Field(None, description="Not now but then; at most a year from now.")


class TestIn(Strict):
    to: list[Annotated[str, Field(min_length=3, max_length=320)]] = Field(
        min_length=1, max_length=AddressesForm.MOST, description="Addresses of accounts and senders of this MailHub."
    )


class TestOut(Schema):
    to: list[str]


@campaigns.get("/campaigns", response=CampaignsOut, by_alias=True, summary="List campaigns")
@needs(Scope.CAMPAIGNS_READ)
def find_campaigns(
    request: HttpRequest,
    paging: Query[Paging],
    status: Annotated[Literal[tuple(Campaign.Status.values)] | None, Query(description="A state.")] = None,  # type: ignore[valid-type]
    mine: Annotated[Literal["true", "false"], Query(description="Those that keys of the project have made.")] = "false",
) -> dict[str, Any]:
    """The newest first, a page at a time."""
    rows = _campaigns().filter(status=status) if status else _campaigns()
    if mine == "true":
        rows = rows.filter(source_ref=asker(request).ref)
    shown, further = newest_first(paging, rows)
    return {"campaigns": [campaign_answer(row) for row in shown], "next": further}


@campaigns.get("/campaigns/{uuid:public_id}", response=CampaignOut, by_alias=True, summary="Look at a campaign")
@needs(Scope.CAMPAIGNS_READ)
def get_campaign(request: HttpRequest, public_id: UUID) -> dict[str, Any]:
    return campaign_answer(_campaign(public_id))


@campaigns.post("/campaigns", response={201: CampaignOut}, by_alias=True, summary="Make a campaign")
@needs(Scope.CAMPAIGNS_SEND)
def make(request: HttpRequest, asked: CampaignIn, idempotency_key: IdempotencyKey = "") -> Status[dict[str, Any]]:
    """A draft, which staff see and may change. Nothing leaves before it is started."""
    who, digest = asker(request), digest_of(request)
    if made := _made(who, idempotency_key, digest):
        return Status(201, campaign_answer(made))
    lists = _lists(asked.lists)
    campaign = _draft(asked, who)
    campaign.source_ref, campaign.idempotency_key, campaign.digest = who.ref, idempotency_key, digest if idempotency_key else ""
    try:
        with transaction.atomic():
            campaign.save()
            campaign.lists.set(lists)
    except IntegrityError:
        # The same key twice at once, and the other was first.
        if made := _made(who, idempotency_key, digest):
            return Status(201, campaign_answer(made))
        raise Problem("conflict", _("The sender or a list has just been deleted.")) from None
    return Status(201, campaign_answer(_campaign(campaign.public_id)))


def _made(who: Asker, key: str, digest: str) -> Campaign | None:
    """What they made under this key. Raises Problem where it was asked for in other words. Index campaigns_campaign_once."""
    earlier: Campaign | None = _campaigns().filter(source_ref=who.ref, idempotency_key=key).first() if key else None
    if earlier and earlier.digest != digest:
        raise reused(sentences.joined(_("This Idempotency-Key was used for another request."), _("Use a new one for each request.")))
    return earlier


def _lists(wanted: list[UUID]) -> list[MailingList]:
    """Raises Problem for those that do not exist."""
    found = {row.public_id: row for row in MailingList.objects.filter(public_id__in=wanted)}
    words = _("There is no such list.")
    if faults := [Fault(pointer(["lists", number]), words) for number, each in enumerate(wanted) if each not in found]:
        raise Problem("invalid", words, faults)
    return list(found.values())


def _draft(asked: CampaignIn, who: Asker) -> Campaign:
    """Not saved. Raises Problem."""
    campaign = Campaign(
        name=asked.name,
        sender=who.sender(asked.sender, pointer(["from"])),
        subject=asked.subject,
        html=asked.html,
        text=asked.text,
        tracks_opens=asked.track_opens,
        tracks_clicks=asked.track_clicks,
    )
    if asked.template:
        template = _template(asked)
        campaign.subject = asked.subject or template.subject
        campaign.html, campaign.text, campaign.language = template.html, template.text, template.language
    campaign.language = asked.language or campaign.language
    try:
        campaign.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        faults = [Fault(pointer([name]), words) for name, problems in error.message_dict.items() for words in problems]
        raise Problem("invalid", faults[0].problem, faults) from None
    return campaign


def _template(asked: CampaignIn) -> Template:
    """Raises Problem."""
    words = ""
    template = Template.objects.filter(name=asked.template).first()
    if asked.html or asked.text:
        words = _("Give a template, or words in its place.")
    elif template is None:
        words = _("There is no campaign template of this name.")
    if template is None or words:
        raise Problem("invalid", words, [Fault(pointer(["template"]), words)])
    return template


def _own(request: HttpRequest, public_id: UUID) -> Campaign:
    """The campaign, if it is from a sender that who asks may use. Raises Problem, Http404."""
    campaign = _campaign(public_id)
    asker(request).sender(campaign.sender.email, "campaign")
    return campaign


def _not_ready(error: launch.NotReady) -> Problem:
    faults = [
        Fault(pointer(["at"]) if each.field == "scheduled_at" else f"campaign.{each.field}", sentences.joined(each.message, each.remedy))
        for each in error.problems
    ]
    return Problem("invalid", str(error), faults)


@campaigns.post("/campaigns/{uuid:public_id}/test", response={202: TestOut}, summary="Send a test of a campaign")
@needs(Scope.CAMPAIGNS_SEND)
def test(request: HttpRequest, public_id: UUID, asked: TestIn) -> Status[dict[str, Any]]:
    """What its first recipient would get, to people of this MailHub: nobody else has been asked for their consent."""
    campaign = _own(request, public_id)
    to = [normalised(each, pointer(["to", number])) for number, each in enumerate(asked.to)]
    words = _("No account and no sender of this MailHub has this address. Tests go to those alone; a campaign goes to a list.")
    if faults := [Fault(pointer(["to", number]), words) for number, each in enumerate(to) if not _is_ours(each)]:
        raise Problem("invalid", words, faults)
    to = list(dict.fromkeys(to))
    try:
        launch.send_tests(campaign, to)
    except launch.NotReady as error:
        raise _not_ready(error) from None
    return Status(202, {"to": to})


def _is_ours(address: str) -> bool:
    staff = User.objects.filter(email__iexact=address, is_staff=True, is_active=True)
    return staff.exists() or Sender.objects.filter(email__iexact=address, status=Sender.Status.CONFIRMED).exists()


@campaigns.post("/campaigns/{uuid:public_id}/start", response={202: CampaignOut}, by_alias=True, summary="Send a campaign")
@needs(Scope.CAMPAIGNS_SEND)
def start(request: HttpRequest, public_id: UUID, how: StartIn | None = None) -> Status[dict[str, Any]]:
    """A draft, or one that waits for its time: checked as on its page, and sent now; a draft with `at`, then."""
    campaign = _own(request, public_id)
    at = how.at if how else None
    if at and at > clock.now() + AHEAD:
        words = _("This is more than a year ahead.")
        raise Problem("invalid", words, [Fault(pointer(["at"]), words)])
    try:
        if at:
            launch.schedule(campaign, at, None)
        else:
            launch.launch(campaign, None)
    except launch.NotReady as error:
        raise _not_ready(error) from None
    except WrongState:
        words = _("The campaign is %(state)s already.") % {"state": campaign.get_state_display()}
        raise Problem("conflict", words) from None
    return Status(202, campaign_answer(_campaign(public_id)))
