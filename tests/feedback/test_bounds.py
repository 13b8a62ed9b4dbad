"""Nothing that comes back can raise, or take more time or memory than its bounds allow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.feedback import bounces, mime
from mailhub.feedback.charsets import CODECS
from mailhub.feedback.reports import MailKind
from tests.feedback import mails, specimens

SAMPLES = [*mails.NOTICES, *mails.STATUSES, *mails.COMPLAINTS, *mails.NOTICES_BY_SNS, *specimens.SPECIMENS]
ALL = [sample.mail.encode() for sample in [*SAMPLES, *mails.HARMLESS, *specimens.LOOKALIKES]]
HEADER = b"From: MAILER-DAEMON@mx.example.net\nTo: ann@sender.example\nSubject: Undelivered mail\n"


@given(st.binary(max_size=5000))
def test_any_bytes_are_read(data: bytes) -> None:
    bounces.read(data)
    bounces.read(HEADER + b"\n" + data)


@settings(max_examples=300)
@given(st.data())
def test_any_mail_cut_off_or_garbled_is_read(data: st.DataObject) -> None:
    mail = bytearray(data.draw(st.sampled_from(ALL)))
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=20)):
        if mail:
            mail[place % len(mail)] = byte
    bounces.read(bytes(mail[: data.draw(st.integers(0, len(mail)))]))


@given(
    st.sampled_from([*CODECS, "idna", "punycode", "unicode_escape", "zip", "rot13", "undefined", "../x", "\x00"]), st.binary(max_size=500)
)
def test_any_charset_is_read(charset: str, data: bytes) -> None:
    bounces.read(HEADER + b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n" + data)


def test_a_codec_is_never_chosen_by_the_mail() -> None:
    assert set(CODECS.values()).isdisjoint({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "zlib_codec", "rot_13"})


@pytest.mark.parametrize("sample", [mails.STATUSES[0], mails.NOTICES[0]], ids=str)
def test_a_mail_of_50_megabytes_is_read_for_what_stands_at_its_top(sample: mails.Sample) -> None:
    reading = bounces.read(sample.mail.encode() + b"x" * 76 * 690_000)
    assert [report.recipient for report in reading.reports] == ["bob@recipient.example"]


def test_of_ten_thousand_parts_the_first_are_read() -> None:
    piece = b"--b\nContent-Type: text/plain\n\nhello\n"
    mail = mime.read(HEADER + b"Content-Type: multipart/mixed; boundary=b\n\n" + piece * 10_000)
    assert len(list(mail.leaves())) == mime.MOST_PARTS


def test_parts_are_opened_only_so_deep() -> None:
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (depth, depth) for depth in range(5000))
    mail = mime.read(HEADER + nested + b"Content-Type: text/plain\n\nhello")
    depth = 0
    while mail.parts:
        depth, mail = depth + 1, mail.parts[0]
    assert depth == mime.DEEPEST


def test_a_report_of_very_many_recipients_names_the_first() -> None:
    fields = "".join(f"Final-Recipient: rfc822; u{number}@recipient.example\nAction: failed\nStatus: 5.1.1\n\n" for number in range(20_000))
    reading = bounces.read(mails.parts("Content-Type: text/plain\n\nNo.\n", mails.status(fields)).encode())
    assert len(reading.reports) == bounces.MOST_REPORTS
    assert reading.reports[0].recipient == "u0@recipient.example"


@pytest.mark.parametrize(
    "body",
    [
        b"<" * 500_000,
        b"@" * 500_000,
        b"a." * 250_000 + b"@b",
        b"a@b.example " * 50_000,
        b"<style<!--" * 50_000,
        b"=?utf-8?q?" * 50_000,
        b"> " * 250_000,
        b" " * 500_000,
        b"\n" * 500_000,
        (b"user " * 40 + b"\n") * 3000,
        b"{" * 100_000,
        b'{"notificationType":"Bounce","x":' + b"[" * 100_000,
        b"\x1b$B" * 100_000,
        b"~{" * 100_000,
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize("kind", [b"text/plain", b"text/html", b"multipart/report; boundary=b", b"message/delivery-status"])
def test_what_is_made_to_be_slow_ends(body: bytes, kind: bytes) -> None:
    reading = bounces.read(HEADER + b"Content-Type: " + kind + b"\n\n" + body)
    assert len(reading.reports) <= bounces.MOST_REPORTS


def test_very_many_headers_and_very_long_ones_are_cut() -> None:
    mail = mime.read(b"".join(b"X-%d: y\n" % number for number in range(50_000)) + b"\nhello")
    assert len(mail.headers) == mime.MOST_HEADERS
    folded = mime.read(b"Subject: a\n" + b" b\n" * 200_000 + b"\nhello")
    assert len(folded.raw("subject")) <= mime.LONGEST_VALUE * 2
    assert folded.body == b"hello"


def test_control_characters_do_not_reach_what_is_stored() -> None:
    fields = "Final-Recipient: rfc822; bob@recipient.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no\x00 such\x07 user\x1b[2J\n"
    (report,) = bounces.read(mails.parts("Content-Type: text/plain\n\nNo.\n", mails.status(fields)).encode()).reports
    assert report.diagnostic.isprintable()


def test_garbled_samples_of_every_kind_are_read() -> None:
    chance = random.Random(4)
    kinds = set()
    for mail in ALL:
        for _try in range(20):
            garbled = bytearray(mail)
            for _byte in range(chance.randrange(40)):
                if garbled:
                    garbled[chance.randrange(len(garbled))] = chance.randrange(256)
            kinds.add(bounces.read(bytes(garbled[: chance.randrange(len(garbled) + 1)])).kind)
    assert MailKind.BOUNCE in kinds
