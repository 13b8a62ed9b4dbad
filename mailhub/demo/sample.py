"""A shop that does not exist, with all it needs to send mail: for `manage.py demo`, and for looking around with `manage.py run`.

Safe to load again: what is missing is added, and what people have changed stays as they left it; only the two relays and the login are
put right each time, because the demo would not work without them.

Never in production: with the contacts comes a login that may do everything, so nothing here works unless DEBUG is true.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.crypto import salted_hmac

from campaigns import growth
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription, Template
from mailhub.delivery.models import Suppression
from mailhub.demo import people, receiver
from mailhub.lib import clock
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from transactional import samples
from transactional.models import Project

# How many contacts may get a campaign; LEFT_OUT more may not.
CONTACTS = 1_000
# The first contacts, by the reason why no campaign goes to them.
UNSUBSCRIBED = range(12)
NO_CONSENT = range(12, 19)
SUPPRESSED = range(19, 24)
LEFT_OUT = 24

NEWS = "news@shop.example.com"
ORDERS = "orders@shop.example.com"
# Who ordered something, by language; no contacts.
CUSTOMERS = {"en": "emma.wilson@example.com", "ja": "taro.yamada@example.jp"}
LISTS = {"en": "Ryokuchado tea letter", "ja": "緑茶堂だより"}
RELAYS = ("Demo relay A", "Demo relay B")
# Seconds; the demo would rather not wait a minute for what is greylisted.
FIRST_RETRY = 2
LOGIN = "demo"

FILES = Path(__file__).parent / "letter"
# By language; "" is each reader's own.
SUBJECTS = {
    "en": "{{ name }}, the first flush is here",
    "ja": "{{ name }}様、今年の新茶がとどきました",
    "": "新茶がとどきました · The first flush is here",
}
TEMPLATES = {"en": "Tea letter in English", "ja": "緑茶堂だより（日本語）", "": "Tea letter in the reader's language"}
DRAFTS = {"en": "First flush, to English readers", "ja": "新茶のお知らせ"}
AGREED = {
    "en": "Yes, send me the Ryokuchado tea letter by e-mail. I can unsubscribe at any time.",
    "ja": "緑茶堂だよりをメールで受け取ります。配信はいつでも停止できます。",
}
WHY_SUPPRESSED = (
    (Suppression.Reason.BOUNCE, "550 5.1.1 User unknown"),
    (Suppression.Reason.COMPLAINT, "reported as spam"),
    (Suppression.Reason.MANUAL, "asked by telephone not to be written to"),
)


class InProduction(Exception):
    """The sample data comes with a login that may do everything. It is for trying MailHub out, where DEBUG is true, and nowhere else."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True, slots=True)
class Shop:
    news: Sender
    orders: Sender
    lists: list[MailingList]
    project: Project


@transaction.atomic
def load(contacts: int = CONTACTS, port: int = receiver.PORT) -> Shop:
    """The shop, whose relays lead to the receiver at `port`. Raises InProduction."""
    login()
    relays = _relays()
    lead_to(port)
    campaigns = _route("Demo: campaigns", Stream.CAMPAIGN, [(relays[0], 1, 2), (relays[1], 1, 1)])
    transactional = _route("Demo: transactional", Stream.TRANSACTIONAL, [(relays[1], 1, 1), (relays[0], 2, 1)])
    inbox, _created = Relay.objects.get_or_create(name="Demo inbox", defaults={"kind": "inbox"})
    _route("Demo: inbox (kept to be looked at)", None, [(inbox, 1, 1)])
    senders = [_sender(NEWS, campaigns, transactional), _sender(ORDERS, campaigns, transactional)]
    lists = {language: MailingList.objects.get_or_create(name=name)[0] for language, name in LISTS.items()}
    _people(lists, LEFT_OUT + contacts)
    _words(senders[0], lists)
    samples.load()
    project, created = Project.objects.get_or_create(name="Ryokuchado online shop")
    if created:
        project.senders.set(senders)
    return Shop(news=senders[0], orders=senders[1], lists=list(lists.values()), project=project)


# ---------------------------------------------------------------------------------------------------------------------- login


def password() -> str:
    """Of the demo login: this installation's own, and so known to nobody elsewhere."""
    letters = b32encode(salted_hmac("mailhub.demo", LOGIN, algorithm="sha256").digest()).decode().lower()
    return "-".join(letters[start : start + 4] for start in (0, 4, 8))


def login() -> User:
    """The user `demo`, who may do everything and has the password above. Raises InProduction."""
    if not settings.DEBUG:
        raise InProduction
    user, _created = User.objects.get_or_create(username=LOGIN)
    if not works(user):
        user.is_active = user.is_staff = user.is_superuser = True
        user.set_password(password())
        user.save()
    return user


def works(user: User | None) -> bool:
    return bool(user and user.is_active and user.is_staff and user.check_password(password()))


def is_loaded() -> bool:
    """There is a demo login that works."""
    return settings.DEBUG and works(User.objects.filter(username=LOGIN).first())


# ------------------------------------------------------------------------------------------------------- relays and senders


def _relays() -> list[Relay]:
    wanted = {"kind": "smtp", "max_connections": 4, "first_retry": FIRST_RETRY}
    return [Relay.objects.get_or_create(name=name, defaults=wanted)[0] for name in RELAYS]


def lead_to(port: int) -> None:
    """Have the two relays hand over to the receiver at `port`, at once, whatever was tried on them before."""
    Relay.objects.filter(name__in=RELAYS).update(
        kind="smtp",
        options={"host": receiver.HOST, "port": port, "security": "none"},
        secrets={},
        first_retry=FIRST_RETRY,
        status=Relay.Status.ACTIVE,
        resting_until=None,
        rest_reason="",
        failures=0,
    )


