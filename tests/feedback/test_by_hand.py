"""What staff bring, match, dismiss, and make into samples."""

from __future__ import annotations

import gzip

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from mailhub.delivery.models import Message, Suppression
from mailhub.feedback import by_hand, incoming, samples
from mailhub.feedback.bounces import read
from mailhub.feedback.models import IncomingMail
from mailhub.feedback.receivers.models import Report
from mailhub.lib.states import WrongState
from mailhub.senders import return_path
from mailhub.senders.models import Domain
from tests.feedback.mails import NOTICES, Sample
from tests.feedback.specimens import SPECIMENS
from tests.feedback.test_incoming import bounce
from tests.feedback.test_receivers import GOOD, report

pytestmark = pytest.mark.django_db


def take(raw: bytes) -> IncomingMail:
    return incoming.take(raw, IncomingMail.Source.MAILBOX)


def upload(client: Client, *files: tuple[str, bytes]) -> str:
    given = {"files": [SimpleUploadedFile(name, data) for name, data in files]}
    return client.post(reverse("admin:feedback_incomingmail_upload"), given, follow=True).content.decode()


def test_mails_mailboxes_and_reports_are_uploaded_together(admin_client: Client, message: Message) -> None:
    Domain.objects.get_or_create(name="tea.example")
    proven = bounce(returned=f"X-MailHub-ID: {return_path.token(message.public_id)}\n")
    mbox = b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\n" + bounce() + b"\n>From here on\n\nFrom x Thu Jan  1\n" + bounce("b@example.jp")
    page = upload(admin_client, ("a.eml", proven), ("b.mbox", mbox), ("c.gz", gzip.compress(report(GOOD))), ("d.bin", b"\0\1"))
    assert "3 mails were read: 1 recorded, 2 for you to look at." in page
    assert "1 report was read." in page
    assert "d.bin: It is neither a mail nor a report." in page
    message.refresh_from_db()
    assert message.status == "bounced"
    assert Report.objects.count() == 1
    assert set(IncomingMail.objects.values_list("source", flat=True)) == {"upload"}
    assert sum(b"\nFrom here on" in bytes(mail.raw or b"") for mail in IncomingMail.objects.all()) == 1


def test_staff_match_a_mail_to_the_message_it_is_about(admin_client: Client, message: Message) -> None:
    mail = take(bounce("forwarded@elsewhere.example"))
    assert mail.status == "unmatched"
    url = reverse("admin:feedback_incomingmail_match", args=[mail.pk])
    assert "No message found" in admin_client.get(url).content.decode()
    assert f'value="{message.pk}"' in admin_client.get(url, {"q": "Taro@Example.jp"}).content.decode()
    admin_client.post(url, {"message": message.pk, "kind": ""})
    mail.refresh_from_db()
    message.refresh_from_db()
    assert (mail.status, mail.proof, mail.message, message.status) == ("applied", "staff", message, "bounced")
    assert Suppression.objects.get().address == "taro@example.jp"
    with pytest.raises(WrongState):
        by_hand.match(mail, message)
    assert "somebody was quicker" in admin_client.post(url, {"message": message.pk}, follow=True).content.decode()


@pytest.mark.parametrize(("kind", "suppressed"), [("hard", 1), ("soft", 0)])
def test_where_a_mail_says_nothing_staff_say_what_happened(message: Message, kind: str, suppressed: int) -> None:
    mail = take(b"From: someone@example.jp\nSubject: He has left us\n\nNobody here.\n")
    by_hand.match(mail, message, kind)
    event = message.events.get(type="bounced")
    assert (mail.status, event.kind, event.detail) == ("applied", kind, "He has left us")
    assert Suppression.objects.count() == suppressed


@pytest.mark.parametrize("asked", ["taro@example.jp", "TARO@example.jp", "number", "hex", "id"])
def test_a_message_is_found_by_address_number_and_message_id(message: Message, asked: str) -> None:
    words = {"number": str(message.pk), "hex": f"<{message.message_id}>", "id": message.public_id.hex}.get(asked, asked)
    assert by_hand.candidates(words) == [message]
    assert by_hand.candidates("x") == by_hand.candidates("9" * 30) == by_hand.candidates("b@example.jp") == []


