"""E-mail service providers (ESPs) by their own HTTP interfaces, through django-anymail: one adapter, and a table of them at the end.

Anymail knows how each wants a mail and what its answers say. What is decided here: which answers mean that the mail was taken, that it
was not, and that nobody knows; and where connections may lead. docs/relays.md explains it to staff.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import policy
from email.errors import MessageError
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from urllib.parse import urlsplit

import requests
from anymail import exceptions as anymail
from django import forms
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import RegexValidator
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from mailhub.lib import dialer
from mailhub.relays import replies
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.marks import METADATA
from mailhub.relays.providers import batches
from mailhub.relays.providers.batches import Batch, Gatherer
from mailhub.relays.replies import Phase

if TYPE_CHECKING:
    import socket

    from mailhub.relays.models import Relay

# Seconds for one address of the ESP; between two pieces of its answer, and for all of it.
CONNECT = 10.0
PATIENCE = 30.0
ANSWER = 60.0
# An answer longer than this (bytes) is none.
LONGEST_ANSWER = 1024 * 1024
# Longer than an ESP may keep us away by its own words.
LONGEST_REST = timedelta(days=1)

# ------------------------------------------------------------------------------------------------------------------- the mail

# The ESP writes these itself, or is told them in fields of their own. It signs with its own key: what we signed is no longer there.
OWN_FIELDS = frozenset({
    "from", "to", "cc", "bcc", "subject", "reply-to", "date", "message-id", "mime-version", "return-path", "received", "dkim-signature",
})  # fmt: skip


class Mail(EmailMultiAlternatives):
    """An envelope's mail as anymail takes it. Raises Refused where it cannot be told apart into fields."""

    metadata: dict[str, str]
    tags: list[str]
    esp_extra: dict[str, Any]

    def __init__(self, envelope: Envelope) -> None:
        self.parsed = parsed = parse(envelope.data)
        senders = ", ".join(str(address) for address in addresses(parsed, "From"))
        if not senders:
            refuse("5.6.0", _("The mail names no sender."))
        text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
        try:
            super().__init__(
                subject=str(parsed["Subject"] or ""),
                body=words(text) if text else "",
                from_email=senders,
                to=[named(envelope.rcpt_to, addresses(parsed, "To") + addresses(parsed, "Cc"))],
                reply_to=[str(address) for address in addresses(parsed, "Reply-To")],
                headers=dict(others(parsed)),
            )
            if html:
                self.attach_alternative(words(html), "text/html")
            self.attachments = [attachment(part) for part in parts(parsed) if part is not text and part is not html]
        except (LookupError, ValueError, MessageError) as error:
            # An alphabet or an encoding that nobody knows.
            refuse("5.6.1", _("The mail cannot be read: %(error)s") % {"error": error})

    def message(self, *, policy: Any = None) -> Any:
        """For the one that takes mails whole (Amazon SES)."""
        del self.parsed["DKIM-Signature"]
        for part in self.parsed.walk():
            if part.is_multipart():
                # Anymail puts 8-bit parts into 7-bit, and knows no better than to try that with what only holds parts.
                del part["Content-Transfer-Encoding"]
        return self.parsed


def words(part: MIMEPart) -> str:
    return str(part.get_content()).replace("\r\n", "\n")


def parse(data: bytes) -> EmailMessage:
    return BytesParser(policy=policy.default).parsebytes(data)


def addresses(mail: EmailMessage, name: str) -> list[Address]:
    return [address for field in mail.get_all(name, []) for address in field.addresses]


def named(recipient: str, known: list[Address]) -> str:
    """The envelope's recipient, by the name that the mail calls it."""
    name = next((address.display_name for address in known if address.addr_spec.lower() == recipient.lower()), "")
    return str(Address(name, addr_spec=recipient)) if name else recipient


