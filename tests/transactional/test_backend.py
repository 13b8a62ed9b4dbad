from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage as Parsed
from email.mime.image import MIMEImage

import pytest
from django.core import mail
from django.core.mail import BadHeaderError, EmailMessage, EmailMultiAlternatives
from django.db import transaction
from django.utils.module_loading import import_string

from mailhub.delivery import prepare
from mailhub.delivery.models import Content, Message
from mailhub.senders.models import Sender
from transactional.backend import EmailBackend
from transactional.models import Submission
from transactional.requests import Forbidden, Invalid, NotAccepted

pytestmark = pytest.mark.usefixtures("sender", "our_backend")


@pytest.fixture
def our_backend(settings: object) -> None:
    """pytest-django puts Django's own in its place."""
    settings.EMAIL_BACKEND = "transactional.backend.EmailBackend"  # type: ignore[attr-defined]


def message(**changes: object) -> EmailMessage:
    return EmailMessage(**{"subject": "Order", "body": "Thank you", "from_email": "shop@example.com", "to": ["a@example.net"], **changes})


def raw() -> bytes:
    content = Content.objects.get()
    data = prepare.Compiled(content).envelope(content.messages.all()[0]).data
    assert data.isascii() and data.endswith(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or len(line) > 998 for line in data.split(b"\r\n"))
    return data


def sent() -> Parsed:
    parsed = email.message_from_bytes(raw(), policy=email.policy.default)
    assert isinstance(parsed, Parsed) and not parsed.defects
    assert len(parsed.keys()) == len({name.lower() for name in parsed.keys()})  # noqa: SIM118  keys() repeats, iteration too
    return parsed


def text(part: object) -> str:
    payload = part.get_payload(decode=True)  # type: ignore[attr-defined]
    return payload.decode().replace("\r\n", "\n").rstrip("\n")


def test_every_envelope_recipient_has_a_message_of_its_own() -> None:
    count = message(to=["山田 <a@example.net>", "b@example.net"], cc=["c@example.net"], bcc=["d@example.net", "A@example.net"]).send()
    assert count == 1
    assert sorted(Message.objects.values_list("address", flat=True)) == [f"{name}@example.net" for name in "abcd"]
    parsed = sent()
    assert [str(address) for address in parsed["To"].addresses] == ["山田 <a@example.net>", "b@example.net"]
    assert parsed["Cc"] == "c@example.net"
    assert b"bcc" not in raw().lower() and b"d@example.net" not in raw()
    submission = Submission.objects.get()
    assert (submission.via, submission.project, submission.content.subject) == ("backend", None, "Order")


def test_fields_that_every_mail_needs_are_there_once() -> None:
    message(subject="ご注文" * 40, from_email="緑茶堂 <shop@example.com>").send()
    parsed = sent()
    assert parsed["Subject"].replace(" ", "") == "ご注文" * 40
    assert parsed["From"] == "緑茶堂 <shop@example.com>"
    assert parsed["Message-ID"].endswith("@example.com>")
    assert parsed["Date"] and parsed["MIME-Version"] == "1.0" and parsed["Auto-Submitted"] == "auto-generated"


def test_fields_that_the_site_gives_are_kept() -> None:
    headers = {
        "Message-ID": "<1@shop.example>", "Date": "Tue, 24 Nov 2026 00:00:00 +0000", "X-Order": "17", "Auto-Submitted": "no",
        "From": "Tea <shop@example.com>", "To": "customers@example.com", "Bcc": "secret@example.net", "Return-Path": "<x@example.net>",
    }  # fmt: skip
    message(headers=headers, reply_to=['"Help, please" <help@example.com>']).send()
    parsed = sent()
    for name in ("Message-ID", "Date", "X-Order", "Auto-Submitted", "From", "To"):
        assert parsed[name] == headers[name]
    assert parsed["Reply-To"] == '"Help, please" <help@example.com>'
    assert parsed["Bcc"] is None and parsed["Return-Path"] is None
    assert Message.objects.get().address == "a@example.net"


