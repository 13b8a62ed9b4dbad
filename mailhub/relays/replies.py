"""What an SMTP server's reply means for the mail: the tables, and the four decisions made by them.

A refusal counts against the recipient's address only where the reply proves it. Quota and account replies are about us: the relay
rests, the mail waits. Enhanced codes: RFC 3463 and its registry. tests/relays/test_replies.py has a sample for each row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from mailhub.lib.replies import classify, verdicts
from mailhub.relays.base import Deferred, Fault, Refused, RelayDown, Reply, SendError

ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")


class Phase(StrEnum):
    """Where in a transaction a reply came."""

    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "the end of the mail"


def words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# ------------------------------------------------------------------------------------------------------- the relay, not the mail

# Rests: what ends by the clock is asked again hourly, what is a matter of pace soon, what staff must mend seldom.
FOR_PERIOD = timedelta(hours=1)
FOR_PACE = timedelta(minutes=1)
FOR_STAFF = timedelta(minutes=15)

# We are not let in: 530 log in first, 534 mechanism too weak, 535 wrong password, 538 encryption needed.
ACCOUNT_CODES = frozenset({530, 534, 535, 538})
ACCOUNT = words(
    r"authentication (is )?required|must (first )?(be )?authenticate|authenticate first|send auth |auth command first"
    r"|must issue a starttls|account (is |has been |was )?(suspended|disabled|blocked|locked|terminated|deactivated)"
)
# Who is not let in may hear of it by the recipient too; once the server has taken a mail it is about this recipient.
RELAYING = words(r"relay(ing)?( access)? (is )?(denied|not (permitted|allowed)|prohibited)|(not|unable to|cannot|do not) relay\b")

# "over quota" of a mailbox is the recipient's; these are ours.
MAILBOX = words(
    r"\b[45]\.2\.2\b|mail ?box|inbox|storage|disk|user(\S* \S+)? is over|the user you are trying to contact|message size|too large"
)
PERIOD = r"\b(daily|hourly|monthly|day|hours?|month)\b"
LIMIT = r"\b(limits?|quotas?|maximum|max|allowance)\b"
SENDING = r"\b(sending|sender|send|messaging|messages?|submission|relay|outgoing|outbound|e?mails?|credits?)"
QUOTAS: Sequence[tuple[re.Pattern[str], timedelta]] = (
    (words(r"\b[45]\.4\.5\b"), FOR_PERIOD),
    (words(rf"{PERIOD}.*{LIMIT}|{LIMIT}.*{PERIOD}"), FOR_PERIOD),
    (words(rf"{SENDING} rate\b|rate[ -]?limit|throttl|too many (\w+ ){{0,3}}(per|in a|a) (second|minute)"), FOR_PACE),
    (words(r"(concurrent|simultaneous|parallel) connections|too many (\w+ ){0,3}connections|thread limit|connection limit"), FOR_PACE),
    (words(rf"{SENDING} {LIMIT}|submissionquota|maximum credits exceeded|exceeded the max"), FOR_PERIOD),
)

# ----------------------------------------------------------------------------------------------------------------- this connection

# What ends with it: open another one.
CONNECTION = words(
    r"too many \w+ (in|on|for|per|this) (this |the |one |a )?(connection|session)|max\w* (message|mail)s? per (connection|session)"
)
# The two sides disagree about where they are.
CONFUSED = frozenset({500, 502, 503})

# ---------------------------------------------------------------------------------------------------------------------- the mail

# The words of lib/replies in those of an attempt; a recipient's fault that is not proven is nobody's, and so a matter of policy.
FAULTS = {verdicts.Fault.SENDER: Fault.SENDER, verdicts.Fault.CONTENT: Fault.CONTENT}
COMMANDS = {Phase.MAIL: "MAIL", Phase.RCPT: "RCPT", Phase.DATA: "DATA", Phase.DOT: "DATA"}

SECONDS = {"second": 1, "minute": 60, "hour": 3600}
AGAIN = words(r"(?:again|retry|wait|after|in) .{0,20}?(\d{1,5}) ?(second|minute|hour)s?\b")
LONGEST_WISH = timedelta(hours=4)


def judge(reply: Reply, phase: Phase, *, let_in: bool = True) -> SendError:
    """The decision on a reply that is not what was hoped for. `let_in`: the server has taken mail of ours before."""
    text = f"{reply.enhanced} {reply.text}"
    code = reply.code or 0
    if code in ACCOUNT_CODES or ACCOUNT.search(text) or (RELAYING.search(text) and not let_in):
        return RelayDown(reply, FOR_STAFF)
    if not MAILBOX.search(text) and not CONNECTION.search(text):
        for pattern, rest in QUOTAS:
            if pattern.search(text):
                return RelayDown(reply, rest)
    # RFC 5321 section 4.5.3.1.10: a 552 to RCPT that says no more is an old way to say "too many recipients".
    if code < 500 or code in CONFUSED or (code == 552 and phase == Phase.RCPT and not reply.enhanced):
        return Deferred(reply, wish(text))
    return Refused(reply, fault(reply, phase))


def fault(reply: Reply, phase: Phase) -> Fault:
    """Whose a refusal is, as lib/replies understands it. A recipient's only where that is proven: never before one has been named, and
    never by a policy code, whatever stands beside it."""
    verdict = classify.classify(reply.text, code=reply.code, enhanced=reply.enhanced, command=COMMANDS[phase])
    if verdict.kind == verdicts.Kind.HARD:
        return Fault.POLICY if reply.enhanced.startswith("5.7.") else Fault.RECIPIENT
    found = FAULTS.get(verdict.fault, Fault.POLICY)
    if verdict.weight == classify.GUESSED and found == Fault.SENDER:
        # It says no more than "refused".
        found = Fault.POLICY
    if phase == Phase.MAIL and found == Fault.POLICY:
        return Fault.CONTENT if reply.code == 552 else Fault.SENDER
    return found


def wish(text: str) -> timedelta | None:
    """How long the server asks us to wait, as greylisters do: "try again in 300 seconds"."""
    found = AGAIN.search(text)
    return min(timedelta(seconds=int(found[1]) * SECONDS[found[2].lower()]), LONGEST_WISH) if found else None


def ends_connection(reply: Reply) -> bool:
    """The server takes no more of us on this connection, whatever it thinks of the mail."""
    return reply.code == 421 or (reply.code or 0) in CONFUSED or bool(CONNECTION.search(reply.text))


def read(code: int, lines: Sequence[bytes]) -> Reply:
    """A reply from its lines, each without its code."""
    enhanced = ""
    parts = []
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        found = ENHANCED.match(text)
        if found and found[1][0] == str(code)[0]:
            enhanced = enhanced or found[1]
            text = text[found.end() :]
        if text:
            parts.append(text)
    joined = " ".join(parts)[:500]
    if not joined.isprintable():
        # It is stored and shown: PostgreSQL takes no NUL, pages no control characters.
        joined = "".join(letter if letter.isprintable() else "\ufffd" for letter in joined)
    return Reply(code, enhanced, joined)