def others(mail: EmailMessage) -> Iterator[tuple[str, str]]:
    """Header fields that the ESP is to pass on as they are, in ASCII and on one line."""
    for name, value in mail.raw_items():
        if name.lower() not in OWN_FIELDS and not name.lower().startswith("content-"):
            text = " ".join(str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
            yield name, " ".join(word if word.isascii() else Header(word, "utf-8").encode(maxlinelen=0) for word in text.split(" "))


def parts(mail: MIMEPart) -> Iterator[MIMEPart]:
    """What it is made of; a mail within it is one part."""
    if mail.get_content_maintype() == "multipart":
        for part in mail.iter_parts():
            yield from parts(part)
    else:
        yield mail


def attachment(part: MIMEPart) -> Any:
    if part.get_content_type() != "message/rfc822":
        return part
    inner: EmailMessage = part.get_content()
    return part.get_filename() or "message.eml", inner.as_bytes(policy=policy.SMTP), "message/rfc822"


def refuse(enhanced: str, why: str, fault: Fault = Fault.CONTENT) -> NoReturn:
    raise Refused(Reply(None, enhanced, why[:500]), fault)


# -------------------------------------------------------------------------------------------------------------- the connection


class Dialled:
    """Half of a connection class of urllib3: the guarded way out, and a note when the first byte of a request may leave."""

    door: ClassVar[Door]
    sock: Any
    host: str
    port: int
    timeout: Any

    def _new_conn(self) -> socket.socket:
        sock = asyncio.run(dial(self.host, self.port))
        sock.settimeout(self.timeout)
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        self.door.begun = True
        super().request(*args, **options)  # type: ignore[misc]


async def dial(host: str, port: int) -> socket.socket:
    return await dialer.connect(await dialer.resolve(host), port, timeout=CONNECT)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Door(HTTPAdapter):
    """Where all requests of one session go out."""

    def __init__(self) -> None:
        #: some of the last request may have reached the ESP
        self.begun = False
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        pools: list[type[HTTPConnectionPool]] = [HTTPConnectionPool, HTTPSConnectionPool]
        self.poolmanager.pool_classes_by_scheme = {
            pool.scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("Connection", (Dialled, pool.ConnectionCls), {"door": self})})
            for pool in pools
        }


class Web(requests.Session):
    """No redirect, no proxy or password from the environment; an answer is bounded in size and in time."""

    def __init__(self, user_agent: str, gatherer: Gatherer | None = None) -> None:
        super().__init__()
        self.gatherer = gatherer
        self.trust_env = False
        self.headers["User-Agent"] = user_agent
        self.door = Door()
        self.mount("https://", self.door)
        self.mount("http://", self.door)

    def request(self, **options: Any) -> requests.Response:  # type: ignore[override]
        return self.gatherer.request(self, options) if self.gatherer else self.ask(options)

    def ask(self, options: Mapping[str, Any]) -> requests.Response:
        self.door.begun = False
        try:
            check_url(options["url"])
        except ValidationError as error:
            raise requests.exceptions.InvalidURL(error.messages[0]) from None
        end = time.monotonic() + ANSWER
        response = super().request(**{**options, "stream": True, "allow_redirects": False, "timeout": PATIENCE})
        body = b""
        for piece in response.iter_content(16_384):
            body += piece
            if len(body) > LONGEST_ANSWER or time.monotonic() > end:
                response.close()
                raise requests.ReadTimeout(_("The answer did not end."))
        response._content = body
        return response


# ------------------------------------------------------------------------------------------------------------------- decisions

# What the codes of HTTP mean whatever is said with them. 5xx but 503 may come from a gateway before one that took the mail.
LET_IN = frozenset({401, 402, 403, 404, 405, 407})
TOO_LARGE = frozenset({413})
LATER = frozenset({408, 425, 429, 503})
# What the ESP calls it, whatever the code. Amazon's:
OF_ACCOUNT = frozenset({
    "AccountSuspendedException", "SendingPausedException", "InvalidClientTokenId", "SignatureDoesNotMatch",
    # Mandrill's and Postal's, which answer with 500 and with 200.
    "Invalid_Key", "PaymentRequired", "Unknown_Subaccount", "InvalidServerAPIKey", "AccessDenied", "ServerSuspended",
})  # fmt: skip
OF_PACE = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling"})
OF_PERIOD = frozenset({"LimitExceededException"})
OF_SENDER = replies.words(
    r"\b(from|sender)\b.{0,60}\b(not|unverified|unconfirmed|invalid)\b"
    r"|(address|identity|domain|signature)\b.{0,40}\bnot (yet )?(been )?(verified|confirmed)"
)
# Exceptions of Amazon's library by name, so that it is only loaded where it is used: nothing has left.
NOT_SENT = frozenset({
    "EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError", "NoCredentialsError", "PartialCredentialsError",
    "ParamValidationError", "NoRegionError",
})  # fmt: skip


