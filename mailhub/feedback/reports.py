"""What a mail that came back says: one Report a recipient, and what is needed to find whose message it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mailhub.lib.replies.verdicts import Category, Kind, Verdict


class MailKind(StrEnum):
    BOUNCE = "bounce"  # a mail was not delivered, or not yet
    DELIVERED = "delivered"  # it was, and somebody wanted to know
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto_reply"  # a holiday notice and the like
    RECEIPT = "receipt"  # read, or deleted unread (RFC 8098)
    CHALLENGE = "challenge"  # the sender is to prove that it is human
    RECEIVER_REPORT = "receiver_report"  # DMARC or TLS, about a domain
    OTHER = "other"  # anything else, a forwarded or quoted bounce among it


@dataclass(frozen=True, slots=True)
class Report:
    """A claim about one recipient."""

    #: as the mail names it; "" where it names nobody
    recipient: str
    #: failed, delayed, delivered, relayed or expanded (RFC 3464 section 2.3.3); "" in a complaint
    action: str
    #: enhanced status code (RFC 3463), or ""
    status: str
    #: reply code (RFC 5321), or None
    code: int | None
    #: the words of the system that refused, at most 500 characters
    diagnostic: str
    verdict: Verdict
    #: the recipient before forwarding (RFC 3464 section 2.3.1), or ""
    original_recipient: str = ""
    #: the host that refused
    remote: str = ""
    #: of a complaint (RFC 5965): abuse, fraud, opt-out, not-spam, ...
    feedback_type: str = ""

    @property
    def kind(self) -> Kind:
        return self.verdict.kind

    @property
    def category(self) -> Category:
        return self.verdict.category


@dataclass(frozen=True, slots=True)
class Reading:
    kind: MailKind
    reports: tuple[Report, ...] = ()
    #: headers of the mail that was returned, in lower case: its Message-ID, and ours that tell whose it is
    returned: Mapping[str, str] = field(default_factory=dict)
