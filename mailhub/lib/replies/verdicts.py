"""The words in which a verdict on a reply is given, and what follows from each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Category(StrEnum):
    """Why a mail was not delivered, or what else came back."""

    USER_UNKNOWN = "user_unknown"  # no such mailbox, or it is gone for good
    HOST_UNKNOWN = "host_unknown"  # no such domain, or one that takes no mail (RFC 7505)
    SUSPENDED = "suspended"  # there is a mailbox, but it is closed, perhaps for now
    MAILBOX_FULL = "mailbox_full"
    BLOCKED = "blocked"  # our address, host or mail is refused by reputation, list or policy
    REJECTED = "rejected"  # this sender is not welcome with this recipient
    SPAM = "spam"  # the content looks like spam
    AUTH_FAILURE = "auth_failure"  # SPF, DKIM, DMARC
    RATE_LIMITED = "rate_limited"  # too much, too fast, too many connections
    TOO_BIG = "too_big"
    CONTENT = "content"  # a virus, an attachment, a malformed header
    EXPIRED = "expired"  # tried for as long as it was kept
    NETWORK = "network"  # no connection, a mail loop
    SYSTEM = "system"  # something at their side is broken
    TEMPORARY = "temporary"  # later, and no more is said
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"
    DELIVERED = "delivered"
    OTHER = "other"


class Kind(StrEnum):
    HARD = "hard"  # the address is dead
    SOFT = "soft"  # it was not delivered, which proves nothing against the address
    COMPLAINT = "complaint"
    OTHER = "other"  # neither a bounce nor a complaint


class Fault(StrEnum):
    """Who can do something about it."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    CONTENT = "content"
    POLICY = "policy"
    CAPACITY = "capacity"
    NOBODY = "nobody"


class Pause(StrEnum):
    """What should stand still before more is sent."""

    NOTHING = "nothing"
    RECIPIENT = "recipient"
    DESTINATION = "destination"  # the relay to this destination
    SENDER = "sender"  # mail of this sender, until staff have looked
    CONTENT = "content"  # this mail, until staff have looked


@dataclass(frozen=True, slots=True)
class Advice:
    #: the address gets no more mail
    suppress: bool = False
    #: the same mail may be tried again after this; None: never
    retry: timedelta | None = None
    pause: Pause = Pause.NOTHING


@dataclass(frozen=True, slots=True)
class Verdict:
    category: Category
    kind: Kind
    #: what decided: a row of a table, or the code; "" where nothing did
    rule: str
    #: how much it rests on: 3 what the text says, 2 a code that names a detail, 1 a word that may mean anything, 0 nothing
    weight: int

    @property
    def fault(self) -> Fault:
        return FAULTS[self.category]

    @property
    def advice(self) -> Advice:
        return SUPPRESS if self.kind == Kind.HARD else ADVICE[self.category]


FAULTS = {
    Category.USER_UNKNOWN: Fault.RECIPIENT,
    Category.HOST_UNKNOWN: Fault.RECIPIENT,
    Category.SUSPENDED: Fault.RECIPIENT,
    Category.MAILBOX_FULL: Fault.RECIPIENT,
    Category.BLOCKED: Fault.POLICY,
    Category.REJECTED: Fault.SENDER,
    Category.SPAM: Fault.CONTENT,
    Category.AUTH_FAILURE: Fault.SENDER,
    Category.RATE_LIMITED: Fault.CAPACITY,
    Category.TOO_BIG: Fault.CONTENT,
    Category.CONTENT: Fault.CONTENT,
    Category.EXPIRED: Fault.CAPACITY,
    Category.NETWORK: Fault.CAPACITY,
    Category.SYSTEM: Fault.CAPACITY,
    Category.TEMPORARY: Fault.CAPACITY,
    Category.COMPLAINT: Fault.SENDER,
    Category.AUTO_REPLY: Fault.NOBODY,
    Category.DELIVERED: Fault.NOBODY,
    Category.OTHER: Fault.POLICY,
}

SUPPRESS = Advice(suppress=True)
SOON = timedelta(minutes=15)
LATER = timedelta(hours=1)
TOMORROW = timedelta(days=1)
# What to do about what is not hard. Retries are for a mail that can still be sent: a bounce of one that was accepted is final.
ADVICE = {
    Category.USER_UNKNOWN: Advice(retry=TOMORROW, pause=Pause.RECIPIENT),
    Category.HOST_UNKNOWN: Advice(retry=TOMORROW, pause=Pause.RECIPIENT),
    Category.SUSPENDED: Advice(retry=TOMORROW, pause=Pause.RECIPIENT),
    Category.MAILBOX_FULL: Advice(retry=TOMORROW, pause=Pause.RECIPIENT),
    Category.BLOCKED: Advice(retry=LATER, pause=Pause.DESTINATION),
    Category.REJECTED: Advice(),
    Category.SPAM: Advice(pause=Pause.CONTENT),
    Category.AUTH_FAILURE: Advice(retry=LATER, pause=Pause.SENDER),
    Category.RATE_LIMITED: Advice(retry=SOON, pause=Pause.DESTINATION),
    Category.TOO_BIG: Advice(),
    Category.CONTENT: Advice(pause=Pause.CONTENT),
    Category.EXPIRED: Advice(),
    Category.NETWORK: Advice(retry=SOON),
    Category.SYSTEM: Advice(retry=SOON),
    Category.TEMPORARY: Advice(retry=SOON),
    Category.COMPLAINT: SUPPRESS,
    Category.AUTO_REPLY: Advice(),
    Category.DELIVERED: Advice(),
    Category.OTHER: Advice(),
}