def decide(error: anymail.AnymailAPIError, begun: bool) -> SendError:
    """What became of a mail that the ESP did not answer for as it should."""
    if error.response is None:
        why = reason(error)
        if begun:
            return OutcomeUnknown(Reply(None, "", why))
        staff = isinstance(cause(error), dialer.Forbidden) or "certificate" in why
        return RelayDown(Reply(None, "", why), replies.FOR_STAFF if staff else timedelta(seconds=30))
    answer = Answer.of(error.response)
    if answer.status in LET_IN or answer.name in OF_ACCOUNT or 300 <= answer.status < 400:
        return RelayDown(answer.reply(), replies.FOR_STAFF)
    if answer.name in OF_PERIOD:
        return RelayDown(answer.reply(), replies.FOR_PERIOD)
    if answer.status in LATER or answer.name in OF_PACE:
        return RelayDown(answer.reply(), answer.retry_after or replies.FOR_PACE)
    if answer.status in TOO_LARGE:
        return Refused(answer.reply("5.3.4"), Fault.CONTENT)
    if 400 <= answer.status < 500 or answer.refused:
        return judged(answer.reply())
    return OutcomeUnknown(answer.reply())


def judged(reply: Reply) -> SendError:
    """By its words, as if an SMTP server had said them; but a recipient is at fault only where the ESP has a status for that."""
    decision = replies.judge(Reply(554, reply.enhanced, reply.text), Phase.DOT)
    decision.reply = reply
    if isinstance(decision, Refused) and decision.fault is not Fault.CONTENT:
        decision.fault = Fault.SENDER if OF_SENDER.search(reply.text) else Fault.POLICY
    return decision


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, words: str, fields: Mapping[str, str], name: str = "", refused: bool = False) -> None:
        self.status = status
        self.words = words
        self.retry_after = retry_after(fields.get("Retry-After") or fields.get("retry-after") or "")
        #: of the error, where the ESP gives it one
        self.name = name
        #: it says in so many words that it did nothing
        self.refused = refused

    @classmethod
    def of(cls, response: Any) -> Answer:
        if isinstance(response, requests.Response):
            found = document(response.text)
            said = found if isinstance(found, Mapping) else {}
            data = said.get("data")
            name = str(said.get("name") or (data.get("code") if isinstance(data, Mapping) else "") or "")
            refused = said.get("status") in ("error", "parameter-error") and name != "GeneralError"
            return cls(response.status_code, "; ".join(texts(found)), response.headers, name, refused)
        error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
        words = f"{error.get('Code', '')}: {error.get('Message', '')}"
        return cls(int(meta.get("HTTPStatusCode") or 500), words, meta.get("HTTPHeaders", {}), str(error.get("Code", "")))

    def reply(self, enhanced: str = "") -> Reply:
        return Reply(None, enhanced, printable(f"HTTP {self.status} {self.words}"))


def document(text: str) -> Any:
    """What a JSON document holds; of a page nothing but its title, of other text all."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        title = re.search(r"<title[^>]*>([^<]{0,200})", text, re.IGNORECASE)
        return title[1].strip() if title else "" if "<html" in text[:1000].lower() else text


def texts(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from texts(value)
    elif isinstance(found, list):
        for value in found:
            yield from texts(value)


def printable(text: str) -> str:
    """As it can be stored and shown."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))[:500]


