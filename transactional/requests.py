"""What a site asks for, and how it is told that it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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

    @property
    def words(self) -> str:
        return f"{self.problem} {self.remedy}".strip()


class Invalid(NotAccepted):
    """The request cannot be made a mail."""


class Forbidden(NotAccepted):
    """Not from this sender, or not by this project."""


class Conflict(NotAccepted):
    """The idempotency key was used for another mail."""


class Limited(NotAccepted):
    """The project has handed in as much as it may for now."""

    def __init__(self, field: str, problem: str, remedy: str = "", *, retry_after: int) -> None:
        super().__init__(field, problem, remedy)
        #: whole seconds until there is room again
        self.retry_after = retry_after


#: display name ("" for none) and address
Person = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    name: str
    #: such as application/pdf
    media_type: str
    octets: bytes
    #: by which the HTML shows it: <img src="cid:...">; "" for a file beside the mail
    content_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a mail is to say, for drafts.py to finish. Every recipient gets the same; of a template's words, filled in once."""

    subject: str = ""
    html: str = ""
    text: str = ""
    #: display name in From; "" is the sender's own
    from_name: str = ""
    #: shown in the mail; its envelope is Request.recipients
    to: Sequence[Person] = ()
    cc: Sequence[Person] = ()
    #: none: the sender's own
    reply_to: Sequence[Person] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a site asks for: a finished mail (`raw`), one to be finished (`draft`), or a template filled in."""

    #: the From address
    sender: str
    #: envelope recipients, each gets a mail of their own
    recipients: Sequence[str]
    via: Submission.Via
    #: RFC 5322 bytes: CRLF line ends, lines of 998 octets at most, without Bcc. A body in 8-bit goes as it is where the next server takes
    #: it, and in 7-bit elsewhere; header fields beyond ASCII are UTF-8 (RFC 6532).
    raw: bytes = b""
    #: words that are not a finished mail yet; with `template`, all but subject, HTML and text
    draft: Draft | None = None
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
    #: SHA-256 by which a second request is the same; "": of the fields above
    digest: str = ""
    #: by which the mail can be found again: its content's public_id; None: any
    reference: UUID | None = None
    #: who handed it in and from where, for people
    origin: str = ""
    #: where answers go when the From is another than the site gave; "": as the mail says, or the sender's own
    reply_to: str = ""
    #: labels, and names with values, by which the site will know the mail again
    tags: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: not before this moment
    send_at: datetime | None = None
    #: whether opens and clicks are to be recorded; None: as the sender has it
    track_opens: bool | None = None
    track_clicks: bool | None = None
