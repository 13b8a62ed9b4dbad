"""People join lists and leave them; the consents say how."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from campaigns import audience, growth
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription
from mailhub.delivery import events, queue
from mailhub.delivery.models import OPEN, Event, Message, Suppression
from mailhub.lib import clock, tokens

Status = Subscription.Status


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a consent came about, or its end."""

    #: how and from where, in words
    source: str
    #: the text that the person agreed to
    text: str = ""
    ip_address: str | None = None
    recorded_by: User | None = None


@transaction.atomic
def subscribe(contact: Contact, lists: Collection[MailingList], basis: str, how: Circumstances) -> None:
    """Put the contact on the lists, with the consent that this needs. It is the person's own wish, so an earlier withdrawal ends."""
    now = clock.now()
    joined = []
    for each in sorted(lists, key=lambda each: each.pk):
        agreed = {"status": Status.SUBSCRIBED, "consent": _record(contact, each, basis, how), "changed_at": now}
        had_left = Subscription.objects.filter(contact=contact, list=each, status=Status.UNSUBSCRIBED).update(**agreed)
        if had_left or Subscription.objects.update_or_create(contact=contact, list=each, defaults=agreed)[1]:
            joined.append(each)
    for each in joined:
        growth.add(each.pk, joined=1)


@transaction.atomic
def unsubscribe(contact: Contact, lists: Collection[MailingList], how: Circumstances) -> list[MailingList]:
    """Take the contact off the lists and keep back what waits for them; returns the lists that they were on.

    Effective before the next claim. While this holds the lists, none of their audiences grows; so a message for the contact either is
    there already, and is kept back here, or will never be made, because audience.grow() sees the subscriptions as they are then."""
    audience.hold([each.pk for each in lists])
    subscribed = Subscription.objects.filter(contact=contact, list__in=lists, status=Status.SUBSCRIBED)
    left = [subscription.list for subscription in subscribed.select_related("list").order_by("list")]
    subscribed.update(status=Status.UNSUBSCRIBED, consent=None, changed_at=clock.now())
    for each in left:
        _record(contact, each, Consent.Basis.WITHDRAWN, how)
    if left:
        _keep_back(contact, left)
    for each in left:
        growth.add(each.pk, left=1)
    return left


@transaction.atomic
def forget(contact: Contact) -> None:
    """Delete the contact with all records of them. That they unsubscribed stays known: no import may bring them back to campaigns."""
    had_left = Subscription.objects.filter(contact=contact, status=Status.UNSUBSCRIBED).exists()
    unsubscribe(contact, list(contact.lists.all()), Circumstances(source="erasure"))
    if had_left:
        Suppression.objects.get_or_create(
            address=contact.email, defaults={"scope": Suppression.Scope.CAMPAIGN, "reason": Suppression.Reason.UNSUBSCRIBE}
        )
    contact.delete()


def _keep_back(contact: Contact, left: Collection[MailingList]) -> None:
    """Nothing of campaigns to these lists goes to the contact any more, unless another list that they are on gets it too.

    Index delivery_message_address."""
    other = Subscription.objects.filter(contact=contact, list__campaigns=OuterRef("pk"), status=Status.SUBSCRIBED, consent__isnull=False)
    campaigns = Campaign.objects.filter(~Exists(other), lists__in=left, batch__isnull=False)
    messages = Message.objects.filter(address=contact.email, batch__in=campaigns.values("batch"))
    with translation.override(settings.LANGUAGE_CODE):  # staff read it, not the visitor
        queue.suppress(messages, _("The recipient unsubscribed."))
    # What a worker holds may come back and what failed may be sent again: by this event queue.claim() knows better.
    _note(messages.filter(status__in=[*OPEN, Message.Status.FAILED, Message.Status.UNKNOWN]))


def _note(messages: QuerySet[Message]) -> None:
    """Record on each message, once, that its recipient unsubscribed."""
    fresh = messages.filter(~Exists(Event.objects.filter(message=OuterRef("pk"), type=Event.Type.UNSUBSCRIBED)))
    fresh = fresh.order_by("pk").select_for_update(of=("self",), no_key=True)
    events.write(Event(message=message, type=Event.Type.UNSUBSCRIBED, at=clock.now()) for message in fresh)