def retry_after(value: str) -> timedelta | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        wish = timedelta(seconds=float(value))
    else:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        wish = (date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(max(wish, timedelta(seconds=1)), LONGEST_REST)


def cause(error: BaseException) -> BaseException:
    """What was wrong in the first place."""
    while below := error.__cause__ or error.__context__:
        error = below
    return error


def reason(error: BaseException) -> str:
    first = cause(error)
    return printable(str(first) or type(first).__name__)


# ---------------------------------------------------------------------------------------------------------------------- session


class Session:
    """A connection that is kept. Anymail waits for its answers in a thread of the session's own."""

    spent = False

    def __init__(self, provider: ESP, backend: Any, thread: ThreadPoolExecutor) -> None:
        self.provider = provider
        self.backend = backend
        self.thread = thread

    async def close(self) -> None:
        if self.provider.gatherer:
            self.provider.gatherer.closed()
        with suppress(RuntimeError):
            self.thread.submit(self.backend.close)
        self.thread.shutdown(wait=False)

    async def send(self, envelope: Envelope) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.hand_over, envelope)

    def hand_over(self, envelope: Envelope) -> Reply:
        try:
            return self.post(envelope)
        except OutcomeUnknown:
            # What went out with others was tried again with them.
            if not self.provider.idempotent or self.provider.gatherer:
                raise
        # By its key the ESP knows this mail again: it answers as it did, or takes it now. It is never sent twice.
        return self.post(envelope)

    def post(self, envelope: Envelope) -> Reply:
        mail = self.provider.told(Mail(envelope), envelope, self.backend)
        web = getattr(self.backend, "session", None)
        try:
            self.backend.send_messages([mail])
        except anymail.AnymailRecipientsRefused:
            pass  # Its status says which and why.
        except anymail.AnymailAPIError as error:
            begun = web.door.begun if web else type(error.__cause__).__name__ not in NOT_SENT
            raise decide(error, begun) from None
        except (anymail.AnymailUnsupportedFeature, anymail.AnymailInvalidAddress, anymail.AnymailSerializationError) as error:
            refuse("5.6.0", str(error.args[0] if error.args else error))
        except (KeyError, TypeError, ValueError, AttributeError, LookupError) as error:
            # Anymail did not understand the mail, or the answer.
            nobody_knows = web is None or web.door.begun
            raise (OutcomeUnknown if nobody_knows else Deferred)(Reply(None, "", printable(f"{type(error).__name__}: {error}"))) from error
        return self.outcome(mail)

    def outcome(self, mail: Any) -> Reply:
        status = mail.anymail_status
        found = next(iter(status.status or ()), "unknown")
        response = status.esp_response
        words = Answer.of(response).words if isinstance(response, requests.Response) else ""
        if self.provider.accepts not in (None, getattr(response, "status_code", None)):
            raise OutcomeUnknown(Reply(None, "", printable(words)))
        match found:
            case "sent" | "queued":
                number = status.message_id if isinstance(status.message_id, str) else ""
                return Reply(250, "2.0.0", printable(f"{self.backend.esp_name} {number}"))
            case "invalid":
                raise Refused(Reply(None, "5.1.3", printable(words)), Fault.RECIPIENT)
            case "rejected":
                # It is on the ESP's own list: known there, and no proof for us.
                raise Refused(Reply(None, "5.7.1", printable(words)), Fault.POLICY)
            case "failed":
                raise Deferred(Reply(None, "", printable(words)))
        raise OutcomeUnknown(Reply(None, "", printable(words)))


# ---------------------------------------------------------------------------------------------------------------------- provider


class ESP:
    """What all of them have in common. The table makes a class of it for each."""

    label: ClassVar[str | Promise]
    options_form: ClassVar[type[forms.Form]]
    secret_options: ClassVar[frozenset[str]]
    uses_pool: ClassVar[bool] = False
    #: of anymail's backend
    path: ClassVar[str]
    #: it keeps what we tell it about a mail, and repeats it in its callbacks; those that do not keep a tag
    keeps_metadata: ClassVar[bool]
    #: it knows a mail again by a key of ours: "header", or the name of its field; "" where it does not
    idempotent: ClassVar[str]
    #: the code by which it says that it took a mail, where nothing else does
    accepts: ClassVar[int | None]
    #: for anymail's backend besides what the row says
    fixed: ClassVar[Mapping[str, Any]]
    #: how it takes several mails in one request
    batch: ClassVar[Batch | None]

    def __init__(self, relay: Relay) -> None:
        self.options = {name: value for name, value in {**relay.options, **relay.secrets}.items() if value not in (None, "")}
        self.gatherer = Gatherer(self.batch) if self.batch else None

    async def open(self) -> Session:
        # What is slow in making one is done there too: Amazon's library reads megabytes.
        thread = ThreadPoolExecutor(1, thread_name_prefix="esp")
        try:
            backend = await asyncio.get_running_loop().run_in_executor(thread, self.backend)
        except Exception as error:
            thread.shutdown(wait=False)
            raise RelayDown(Reply(None, "", reason(error)), replies.FOR_STAFF) from error
        if self.gatherer:
            self.gatherer.opened()
        return Session(self, backend, thread)

    def settings(self) -> dict[str, Any]:
        """For anymail's backend: all that it may look for. What it is not given it would look for in settings."""
        fields = dict.fromkeys(self.options_form.base_fields)
        return {**{name: None for name in fields if name != "api_url"}, **self.fixed, **self.options}

    def backend(self) -> Any:
        with warnings.catch_warnings():
            # Anymail tests its SendGrid backend no longer; our own tests do.
            warnings.simplefilter("ignore", anymail.AnymailWarning)
            backend = import_string(self.path)(**self.settings())
        if hasattr(backend, "create_session"):
            backend.session = Web("MailHub", self.gatherer)
        else:
            backend.open()
        return backend

    def told(self, mail: Mail, envelope: Envelope, backend: Any) -> Mail:
        """With what anymail takes besides."""
        if self.keeps_metadata:
            mail.metadata = {METADATA: str(envelope.message)}
        else:
            mail.tags = [f"{METADATA}-{envelope.message}"]
        # The same on every try, and another for every other mail of whatever installation.
        key = hashlib.sha256(f"{mail.parsed['Message-ID']} {envelope.rcpt_to}".encode()).hexdigest()[:32]
        if self.idempotent == "header":
            backend.session.headers["Idempotency-Key"] = key
        elif self.idempotent:
            mail.esp_extra = {self.idempotent: key}
        return mail


