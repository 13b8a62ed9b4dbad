"""Mail handed in by SMTP: who is let in, what is taken, what is answered."""

from __future__ import annotations

import re
import smtplib
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django.fixtures import Settings

from mailhub.delivery import queue
from mailhub.delivery.models import Content, Message, Suppression
from mailhub.senders.models import Sender
from tests.transactional.listener import HOST, MAIL, Client, Listener, envelope, hand_in, issue, plain, trusting
from transactional import credentials, sending
from transactional.models import Credential, Project, Submission
from transactional.smtpd import protocol

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick")]


@pytest.fixture
def client(mua: Client) -> Client:
    return mua


def kept() -> bytes:
    return bytes(Content.objects.get().raw or b"")


# ---------------------------------------------------------------------------------------------------------------- the way in


def test_a_mail_goes_in_over_starttls(listener: Listener, credential: Credential) -> None:
    with smtplib.SMTP(HOST, listener.port, local_hostname="web1.example") as client:
        client.starttls(context=trusting())
        client.login(credential.prefix, credential.secret)
        assert client.sendmail("shop@example.com", ["a@example.net", "b@example.net"], MAIL) == {}
    submission = Submission.objects.get()
    assert (submission.via, submission.project) == ("smtp", credential.project)
    assert submission.origin == f"production ({credential.prefix}…), 127.0.0.1 (web1.example)"
    assert {message.address for message in submission.content.messages.all()} == {"a@example.net", "b@example.net"}
    assert submission.content.subject == "Order"


@pytest.mark.parametrize("method", ["auth_plain", "auth_login"])
def test_a_mail_goes_in_over_implicit_tls_with_either_way_to_log_in(listener: Listener, credential: Credential, method: str) -> None:
    """aiosmtpd #281: AUTH was not offered where TLS was spoken from the first byte."""
    with smtplib.SMTP_SSL(HOST, listener.tls_port, context=trusting()) as client:
        client.ehlo()
        client.user, client.password = credential.prefix, credential.secret
        assert client.auth(method.removeprefix("auth_").upper(), getattr(client, method))[0] == 235
        assert client.sendmail("shop@example.com", ["a@example.net"], MAIL) == {}
    assert Message.objects.get().address == "a@example.net"


def test_the_reply_names_the_mail_once_it_is_committed(client: Client) -> None:
    reply = hand_in(client)
    found = re.fullmatch(r"250 2\.0\.0 queued as ([0-9a-f-]{36})", reply)
    assert found and str(Submission.objects.get().content.public_id) == found[1]
    assert f" id {found[1]}".encode() in kept()


def test_one_connection_carries_many_mails(client: Client) -> None:
    for number in range(5):
        assert hand_in(client, MAIL, f"a{number}@example.net").startswith("250 2.0.0 ")
    assert client.say("QUIT") == "221 2.0.0 Goodbye" and client.hear() == ""
    assert Submission.objects.count() == 5