@pytest.mark.parametrize("body", ["日本語の本文です。\n" * 100, "x" * 5000, "あ" * 2000, "a\r\nb\rc\nd", "dots\n.\n..\n", "From here", ""])
def test_text_arrives_as_it_was_whatever_its_lines(body: str) -> None:
    message(body=body).send()
    assert text(sent()) == body.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def test_an_alternative_and_attachments_and_inline_images_arrive_whole() -> None:
    mail = EmailMultiAlternatives("件名", "本文", "shop@example.com", ["a@example.net"])
    mail.attach_alternative("<p>本文<img src='cid:logo'></p>", "text/html")
    mail.attach("明細.csv", "品名,価格\n茶,1200\n" * 50, "text/csv")
    mail.attach("a.bin", bytes(range(256)) * 10, "application/octet-stream")
    mail.attach("long.txt", "x" * 3000, "text/plain")
    image = MIMEImage(b"\x89PNG" + bytes(100), "png")
    image.add_header("Content-ID", "<logo>")
    mail.attach(image)
    mail.send()
    parts = {part.get_filename() or part.get_content_type(): part for part in sent().walk()}
    assert text(parts["text/plain"]) == "本文"
    assert text(parts["text/html"]) == "<p>本文<img src='cid:logo'></p>"
    assert parts["明細.csv"].get_payload(decode=True).decode() == "品名,価格\n茶,1200\n" * 50
    assert parts["a.bin"].get_payload(decode=True) == bytes(range(256)) * 10
    assert parts["long.txt"].get_payload(decode=True) == b"x" * 3000
    assert parts["image/png"]["Content-ID"] == "<logo>"


def test_a_forwarded_mail_is_made_fit_too() -> None:
    mail = message()
    mail.attach("forwarded.eml", EmailMessage("件名", "本文" * 300, "x@example.net", ["y@example.net"]), "message/rfc822")
    mail.attach(
        "raw.eml", "Subject: 生の件名\nContent-Transfer-Encoding: 8bit\nContent-Type: text/plain; charset=utf-8\n\n本文", "message/rfc822"
    )
    mail.send()
    bodies = [text(part) for part in sent().walk() if part.get_content_type() == "text/plain"]
    assert bodies == ["Thank you", "本文" * 300, "本文"]


def test_other_character_sets_are_carried() -> None:
    mail = message(subject="注文", body="ご注文ありがとうございます")
    mail.encoding = "iso-2022-jp"
    mail.send()
    assert sent().get_content().rstrip() == "ご注文ありがとうございます"
    assert Content.objects.get().subject == "注文"


def test_old_carrier_addresses_and_international_ones_are_written_right() -> None:
    message(to=["太郎 <abc..d@docomo.ne.jp>", '"x."@ezweb.ne.jp', "花子 <hanako@例え.jp>"]).send()
    assert sorted(Message.objects.values_list("address", flat=True)) == [
        "abc..d@docomo.ne.jp", "hanako@xn--r8jz45g.jp", "x.@ezweb.ne.jp",
    ]  # fmt: skip
    data = raw()
    for written in (b'<"abc..d"@docomo.ne.jp>', b'"x."@ezweb.ne.jp', b"<hanako@xn--r8jz45g.jp>"):
        assert written in data


def test_an_address_in_another_script_is_the_only_thing_beyond_ascii() -> None:
    message(subject="件名", body="本文", to=["王 <用户@例え.jp>"]).send()
    (recipient,) = Message.objects.all()
    data = bytes(Content.objects.get().raw or b"")
    assert recipient.address == "用户@xn--r8jz45g.jp"
    assert b"<" + recipient.address.encode() + b">\r\n" in data
    assert data.replace("用户".encode(), b"").isascii()


# ------------------------------------------------------------------------------------------------------------ header injection