def test_many_are_dismissed_at_once_and_can_be_read_again(admin_client: Client, message: Message) -> None:
    pks = [take(bounce(f"{name}@example.jp")).pk for name in "abc"]
    url = reverse("admin:feedback_incomingmail_changelist")
    assert "3 mails came back that could not be matched" in admin_client.get(reverse("admin:returns_count_changelist")).content.decode()
    page = admin_client.post(url, {"action": "dismiss", "_selected_action": pks}, follow=True).content.decode()
    assert "3 mails were dismissed." in page
    assert not IncomingMail.objects.filter(status__in=by_hand.OPEN).exists()
    assert "could not be matched" not in admin_client.get(reverse("admin:returns_count_changelist")).content.decode()
    admin_client.post(reverse("admin:feedback_incomingmail_read_again", args=pks[:1]))
    assert list(IncomingMail.objects.filter(status="unmatched").values_list("pk", flat=True)) == pks[:1]
    shown = admin_client.get(url, {"open": "open"}).content.decode()
    assert [f"/{pk}/change/" in shown for pk in pks] == [True, False, False]
    admin_client.post(reverse("admin:feedback_incomingmail_dismiss", args=pks[:1]))
    assert IncomingMail.objects.get(pk=pks[0]).status == "dismissed"


def test_who_may_only_look_can_do_nothing_of_it(client: Client, message: Message) -> None:
    mail = take(bounce())
    client.force_login(User.objects.create_user("eve", is_staff=True))
    for name in ("match", "dismiss", "read_again"):
        assert client.post(reverse(f"admin:feedback_incomingmail_{name}", args=[mail.pk])).status_code == 403
    assert client.get(reverse("admin:feedback_incomingmail_sample", args=[mail.pk])).status_code == 403
    assert client.post(reverse("admin:feedback_incomingmail_upload")).status_code == 403
    mail.refresh_from_db()
    assert mail.status == "unmatched"


# ------------------------------------------------------------------------------------------------------------------------ samples

SECRETS = ("bob", "recipient.example.jp", "198.51.100.7", "4fXk2p1Zz2z9", "yamada", "reset-link", "confidential")
TELLING = b"""\
Return-Path: <>
Received: from mx.recipient.example.jp (198.51.100.7) by in.shop.example.org with ESMTP id 4fXk2p1Zz2z9
From: Mail Delivery System <MAILER-DAEMON@mx.recipient.example.jp>
To: "Taro Yamada" <taro.yamada@shop.example.org>
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="4fXk2p1Zz2z9"

--4fXk2p1Zz2z9
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

PGJvYkByZWNpcGllbnQuZXhhbXBsZS5qcD46IHlhbWFkYSwgaHR0cHM6Ly94LmV4YW1wbGUvcmVzZXQtbGluawo=

--4fXk2p1Zz2z9
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.recipient.example.jp
X-Postfix-Queue-ID: 4fXk2p1Zz2z9

Final-Recipient: rfc822; bob@recipient.example.jp
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 Bob: user unknown [198.51.100.7]

--4fXk2p1Zz2z9
Content-Type: message/rfc822

From: Yamada <taro.yamada@shop.example.org>
To: bob@recipient.example.jp
Subject: confidential

Bob, your reset-link is here.

--4fXk2p1Zz2z9--
"""


def test_a_sample_tells_nobody_and_is_read_as_the_mail_was(admin_client: Client) -> None:
    text = samples.anonymised(TELLING)
    for secret in SECRETS:
        assert secret.lower() not in text.lower(), secret
    before, after = read(TELLING), read(text.encode())
    assert [(one.kind, one.category, one.action, one.status) for one in after.reports] == [
        (one.kind, one.category, one.action, one.status) for one in before.reports
    ]
    mail = take(TELLING)
    url = reverse("admin:feedback_incomingmail_sample", args=[mail.pk])
    assert "550 5.1.1" in admin_client.get(url).content.decode()
    download = admin_client.get(url, {"download": "1"})
    assert download.content.decode() == text
    assert "attachment" in download["Content-Disposition"]


@pytest.mark.parametrize("sample", [*NOTICES, *SPECIMENS], ids=str)
def test_samples_of_all_systems_are_read_as_the_mails_were(sample: Sample) -> None:
    before, after = read(sample.mail.encode()), read(samples.anonymised(sample.mail.encode()).encode())
    assert after.kind == before.kind
    assert [(one.kind, one.category) for one in after.reports] == [(one.kind, one.category) for one in before.reports]
    assert "carol" not in samples.anonymised(sample.mail.encode())


@pytest.mark.parametrize("raw", [b"", b"\0\xff" * 1000, b"From: a\n" * 10_000, b"a@b.example " * 50_000])
def test_no_mail_is_too_broken_for_a_sample(raw: bytes) -> None:
    assert len(samples.anonymised(raw)) <= samples.LONGEST