def test_what_is_offered_depends_on_tls(listener: Listener) -> None:
    common = {"PIPELINING", "SIZE 26214400", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=1000"}
    with Client(listener.port) as client:
        assert client.hear().startswith("220 127.0.0.1 ESMTP ")
        plain_offers = {line[4:] for line in client.say("EHLO a.example").splitlines()[1:]}
        client.start_tls()
        over_tls = {line[4:] for line in client.say("EHLO a.example").splitlines()[1:]}
    assert plain_offers == common | {"STARTTLS"}
    assert over_tls == common | {"AUTH PLAIN LOGIN"}


# ----------------------------------------------------------------------------------------------------------------- logging in


def test_nothing_is_taken_from_who_has_not_logged_in(listener: Listener) -> None:
    """No open relay, for nobody: not even from this very machine."""
    with Client(listener.port) as client:
        client.hear()
        assert client.say("MAIL FROM:<shop@example.com>").startswith("503 5.5.1 ")
        client.say("EHLO a.example")
        for command in ("MAIL FROM:<shop@example.com>", "RCPT TO:<a@example.net>", "DATA"):
            assert client.say(command).startswith("530 5.7.0 ")
        client.start_tls()
        client.say("EHLO a.example")
        assert client.say("MAIL FROM:<shop@example.com>").startswith("530 5.7.0 ")


def test_no_password_is_asked_for_in_plain_text(listener: Listener, credential: Credential) -> None:
    with Client(listener.port) as client:
        client.hear()
        assert "AUTH" not in client.say("EHLO a.example")
        assert client.log_in(credential.prefix, credential.secret).startswith("538 5.7.11 ")


def test_settings_let_named_networks_log_in_in_plain_text(listener: Listener, credential: Credential, settings: Settings) -> None:
    settings.MAILHUB_SMTPD_CLEAR_NETWORKS = [ip_network("192.0.2.0/24")]
    with Client(listener.port) as client:
        client.hear()
        client.say("EHLO a.example")
        assert client.log_in(credential.prefix, credential.secret).startswith("538 ")
        settings.MAILHUB_SMTPD_CLEAR_NETWORKS = [ip_network("127.0.0.0/8")]
        assert "AUTH PLAIN LOGIN" in client.say("EHLO a.example")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 ")
        assert hand_in(client).startswith("250 2.0.0 ")
    assert b"with ESMTPA id" in kept()


def logged_in(listener: Listener, user: str, password: str) -> str:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        return client.log_in(user, password)


def test_wrong_revoked_expired_and_foreign_credentials_are_turned_away(
    listener: Listener, credential: Credential, project: Project
) -> None:
    key, key_secret = issue(project, kind=Credential.Kind.API_KEY)
    old, old_secret = issue(project, expires_at=timezone.now() - timedelta(seconds=1))
    attempts = [
        (credential.prefix, credential.secret[:-1]),
        (credential.prefix, credential.secret + "x"),
        (credential.prefix, ""),
        (credential.prefix, "緑茶"),
        ("shop@example.com", credential.secret),
        (key.prefix, key_secret),
        (old.prefix, old_secret),
    ]
    for user, password in attempts:
        listener.server.throttle = credentials.Throttle()
        assert logged_in(listener, user, password).startswith("535 5.7.8 "), user
    assert logged_in(listener, credential.prefix.upper(), credential.secret).startswith("235 ")
    credential.delete()
    assert logged_in(listener, credential.prefix, credential.secret).startswith("535 5.7.8 ")


def test_a_revoked_password_ends_what_is_logged_in_with_it(client: Client, credential: Credential) -> None:
    assert hand_in(client).startswith("250 ")
    Credential.objects.all().delete()
    assert hand_in(client).startswith("550 5.7.1 ")
    assert Submission.objects.count() == 1


def test_use_is_noted_once_a_minute(client: Client, credential: Credential) -> None:
    credential.refresh_from_db()
    assert (first := credential.last_used_at)
    hand_in(client)
    credential.refresh_from_db()
    assert credential.last_used_at == first
    Credential.objects.update(last_used_at=first - timedelta(seconds=61))
    hand_in(client)
    credential.refresh_from_db()
    assert credential.last_used_at > first - timedelta(seconds=61)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"AUTH", "504 5.5.4"),
        (b"AUTH CRAM-MD5", "504 5.5.4"),
        (b"AUTH PLAIN a b", "501 5.5.4"),
        (b"AUTH PLAIN !!!!", "501 5.5.2"),
        (b"AUTH PLAIN =", "501 5.5.2"),
        (b"AUTH PLAIN " + plain("a\0b", "c"), "501 5.5.2"),
        (b"AUTH PLAIN /////w==", "501 5.5.2"),
        (b"AUTH PLAIN " + plain("me", "x", acts_as="somebody"), "535 5.7.8"),
        (b"AUTH LOGIN !!!!", "501 5.5.2"),
    ],
)
def test_ways_to_log_in_wrongly(listener: Listener, said: bytes, answered: str) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        assert client.say(said).startswith("503 5.5.1 ")
        client.say("EHLO a.example")
        assert client.say(said).startswith(answered)


