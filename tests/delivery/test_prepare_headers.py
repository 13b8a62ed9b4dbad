from __future__ import annotations

import re
from email.header import decode_header, make_header

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery import mime

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)
ENCODED_WORD = re.compile(r"=\?utf-8\?b\?[A-Za-z0-9+/=]*\?=")


def value(made: str, name: str) -> str:
    assert made.endswith("\r\n")
    return re.sub(r"\r\n(?=[ \t])", "", made[:-2]).removeprefix(f"{name}: ")


def decoded(text: str) -> str:
    return str(make_header(decode_header(text)))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("", "To: a@example.com\r\n"),
        ("Taro Yamada", "To: Taro Yamada <a@example.com>\r\n"),
        ("Yamada, Taro", 'To: "Yamada, Taro" <a@example.com>\r\n'),
        ('Taro "T" \\', 'To: "Taro \\"T\\" \\\\" <a@example.com>\r\n'),
        ("J.R.", 'To: "J.R." <a@example.com>\r\n'),
        ("山田、太郎", "To: =?utf-8?b?5bGx55Sw44CB5aSq6YOO?= <a@example.com>\r\n"),
        ('山田"太郎"', "To: =?utf-8?b?5bGx55SwIuWkqumDjiI=?= <a@example.com>\r\n"),
        ("=?utf-8?q?a?=", "To: =?utf-8?b?PT91dGYtOD9xP2E/PQ==?= <a@example.com>\r\n"),
        ("tab\there", "To: tab here <a@example.com>\r\n"),
    ],
)
def test_names_are_written_as_rfc_5322_and_2047_want(name: str, wanted: str) -> None:
    assert mime.mailbox("To", name, "a@example.com") == wanted


@given(text=WORDS)
def test_no_encoded_word_stands_in_a_quoted_string_and_all_are_short(text: str) -> None:
    made = mime.mailbox("From", text, "a@example.com")
    words = ENCODED_WORD.findall(made)
    assert not (words and '"' in made)
    assert all(len(word) <= 75 for word in words)
    assert all(len(line) <= 76 or not words for line in made.split("\r\n"))
    for word in words:
        # None splits a character.
        assert decoded(word)


@given(text=WORDS)
def test_subjects_come_back_whole_and_in_lines_of_78(text: str) -> None:
    made = mime.field("Subject", text)
    lines = made[:-2].split("\r\n")
    assert all(len(line) <= (76 if "=?" in line else 78) for line in lines)
    assert all(line.strip() for line in lines)
    assert decoded(value(made, "Subject")) == text.strip()


def test_a_long_english_subject_is_folded_and_stays_readable() -> None:
    text = " ".join(["Delivery"] * 20)
    made = mime.field("Subject", text)
    assert "=?" not in made
    assert made.count("\r\n ") == 2
    assert value(made, "Subject") == text


def test_a_subject_that_cannot_be_folded_is_encoded() -> None:
    assert "=?utf-8?b?" in mime.field("Subject", "x" * 200)


def test_what_machines_read_in_a_given_field_stays_as_it_is() -> None:
    assert mime.given("List-Id", "ニュース <news.example.com>") == "List-Id: =?utf-8?b?44OL44Ol44O844K5?=\r\n <news.example.com>\r\n"
    url = "<https://example.com/" + "x" * 300 + ">"
    assert mime.given("List-Help", url) == f"List-Help: {url}\r\n"


@pytest.mark.parametrize("name", ["", "X A", "X:", "X\r\n", "Ünicode", "X\0"])
def test_names_of_fields_are_checked(name: str) -> None:
    with pytest.raises(ValidationError):
        mime.given(name, "1")


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@pytest.mark.parametrize("text", ["." * 3, ".", "From x", "a  \t", "x" * 5000, "日本" * 3000, "a\rb\nc\r\nd", "\0=\x7f", ""])
def test_bodies_are_short_lines_of_ascii(text: str, encoding: str) -> None:
    made = mime.body(text, encoding)
    assert made.isascii() and made.endswith(b"\r\n") and b"\0" not in made
    assert all(len(line) <= 76 for line in made.split(b"\r\n"))
    assert b"\n" not in made.replace(b"\r\n", b"") and b"\r" not in made.replace(b"\r\n", b"")
    assert not any(line.endswith((b" ", b"\t")) for line in made.split(b"\r\n"))
