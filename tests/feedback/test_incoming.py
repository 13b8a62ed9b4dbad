from __future__ import annotations

import io
import os
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery.models import Event, Message, Suppression
from mailhub.feedback import by_hand, incoming
from mailhub.feedback.models import IncomingMail, Probe
from mailhub.senders import return_path
from tests.delivery.world import Status, make_relay, post

pytestmark = pytest.mark.django_db

BOUNCES = "bounces@bounce.tea.example"
Mail = IncomingMail.Status


def bounce(
    recipient: str = "taro@example.jp", *, said: str = "550 5.1.1 User unknown", action: str = "failed", returned: str = ""
) -> bytes:
    return f"""\
From: MAILER-DAEMON@mx.example.jp
To: somebody@tea.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.jp

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {said.split()[1]}
Diagnostic-Code: smtp; {said}

--b
Content-Type: message/rfc822

From: shop@tea.example
{returned}Subject: Tea

--b--
""".encode()


def take(raw: bytes, rcpt_to: str = "") -> IncomingMail:
    return incoming.take(raw, IncomingMail.Source.SMTP, rcpt_to=rcpt_to)


def path(message: Message) -> str:
    return return_path.make(BOUNCES, message.public_id)


def state(message: Message) -> tuple[str, bool, int]:
    message.refresh_from_db()
    return message.status, Suppression.objects.exists(), Event.objects.filter(message=message, type="bounced").count()


def test_a_bounce_at_a_messages_own_return_path_is_recorded_and_suppresses_a_dead_address(message: Message) -> None:
    mail = take(bounce(), path(message))
    assert (mail.status, mail.proof, mail.message_id) == (Mail.APPLIED, IncomingMail.Proof.RETURN_PATH, message.pk)
    assert state(message) == (Status.BOUNCED, True, 1)
    assert Event.objects.get(type="bounced").kind == "hard"


def test_a_signed_header_in_the_returned_mail_proves_as_much(message: Message) -> None:
    mail = take(bounce(returned=f"X-MailHub-ID: {return_path.token(message.public_id)}\n"))
    assert (mail.status, mail.proof) == (Mail.APPLIED, IncomingMail.Proof.HEADER)
    assert state(message) == (Status.BOUNCED, True, 1)


def test_the_same_mail_counts_once_however_often_and_whichever_way_it_comes(message: Message) -> None:
    first = take(bounce(), path(message))
    again = incoming.take(bounce(), IncomingMail.Source.UPLOAD)
    assert (again.pk, IncomingMail.objects.count()) == (first.pk, 1)
    assert state(message) == (Status.BOUNCED, True, 1)


def test_what_is_not_the_addresss_fault_suppresses_nobody(message: Message) -> None:
    take(bounce(said="552 5.2.2 Mailbox full"), path(message))
    assert state(message) == (Status.BOUNCED, False, 1)
    assert Event.objects.get(type="bounced").kind == "soft"


def test_a_delay_is_no_bounce(message: Message) -> None:
    take(bounce(said="451 4.4.1 No answer", action="delayed"), path(message))
    assert state(message) == (Status.SENT, False, 0)


def test_a_claim_about_somebody_else_changes_nothing(message: Message) -> None:
    [other] = post(message.sender, "hanako@example.jp")
    mail = take(bounce("hanako@example.jp"), path(message))
    assert mail.status == Mail.UNPROVEN
    assert state(message) == (Status.SENT, False, 0)
    assert state(other) == (Status.QUEUED, False, 0)


def test_a_message_id_alone_suppresses_nobody(message: Message) -> None:
    mail = take(bounce(returned=f"Message-ID: <{message.message_id}>\n"))
    assert (mail.status, mail.message_id) == (Mail.UNPROVEN, message.pk)
    assert state(message) == (Status.SENT, False, 0)


def test_a_forged_return_path_suppresses_nobody(message: Message) -> None:
    [other] = post(message.sender, "hanako@example.jp")
    forged = return_path.token(message.public_id)[:26] + return_path.token(other.public_id)[26:]
    mail = take(bounce(), f"bounces+{forged}@bounce.tea.example")
    assert mail.status == Mail.UNMATCHED
    assert state(message) == (Status.SENT, False, 0)


def test_a_mailbox_knows_the_return_path_by_what_its_server_wrote(message: Message) -> None:
    mail = take(f"Delivered-To: {path(message)}\n".encode() + bounce())
    assert (mail.status, mail.proof) == (Mail.APPLIED, IncomingMail.Proof.RETURN_PATH)


def test_a_bounce_that_names_no_message_is_kept_and_an_answer_is_nothing_to_do(message: Message) -> None:
    assert take(bounce()).status == Mail.UNMATCHED
    answer = b"From: taro@example.jp\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away.\n"
    assert take(answer, path(message)).status == Mail.NOTED
    assert take(b"\0\xff" * 100).status == Mail.NOTED
    assert state(message) == (Status.SENT, False, 0)