def test_nobody_acts_for_another(listener: Listener, credential: Credential) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        right = credential.prefix, credential.secret
        assert client.say(b"AUTH PLAIN " + plain(*right, acts_as="somebody")).startswith("535 5.7.8 ")
        assert client.say(b"AUTH PLAIN " + plain(*right, acts_as=credential.prefix)).startswith("235 ")


def test_what_was_said_before_starttls_does_not_count_after_it(listener: Listener, credential: Credential, settings: Settings) -> None:
    settings.MAILHUB_SMTPD_CLEAR_NETWORKS = [ip_network("127.0.0.0/8")]
    with Client(listener.port) as client:
        client.hear()
        client.say("EHLO a.example")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 ")
        client.start_tls()
        client.say("EHLO a.example")
        assert client.say("MAIL FROM:<shop@example.com>").startswith("530 5.7.0 ")


def test_logging_in_can_be_given_up_and_is_done_once(listener: Listener, credential: Credential) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        assert client.say("auth plain") == "334 "
        assert client.say("*").startswith("501 5.7.0 ")
        assert client.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert client.say("bWU=") == "334 UGFzc3dvcmQ6"
        assert client.say("*").startswith("501 5.7.0 ")
        assert client.say("AUTH PLAIN") == "334 "
        assert client.say(plain("me", "x" * 9_500)).startswith("500 5.5.2 ")
        assert client.log_in(credential.prefix, credential.secret).startswith("235 ")
        assert client.log_in(credential.prefix, credential.secret).startswith("503 5.5.1 ")


def test_nobody_logs_in_while_a_mail_is_on_its_way(listener: Listener, credential: Credential) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        client.log_in(credential.prefix, credential.secret)
        client.say("MAIL FROM:<shop@example.com>")
        assert client.log_in(credential.prefix, credential.secret).startswith("503 5.5.1 ")


def test_failures_are_slowed_down_by_address_and_name_and_not_for_who_is_known(listener: Listener, credential: Credential) -> None:
    """From one address: after five failures not even the right password is looked at, unless it has logged in from there before."""
    assert logged_in(listener, credential.prefix, credential.secret).startswith("235 ")
    for _ in range(5):
        assert logged_in(listener, "mh_00000000", "wrong").startswith("535 ")
    assert logged_in(listener, "mh_00000000", "wrong").startswith("454 4.7.0 ")
    assert logged_in(listener, credential.prefix, credential.secret).startswith("454 4.7.0 ")
    server = listener.server
    assert server.must_wait("192.0.2.1", credential.prefix) == 0
    assert server.must_wait("192.0.2.1", "mh_00000000") > 0
    assert server.must_wait("127.0.0.1", credential.prefix) > 0


def test_a_site_may_log_in_many_times_at_once(listener: Listener, credential: Credential) -> None:
    clients = [Client(listener.tls_port, tls=True) for _ in range(20)]
    try:
        for client in clients:
            client.send(b"EHLO a.example\r\nAUTH PLAIN " + plain(credential.prefix, credential.secret) + b"\r\n")
        for client in clients:
            assert [client.hear()[:3] for _ in range(3)] == ["220", "250", "235"]
    finally:
        for client in clients:
            client.socket.close()


def test_a_connection_ends_after_three_wrong_passwords(listener: Listener) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        assert client.log_in("mh_00000000", "a").startswith("535 ")
        assert client.log_in("mh_00000000", "b").startswith("535 ")
        assert client.log_in("mh_00000000", "c").startswith("421 4.7.0 ")
        assert client.hear() == ""


# --------------------------------------------------------------------------------------------------------------- who may send


