"""The adapter for e-mail service providers, against web servers on 127.0.0.1 that answer as each of them does."""

from __future__ import annotations

import json
import pkgutil
import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import anymail.backends
import pytest
from pytest_django.fixtures import Settings

from mailhub.relays import providers, replies
from mailhub.relays.base import Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.models import Relay
from mailhub.relays.providers import esp
from tests.certificates import Authority
from tests.https_server import HTTPSServer
from tests.installation import until
from tests.relays.contract import Contract, envelope, hand_over, run

# What a test waits for where an answer never comes. Nothing that is answered depends on it.
SOON = 0.3


class Request:
    def __init__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.path = handler.path
        self.headers = dict(handler.headers.items())
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def recipients(self) -> list[str]:
        """Each once, in their order."""
        return list(dict.fromkeys(found[0].replace("%40", "@") for found in re.finditer(r"r\d+(@|%40)example\.net", self.text)))

    @property
    def recipient(self) -> str:
        return next(iter(self.recipients), "")


#: status, body (as JSON where it is no text), header fields; None: nothing is said, and the connection ends
Answer = tuple[int, Any, dict[str, str]]


class Server:
    """One that answers every request as `usual` says, or the next ones as `script` does."""

    def __init__(self, usual: Callable[[Request], Answer]) -> None:
        self.usual = usual
        self.script: list[Answer | None | str] = []
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"double": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __enter__(self) -> Server:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    double: ClassVar[Server]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        double = self.double
        request = Request(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        double.requests.append(request)
        answer = double.script.pop(0) if double.script else double.usual(request)
        if answer == "hang":
            double.over.wait(60)
        if answer is None or isinstance(answer, str):
            self.close_connection = True
            return
        status, said, fields = answer
        body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *args: object) -> None:
        pass


def ok(said: Any, status: int = 200, **fields: str) -> Answer:
    return status, said, {name.replace("_", "-"): value for name, value in fields.items()}


#: what each says when it has taken a mail
TAKEN: dict[str, Callable[[Request], Answer]] = {
    "amazon_ses": lambda request: ok({"MessageId": "n1"}),
    "brevo": lambda request: ok({"messageId": "n1"}, 201),
    "mailersend": lambda request: ok("", 202, X_Message_Id="n1", Content_Type="text/html"),
    "mailgun": lambda request: ok({"id": "n1", "message": "Queued. Thank you."}),
    "mailjet": lambda request: ok({"Messages": [{"Status": "success", "To": [{"Email": request.recipient, "MessageID": "n1"}]}]}),
    "mailtrap": lambda request: ok(
        {"success": True, "message_ids": ["n1"], "responses": [{"success": True, "message_ids": ["n1"]}] * len(request.recipients)}
    ),
    "mandrill": lambda request: ok([{"email": request.recipient, "status": "queued", "_id": "n1"}]),
    "postal": lambda request: ok({"status": "success", "data": {"message_id": "x", "messages": {request.recipient: {"id": "n1"}}}}),
    "postmark": lambda request: ok({"To": request.recipient, "MessageID": "n1", "ErrorCode": 0, "Message": "OK"}),
    "resend": lambda request: ok({"id": "n1"}),
    "scaleway": lambda request: ok({"emails": [{"id": "n1", "mail_rcpt": request.recipient, "status": "new"}]}),
    "sendgrid": lambda request: ok("", 202),
    "sparkpost": lambda request: ok({"results": {"total_rejected_recipients": 0, "total_accepted_recipients": 1, "id": "n1"}}),
    "unisender_go": lambda request: ok({"status": "success", "job_id": "n1", "emails": [request.recipient]}),
}
#: what is asked for in each form
ANSWERS: dict[str, dict[str, object]] = {
    "amazon_ses": {"access_key_id": "AKIA1", "secret_access_key": "k/+1", "region": "ap-northeast-1", "configuration_set_name": "mailhub"},
    "brevo": {"api_key": "xkeysib-1"},
    "mailersend": {"api_token": "mlsn.1"},
    "mailgun": {"api_key": "key-1", "api_url": "https://api.eu.mailgun.net/v3", "sender_domain": ""},
    "mailjet": {"api_key": "1a", "secret_key": "2b"},
    "mailtrap": {"api_token": "t1", "sandbox_id": ""},
    "mandrill": {"api_key": "md-1"},
    "postal": {"api_url": "https://postal.example.com", "api_key": "p1"},
    "postmark": {"server_token": "t-1", "message_stream": "broadcast"},
    "resend": {"api_key": "re_1"},
    "scaleway": {"project_id": "0a-1b", "secret_key": "s-1", "region": "fr-par"},
    "sendgrid": {"api_key": "SG.1", "api_url": "https://api.sendgrid.com/v3/"},
    "sparkpost": {"api_key": "sp1", "api_url": "https://api.sparkpost.com/api/v1/", "subaccount": ""},
    "unisender_go": {"api_url": "https://go1.unisender.ru/en/transactional/api/v1", "api_key": "u1"},
}
KINDS = sorted(TAKEN)


