"""A relay's connection, tried step by step for staff who watch: no mail is sent."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from django.utils import translation
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from mailhub.lib import dialer
from mailhub.relays import failures
from mailhub.relays.base import RelayDown, Reply
from mailhub.relays.client import Client, Lost
from mailhub.relays.failures import Failure
from mailhub.relays.models import Relay
from mailhub.relays.providers.smtp import CONNECT, SMTP, tls_context

# Someone waits for the page, and the web server ends what takes longer than 30 s.
PATIENCE = 25.0
MASK = "••••••••"
# Commands that hold no secret; anything else is an answer to a question of AUTH.
PLAIN = ("STARTTLS", "MAIL", "RSET", "QUIT")

TITLES: dict[str, Any] = {
    "resolve": _("Find the server"),
    "connect": pgettext_lazy("to a server", "Connect"),
    "tls": _("Encrypt"),
    "greeting": _("Greet"),
    "login": _("Log in"),
    "sender": _("Sender accepted"),
}


@dataclass(slots=True)
class Step:
    #: one of failures.PHASES
    phase: str
    seconds: float = 0.0
    #: what was said, a line each: "→" by us, "←" by the server, "·" what else happened
    transcript: list[str] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def title(self) -> str:
        return str(TITLES[self.phase])

    @property
    def said(self) -> str:
        return "\n".join(self.transcript)


class Overheard(Client):
    """Writes down what is said, without secrets."""

    def __init__(self, lines: list[str], secret: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lines = lines
        self.secret = secret

    async def hello(self) -> Reply:
        self.lines.append(f"→ EHLO {self.name or self._own_name()}")
        return await super().hello()

    async def ask(self, command: str) -> Reply:
        word = command.partition(" ")[0]
        self.lines.append("→ " + (command if word in PLAIN else f"AUTH {command.split()[1]} {MASK}" if word == "AUTH" else MASK))
        return await super().ask(command)

    def _read(self, raw: Any) -> Reply:
        reply = super()._read(raw)
        said = str(reply)
        self.lines.append("← " + (said.replace(self.secret, MASK) if self.secret else said))
        return reply


class Probe:
    """One try. `steps` holds what has been done so far, the last of them perhaps with its failure."""

    def __init__(self, relay: Relay, mail_from: str) -> None:
        self.provider = SMTP(relay)
        self.mail_from = mail_from
        self.steps: list[Step] = []
        self.lines: list[str] = []
        self.addresses: list[str] = []

    async def run(self) -> list[Step]:
        options = self.provider.options
        self.client = Overheard(
            self.lines, self.provider.password, patience=options.patience, final_timeout=options.final_timeout, name=options.ehlo_name
        )
        try:
            for phase, deed in self._plan():
                if not await self._step(phase, deed):
                    break
        finally:
            await self.client.quit()
        return self.steps

    def _plan(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        options = self.provider.options
        plan = [("resolve", self._resolve), ("connect", self._connect)]
        if options.security == "tls":
            plan += [("tls", self._tls)]
        plan += [("greeting", self._greet)]
        if options.security == "starttls":
            plan += [("tls", self._starttls)]
        if options.username:
            plan += [("login", self._log_in)]
        return [*plan, ("sender", self._sender)]

    async def _step(self, phase: str, deed: Callable[[], Awaitable[None]]) -> bool:
        step = Step(phase)
        self.steps.append(step)
        begun, self.lines[:] = time.monotonic(), []
        said: Reply | None = None
        try:
            left = PATIENCE - sum(step.seconds for step in self.steps)
            async with asyncio.timeout(max(left, 0.0)):
                await deed()
        except TimeoutError as error:
            # Ours, or of the one address that was tried last.
            said = Reply(
                None, "", f"{error} ETIMEDOUT port {self.provider.options.port}".strip() if phase == "connect" else "No answer in time."
            )
        except (RelayDown, Lost) as error:
            said = error.reply
        except OSError as error:
            said = Reply(None, "", _told(error, self.provider.options.port))
        step.seconds = time.monotonic() - begun
        if said is not None:
            if said.code is None:
                self.lines.append(f"✗ {said.text}")
            step.failure = failures.explain(phase, said)
        step.transcript = list(self.lines)
        return step.failure is None

    async def _resolve(self) -> None:
        self.addresses = await dialer.resolve(self.provider.options.host)
        self.lines.append("· " + ", ".join(self.addresses))

    async def _connect(self) -> None:
        port = self.provider.options.port
        await self.client.connect(await dialer.connect(self.addresses, port, timeout=CONNECT))
        self.lines.append(f"· {self.client.address('peername')}:{port}")

    async def _tls(self) -> None:
        context = tls_context(self.provider.options.verify_certificate, ssl.get_default_verify_paths())
        await self.client.start_tls(context, self.provider.options.host)
        transport = self.client.wire.transport
        tls: Any = transport.get_extra_info("ssl_object") if transport else None
        if tls is not None:
            self.lines.append(f"· {tls.version()}, {tls.cipher()[0]}")

    async def _greet(self) -> None:
        self.provider.expect(220, await self.client.greeting())
        self.provider.expect(250, await self.client.hello())

    async def _starttls(self) -> None:
        if "STARTTLS" not in self.client.offers:
            raise RelayDown(Reply(None, "", "The server does not offer STARTTLS."))
        self.provider.expect(220, await self.client.ask("STARTTLS"))
        await self._tls()
        self.provider.expect(250, await self.client.hello())

    async def _log_in(self) -> None:
        await self.provider.log_in(self.client)

    async def _sender(self) -> None:
        reply = await self.client.ask(f"MAIL FROM:<{self.mail_from}>")
        if reply.code != 250:
            raise RelayDown(reply)
        await self.client.ask("RSET")


def _told(error: OSError, port: int) -> str:
    """An error in words that failures.py knows."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message or error)
    if isinstance(error, dialer.Forbidden):
        return "That is not a public address."
    if error.errno and error.errno in errno.errorcode and not isinstance(error, ssl.SSLError):
        return f"{errno.errorcode[error.errno]} ({os.strerror(error.errno)}), port {port}"
    return str(error)


async def probe(relay: Relay, mail_from: str) -> list[Step]:
    """What comes of trying an SMTP relay out, as far as a sender's address, which is `mail_from` in the form of the wire."""
    # failures.py knows what is said in one language; its own words come in that of the page.
    with translation.override("en"):
        return await Probe(relay, mail_from).run()