class AmazonSES(ESP):
    def settings(self) -> dict[str, Any]:
        options = self.options
        # Its library would try again by itself, and send twice what was only answered late.
        config = {"connect_timeout": CONNECT, "read_timeout": PATIENCE, "retries": {"total_max_attempts": 1}, "proxies": {}}
        names = ("access_key_id", "secret_access_key")
        return {
            "session_params": {"region_name": options.get("region"), **{f"aws_{name}": options.get(name) for name in names}},
            "client_params": {"config": config, "endpoint_url": options.get("api_url")},
            "configuration_set_name": options.get("configuration_set_name"),
            "message_tag_name": None,
        }


# ------------------------------------------------------------------------------------------------------------------------ fields

PRINTABLE = RegexValidator(r"\A[\x21-\x7e]+\Z", gettext_lazy("There are spaces or other characters in it that no key has."))


def secret(label: Any) -> forms.CharField:
    return forms.CharField(label=label, max_length=500, validators=[PRINTABLE], widget=forms.PasswordInput)


def plain(label: Any, pattern: str = r"[\w.@-]+", **options: Any) -> forms.CharField:
    problem = gettext_lazy("That is not one: there are characters in it that none has.")
    return forms.CharField(label=label, max_length=200, validators=[RegexValidator(rf"\A{pattern}\Z", problem)], **options)


def place(*choices: tuple[str, str | Promise]) -> forms.ChoiceField:
    """Where the account is: the address of the interface there."""
    return forms.ChoiceField(label=gettext_lazy("where the account is"), choices=choices)