def relay_to(server: Server, kind: str, **options: object) -> Relay:
    secret = providers.load(kind).secret_options
    given = {**ANSWERS[kind], **options}
    return Relay(
        name="relay",
        kind=kind,
        options={**{name: value for name, value in given.items() if name not in secret}, "api_url": server.url},
        secrets={name: value for name, value in given.items() if name in secret},
    )


@contextmanager
def serving(kind: str, **options: object) -> Iterator[tuple[Server, Relay]]:
    with Server(TAKEN[kind]) as server:
        yield server, relay_to(server, kind, **options)


def outcome(kind: str, *script: Answer | str | None) -> Reply | SendError:
    with serving(kind) as (server, relay):
        server.script.extend(script)
        [found] = hand_over(relay.provider(), envelope())
        return found


class ESPContract(Contract):
    decisions = frozenset({"refuse", "defer", "down", "unknown"})

    @pytest.fixture
    def relay(self) -> Iterator[Relay]:
        with serving(self.kind) as (self.server, relay):
            yield relay

    def arrange(self, decision: str, relay: Relay) -> None:
        self.server.script.append(
            {
                "refuse": ok({"message": "The subject is too long", "name": "validation_error"}, 422),
                "defer": self.for_now,
                "down": ok({"message": "Too many requests"}, 429, Retry_After="7"),
                "unknown": ok("<html><title>Bad gateway</title></html>", 502),
            }[decision]
        )

    for_now: ClassVar[Answer]

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        return [("", recipient, b"") for request in self.server.requests for recipient in request.recipients]

    def test_a_mail_arrives_as_it_was_handed_over(self, relay: Relay) -> None:
        [reply] = hand_over(relay.provider(), envelope(7))
        assert isinstance(reply, Reply) and reply.code == 250
        [request] = self.server.requests
        assert request.recipient == "r7@example.net" and "Hello" in request.text


class TestMailtrap(ESPContract):
    kind = "mailtrap"
    answers = ANSWERS["mailtrap"]
    for_now = ok({"success": False, "errors": ["later"]}, 200)
    decisions = frozenset({"refuse", "down", "unknown"})


class TestUnisender(ESPContract):
    kind = "unisender_go"
    answers = ANSWERS["unisender_go"]
    for_now = ok({"status": "success", "job_id": "n1", "emails": [], "failed_emails": {"r1@example.net": "temporary_unavailable"}})
    # It knows a mail again by its key, so nothing stays unknown that is answered the second time.
    decisions = frozenset({"refuse", "defer", "down"})


# ------------------------------------------------------------------------------------------------------------------ all of them


def test_the_table_has_all_that_anymail_has() -> None:
    modules = {module.name for module in pkgutil.iter_modules(anymail.backends.__path__)}
    assert modules - {"base", "base_requests", "console", "test", "sendinblue"} == set(KINDS)
    assert {kind for kind in providers.REGISTRY if issubclass(providers.load(kind), esp.ESP)} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_each_asks_for_what_it_needs_and_stores_secrets_apart(kind: str) -> None:
    provider = providers.load(kind)
    assert provider.options_form.base_fields.keys() == ANSWERS[kind].keys()
    form = provider.options_form(ANSWERS[kind])
    assert form.is_valid(), form.errors
    assert provider.secret_options and not provider.options_form({}).is_valid()
    for name in provider.secret_options:
        assert list(provider.options_form({**ANSWERS[kind], name: "two words"}).errors) == [name]


