from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test import Client, RequestFactory
from django.utils import timezone

from mailhub.delivery.models import Attempt, Event, Message, Suppression
from mailhub.feedback import callbacks, callers, signatures, tasks, topics
from mailhub.feedback.models import Callback, CallbackURL, ParkedReport, Probe
from mailhub.lib import http
from mailhub.lib.replies import classify, tables
from mailhub.relays.models import Relay
from mailhub.senders import return_path
from tests.at_once import at_once
from tests.delivery.world import Status, make_relay, post, postgresql_only
from tests.feedback import services
from tests.feedback.services import SERVICES, Post

pytestmark = pytest.mark.django_db

TARO = "taro@example.jp"
ALL = pytest.mark.parametrize("service", SERVICES)
Parked = ParkedReport.Status


@pytest.fixture(autouse=True)
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Amazon's hosts, with the certificate that services.py signs with; what was asked of them."""
    asked: list[str] = []

    async def get(url: str, **options: Any) -> http.Page:
        asked.append(url)
        return http.Page(200, "", services.certificate())

    monkeypatch.setattr(http, "get", get)
    topics.certificate_at.cache_clear()
    yield asked
    topics.certificate_at.cache_clear()


@pytest.fixture(autouse=True)
def no_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    woken: list[str] = []
    monkeypatch.setattr("mailhub.lib.tasks.enqueue", lambda task, *ids, queue: woken.append(task))
    return woken


@pytest.fixture
def sent(message: Message) -> Message:
    """The message, which left by a relay."""
    Message.objects.filter(pk=message.pk).update(relay=Relay.objects.get())
    message.refresh_from_db()
    return message


@pytest.fixture(autouse=True)
def no_row_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "KEPT_FOR", 0.0)


def open_url(service: str, **fields: Any) -> CallbackURL:
    fields.setdefault("secrets", SERVICES[service].secrets)
    return CallbackURL.objects.create(relay=Relay.objects.first(), service=service, **fields)


def send(url: CallbackURL, posted: Post) -> int:
    answer = Client(enforce_csrf_checks=True).post(f"/callbacks/{url.token}", posted.body, content_type=posted.content_type, **posted.meta)
    return answer.status_code


def tell(url: CallbackURL, event: Any) -> int:
    return send(url, SERVICES[url.service].sign(json.dumps(event).encode(), callbacks.address(url)))


def told(message: Message) -> tuple[str, list[tuple[str, str, str]], bool]:
    """Its state, its events with kind and category, and whether anybody is suppressed."""
    message.refresh_from_db()
    events = list(message.events.order_by("pk").values_list("type", "kind", "category"))
    return message.status, events, Suppression.objects.exists()


UNTOUCHED: Any = (Status.SENT, [], False)
BOUNCED = (Status.BOUNCED, [("bounced", "hard", "user_unknown")], True)


# -------------------------------------------------------------------------------------------------------------- each service


def test_every_service_that_anymail_reads_is_there_and_every_one_has_a_post() -> None:
    from anymail.urls import urlpatterns

    tracked = {pattern.name.removesuffix("_webhook").removesuffix("_tracking") for pattern in urlpatterns if "inbound" not in pattern.name}
    assert tracked - {"sendinblue"} == set(callers.CALLERS) == set(SERVICES)


@ALL
def test_a_hard_bounce_is_recorded_once_however_often_it_is_told(service: str, sent: Message) -> None:
    url = open_url(service)
    posted = SERVICES[service].post(sent.pk, TARO, callbacks.address(url))
    assert [send(url, posted), send(url, posted)] == [200, 200]
    assert told(sent) == UNTOUCHED, "it is answered before it is worked on"
    callbacks.work_off()
    callbacks.work_off()
    assert told(sent) == BOUNCED
    assert [(row.status, row.recorded, row.parked, row.passed, row.unread) for row in Callback.objects.all()] == [("done", 1, 0, 0, 0)]
    assert send(url, posted) == 200
    callbacks.work_off()
    assert told(sent) == BOUNCED
    event = Event.objects.get()
    assert event.at <= Callback.objects.get().received_at
    assert ("user unknown" in event.detail.lower()) or service == "resend"


