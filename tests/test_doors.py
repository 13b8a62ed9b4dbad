"""Both doors and the corridor, from end to end: what staff and sites do on one side, what a mail server gets on the other.

Tasks go through django-q2's own queue; only the process that takes them out is this one (tests/test_worker.py has the real ones).
"""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage as Parsed

import pytest
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives, send_mail
from django.db import transaction
from django.test import Client
from django.utils.module_loading import import_string
from django_q.models import OrmQ
from pytest_django import Settings

from campaigns import audience, launch, subscriptions
from campaigns.models import Campaign, Consent, Contact, MailingList, Subscription
from campaigns.subscriptions import Circumstances
from mailhub.delivery.models import Attempt, Batch, Message, Suppression
from mailhub.lib import clock
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender
from tests.delivery.world import books
from tests.smtp_server import Mail, Reply, SMTPServer

pytestmark = pytest.mark.django_db(transaction=True)

FORM = Circumstances(source="sign-up form")
PUBLIC = "https://mail.tea.example"


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


def make_relay(name: str, server: SMTPServer, **fields: object) -> Relay:
    return Relay.objects.create(
        **{"name": name, "kind": "smtp", "options": {"host": "127.0.0.1", "port": server.port, "security": "none"}, **fields}
    )


@pytest.fixture
def relay(server: SMTPServer) -> Relay:
    relay = make_relay("Tea mail", server)
    for stream in Stream:
        RouteMember.objects.create(route=Route.objects.create(name=stream.label, default_for=stream), relay=relay)
    return relay


@pytest.fixture
def sender(relay: Relay, settings: Settings) -> Sender:
    settings.EMAIL_BACKEND = "transactional.backend.EmailBackend"
    settings.DEFAULT_FROM_EMAIL = "Tea <shop@tea.example>"
    settings.MAILHUB_PUBLIC_URL = PUBLIC
    settings.ALLOWED_HOSTS = ["mail.tea.example"]
    sender = Sender.objects.create(
        email="shop@tea.example",
        name="緑茶堂",
        reply_to="help@tea.example",
        organisation="緑茶堂",
        postal_address="1-2-3 Uji",
        contact_point="+81 774 00 0000",
    )
    sender.confirm()
    return sender


@pytest.fixture
def campaign(sender: Sender) -> Campaign:
    campaign = Campaign.objects.create(
        name="Spring",
        sender=sender,
        language="ja",
        subject="{{ name }}さまへ、新茶のご案内",
        html="<p>{{ name }}さま</p><p>{{ city }}の新茶です。</p>",
    )
    campaign.lists.add(MailingList.objects.create(name="新茶"))
    return campaign


def join(campaign: Campaign, address: str, name: str = "", **attributes: str) -> Contact:
    contact = Contact.objects.create(email=address, name=name, attributes=attributes)
    subscriptions.subscribe(contact, list(campaign.lists.all()), Consent.Basis.OPT_IN, FORM)
    return contact


def put() -> list[tuple[str, str, tuple[int, ...]]]:
    """The tasks that wait for a worker: queue, function, arguments."""
    return [(row.key, row.task["func"].rpartition(".")[2], row.task["args"]) for row in OrmQ.objects.order_by("pk")]


def work() -> None:
    """Do the tasks that wait, and those that they ask for."""
    while row := OrmQ.objects.order_by("pk").first():
        row.delete()
        import_string(row.task["func"])(*row.task["args"])


def read(mail: Mail) -> Parsed:
    parsed = email.message_from_bytes(mail.data, policy=email.policy.default)
    assert isinstance(parsed, Parsed) and not parsed.defects
    return parsed


