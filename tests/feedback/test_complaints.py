"""Feedback loops from end to end: the mail that a loop sends, to the event and the suppression."""

from __future__ import annotations

from typing import Any

import pytest

from mailhub.delivery.models import Message, Suppression
from mailhub.feedback import incoming
from mailhub.feedback.models import IncomingMail
from mailhub.senders import return_path
from tests.delivery.world import Status, post
from tests.feedback.test_incoming import BOUNCES

pytestmark = pytest.mark.django_db

TARO = "taro@example.jp"


def arf(fields: str = "", returned: str = "", *, kind: str = "abuse") -> bytes:
    """RFC 5965: to the address that was entered at the loop."""
    return f"""\
From: feedback@mail.example.jp
To: fbl@tea.example
Subject: FW: Tea
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b
Content-Type: text/plain

This is a report of an e-mail that a reader called unwanted.

--b
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
{fields}
--b
Content-Type: message/rfc822

From: shop@tea.example
{returned}Subject: Tea

Dear reader

--b--
""".encode()


def header(message: Message) -> str:
    return f"X-MailHub-ID: {return_path.token(message.public_id)}\n"


def take(raw: bytes) -> str:
    return incoming.take(raw, IncomingMail.Source.SMTP, rcpt_to="fbl@tea.example").status


def told(message: Message) -> tuple[str, list[str], list[tuple[str, str]]]:
    message.refresh_from_db()
    events = list(message.events.order_by("pk").values_list("type", flat=True))
    return message.status, events, list(Suppression.objects.values_list("address", "reason"))


COMPLAINED = (Status.COMPLAINED, ["complained"], [(TARO, "complaint")])
UNTOUCHED: Any = (Status.SENT, [], [])


NAMED = (
    f"Original-Rcpt-To: <{TARO}>",
    "",
    "Original-Rcpt-To: redacted@example.jp",
    "Original-Rcpt-To: 2jmj7l5rSw0yVbvlWAYkK9xw@example.jp",
)


@pytest.mark.parametrize("named", NAMED)
def test_a_complaint_that_returns_our_header_is_recorded_and_suppresses(named: str, message: Message) -> None:
    """Most loops leave out who complained, or write something else in the place (RFC 6590)."""
    assert (take(arf(f"{named}\n", header(message))), told(message)) == ("applied", COMPLAINED)


@pytest.mark.parametrize("place", ["field", "header"])
def test_a_redacted_complaint_is_known_by_the_return_path_that_the_mail_had(place: str, message: Message) -> None:
    path = return_path.make(BOUNCES, message.public_id)
    raw = arf(f"Original-Mail-From: <{path}>\n") if place == "field" else arf("", f"Return-Path: <{path}>\n")
    assert (take(raw), told(message)) == ("applied", COMPLAINED)
    assert IncomingMail.objects.get().proof == "return_path"


@pytest.mark.parametrize(
    "forged",
    [
        arf(f"Original-Rcpt-To: {TARO}\n"),
        arf(f"Original-Rcpt-To: {TARO}\n", "X-MailHub-ID: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"),
        arf(f"Original-Mail-From: <bounces+{'a' * 52}@bounce.tea.example>\nOriginal-Rcpt-To: {TARO}\n"),
    ],
    ids=["by address alone", "by a header of nobody's", "by a return path of nobody's"],
)
def test_a_forged_complaint_changes_nothing(forged: bytes, message: Message) -> None:
    assert (take(forged), told(message)) == ("unmatched", UNTOUCHED)


def test_a_message_id_names_a_mail_and_proves_nothing(message: Message) -> None:
    assert (take(arf("", f"Message-ID: <{message.message_id}>\n")), told(message)) == ("unproven", UNTOUCHED)


def test_who_has_a_mail_of_their_own_cannot_complain_for_another(message: Message) -> None:
    [own] = post(message.sender, "mallory@example.com")
    assert take(arf(f"Original-Rcpt-To: {TARO}\n", header(own))) == "unproven"
    assert told(message) == UNTOUCHED
    assert not own.events.exists()


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure", "dmarc"])
def test_what_is_no_complaint_suppresses_nobody(kind: str, message: Message) -> None:
    take(arf(f"Original-Rcpt-To: {TARO}\n", header(message), kind=kind))
    assert told(message) == UNTOUCHED


def test_the_same_complaint_counts_once_and_a_bounce_before_it_is_outweighed(message: Message) -> None:
    Message.objects.filter(pk=message.pk).update(status=Status.BOUNCED)
    raw = arf(f"Original-Rcpt-To: {TARO}\n", header(message))
    assert [take(raw), take(raw)] == ["applied", "applied"]
    assert told(message) == COMPLAINED