def test_a_mail_on_which_we_stumble_is_kept_and_set_aside_in_the_end(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*args: object) -> None:
        raise ValueError

    with monkeypatch.context() as broken:
        broken.setattr(incoming.bounces, "read_mail", stumble)
        mail = take(bounce(), path(message))
        assert (mail.status, mail.tries) == (Mail.NEW, 1)
        for _again in range(3):
            incoming.work_off()
    mail.refresh_from_db()
    assert (mail.status, mail.tries) == (Mail.STUCK, 3)
    by_hand.read_again(mail)
    assert mail.status == Mail.APPLIED


def test_a_mail_that_ends_the_process_ends_no_fourth_one(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as died:
        died.setattr(incoming.bounces, "read_mail", killed)
        with pytest.raises(KeyboardInterrupt):
            take(bounce(), path(message))
        for _again in range(2):
            with pytest.raises(KeyboardInterrupt):
                incoming.work_off()
        good = IncomingMail.objects.create(digest="good", source="pipe", raw=b"Subject: hello\n\n", size=16, received_at=timezone.now())
        with pytest.raises(KeyboardInterrupt):
            incoming.work_off()
    assert IncomingMail.objects.get(digest=good.digest).tries == 1, "those behind it have their turn"
    assert set(IncomingMail.objects.values_list("status", "tries")) == {(Mail.STUCK, 3), (Mail.NEW, 1)}


def test_what_was_stored_and_not_read_is_read_later(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as died:
        died.setattr(incoming, "work", lambda mail: None)
        take(bounce(), path(message))
    assert incoming.work_off() == 1
    assert state(message) == (Status.BOUNCED, True, 1)
    assert incoming.work_off() == 0


def test_words_are_forgotten_before_the_mail_and_a_mail_to_be_read_keeps_them(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    read, fresh = take(bounce(), path(message)), take(bounce("a@example.jp"))
    with monkeypatch.context() as died:
        died.setattr(incoming, "work", lambda mail: None)
        unread = take(bounce("b@example.jp"))
    IncomingMail.objects.filter(pk__in=[read.pk, unread.pk]).update(received_at=timezone.now() - timedelta(days=31))
    assert incoming.forget() == 0
    assert set(IncomingMail.objects.filter(raw=None)) == {read}
    IncomingMail.objects.filter(pk__in=[read.pk, unread.pk]).update(received_at=timezone.now() - timedelta(days=401))
    assert incoming.forget() == 1
    assert set(IncomingMail.objects.all()) == {fresh, unread}


def test_the_bounce_of_a_test_mail_shows_that_its_relay_keeps_return_paths(message: Message) -> None:
    relay = make_relay()
    address = return_path.make(BOUNCES, message.public_id, return_path.PROBE)
    Probe.objects.create(relay=relay, sender=message.sender, to="nobody@example.jp", return_path=address, sent_at=timezone.now())
    assert take(bounce("nobody@example.jp"), address).status == Mail.APPLIED
    relay.refresh_from_db()
    assert relay.keeps_return_path
    assert state(message) == (Status.SENT, False, 0)


def test_a_mail_server_hands_a_bounce_to_a_command(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bounce())))
    call_command("take_bounce", "--recipient", path(message))
    assert state(message) == (Status.BOUNCED, True, 1)


def test_the_command_asks_the_server_to_try_later_when_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bounce())))
    monkeypatch.setattr(incoming, "take", away)
    with pytest.raises(SystemExit) as ended:
        call_command("take_bounce")
    assert ended.value.code == os.EX_TEMPFAIL


def test_staff_see_what_came_back_and_not_what_it_quotes(message: Message, admin_client: Client) -> None:
    mail = take(bounce(said="550 5.1.1 User unknown", returned="X-Secret: reset-link\n"))
    listed = admin_client.get(reverse("admin:feedback_incomingmail_changelist"), {"status": "unmatched"})
    assert b"Undelivered Mail Returned to Sender" in listed.content
    shown = admin_client.get(reverse("admin:feedback_incomingmail_change", args=[mail.pk])).content
    assert b"No such mailbox" in shown and b"user_unknown" not in shown
    assert b"reset-link" not in shown


@pytest.mark.parametrize("damage", ["", "altered", "bounce address", "return path", "a bounce"])
def test_a_mail_to_the_address_in_list_unsubscribe_unsubscribes_by_its_token_alone(message: Message, damage: str) -> None:
    address = return_path.make(BOUNCES, message.public_id, return_path.UNSUBSCRIBE)
    mail = b"From: anybody@example.org\r\nSubject: stop\r\n\r\n\r\n"
    if damage == "altered":
        address = address.replace("+", "+a", 1)[: len(address)]
    elif damage == "bounce address":
        address = BOUNCES
    elif damage == "return path":
        address = path(message)
    elif damage == "a bounce":
        mail = bounce()
    for _time in range(2):
        take(mail, address)
    assert list(message.events.filter(type="unsubscribed").values_list("type", flat=True)) == ([] if damage else ["unsubscribed"])
    if not damage:
        assert IncomingMail.objects.get().status == Mail.APPLIED and IncomingMail.objects.get().message == message
