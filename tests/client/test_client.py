"""A sibling site sends through the HTTP API of a MailHub, and is told by webhook what became of its mails."""

from __future__ import annotations

import base64
import email
import time
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import requests
from django.utils import timezone

from mailhub.delivery import engine, events
from mailhub.delivery.models import Event, Message
from mailhub.lib import clock, signing
from mailhub.relays.base import Reply
from mailhub.relays.models import Relay, Stream
from mailhub.relays.providers import memory
from mailhub.webhooks import posting
from mailhub.webhooks.models import Delivery, Endpoint
from tests.client.conftest import Sibling
from tests.installation import free_ports
from transactional.models import Project, Submission

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


def octets(data: bytes) -> str:
    return base64.b64encode(data).decode()


def left(relay: Relay) -> list[EmailMessage]:
    """The mails as they leave, in the order of their recipients."""
    engine.drain(relay, "transactional")
    envelopes = sorted(memory.taken[relay.pk], key=lambda envelope: envelope.rcpt_to)
    return [email.message_from_bytes(envelope.data, policy=default) for envelope in envelopes]


def test_a_templated_mail_with_attachments_goes_to_two_and_what_became_of_it_comes_back(sibling: Sibling, relay: Relay, order: str) -> None:
    answer = sibling.send(
        to=["山田太郎 <taro@example.net>", "gone@example.net"],
        subject="",
        body="",
        template_id=order,
        merge_data={"taro@example.net": {"name": "太郎"}, "gone@example.net": {"name": "花子"}},
        merge_global_data={"number": 17},
        merge_metadata={"taro@example.net": {"customer": 5}},
        metadata={"order": "17"},
        tags=["order"],
        files=[["領収書.pdf", octets(b"%PDF-1.4 receipt"), "application/pdf"], ["a.txt", octets(b"terms"), "text/plain"]],
    )
    assert (answer["sent"], answer["error"]) == ([1], "")
    messages = {message.address: message for message in Message.objects.all()}
    assert answer["recipients"] == {address: [str(message.public_id), "queued"] for address, message in messages.items()}
    assert set(messages) == {"taro@example.net", "gone@example.net"}

    memory.script[relay.pk].extend([Reply(250, "2.0.0", "OK")] * 2)
    hanako, taro = left(relay)
    assert (taro["Subject"], hanako["Subject"]) == ("Order 17", "Order 17")
    assert "太郎" in taro.get_body(("html",)).get_content()
    assert "花子" in hanako.get_body(("html",)).get_content()
    assert taro["To"].addresses[0].display_name == "山田太郎"
    files = [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in taro.iter_attachments()]
    assert files == [("領収書.pdf", "application/pdf", b"%PDF-1.4 receipt"), ("a.txt", "text/plain", b"terms")]

    now = clock.now()
    events.record(messages["taro@example.net"], "delivered", at=now, detail="250 2.0.0 OK")
    events.record(messages["gone@example.net"], "bounced", at=now, detail="550 5.1.1 User unknown")
    posting.post_due()
    told = {(event["recipient"], event["event_type"]): event for event in sibling.do("told")}
    assert set(told) == {(address, "sent") for address in messages} | {("taro@example.net", "delivered"), ("gone@example.net", "bounced")}
    delivered, bounced = told["taro@example.net", "delivered"], told["gone@example.net", "bounced"]
    assert delivered["message_id"] == answer["recipients"]["taro@example.net"][0]
    assert bounced["message_id"] == answer["recipients"]["gone@example.net"][0]
    assert (delivered["tags"], delivered["metadata"]) == (["order"], {"order": "17", "customer": "5"})
    assert (bounced["reject_reason"], bounced["mta_response"], bounced["metadata"]) == (
        "bounced",
        "550 5.1.1 User unknown",
        {"order": "17"},
    )
    assert (delivered["esp"], delivered["reject_reason"]) == ("MailHub", None)
    assert Delivery.objects.get().response_status == 200