@pytest.mark.parametrize("kind", KINDS)
def test_each_takes_a_mail_with_what_the_relay_s_row_says_and_nothing_from_settings(kind: str, settings: Settings) -> None:
    settings.ANYMAIL = {f"{kind.upper()}_{name.upper()}": "of-settings" for name in (*ANSWERS[kind], "subaccount", "sender_domain")}
    with serving(kind) as (server, relay):
        [reply] = hand_over(relay.provider(), envelope())
        assert isinstance(reply, Reply)
        assert reply.code == 250 and (kind == "sendgrid" or reply.text.endswith(" n1")), reply
        [request] = server.requests
    assert request.recipient == "r1@example.net" or kind == "amazon_ses"
    said = f"{request.path} {request.headers} {request.text}"
    assert "of-settings" not in said
    for name in providers.load(kind).secret_options - {"secret_access_key"}:
        assert str(ANSWERS[kind][name]) in said or "Basic " in said


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"mailersend", "postal"}))
def test_each_that_can_keeps_the_number_of_our_message(kind: str) -> None:
    with serving(kind) as (server, relay):
        hand_over(relay.provider(), envelope(4711))
        text = server.requests[0].text
    if kind == "amazon_ses":
        text = b64decode(server.requests[0].json["Content"]["Raw"]["Data"]).decode()
    assert re.search(r"mailhub\W{1,20}4711|mailhub.{0,40}4711|4711.{0,40}mailhub", text), text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "kinds", "rest"),
    [
        (ok({"message": "Slow down"}, 429, Retry_After="90"), (RelayDown,), timedelta(seconds=90)),
        (ok({"message": "Slow down"}, 429), (RelayDown,), replies.FOR_PACE),
        (ok({"message": "Maintenance"}, 503, Retry_After="5"), (RelayDown,), timedelta(seconds=5)),
        (ok({"message": "Bad key"}, 401), (RelayDown,), replies.FOR_STAFF),
        (ok("", 302, Location="http://127.0.0.1:9/"), (RelayDown,), replies.FOR_STAFF),
        (ok("<html><title>Not found</title>", 404), (RelayDown,), replies.FOR_STAFF),
        (ok({"message": "That is too much"}, 413), (Refused,), None),
        (ok({"message": "A field is missing", "ErrorCode": 300, "Message": "A field is missing"}, 422), (Refused,), None),
        (ok({"message": "Oh"}, 500), (OutcomeUnknown,), None),
        (ok("<html><title>Bad gateway</title>", 502), (OutcomeUnknown,), None),
        (ok("<html><title>Log in to the hotel's network</title>"), (OutcomeUnknown,), None),
        (None, (OutcomeUnknown,), None),
    ],
    ids=["429 with a time", "429", "503", "401", "redirect", "404", "413", "422", "500", "502", "html", "no answer"],
)
def test_what_each_answer_means(kind: str, answer: Answer | None, kinds: tuple[type, ...], rest: timedelta | None) -> None:
    # The same again for those that are asked twice.
    found = outcome(kind, answer, answer)
    assert type(found) in kinds, found
    if rest:
        assert found.rest == rest
    assert "xkeysib" not in str(found.reply) and len(found.reply.text) <= 500


# ---------------------------------------------------------------------------------------------------------- who is at fault


