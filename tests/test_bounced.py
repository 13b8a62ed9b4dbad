"""Bounces handed over by SMTP and LMTP: what is taken, for whom, and what is answered."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pytest_django.fixtures import Settings

from mailhub import bounced
from mailhub.delivery.models import Message
from mailhub.feedback import incoming
from mailhub.feedback.models import IncomingMail
from mailhub.senders import return_path
from mailhub.senders.models import Domain
from tests.delivery.world import make_relay, make_route, make_sender, post
from tests.feedback.test_incoming import bounce
from tests.transactional.listener import HOST, Client, Listener, trusting
from transactional.smtpd import certificates, server

pytestmark = pytest.mark.django_db(transaction=True)
BOUNCES = "bounces@bounce.tea.example"


class Bounces(Listener):
    lmtp = False

    async def serve(self) -> None:
        self.server = bounced.BounceServer(lmtp=self.lmtp)
        plain = server.listen([HOST], self.port)
        self.listening.set()
        await self.server.serve(plain, [])


class LocalBounces(Bounces):
    lmtp = True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("smtpd") / "certificate.pem"
    path.write_bytes(certificates.make([HOST]))
    return str(path)


@pytest.fixture(autouse=True)
def certified(certificate: str, settings: Settings) -> None:
    settings.MAILHUB_SMTPD_CERTIFICATE = certificate


@pytest.fixture
def message() -> Message:
    make_route(make_relay(), default_for="transactional")
    Domain.objects.create(name="tea.example", bounce_address=BOUNCES)
    [message] = post(make_sender("shop@tea.example"), "taro@example.jp")
    Message.objects.update(status="sent")
    return message


@pytest.fixture
def listener(message: Message) -> Iterator[Bounces]:
    with Bounces() as listening:
        yield listening


@pytest.fixture
def client(listener: Bounces) -> Iterator[Client]:
    with Client(listener.port) as client:
        client.hear()
        client.say("EHLO mx.example.jp")
        yield client


def path(message: Message) -> str:
    return return_path.make(BOUNCES, message.public_id)


def wired(raw: bytes) -> bytes:
    return raw.replace(b"\n", b"\r\n")


def hand_in(client: Client, raw: bytes, *recipients: str) -> str:
    assert client.say("MAIL FROM:<>") == "250 2.1.0 OK"
    for recipient in recipients:
        assert client.say(f"RCPT TO:<{recipient}>") == "250 2.1.5 OK"
    client.say("DATA")
    client.send(wired(raw))
    return client.say(".")


def test_a_bounce_is_stored_and_recorded_before_it_is_answered(listener: Bounces, message: Message) -> None:
    with smtplib.SMTP(HOST, listener.port, local_hostname="mx.example.jp") as client:
        client.starttls(context=trusting())
        assert "auth" not in client.esmtp_features
        assert client.sendmail("", [path(message)], wired(bounce())) == {}
    mail = IncomingMail.objects.get()
    assert (mail.status, mail.source, mail.mail_from, mail.message) == ("applied", "smtp", "", message)
    message.refresh_from_db()
    assert message.status == "bounced"


def test_what_is_sent_again_since_the_answer_was_lost_counts_once(client: Client, message: Message) -> None:
    for _time in range(2):
        assert hand_in(client, bounce(), path(message)) == "250 2.0.0 stored"
    assert IncomingMail.objects.count() == message.events.filter(type="bounced").count() == 1


def test_only_our_own_return_paths_reports_and_postmaster_are_recipients(client: Client, message: Message, settings: Settings) -> None:
    settings.MAILHUB_REPORT_ADDRESSES = ["dmarc@bounce.tea.example"]
    client.say("MAIL FROM:<mailer-daemon@example.jp>")
    forged = path(message)[:-30] + "aaaaaaa" + path(message)[-23:]
    for address in (
        forged, BOUNCES, "taro@bounce.tea.example", path(message).replace("bounce.tea", "tea"), "a@example.net", "postmaster@example.net",
        '"x y"@bounce.tea.example', "", "bounces+@bounce.tea.example",
    ):  # fmt: skip
        assert client.say(f"RCPT TO:<{address}>").startswith("550 5.1.1 "), address
    probe = return_path.make(BOUNCES, message.public_id, return_path.PROBE)
    for address in (path(message), path(message).upper(), probe, "postmaster@bounce.tea.example", "Postmaster", "DMARC@bounce.tea.example"):
        assert client.say(f"RCPT TO:<{address}>") == "250 2.1.5 OK", address


def test_nobody_logs_in_and_nothing_comes_out_of_order(client: Client, message: Message) -> None:
    assert client.say("AUTH PLAIN AGEAYg==").startswith("503 ")
    assert client.say(f"RCPT TO:<{path(message)}>").startswith("503 ")
    client.say("MAIL FROM:<>")
    assert client.say("DATA").startswith("503 ")
    assert client.say("LHLO mx.example.jp").startswith("500 5.5.1 ")
    assert client.say("GET / HTTP/1.1").startswith("421 ")


def test_a_mail_in_circles_is_refused(client: Client, message: Message) -> None:
    loop = b"Received: from a by b\n" * (bounced.MOST_HOPS + 1)
    assert hand_in(client, loop + bounce(), path(message)).startswith("554 5.4.6 ")
    assert not IncomingMail.objects.exists()


def test_too_many_recipients_are_put_off(client: Client) -> None:
    client.say("MAIL FROM:<>")
    for _number in range(bounced.MOST_RECIPIENTS):
        client.say("RCPT TO:<postmaster>")
    assert client.say("RCPT TO:<postmaster>").startswith("452 4.5.3 ")


def test_what_cannot_be_stored_is_put_off(client: Client, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("no database")

    with monkeypatch.context() as patch:
        patch.setattr(incoming, "take", away)
        assert hand_in(client, bounce(), path(message)).startswith("451 4.3.0 ")
    assert hand_in(client, bounce(), path(message)) == "250 2.0.0 stored"


def test_lmtp_answers_for_each_recipient(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    [other] = post(message.sender, "hanako@example.jp")
    Message.objects.update(status="sent")
    with LocalBounces() as listening, Client(listening.port) as client:
        client.hear()
        assert client.say("EHLO mx").startswith("500 ")
        assert "PIPELINING" in client.say("LHLO mx")
        assert hand_in(client, bounce(), path(message), path(other)) == "250 2.0.0 stored"
        assert client.hear() == "250 2.0.0 stored"
        monkeypatch.setattr(bounced, "MOST_HOPS", 0)
        refused = b"Received: from a by b\n" + bounce()
        assert hand_in(client, refused, path(message), path(other)).startswith("554 5.4.6 ")
        assert client.hear().startswith("554 5.4.6 ")
        assert client.say("NOOP") == "250 2.0.0 OK"
    # The notice names one of them: about the other it proves nothing.
    assert sorted(IncomingMail.objects.values_list("status", "message")) == [("applied", message.pk), ("unproven", other.pk)]


def test_the_command_says_what_to_do_about_a_port_that_is_taken(settings: Settings) -> None:
    settings.MAILHUB_SMTPD_ADDRESSES = [HOST]
    with socket.create_server((HOST, 0)) as taken, pytest.raises(CommandError, match="Choose another with MAILHUB_BOUNCED_PORT"):
        call_command("bounced", port=taken.getsockname()[1])
