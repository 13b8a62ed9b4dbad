"""One connection: aiosmtpd's server, made as strict as a public port needs and with a word for everything.

aiosmtpd has the transport, STARTTLS and the state of the session. What is said and answered is here: lines end in CRLF and in nothing
else, every reply has its enhanced code (RFC 2034), nothing is taken from who has not logged in, and "250 queued" means committed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import textwrap
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from aiosmtpd.smtp import SMTP, Envelope, Session, TLSSetupException
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.utils import timezone

from mailhub.lib import addresses
from transactional import contents, sending
from transactional.models import Credential, Submission
from transactional.requests import Forbidden, Limited, NotAccepted, Request
from transactional.smtpd import mail
from transactional.smtpd.committer import Unavailable

if TYPE_CHECKING:
    from transactional.smtpd.server import Server

logger = logging.getLogger(__name__)

# Seconds: for a command (RFC 5321 section 4.5.3.2.7), for a piece of a mail, to log in, and for the database to commit.
IDLE, BLOCK, TO_LOG_IN, COMMIT = 300, 180, 60, 3600
# Mail that comes more slowly than this (bytes a second) is not waited for.
SLOWEST = 1024
# Octets: of a command (RFC 5321 section 4.5.3.1.4) with room for its extensions, and of what answers a challenge (RFC 4954 section 4).
COMMAND = {"MAIL": 512 + 26 + 16 + 10 + 500, "RCPT": 512 + 500, "AUTH": 12_288}
SHORT, LONGEST = 512, 12_288
CHUNK = 64 * 1024
# Of one connection, before it is ended: failures to log in; refusals since the last mail; commands that do not exist.
LOGINS, REFUSALS, STRANGE = 3, 100, 5
# Seconds that a wrong password costs.
WRONG = 1.0
# What browsers say when they are led here by somebody's page.
OTHER_TONGUES = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PRI"})

# RFC 5321 section 4.1.2: what stands between < and >; no control characters, and spaces within quotes only.
PATH = re.compile(r'<((?:"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"|[^<>"\x00-\x20\x7f])*)>(?: +(.*))?')
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e]+))?")
# "user%elsewhere.example@here": a route that some servers on the way would follow.
ROUTE = re.compile(r"[^@]+%[^@%]+\.[^@%]+@[^@]+")
CODES = {"recipients": (550, "5.1.3"), "sender": (550, "5.1.7"), "raw": (554, "5.6.0")}
# Characters of a line of a reply (RFC 5321 section 4.5.3.1.5 has 512 octets).
WIDTH = 400


class Hangup(Exception):
    """The connection is ended, with these last words."""

    def __init__(self, code: int, enhanced: str, words: str) -> None:
        super().__init__(words)
        self.said = code, enhanced, words


class Bad(Exception):
    """The command is answered with a refusal."""

    def __init__(self, code: int, enhanced: str, words: str) -> None:
        super().__init__(words)
        self.said = code, enhanced, words


class Connection(SMTP):
    """Of the submission server. Another kind of server (mailhub/bounced.py) has its own of whom it lets in (`may_log_in`, `until`,
    `let_in`), what it does with a mail (`read_mail`, `hand_in`, `tell`), and commands."""

    # aiosmtpd makes them when there is a connection, and nothing here happens before that.
    session: Session
    envelope: Envelope
    transport: asyncio.Transport | None

    def __init__(self, server: Server) -> None:
        super().__init__(server, hostname=server.name, enable_SMTPUTF8=True, tls_context=server.contexts.current, loop=server.loop)
        self.server = server
        #: the client's IP address
        self.peer = ""
        #: whom it is counted for; "" once it is over
        self.client = ""
        #: who has logged in
        self.credential: Credential | None = None
        #: what has come and was not read yet
        self._rest = bytearray()
        #: replies that wait for the end of the commands that came together (RFC 2920 section 3.2)
        self._replies: list[bytes] = []
        self._deadline = self.loop.time() + IDLE
        self._log_in_by = self.loop.time() + TO_LOG_IN
        #: nothing of a mail is in our hands
        self._idle = True
        self._failures = self._refusals = self._strange = 0

    # ------------------------------------------------------------------------------------------------------------ the connection

    @property
    def encrypted(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is not None

    @property
    def may_log_in(self) -> bool:
        """The password could not be read on its way, or settings say that it may be."""
        return self.encrypted or self.server.clear_text_from(self.peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = str(transport.get_extra_info("peername")[0]).partition("%")[0]
        self.server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.server.left(self)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """One timer serves all: it looks whether the deadline has moved meanwhile."""
        self._deadline = self.loop.time() + (duration or IDLE)
        if self._timeout_handle is None or self._timeout_handle.when() > self.until:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_at(self.until, self._timeout_cb)

    def _timeout_cb(self) -> None:
        if self.loop.time() < self.until:
            self._set_timer()
        else:
            self.end(421, "4.4.2", "Too slow, closing the connection")

    @property
    def until(self) -> float:
        return self._deadline if self.credential else min(self._deadline, self._log_in_by)

    def leave(self) -> None:
        """The server stops: now, or once the mail at hand is settled."""
        if self._idle:
            self.end(421, "4.3.2", "The server is being stopped, please come again")

    def end(self, code: int, enhanced: str, words: str) -> None:
        """Say this, and close the connection."""
        if self.transport is not None and not self.transport.is_closing():
            self._writer.write(b"".join([*self._replies, *lines(code, enhanced, words)]))
            self._replies.clear()
            self.transport.close()

    async def push(self, status: str | bytes) -> None:
        if status == "220 Ready to start TLS":
            # aiosmtpd's own words; its only ones that are heard.
            status = "220 2.0.0 Ready to start TLS"
        self._replies.append((status if isinstance(status, bytes) else ascii_only(status)) + b"\r\n")
        if not self._rest:
            await self._flush()

    async def _flush(self) -> None:
        if self._replies:
            self._writer.write(b"".join(self._replies))
            self._replies.clear()
            await self._writer.drain()

    async def answer(self, code: int, enhanced: str, words: str) -> None:
        for line in lines(code, enhanced, words):
            await self.push(line.removesuffix(b"\r\n"))

    async def _more(self) -> None:
        """Wait for the client. Raises ConnectionResetError when it has left."""
        await self._flush()
        found = await self._reader.read(CHUNK)
        if not found:
            raise ConnectionResetError
        self._rest += found

    async def _line(self, limit: int) -> bytes:
        """A line without its CRLF. Raises Hangup where it ends with anything else, Bad where it is too long."""
        while (end := self._rest.find(b"\n")) < 0 and len(self._rest) <= limit:
            await self._more()
        too_long = end < 0 or end + 1 > limit
        while end < 0:
            # Up to its end it is skipped, and not kept.
            self._rest.clear()
            await self._more()
            end = self._rest.find(b"\n")
        line = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        if too_long:
            raise Bad(500, "5.5.2", "That line is too long")
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Hangup(521, "5.5.2", "Lines end with CR LF, and with nothing else")
        return line[:-2]

    # -------------------------------------------------------------------------------------------------------------- conversation

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except Hangup as hangup:
            self.end(*hangup.said)
        except TLSSetupException as error:
            self._writer.close()
            # Nobody tells us otherwise.
            self.connection_lost(error.__cause__ if isinstance(error.__cause__, Exception) else None)
        except (ConnectionError, asyncio.CancelledError):
            self._writer.close()
        except Exception:  # one connection must not be the end of all
            logger.exception("a connection failed")
            self.end(421, "4.3.0", "Something is wrong here, please try again later")

    async def _converse(self) -> None:
        await self.push(f"220 {self.server.name} ESMTP MailHub")
        while self.transport is not None and not self.transport.is_closing():
            if self.server.stopping:
                raise Hangup(421, "4.3.2", "The server is being stopped, please come again")
            try:
                line = await self._line(LONGEST)
                self._reset_timeout()
                await self._obey(line)
            except Bad as bad:
                self._refusals += 1
                await self.answer(*bad.said)
                if self._refusals >= REFUSALS:
                    raise Hangup(421, "4.7.0", "Too many refusals, closing the connection") from None

    async def _obey(self, line: bytes) -> None:
        word, _space, rest = line.partition(b" ")
        command = word.upper().decode("ascii", "replace")
        if len(line) + 2 > COMMAND.get(command, SHORT):
            raise Bad(500, "5.5.2", "That command is too long")
        if command in OTHER_TONGUES:
            raise Hangup(421, "4.7.0", "This is a mail server")
        if command in ("BDAT", "BURL"):
            # What follows would be no commands.
            raise Hangup(502, "5.5.1", f"{command} is not offered here")
        method = self._smtp_methods.get(command)
        if method is None:
            self._strange += 1
            if self._strange >= STRANGE:
                raise Hangup(421, "4.7.0", "Too many commands that do not exist")
            raise Bad(500, "5.5.1", "There is no such command")
        try:
            argument = rest.strip(b" ").decode()
        except UnicodeDecodeError:
            raise Bad(500, "5.5.2", "Commands are ASCII or UTF-8") from None
        if CONTROL.search(argument):
            raise Bad(500, "5.5.2", "There is a control character in the command")
        await method(argument)

    async def smtp_HELO(self, name: str) -> None:
        self.introduce(name, extended=False)
        await self.push(f"250 {self.server.name}")

    async def smtp_EHLO(self, name: str) -> None:
        self.introduce(name, extended=True)
        offers = [
            self.server.name,
            "PIPELINING",
            f"SIZE {contents.LARGEST_MAIL}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            f"LIMITS RCPTMAX={sending.MOST_RECIPIENTS}",
        ]
        if not self.encrypted:
            offers.append("STARTTLS")
        if self.may_log_in:
            offers.append("AUTH PLAIN LOGIN")
        for offer in offers[:-1]:
            await self.push(f"250-{offer}")
        await self.push(f"250 {offers[-1]}")

    def introduce(self, name: str, *, extended: bool) -> None:
        if not name:
            raise Bad(501, "5.5.4", "Say who you are: EHLO name.example")
        self.envelope = Envelope()
        self.session.host_name = name
        self.session.extended_smtp = extended

    async def smtp_NOOP(self, argument: str) -> None:
        await self.answer(250, "2.0.0", "OK")

    async def smtp_RSET(self, argument: str) -> None:
        self._nothing_after("RSET", argument)
        self.envelope = Envelope()
        await self.answer(250, "2.0.0", "OK")

    async def smtp_VRFY(self, argument: str) -> None:
        await self.answer(252, "2.0.0", "Send a mail and see")

    async def smtp_EXPN(self, argument: str) -> NoReturn:
        raise Bad(502, "5.5.1", "There are no lists to be seen here")

    async def smtp_HELP(self, argument: str) -> None:
        await self.answer(214, "2.0.0", "EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, RSET, NOOP, QUIT: see RFC 6409")

    async def smtp_QUIT(self, argument: str) -> NoReturn:
        self._nothing_after("QUIT", argument)
        raise Hangup(221, "2.0.0", "Goodbye")

    async def smtp_STARTTLS(self, argument: str) -> None:
        self._nothing_after("STARTTLS", argument)
        if self.encrypted:
            raise Bad(503, "5.5.1", "TLS is spoken already")
        # What came along in plain text is anybody's (CVE-2011-0411, CVE-2024-34083); aiosmtpd forgets what it holds itself.
        self._rest.clear()
        await super().smtp_STARTTLS(None)
        self.credential = None
        self._reset_timeout()

    def _nothing_after(self, command: str, argument: str) -> None:
        if argument:
            raise Bad(501, "5.5.4", f"Nothing may follow {command}")

    # ------------------------------------------------------------------------------------------------------- logging in (RFC 4954)

    async def smtp_AUTH(self, argument: str) -> None:
        if not self.session.host_name or not self.session.extended_smtp:
            raise Bad(503, "5.5.1", "EHLO first")
        if not self.may_log_in:
            raise Bad(538, "5.7.11", "Encryption is needed to log in: STARTTLS first")
        if self.credential:
            # So this is not in the middle of a mail either, which section 4 forbids.
            raise Bad(503, "5.5.1", "You are logged in already")
        mechanism, *initial = argument.split() or [""]
        if len(initial) > 1:
            raise Bad(501, "5.5.4", "Too many words")
        match mechanism.upper():
            case "PLAIN":
                user, password = await self._plain(initial)
            case "LOGIN":
                user, password = await self._login(initial)
            case _:
                raise Bad(504, "5.5.4", "Log in with PLAIN or LOGIN")
        await self._log_in(user, password)

    async def _plain(self, initial: Sequence[str]) -> tuple[str, str]:
        """RFC 4616."""
        response = decoded(initial[0].encode()) if initial else await self._challenge("")
        try:
            acts_as, user, password = response.decode().split("\0")
        except ValueError:
            raise Bad(501, "5.5.2", "That is no response of PLAIN") from None
        if acts_as not in ("", user):
            raise Bad(535, "5.7.8", "Nobody acts for another here")
        return user, password

    async def _login(self, initial: Sequence[str]) -> tuple[str, str]:
        user = decoded(initial[0].encode()) if initial else await self._challenge("Username:")
        password = await self._challenge("Password:")
        try:
            return user.decode(), password.decode()
        except UnicodeDecodeError:
            raise Bad(501, "5.5.2", "Names and passwords are UTF-8") from None

    async def _challenge(self, words: str) -> bytes:
        await self.push(f"334 {base64.b64encode(words.encode()).decode()}")
        line = await self._line(LONGEST)
        if line == b"*":
            raise Bad(501, "5.7.0", "As you wish")
        return decoded(line)

    async def _log_in(self, user: str, password: str) -> None:
        wait = self.server.must_wait(self.peer, user)
        if wait:
            raise Bad(454, "4.7.0", f"Too many failures to log in, try again in {wait:.0f} seconds")
        try:
            self.credential = await self.server.recognise(self.peer, user, password)
        except DatabaseError:
            raise Bad(454, "4.7.0", "Nobody can log in at present, please try again later") from None
        if self.credential:
            await self.answer(235, "2.7.0", "Welcome")
            return
        self._failures += 1
        await asyncio.sleep(WRONG)
        if self._failures >= LOGINS:
            raise Hangup(421, "4.7.0", "Too many failures to log in")
        raise Bad(535, "5.7.8", "User name or password is wrong. They are those of an SMTP credential of your project in MailHub")

    def let_in(self) -> Credential:
        if not self.session.host_name:
            raise Bad(503, "5.5.1", "EHLO first")
        if self.credential is None:
            raise Bad(530, "5.7.0", "Log in first" if self.may_log_in else "STARTTLS and log in first")
        return self.credential

    # -------------------------------------------------------------------------------------------------------------------- a mail

    async def smtp_MAIL(self, argument: str) -> None:
        credential = self.let_in()
        if self.envelope.mail_from is not None:
            raise Bad(503, "5.5.1", "There is a sender already")
        path, given = read_path("FROM:", argument)
        utf8 = read_parameters(given)
        address = self._address(path, utf8, "5.1.7") if path else ""
        try:
            refusal = await self.server.may_use(credential, address)
        except DatabaseError:
            raise Bad(451, "4.3.0", "Mail cannot be stored at present, please try again later") from None
        if refusal:
            raise Bad(550, "5.7.1", refusal.words)
        self.envelope.mail_from, self.envelope.smtp_utf8 = address, utf8
        await self.answer(250, "2.1.0", "OK")

    async def smtp_RCPT(self, argument: str) -> None:
        credential = self.let_in()
        if self.envelope.mail_from is None:
            raise Bad(503, "5.5.1", "MAIL first")
        path, given = read_path("TO:", argument)
        if given:
            raise Bad(555, "5.5.4", "RCPT takes no parameters here")
        if not path:
            raise Bad(553, "5.1.3", "A recipient has an address")
        address = self._address(path, self.envelope.smtp_utf8, "5.1.3")
        if len(self.envelope.rcpt_tos) >= sending.MOST_RECIPIENTS:
            raise Bad(452, "4.5.3", "Too many recipients: send it to the others as another mail")
        if not self.server.rates.take(credential.pk):
            raise Bad(450, "4.7.1", f"More than {self.server.rates.limit} recipients a minute, please try again later")
        self.envelope.rcpt_tos.append(address)
        await self.answer(250, "2.1.5", "OK")

    def _address(self, path: str, utf8: bool, enhanced: str) -> str:
        if path.startswith("@") or ROUTE.fullmatch(path):
            raise Bad(553, enhanced, "Routes within addresses are not followed")
        if not path.isascii() and not utf8:
            raise Bad(553, "5.6.7", "An address beyond ASCII needs SMTPUTF8")
        try:
            return addresses.normalise(path)
        except ValidationError as error:
            raise Bad(553, enhanced, error.messages[0]) from None

    async def smtp_DATA(self, argument: str) -> None:
        credential = self.let_in()
        self._nothing_after("DATA", argument)
        if not self.envelope.rcpt_tos:
            raise Bad(503, "5.5.1", "RCPT first")
        if self.server.full:
            raise no_room()
        self._idle = False
        try:
            await self.push("354 End the mail with a line of one dot")
            raw = await self.read_mail()
            outcome = await self.hand_in(raw, credential)
        finally:
            self._idle = True
            self.server.holds(self, 0)
            self.envelope = Envelope()
        await self.tell(outcome)

    async def read_mail(self) -> bytes:
        """All up to CRLF.CRLF, and to nothing that only looks like it; without dot-stuffing. Raises Bad for more than is taken."""
        # The first line begins behind a CRLF, too: that of DATA.
        held = bytearray(b"\r\n") + self._rest
        self._rest.clear()
        begun, total, looked = self.loop.time(), len(held), 0
        refusal: Bad | None = None
        while (end := held.find(b"\r\n.\r\n", looked)) < 0:
            refusal = refusal or self._too_much(held)
            if refusal:
                # What is refused in the end need not be kept until then.
                del held[:-4]
            looked = max(len(held) - 4, 0)
            patience = begun + IDLE + total / SLOWEST - self.loop.time()
            self._reset_timeout(max(min(BLOCK, patience), 0.001))
            await self._flush()
            found = await self._reader.read(CHUNK)
            if not found:
                raise ConnectionResetError
            held += found
            total += len(found)
            self.server.holds(self, len(held))
        self._rest += held[end + 5 :]
        if refusal or end > contents.LARGEST_MAIL:
            raise refusal or too_large()
        del held[end + 2 :]
        return bytes(held.replace(b"\r\n.", b"\r\n")[2:])

    def _too_much(self, held: bytearray) -> Bad | None:
        """The mail is larger than is taken, or large when there is no room."""
        if len(held) > contents.LARGEST_MAIL + 2:
            return too_large()
        return no_room() if len(held) > 2 * CHUNK and self.server.full else None

    async def hand_in(self, raw: bytes, credential: Credential) -> Submission | NotAccepted:
        envelope = self.envelope
        arrival = mail.Arrival(
            helo=self.session.host_name or "",
            peer=self.peer,
            name=self.server.name,
            encrypted=self.encrypted,
            international=envelope.smtp_utf8,
            reference=uuid.uuid4(),
            at=timezone.now(),
            only_to=envelope.rcpt_tos[0] if len(set(envelope.rcpt_tos)) == 1 else "",
        )
        try:
            fit = mail.fit(raw, arrival)
        except mail.Unfit as unfit:
            refusal = Hangup if unfit.code == mail.CUT else Bad
            raise refusal(unfit.code, unfit.enhanced, unfit.why) from None
        # A client that did not hear "250" sends the very same again, and is told what it would have been told.
        once = mail.same(raw, envelope.rcpt_tos, credential.pk, arrival.at) if fit.named else ""
        request = Request(
            sender=fit.sender,
            recipients=envelope.rcpt_tos,
            via=Submission.Via.SMTP,
            raw=fit.raw,
            project=credential.project,
            idempotency_key=once,
            digest=once,
            reference=arrival.reference,
            origin=f"{credential}, {self.peer} ({arrival.helo})",
        )
        # However long it takes: what is being committed is not disowned.
        self._reset_timeout(COMMIT)
        try:
            return await self.server.committer.commit(request, credential.pk)
        except Unavailable:
            raise Bad(451, "4.3.0", "Mail cannot be stored at present, please try again later") from None

    async def tell(self, outcome: Submission | NotAccepted) -> None:
        if isinstance(outcome, Submission):
            self._refusals = 0
            await self.answer(250, "2.0.0", f"queued as {outcome.content.public_id}")
            return
        if isinstance(outcome, Limited):
            raise Bad(451, "4.7.1", outcome.words)
        code, enhanced = (550, "5.7.1") if isinstance(outcome, Forbidden) else CODES.get(outcome.field.partition("[")[0], (554, "5.6.0"))
        raise Bad(code, enhanced, outcome.words)


# ------------------------------------------------------------------------------------------------------------- words on the wire


def lines(code: int, enhanced: str, words: str) -> list[bytes]:
    """A reply in lines that are not too long."""
    parts = [words] if len(words) <= WIDTH else textwrap.wrap(words, WIDTH, break_on_hyphens=False)
    heads = [f"{code}-{enhanced} "] * (len(parts) - 1) + [f"{code} {enhanced} "]
    return [ascii_only(head + part) + b"\r\n" for head, part in zip(heads, parts, strict=True)]


def ascii_only(text: str) -> bytes:
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(character if " " <= character <= "~" else "?" for character in text).encode()


def too_large() -> Bad:
    return Bad(552, "5.3.4", f"The mail is larger than {contents.LARGEST_MAIL // 1024 // 1024} MB")


def no_room() -> Bad:
    return Bad(452, "4.3.1", "Too much mail is on its way in, please try again soon")


def decoded(text: bytes) -> bytes:
    """RFC 4954 section 4: "=" is an empty response. Raises Bad."""
    if text == b"=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Bad(501, "5.5.2", "That is no base64") from None


def read_path(keyword: str, argument: str) -> tuple[str, str]:
    """What stands between < and >, and what follows. Raises Bad."""
    found = PATH.fullmatch(argument[len(keyword) :].lstrip(" ")) if argument[: len(keyword)].upper() == keyword else None
    if found is None:
        raise Bad(501, "5.5.4", f"Write {keyword}<address>")
    return found[1], found[2] or ""


def read_parameters(text: str) -> bool:
    """Those of MAIL; whether SMTPUTF8 is among them. Raises Bad."""
    given: dict[str, str | None] = {}
    for word in text.split():
        found = PARAMETER.fullmatch(word)
        name = found[1].upper() if found else ""
        if found is None or name in given:
            raise Bad(501, "5.5.4", "That is no parameter, or given twice")
        given[name] = found[2]
    for name, value in given.items():
        READERS.get(name, unknown)(value)
    return "SMTPUTF8" in given


def unknown(value: str | None) -> NoReturn:
    raise Bad(555, "5.5.4", "MAIL does not take that parameter")


def read_size(value: str | None) -> None:
    """RFC 1870."""
    if value is None or not value.isdigit() or len(value) > 20:
        raise Bad(501, "5.5.4", "SIZE is a number")
    if int(value) > contents.LARGEST_MAIL:
        raise too_large()


def read_body(value: str | None) -> None:
    """RFC 6152. Whichever it says, the mail itself is looked at: clients send 8-bit text unannounced."""
    if (value or "").upper() not in ("7BIT", "8BITMIME"):
        raise Bad(501, "5.5.4", "BODY is 7BIT or 8BITMIME")


def read_smtputf8(value: str | None) -> None:
    if value is not None:
        raise Bad(501, "5.5.4", "SMTPUTF8 takes no value")


def read_auth(value: str | None) -> None:
    """RFC 4954 section 5: who it was that another server let in. It may be ignored, and is."""
    if value is None:
        raise Bad(501, "5.5.4", "AUTH needs a value")


READERS: dict[str, Any] = {"SIZE": read_size, "BODY": read_body, "SMTPUTF8": read_smtputf8, "AUTH": read_auth}
