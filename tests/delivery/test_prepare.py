from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery import prepare
from mailhub.delivery.models import Content, Message
from mailhub.lib import tokens
from mailhub.lib.headers import LINE_BREAKS
from mailhub.relays.base import Envelope, Fault, Refused
from mailhub.senders import return_path

# What JSON and PostgreSQL can hold: no surrogates, no NUL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]))
DATE = datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC)


def content(**changes: object) -> Content:
    return Content(**{"subject": "News", "text": "Hello", "from_name": "Shop", "from_email": "shop@example.com", **changes})


def message(address: str = "taro@example.net", **data: object) -> Message:
    return Message(pk=7, stream="campaign", batch_id=3, recipient_ref=5, address=address, data=data, created_at=DATE)


def envelope(of: Content, to: Message | None = None) -> Envelope:
    return prepare.Compiled(of).envelope(to or message())


def read(data: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def said(part: EmailMessage) -> str:
    """A part's text, decoded, with the line ends of Python."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


def fields(data: bytes) -> list[str]:
    """Header lines as a receiver unfolds them, still encoded."""
    head = data.partition(b"\r\n\r\n")[0].decode()
    return re.sub(r"\r\n(?=[ \t])", "", head).split("\r\n")


def decoded(field: str) -> str:
    """Encoded-words decoded (email.policy.default puts a space between those of a display name, against RFC 2047 section 6.2)."""
    return str(make_header(decode_header(field)))


def assert_fit_for_any_hop(data: bytes) -> None:
    assert data.isascii()
    assert data.endswith(b"\r\n")
    lines = data.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998


def test_a_mail_has_every_field_once_and_both_parts() -> None:
    sent = envelope(
        content(
            subject="Hello {{ name }}",
            html="<p>Dear {{ name }}, <a href='https://shop.example/'>look</a></p>",
            text="",
            reply_to="help@example.com",
            headers={"List-Id": "News <news.example.com>", "Precedence": "bulk"},
        ),
        message(name="Taro"),
    )
    assert (sent.message, sent.mail_from, sent.rcpt_to) == (7, "shop@example.com", "taro@example.net")
    assert_fit_for_any_hop(sent.data)
    parsed = read(sent.data)
    assert {name: str(value) for name, value in parsed.items() if name not in ("Message-ID", "X-MailHub-ID", "Content-Type")} == {
        "Date": "Tue, 24 Nov 2026 09:30:15 +0000",
        "From": "Shop <shop@example.com>",
        "Reply-To": "help@example.com",
        "To": "Taro <taro@example.net>",
        "Subject": "Hello Taro",
        "List-Id": "News <news.example.com>",
        "Precedence": "bulk",
        "MIME-Version": "1.0",
    }
    assert len(parsed.keys()) == len(set(parsed.keys()))
    assert parsed.get_content_type() == "multipart/alternative"
    text, html = parsed.iter_parts()
    assert said(text) == "Dear Taro, look <https://shop.example/>\n"
    assert "<p>Dear Taro, " in said(html)


def test_date_and_message_id_are_the_same_on_every_try() -> None:
    one, to = content(), message()
    first, second = envelope(one, to), envelope(one, to)
    assert first == second
    assert f"Message-ID: <{to.public_id.hex}@example.com>" in fields(first.data)


def test_a_mail_of_text_alone_is_a_single_part() -> None:
    parsed = read(envelope(content(text="One\nTwo")).data)
    assert parsed.get_content_type() == "text/plain"
    assert said(parsed) == "One\nTwo\n"


def test_one_click_unsubscribing_is_offered_as_rfc_8058_wants() -> None:
    base = "https://hub.example/u/" + "x" * 150 + "/"
    sent = envelope(content(unsubscribe_base=base, text="Leave: {{ unsubscribe_url }}"))
    url = base + tokens.sign("unsubscribe", "3.5")
    lines = sent.data.decode().split("\r\n")
    assert f"List-Unsubscribe: <{url}>" in lines
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
    assert url in said(read(sent.data)).replace("\n", "")


def test_unsubscribing_by_mail_is_offered_where_mail_comes_back_to_us() -> None:
    letter = content(unsubscribe_base="https://hub.example/u/")
    letter.bounce_address = "bounces@bounce.tea.example"  # type: ignore[attr-defined]
    [field] = [line for line in envelope(letter).data.decode().split("\r\n") if line.startswith("List-Unsubscribe:")]
    found = re.fullmatch(
        r"List-Unsubscribe: <https://hub\.example/u/[^>]+>, <mailto:(bounces\+[^>]+@bounce\.tea\.example)\?subject=unsubscribe>", field
    )
    assert found and return_path.read(return_path.found(found[1]), return_path.UNSUBSCRIBE)


def test_mail_without_an_unsubscribe_link_offers_none() -> None:
    assert b"List-Unsubscribe" not in envelope(content()).data


def test_data_cannot_pose_as_the_system() -> None:
    sent = envelope(content(text="{{ unsubscribe_url }}|{{ email }}"), message(unsubscribe_url="https://evil.example", email="x"))
    assert said(read(sent.data)) == "|taro@example.net\n"


def test_what_is_missing_renders_as_nothing() -> None:
    sent = envelope(content(subject="Hi{{ nobody }}", text="[{{ address.city.name }}]{% for item in items %}x{% endfor %}"))
    assert read(sent.data)["Subject"] == "Hi"
    assert said(read(sent.data)) == "[]\n"


def test_html_is_escaped_and_text_is_not() -> None:
    parsed = read(envelope(content(subject="{{ n }}", html="<p>{{ n }}</p>", text="{{ n }}"), message(n="<b>&")).data)
    text, html = parsed.iter_parts()
    assert parsed["Subject"] == "<b>&"
    assert said(text) == "<b>&\n"
    assert said(html) == "<p>&lt;b&gt;&amp;</p>\n"


@pytest.mark.parametrize("character", "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029\0")
@pytest.mark.parametrize("where", ["subject", "name"])
def test_data_cannot_break_a_header_line(where: str, character: str) -> None:
    evil = f"Hi{character}Bcc: everyone@example.com"
    with pytest.raises(Refused) as refused:
        envelope(content(subject="{{ title }}"), message(**{"title" if where == "subject" else "name": evil}))
    assert refused.value.fault == Fault.CONTENT
    assert "single line" in refused.value.reply.text


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "1\r\nBcc: a@example.com"}, {"X A": "1"}, {"X:A": "1"}, {"Bcc": "a@example.com"}, {"subject": "2"}, {"X": "a" * 999}],
)
def test_header_fields_of_a_content_are_refused_when_they_break_the_mail(headers: dict[str, str]) -> None:
    with pytest.raises(Refused):
        envelope(content(headers=headers))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ 1 / 0 }}", "division"),
        ("a\n{% for %}", "Line 2"),
        ("{{ name.upper() }}", "filters"),
        ("{% for item in 5 %}{% endfor %}", "not iterable"),
        ("{{ '\ud800' }}", "surrogates"),
    ],
)
def test_a_template_that_fails_is_a_refusal_with_its_reason(template: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        envelope(content(text=template))
    assert refused.value.fault == Fault.CONTENT


def test_finished_mail_keeps_its_bytes() -> None:
    raw = b"From: a@example.com\r\nX-Odd:   kept\r\n\r\nBody {{ name }}\r\n"
    assert envelope(content(raw=memoryview(raw), text="")).data == raw


def test_a_carriers_old_address_is_quoted_on_the_wire() -> None:
    sent = envelope(content(), message("abc..d@docomo.ne.jp"))
    assert sent.rcpt_to == '"abc..d"@docomo.ne.jp'
    assert 'To: "abc..d"@docomo.ne.jp' in fields(sent.data)


def test_an_international_address_is_the_only_thing_outside_of_ascii() -> None:
    sent = envelope(content(subject="件名"), message("用户@xn--fsqu00a.xn--0zwm56d", name="田中"))
    assert sent.rcpt_to == "用户@xn--fsqu00a.xn--0zwm56d"
    assert not sent.data.isascii()
    assert sent.data.decode().replace("用户", "").isascii()


def test_japanese_bodies_are_base64_and_english_ones_stay_readable() -> None:
    assert read(envelope(content(text="日本語の本文")).data)["Content-Transfer-Encoding"] == "base64"
    assert read(envelope(content(text="Plain words, café")).data)["Content-Transfer-Encoding"] == "quoted-printable"


@given(subject=LINE, name=LINE, body=TEXT)
def test_whatever_is_said_arrives_as_it_was_said(subject: str, name: str, body: str) -> None:
    sent = envelope(content(subject="{{ s }}", text="{{ b }}", html="<p>{{ b }}</p>"), message(s=subject, b=body, name=name))
    assert_fit_for_any_hop(sent.data)
    parsed = read(sent.data)
    assert decoded(fields(sent.data)[5].removeprefix("Subject: ")) == subject.strip()
    to_name, to_address = parseaddr(fields(sent.data)[4].removeprefix("To: "))
    assert (decoded(to_name), to_address) == (" ".join(name.split()), "taro@example.net")
    wanted = body.replace("\r\n", "\n").replace("\r", "\n")
    text, _html = parsed.iter_parts()
    assert said(text) == (wanted if wanted.endswith("\n") else wanted + "\n")


@given(text=TEXT)
def test_no_subject_ever_makes_a_second_field(text: str) -> None:
    try:
        sent = envelope(content(subject="{{ s }}"), message(s=text))
    except Refused:
        assert LINE_BREAKS.search(text)
    else:
        names = [field.partition(":")[0] for field in fields(sent.data)]
        assert names == [
            "From", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Date", "To", "Subject", "Message-ID", "X-MailHub-ID",
        ]  # fmt: skip


def test_launch_checks_name_the_part_the_line_and_the_problem() -> None:
    problems = prepare.check("Hi {{ name }}", "<p>\n{{ nmae }}</p>{{ unsubscribe_url }}", "{% if %}", known={"name"})
    assert [(problem.field, problem.line) for problem in problems] == [("html", 2), ("text", 1)]
    assert "nmae" in problems[0].message
    assert prepare.check("Hi {{ anything }}", "", "") == []
