"""The structure of broken mails, and text in the charsets of the world."""

from __future__ import annotations

import pytest

from mailhub.feedback import charsets, mime


def test_a_header_ends_at_the_first_line_that_can_be_none() -> None:
    mail = mime.read(b"From: a@b.example\nSubject: Undeliverable Mail\nUnknown user: bob@recipient.example\n\nmore\n")
    assert mail.header("subject") == "Undeliverable Mail"
    assert mail.body.startswith(b"Unknown user: bob@")


def test_a_line_of_a_mailbox_file_before_the_header_is_passed_over() -> None:
    assert mime.read(b"From MAILER-DAEMON Tue Feb  3 10:00:00 2026\nSubject: x\n\ny").header("subject") == "x"


def test_folded_headers_and_encoded_words_are_read() -> None:
    mail = mime.read(b"Subject: =?iso-2022-jp?B?GyRCJUYlOSVIGyhC?=\n =?utf-8?Q?_caf=C3=A9?=\nTo: a@b.example,\n\tc@d.example\n\n")
    assert mail.header("subject") == "テスト café"
    assert mail.raw("to") == "a@b.example, c@d.example"


def test_parts_are_found_by_a_boundary_that_was_not_announced() -> None:
    mail = mime.read(
        b"From: a@b.example\nContent-Type: multipart/report\n\n--x/y\nContent-Type: text/plain\n\none\n--x/y\nContent-Type: text/html\n\n<b>two</b>\n"
    )
    assert [part.text.strip() for part in mail.leaves()] == ["one", "two"]


def test_a_part_whose_end_is_missing_is_read_to_the_end() -> None:
    mail = mime.read(b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\none\n")
    assert [part.text.strip() for part in mail.leaves()] == ["one"]


def test_a_returned_mail_is_not_opened() -> None:
    mail = mime.read(
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: message/rfc822\n\n"
        b"Content-Type: multipart/mixed; boundary=y\n\n--y\n\ninside\n--y--\n--x--\n"
    )
    (part,) = mail.leaves()
    assert part.returned
    assert b"inside" in part.body


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"quoted-printable", b"caf=C3=A9 is =\nopen"),
        (b"base64", b"Y2Fmw6kgaXMgb3Blbg=="),
        (b"base64", b"Y2Fm!\nw6kgaXMgb3Blbg"),
        (b"8bit", "café is open".encode()),
        (b"x-unknown", "café is open".encode()),
    ],
)
def test_transfer_encodings_are_undone(encoding: bytes, body: bytes) -> None:
    mail = mime.read(b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: " + encoding + b"\n\n" + body)
    assert mail.text.strip() == "café is open"


def test_html_is_read_without_its_tags_but_with_its_addresses() -> None:
    mail = mime.read(
        b"Content-Type: text/html\n\n<html><style>p {color: red}</style><p>To <a href='mailto:x@y.example'>&lt;bob@recipient.example&gt;</a>:<br>no"
        b" &amp; <carol@recipient.example> never</p><!-- not this -->"
    )
    assert mail.text.split() == ["To", "<bob@recipient.example>:", "no", "&", "<carol@recipient.example>", "never"]


TEXTS = {
    "宛先のメールアドレスが見つかりませんでした。": ["iso2022_jp", "euc_jp", "cp932", "utf-8"],
    "Почтовый ящик получателя переполнен": ["koi8_r", "cp1251", "utf-8"],
    "받는 사람의 메일함이 가득 찼습니다": ["cp949", "utf-8"],
    "收件人的邮箱已满，邮件无法送达": ["gb18030", "utf-8"],
    "Empfänger existiert nicht für café": ["cp1252", "utf-8"],
}


@pytest.mark.parametrize(("text", "codec"), [(text, codec) for text, codecs in TEXTS.items() for codec in codecs])
def test_text_that_does_not_name_its_charset_is_read(text: str, codec: str) -> None:
    assert charsets.decode(text.encode(codec)) == text


@pytest.mark.parametrize("claim", ["us-ascii", "utf-8", "x-unknown", "UFT-8", "", '"utf-8"'])
def test_a_charset_that_is_named_wrongly_does_not_hide_the_text(claim: str) -> None:
    text = "宛先のメールアドレスが見つかりませんでした。"
    assert charsets.decode(text.encode("iso2022_jp"), claim) == text


@pytest.mark.parametrize(
    ("charset", "data"),
    [("koi8-r", "ящик".encode("koi8_r")), ("windows-1251", "ящик".encode("cp1251")), ("unicode-1-1-utf-7", b"+BE8ESQQ4BDo-")],
)
def test_a_charset_that_is_named_rightly_is_heeded(charset: str, data: bytes) -> None:
    assert charsets.decode(data, charset) == "ящик"