@ALL
def test_nothing_counts_without_the_right_secret(service: str, sent: Message) -> None:
    other = {
        "public_key": services.public(services.RSA if service == "sendgrid" else services.rsa.generate_private_key(65537, 2048)),
        "signing_key": services.SVIX_KEY[:-8] + "AAAAAAA=" if service == "resend" else "another",
        "topic": services.TOPIC + "s",
        "password": "another",
        "api_key": "another",
    }
    url = open_url(service, secrets={name: other[name] for name in SERVICES[service].secrets})
    posted = SERVICES[service].post(sent.pk, TARO, callbacks.address(url))
    refused = 401 if SERVICES[service].sign is services.by_password else 400
    assert send(url, posted) == refused
    CallbackURL.objects.update(secrets={})
    assert send(url, posted) == 400, "without a secret of its own nothing is believed"
    CallbackURL.objects.update(secrets=SERVICES[service].secrets)
    unsigned = Post(b'{"Type": "Notification", "TopicArn": "x", "auth": "x", "signature": {}}', services.JSON)
    assert send(url, unsigned) == refused
    assert not Callback.objects.exists()
    url.refresh_from_db()
    assert (url.refused, url.last_at) == (3, None)


@ALL
def test_a_body_that_was_changed_on_its_way_is_refused(service: str, sent: Message) -> None:
    if SERVICES[service].sign is services.by_password or service == "mailgun":
        pytest.skip("its signature does not cover the body")
    url = open_url(service)
    posted = SERVICES[service].post(sent.pk, TARO, callbacks.address(url))
    assert send(url, Post(posted.body.replace(b"taro", b"jiro"), posted.content_type, posted.meta)) == 400
    assert not Callback.objects.exists()


@ALL
def test_a_claim_about_somebody_else_changes_nothing(service: str, sent: Message) -> None:
    url = open_url(service)
    [other] = post(sent.sender, "hanako@example.jp")
    assert send(url, SERVICES[service].post(sent.pk, "hanako@example.jp", callbacks.address(url))) == 200
    callbacks.work_off()
    assert (told(sent), other.events.count()) == (UNTOUCHED, 0)
    parked = ParkedReport.objects.get()
    assert (parked.status, parked.why, parked.recipient, parked.number) == (Parked.KEPT, "recipient", "hanako@example.jp", sent.pk)


# ------------------------------------------------------------------------------------------------------------ early, late, elsewhere


def test_what_comes_before_our_own_commit_is_parked_and_found_later(sent: Message) -> None:
    url = open_url("postmark")
    number = sent.pk + 1000
    tell(url, services.postmark(number, "jiro@example.jp"))
    callbacks.work_off()
    assert [row.status for row in ParkedReport.objects.all()] == [Parked.WAITING]
    assert callbacks.try_parked() == 0, "its time has not come"
    [late] = post(sent.sender, "jiro@example.jp", pk=number)
    Message.objects.filter(pk=late.pk).update(relay=url.relay)
    ParkedReport.objects.update(next_try_at=timezone.now())
    assert callbacks.try_parked() == 1
    assert (told(late), ParkedReport.objects.get().status) == (BOUNCED, Parked.APPLIED)


def test_what_never_finds_its_message_is_kept_and_shown(sent: Message) -> None:
    url = open_url("postmark")
    tell(url, services.postmark(sent.pk + 1000, TARO))
    callbacks.work_off()
    for _try in callbacks.RETRIES:
        assert ParkedReport.objects.get().status == Parked.WAITING
        ParkedReport.objects.update(next_try_at=timezone.now())
        callbacks.try_parked()
    row = ParkedReport.objects.get()
    assert (row.status, row.why, row.next_try_at) == (Parked.KEPT, "unknown", None)
    row.try_again()
    row.dismiss()
    assert callbacks.try_parked() == 0


def test_only_the_relay_that_a_mail_left_by_is_believed_about_it(sent: Message) -> None:
    """A relay that has tried it is one of them, though another took it in the end."""
    url = open_url("postmark")
    Message.objects.update(relay=make_relay("Another"))
    tell(url, services.postmark(sent.pk, TARO))
    callbacks.work_off()
    assert told(sent) == UNTOUCHED
    assert ParkedReport.objects.get().why == "relay"
    now = timezone.now()
    Attempt.objects.create(message=sent, number=1, relay=url.relay, outcome="unknown", started_at=now, finished_at=now)
    ParkedReport.objects.update(next_try_at=now)
    assert callbacks.try_parked() == 1
    assert told(sent) == BOUNCED