def test_everything_that_django_and_anymail_know_of_a_mail_arrives(sibling: Sibling, relay: Relay) -> None:
    answer = sibling.send(
        subject="お茶",
        body="準備ができました。",
        from_email="お店 <shop@example.com>",
        to=["Taro <taro@example.net>"],
        cc=["cc@example.net"],
        bcc=["secret@example.net"],
        reply_to=["help@example.com", "Other <other@example.com>"],
        headers={"X-Order": "17"},
        picture=octets(b"\x89PNG picture"),
        envelope_sender="bounces@example.com",
        track_opens=False,
        track_clicks=False,
        tags=["a", "b"],
        metadata={"number": 17, "list": [1]},
        esp_extra={"language": "ja"},
    )
    assert (answer["sent"], answer["error"]) == ([1], "")
    assert set(answer["recipients"]) == {"taro@example.net", "cc@example.net", "secret@example.net"}
    assert {status for _id, status in answer["recipients"].values()} == {"queued"}
    assert len({id for id, _status in answer["recipients"].values()}) == 3
    submission = Submission.objects.get()
    assert (submission.labels, submission.metadata) == (["a", "b"], {"number": "17", "list": "[1]"})
    mails = left(relay)
    assert len(mails) == 3
    mail = mails[0]
    assert (mail["Subject"], str(mail["From"]), str(mail["To"]), str(mail["Cc"])) == (
        "お茶", "お店 <shop@example.com>", "Taro <taro@example.net>", "cc@example.net",
    )  # fmt: skip
    assert "secret" not in mail.as_string()
    assert (str(mail["Reply-To"]), mail["X-Order"]) == ("help@example.com, Other <other@example.com>", "17")
    assert mail.get_body(("plain",)).get_content().strip() == "準備ができました。"
    (picture,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert picture.get_payload(decode=True) == b"\x89PNG picture"
    assert picture["Content-ID"].strip("<>") in mail.get_body(("html",)).get_content()


def test_a_mail_may_be_for_copies_alone(sibling: Sibling, relay: Relay) -> None:
    answer = sibling.send(to=[], bcc=["secret@example.net", "other@example.net"])
    assert answer["sent"] == [1]
    assert set(answer["recipients"]) == {"secret@example.net", "other@example.net"}
    # Nobody sees another.
    assert [mail["To"] for mail in left(relay)] == ["other@example.net", "secret@example.net"]
    assert sibling.send(to=[], cc=["a@example.net", "b@example.net"])["sent"] == [1]
    assert {(mail["To"], mail["Cc"]) for mail in left(relay)[:2]} == {("a@example.net", "b@example.net")}


def test_a_mail_for_nobody_is_none(sibling: Sibling) -> None:
    assert sibling.send(to=[])["sent"] == [0]


def test_each_of_a_batch_has_its_own_words_headers_and_status(sibling: Sibling, relay: Relay) -> None:
    answer = sibling.send(
        to=["a@example.net", "b@example.net", "nobody@@example.net".replace("@@", "@-")],
        merge_headers={"a@example.net": {"X-Seat": "1"}, "b@example.net": {"X-Seat": "2"}},
        merge_metadata={"b@example.net": {"seat": 2}},
    )
    assert answer["sent"] == [1]
    assert {address: status for address, (_id, status) in answer["recipients"].items()} == {
        "a@example.net": "queued",
        "b@example.net": "queued",
        "nobody@-example.net": "invalid",
    }
    assert [(mail["To"], mail["X-Seat"]) for mail in left(relay)] == [("a@example.net", "1"), ("b@example.net", "2")]
    assert sorted(len(submission.metadata) for submission in Submission.objects.all()) == [0, 1]


def test_what_a_site_says_of_all_its_mail_holds_for_each(sibling: Sibling) -> None:
    defaults = {"SEND_DEFAULTS": {"tags": ["site"], "metadata": {"site": "tea", "order": 0}, "track_clicks": True}}
    assert sibling.send(settings={"ANYMAIL": defaults}, tags=["order"], metadata={"order": 17})["sent"] == [1]
    submission = Submission.objects.get()
    assert (submission.labels, submission.metadata) == (["site", "order"], {"site": "tea", "order": "17"})


def test_a_feature_that_mailhub_has_not_is_passed_over_where_the_site_says_so(sibling: Sibling) -> None:
    asked = {"alternatives": [["BEGIN:VCALENDAR", "text/calendar"]]}
    assert "text/calendar" in sibling.send(**asked)["error"]
    assert sibling.send(settings={"ANYMAIL": {"IGNORE_UNSUPPORTED_FEATURES": True}}, **asked)["sent"] == [1]


def test_a_time_to_send_at_is_kept(sibling: Sibling, relay: Relay) -> None:
    at = timezone.now() + timedelta(hours=5)
    assert sibling.send(send_at=int(at.timestamp()))["sent"] == [1]
    assert abs(Message.objects.get().next_attempt_at - at) < timedelta(seconds=2)
    assert left(relay) == []


# ----------------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"from_email": "stranger@example.com"}, "stranger@example.com"),
        ({"template_id": "no-such", "body": "", "subject": ""}, "no-such"),
        ({"esp_extra": {"colour": "red"}}, "colour"),
        ({"merge_data": {"taro@example.net": {"name": "太郎"}}}, "template_id"),
        ({"alternatives": [["BEGIN:VCALENDAR", "text/calendar"]]}, "text/calendar"),
        ({"settings": {"MAILHUB_API_KEY": "mh_wrong"}}, "401"),
        ({"settings": {"MAILHUB_URL": "mailhub.example.com"}}, "https://"),
    ],
    ids=["sender", "template", "field", "merge", "alternative", "key", "url"],
)
def test_what_cannot_be_sent_raises_and_says_why(sibling: Sibling, changes: dict[str, Any], words: str) -> None:
    answer = sibling.send(**changes)
    assert words in answer["error"]
    assert answer["error"].startswith("Anymail")
    assert answer["sent"] == []
    assert not Message.objects.exists()