BREAKS = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029\0"


@pytest.mark.parametrize("character", BREAKS)
@pytest.mark.parametrize(
    "change",
    [
        lambda evil: {"subject": evil},
        lambda evil: {"from_email": f"{evil} <shop@example.com>"},
        lambda evil: {"to": [f"{evil} <a@example.net>"]},
        lambda evil: {"cc": [f"{evil} <a@example.net>"]},
        lambda evil: {"bcc": [f"a@example.net{evil}"]},
        lambda evil: {"reply_to": [f"{evil} <a@example.net>"]},
        lambda evil: {"headers": {"X-A": evil}},
        lambda evil: {"headers": {evil: "1"}},
        lambda evil: {"attachments": [(evil, "x", "text/plain")]},
    ],
    ids=["subject", "from", "to", "cc", "bcc", "reply-to", "header", "header name", "file name"],
)
def test_nothing_breaks_a_header_line(change: Callable[[str], dict[str, object]], character: str) -> None:
    """bpo-46462: Python joins at each of these with CRLF; Django looks for CR and LF."""
    with pytest.raises(BadHeaderError):
        message(**change(f"Hi{character}Bcc: everyone@example.com")).send()
    assert not Message.objects.exists()


def test_a_field_given_twice_is_refused() -> None:
    with pytest.raises(BadHeaderError, match="Subject"):
        message(headers={"subject": "Second"}).send()


# ------------------------------------------------------------------------------------------------------ what Django lays down


def test_the_count_is_of_mails_accepted_and_errors_are_raised() -> None:
    good, empty, bad = message(), message(to=[]), message(from_email="stranger@example.com")
    assert EmailBackend().send_messages([good, empty, message()]) == 2
    assert EmailBackend().send_messages([]) == 0
    with pytest.raises(Forbidden, match=r"stranger@example\.com"):
        EmailBackend().send_messages([good, bad])
    assert empty.send() == 0


@pytest.mark.parametrize(
    "changes", [{"from_email": "stranger@example.com"}, {"from_email": "nobody"}, {"to": ["nobody"]}, {"from_email": "a@b.jp, c@d.jp"}]
)
def test_a_mail_that_cannot_be_accepted_is_an_error_or_silence(changes: dict[str, object]) -> None:
    with pytest.raises(NotAccepted):
        message(**changes).send()
    assert message(**changes).send(fail_silently=True) == 0
    assert not Message.objects.exists()


def test_an_address_with_a_bare_comma_is_not_guessed_at() -> None:
    with pytest.raises(Invalid, match="recipients"):
        message(to=["Yamada, Taro <a@example.net>"]).send()


def test_the_message_in_hand_stays_as_it_was() -> None:
    one = message(to=["山田 <a@example.net>"], headers={"X-A": "1"}, bcc=["b@example.net"])
    before = {name: repr(value) for name, value in vars(one).items() if name != "connection"}
    one.send()
    assert {name: repr(value) for name, value in vars(one).items() if name != "connection"} == before


def test_a_connection_can_be_kept() -> None:
    with mail.get_connection() as connection:
        assert connection.send_messages([message(), message()]) == 2
    assert not connection.open()


def test_the_backend_can_be_made_as_django_6_makes_it() -> None:
    made = import_string("transactional.backend.EmailBackend")(alias="default")
    assert made.send_messages([message()]) == 1


def test_a_rollback_takes_the_mail_back() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        message().send()
        raise RuntimeError
    assert not Message.objects.exists()


def test_mail_to_staff_goes_the_same_way(settings: object, sender: Sender) -> None:
    settings.ADMINS = [("Staff", "staff@example.net")]  # type: ignore[attr-defined]
    settings.SERVER_EMAIL = sender.email  # type: ignore[attr-defined]
    mail.mail_admins("Disk full", "97 %")
    assert Message.objects.get().address == "staff@example.net"