def text(parsed: Parsed, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


# --------------------------------------------------------------------------------------------------------------------- campaigns


def test_a_campaign_from_the_button_to_the_mailbox(campaign: Campaign, relay: Relay, server: SMTPServer) -> None:
    people = {
        "taro@example.net": ("山田太郎", "宇治"),
        "hana@example.net": ("鈴木花子", "静岡"),
        "bob@example.net": ("Bob O'Hara <b>", "Kyōto"),
    }
    for address, (name, city) in people.items():
        join(campaign, address, name, city=city)
    nobody = Contact.objects.create(email="no-consent@example.net")
    Subscription.objects.create(contact=nobody, list=campaign.lists.get(), changed_at=clock.now())
    batch = launch.launch(campaign, None)
    assert put() == [("bulk", "expand", (batch.pk,))]
    assert server.mails == []
    work()
    assert books() == {"sent": 3}
    batch.refresh_from_db()
    assert (batch.status, batch.sent, batch.total) == ("done", 3, 3)
    assert server.by_recipient() == dict.fromkeys(people, 1)
    for mail in server.mails:
        (address,) = mail.rcpt_to
        name, city = people[address]
        message = Message.objects.get(address=address)
        parsed = read(mail)
        for field in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Reply-To", "List-Unsubscribe", "List-Id"):
            assert len(parsed.get_all(field, [])) == 1, field
        assert mail.mail_from == "shop@tea.example"
        assert str(parsed["From"].addresses[0]) == "緑茶堂 <shop@tea.example>"
        assert (parsed["To"].addresses[0].display_name, parsed["To"].addresses[0].addr_spec) == (name, address)
        assert parsed["Subject"] == f"{name}さまへ、新茶のご案内"
        assert parsed["Message-ID"] == f"<{message.message_id}>"
        assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert link(parsed) == message.unsubscribe_url
        html = text(parsed, "html")
        assert city in html and "<b>" not in html.replace("Bob O&#39;Hara &lt;b&gt;", "")
        assert message.unsubscribe_url in html and "1-2-3 Uji" in html
        assert f"{name}さま" in text(parsed, "plain")
    assert Attempt.objects.filter(relay=relay, outcome="sent", code=250).count() == 3


def link(parsed: Parsed) -> str:
    """The one https address of List-Unsubscribe (RFC 8058 section 3.1)."""
    (found,) = re.findall(r"<(https?://[^>]*)>", str(parsed["List-Unsubscribe"]))
    assert found.startswith(f"{PUBLIC}/")
    return found


def test_one_click_in_the_mail_ends_it(campaign: Campaign, server: SMTPServer) -> None:
    for address in ("taro@example.net", "hana@example.net"):
        join(campaign, address)
    launch.launch(campaign, None)
    work()
    (mail,) = [mail for mail in server.mails if mail.rcpt_to == ("taro@example.net",)]
    path = link(read(mail)).removeprefix(PUBLIC)
    response = Client(enforce_csrf_checks=True).post(
        path, {"List-Unsubscribe": "One-Click"}, headers={"Host": "mail.tea.example"}, secure=True
    )
    assert response.status_code == 200
    launch.launch(campaign.copy(), None)
    work()
    assert server.by_recipient() == {"taro@example.net": 1, "hana@example.net": 2}


def test_who_unsubscribes_before_the_claim_gets_nothing(campaign: Campaign, server: SMTPServer) -> None:
    for address in ("taro@example.net", "hana@example.net"):
        join(campaign, address)
    batch = launch.launch(campaign, None)
    audience.expand(batch.pk)
    path = Message.objects.get(address="taro@example.net").unsubscribe_url.removeprefix(PUBLIC)
    assert Client().post(path, headers={"Host": "mail.tea.example"}, secure=True).status_code == 200
    work()
    assert server.by_recipient() == {"hana@example.net": 1}
    assert books() == {"sent": 1, "suppressed": 1}


def test_what_the_server_says_has_its_consequences(campaign: Campaign, server: SMTPServer) -> None:
    for address in ("gone@example.net", "grey@example.net", "fine@example.net"):
        join(campaign, address)
    server.answers("rcpt", Reply("550 5.1.1 User unknown"), only="gone@")
    server.answers("rcpt", Reply("451 4.7.1 Greylisted"), only="grey@", times=1)
    batch = launch.launch(campaign, None)
    work()
    assert server.by_recipient() == {"fine@example.net": 1}
    assert books() == {"sent": 1, "bounced": 1, "deferred": 1}
    assert Suppression.objects.get().address == "gone@example.net"
    Message.objects.filter(status="deferred").update(next_attempt_at=clock.now())
    import_string("mailhub.delivery.tasks.tick")()
    work()
    assert server.by_recipient() == {"fine@example.net": 1, "grey@example.net": 1}
    assert books() == {"sent": 2, "bounced": 1}
    batch.refresh_from_db()
    assert batch.status == "done"
    # The address is bad for every other mail as well.
    send_mail("Order", "Thank you", None, ["GONE@example.net"])
    work()
    assert len(server.mails) == 2
    assert books() == {"sent": 2, "bounced": 1, "suppressed": 1}


# ------------------------------------------------------------------------------------------------------------- transactional mail


def test_a_sites_mail_from_its_view_to_the_mailbox(sender: Sender, relay: Relay, server: SMTPServer) -> None:
    mail = EmailMultiAlternatives(
        "ご注文ありがとうございます",
        "山田様\n.\n..ご注文を承りました。",
        "緑茶堂 <shop@tea.example>",
        ["山田 <taro@example.net>"],
        cc=["Hana <hana@example.net>"],
        bcc=["archive@tea.example"],
        reply_to=["orders@tea.example"],
        headers={"X-Order": "4711"},
    )
    mail.attach_alternative("<p>山田様</p>", "text/html")
    mail.attach("領収書.pdf", b"%PDF \x00\r\n.\r\n\xff" * 100, "application/pdf")
    with transaction.atomic():
        assert mail.send() == 1
        assert put() == []
    assert put() == [("transactional", "drain_transactional", (relay.pk,))]
    assert server.mails == []
    work()
    assert books() == {"sent": 3}
    assert server.by_recipient() == {"taro@example.net": 1, "hana@example.net": 1, "archive@tea.example": 1}
    assert len({got.data for got in server.mails}) == 1
    parsed = read(server.mails[0])
    assert parsed["Subject"] == "ご注文ありがとうございます"
    assert [str(address) for address in parsed["To"].addresses] == ["山田 <taro@example.net>"]
    assert [str(address) for address in parsed["Cc"].addresses] == ["Hana <hana@example.net>"]
    assert (parsed["Bcc"], parsed["X-Order"], parsed["Reply-To"]) == (None, "4711", "orders@tea.example")
    assert text(parsed, "plain").replace("\r\n", "\n").rstrip() == "山田様\n.\n..ご注文を承りました。"
    assert text(parsed, "html").strip() == "<p>山田様</p>"
    (attachment,) = parsed.iter_attachments()
    assert attachment.get_filename() == "領収書.pdf"
    assert attachment.get_content() == b"%PDF \x00\r\n.\r\n\xff" * 100


def test_a_rollback_takes_the_mail_back(sender: Sender, server: SMTPServer) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send_mail("Order", "Thank you", None, ["taro@example.net"])
        raise ZeroDivisionError
    assert put() == []
    assert books() == {}


def test_mailhubs_own_mail_goes_the_same_way(sender: Sender, server: SMTPServer) -> None:
    User.objects.create_user("staff", "staff@tea.example", "secret")
    form = PasswordResetForm({"email": "staff@tea.example"})
    assert form.is_valid()
    form.save(domain_override="mail.tea.example")
    work()
    (mail,) = server.mails
    assert mail.rcpt_to == ("staff@tea.example",)
    assert "/reset/" in text(read(mail), "plain")


def test_urgent_mail_overtakes_a_campaign_that_waits(campaign: Campaign, server: SMTPServer, relay: Relay) -> None:
    Relay.objects.update(max_connections=1)
    for number in range(30):
        join(campaign, f"taro{number}@example.net")
    audience.expand(launch.launch(campaign, None).pk)
    send_mail("Order", "Thank you", None, ["urgent@example.net"])
    # Whichever task is done first.
    OrmQ.objects.filter(pk__in=[row.pk for row in OrmQ.objects.all() if row.key == "transactional"]).delete()
    work()
    assert [mail.rcpt_to[0] for mail in server.mails][0] == "urgent@example.net"
    assert books() == {"sent": 31}


# ------------------------------------------------------------------------------------------------------------------- wake-ups


def test_however_much_is_committed_each_relay_is_asked_once(campaign: Campaign, server: SMTPServer, relay: Relay) -> None:
    second = make_relay("Second", server)
    RouteMember.objects.create(route=Route.objects.get(default_for=Stream.CAMPAIGN), relay=second)
    for number in range(20):
        join(campaign, f"taro{number}@example.net")
        send_mail("Order", "Thank you", None, [f"hana{number}@example.net"])
    batch = launch.launch(campaign, None)
    OrmQ.objects.filter(pk__in=[row.pk for row in OrmQ.objects.all() if row.key == "bulk"]).delete()
    audience.expand(batch.pk)
    assert Counter(put()) == Counter(
        [
            ("transactional", "drain_transactional", (relay.pk,)),
            ("bulk", "drain", (relay.pk,)),
            ("bulk", "drain", (second.pk,)),
        ]
    )
    work()
    assert books() == {"sent": 40}
    assert set(server.by_recipient().values()) == {1}
    shares = Counter(Attempt.objects.filter(message__batch=batch).values_list("relay", flat=True))
    assert shares == {relay.pk: 10, second.pk: 10}


def test_mail_without_any_wake_up_is_found_by_the_tick(sender: Sender, server: SMTPServer) -> None:
    send_mail("Order", "Thank you", None, ["taro@example.net"])
    OrmQ.objects.all().delete()
    Relay.objects.update(transactional_wake=None)
    import_string("mailhub.delivery.tasks.tick")()
    work()
    assert server.by_recipient() == {"taro@example.net": 1}


def test_a_relay_that_cannot_be_reached_gives_way_to_the_next_and_nothing_is_lost(
    campaign: Campaign, server: SMTPServer, relay: Relay
) -> None:
    dead = make_relay("Dead", server, options={"host": "127.0.0.1", "port": 9, "security": "none"})
    for route in Route.objects.all():
        RouteMember.objects.filter(route=route).update(position=2)
        RouteMember.objects.create(route=route, relay=dead, position=1)
    for number in range(10):
        join(campaign, f"taro{number}@example.net")
    launch.launch(campaign, None)
    send_mail("Order", "Thank you", None, ["urgent@example.net"])
    work()
    assert books() == {"sent": 11}
    assert set(server.by_recipient().values()) == {1}
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}
    dead.refresh_from_db()
    assert dead.resting_until and "127.0.0.1" in dead.rest_reason


def test_two_campaigns_go_side_by_side(campaign: Campaign, server: SMTPServer) -> None:
    Relay.objects.update(max_connections=1)
    for number in range(40):
        join(campaign, f"taro{number}@example.net")
    batches = [launch.launch(each, None) for each in (campaign, campaign.copy())]
    for batch in batches:
        audience.expand(batch.pk)
    work()
    assert books() == {"sent": 80}
    of = {message.message_id: message.batch_id for message in Message.objects.select_related("content")}
    halfway = Counter(of[mail.message_id.strip("<>")] for mail in server.mails[:40])
    assert all(halfway[batch.pk] >= 10 for batch in batches)
    assert {batch.status for batch in Batch.objects.all()} == {"done"}
