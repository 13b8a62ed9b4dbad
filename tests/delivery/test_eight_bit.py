"""Mail beyond 7-bit: as it came where the next server takes it, in 7-bit elsewhere."""

from __future__ import annotations

import asyncio
import email
from email.policy import default

import pytest
from django.core.exceptions import ValidationError

from mailhub.delivery import eight_bit, prepare
from mailhub.delivery.models import Content, Message
from mailhub.relays.base import Envelope, Fault, Refused
from mailhub.relays.models import Relay
from mailhub.relays.providers.smtp import SMTP
from mailhub.senders import dkim
from mailhub.senders.models import DKIMKey, Domain, Sender
from tests.senders import verifiers
from tests.smtp_server import EXTENSIONS, SMTPServer

WORDS = "緑茶をありがとうございます。\r\n.\r\n  終わり \r\n"
PLAIN = (
    b"From: Tea <shop@example.com>\r\nSubject: Tea\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n"
) + WORDS.encode()
MIXED = b"\r\n".join([
    b"From: Tea <shop@example.com>",
    b"MIME-Version: 1.0",
    b'Content-Type: multipart/mixed;\r\n boundary="b + 1"',
    b"Content-Transfer-Encoding: 8bit",
    b"",
    "前".encode(),
    b"--b + 1",
    b"Content-Type: text/html; charset=shift_jis",
    b"content-transfer-encoding:\r\n 8BIT",
    b"X-Kept:   as it is",
    b"",
    "<p>表 and ASCII enough to be quoted-printable, which is a lot of it</p>".encode("shift_jis"),
    b"--b + 1",
    b"Content-Type: image/png",
    b"Content-Transfer-Encoding: base64",
    b"",
    b"iVBORw0KGgo=",
    b"--b + 1 ",
    b"Content-Type: message/rfc822",
    b"Content-Transfer-Encoding: 8bit",
    b"",
    b"Subject: inner",
    b"Content-Type: text/plain; charset=utf-8",
    b"Content-Transfer-Encoding: 8bit",
    b"",
    "中身".encode(),
    b"--b + 1",
    b"",
    "見出しなし".encode(),
    b"--b + 1--",
    "後".encode(),
    b"",
])  # fmt: skip


def read(mail: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(mail, policy=default)


# -------------------------------------------------------------------------------------------------------------------- encoding


def test_a_text_is_encoded_and_its_header_says_so() -> None:
    made = eight_bit.encoded(PLAIN)
    assert made.isascii() and max(map(len, made.split(b"\r\n"))) <= 76
    parsed = read(made)
    assert parsed.get_payload(decode=True) == WORDS.encode()
    assert parsed.get_all("Content-Transfer-Encoding") == ["base64"]
    assert made.startswith(PLAIN[: PLAIN.index(b"Content-Transfer")])


def test_of_a_mail_of_many_parts_only_what_cannot_pass_is_changed() -> None:
    made = eight_bit.encoded(MIXED)
    assert made.isascii()
    parsed = read(made)
    html, image, forwarded, bare = parsed.iter_parts()
    assert parsed["Content-Transfer-Encoding"] == "7bit" and forwarded["Content-Transfer-Encoding"] == "7bit"
    assert html.get_content().strip().startswith("<p>表 and ASCII") and html["Content-Transfer-Encoding"] == "quoted-printable"
    assert b"X-Kept:   as it is\r\n" in made
    assert b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b + 1 \r\n" in made
    assert forwarded.get_content().get_content().strip() == "中身"
    assert bare.get_content().strip() == "見出しなし" and bare.get_content_charset() == "utf-8"
    assert b"\r\n\r\n?" in made and made.endswith(b"\r\n--b + 1--\r\n???\r\n")


@pytest.mark.parametrize(("body", "charset"), [("本文\r\n".encode(), "utf-8"), ("本文\r\n".encode("euc_jp"), "unknown-8bit")])
def test_mail_from_before_mime_gets_what_it_lacks(body: bytes, charset: str) -> None:
    parsed = read(eight_bit.encoded(b"From: a@example.com\r\n\r\n" + body))
    assert parsed["MIME-Version"] == "1.0" and parsed.get_content_charset() == charset
    assert parsed.get_payload(decode=True) == body


def test_a_mail_in_ascii_stays_as_it_is() -> None:
    mail = b"From: a@example.com\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHello\r\n"
    assert eight_bit.encoded(mail) is mail


@pytest.mark.parametrize(
    "mail",
    [
        PLAIN.replace(b"text/plain; charset=utf-8", b"multipart/signed; boundary=x"),
        PLAIN.replace(b"Tea <shop@", "Tea <緑@".encode()),
        PLAIN.replace(b"Subject: Tea", "Subject: 茶".encode("shift_jis")),
        b"Content-Type: message/rfc822\r\n\r\n" * 30 + "深".encode(),
    ],
)
def test_what_would_break_is_refused(mail: bytes) -> None:
    with pytest.raises(ValidationError):
        eight_bit.encoded(mail)


def test_header_fields_in_utf8_become_encoded_words() -> None:
    head = (
        'From: 緑茶堂 <shop@example.com>\r\nTo: "佐藤, 花子" <hanako@example.jp>,\r\n b@example.jp\r\nSubject: ご注文\r\n ありがとう\r\n'
        'Content-Type: application/pdf; name="領収書.pdf"\r\nX-Plain:  kept   so\r\nX-Words: 緑'
    ).encode()
    made = eight_bit.header(head)
    assert made.isascii() and b"X-Plain:  kept   so\r\n" in made
    parsed = read(made + b"\r\n\r\n")
    assert parsed["From"] == "緑茶堂 <shop@example.com>"
    assert parsed["To"] == '"佐藤, 花子" <hanako@example.jp>, b@example.jp'
    assert parsed["Subject"] == "ご注文 ありがとう" and parsed["X-Words"] == "緑"
    assert parsed.get_filename() == "領収書.pdf"


# ------------------------------------------------------------------------------------------------------------------- hand-over


@pytest.fixture
def message(db: None) -> Message:
    sender = Sender.objects.create(email="shop@example.com")
    content = Content.objects.create(raw=PLAIN, from_email=sender.email)
    return Message(pk=1, content=content, sender=sender, address="a@example.net")


def hand_over(server: SMTPServer, envelope: Envelope) -> None:
    async def go() -> None:
        options = {"host": "127.0.0.1", "port": server.port, "security": "none"}
        session = await SMTP(Relay(kind="smtp", options=options)).open()
        try:
            await session.send(envelope)
        finally:
            await session.close()

    asyncio.run(go())


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in EXTENSIONS if name not in names)