def check_url(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValidationError(_("That is no address of a web interface. Write it such as https://postal.example.com."))
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValidationError(_("Only https: otherwise key and mail can be read on their way."))


def url(help_text: Any) -> forms.CharField:
    return forms.CharField(label=gettext_lazy("address of the interface"), max_length=255, validators=[check_url], help_text=help_text)


API_KEY = gettext_lazy("API key")
AMERICA = gettext_lazy("United States")
EUROPE = gettext_lazy("Europe")


def service(
    label: str,
    module: str,
    *,
    base: type[ESP] = ESP,
    keeps_metadata: bool = True,
    idempotent: str = "",
    accepts: int | None = None,
    fixed: Mapping[str, Any] | None = None,
    batch: Batch | None = None,
    rarely: tuple[str, ...] = (),
    **fields: forms.Field,
) -> type[ESP]:
    """`fields` are the form's, by the names that anymail's backend `module` has for them; secrets are stored apart."""
    name = module.title().replace("_", "")
    members = {
        "label": label,
        "options_form": type(f"{name}Form", (forms.Form,), {**fields, "rarely": rarely}),
        "secret_options": frozenset(name for name, field in fields.items() if isinstance(field.widget, forms.PasswordInput)),
        "path": f"anymail.backends.{module}.EmailBackend",
        "keeps_metadata": keeps_metadata,
        "idempotent": idempotent,
        "accepts": accepts,
        "fixed": fixed or {},
        "batch": batch,
    }
    return type(name, (base,), members)


# --------------------------------------------------------------------------------------------------------------------- the table
# All that anymail has. What it asks for stands in its documentation, and so do the addresses of regions.

Amazon = service(
    "Amazon SES",
    "amazon_ses",
    base=AmazonSES,
    access_key_id=plain(gettext_lazy("access key ID"), r"[A-Z0-9]+"),
    secret_access_key=secret(gettext_lazy("secret access key")),
    region=plain(gettext_lazy("region"), r"[a-z]{2}(-[a-z]+)+-\d", help_text=gettext_lazy("Such as ap-northeast-1 (Tokyo).")),
    configuration_set_name=plain(
        gettext_lazy("configuration set"),
        required=False,
        help_text=gettext_lazy("The one whose events come back to MailHub. Without it bounces are not told."),
    ),
)
Brevo = service("Brevo", "brevo", api_key=secret(API_KEY))
MailerSend = service("MailerSend", "mailersend", keeps_metadata=False, accepts=202, api_token=secret(gettext_lazy("API token")))
Mailgun = service(
    "Mailgun",
    "mailgun",
    rarely=("sender_domain",),
    api_key=secret(API_KEY),
    api_url=place(("https://api.mailgun.net/v3", AMERICA), ("https://api.eu.mailgun.net/v3", EUROPE)),
    sender_domain=plain(
        gettext_lazy("sending domain"), required=False, help_text=gettext_lazy("Where it is not the domain of the sender's address.")
    ),
)
Mailjet = service("Mailjet", "mailjet", batch=batches.MAILJET, api_key=plain(API_KEY), secret_key=secret(gettext_lazy("secret key")))
Mailtrap = service(
    "Mailtrap",
    "mailtrap",
    batch=batches.MAILTRAP,
    rarely=("sandbox_id",),
    api_token=secret(gettext_lazy("API token")),
    sandbox_id=plain(
        gettext_lazy("sandbox"), r"\d+", required=False, help_text=gettext_lazy("Its number: mail is kept there and reaches nobody.")
    ),
)
Mandrill = service("Mandrill (Mailchimp Transactional)", "mandrill", api_key=secret(API_KEY))
Postal = service(
    "Postal", "postal", keeps_metadata=False, api_url=url(gettext_lazy("Such as https://postal.example.com.")), api_key=secret(API_KEY)
)
Postmark = service(
    "Postmark",
    "postmark",
    batch=batches.POSTMARK,
    server_token=secret(gettext_lazy("server API token")),
    message_stream=plain(
        gettext_lazy("message stream"),
        required=False,
        help_text=gettext_lazy("Campaigns need one for broadcasts, such as “broadcast”. Empty: the one for transactional mail."),
    ),
)
Resend = service("Resend", "resend", idempotent="header", batch=batches.RESEND, api_key=secret(API_KEY))
Scaleway = service(
    "Scaleway",
    "scaleway",
    project_id=plain(gettext_lazy("project ID"), r"[0-9a-fA-F-]+"),
    secret_key=secret(gettext_lazy("secret key")),
    region=plain(gettext_lazy("region"), r"[a-z]{2}-[a-z]{3}", initial="fr-par"),
)
SendGrid = service(
    "SendGrid",
    "sendgrid",
    accepts=202,
    api_key=secret(API_KEY),
    api_url=place(("https://api.sendgrid.com/v3/", AMERICA), ("https://api.eu.sendgrid.com/v3/", EUROPE)),
)
SparkPost = service(
    "SparkPost",
    "sparkpost",
    rarely=("subaccount",),
    api_key=secret(API_KEY),
    api_url=place(
        ("https://api.sparkpost.com/api/v1/", AMERICA),
        ("https://api.eu.sparkpost.com/api/v1/", EUROPE),
    ),
    subaccount=plain(gettext_lazy("subaccount"), r"\d+", required=False, help_text=gettext_lazy("Its number.")),
)
UnisenderGo = service(
    "Unisender Go",
    "unisender_go",
    idempotent="idempotence_key",
    # Of its own number for a mail anymail would make another on every try.
    fixed={"generate_message_id": False},
    api_url=url(gettext_lazy("Such as https://go1.unisender.ru/en/transactional/api/v1.")),
    api_key=secret(API_KEY),
)
