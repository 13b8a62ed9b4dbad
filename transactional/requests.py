"""What a site asks for, and how it is told that it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from transactional.models import Project, Submission


class NotAccepted(Exception):
    """Nothing of this mail was accepted."""

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        super().__init__(f"{field}: {problem} {remedy}".strip())
        #: what was wrong, by its name in Request ("recipients[2]" for one of several)
        self.field = field
        self.problem = problem
        #: what to do about it
        self.remedy = remedy


class Invalid(NotAccepted):
    """The request cannot be made a mail."""


class Forbidden(NotAccepted):
    """Not from this sender, or not by this project."""


class Conflict(NotAccepted):
    """The idempotency key was used for another mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a site asks for: a finished mail (`raw`), or a template filled in."""

    #: the From address
    sender: str
    #: envelope recipients, each gets a mail of their own
    recipients: Sequence[str]
    via: Submission.Via
    #: RFC 5322 bytes: CRLF line ends, lines of 998 octets at most, without Bcc. A body in 8-bit goes as it is where the next server takes
    #: it, and in 7-bit elsewhere; header fields beyond ASCII are UTF-8 (RFC 6532).
    raw: bytes = b""
    #: key of a Template
    template: str = ""
    #: what the template's placeholders stand for; "name" is also the recipient's display name
    data: Mapping[str, Any] = field(default_factory=dict)
    #: the recipient's language; where the template lacks it, LANGUAGE_CODE's, else any
    language: str = ""
    #: None: MailHub's own mail
    project: Project | None = None
    #: a second request with the same key is answered like the first, and makes no second mail
    idempotency_key: str = ""
    #: by which the mail can be found again: its content's public_id; None: any
    reference: UUID | None = None
    #: who handed it in and from where, for people
    origin: str = ""
