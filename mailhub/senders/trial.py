"""One small mail straight over a relay, past queue and routes, to see whether the relay works."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils.translation import gettext as _

from mailhub.lib import addresses, clock
from mailhub.relays import failures, limits
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Provider, Refused, RelayDown, Reply, SendError
from mailhub.relays.models import Relay
from mailhub.senders import dkim
from mailhub.senders.models import Sender

# Someone waits for the page, and the web server ends what takes longer than 30 s.
PATIENCE = 25
POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Result:
    accepted: bool
    #: what happened, in words
    words: str
    #: what to do about it; "" when nothing
    remedy: str
    #: what the relay said; "" when it said nothing
    reply: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Words:
    """What a mail says."""

    subject: str
    text: str
    #: the same again, for those who see it
    html: str = ""


def send(relay: Relay, sender: Sender, to: str, words: Words | None = None, *, mail_from: str = "") -> Result:
    """`to`: a normalised address; without `words` the mail says what it is for; `mail_from`: another return path than the sender's address.
    Counts against the relay's quotas like any mail; one that is accepted ends the relay's rest."""
    with transaction.atomic():
        now = clock.now()
        if not limits.take(relay, 1, now):
            return Result(False, _("The relay's quota is used up."), _("Try again when it has room, or raise it."), "", 0)
    begun = time.monotonic()
    error: Exception | None = None
    try:
        reply = async_to_sync(_hand_over)(relay.provider(), _envelope(sender, to, words or _trial(relay), mail_from))
    except (SendError, TimeoutError) as problem:
        error = problem
    seconds = time.monotonic() - begun
    if error is None:
        relay.recovered()
        return Result(True, _("The relay accepted it."), _("Look whether it arrives, and in which folder."), str(reply), seconds)
    if not isinstance(error, OutcomeUnknown | TimeoutError):
        with transaction.atomic():
            limits.give_back(relay, 1, clock.now(), since=now)
    explained, remedy = _explained(error)
    if isinstance(error, SendError) and (known := failures.explain("", error.reply)) is not failures.UNKNOWN:
        remedy = f"{known.cause} {known.step}"
    return Result(False, explained, remedy, str(error), seconds)


async def _hand_over(provider: Provider, envelope: Envelope) -> Reply:
    async with asyncio.timeout(PATIENCE):
        session = await provider.open()
        try:
            return await session.send(envelope)
        finally:
            await session.close()


def _trial(relay: Relay) -> Words:
    return Words(
        _("A test mail by way of %(relay)s") % {"relay": relay},
        _("MailHub sent this mail through the relay “%(relay)s”. It works as far as this mailbox.") % {"relay": relay},
    )


def _envelope(sender: Sender, to: str, words: Words, mail_from: str) -> Envelope:
    mail = EmailMessage(POLICY)
    mail["From"] = Address(sender.name, addr_spec=addresses.on_the_wire(sender.email))
    mail["To"] = Address(addr_spec=addresses.on_the_wire(to))
    mail["Subject"] = words.subject
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain=addresses.domain(sender.email))
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(words.text)
    if words.html:
        mail.add_alternative(words.html, subtype="html")
    data = mail.as_bytes()
    domain = addresses.domain(sender.email)
    signer = dkim.signers([domain]).get(domain)
    return Envelope(
        # The number of no message.
        message=0,
        mail_from=addresses.on_the_wire(mail_from or sender.email),
        rcpt_to=addresses.on_the_wire(to),
        data=signer.fields(data) + data if signer else data,
    )


def _explained(error: Exception) -> tuple[str, str]:
    match error:
        case RelayDown():
            return _("The relay could not be used."), _("Check host, port, encryption, user name and password.")
        case Refused(fault=Fault.RECIPIENT):
            return _("The relay works, but refuses this recipient."), _("Try another address.")
        case Refused(fault=Fault.SENDER):
            return _("The relay refuses this sender."), _("Register the address or its domain with the service, or choose another sender.")
        case Refused():
            return _("The relay refuses the mail."), _("Its reply says why.")
        case Deferred():
            return _("The relay refuses the mail for now."), _("Its reply says why. Ordinary mail would be tried again by itself.")
        case OutcomeUnknown():
            return _("The connection ended before the relay answered: the mail may have left."), _("Look whether it arrives.")
        case _other:
            return (
                _("The relay gave no answer within %(seconds)s seconds.") % {"seconds": PATIENCE},
                _("Check host, port and encryption. The mail may have left: look whether it arrives."),
            )
