"""Any SMTP server: an account at a mail provider or a bulk service, or a server of one's own."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mailhub.lib import dialer
from mailhub.relays import marks, replies
from mailhub.relays.base import Deferred, Envelope, RelayDown, Reply
from mailhub.relays.client import CONTROL, HOST, Answered, Client, Lost, Stale
from mailhub.relays.replies import Phase

if TYPE_CHECKING:
    from mailhub.relays.models import Relay

# One mail may be what makes a server hang up; so many in a row, from all connections of a drain, are the server.
BREAKS = 3
# Of one address of the server.
CONNECT = 10.0
# Servers (host, port) that did not take the commands that came with the end of a mail; known while the process lives.
unhurried: set[tuple[str, int]] = set()


# ------------------------------------------------------------------------------------------------------------------------ options


class SMTPForm(forms.Form):
    rarely = (
        "auth_method", "allow_insecure_auth", "ehlo_name", "messages_per_connection", "connection_age", "patience", "final_timeout",
    )  # fmt: skip
    host = forms.CharField(label=gettext_lazy("server"), max_length=255, help_text=gettext_lazy("Such as smtp.example.com."))
    port = forms.IntegerField(
        label=gettext_lazy("port"),
        initial=587,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=gettext_lazy("Mostly 587 with STARTTLS, 465 with TLS from the start."),
    )
    security = forms.ChoiceField(
        label=gettext_lazy("encryption"),
        initial="starttls",
        choices=[
            ("starttls", gettext_lazy("STARTTLS: encrypt before anything is said, or do not send")),
            ("tls", gettext_lazy("TLS from the start")),
            ("none", gettext_lazy("none: mail and password can be read on their way")),
        ],
    )
    verify_certificate = forms.BooleanField(
        label=gettext_lazy("check the server's certificate"),
        initial=True,
        required=False,
        help_text=gettext_lazy("Without it anyone on the way can pose as the server, and read and change the mail."),
    )
    username = forms.CharField(label=gettext_lazy("user name"), max_length=255, required=False, strip=False)
    password = forms.CharField(
        label=gettext_lazy("password or OAuth token"), max_length=8192, required=False, strip=False, widget=forms.PasswordInput
    )
    auth_method = forms.ChoiceField(
        label=gettext_lazy("way to log in"),
        initial="auto",
        required=False,
        choices=[
            ("auto", gettext_lazy("PLAIN or LOGIN, as the server offers")),
            ("plain", "PLAIN"),
            ("login", "LOGIN"),
            ("xoauth2", gettext_lazy("XOAUTH2 (the password is an access token)")),
        ],
    )
    allow_insecure_auth = forms.BooleanField(
        label=gettext_lazy("log in even where the password could be read"),
        required=False,
        help_text=gettext_lazy("Without encryption, or without a checked certificate, the password is sent only to this machine."),
    )
    ehlo_name = forms.CharField(
        label=gettext_lazy("EHLO name"),
        max_length=255,
        required=False,
        help_text=gettext_lazy("The full host name by which we introduce ourselves. Empty: this machine's."),
    )
    messages_per_connection = forms.IntegerField(
        label=gettext_lazy("mails per connection"),
        initial=100,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text=gettext_lazy("Then another connection is opened. Many servers end one after a hundred."),
    )
    connection_age = forms.IntegerField(
        label=gettext_lazy("age of a connection (seconds)"), initial=300, validators=[MinValueValidator(1), MaxValueValidator(86_400)]
    )
    patience = forms.IntegerField(
        label=gettext_lazy("patience (seconds)"),
        initial=30,
        validators=[MinValueValidator(5), MaxValueValidator(300)],
        help_text=gettext_lazy("How long the server may take to let us in, and again until it has all of a mail."),
    )
    final_timeout = forms.IntegerField(
        label=gettext_lazy("patience for the last reply (seconds)"),
        initial=60,
        validators=[MinValueValidator(10), MaxValueValidator(600)],
        help_text=gettext_lazy(
            "For the reply to a whole mail. Whether the mail was taken is unknown when none comes: rather too long than too short."
        ),
    )

    def clean_host(self) -> str:
        host: str = self.cleaned_data["host"].strip("[]")
        try:
            ip_address(host)
        except ValueError:
            if ":" in host or "/" in host:
                raise ValidationError(_("Only the server's name, such as smtp.example.com; the port has a field of its own.")) from None
            if not HOST.fullmatch(host):
                raise ValidationError(
                    _("“%(host)s” is no host name. One with other letters is written in its “xn--” form."), params={"host": host}
                ) from None
        return host

    def clean_ehlo_name(self) -> str:
        name: str = self.cleaned_data["ehlo_name"]
        if name and not HOST.fullmatch(name) and not re.fullmatch(r"\[[0-9A-Fa-f:.IPv]+\]", name):
            raise ValidationError(_("“%(name)s” is no host name. Write it such as mail.example.com."), params={"name": name})
        return name

    def clean_username(self) -> str:
        return self._one_line("username")

    def clean_password(self) -> str:
        return self._one_line("password")

    def _one_line(self, name: str) -> str:
        value: str = self.cleaned_data[name]
        if CONTROL.search(value):
            raise ValidationError(_("There is a line break or a control character in it; perhaps it was copied along."))
        return value

    def clean_auth_method(self) -> str:
        return self.cleaned_data["auth_method"] or "auto"

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        username, password = given.get("username"), given.get("password")
        if username and not password and "password" not in self.errors:
            self.add_error("password", _("A user name needs a password. Leave both empty for a server without log-in."))
        if password and not username and "username" not in self.errors:
            self.add_error("username", _("A password needs a user name. Leave both empty for a server without log-in."))
        if username and not given.get("allow_insecure_auth") and not is_loopback(given.get("host", "")):
            if given.get("security") == "none":
                problem = _("Without encryption the password could be read on its way. Choose STARTTLS or TLS, or allow it below.")
                self.add_error("security", problem)
            elif "security" in given and not given.get("verify_certificate"):
                problem = _("Without a checked certificate the password could go to anyone. Check it, or allow it below.")
                self.add_error("verify_certificate", problem)
        return given


@dataclass(frozen=True, slots=True)
class Options:
    """What SMTPForm asks for, with its answers to what was left out."""

    host: str
    port: int = 587
    security: str = "starttls"
    verify_certificate: bool = True
    username: str = ""
    auth_method: str = "auto"
    allow_insecure_auth: bool = False
    ehlo_name: str = ""
    messages_per_connection: int = 100
    connection_age: float = 300
    patience: float = 30
    final_timeout: float = 60

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Options:
        return cls(**{name: value for name, value in stored.items() if name in cls.__slots__ and value is not None})


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


@lru_cache(maxsize=8)
def tls_context(verify: bool, paths: object) -> ssl.SSLContext:
    """Reading the authorities takes tens of milliseconds; `paths`, where they lie, is only there to tell one from another."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# ------------------------------------------------------------------------------------------------------------------------ provider


