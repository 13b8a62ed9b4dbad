"""What MailHub believes, held against what the server saw: recipient by recipient, reply by reply. Nothing here asks a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailhub.demo.receiver import ACCEPTED, Answer

# Message.Status in which MailHub believes that a server has the mail; reports may follow what a relay accepted.
GONE = frozenset({"sent", "delivered"})
# States in which it believes that none has it, and nothing more will happen.
KEPT = frozenset({"bounced", "failed", "suppressed", "canceled"})


@dataclass(frozen=True, slots=True)
class Mail:
    """A message of this run."""

    recipient: str
    #: without angle brackets
    message_id: str
    #: Message.Status
    status: str


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt that MailHub has recorded since the run began, of this run's messages or of others."""

    recipient: str
    message_id: str
    #: None where no server replied
    code: int | None


@dataclass(frozen=True, slots=True)
class Reckoning:
    #: mails of this run that the server took, counted there
    received: int
    #: mails that it took besides, of runs that were broken off
    others: int
    #: replies of the server to recipients, by their first digit
    replies: dict[int, int]
    #: mails that MailHub calls sent and the server has not got
    lost: int
    #: mails that the server has got more often than once
    doubled: int
    #: what does not add up, in words
    problems: list[str]


def reckon(mails: Sequence[Mail], tries: Sequence[Try], answers: Sequence[Answer]) -> Reckoning:
    """`answers`: all that the server has given since the run began."""
    got = Counter((answer.recipient, answer.message_id) for answer in answers if answer.code == ACCEPTED)
    problems = []
    lost = doubled = 0
    for mail in mails:
        copies = got[mail.recipient, mail.message_id]
        if copies > 1:
            doubled += 1
            problems.append(f"doubled: {mail.recipient} got {copies} copies of <{mail.message_id}>")
        if mail.status in GONE and not copies:
            lost += 1
            problems.append(f"lost: <{mail.message_id}> to {mail.recipient} is {mail.status}, but the server has not got it")
        elif mail.status in KEPT and copies:
            problems.append(f"<{mail.message_id}> to {mail.recipient} is {mail.status}, but the server has got it")
        elif mail.status not in GONE | KEPT:
            problems.append(f"not settled: <{mail.message_id}> to {mail.recipient} is {mail.status}")
    problems += _uneven(tries, answers)
    problems += _strange(tries, answers)
    ours = {(mail.recipient, mail.message_id) for mail in mails}
    received = sum(copies for mail, copies in got.items() if mail in ours)
    return Reckoning(
        received=received,
        others=got.total() - received,
        replies=dict(Counter(answer.code // 100 for answer in answers)),
        lost=lost,
        doubled=doubled,
        problems=problems,
    )


def _uneven(tries: Sequence[Try], answers: Sequence[Answer]) -> list[str]:
    """Each reply that the server gave is an attempt in MailHub's books, and each attempt with a reply is one of the server's."""
    ours = Counter((each.recipient, each.code) for each in tries if each.code is not None)
    theirs = Counter((answer.recipient, answer.code) for answer in answers)
    return [
        f"{recipient}: the server said {code} {theirs[recipient, code]} times, and MailHub has recorded it {ours[recipient, code]} times"
        for recipient, code in sorted(ours.keys() | theirs.keys())
        if ours[recipient, code] != theirs[recipient, code]
    ]


def _strange(tries: Sequence[Try], answers: Sequence[Answer]) -> list[str]:
    known = {(each.recipient, each.message_id) for each in tries}
    return [
        f"unknown: the server got <{answer.message_id}> for {answer.recipient}, which MailHub has not sent"
        for answer in answers
        if answer.code == ACCEPTED and (answer.recipient, answer.message_id) not in known
    ]


def sums(accepted: int, left_out: int, contacts: int, counters: Mapping[str, int], rows: Mapping[str, int]) -> list[str]:
    """Whether everybody is accounted for: a campaign's contacts, and its batch's counters against its messages counted one by one."""
    problems = []
    if accepted + left_out != contacts:
        problems.append(f"{contacts} contacts are on the lists, but {accepted} accepted and {left_out} left out are not as many")
    for name in sorted(counters.keys() | rows.keys()):
        if counters.get(name, 0) != rows.get(name, 0):
            problems.append(f"the campaign counts {counters.get(name, 0)} {name}, and {rows.get(name, 0)} of its messages are")
    return problems