def _route(name: str, stream: Stream | None, members: Sequence[tuple[Relay, int, int]]) -> Route:
    """Members are relay, position and share. Default for `stream` unless another route is."""
    route, created = Route.objects.get_or_create(name=name)
    if created:
        for relay, position, weight in members:
            RouteMember.objects.create(route=route, relay=relay, position=position, weight=weight)
        if stream and not Route.objects.filter(default_for=stream).exists():
            route.default_for = stream
            route.save()
    return route


def _sender(email: str, campaigns: Route, transactional: Route) -> Sender:
    sender, created = Sender.objects.get_or_create(
        email=email,
        defaults={
            "name": "緑茶堂 Ryokuchado",
            "reply_to": "support@shop.example.com",
            "organisation": "緑茶堂株式会社 Ryokuchado Co., Ltd. (a sample)",
            "postal_address": "〒100-0000 東京都千代田区見本町1-2-3\n1-2-3 Mihoncho, Chiyoda-ku, Tokyo, Japan",
            "contact_point": "support@shop.example.com",
            "campaign_route": campaigns,
            "transactional_route": transactional,
        },
    )
    if created:
        sender.confirm()
    return sender


# --------------------------------------------------------------------------------------------------------------------- people


def _people(lists: dict[str, MailingList], count: int) -> None:
    """The first `count` people, each on the list of their language and every ninth on both."""
    wanted = {person.email: number for number, person in enumerate(map(people.person, range(count)))}
    known = Contact.objects.in_bulk(list(wanted), field_name="email")
    fresh = [people.person(number) for email, number in wanted.items() if email not in known]
    contacts = Contact.objects.bulk_create(
        [Contact(email=new.email, name=new.name, language=new.language, attributes=new.attributes) for new in fresh], batch_size=500
    )
    now = clock.now()
    joined = [
        (wanted[contact.email], contact, each)
        for contact in contacts
        for language, each in lists.items()
        if contact.language == language or wanted[contact.email] % 9 == 0
    ]
    agreed = Consent.objects.bulk_create(
        [_consent(number, contact, each, now) for number, contact, each in joined if number not in NO_CONSENT], batch_size=500
    )
    consents = {(consent.contact_id, consent.list_id): consent for consent in agreed}
    Subscription.objects.bulk_create(
        [_subscription(number, contact, each, now, consents.get((contact.pk, each.pk))) for number, contact, each in joined],
        batch_size=500,
    )
    Consent.objects.bulk_create(
        [
            Consent(contact=contact, list=each, basis=Consent.Basis.WITHDRAWN, source="unsubscribe link", at=now - timedelta(days=1))
            for number, contact, each in joined
            if number in UNSUBSCRIBED
        ]
    )
    for each in lists.values():
        growth.recount(each)
    _suppress([(wanted[contact.email], contact.email) for contact in contacts])


def _since(number: int, now: datetime) -> datetime:
    """When a person joined: within the last half year."""
    return now - timedelta(days=2 + number * 37 % 175, minutes=number * 61 % 1440)


def _consent(number: int, contact: Contact, each: MailingList, now: datetime) -> Consent:
    return Consent(
        contact=contact,
        list=each,
        basis=Consent.Basis.OPT_IN,
        source="sign-up form on shop.example.com",
        text=AGREED[contact.language],
        ip_address=f"203.0.113.{number % 254 + 1}",  # RFC 5737: nobody's
        at=_since(number, now),
    )


def _subscription(number: int, contact: Contact, each: MailingList, now: datetime, consent: Consent | None) -> Subscription:
    if number in UNSUBSCRIBED:
        unsubscribed = Subscription.Status.UNSUBSCRIBED
        return Subscription(contact=contact, list=each, status=unsubscribed, changed_at=now - timedelta(days=1))
    return Subscription(contact=contact, list=each, consent=consent, changed_at=_since(number, now))


def _suppress(numbered: Sequence[tuple[int, str]]) -> None:
    rows = []
    for number, address in numbered:
        if number in SUPPRESSED:
            reason, detail = WHY_SUPPRESSED[number % len(WHY_SUPPRESSED)]
            rows.append(Suppression(address=address, reason=reason, detail=detail))
    Suppression.objects.bulk_create(rows, ignore_conflicts=True)


# ---------------------------------------------------------------------------------------------------------------------- words


def letter(language: str = "") -> tuple[str, str]:
    """Subject and HTML of the tea letter; without a language, each reader's own."""
    layout = (FILES / "layout.html").read_text()
    parts = {each: (FILES / f"{each}.html").read_text() for each in LISTS}
    parts[""] = f'{{% if language == "ja" %}}\n{parts["ja"]}{{% else %}}\n{parts["en"]}{{% endif %}}\n'
    html = layout.replace("<!-- language -->", language or '{{ language or "en" }}', 1)
    return SUBJECTS[language], html.replace("<!-- content -->\n", parts[language], 1)


def _words(sender: Sender, lists: dict[str, MailingList]) -> None:
    """Templates to begin with, and a draft of each that waits for somebody to send it."""
    for language, name in {
        "en": "Tea letter in English",
        "ja": "緑茶堂だより（日本語）",
        "": "Tea letter in the reader's language",
    }.items():
        subject, html = letter(language)
        said = {"language": language or "en", "subject": subject, "html": html}
        _template, created = Template.objects.get_or_create(name=name, defaults=said)
        if created and language:
            Campaign.objects.create(name=DRAFTS[language], sender=sender, **said).lists.set([lists[language]])


def campaign(shop: Shop, name: str) -> Campaign:
    """A new draft to everyone, in the language of each."""
    subject, html = letter()
    draft = Campaign.objects.create(name=name, sender=shop.news, language="en", subject=subject, html=html)
    draft.lists.set(shop.lists)
    return draft