class SMTP:
    label = gettext_lazy("SMTP server")
    options_form: ClassVar[type[forms.Form]] = SMTPForm
    secret_options: ClassVar[frozenset[str]] = frozenset({"password"})
    uses_pool: ClassVar[bool] = False

    def __init__(self, relay: Relay) -> None:
        self.options = Options.of(relay.options)
        self.password: str = relay.secrets.get("password", "")
        self.server = self.options.host, self.options.port
        self.mark = marks.marker(self.options.host)
        #: the server has taken mail of ours
        self.let_in = False
        #: connections lost in the middle of a mail, over all sessions, since a mail was last answered
        self.breaks = 0

    async def open(self) -> SMTPSession:
        return SMTPSession(self, await self.connect())

    async def connect(self) -> Client:
        """A connection on which mail can be sent. Raises RelayDown."""
        options = self.options
        client = Client(patience=options.patience, final_timeout=options.final_timeout, name=options.ehlo_name)
        try:
            async with asyncio.timeout(options.patience):
                await self.set_up(client)
        except TimeoutError:
            await client.wire.close()
            down(_("The server did not let us in in time."))
        except Lost as lost:
            await client.wire.close()
            down(lost.reply)
        except BaseException:
            await client.wire.close()
            raise
        return client

    async def set_up(self, client: Client) -> None:
        await self.dial(client)
        if self.options.security == "tls":
            await self.start_tls(client)
        self.expect(220, await client.greeting())
        self.expect(250, await client.hello())
        if self.options.security == "starttls":
            if "STARTTLS" not in client.offers:
                down(_("The server does not offer STARTTLS. Choose TLS from the start, or another port."), replies.FOR_STAFF)
            self.expect(220, await client.ask("STARTTLS"))
            await self.start_tls(client)
            self.expect(250, await client.hello())
        if self.options.username:
            await self.log_in(client)

    def expect(self, code: int, reply: Reply) -> None:
        """Refused at the door: until the server has room again where it says so, until staff have looked where it is for good."""
        if reply.code != code:
            judged = replies.judge(reply, Phase.MAIL)
            if isinstance(judged, RelayDown):
                raise judged
            down(reply, replies.FOR_STAFF if (reply.code or 0) >= 500 else None)

    async def dial(self, client: Client) -> None:
        options = self.options
        try:
            addresses = await dialer.resolve(options.host)
            await client.connect(await dialer.connect(addresses, options.port, timeout=CONNECT))
        except dialer.Forbidden as error:
            allow = _("%(error)s Name its network in MAILHUB_ALLOW_PRIVATE_ADDRESSES to connect to it all the same.")
            down(allow % {"error": error}, replies.FOR_STAFF)
        except OSError as error:
            why = _("No connection to %(host)s, port %(port)s: %(error)s")
            # asyncio's own words name the address and not what was wrong.
            problem = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            down(why % {"host": options.host, "port": options.port, "error": problem})

    async def start_tls(self, client: Client) -> None:
        context = tls_context(self.options.verify_certificate, ssl.get_default_verify_paths())
        try:
            await client.start_tls(context, self.options.host)
        except ssl.SSLCertVerificationError as error:
            why = _("The server's certificate cannot be trusted: %(error)s")
            down(why % {"error": error.verify_message or error}, replies.FOR_STAFF)
        except OSError as error:
            down(_("TLS could not be started: %(error)s") % {"error": error})

    # -- logging in (RFC 4954)

    async def log_in(self, client: Client) -> None:
        options = self.options
        proven = client.encrypted and options.verify_certificate
        if not proven and not options.allow_insecure_auth and not is_loopback(client.address("peername")):
            down(_("The password was not sent, because it could have been read on its way."), replies.FOR_STAFF)
        offered = client.offers.get("AUTH", "").split()
        mechanism = next((name for name in MECHANISMS[options.auth_method] if name in offered), None)
        if mechanism is None:
            words = {"offered": ", ".join(offered) or "-", "wanted": ", ".join(MECHANISMS[options.auth_method])}
            down(_("No way to log in. Offered: %(offered)s. Wanted: %(wanted)s.") % words, replies.FOR_STAFF)
        if mechanism == "LOGIN":
            reply = await self.log_in_by_login(client)
        elif mechanism == "XOAUTH2":
            reply = await respond(client, mechanism, f"user={options.username}\1auth=Bearer {self.password}\1\1")
            if reply.code == 334:
                # What is wrong came as a challenge; the refusal itself follows an empty answer.
                reply = await client.ask("")
        else:
            reply = await respond(client, mechanism, f"\0{options.username}\0{self.password}")
        if reply.code != 235:
            down(reply, replies.FOR_STAFF if (reply.code or 0) >= 500 else None)

    async def log_in_by_login(self, client: Client) -> Reply:
        reply = await client.ask("AUTH LOGIN")
        for answer in (self.options.username, self.password):
            if reply.code == 334:
                reply = await client.ask(encoded(answer))
        return reply