def test_in_whatever_order_reports_come_the_worst_stands(sent: Message) -> None:
    url = open_url("postmark")
    complaint = {**services.postmark(sent.pk, TARO), "RecordType": "SpamComplaint", "Type": "SpamComplaint", "ID": 43}
    delivered = {"RecordType": "Delivery", "Recipient": TARO, "Details": "250 OK", "DeliveredAt": "2026-11-25T01:00:00Z",
                 "MessageID": "x", "Metadata": {"mailhub": str(sent.pk)}}  # fmt: skip
    for event, status in (
        (complaint, Status.COMPLAINED),
        (services.postmark(sent.pk, TARO), Status.COMPLAINED),
        (delivered, Status.COMPLAINED),
    ):
        tell(url, event)
        callbacks.work_off()
        assert told(sent)[0] == status
    assert [type for type, _kind, _category in told(sent)[1]] == ["complained", "bounced", "delivered"]


def test_our_message_id_is_enough_where_the_service_relays_by_smtp(sent: Message) -> None:
    url = open_url("mailgun")
    event = services.mailgun_event(0, TARO)
    event["user-variables"] = {}
    event["message"]["headers"]["message-id"] = sent.message_id
    tell(url, event)
    callbacks.work_off()
    assert told(sent) == BOUNCED


def test_our_signed_header_outweighs_a_number(sent: Message) -> None:
    """Numbers begin anew with a new database, and a copy of an installation has the same."""
    url = open_url("resend")
    event = services.resend_event(sent.pk, TARO)
    event["data"]["headers"].append({"name": "X-MailHub-ID", "value": return_path.token(UUID(int=7))})
    tell(url, event)
    callbacks.work_off()
    assert told(sent) == UNTOUCHED
    assert ParkedReport.objects.get().why == "unknown"


def test_mail_that_is_none_of_ours_is_passed_over(sent: Message) -> None:
    """A service's account may send for others, too."""
    url = open_url("sendgrid")
    tell(
        url, [{**services.sendgrid_event(1, TARO)[0], "mailhub": None}, {**services.sendgrid_event(sent.pk, TARO)[0], "event": "processed"}]
    )
    callbacks.work_off()
    row = Callback.objects.get()
    assert (row.status, row.position, row.passed, ParkedReport.objects.count()) == ("done", 2, 2, 0)


def test_a_soft_bounce_suppresses_nobody_and_the_reply_outweighs_the_services_word(sent: Message) -> None:
    url = open_url("brevo")
    tell(url, {**services.brevo(sent.pk, TARO), "event": "hard_bounce", "reason": "552 5.2.2 Mailbox full"})
    callbacks.work_off()
    assert told(sent) == (Status.BOUNCED, [("bounced", "soft", "mailbox_full")], False)


def ses_of(event: dict[str, Any], kind: str, **fields: Any) -> dict[str, Any]:
    return {"eventType": kind, "mail": event["mail"], kind[0].lower() + kind[1:]: fields}


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