@pytest.mark.parametrize(
    ("kind", "answer", "decision"),
    [
        ("postmark", ok({"ErrorCode": 406, "Message": "Found inactive addresses: r1@example.net. Inactive recipients are ones"}, 422), Fault.POLICY),
        ("postmark", ok({"ErrorCode": 300, "Message": "Invalid 'To' address: 'r1@example.net'."}, 422), Fault.RECIPIENT),
        ("postmark", ok({"ErrorCode": 400, "Message": "The 'From' address you supplied is not a Sender Signature"}, 422), Fault.SENDER),
        ("mandrill", ok([{"email": "r1@example.net", "status": "rejected", "reject_reason": "unsigned"}]), Fault.POLICY),
        ("mandrill", ok([{"email": "r1@example.net", "status": "invalid"}]), Fault.RECIPIENT),
        ("mandrill", ok({"status": "error", "name": "ValidationError", "message": "You must specify a key"}, 500), Fault.POLICY),
        ("unisender_go", ok({"status": "success", "job_id": "1", "emails": [], "failed_emails": {"r1@example.net": "invalid"}}), Fault.RECIPIENT),
        ("sparkpost", ok({"results": {"total_rejected_recipients": 1, "total_accepted_recipients": 0, "id": "1"}}), Fault.POLICY),
        ("postal", ok({"status": "error", "data": {"code": "NoContent", "message": "There is no content"}}), Fault.POLICY),
        # Words that an SMTP server would say of a mailbox are of the account here.
        ("brevo", ok({"code": "not_found", "message": "Account not found"}, 400), Fault.POLICY),
    ],
)  # fmt: skip
def test_a_refusal_counts_against_the_recipient_only_where_the_service_says_so(kind: str, answer: Answer, decision: Fault) -> None:
    found = outcome(kind, answer)
    assert isinstance(found, Refused), found
    assert found.fault == decision


@pytest.mark.parametrize(
    ("kind", "answer", "rest"),
    [
        ("amazon_ses", ok({"message": "x"}, 400, x_amzn_ErrorType="SendingPausedException"), replies.FOR_STAFF),
        ("amazon_ses", ok({"message": "x"}, 400, x_amzn_ErrorType="LimitExceededException"), replies.FOR_PERIOD),
        ("amazon_ses", ok({"message": "x"}, 429, x_amzn_ErrorType="TooManyRequestsException"), replies.FOR_PACE),
        ("mandrill", ok({"status": "error", "name": "Invalid_Key", "message": "Invalid API key"}, 500), replies.FOR_STAFF),
        ("postal", ok({"status": "error", "data": {"code": "InvalidServerAPIKey"}}), replies.FOR_STAFF),
        ("brevo", ok({"code": "not_enough_credits", "message": "Daily sending limit reached"}, 400), replies.FOR_PERIOD),
    ],
)  # fmt: skip
def test_what_is_about_the_account_rests_the_relay_and_hurts_no_mail(kind: str, answer: Answer, rest: timedelta) -> None:
    found = outcome(kind, answer)
    assert isinstance(found, RelayDown), found
    assert found.rest == rest


@pytest.mark.parametrize(
    ("said", "meant"),
    [("0", 1), ("120", 120), ("1.5", 1.5), ("99999999", 86400), ("soon", None), ("", None), ("-5", None), ("Mon, 01 Jan 2001 00:00:00 GMT", 1)],
)  # fmt: skip
def test_how_long_we_are_to_stay_away(said: str, meant: float | None) -> None:
    assert esp.retry_after(said) == (None if meant is None else timedelta(seconds=meant))


def test_a_date_is_understood_too() -> None:
    found = esp.retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert found and timedelta(minutes=50) < found <= timedelta(hours=1)


# ---------------------------------------------------------------------------------------------------- what nobody knows, and twice


@pytest.mark.parametrize("kind", ["brevo", "amazon_ses"])
def test_silence_after_the_mail_has_left_is_an_unknown_outcome(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(esp, "PATIENCE", SOON)
    assert type(outcome(kind, "hang")) is OutcomeUnknown


def test_so_is_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "LONGEST_ANSWER", 1000)
    found = outcome("brevo", ok("x" * 20_000))
    assert type(found) is OutcomeUnknown and "did not end" in found.reply.text


@pytest.mark.parametrize(("kind", "where"), [("resend", "Idempotency-Key"), ("unisender_go", "idempotence_key")])
def test_where_the_service_knows_a_mail_again_it_is_asked_once_more_by_the_same_key(kind: str, where: str) -> None:
    def key(request: Request) -> str:
        return str(request.headers[where] if kind == "resend" else request.json["message"][where])

    with serving(kind) as (server, relay):
        server.script.append(ok("<html>", 502))
        outcomes = hand_over(relay.provider(), envelope(1), envelope(2))
        assert [type(found) for found in outcomes] == [Reply, Reply]
        first, again, second = server.requests
        assert first.body == again.body and key(first) == key(again) != key(second)
        # In another process, or next time: the key is the mail's.
        hand_over(relay.provider(), envelope(1))
        assert key(server.requests[3]) == key(first)
        server.script.extend([None, None])
        [found] = hand_over(relay.provider(), envelope(3))
        assert type(found) is OutcomeUnknown
        assert len(server.requests) == 6