def test_a_server_with_8bitmime_gets_the_bytes_as_they_came(message: Message) -> None:
    with SMTPServer() as server:
        hand_over(server, prepare.Compiled(message.content).envelope(message))
        (mail,) = server.mails
    assert mail.data == PLAIN and "BODY=8BITMIME" in mail.parameters


def test_a_server_without_it_gets_the_same_in_7_bit(message: Message) -> None:
    with SMTPServer(extensions=without("8BITMIME", "SMTPUTF8")) as server:
        hand_over(server, prepare.Compiled(message.content).envelope(message))
        (mail,) = server.mails
    assert mail.data == eight_bit.encoded(PLAIN) and not any(given.startswith("BODY") for given in mail.parameters)


def test_words_in_utf8_are_encoded_for_a_server_without_smtputf8(message: Message) -> None:
    message.content.raw = raw = PLAIN.replace(b"Subject: Tea", "Subject: 茶".encode())
    with SMTPServer(extensions=without("SMTPUTF8")) as server:
        hand_over(server, prepare.Compiled(message.content).envelope(message))
        (mail,) = server.mails
    assert mail.data == eight_bit.encoded(raw) and read(mail.data)["Subject"] == "茶"


@pytest.mark.parametrize("extensions", [EXTENSIONS, without("8BITMIME")])
def test_either_form_is_signed_as_it_leaves(message: Message, extensions: tuple[str, ...]) -> None:
    key = DKIMKey.make(Domain.objects.get(name="example.com"))
    key.sign_from_now_on()
    signer = dkim.signers({"example.com"})["example.com"]
    compiled = prepare.Compiled(message.content, signer)
    with SMTPServer(extensions=extensions) as server:
        hand_over(server, compiled.envelope(message, signed=True))
        (mail,) = server.mails
    assert mail.data.startswith(b"DKIM-Signature:")
    verifiers.assert_good(mail.data, [key.record()])


def test_what_cannot_be_changed_is_refused_by_name(message: Message) -> None:
    message.content.raw = PLAIN.replace(b"text/plain; charset=utf-8", b"multipart/signed; boundary=x")
    with SMTPServer(extensions=without("8BITMIME")) as server, pytest.raises(Refused, match="signed") as caught:
        hand_over(server, prepare.Compiled(message.content).envelope(message))
    assert caught.value.fault == Fault.CONTENT and not server.mails