def _record(contact: Contact, each: MailingList, basis: str, how: Circumstances) -> Consent:
    return Consent.objects.create(
        contact=contact,
        list=each,
        basis=basis,
        source=how.source[:300],
        text=how.text,
        ip_address=how.ip_address,
        recorded_by=how.recorded_by,
        at=clock.now(),
    )


# ----------------------------------------------------------------------------------------------------------------- elsewhere

# Unsubscriptions are looked for in events that were recorded so lately. Longer than any of our stops.
LATELY = timedelta(days=7)


def follow() -> int:
    """Take those off their lists who unsubscribed by mail, or with the service that sent them a campaign; returns how many. Safe to call
    again at any time: who has subscribed since then stays.

    Index delivery_event_unsubscribed, which holds nothing else; then the subscriptions of the contact."""
    told = Event.objects.filter(
        type=Event.Type.UNSUBSCRIBED, once__isnull=False, recorded_at__gt=clock.now() - LATELY, message__recipient_ref__isnull=False
    )
    still = Subscription.objects.filter(
        contact=OuterRef("message__recipient_ref"),
        list__campaigns__batch=OuterRef("message__batch"),
        status=Status.SUBSCRIBED,
        changed_at__lt=OuterRef("at"),
    )
    count = 0
    for event in told.filter(Exists(still)).select_related("message").order_by("recorded_at"):
        campaign = Campaign.objects.filter(batch=event.message.batch_id).first()
        contact = Contact.objects.filter(pk=event.message.recipient_ref or 0).first()
        if campaign and contact:
            lists = campaign.lists.filter(
                subscriptions__contact=contact, subscriptions__status=Status.SUBSCRIBED, subscriptions__changed_at__lt=event.at
            )
            with translation.override(settings.LANGUAGE_CODE):
                source = _("by mail, or with the service that sent the campaign “%(name)s”") % {"name": campaign}
            count += bool(unsubscribe(contact, list(lists), Circumstances(source=source)))
    return count


# --------------------------------------------------------------------------------------------------------------------- links


@dataclass(frozen=True, slots=True)
class Link:
    """What an unsubscribe link is about. Without a campaign it is a test mail's; without a contact there is nobody left to write to."""

    campaign: Campaign | None
    contact: Contact | None

    @classmethod
    def read(cls, token: str) -> Link:
        """Raises BadToken."""
        batch, _dot, contact = tokens.read("unsubscribe", token).partition(".")
        if contact == "None":
            return cls(None, None)
        campaign = Campaign.objects.select_related("sender").filter(batch=int(batch)).first()
        if campaign is None:
            raise tokens.BadToken
        return cls(campaign, Contact.objects.filter(pk=contact).first())

    @property
    def is_test(self) -> bool:
        return self.campaign is None

    def lists(self, status: str) -> list[MailingList]:
        """The campaign's lists on which the contact is `status`."""
        if self.campaign is None:
            return []
        return list(self.campaign.lists.filter(subscriptions__contact=self.contact, subscriptions__status=status).order_by("name"))

    def unsubscribe(self, ip_address: str | None) -> None:
        """From all of the campaign's lists. Again and again does no more than once."""
        lists = self.lists(Status.SUBSCRIBED)
        if not (self.campaign and self.contact and lists):
            return
        with transaction.atomic():
            how = Circumstances(source=self._named(gettext_noop("unsubscribe link of the campaign “%(name)s”")), ip_address=ip_address)
            unsubscribe(self.contact, lists, how)
            _note(Message.objects.filter(batch=self.campaign.batch_id, address=self.contact.email))

    def subscribe(self, ip_address: str | None) -> None:
        """To those of the campaign's lists that the contact has left."""
        lists = self.lists(Status.UNSUBSCRIBED)
        if self.campaign and self.contact and lists:
            how = Circumstances(source=self._named(gettext_noop("unsubscribe page of the campaign “%(name)s”")), ip_address=ip_address)
            subscribe(self.contact, lists, Consent.Basis.OPT_IN, how)

    def _named(self, source: str) -> str:
        with translation.override(settings.LANGUAGE_CODE):
            return _(source) % {"name": self.campaign}