def test_when_nobody_of_a_batch_is_accepted_it_raises_as_smtp_does(sibling: Sibling) -> None:
    answer = sibling.send(merge_metadata={}, from_email="stranger@example.com")
    assert answer["error"].startswith("AnymailRecipientsRefused")
    assert answer["recipients"] == {"taro@example.net": [None, "rejected"]}


def test_a_site_whose_project_is_for_campaigns_is_told_so(sibling: Sibling) -> None:
    Project.objects.update(stream=Stream.CAMPAIGN)
    answer = sibling.send()
    assert answer["error"].startswith("Anymail") and "is for campaigns" in answer["error"] and "POST /api/v1/campaigns" in answer["error"]
    assert not Message.objects.exists()


def test_fail_silently_raises_nothing_and_counts_nothing(sibling: Sibling) -> None:
    answer = sibling.send(from_email="stranger@example.com", fail_silently=True)
    assert (answer["sent"], answer["error"]) == ([0], "")


def test_the_same_message_sent_twice_is_two_mails(sibling: Sibling) -> None:
    assert sibling.send(times=2)["sent"] == [1, 1]
    assert Message.objects.count() == 2


def test_a_key_of_the_sites_own_makes_one_mail_of_two_requests(sibling: Sibling) -> None:
    first, second = (sibling.send(esp_extra={"idempotency_key": "order-17"}) for _ in range(2))
    assert first["recipients"] == second["recipients"]
    assert Message.objects.count() == 1
    assert "409" in sibling.send(subject="Other", esp_extra={"idempotency_key": "order-17"})["error"]