def test_elsewhere_nothing_is_sent_twice() -> None:
    for kind in ("postmark", "amazon_ses"):
        with serving(kind) as (server, relay):
            server.script.append(None)
            hand_over(relay.provider(), envelope())
            assert len(server.requests) == 1, kind


# -------------------------------------------------------------------------------------------------------------- where it leads


@pytest.mark.parametrize("kind", ["brevo", "amazon_ses"])
def test_one_that_cannot_be_reached_is_down_and_the_mail_certainly_not_sent(kind: str) -> None:
    with serving(kind) as (server, relay):
        pass
    [found] = hand_over(relay.provider(), envelope())
    assert type(found) is RelayDown


def test_a_private_address_is_not_connected_to_unless_it_was_allowed(settings: Settings) -> None:
    with serving("postal") as (server, relay):
        settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
        [found] = hand_over(relay.provider(), envelope())
        assert type(found) is RelayDown and found.rest == replies.FOR_STAFF
        assert "127.0.0.1 is not a public address" in found.reply.text
        assert server.requests == []


def test_a_server_that_does_not_prove_its_name_hears_nothing() -> None:
    with HTTPSServer(Authority().issue("localhost")) as server:
        port = server.server.server_address[1]
        relay = Relay(name="relay", kind="postal", options={"api_url": f"https://localhost:{port}"}, secrets={"api_key": "p1"})
        [found] = hand_over(relay.provider(), envelope())
        assert type(found) is RelayDown and found.rest == replies.FOR_STAFF
        assert "certificate" in found.reply.text
        assert server.asked == []


@pytest.mark.parametrize(
    "address", ["http://postal.example.com", "https://key@postal.example.com", "postal.example.com", "https:///x", "https://x.example/?a=1"]
)
def test_an_address_that_would_give_the_key_away_or_is_none_is_told_at_its_field(address: str) -> None:
    assert list(providers.load("postal").options_form({"api_url": address, "api_key": "p1"}).errors) == ["api_url"]


def test_a_row_that_says_so_all_the_same_is_not_followed() -> None:
    relay = Relay(name="relay", kind="postal", options={"api_url": "http://postal.example.com"}, secrets={"api_key": "p1"})
    [found] = hand_over(relay.provider(), envelope())
    assert type(found) is RelayDown and "https" in found.reply.text


def test_the_environment_s_proxy_and_passwords_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for kind in ("brevo", "amazon_ses"):
        with serving(kind) as (server, relay):
            [found] = hand_over(relay.provider(), envelope())
            assert isinstance(found, Reply), found


def test_a_connection_is_kept_for_the_next_mail() -> None:
    with serving("brevo") as (server, relay):
        ports = set()
        usual = Handler.handle
        Handler.handle = lambda self: (ports.add(self.client_address), usual(self))[1]  # type: ignore[method-assign,func-returns-value]
        try:
            hand_over(relay.provider(), *map(envelope, range(3)))
        finally:
            Handler.handle = usual  # type: ignore[method-assign]
        assert len(server.requests) == 3 and len(ports) == 1


# -------------------------------------------------------------------------------------------------------------------- the mail


def composed() -> EmailMessage:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = "山田屋 <shop@example.com>"
    mail["To"] = "佐藤, 花子 様 <other@example.net>, R1 <R1@example.net>".replace("佐藤, 花子 様", '"佐藤, 花子 様"')
    mail["Reply-To"] = "reply@example.com"
    mail["Subject"] = "春の新茶 🍵"
    mail["Date"] = "Wed, 25 Nov 2026 05:00:00 +0000"
    mail["Message-ID"] = "<1@example.com>"
    mail["List-Unsubscribe"] = "<https://mail.example.com/u/1>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail["List-Id"] = "お知らせ <news.example.com>"
    mail["DKIM-Signature"] = "v=1; a=rsa-sha256; b=abc"
    mail.set_content("こんにちは\n")
    mail.add_alternative("<p>こんにちは</p>\n", subtype="html")
    mail.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="請求書.pdf")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("within")
    mail.add_attachment(inner)
    return mail


