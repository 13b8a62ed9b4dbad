"""The listener for bounce domains: SMTP on port 25, or LMTP behind a mail server, for mail that comes back.

What is spoken, and how strictly, is transactional/smtpd's; what is done with a mail is mailhub/feedback/incoming.py's. This puts the two
together. Nobody logs in; only return paths of ours, addresses for reports and postmaster are recipients; "250" means that the mail is
stored, and no mail is ever answered by mail, passed on or sent back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from django.conf import settings
from django.db import DatabaseError

from mailhub.feedback import incoming
from mailhub.feedback.models import IncomingMail
from mailhub.lib.tokens import BadToken
from mailhub.senders import return_path
from mailhub.senders.models import Domain
from transactional import contents
from transactional.smtpd import protocol
from transactional.smtpd.protocol import Bad, read_parameters, read_path
from transactional.smtpd.server import Server, run

logger = logging.getLogger(__name__)

# Recipients of one mail: a bounce goes to one.
MOST_RECIPIENTS = 20
# Servers that it has passed: more is a loop (RFC 5321 section 6.3).
MOST_HOPS = 50
RECEIVED = re.compile(rb"^received:", re.IGNORECASE | re.MULTILINE)
LARGEST_HEADER = 128 * 1024
# Seconds for which the bounce domains are believed.
BELIEVED = 10
# What the tokens of our addresses are for.
PURPOSES = (return_path.MESSAGE, return_path.PROBE, return_path.UNSUBSCRIBE)


class Connection(protocol.Connection):
    server: BounceServer
    #: replies to DATA
    _owed = 1

    @property
    def may_log_in(self) -> bool:
        return False

    @property
    def until(self) -> float:
        # Nobody has to log in by a time.
        return self._deadline

    async def smtp_HELO(self, name: str) -> None:
        self._speaks("HELO", lmtp=False)
        await super().smtp_HELO(name)

    async def smtp_EHLO(self, name: str) -> None:
        self._speaks("EHLO", lmtp=False)
        await self._offer(name)

    async def smtp_LHLO(self, name: str) -> None:
        self._speaks("LHLO", lmtp=True)
        await self._offer(name)

    def _speaks(self, command: str, *, lmtp: bool) -> None:
        """RFC 2033 section 4.1: each protocol has its greeting, so that neither is taken for the other."""
        if self.server.lmtp != lmtp:
            raise Bad(500, "5.5.1", f"There is no {command} here: this port speaks {'LMTP' if self.server.lmtp else 'SMTP'}")

    async def _offer(self, name: str) -> None:
        self.introduce(name, extended=True)
        offers = ["PIPELINING", f"SIZE {contents.LARGEST_MAIL}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if not self.encrypted:
            offers.append("STARTTLS")
        for offer in (self.server.name, *offers):
            await self.push(f"250-{offer}")
        await self.push(f"250 LIMITS RCPTMAX={MOST_RECIPIENTS}")

    async def smtp_AUTH(self, argument: str) -> NoReturn:
        raise Bad(503, "5.5.1", "Nobody logs in here")

    def let_in(self) -> Any:
        if not self.session.host_name:
            raise Bad(503, "5.5.1", f"{'LHLO' if self.server.lmtp else 'EHLO'} first")

    async def smtp_MAIL(self, argument: str) -> None:
        self.let_in()
        if self.envelope.mail_from is not None:
            raise Bad(503, "5.5.1", "There is a sender already")
        path, given = read_path("FROM:", argument)
        self.envelope.smtp_utf8 = read_parameters(given)
        # A bounce has none. Whatever it is, nothing is ever sent to it.
        self.envelope.mail_from = path
        await self.answer(250, "2.1.0", "OK")

    async def smtp_RCPT(self, argument: str) -> None:
        self.let_in()
        if self.envelope.mail_from is None:
            raise Bad(503, "5.5.1", "MAIL first")
        path, given = read_path("TO:", argument)
        if given:
            raise Bad(555, "5.5.4", "RCPT takes no parameters here")
        if len(self.envelope.rcpt_tos) >= MOST_RECIPIENTS:
            raise Bad(452, "4.5.3", "Too many recipients: send it to the others as another mail")
        try:
            wanted = await self.server.wants(path)
        except DatabaseError:
            raise unavailable() from None
        if not wanted:
            raise Bad(550, "5.1.1", "Only return paths of ours, addresses for reports and postmaster take mail here")
        self.envelope.rcpt_tos.append(path)
        await self.answer(250, "2.1.5", "OK")

    async def smtp_DATA(self, argument: str) -> None:
        self._owed = 1
        try:
            await super().smtp_DATA(argument)
        except Bad as bad:
            # The last reply is given where all refusals are answered.
            for _recipient in range(self._owed - 1):
                await self.answer(*bad.said)
            raise

    async def read_mail(self) -> bytes:
        if self.server.lmtp:
            # RFC 2033 section 4.2: from here on a reply for each recipient, in their order.
            self._owed = len(self.envelope.rcpt_tos)
        return await super().read_mail()

    async def hand_in(self, raw: bytes, credential: Any) -> Any:
        """Stored for each recipient; returns whether, for each."""
        head = raw.partition(b"\r\n\r\n")[0]
        if len(head) > LARGEST_HEADER:
            raise Bad(552, "5.3.4", f"The mail's header is larger than {LARGEST_HEADER // 1024} KB")
        if len(RECEIVED.findall(head)) > MOST_HOPS:
            raise Bad(554, "5.4.6", f"The mail goes in circles: it has passed more than {MOST_HOPS} servers")
        # However long it takes: what is being committed is not disowned.
        self._reset_timeout(protocol.COMMIT)
        sender = self.envelope.mail_from or ""
        # Copies for different recipients are different mails; one that comes again, since the 250 was lost, is the same.
        return [
            await self.server.take(b"X-Original-To: " + recipient.encode() + b"\r\n" + raw, recipient, sender)
            for recipient in self.envelope.rcpt_tos
        ]

    async def tell(self, outcome: Any) -> None:
        if not self.server.lmtp:
            if not all(outcome):
                # It comes again for all of them, and counts once for those who have it.
                raise unavailable()
            self._refusals = 0
            await self.answer(250, "2.0.0", "stored")
            return
        for stored in outcome:
            if stored:
                await self.answer(250, "2.0.0", "stored")
            else:
                await self.answer(*unavailable().said)


class BounceServer(Server):
    speaks = Connection

    def __init__(self, *, lmtp: bool = False) -> None:
        """Raises NoCertificate."""
        super().__init__()
        self.lmtp = lmtp
        self._domains: frozenset[str] = frozenset()
        self._loaded_at = float("-inf")

    async def wants(self, address: str) -> bool:
        """Mail for this recipient is taken. Raises DatabaseError."""
        local, _at, domain = address.lower().rpartition("@")
        if not local and domain == "postmaster":
            # RFC 5321 section 4.5.1: without a domain, too.
            return True
        if self.loop.time() > self._loaded_at + BELIEVED:
            self._domains = await self.look_up(bounce_domains)
            self._loaded_at = self.loop.time()
        if domain not in self._domains:
            return address.lower() in settings.MAILHUB_REPORT_ADDRESSES
        return local == "postmaster" or f"{local}@{domain}" in settings.MAILHUB_REPORT_ADDRESSES or is_ours(address)

    async def take(self, raw: bytes, recipient: str, sender: str) -> bool:
        """Whether it is committed."""
        deed = partial(incoming.take, raw, IncomingMail.Source.SMTP, rcpt_to=recipient, mail_from=sender)
        try:
            await self.look_up(deed)
        except DatabaseError as error:
            logger.error("a mail that came back cannot be stored, it is put off: %s", error)
            return False
        return True


def bounce_domains() -> frozenset[str]:
    found = Domain.objects.exclude(bounce_address="").values_list("bounce_address", flat=True)
    return frozenset(address.rpartition("@")[2].lower() for address in found)


def is_ours(address: str) -> bool:
    """It has a token that we made."""
    token = return_path.found(address)
    for purpose in PURPOSES if token else ():
        try:
            return_path.read(token, purpose)
        except (BadToken, ValueError):
            continue
        return True
    return False


def unavailable() -> Bad:
    return Bad(451, "4.3.0", "Mail cannot be stored at present, please try again later")


def serve(hosts: Sequence[str], port: int, *, lmtp: bool) -> None:
    """Until SIGTERM or SIGINT. Raises NoCertificate, or OSError where a port cannot be had."""
    make: Callable[[], Server] = partial(BounceServer, lmtp=lmtp)
    run(hosts, port, 0, make)