class Between:
    """Stands between the site and MailHub, and loses answers or gives its own; then passes on what comes."""

    def __init__(self, mailhub: str) -> None:
        self.mailhub = mailhub
        #: what becomes of the next requests: "lose" the answer after MailHub has taken it, or a status that MailHub never hears of
        self.script: list[str | int] = []
        self.keys: list[str] = []
        between = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                between.keys.append(self.headers["Idempotency-Key"])
                deed = between.script.pop(0) if between.script else ""
                if isinstance(deed, int):
                    self.send_error(deed)
                    return
                headers = {name: self.headers[name] for name in ("Authorization", "Content-Type", "Idempotency-Key")}
                answer = requests.post(between.mailhub + self.path, data=body, headers=headers, timeout=60)
                if deed == "lose":
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def between(sibling: Sibling) -> Iterator[Between]:
    made = Between(sibling.settings["MAILHUB_URL"])
    sibling.settings["MAILHUB_URL"] = made.url
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("deed", ["lose", 503, 429, 502])
@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_a_lost_answer_doubles_no_mail_and_a_busy_server_loses_none(
    sibling: Sibling, between: Between, deed: str | int, batch: bool
) -> None:
    between.script = [deed]
    answer = sibling.send(to=["a@example.net", "b@example.net"], **({"merge_metadata": {}} if batch else {}))
    assert (answer["sent"], answer["error"]) == ([1], "")
    assert len(between.keys) == 2
    assert len(set(between.keys)) == 1
    assert sorted(Message.objects.values_list("address", flat=True)) == ["a@example.net", "b@example.net"]
    assert all(id and status == "queued" for id, status in answer["recipients"].values())


def test_a_site_that_tries_again_itself_doubles_no_mail(sibling: Sibling, between: Between) -> None:
    between.script = ["lose", "lose", "lose"]
    answer = sibling.send(times=2)
    assert answer["sent"] == [1]
    assert "did not answer" in answer["error"]
    assert Message.objects.count() == 1


def test_a_server_that_does_not_answer_in_time_is_given_up(sibling: Sibling, between: Between) -> None:
    between.script = [503] * 9
    begun = time.monotonic()
    assert "503" in sibling.send(settings={"MAILHUB_TIMEOUT": 0.001})["error"]
    assert len(between.keys) == 1
    assert time.monotonic() - begun < 60


# ----------------------------------------------------------------------------------------------------------------- the outbox


def test_the_outbox_keeps_what_mailhub_could_not_take_and_sends_it_later(sibling: Sibling, relay: Relay) -> None:
    (port,) = free_ports(1)
    away = {"MAILHUB_OUTBOX": True, "MAILHUB_URL": f"http://127.0.0.1:{port}"}
    answer = sibling.send(settings=away)
    assert (answer["sent"], answer["recipients"]) == ([1], {"taro@example.net": [None, "queued"]})
    assert sibling.send(settings=away, to=["b@example.net", "c@example.net"], merge_metadata={})["sent"] == [1]
    assert sibling.do("kept") == [["messages", ""], ["messages/batch", ""]]
    assert sibling.do("deliver", away) == {"said": ""}
    assert len(sibling.do("kept")) == 2
    sibling.do("due")
    assert sibling.do("deliver") == {"said": "taken: 2, refused: 0"}
    assert sibling.do("kept") == []
    assert sorted(Message.objects.values_list("address", flat=True)) == ["b@example.net", "c@example.net", "taro@example.net"]


def test_the_outbox_doubles_no_mail_whose_answer_was_lost(sibling: Sibling, between: Between) -> None:
    between.script = ["lose", "lose", "lose"]
    assert sibling.send(settings={"MAILHUB_OUTBOX": True})["sent"] == [1]
    assert Message.objects.count() == 1
    assert sibling.do("deliver") == {"said": "taken: 1, refused: 0"}
    assert Message.objects.count() == 1