def sent(kind: str, mail: EmailMessage) -> Request:
    with serving(kind) as (server, relay):
        [found] = hand_over(relay.provider(), envelope(data=mail.as_bytes()))
        assert isinstance(found, Reply), found
        [request] = server.requests
        return request


def test_all_of_a_mail_is_told_in_the_service_s_fields() -> None:
    said = sent("postmark", composed()).json
    assert said["To"] == "R1 <r1@example.net>"
    assert said["From"] == "山田屋 <shop@example.com>" and said["Subject"] == "春の新茶 🍵" and said["ReplyTo"] == "reply@example.com"
    assert said["TextBody"] == "こんにちは\n" and said["HtmlBody"] == "<p>こんにちは</p>\n"
    assert said["MessageStream"] == "broadcast"
    fields = {field["Name"]: field["Value"] for field in said["Headers"]}
    assert (
        fields["List-Unsubscribe"] == "<https://mail.example.com/u/1>" and fields["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    )
    assert fields["List-Id"].isascii() and fields["List-Id"].endswith(" <news.example.com>")
    assert not {"DKIM-Signature", "Message-ID", "Date", "To"} & fields.keys()
    first, second = said["Attachments"]
    assert (first["Name"], b64decode(first["Content"]), first["ContentType"]) == ("請求書.pdf", b"%PDF-1.7", "application/pdf")
    assert second["ContentType"].startswith("message/rfc822") and b"within" in b64decode(second["Content"])


def test_one_that_takes_mails_whole_gets_it_so_and_without_a_signature_that_it_breaks() -> None:
    request = sent("amazon_ses", composed())
    said = request.json
    assert said["Destination"] == {"ToAddresses": ["r1@example.net"]} and said["ConfigurationSetName"] == "mailhub"
    mail = message_from_bytes(b64decode(said["Content"]["Raw"]["Data"]), policy=policy.default)
    assert mail["Subject"] == "春の新茶 🍵" and mail["List-Unsubscribe"] and mail["DKIM-Signature"] is None
    assert mail["X-Metadata"] == '{"mailhub": "1"}'
    assert "Credential=AKIA1/" in request.headers["Authorization"] and "/ap-northeast-1/ses/" in request.headers["Authorization"]


def test_a_plain_mail_and_one_of_html_alone_are_sent_as_they_are() -> None:
    html = EmailMessage(policy=policy.SMTP)
    html["From"] = "a@example.com"
    html.set_content("<p>x</p>", subtype="html")
    said = sent("postmark", html).json
    assert said["HtmlBody"] == "<p>x</p>\n" and not said.get("TextBody")


@pytest.mark.parametrize(
    "data",
    [
        b"From: a@example.com\r\nContent-Type: text/plain; charset=klingon\r\n\r\nx\r\n",
        b"Subject: nobody's\r\n\r\nx\r\n",
    ],
)
def test_what_cannot_be_told_to_the_service_is_refused_before_it_hears_of_it(data: bytes) -> None:
    with serving("postmark") as (server, relay):
        first, second = hand_over(relay.provider(), envelope(data=data), envelope(2))
        assert type(first) is Refused and first.fault is Fault.CONTENT
        assert isinstance(second, Reply)
        assert [request.recipient for request in server.requests] == ["r2@example.net"]


def test_a_service_that_cannot_do_what_a_mail_wants_is_not_asked_to() -> None:
    mail = composed()
    mail.replace_header("Reply-To", "a@example.com, b@example.com")
    with serving("brevo") as (server, relay):
        [found] = hand_over(relay.provider(), Envelope(1, "", "r1@example.net", mail.as_bytes()))
        assert type(found) is Refused and "multiple reply_to" in found.reply.text
        assert server.requests == []


def test_a_session_that_is_given_up_leaves_no_thread() -> None:
    async def open_and_close() -> None:
        with pytest.raises(RelayDown):
            await Relay(name="x", kind="scaleway", options={}, secrets={}).provider().open()

    run(open_and_close)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("esp")])