def test_only_senders_of_the_project_are_taken(client: Client, project: Project) -> None:
    Sender.objects.create(email="other@example.org").confirm()
    reply = client.say("MAIL FROM:<other@example.org>")
    assert reply.startswith("550 5.7.1 ") and "Tea shop" in reply and "shop@example.com" in reply
    reply = hand_in(client, MAIL.replace(b"shop@example.com", b"other@example.org"))
    assert reply.startswith("550 5.7.1 ") and "other@example.org" in reply
    assert not Submission.objects.exists()
    project.senders.add(Sender.objects.get(email="other@example.org"))
    assert hand_in(client, MAIL.replace(b"shop@example.com", b"other@example.org"), sender="other@example.org").startswith("250 ")


def test_an_envelope_sender_may_be_of_a_senders_domain_or_empty(client: Client) -> None:
    assert hand_in(client, sender="bounce+17=a@example.com").startswith("250 ")
    assert hand_in(client, sender="").startswith("250 ")
    assert {content.from_email for content in Content.objects.all()} == {"shop@example.com"}


def test_a_disabled_sender_is_refused_with_its_state(client: Client, sender: Sender) -> None:
    sender.disable()
    reply = client.say("MAIL FROM:<shop@example.com>")
    assert reply.startswith("550 5.7.1 ") and "disabled" in reply


@pytest.fixture
def in_japan(settings: Settings) -> None:
    settings.LANGUAGE_CODE = "ja"


def test_replies_are_english_whatever_the_pages_speak(in_japan: None, listener: Listener, credential: Credential) -> None:
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        client.log_in(credential.prefix, credential.secret)
        client.say("MAIL FROM:<shop@example.com>")
        assert "is not a mail address" in client.say("RCPT TO:<nobody@>")
        client.say("RSET")
        assert "is not a sender of this MailHub" in hand_in(client, MAIL.replace(b"shop@example.com", b"other@example.org"), sender="")


def test_a_reply_in_other_letters_is_still_ascii(listener: Listener, credential: Credential) -> None:
    Project.objects.update(name="緑茶堂")
    Sender.objects.create(email="other@example.org").confirm()
    with Client(listener.tls_port, tls=True) as client:
        client.hear()
        client.say("EHLO a.example")
        client.log_in(credential.prefix, credential.secret)
        assert client.say("MAIL FROM:<other@example.org>").startswith("550 5.7.1 The project ??? may not send")


@pytest.mark.parametrize(
    ("mail", "answered"),
    [
        (MAIL.replace(b"From: Tea <shop@example.com>\r\n", b""), "554 5.6.0"),
        (MAIL.replace(b"shop@example.com", b"nobody"), "554 5.6.0"),
        (MAIL.replace(b"From: ", b"From: other@example.com, "), "554 5.6.0"),
        (b"From: other@example.com\r\n" + MAIL, "554 5.6.0"),
        (MAIL.replace(b"From:", b"From :"), "554 5.6.0"),
        (MAIL.replace(b"Subject: Order", b"Subject: a\r\nSubject: b"), "554 5.6.0"),
        (MAIL.replace(b"Thank", b"\0"), "554 5.6.0"),
        (MAIL.replace(b"Thank", b"x" * 999), "554 5.6.0"),
        (b"", "554 5.6.0"),
        (b"Received: by somewhere\r\n" * 101 + MAIL, "554 5.4.6"),
        (MAIL.replace(b"Subject:", b"X-Bomb: " + b"x" * 900 + b"\r\n" + b"".join(b"\t%d\r\n" % n * 100 for n in range(300)) + b"Subject:"), "552 5.3.4"),
        (MAIL.replace(b"Order", "注文".encode("shift_jis")), "550 5.6.7"),
    ],
)  # fmt: skip
def test_a_mail_that_cannot_be_sent_is_refused_with_the_reason(client: Client, mail: bytes, answered: str) -> None:
    assert hand_in(client, mail).startswith(answered)
    assert not Submission.objects.exists() and not Content.objects.exists()
    assert hand_in(client).startswith("250 "), "the connection goes on"


# ----------------------------------------------------------------------------------------------------------------- recipients


