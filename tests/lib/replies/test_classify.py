"""Each row of the tables decides a sample; what the text says outweighs the code; nothing doubtful is hard."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.lib.replies import classify, tables, words
from mailhub.lib.replies.verdicts import ADVICE, FAULTS, Category, Kind, Pause

TABLES = {
    "en": tables.english(),
    "hints": tables.hints(),
    **{language.name: language.rows for language in tables.languages()},
    **{system.name: system.rows for system in tables.systems()},
}


class Said(NamedTuple):
    table: str
    category: str
    host: str
    text: str


def read(path: Path) -> list[Said]:
    said = []
    table = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            table = line.strip("[]")
        elif line and not line.startswith("#"):
            category, _colon, rest = line.partition(": ")
            host, arrow, text = rest.partition(" > ")
            said.append(Said(table, category, host if arrow else "", text if arrow else rest))
    return said


REPLIES = read(Path(__file__).parent / "replies.txt")


@pytest.mark.parametrize("said", REPLIES, ids=lambda said: f"{said.table}: {said.text[:60]}")
def test_a_reply_means_what_its_sample_says_by_a_row_of_that_table(said: Said) -> None:
    verdict = classify.classify(said.text, provider=said.host)
    assert verdict.category == said.category
    assert verdict.rule.startswith(f"{said.table}: ")


def test_no_two_rows_have_one_name() -> None:
    names = [row.name for rows in TABLES.values() for row in rows]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("table", TABLES)
def test_every_row_decides_a_sample(table: str) -> None:
    decided = {classify.classify(said.text, provider=said.host).rule for said in REPLIES if said.table == table}
    assert {row.name for row in TABLES[table]} - decided == set()


@pytest.mark.parametrize("detail", sorted(tables.codes("enhanced")))
def test_a_code_that_names_a_detail_decides_where_words_say_nothing(detail: str) -> None:
    verdict = classify.classify(f"550 5.{detail} no", provider="mx.example.net")
    assert (verdict.category, verdict.weight) == (tables.codes("enhanced")[detail], classify.CODED)


@pytest.mark.parametrize(
    ("reply", "category"),
    [
        ("550 5.7.1 User unknown", "user_unknown"),
        ("550 5.1.1 Mailbox is full", "mailbox_full"),
        ("550 5.1.1 blocked using zen.spamhaus.org", "blocked"),
        ("554 5.0.0 Message looks like spam", "spam"),
        ("550 5.2.1 no such user", "user_unknown"),
        ("421 4.7.0 too many connections", "rate_limited"),
    ],
)
def test_the_text_outweighs_the_code(reply: str, category: str) -> None:
    assert classify.classify(reply).category == category


@pytest.mark.parametrize(
    ("reply", "category"),
    [
        ("550 mailboxfull@recipient.example: no such user", "user_unknown"),
        ("550 <userunknown@recipient.example>... Mailbox full", "mailbox_full"),
        ("550 spam.recipient.example refuses: no such user", "user_unknown"),
        ("550 user unknown, see https://recipient.example/help/mailbox-full", "user_unknown"),
    ],
)
def test_words_in_addresses_hosts_and_links_are_no_evidence(reply: str, category: str) -> None:
    assert classify.classify(reply).category == category


@pytest.mark.parametrize(
    "reply",
    [
        "450 4.1.1 <bob@recipient.example>: Recipient address rejected: unverified address: Address verification in progress",
        "450 4.1.2 <bob@recipient.example>: Recipient address rejected: Domain not found",
        "550 5.1.1 user unknown, please try again later",
        "451 4.1.1 user lookup failed temporarily",
        "550 5.1.1 <bob@recipient.example>: Recipient address rejected: policy",
        "550 5.1.1 Message blocked due to spam content",
        "550 5.7.1 Recipient not authorized, your IP has been found on a block list",
        "550 Sender address rejected: User unknown in local recipient table",
        "550 <ann@sender.example>: Sender address rejected: Domain not found",
        "553 sorry, your envelope sender domain must exist (#5.7.1)",
        "550 Domain of sender address ann@sender.example does not exist",
        "550 Invalid HELO name; host unknown",
        "550 Reverse DNS does not exist for your host",
        "550 your domain does not exist in our whitelist",
        "550 5.7.27 Sender domain has a null MX",
        "550 Unknown user: denied by policy",
        "554 Too many unknown users from your ip",
        "550 mailbox unavailable",
        "550 Requested action not taken",
        "550 not found",
        "554 Unknown error while processing",
        "550 5.3.5 unknown error",
        "550 From address is not valid",
        "550 invalid message-id",
        "554 5.4.4 unable to look up host temporarily; DNS server failure",
        "552 mailbox full; user may no longer be active",
        "550 Blocked: message contains unknown virus",
    ],
)
def test_a_reply_that_does_not_prove_the_address_dead_is_soft(reply: str) -> None:
    assert classify.classify(reply).kind == Kind.SOFT


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 no such user",
        "550 No such user here",
        "553 5.1.2 Host unknown",
        "556 5.1.10 Recipient domain has a null MX",
        "550 5.1.1",
    ],
)
def test_a_reply_that_proves_the_address_dead_is_hard_and_the_address_is_suppressed(reply: str) -> None:
    verdict = classify.classify(reply)
    assert verdict.kind == Kind.HARD
    assert verdict.advice.suppress


def test_before_a_recipient_is_named_nothing_is_wrong_with_one() -> None:
    assert classify.classify("550 user unknown", command="RCPT").category == Category.USER_UNKNOWN
    assert classify.classify("550 user unknown", command="MAIL").category == Category.REJECTED
    assert classify.classify("550 user unknown", command="CONNECT").category == Category.BLOCKED


@pytest.mark.parametrize(
    ("reply", "command"),
    [
        ("host mx said: 550 no (in reply to RCPT TO command)", "RCPT"),
        ("SMTP error from remote mail server after MAIL FROM:<a@b.example>: 550 no", "MAIL"),
        ("SMTP error from remote mail server after end of data: 550 no", "DATA"),
        ("mx refused to talk to me: 554 no", "CONNECT"),
        ("Remote host said: 550 no [RCPT_TO]", "RCPT"),
        ("550 no", ""),
    ],
)
def test_the_command_that_was_answered_is_read_from_the_text(reply: str, command: str) -> None:
    assert classify.command_in(reply) == command


def test_every_category_has_a_fault_and_an_advice() -> None:
    assert set(FAULTS) == set(ADVICE) == set(Category)
    assert ADVICE[Category.AUTH_FAILURE].pause == Pause.SENDER
    assert ADVICE[Category.RATE_LIMITED].retry is not None
    assert not any(advice.suppress for category, advice in ADVICE.items() if category != Category.COMPLAINT)


@pytest.mark.parametrize("label", sorted(tables.labels()))
def test_the_name_that_a_service_gives_a_reason_counts_where_the_reply_says_nothing(label: str) -> None:
    assert classify.labelled_or_said(label.upper(), "").category == tables.labels()[label]
    assert classify.labelled_or_said(label, "552 5.2.2 mailbox full").category == Category.MAILBOX_FULL


@pytest.mark.parametrize(
    ("text", "code", "enhanced"),
    [
        ("550 5.1.1 no", 550, "5.1.1"),
        ("550-5.7.26 one 550 5.7.26 two", 550, "5.7.26"),
        ("said: 421 4.7.0 no", 421, "4.7.0"),
        ("554 5.0.0 (#5.2.2)", 554, "5.2.2"),
        ("host mx[192.0.2.250] port 25", None, ""),
        ("see https://a.example/550/5.1.1", None, "5.1.1"),
        ("exceeds 55000 bytes", None, ""),
        ("version 5.10.2.1", None, ""),
        ("user550@a.example", None, ""),
    ],
)
def test_codes_are_found_in_text(text: str, code: int | None, enhanced: str) -> None:
    assert words.code(text) == code
    assert words.enhanced(text) == enhanced


@given(st.text(max_size=3000), st.text(max_size=50), st.sampled_from(["", "MAIL", "RCPT"]))
def test_any_text_gets_a_verdict(text: str, provider: str, command: str) -> None:
    verdict = classify.classify(text, provider=provider, command=command)
    assert verdict.category in Category