# What services tell besides hard bounces, and where they mean another thing by it than anymail does: service, what differs from its hard
# bounce (services.py), and what is recorded.
OTHERWISE: dict[str, tuple[str, Any, Any]] = {
    "what a filter refuses is no reader's complaint": (
        "postmark",
        lambda event: {**event, "Type": "SpamNotification", "Details": ""},
        (Status.BOUNCED, [("bounced", "soft", "spam")], False),
    ),
    "a suppression that follows from a bounce is dead as that": (
        "postmark",
        lambda event: {"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "HardBounce", "Origin": "Recipient",
                       "Recipient": event["Email"], "Metadata": event["Metadata"], "ChangedAt": "2026-11-25T01:00:00Z"},
        BOUNCED,
    ),
    "a mail that was taken out of the junk is no complaint": (
        "amazon_ses",
        lambda event: ses_of(event, "Complaint", complaintFeedbackType="not-spam", complainedRecipients=[{"emailAddress": TARO}]),
        UNTOUCHED,
    ),
    "a complaint is": (
        "amazon_ses",
        lambda event: ses_of(event, "Complaint", complaintFeedbackType="abuse", complainedRecipients=[{"emailAddress": TARO}]),
        (Status.COMPLAINED, [("complained", "", "complaint")], True),
    ),
    "Amazon goes on trying": (
        "amazon_ses",
        lambda event: ses_of(event, "DeliveryDelay", delayType="MailboxFull", delayedRecipients=[
            {"emailAddress": TARO, "status": "4.2.2", "diagnosticCode": "smtp; 452 4.2.2 Mailbox full"}]),
        (Status.SENT, [("deferred", "", "mailbox_full")], False),
    ),
    "a mail that was not sent failed": (
        "resend",
        lambda event: {**event, "type": "email.failed", "data": {**without(event["data"], "bounce"), "failed": {"reason": "552 5.2.2 Mailbox full"}}},
        (Status.FAILED, [("failed", "", "mailbox_full")], False),
    ),
    "the server's words outweigh those that are made of them": (
        "mailersend",
        lambda event: {**event, "data": {**event["data"], "morph": {
            "object": "recipient_bounce", "reason": "552 5.2.2 Mailbox full", "readable_reason": "The address does not exist."}}},
        (Status.BOUNCED, [("bounced", "soft", "mailbox_full")], False),
    ),
    "the server's words stand apart": (
        "mailjet",
        lambda event: [{**event[0], "error": "", "comment": "552 5.2.2 Mailbox full"}],
        (Status.BOUNCED, [("bounced", "soft", "mailbox_full")], False),
    ),
    "a machine fetches a mail before anybody opens it": (
        "sparkpost",
        lambda event: [{"msys": {"track_event": {**event[0]["msys"]["message_event"], "type": "open", "bounce_class": None,
                                                 "user_agent_parsed": {"is_proxy": True, "is_prefetched": True}}}}],
        (Status.SENT, [("opened", "machine", "")], False),
    ),
    "behind a proxy there is a person": (
        "sparkpost",
        lambda event: [{"msys": {"track_event": {**event[0]["msys"]["message_event"], "type": "open", "bounce_class": None,
                                                 "user_agent_parsed": {"is_proxy": True, "is_prefetched": False}}}}],
        (Status.SENT, [("opened", "", "")], False),
    ),
    "one that cannot be read costs no other": (
        "unisender_go",
        lambda event: {**event, "events_by_user": [{"events": [
            {"event_name": "transactional_email_status", "event_data": {}}, *event["events_by_user"][0]["events"]]}]},
        BOUNCED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERWISE)
def test_services_mean_what_they_say(what: str, sent: Message) -> None:
    service, differs, found = OTHERWISE[what]
    url = open_url(service)
    assert tell(url, differs(SERVICES[service].event(sent.pk, TARO))) == 200
    callbacks.work_off()
    assert told(sent) == found


@pytest.mark.parametrize("place", ["message", "original_message"])
def test_postal_knows_a_mail_that_it_was_handed_by_smtp_by_its_message_id(place: str, sent: Message) -> None:
    url = open_url("postal")
    event = services.postal_event(0, TARO)
    message = {**event["payload"].pop("message"), "message_id": sent.message_id.strip("<>"), "tag": None}
    event["payload"][place] = message
    if place == "original_message":
        event["payload"] = {place: message, "bounce": {"id": 5, "direction": "incoming", "subject": "Undelivered Mail"}}
    tell(url, event)
    callbacks.work_off()
    assert told(sent)[0] == Status.BOUNCED


def test_what_a_machine_opened_is_told_from_what_a_person_did(sent: Message) -> None:
    url = open_url("sendgrid")
    event = services.sendgrid_event(sent.pk, TARO)[0]
    opened = {**event, "event": "open", "useragent": "Mail", "sg_event_id": "a", "sg_machine_open": True}
    clicked = {**event, "event": "click", "url": "https://tea.example/", "sg_event_id": "b"}
    tell(url, [opened, clicked])
    callbacks.work_off()
    found = list(sent.events.order_by("pk").values_list("type", "kind", "detail"))
    assert found == [("opened", "machine", "Mail"), ("clicked", "", "https://tea.example/")]


# ----------------------------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"a": 1e999}', b"[1, null, {}]", b'"x"', b"0"])
@ALL
def test_whatever_the_body_is_it_is_answered_and_harms_nothing(service: str, body: bytes, sent: Message) -> None:
    url = open_url(service)
    try:
        posted = SERVICES[service].sign(body, callbacks.address(url))
    except (ValueError, TypeError, RecursionError):
        posted = Post(body)
    assert send(url, posted) in (200, 400, 401)
    callbacks.work_off()
    assert told(sent) == UNTOUCHED
    assert not Callback.objects.exclude(status="done").exists()


def test_one_event_that_cannot_be_read_costs_no_other(sent: Message) -> None:
    url = open_url("sendgrid")
    tell(url, [{"event": ["?"]}, {"no": "event"}, *services.sendgrid_event(sent.pk, TARO), {"event": "open", "timestamp": 1e40}])
    callbacks.work_off()
    assert told(sent) == BOUNCED
    assert Callback.objects.get().unread == 3


def test_ten_thousand_events_in_one_body_are_recorded_in_parts(sent: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    url = open_url("sendgrid")
    monkeypatch.setattr(callbacks, "GROUP", 40)
    messages = [sent, *post(sent.sender, 99)]
    Message.objects.update(relay=url.relay)
    tell(url, [services.sendgrid_event(message.pk, message.address)[0] for message in messages])
    assert callbacks.work_off(0) == 0, "there is a time for everything"
    callbacks._work_group({})
    row = Callback.objects.get()
    assert (row.status, row.position, row.recorded) == ("new", 40, 40)
    callbacks.work_off()
    row.refresh_from_db()
    assert (row.status, row.position, row.recorded) == ("done", 100, 100)
    assert Event.objects.count() == 100


def test_a_body_that_is_too_large_is_refused_unread(sent: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    url = open_url("postmark")
    monkeypatch.setattr(callbacks, "MOST_BYTES", 1000)
    assert send(url, services.by_password(b" " * 1001, "")) == 413
    assert send(url, services.by_password(b"[]" + b" " * 998, "")) == 200
    url.refresh_from_db()
    assert (url.refused, url.refused_why) == (1, "too_large")


def test_ten_thousand_events_in_one_body_are_recorded(sent: Message) -> None:
    url = open_url("sendgrid")
    events = [services.sendgrid_event(sent.pk, sent.address)[0] for _n in range(10_000)]
    body = [{**event, "event": "open", "sg_event_id": f"event-{n}"} for n, event in enumerate(events)]
    assert tell(url, body) == 200
    callbacks.work_off(600)
    row = Callback.objects.get()
    assert (row.status, row.recorded, row.parked, row.passed, row.unread) == ("done", 10_000, 0, 0, 0)
    assert sent.events.filter(type="opened").count() == 10_000


@pytest.mark.parametrize("chunked", [False, True])
def test_of_fifty_megabytes_no_more_is_read_than_shows_that_it_is_too_much(sent: Message, chunked: bool) -> None:
    class Body:
        """50 MB that come over the wire."""

        left, asked = 50_000_000, 0

        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= callbacks.MOST_BYTES + 1
            Body.asked += size
            part = min(size, Body.left)
            Body.left -= part
            return b" " * part

        readline = read

    url = open_url("postmark")
    said = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True} if chunked else {"CONTENT_LENGTH": "50000000"}
    environ = RequestFactory().post(f"/callbacks/{url.token}").environ | {"wsgi.input": Body(), **said}
    if chunked:
        environ["CONTENT_LENGTH"] = ""
    answer = Client().handler(environ)
    assert answer.status_code == 413
    assert Body.asked == (callbacks.MOST_BYTES + 1 if chunked else 0)
    assert not Callback.objects.exists()


def test_the_row_of_an_address_is_read_once_in_a_moment_and_a_new_secret_counts_in_the_next(
    sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "KEPT_FOR", 1.0)
    now = [1000.2]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    url = open_url("postmark")
    posted = services.by_password(b"{}", "")
    assert send(url, posted) == 200
    CallbackURL.objects.update(secrets={"password": "another"})
    assert send(url, posted) == 200
    now[0] = 1001.2
    assert send(url, posted) == 401
    callbacks._by_token.cache_clear()


def test_a_callback_starts_no_session_and_asks_for_no_language(sent: Message) -> None:
    url = open_url("postmark")
    posted = services.by_password(b"{}", "")
    answer = Client().post(f"/callbacks/{url.token}", posted.body, content_type=posted.content_type, **posted.meta)
    assert (answer.status_code, answer.cookies, answer.get("Vary"), answer.get("Content-Language")) == (200, {}, None, None)
    assert "Content-Security-Policy" in answer
    assert Client().get(f"/callbacks/{url.token}", headers={"host": "evil.example"}).status_code == 400


def test_one_callback_on_which_we_stumble_holds_no_other_up(sent: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    url = open_url("postmark")
    bad = sent.pk + 5000
    real = callbacks.match

    def match(relay: int, claims: Any) -> Any:
        if any(claim.number == bad for claim in claims):
            raise ValueError("a fault of ours")
        return real(relay, claims)

    monkeypatch.setattr(callbacks, "match", match)
    tell(url, services.postmark(bad, TARO))
    tell(url, services.postmark(sent.pk, TARO))
    callbacks.work_off()
    assert told(sent) == BOUNCED
    for _again in range(callbacks.TRIES):
        callbacks.work_off()
    assert list(Callback.objects.order_by("pk").values_list("status", flat=True)) == ["stuck", "done"]


def test_nobody_finds_the_address_by_chance_and_looking_at_it_changes_nothing(sent: Message) -> None:
    url = open_url("postmark")
    client = Client()
    assert client.post("/callbacks/guessed", b"{}", content_type="application/json").status_code == 404
    assert (client.get(f"/callbacks/{url.token}").status_code, client.head(f"/callbacks/{url.token}").status_code) == (200, 200)
    assert client.put(f"/callbacks/{url.token}").status_code == 405
    assert len(url.token) == 32
    assert "mailhub:opens-the-door@" in callbacks.with_password(url)


def test_a_thousand_callbacks_make_one_task(sent: Message, no_tasks: list[str]) -> None:
    url = open_url("postmark")
    for number in range(3):
        tell(url, services.postmark(sent.pk + number, TARO))
    assert no_tasks == ["mailhub.feedback.tasks.read_callbacks"]
    tasks.read_callbacks()
    tell(url, services.postmark(sent.pk + 9, TARO))
    assert len(no_tasks) == 2


# ---------------------------------------------------------------------------------------------------------- schemes in particular


def why(url: CallbackURL) -> str:
    url.refresh_from_db()
    return url.refused_why


def test_a_token_of_mailgun_is_good_for_one_body_and_for_half_a_day(sent: Message) -> None:
    url = open_url("mailgun")
    event = services.mailgun_event(sent.pk, TARO)
    first = services.mailgun(json.dumps(event).encode(), "", token="abc")
    forged = services.mailgun(json.dumps({**event, "event": "complained"}).encode(), "", token="abc")
    assert [send(url, first), send(url, first), send(url, forged)] == [200, 200, 400]
    assert why(url) == "replayed"
    old = services.mailgun(json.dumps(event).encode(), "", token="d", at=time.time() - 13 * 3600)
    assert (send(url, old), why(url)) == (400, "old")
    assert send(url, services.mailgun(json.dumps(event).encode(), "", token="e", at=time.time() - 8 * 3600)) == 200
    callbacks.work_off()
    assert told(sent) == BOUNCED, "the same event by another token is the same event"


# Answers that are known from elsewhere: what the service's own documentation (Svix), or its own library (SendGrid), signs so.
KNOWN = {
    "svix": (
        signatures.svix,
        {"signing_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        b'{"test": 2432232314}',
        {
            "HTTP_SVIX_ID": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "HTTP_SVIX_TIMESTAMP": "1614265330",
            "HTTP_SVIX_SIGNATURE": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        1614265330,
    ),
    "sendgrid": (
        signatures.sendgrid,
        {
            "public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNE"
            "c6wEA3F+g=="
        },
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2Z'
        b'TbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","smtp-id":"<LRzXl_NHStOGhQ4'
        b'kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n',
        {
            "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_TIMESTAMP": "1600112502",
            "HTTP_X_TWILIO_EMAIL_EVENT_WEBHOOK_SIGNATURE": "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15"
            "TluLtEZtM=",
        },
        1600112502,
    ),
}


@pytest.mark.parametrize("service", KNOWN)
def test_signatures_of_the_services_themselves_are_good_while_they_are_young(service: str) -> None:
    verify, secrets, body, meta, at = KNOWN[service]
    posted = signatures.Posted(body, services.JSON, meta)
    # A clock that goes wrong by some minutes turns nobody away.
    for skew in (0, 120, -120):
        verify(posted, secrets, at + skew)
    for other, now in ((signatures.Posted(body + b" ", services.JSON, meta), at), (posted, at + 7 * 86_400), (posted, at - 3600)):
        with pytest.raises(signatures.Unproven):
            verify(other, secrets, now)


def test_what_resend_and_sendgrid_signed_long_ago_is_refused(sent: Message) -> None:
    url = open_url("resend")
    body = json.dumps(services.resend_event(sent.pk, TARO)).encode()
    assert (send(url, services.resend(body, "", at=time.time() - 600)), why(url)) == (400, "old")
    url.delete()
    url = open_url("sendgrid")
    body = json.dumps(services.sendgrid_event(sent.pk, TARO)).encode()
    assert (send(url, services.sendgrid(body, "", at=time.time() - 30 * 3600)), why(url)) == (400, "old")
    assert send(url, services.sendgrid(body, "", at=time.time() - 20 * 3600)) == 200


def test_newer_postal_servers_sign_better(sent: Message) -> None:
    url = open_url("postal")
    body = json.dumps(services.postal_event(sent.pk, TARO)).encode()
    signature = services.RSA.sign(body, services.padding.PKCS1v15(), services.hashes.SHA256())
    both = {**services.postal(body, "").meta, "HTTP_X_POSTAL_SIGNATURE_256": services.base64.b64encode(signature).decode()}
    assert send(url, Post(body, meta=both)) == 200
    assert send(url, Post(body + b" ", meta=both)) == 400


def test_a_bearer_token_is_as_good_as_basic_auth(sent: Message) -> None:
    url = open_url("brevo")
    assert send(url, Post(b"{}", meta={"HTTP_AUTHORIZATION": f"Bearer {services.PASSWORD}"})) == 200
    for wrong in ("Bearer", "Bearer x", "Basic !", "Basic eDp5", services.PASSWORD):
        assert (send(url, Post(b"{}", meta={"HTTP_AUTHORIZATION": wrong})), why(url)) == (401, "password")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"TopicArn": "arn:aws:sns:ap-northeast-1:999999999999:mailhub"}, "topic"),
        ({"SigningCertURL": "https://sns.ap-northeast-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem"}, "certificate"),
        ({"SigningCertURL": "http://sns.ap-northeast-1.amazonaws.com/SimpleNotificationService-1.pem"}, "certificate"),
        ({"SigningCertURL": "https://sns.ap-northeast-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem"}, "certificate"),
        ({"SigningCertURL": "https://s3.amazonaws.com/SimpleNotificationService-1.pem"}, "certificate"),
        ({"SigningCertURL": "https://sns.us-east-1.amazonaws.com/else.pem"}, "certificate"),
        ({"SignatureVersion": "3"}, "unsigned"),
        ({"Type": "Something"}, "unsigned"),
    ],
)
def test_amazon_is_believed_about_its_own_topic_by_its_own_certificate(
    fields: dict[str, str], reason: str, sent: Message, amazon: list[str]
) -> None:
    url = open_url("amazon_ses")
    posted = services.sns(json.dumps(services.ses(sent.pk, TARO)).encode(), "")
    changed = {**json.loads(posted.body), **fields}
    assert (send(url, Post(json.dumps(changed).encode(), "text/plain")), why(url), amazon) == (400, reason, [])


def test_both_of_amazons_signatures_are_good_and_its_certificate_is_fetched_once(sent: Message, amazon: list[str]) -> None:
    url = open_url("amazon_ses")
    body = json.dumps(services.ses(sent.pk, TARO)).encode()
    assert [send(url, services.sns(body, "", version=version, MessageId=version)) for version in ("1", "2")] == [200, 200]
    assert amazon == [services.CERTIFICATE_URL]


def test_a_certificate_that_cannot_be_fetched_makes_amazon_try_again(sent: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(url: str, **options: Any) -> http.Page:
        raise http.HTTPError("no answer")

    monkeypatch.setattr(http, "get", get)
    url = open_url("amazon_ses")
    assert tell(url, services.ses(sent.pk, TARO)) == 503
    assert why(url) == ""


def test_a_certificate_that_has_run_out_is_none(sent: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(url: str, **options: Any) -> http.Page:
        return http.Page(200, "", services.certificate(days=-1))

    monkeypatch.setattr(http, "get", get)
    url = open_url("amazon_ses")
    assert (tell(url, services.ses(sent.pk, TARO)), why(url)) == (400, "certificate")


def test_a_subscription_to_our_topic_is_confirmed_at_amazons_own_host(sent: Message, amazon: list[str]) -> None:
    url = open_url("amazon_ses")
    token = "2336412f37fb687f5d51e6e241d09c80" * 4
    fields = {"Type": "SubscriptionConfirmation", "Token": token, "SubscribeURL": "https://evil.example/"}
    assert send(url, services.sns(b"You have chosen to subscribe", "", **fields)) == 200
    callbacks.work_off()
    confirmed = (
        f"https://sns.ap-northeast-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={services.TOPIC.replace(':', '%3A')}&Token={token}"
    )
    assert amazon == [services.CERTIFICATE_URL, confirmed]
    assert Callback.objects.get().status == "done"
    callbacks.work_off()
    assert len(amazon) == 2


# ------------------------------------------------------------------------------------------------------------------------- later


def test_a_services_word_about_a_test_mail_answers_the_test(sent: Message) -> None:
    url = open_url("postmark")
    probe = Probe.objects.create(
        relay=url.relay, sender=sent.sender, to="nobody@example.jp", return_path="x@y.example", sent_at=timezone.now()
    )
    tell(url, services.postmark(0, "nobody@example.jp"))
    callbacks.work_off()
    probe.refresh_from_db()
    assert probe.called_back_at
    assert not ParkedReport.objects.exists()


def test_bodies_are_forgotten_before_the_rest(sent: Message, settings: Any) -> None:
    url = open_url("postmark")
    tell(url, services.postmark(sent.pk, TARO))
    tell(url, services.postmark(sent.pk, "hanako@example.jp"))
    callbacks.work_off()
    long_ago = timezone.now() - timedelta(days=settings.MAILHUB_KEEP_BODIES_DAYS + 1)
    Callback.objects.update(received_at=long_ago)
    ParkedReport.objects.update(received_at=long_ago)
    assert callbacks.forget() == 0
    assert (Callback.objects.filter(body=None).count(), ParkedReport.objects.count()) == (2, 0)
    Callback.objects.update(received_at=timezone.now() - timedelta(days=settings.MAILHUB_KEEP_MESSAGES_DAYS + 1))
    assert callbacks.forget() == 2


def test_every_word_of_a_service_is_one_of_a_service_that_calls_back() -> None:
    words = [label for label in tables.labels() if "/" in label and not label.startswith(("permanent/", "transient/", "undetermined/"))]
    assert {word.partition("/")[0] for word in words} <= set(callers.CALLERS)
    assert {word for word in words if word != word.lower()} == set(), "they are looked up in lower case"


@pytest.mark.parametrize(
    ("service", "event", "reason"),
    [
        ("sendgrid", {"event": "dropped", "reason": "Bounced Address"}, "Bounced Address"),
        ("sendgrid", {"event": "bounce", "type": "blocked"}, "blocked"),
        ("mailgun", {"event-data": {"severity": "permanent", "reason": "suppress-bounce"}}, "suppress-bounce"),
        ("mailgun", {"event-data": {"severity": "temporary", "reason": "generic"}}, "temporary"),
        ("sparkpost", {"msys": {"message_event": {"bounce_class": "22"}}}, "22"),
        ("resend", {"data": {"bounce": {"type": "Transient", "subType": "MailboxFull"}}}, "Transient MailboxFull"),
        ("unisender_go", {"delivery_info": {"delivery_status": "err_mailbox_full"}}, "err_mailbox_full"),
        ("amazon_ses", {"bounce": {"bounceType": "Transient", "bounceSubType": "MailboxFull"}}, "Transient/MailboxFull"),
        ("mailjet", {"error": "quota exceeded"}, "quota exceeded"),
        ("mailtrap", {"event": "soft bounce"}, "soft bounce"),
        ("mandrill", {"event": "soft_bounce", "msg": {"bounce_description": "mailbox_full"}}, "mailbox_full"),
        ("postmark", {"Type": "DnsError"}, "DnsError"),
        ("mailersend", {"data": {"type": "soft_bounced"}}, "soft_bounced"),
        ("brevo", {"event": "soft_bounce"}, "soft_bounce"),
    ],
)
def test_what_a_service_calls_a_reason_is_known_and_proves_nothing_unless_it_says_so(service: str, event: Any, reason: str) -> None:
    assert callers.CALLERS[service].reason(event) == reason
    label = reason if service == "amazon_ses" else f"{service}/{reason}"
    assert label.lower() in tables.labels()
    assert classify.labelled_or_said(label, "").kind == "soft"


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_what_one_process_has_at_hand_another_leaves_alone(sent: Message) -> None:
    url = open_url("postmark")
    tell(url, services.postmark(sent.pk, TARO))
    holds, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            callbacks._hold()
            holds.set()
            let_go.wait(30)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert holds.wait(30)
        assert callbacks.work_off() == 0
    finally:
        let_go.set()
        other.join()
    assert callbacks.work_off() == 1
    assert told(sent) == BOUNCED


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_the_same_callback_ten_times_at_once_is_stored_and_recorded_once(sent: Message) -> None:
    url = open_url("postmark")
    posted = SERVICES["postmark"].post(sent.pk, TARO, callbacks.address(url))

    def come() -> int:
        answer = send(url, posted)
        callbacks.work_off()
        return answer

    answers = at_once(10, come)
    # Whoever found it in others' hands has left it to them.
    callbacks.work_off()
    assert answers == [200] * 10
    assert Callback.objects.count() == 1
    assert told(sent) == BOUNCED
