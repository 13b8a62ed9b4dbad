from __future__ import annotations

import asyncio

import pytest

from mailhub.relays import marks
from mailhub.relays.base import Envelope
from mailhub.relays.models import Relay
from mailhub.relays.providers import smtp
from tests.smtp_server import HOST, SMTPServer

MAIL = b"DKIM-Signature: v=1\r\nFrom: shop@example.com\r\n\r\nX-PM-Metadata-mailhub: of the words\r\n"


def marked(host: str, data: bytes = MAIL, number: int = 7) -> bytes:
    mark = marks.marker(host)
    envelope = Envelope(number, "shop@example.com", "taro@example.net", data)
    return mark(envelope).data if mark else data


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("smtp.postmarkapp.com", b"X-PM-Metadata-mailhub: 7"),
        ("in-v3.mailjet.com", b'X-MJ-EventPayload: {"mailhub": "7"}'),
        ("smtp.eu.sparkpostmail.com", b'X-MSYS-API: {"metadata": {"mailhub": "7"}}'),
        ("SMTP.mandrillapp.com.", b'X-MC-Metadata: {"mailhub": "7"}'),
        ("live.smtp.mailtrap.io", b'X-MT-Custom-Variables: {"mailhub": "7"}'),
    ],
)
def test_a_service_is_told_which_message_a_mail_is(host: str, line: bytes) -> None:
    assert marked(host) == line + b"\r\n" + MAIL


def test_no_other_server_is() -> None:
    assert marks.marker("smtp.example.com") is marks.marker("notpostmarkapp.com") is None


def test_a_mail_that_has_such_a_field_keeps_its_own() -> None:
    own = b"From: shop@example.com\r\nx-msys-api: {}\r\n\r\nHello\r\n"
    assert marked("smtp.sparkpostmail.com", own) == own


def test_a_mail_of_no_message_is_not_marked() -> None:
    assert marked("smtp.postmarkapp.com", number=0) == MAIL


def test_a_mail_in_seven_bit_has_the_mark_too() -> None:
    mark = marks.marker("smtp.postmarkapp.com")
    assert mark
    seven_bit = mark(Envelope(7, "", "taro@example.net", "From: é\r\n\r\n".encode(), seven_bit=lambda: MAIL)).seven_bit
    assert seven_bit and seven_bit() == b"X-PM-Metadata-mailhub: 7\r\n" + MAIL


def test_the_mark_leaves_with_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(marks.FIELDS, f".{HOST}", (b"X-Mark", b"%d"))

    async def send(port: int) -> None:
        session = await smtp.SMTP(Relay(options={"host": HOST, "port": port, "security": "none"})).open()
        await session.send(Envelope(7, "shop@example.com", "taro@example.net", MAIL))
        await session.close()

    with SMTPServer() as server:
        asyncio.run(send(server.port))
    assert [mail.data for mail in server.mails] == [b"X-Mark: 7\r\n" + MAIL]