def test_a_suppressed_recipient_among_several_is_accepted_and_recorded(client: Client) -> None:
    Suppression.objects.create(address="gone@example.net", reason=Suppression.Reason.BOUNCE)
    assert hand_in(client, MAIL, "a@example.net", "gone@example.net").startswith("250 ")
    assert Message.objects.count() == 2


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("RCPT TO:<>", "553 5.1.3"),
        ("RCPT TO:<nobody>", "553 5.1.3"),
        ("RCPT TO:<a@@example.net>", "553 5.1.3"),
        ("RCPT TO:<@relay.example,@b.example:a@example.net>", "553 5.1.3"),
        ("RCPT TO:<a%other.example@example.net>", "553 5.1.3"),
        ("RCPT TO:<用户@example.net>", "553 5.6.7"),
        ("RCPT TO:<a@example.net> NOTIFY=NEVER", "555 5.5.4"),
        ("RCPT TO:a@example.net", "501 5.5.4"),
        ("RCPT TO:<a@example.net", "501 5.5.4"),
        ("RCPT TO:<a b@example.net>", "501 5.5.4"),
        ("RCPT TO:<a@example.net>\x0b<b@example.net>", "500 5.5.2"),
        ("RCPT", "501 5.5.4"),
    ],
)
def test_bad_recipients_are_refused_alone(client: Client, said: str, answered: str) -> None:
    client.say("MAIL FROM:<shop@example.com>")
    assert client.say(said).startswith(answered)
    assert client.say("RCPT TO:<a@example.net>").startswith("250 ")


def test_a_dotted_address_of_a_japanese_carrier_is_taken(client: Client) -> None:
    assert hand_in(client, MAIL, '"a..b"@docomo.ne.jp').startswith("250 ")
    assert Message.objects.get().address == "a..b@docomo.ne.jp"


