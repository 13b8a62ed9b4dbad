"""Bounces of many mail systems, complaints, and what only looks like either."""

from __future__ import annotations

import pytest

from mailhub.feedback import bounces
from mailhub.feedback.reports import MailKind, Reading
from mailhub.lib.replies.verdicts import Category, Kind
from tests.feedback import mails, specimens
from tests.feedback.mails import Harmless, Result, Sample

SAMPLES = [*mails.NOTICES, *mails.STATUSES, *mails.COMPLAINTS, *mails.NOTICES_BY_SNS, *specimens.SPECIMENS]


def read(text: str) -> Reading:
    return bounces.read(text.encode())


def results(reading: Reading) -> list[Result]:
    return [(report.recipient, report.kind.value, report.category.value) for report in reading.reports]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_recipients_kind_and_reason_are_read(sample: Sample) -> None:
    assert results(read(sample.mail)) == sample.results


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_line_ends_make_no_difference(sample: Sample) -> None:
    data = sample.mail.encode()
    assert bounces.read(data.replace(b"\n", b"\r\n")) == bounces.read(data)


@pytest.mark.parametrize("harmless", [*mails.HARMLESS, *specimens.LOOKALIKES], ids=str)
def test_what_is_neither_bounce_nor_complaint_is_told_apart(harmless: Harmless) -> None:
    reading = read(harmless.mail)
    assert reading.kind == harmless.kind
    assert [report for report in reading.reports if report.kind != Kind.OTHER] == []


def test_a_report_holds_what_was_said_and_by_whom() -> None:
    text = mails.parts(
        "Content-Type: text/plain\n\nNo.\n",
        mails.status(
            """
Original-Recipient: rfc822; robert@recipient.example
Final-Recipient: rfc822; bob@recipient.example
Action: failed
Status: 5.0.0
Remote-MTA: dns; mx.recipient.example
Diagnostic-Code: smtp; 552 5.2.2 over
 quota
"""
        ),
        mails.RETURNED,
    )
    (report,) = read(text).reports
    assert report.recipient == "bob@recipient.example"
    assert report.original_recipient == "robert@recipient.example"
    assert (report.action, report.code, report.status) == ("failed", 552, "5.2.2")
    assert report.diagnostic == "552 5.2.2 over quota"
    assert report.remote == "mx.recipient.example"
    assert not report.verdict.advice.suppress


@pytest.mark.parametrize(
    "sample",
    [mails.STATUSES[0], mails.NOTICES[0], mails.COMPLAINTS[0], next(each for each in mails.NOTICES if "FML" in each.name)],
    ids=str,
)
def test_the_message_id_of_the_returned_mail_is_kept(sample: Sample) -> None:
    assert read(sample.mail).returned["message-id"] == "<m1@sender.example>"


def test_a_delay_never_ends_an_address() -> None:
    fields = "Final-Recipient: rfc822; bob@recipient.example\nAction: delayed\nStatus: 4.4.4\nDiagnostic-Code: smtp; host not found\n"
    (report,) = read(mails.parts("Content-Type: text/plain\n\nLater.\n", mails.status(fields))).reports
    assert (report.action, report.kind, report.category) == ("delayed", Kind.SOFT, Category.HOST_UNKNOWN)


def test_a_notice_that_the_returned_mail_is_longer_than_does_not_take_its_words_for_its_own() -> None:
    sample = next(each for each in mails.NOTICES if each.name == "qmail")
    assert "spam" in sample.mail
    assert results(read(sample.mail)) == mails.UNKNOWN


def test_of_a_bounce_of_a_bounce_the_outer_one_counts() -> None:
    inner = mails.STATUSES[0].mail.replace("=_edge", "=_inner")
    text = mails.parts(
        "Content-Type: text/plain\n\nNo.\n",
        mails.status("Final-Recipient: rfc822; postmaster@recipient.example\nAction: failed\nStatus: 5.2.2\n"),
        f"Content-Type: message/rfc822\n\n{inner}",
    )
    assert results(read(text)) == [("postmaster@recipient.example", "soft", "mailbox_full")]


def test_the_same_recipient_is_reported_once() -> None:
    fields = "Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.1.1\n\n"
    assert (
        results(read(mails.parts("Content-Type: text/plain\n\nNo.\n", mails.status(fields + fields.replace("bob", "BOB")))))
        == mails.UNKNOWN
    )


@pytest.mark.parametrize("sample", mails.COMPLAINTS[:4], ids=str)
def test_a_complaint_says_its_type(sample: Sample) -> None:
    reading = read(sample.mail)
    assert reading.kind == MailKind.COMPLAINT
    assert {report.feedback_type for report in reading.reports} == {"abuse"}


def test_our_own_mark_in_the_returned_mail_is_kept_where_the_loop_hides_the_address() -> None:
    returned = mails.REDACTED.replace("To: undisclosed", "To: undisclosed\nX-Our-Mark: 42.abc")
    reading = read(mails.feedback("Feedback-Type: abuse", returned))
    assert reading.returned["x-our-mark"] == "42.abc"
