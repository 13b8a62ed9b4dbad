from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery.models import Message
from mailhub.feedback import probes
from mailhub.feedback.incoming import take
from mailhub.feedback.models import Callback, CallbackURL, IncomingMail, ParkedReport, Probe
from mailhub.lib import tasks
from mailhub.relays.base import Fault, Refused, Reply
from mailhub.relays.models import Relay
from mailhub.relays.providers import memory
from mailhub.senders.models import Domain
from tests.delivery.world import make_relay
from tests.feedback import services
from tests.feedback.test_incoming import bounce

pytestmark = pytest.mark.django_db

KINDS = ["postmark", "sendgrid", "amazon_ses", "resend", "unisender_go", "smtp", "memory"]


def address(name: str, relay: Relay) -> str:
    return reverse(f"admin:feedback_callback_{name}", args=[relay.pk])


def words(client: Client, url: str, data: dict[str, Any] | None = None) -> str:
    answer = client.post(url, data, follow=True) if data is not None else client.get(url)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def relay_of(kind: str) -> Relay:
    return make_relay(kind=kind, secrets={"api_key": services.KEY})


@pytest.mark.parametrize("kind", KINDS)
def test_a_relays_page_says_how_it_calls_back(kind: str, admin_client: Client) -> None:
    relay = relay_of(kind)
    page = words(admin_client, address("relay", relay))
    if kind == "memory":
        assert "Relays of this kind do not call back" in page
        return
    page = words(admin_client, address("set_up", relay), {"service": "sendgrid"})
    url = CallbackURL.objects.get()
    assert url.service == (kind if kind != "smtp" else "sendgrid")
    assert f"/callbacks/{url.token}" in page
    assert ("mailhub:" in page) == (kind == "postmark")
    assert ("Nothing is believed until the key is entered below" in page) == (kind not in ("postmark", "unisender_go"))
    assert url.secrets.get("api_key") == (services.KEY if kind == "unisender_go" else None)
    assert "What comes back" in words(admin_client, reverse("admin:relays_relay_change", args=[relay.pk]))
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize(("service", "passed_over"), [("mailersend", True), ("postmark", False), ("mailgun", False)])
def test_the_page_says_when_events_of_mail_by_smtp_cannot_be_told_apart(service: str, passed_over: bool, admin_client: Client) -> None:
    for kind in ("smtp", service):
        relay = relay_of(kind)
        page = words(admin_client, address("set_up", relay), {"service": service})
        assert ("MailHub passes its events over" in page) == (passed_over and kind == "smtp")


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "right"),
    [
        ("sendgrid", "public_key", "no key", services.public(services.ELLIPTIC)),
        ("amazon_ses", "topic", "arn:aws:sqs:x", services.TOPIC),
        ("resend", "signing_key", "whsec_x", services.SVIX_KEY),
    ],
)
def test_a_key_is_checked_when_it_is_entered_and_never_shown(kind: str, name: str, wrong: str, right: str, admin_client: Client) -> None:
    relay = relay_of(kind)
    admin_client.post(address("set_up", relay))
    words(admin_client, address("relay", relay), {name: wrong})
    assert CallbackURL.objects.get().secrets == {}
    page = words(admin_client, address("relay", relay), {name: right})
    assert CallbackURL.objects.get().secrets == {name: right}
    assert "nothing has come yet" in page
    raw = admin_client.get(address("relay", relay)).content.decode()
    assert (right in raw) == (kind == "amazon_ses"), "a topic is no secret"


def test_the_page_says_why_the_last_callback_was_refused(admin_client: Client) -> None:
    relay = relay_of("amazon_ses")
    admin_client.post(address("set_up", relay))
    CallbackURL.objects.update(secrets={"topic": services.TOPIC})
    url = CallbackURL.objects.get()
    posted = services.sns(b"{}", "", TopicArn="arn:aws:sns:eu-west-1:999999999999:other")
    Client().post(f"/callbacks/{url.token}", posted.body, content_type=posted.content_type)
    page = words(admin_client, address("relay", relay))
    assert "of another topic than the one" in page
    assert "arn:aws:sns:eu-west-1:999999999999:other" in page
    assert "1 refused" in words(admin_client, reverse("admin:relays_relay_change", args=[relay.pk]))


def test_a_new_address_ends_the_old_one_and_switching_off_asks_first(admin_client: Client) -> None:
    relay = relay_of("postmark")
    admin_client.post(address("set_up", relay))
    old = CallbackURL.objects.get()
    assert "turned away at once" in words(admin_client, address("renew", relay))
    words(admin_client, address("renew", relay), {})
    new = CallbackURL.objects.get()
    assert (new.token == old.token, new.secrets == old.secrets) == (False, False)
    Callback.objects.create(url=new, digest="x", size=1, received_at=timezone.now())
    assert "1 stored callbacks and 0 parked reports are deleted" in words(admin_client, address("remove", relay))
    words(admin_client, address("remove", relay), {})
    assert not CallbackURL.objects.exists()


@pytest.mark.parametrize("name", ["relay", "set_up", "renew", "remove", "probe"])
def test_who_may_not_change_relays_sees_no_address(name: str, client: Client, django_user_model: Any) -> None:
    relay = relay_of("postmark")
    client.force_login(django_user_model.objects.create_user("mika", is_staff=True))
    assert client.post(address(name, relay)).status_code == 403