def test_no_more_recipients_are_taken_than_one_mail_may_have(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MOST_RECIPIENTS", 3)
    client.say("MAIL FROM:<shop@example.com>")
    for number in range(3):
        assert client.say(f"RCPT TO:<a{number}@example.net>").startswith("250 ")
    assert client.say("RCPT TO:<a3@example.net>").startswith("452 4.5.3 ")


def test_a_credential_hands_in_no_more_a_minute_than_settings_allow(client: Client, listener: Listener) -> None:
    listener.server.rates.limit = 3
    assert hand_in(client, MAIL, "a@example.net", "b@example.net", "c@example.net").startswith("250 ")
    client.say("MAIL FROM:<shop@example.com>")
    assert client.say("RCPT TO:<d@example.net>").startswith("450 4.7.1 ")


# ----------------------------------------------------------------------------------------------------------------------- sizes


def test_a_mail_as_large_as_is_taken_is_taken_and_a_larger_one_is_not(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transactional.contents.LARGEST_MAIL", 200_000)
    line = b"x" * 98 + b"\r\n"
    largest = MAIL + line * ((199_000 - len(MAIL)) // 100)
    padding = 200_000 - len(largest) - 400
    assert client.say("MAIL FROM:<shop@example.com> SIZE=200001").startswith("552 5.3.4 ")
    assert hand_in(client, largest + b"y" * (padding - 2) + b"\r\n", parameters=" SIZE=200000").startswith("250 ")
    assert hand_in(client, MAIL + line * 2_000).startswith("552 5.3.4 ")
    assert hand_in(client, MAIL + line * 50_000).startswith("552 5.3.4 ")
    assert hand_in(client).startswith("250 ")
    assert Submission.objects.count() == 2


def test_mail_that_would_not_fit_into_memory_is_put_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transactional.smtpd.server.MOST_BYTES", -1)
    client.say("MAIL FROM:<shop@example.com>")
    client.say("RCPT TO:<a@example.net>")
    assert client.say("DATA").startswith("452 4.3.1 ")


def test_a_large_mail_that_finds_no_room_on_its_way_is_put_off_and_leaves_none_behind(
    client: Client, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transactional.smtpd.server.MOST_BYTES", 300_000)
    assert hand_in(client, MAIL + b"x" * 98 + b"\r\n").startswith("250 ")
    envelope(client)
    client.send(MAIL + (b"x" * 98 + b"\r\n") * 10_000)
    assert client.say(".").startswith("452 4.3.1 ")
    assert hand_in(client).startswith("250 ")
    assert listener.server._held_by_all == 0 and Submission.objects.count() == 2


# ------------------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("NOOP", "250 2.0.0"),
        ("noop anything", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET now", "501 5.5.4"),
        ("VRFY shop@example.com", "252 2.0.0"),
        ("EXPN list", "502 5.5.1"),
        ("HELP", "214 2.0.0"),
        ("HELO", "501 5.5.4"),
        ("STARTTLS", "503 5.5.1"),
        ("RCPT TO:<a@example.net>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("DATA now", "501 5.5.4"),
        ("ZZZZ", "500 5.5.1"),
        ("", "500 5.5.1"),
        ("NOOP " + "x" * 506, "500 5.5.2"),
        ("NOOP " + "x" * 20_000, "500 5.5.2"),
        ("NOOP \x00", "500 5.5.2"),
        (b"NOOP \xff", "500 5.5.2"),
        ("MAIL FROM:shop@example.com", "501 5.5.4"),
        ("MAIL TO:<shop@example.com>", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> SIZE", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> SIZE=x", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> SIZE=1 SIZE=2", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> BODY=BINARYMIME", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> SMTPUTF8=yes", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> RET=FULL", "555 5.5.4"),
        ("MAIL FROM:<shop@example.com> =", "501 5.5.4"),
        ("MAIL FROM:<shop@example.com> AUTH=<> BODY=8bitmime SIZE=17", "250 2.1.0"),
        ("mail from: <shop@example.com>", "250 2.1.0"),
    ],
)
def test_every_command_has_its_answer_with_an_enhanced_code(client: Client, said: str | bytes, answered: str) -> None:
    assert client.say(said).startswith(f"{answered} ")
    assert client.say("NOOP").startswith("250 "), "the connection goes on"


def test_there_is_one_sender_a_mail_and_rset_forgets_it(client: Client) -> None:
    client.say("MAIL FROM:<shop@example.com>")
    assert client.say("MAIL FROM:<shop@example.com>").startswith("503 5.5.1 ")
    assert client.say("DATA").startswith("503 5.5.1 ")
    client.say("RCPT TO:<a@example.net>")
    client.say("RSET")
    assert client.say("DATA").startswith("503 5.5.1 ")
    assert hand_in(client, MAIL, "b@example.net").startswith("250 ")
    assert Message.objects.get().address == "b@example.net"


@pytest.mark.parametrize("said", ["GET / HTTP/1.1", "POST / HTTP/1.1", "BDAT 20 LAST", "CONNECT a:25"])
def test_other_tongues_and_chunks_end_the_connection(client: Client, said: str) -> None:
    """Their next lines would be taken for commands. CHUNKING is not offered."""
    client.send(f"{said}\r\nMAIL FROM:<shop@example.com>\r\n".encode())
    assert client.hear()[:3] in ("421", "502")
    assert client.hear() == ""


def test_who_says_nothing_that_exists_is_sent_away(client: Client) -> None:
    for _ in range(4):
        assert client.say("ZZZZ").startswith("500 5.5.1 ")
    assert client.say("ZZZZ").startswith("421 4.7.0 ")
    assert client.hear() == ""


def test_who_is_refused_all_the_time_is_sent_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REFUSALS", 3)
    for _ in range(3):
        assert client.say("RSET now").startswith("501 ")
    assert client.hear().startswith("421 4.7.0 ") and client.hear() == ""


def test_commands_may_come_all_at_once(client: Client) -> None:
    """RFC 2920: replies in order, and none lost."""
    client.send(b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<bad>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    assert [client.hear()[:3] for _ in range(5)] == ["250", "250", "553", "250", "354"]
    client.send(MAIL + b".\r\nMAIL FROM:<shop@example.com>\r\nRSET\r\nQUIT\r\n")
    assert [client.hear()[:3] for _ in range(4)] == ["250", "250", "250", "221"]
    assert client.hear() == ""
    assert Message.objects.count() == 2


# ------------------------------------------------------------------------------------------------------------------- STARTTLS


def test_what_comes_with_starttls_in_plain_text_is_forgotten(listener: Listener, credential: Credential) -> None:
    """CVE-2011-0411, CVE-2024-34083: commands of a man in the middle, obeyed as if they had come over TLS."""
    with Client(listener.port) as client:
        client.hear()
        client.say("EHLO a.example")
        client.send(b"STARTTLS\r\nEHLO evil.example\r\nNOOP\r\n")
        assert client.hear().startswith("220 2.0.0 ") and not client.rest
        client.socket = trusting().wrap_socket(client.socket)
        # The first thing that is answered is the first that was said over TLS, and nothing of before is known.
        assert client.say("VRFY x").startswith("252 ")
        assert client.say("MAIL FROM:<shop@example.com>").startswith("503 5.5.1 ")


def test_tls_that_fails_ends_the_connection_and_leaves_nothing_behind(listener: Listener) -> None:
    for port in (listener.port, listener.tls_port):
        with Client(port) as client:
            if port == listener.port:
                client.hear()
                client.say("EHLO a.example")
                client.say("STARTTLS")
            client.send(b"this is no TLS\r\n" * 10)
            while client.socket.recv(1000):
                pass
    for _ in range(100):
        if not listener.server.clients and not listener.server.connections:
            break
        listener.thread.join(0.05)
    assert not listener.server.clients and not listener.server.connections


# ------------------------------------------------------------------------------------------------------------ many and slow ones


def test_one_client_gets_no_more_than_its_share_of_connections(listener: Listener) -> None:
    listener.server.most = 10
    with Client(listener.port) as first, Client(listener.port) as second:
        assert first.hear().startswith("220 ") and second.hear().startswith("220 ")
        with Client(listener.port) as third:
            assert third.hear().startswith("421 4.7.0 ") and third.hear() == ""
        with Client(listener.tls_port) as fourth:
            assert fourth.hear() == ""
        assert first.say("EHLO a.example").startswith("250")
        first.say("QUIT")
        assert first.hear() == ""
        listener.thread.join(0.2)
        with Client(listener.port) as fifth:
            assert fifth.hear().startswith("220 ")


def test_who_does_not_log_in_in_time_is_sent_away(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "TO_LOG_IN", 0.5)
    with Client(listener.port) as client:
        client.hear()
        assert client.hear().startswith("421 4.4.2 ") and client.hear() == ""


def test_who_says_nothing_or_a_byte_now_and_then_is_sent_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IDLE", 0.5)
    client.say("NOOP")
    client.send(b"NO")
    assert client.hear().startswith("421 4.4.2 ") and client.hear() == ""


@pytest.mark.parametrize("limits", [{"BLOCK": 0.5}, {"IDLE": 0.5, "SLOWEST": 10**9}])
def test_a_mail_that_does_not_come_on_is_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]) -> None:
    envelope(client)
    for name, value in limits.items():
        monkeypatch.setattr(protocol, name, value)
    client.send(MAIL)
    assert client.hear().startswith("421 4.4.2 ") and client.hear() == ""
    assert not Submission.objects.exists()


# ------------------------------------------------------------------------------------------------------------- the database


def test_mail_is_put_off_while_nothing_can_be_stored(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "enqueue", broken)
        assert hand_in(client).startswith("451 4.3.0 ")
    assert not Content.objects.exists()
    assert hand_in(client).startswith("250 ")


def test_a_mail_that_trips_us_is_nothing_to_those_beside_it(client: Client, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue = queue.enqueue

    def tripped(messages: list[Message]) -> None:
        if any(message.address == "odd@example.net" for message in messages):
            raise RuntimeError("odd")
        enqueue(messages)

    monkeypatch.setattr(queue, "enqueue", tripped)
    assert hand_in(client, MAIL, "odd@example.net").startswith("451 4.3.0 ")
    assert hand_in(client).startswith("250 ")
