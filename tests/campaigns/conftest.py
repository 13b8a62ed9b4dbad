from __future__ import annotations

from collections.abc import Callable

import pytest

from campaigns import subscriptions
from campaigns.models import Campaign, Consent, Contact, MailingList
from campaigns.subscriptions import Circumstances
from mailhub.lib import tasks
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender

FORM = Circumstances(source="sign-up form")


@pytest.fixture
def sender(db: None) -> Sender:
    sender = Sender.objects.create(
        email="news@tea.example",
        name="緑茶堂",
        organisation="緑茶堂 & Co.",
        postal_address="1-2-3 Uji\nKyoto 611-0021",
        contact_point="+81 774 00 0000",
    )
    sender.confirm()
    return sender


@pytest.fixture
def route(db: None) -> Route:
    relay = Relay.objects.create(name="Dry run", kind="memory")
    route = Route.objects.create(name="Campaigns", default_for=Stream.CAMPAIGN)
    RouteMember.objects.create(route=route, relay=relay)
    return route


@pytest.fixture
def news(db: None) -> MailingList:
    return MailingList.objects.create(name="News")


@pytest.fixture
def offers(db: None) -> MailingList:
    return MailingList.objects.create(name="Offers")


@pytest.fixture
def campaign(sender: Sender, route: Route, news: MailingList) -> Campaign:
    campaign = Campaign.objects.create(
        name="Spring", sender=sender, language="en", subject="New tea for {{ name }}", html="<p>Dear {{ name }}, first flush!</p>"
    )
    campaign.lists.add(news)
    return campaign


Join = Callable[..., Contact]


@pytest.fixture
def join(db: None) -> Join:
    """A contact on the given lists, with consent."""

    def join(email: str, *lists: MailingList, name: str = "", **attributes: str) -> Contact:
        contact, _created = Contact.objects.get_or_create(email=email, defaults={"name": name, "attributes": attributes})
        subscriptions.subscribe(contact, lists, Consent.Basis.OPT_IN, FORM)
        return contact

    return join


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """The tasks that were asked for: path and arguments, in the order of their asking."""
    asked = []
    monkeypatch.setattr(tasks, "enqueue", lambda task, *ids, queue: asked.append((task, ids)))
    return asked