def test_parked_reports_are_shown_tried_again_and_dismissed(admin_client: Client, message: Message) -> None:
    relay = Relay.objects.get()
    url = CallbackURL.objects.create(relay=relay, service="postmark")
    now = timezone.now()
    told = {"url": url, "type": "bounced", "recipient": "taro@example.jp", "at": now, "received_at": now, "kind": "hard"}
    lost = ParkedReport.objects.create(source="a", number=message.pk + 7, status="kept", why="unknown", **told)
    found = ParkedReport.objects.create(source="b", number=message.pk, status="kept", why="relay", **told)
    listed = reverse("admin:feedback_parkedreport_changelist")
    page = words(admin_client, listed)
    assert "no such message" in page
    assert "the message did not leave by this relay" in page
    Message.objects.update(relay=relay)
    page = words(admin_client, listed, {"action": "try_again", "_selected_action": [lost.pk, found.pk]})
    assert "1 report found its message." in page
    page = words(admin_client, listed, {"action": "dismiss", "_selected_action": [lost.pk, found.pk]})
    assert "1 report is dismissed." in page
    assert sorted(ParkedReport.objects.values_list("status", flat=True)) == ["applied", "dismissed"]


# ------------------------------------------------------------------------------------------------------------- return paths


@pytest.fixture
def tea(message: Message) -> Message:
    """Its sender's domain has a bounce address."""
    Domain.objects.update_or_create(name="tea.example", defaults={"bounce_address": "bounces@bounce.tea.example"})
    return message


def test_without_a_bounce_address_the_page_says_the_next_step(admin_client: Client, message: Message) -> None:
    assert "Enter a bounce address" in words(admin_client, address("probe", Relay.objects.get()))


def test_a_test_to_a_bad_address_finds_out_that_a_relay_keeps_return_paths(admin_client: Client, tea: Message) -> None:
    relay = Relay.objects.get()
    url = address("probe", relay)
    assert "no-such-mailbox-" in admin_client.get(url).content.decode()
    page = words(admin_client, url, {"sender": tea.sender_id, "to": "no-such-mailbox@tea.example"})
    assert "It was accepted. The answer is waited for" in page
    probe = Probe.objects.get()
    [envelope] = memory.taken[relay.pk]
    assert envelope.mail_from == probe.return_path
    assert envelope.message == 0
    mail = take(bounce("no-such-mailbox@tea.example"), IncomingMail.Source.SMTP, rcpt_to=probe.return_path)
    assert mail.status == "applied"
    probe.refresh_from_db()
    relay.refresh_from_db()
    assert (probe.status, relay.keeps_return_path) == ("kept", True)
    assert "The bounce came to the return path" in words(admin_client, address("relay", relay))


def test_a_forged_answer_switches_nothing_on(tea: Message) -> None:
    probe = probes.send(Relay.objects.get(), tea.sender, "no-such-mailbox@tea.example")
    forged = probe.return_path.replace(probe.return_path[10:20], "aaaaaaaaaa")
    take(bounce("no-such-mailbox@tea.example"), IncomingMail.Source.SMTP, rcpt_to=forged)
    take(b"Subject: Out of office\nAuto-Submitted: auto-replied\n\nAway.\n", IncomingMail.Source.SMTP, rcpt_to=probe.return_path)
    probe.refresh_from_db()
    assert (probe.status, Relay.objects.get().keeps_return_path) == ("waiting", False)


def test_what_the_relay_refuses_at_once_answers_nothing(admin_client: Client, tea: Message) -> None:
    relay = Relay.objects.get()
    memory.script[relay.pk].append(Refused(Reply(550, "5.1.1", "User unknown"), Fault.RECIPIENT))
    page = words(admin_client, address("probe", relay), {"sender": tea.sender_id, "to": "no-such-mailbox@tea.example"})
    assert "The relay refused it at once" in page
    assert Probe.objects.get().status == "refused"


@pytest.mark.parametrize(("called_back", "status"), [(True, "callback"), (False, "silent")])
def test_a_test_that_nothing_comes_of_ends_and_a_late_bounce_still_counts(called_back: bool, status: str, tea: Message) -> None:
    relay = Relay.objects.get()
    probe = probes.send(relay, tea.sender, "no-such-mailbox@tea.example")
    assert probes.close() == 0
    Probe.objects.update(sent_at=timezone.now() - probes.IN_TIME * 2, called_back_at=timezone.now() if called_back else None)
    assert probes.close() == 1
    probe.refresh_from_db()
    relay.refresh_from_db()
    assert (probe.status, relay.keeps_return_path) == (status, False)
    take(bounce("no-such-mailbox@tea.example"), IncomingMail.Source.SMTP, rcpt_to=probe.return_path)
    probe.refresh_from_db()
    assert probe.status == "kept"


def test_callbacks_that_were_set_aside_are_read_again_by_hand(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    monkeypatch.setattr(tasks, "enqueue", lambda task, queue: woken.append(task))
    url = CallbackURL.objects.create(relay=relay_of("postmark"), service="postmark")
    kinds: dict[str, dict[str, Any]] = {"stuck": {}, "read": {"status": "done"}, "forgotten": {"body": None}}
    for name, changes in kinds.items():
        fields = {"status": "stuck", "body": b"{}", "tries": 3, "size": 2, "received_at": timezone.now(), **changes}
        Callback.objects.create(url=url, digest=name, body_digest=name, **fields)
    chosen = {"action": "read_again", "_selected_action": [row.pk for row in Callback.objects.all()]}
    page = words(admin_client, reverse("admin:feedback_callback_changelist"), chosen)
    assert "1 callback is being read again" in page
    assert woken == ["mailhub.feedback.tasks.read_callbacks"]
    assert set(Callback.objects.values_list("digest", "status")) == {("stuck", "new"), ("read", "done"), ("forgotten", "stuck")}
