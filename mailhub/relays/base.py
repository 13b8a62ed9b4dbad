"""The border between delivery and a provider: one envelope goes out, a reply or one of four exceptions comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from django import forms

if TYPE_CHECKING:
    from mailhub.relays.models import Relay


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail to one recipient, ready to hand over."""

    #: primary key of the delivery.Message
    message: int
    #: RFC 5321 reverse-path without angle brackets; "" is the null sender
    mail_from: str
    #: RFC 5321 forward-path without angle brackets
    rcpt_to: str
    #: RFC 5322 message: CRLF line ends throughout, ends in CRLF, not dot-stuffed
    data: bytes
    #: makes the same mail in 7-bit for a server that takes no other, which may last; None where `data` is 7-bit. Raises Refused.
    seven_bit: Callable[[], bytes] | None = None
    #: none of its lines begins with a dot, and its maker knows that they are as above
    dotless: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other side said (RFC 5321 section 4.2)."""

    #: three digits, or None where there was no SMTP-like code
    code: int | None
    #: RFC 3463 enhanced status code such as "5.1.1", or ""
    enhanced: str
    #: the text, lines joined by a space, at most 500 characters
    text: str
    #: the address of ours that was spoken from, where the provider chose it; "" elsewhere
    source_ip: str = ""

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)


class Fault(StrEnum):
    RECIPIENT = "recipient"
    SENDER = "sender"
    CONTENT = "content"
    POLICY = "policy"


class SendError(Exception):
    """A mail was not accepted."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Refused(SendError):
    """Never again: this mail will not be accepted however often it is offered."""

    def __init__(self, reply: Reply, fault: Fault) -> None:
        super().__init__(reply)
        self.fault = fault


class Deferred(SendError):
    """Later: this mail was refused for now."""

    def __init__(self, reply: Reply, retry_after: timedelta | None = None) -> None:
        super().__init__(reply)
        #: None leaves the delay to the relay's back-off
        self.retry_after = retry_after


class Held(Deferred):
    """Later, by a limit of our own: nobody was asked, so nothing is known of them."""


class RelayDown(SendError):
    """Not the mail's fault: it certainly was not accepted, goes back uncounted, and the relay rests."""

    def __init__(self, reply: Reply, rest: timedelta = timedelta(seconds=30)) -> None:
        super().__init__(reply)
        #: how long the relay is left alone
        self.rest = rest


class OutcomeUnknown(SendError):
    """The mail was handed over whole, and the connection ended before the reply: it may or may not have been accepted."""


class Session(Protocol):
    """One connection (or its like) to a relay, used by one task at a time."""

    @property
    def spent(self) -> bool:
        """It should be closed and opened anew before the next mail: too old, too many mails, broken, or the other side has left."""

    async def send(self, envelope: Envelope) -> Reply:
        """Hand one mail over. Returns the accepting reply; raises Refused, Deferred, RelayDown or OutcomeUnknown."""

    async def close(self) -> None:
        """Leave politely; never raises."""


@runtime_checkable
class Pipelined(Protocol):
    """A session that can begin with a mail while the one before is on its way."""

    def announce(self, envelope: Envelope) -> None:
        """After the mail that is sent next comes this one, if it is still wanted then."""


@runtime_checkable
class Direct(Protocol):
    """A provider that opens connections to destinations by itself."""

    def allow(self, slots: Mapping[str, Mapping[str, int]]) -> None:
        """How many it may have at once to each destination that limits them, from each of our addresses."""


class Provider(Protocol):
    """One kind of relay. A subclass of nothing: a class with these members, named in `providers.REGISTRY`."""

    #: what staff call the kind
    label: ClassVar[str]
    #: fields of Relay.options; its fields named in `secret_options` go to Relay.secrets instead; those that it names in a tuple
    #: `rarely`, if it has one, are folded away
    options_form: ClassVar[type[forms.Form]]
    secret_options: ClassVar[frozenset[str]]
    #: mail leaves from the addresses of the relay's pool, and so only from the machines that hold them
    uses_pool: ClassVar[bool]

    def __init__(self, relay: Relay) -> None: ...

    async def open(self) -> Session:
        """A session ready to send. Raises RelayDown."""