MECHANISMS = {"auto": ("PLAIN", "LOGIN"), "plain": ("PLAIN",), "login": ("LOGIN",), "xoauth2": ("XOAUTH2",)}


async def respond(client: Client, mechanism: str, response: str) -> Reply:
    """With the initial response on the command's line, or after the server's go-ahead where it would be too long for that."""
    command = f"AUTH {mechanism} {encoded(response)}"
    if len(command) <= 510:
        return await client.ask(command)
    reply = await client.ask(f"AUTH {mechanism}")
    return await client.ask(encoded(response)) if reply.code == 334 else reply


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def down(why: str | Reply, rest: timedelta | None = None) -> NoReturn:
    reply = why if isinstance(why, Reply) else Reply(None, "", why[:500])
    raise RelayDown(reply, rest) if rest else RelayDown(reply)


# ------------------------------------------------------------------------------------------------------------------------- session


class SMTPSession:
    def __init__(self, provider: SMTP, client: Client) -> None:
        self.provider = provider
        self.client = client

    @property
    def spent(self) -> bool:
        client, options = self.client, self.provider.options
        too_old = client.loop.time() - client.opened_at >= options.connection_age
        return too_old or client.count >= options.messages_per_connection or not client.alive

    async def close(self) -> None:
        await self.client.quit()

    def announce(self, envelope: Envelope) -> None:
        provider = self.provider
        if provider.server not in unhurried and self.client.count + 1 < provider.options.messages_per_connection:
            self.client.announce(provider.mark(envelope) if provider.mark else envelope)

    async def send(self, envelope: Envelope) -> Reply:
        provider = self.provider
        if provider.mark:
            envelope = provider.mark(envelope)
        announced = self.client.announced == envelope.message
        try:
            try:
                reply = await self.client.send(envelope)
            except Stale:
                if announced:
                    unhurried.add(provider.server)
                reply = await self.send_anew(envelope)
        except Answered as answered:
            provider.breaks = 0
            raise replies.judge(answered.reply, answered.phase, let_in=provider.let_in) from None
        except Lost as lost:
            # Whether it was this mail or not: it was not accepted, and is tried again, after others.
            provider.breaks += 1
            raise RelayDown(lost.reply) if provider.breaks >= BREAKS else Deferred(lost.reply) from None
        provider.breaks, provider.let_in = 0, True
        return reply

    async def send_anew(self, envelope: Envelope) -> Reply:
        """On another connection."""
        await self.client.wire.close()
        self.client = await self.provider.connect()
        try:
            return await self.client.send(envelope)
        except Stale:
            down(self.client.wire.failure or _("The server let us in and takes no mail."))