def test_the_outbox_keeps_what_is_refused_with_the_reason(sibling: Sibling, between: Between) -> None:
    between.script = [503] * 3
    assert sibling.send(settings={"MAILHUB_OUTBOX": True}, from_email="stranger@example.com")["sent"] == [1]
    assert sibling.do("deliver", {"MAILHUB_API_KEY": "mh_wrong"}) == {"said": ""}
    sibling.do("due")
    assert sibling.do("deliver") == {"said": "taken: 0, refused: 1"}
    ((_path, problem),) = sibling.do("kept")
    assert "stranger@example.com" in problem
    sibling.do("due")
    assert sibling.do("deliver") == {"said": ""}


def test_what_is_wrong_with_a_mail_is_told_at_once_with_an_outbox_too(sibling: Sibling) -> None:
    assert "stranger" in sibling.send(settings={"MAILHUB_OUTBOX": True}, from_email="stranger@example.com")["error"]
    assert sibling.do("kept") == []


# ------------------------------------------------------------------------------------------------------------------- webhooks


def test_a_forged_post_fires_nothing(sibling: Sibling) -> None:
    body = b'{"type":"events","timestamp":"2026-01-01T00:00:00Z","data":[]}'
    secret = sibling.settings["MAILHUB_WEBHOOK_SECRET"]
    now = int(time.time())

    def post(fields: dict[str, str]) -> int:
        return requests.post(sibling.url, data=body, headers=fields, timeout=30).status_code

    assert post(signing.headers([secret], "1", now, body)) == 200
    assert post({}) == 400
    assert post(signing.headers([signing.new_secret()], "1", now, body)) == 400
    assert post(signing.headers([secret], "1", now - 301, body)) == 400
    assert post(signing.headers([secret], "1", now, body + b" ")) == 400
    assert post({**signing.headers([secret], "1", now, body), "webhook-timestamp": "x"}) == 400
    assert post(signing.headers([signing.new_secret(), secret], "1", now, body)) == 200


def test_a_test_event_is_taken_and_fires_nothing(sibling: Sibling) -> None:
    assert posting.test(Endpoint.objects.get()).taken
    assert sibling.do("told") == []


def test_a_receiver_that_fails_is_told_again(sibling: Sibling, relay: Relay) -> None:
    sibling.send(to=["trouble@example.net"])
    left(relay)
    posting.post_due()
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.response_status) == ("pending", 500)


def test_every_event_of_ours_is_one_of_anymails(sibling: Sibling, relay: Relay) -> None:
    sibling.send()
    message = Message.objects.get()
    now = clock.now()
    Event.objects.bulk_create(Event(message=message, type=type, at=now) for type in Event.Type)
    posting.post_due()
    assert [event["event_type"] for event in sibling.do("told")] == list(Event.Type)
    assert sibling.do("told")[0]["timestamp"].startswith(f"{now:%Y-%m-%dT%H:%M:%S}")


# --------------------------------------------------------------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("changes", "ids"),
    [
        ({}, []),
        ({"MAILHUB_URL": ""}, ["mailhub.E001"]),
        ({"MAILHUB_URL": "mailhub.example.com"}, ["mailhub.E001"]),
        ({"MAILHUB_URL": "https://mailhub.example.com/api/v1/"}, ["mailhub.E001"]),
        ({"MAILHUB_API_KEY": ""}, ["mailhub.E002"]),
        ({"MAILHUB_WEBHOOK_SECRET": "whsec_?"}, ["mailhub.E003"]),
        ({"DEBUG": False}, ["mailhub.W001"]),
        ({"DEFAULT_FROM_EMAIL": "webmaster@localhost"}, ["mailhub.W002"]),
        ({"EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend", "MAILHUB_URL": ""}, []),
    ],
)
def test_the_system_check_tells_what_is_misconfigured(sibling: Sibling, changes: dict[str, Any], ids: list[str]) -> None:
    back = {"DEBUG": True, "DEFAULT_FROM_EMAIL": "shop@example.com", "EMAIL_BACKEND": "mailhub_client.EmailBackend"}
    try:
        assert sibling.do("found", changes) == ids
    finally:
        sibling.do("found", back)
