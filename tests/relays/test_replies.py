"""Replies as servers say them, and what is decided on each. Samples are from public documentation and from logs that people published."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.relays import replies
from mailhub.relays.base import Deferred, Fault, Refused, RelayDown, Reply, SendError
from mailhub.relays.replies import FOR_PACE, FOR_PERIOD, FOR_STAFF, Phase

MAIL, RCPT, DATA, DOT = Phase


def said(text: str) -> Reply:
    """From the lines of a reply as they stand on the wire."""
    lines = text.encode().split(b"\n")
    return replies.read(int(lines[-1][:3]), [line[4:] for line in lines])


def judge(text: str, phase: Phase = RCPT) -> SendError:
    return replies.judge(said(text), phase)


# ------------------------------------------------------------------------------------------------------------ the relay rests


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        # Gmail and Workspace
        ("550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to", FOR_PERIOD),
        ("550-5.4.5 Daily user sending quota exceeded. For more information on\n550 5.4.5 sending limits", FOR_PERIOD),
        ("550 5.7.1 Daily SMTP relay sending limit exceeded for this customer.", FOR_PERIOD),
        ("450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error.", FOR_PERIOD),
        ("421 4.4.5 Try again later.", FOR_PERIOD),
        ("452 5.4.5 limit reached", FOR_PERIOD),
        # Amazon SES
        ("454 Throttling failure: Daily message quota exceeded.", FOR_PERIOD),
        ("454 Throttling failure: Maximum sending rate exceeded.", FOR_PACE),
        # SendGrid
        ("451 You have exceeded your messaging limits", FOR_PERIOD),
        ("550 Maximum credits exceeded", FOR_PERIOD),
        # Microsoft 365
        ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message", FOR_PERIOD),
        ("550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", FOR_PERIOD),
        ("432 4.3.2 Concurrent connections limit exceeded", FOR_PACE),
        ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", FOR_PACE),
        ("421 4.4.2 Message submission rate for this client has exceeded the configured limit", FOR_PACE),
        # Hosters
        ("550 Domain example.com has exceeded the max emails per hour (100/100 (100%)) allowed. Message discarded.", FOR_PERIOD),
        ("450 4.7.1 Error: too many mails sent per hour, limit is 1500", FOR_PERIOD),
        ("452 4.7.1 Sending limit exceeded", FOR_PERIOD),
        ("550 5.7.1 outgoing quota exceeded", FOR_PERIOD),
        ("450 4.7.1 rate limit exceeded", FOR_PACE),
        ("421 4.7.0 Too many concurrent SMTP connections", FOR_PACE),
        ("421 too many connections from your host", FOR_PACE),
        ("421 4.7.0 Too many simultaneous connections", FOR_PACE),
        ("451 4.7.1 Too many messages per minute", FOR_PACE),
        ("452 Hourly quota reached", FOR_PERIOD),
    ],
)
@pytest.mark.parametrize("phase", [MAIL, RCPT, DOT])
def test_a_quota_of_ours_rests_the_relay_and_never_counts_against_the_address(text: str, rest: timedelta, phase: Phase) -> None:
    decision = judge(text, phase)
    assert type(decision) is RelayDown
    assert decision.rest == rest


@pytest.mark.parametrize(
    "text",
    [
        "530 5.7.0 Authentication Required",
        "530 5.7.0 Must issue a STARTTLS command first",
        "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM",
        "534 5.7.9 Application-specific password required",
        "535 5.7.8 Error: authentication failed",
        "538 5.7.11 Encryption required for requested authentication mechanism",
        "503 5.5.1 Error: send AUTH command first",
        "550 5.7.1 You must authenticate first",
        "550 5.7.1 Your account has been suspended",
        "550 Account is disabled",
    ],
)
@pytest.mark.parametrize("phase", [MAIL, RCPT])
def test_an_account_that_is_not_let_in_rests_until_staff_have_looked(text: str, phase: Phase) -> None:
    decision = judge(text, phase)
    assert type(decision) is RelayDown
    assert decision.rest == FOR_STAFF


@pytest.mark.parametrize(
    "text",
    [
        "554 5.7.1 <r@example.net>: Relay access denied",
        "550 5.7.1 Unable to relay",
        "550 relay not permitted",
        "550 5.7.64 TenantAttribution; Relay Access Denied",
        "553 sorry, relaying denied from your location",
    ],
)
def test_denied_relaying_is_the_accounts_trouble_until_a_mail_was_taken(text: str) -> None:
    before, after = (replies.judge(said(text), RCPT, let_in=let_in) for let_in in (False, True))
    assert type(before) is RelayDown
    assert type(after) is Refused
    assert after.fault != Fault.RECIPIENT


# -------------------------------------------------------------------------------------------------------------------- later


@pytest.mark.parametrize(
    "text",
    [
        "451 4.7.1 Greylisting in action, please come back later",
        "450 4.2.0 <r@example.net>: Recipient address rejected: Greylisted",
        "452 4.2.2 The mailbox is over its quota, please try again later",
        "452 4.2.2 The email account that you tried to reach is over quota",
        "452 4.1.1 <r@example.net> mailbox exceeded its daily limit",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages",
        "452 4.3.1 Insufficient system storage",
        "452 4.5.3 Too many recipients",
        "451 4.3.0 Temporary lookup failure",
        "421 4.3.2 Service shutting down",
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
        "451 4.7.0 Too many messages on this connection",
        "450 4.7.26 This mail is unauthenticated",
        "499 strange",
        # Both sides disagree about where they are: nothing is known about the mail.
        "500 5.5.2 Syntax error",
        "503 5.5.1 Bad sequence of commands",
    ],
)
@pytest.mark.parametrize("phase", Phase)
def test_what_may_be_better_later_is_deferred(text: str, phase: Phase) -> None:
    assert type(judge(text, phase)) is Deferred


def test_an_old_servers_552_to_a_recipient_means_too_many_of_them() -> None:
    assert type(judge("552 Too many recipients", RCPT)) is Deferred
    assert type(judge("552 5.2.2 Mailbox full", RCPT)) is Refused
    assert type(judge("552 Message exceeds fixed maximum message size", MAIL)) is Refused


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("451 4.7.1 Greylisted, please try again in 300 seconds", 300),
        ("450 4.2.0 Greylisted, see https://example.net/ (retry in 5 minutes)", 300),
        ("451 Please wait 60 seconds and try again", 60),
        ("421 Try again after 2 hours", 7200),
        ("451 try again in 99999 hours", 4 * 3600),
        ("451 4.7.1 try again later", None),
        ("451 4.3.0 error 300", None),
    ],
)
def test_a_server_that_says_how_long_to_wait_is_heard(text: str, wait: int | None) -> None:
    decision = judge(text)
    assert type(decision) is Deferred
    assert decision.retry_after == (None if wait is None else timedelta(seconds=wait))


# -------------------------------------------------------------------------------------------------------------------- never


@pytest.mark.parametrize(
    "text",
    [
        "550 5.1.1 <r@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550 5.1.1 double-checking the address",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        "556 5.1.10 The domain takes no mail",
        "550 5.1.2 Bad destination system",
        "553 5.1.3 Bad recipient address syntax",
        "551 5.1.6 Moved",
        "550 Unknown user r@docomo.ne.jp",
        "550 No such user here",
        "550 <r@ezweb.ne.jp>: User unknown",
        "550 Requested action not taken: mailbox not found",
        "550 Invalid recipient r@softbank.ne.jp",
        "554 delivery error: dd This user doesn't have a yahoo.co.jp account",
        "550 5.0.0 Mailbox does not exist",
        "550 sorry, no mailbox here by that name",
    ],
)
@pytest.mark.parametrize("phase", [RCPT, DOT])
def test_only_a_proven_fault_of_the_address_is_the_recipients(text: str, phase: Phase) -> None:
    decision = judge(text, phase)
    assert type(decision) is Refused
    assert decision.fault == Fault.RECIPIENT


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # 5.7.x is never the recipient's.
        ("550 5.7.1 Message rejected as spam", Fault.CONTENT),
        ("554 5.7.1 <r@example.net>: Recipient address rejected: Access denied", Fault.SENDER),
        ("550-5.7.26 Your email has been blocked because the sender is unauthenticated.\n550 5.7.26 Gmail requires it", Fault.SENDER),
        ("550 5.7.25 The IP address sending this message does not have a PTR record", Fault.POLICY),
        ("550 5.7.515 Access denied, sending domain example.com does not meet the required authentication level", Fault.SENDER),
        ("550 5.7.27 Sender domain has a null MX", Fault.SENDER),
        # A block that hides behind an unknown user, as carriers do.
        ("550 5.1.1 User unknown, blocked for abuse", Fault.CONTENT),
        ("550 Unknown user: denied by policy", Fault.POLICY),
        # Full or closed for now: proves nothing for good.
        ("552 5.2.2 The mailbox is full", Fault.POLICY),
        ("550 5.2.1 The account you tried to reach is inactive", Fault.POLICY),
        # A code that says nothing, with words that say nothing.
        ("550 Requested action not taken", Fault.POLICY),
        ("550 5.4.1 Recipient address rejected: Access denied.", Fault.POLICY),
        ("554 5.0.0 Transaction failed", Fault.POLICY),
        # The sender's
        ("553 5.1.8 <x@example.com>: Sender address rejected: Domain not found", Fault.SENDER),
        ("550 5.1.1 <x@example.com>: Sender address rejected: User unknown in local recipient table", Fault.SENDER),
        ("554 Message rejected: Email address is not verified. The following identities failed the check", Fault.SENDER),
        # The content's
        ("552 5.3.4 Message size exceeds fixed limit", Fault.CONTENT),
        ("552 5.2.3 Message too large for this mailbox", Fault.CONTENT),
        ("554 5.6.0 Malformed header", Fault.CONTENT),
    ],
)
@pytest.mark.parametrize("phase", [RCPT, DOT])
def test_all_other_refusals_leave_the_address_alone(text: str, fault: Fault, phase: Phase) -> None:
    decision = judge(text, phase)
    assert type(decision) is Refused
    assert decision.fault == fault


@pytest.mark.parametrize("text", ["550 5.1.1 User unknown", "550 No such user", "553 5.1.7 Bad sender", "554 5.0.0 No", "550 5.1.10 x"])
def test_before_a_recipient_was_named_no_recipient_is_at_fault(text: str) -> None:
    decision = judge(text, MAIL)
    assert type(decision) is Refused
    assert decision.fault == Fault.SENDER


def test_a_mail_too_large_is_the_contents_fault_from_the_first_command_on() -> None:
    for text in ("552 Message size exceeds fixed maximum message size", "552 5.3.4 Too big"):
        decision = judge(text, MAIL)
        assert type(decision) is Refused
        assert decision.fault == Fault.CONTENT


@given(st.integers(200, 599), st.text(max_size=80), st.sampled_from(Phase), st.booleans())
def test_every_reply_is_decided_on_and_only_5xx_or_confusion_can_end_a_mail(code: int, text: str, phase: Phase, let_in: bool) -> None:
    decision = replies.judge(Reply(code, "", text), phase, let_in=let_in)
    assert type(decision) in (Refused, Deferred, RelayDown)
    if code < 500:
        assert type(decision) is not Refused


@given(st.integers(500, 599), st.integers(0, 99), st.sampled_from(Phase), st.text(max_size=40))
def test_5_7_never_suppresses_a_recipient(code: int, detail: int, phase: Phase, text: str) -> None:
    decision = replies.judge(Reply(code, f"5.7.{detail}", f"User unknown {text}"), phase)
    assert not (type(decision) is Refused and decision.fault == Fault.RECIPIENT)


# ------------------------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("250 2.1.5 Fine", Reply(250, "2.1.5", "Fine")),
        ("250", Reply(250, "", "")),
        ("250 ", Reply(250, "", "")),
        ("550-5.1.1 one\n550-5.1.1 two\n550 5.1.1 three", Reply(550, "5.1.1", "one two three")),
        ("550-one\n550 5.7.1 two", Reply(550, "5.7.1", "one two")),
        ("550 4.2.1 a code of another class is words", Reply(550, "", "4.2.1 a code of another class is words")),
        ("250 2.0.0", Reply(250, "2.0.0", "")),
        ("554 5.7.515x", Reply(554, "", "5.7.515x")),
        ("550 日本", Reply(550, "", "日本")),
    ],
)
def test_a_reply_is_read_from_its_lines(text: str, reply: Reply) -> None:
    assert said(text) == reply


def test_a_reply_is_cut_and_holds_nothing_that_could_not_be_stored_or_shown() -> None:
    assert len(replies.read(550, [b"x" * 400, b"y" * 400]).text) == 500
    assert replies.read(550, [b"nul \0 and \x1b[31m \xff"]).text == "nul \ufffd and \ufffd[31m \ufffd"


@given(st.integers(200, 599), st.lists(st.binary(max_size=300), max_size=5))
def test_whatever_bytes_come_a_reply_can_be_made_of_them(code: int, lines: list[bytes]) -> None:
    reply = replies.read(code, lines)
    assert len(reply.text) <= 500
    assert reply.text.isprintable()
