from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pytest_django import DjangoAssertNumQueries

from mailhub.delivery import prepare
from mailhub.delivery.models import Content, Message
from mailhub.relays.base import Envelope, Fault, Refused
from mailhub.relays.client import END, stuffed
from mailhub.senders import dkim
from mailhub.senders.dkim import Signer
from mailhub.senders.models import DKIMKey, Domain, TextRecord
from tests.senders.verifiers import assert_broken, assert_good, record_of

UNSUBSCRIBE = "https://hub.example/u/" + "x" * 200 + "/"
CONTENTS = {
    "text": {"text": "Hello {{ name }}"},
    "multipart": {"html": "<table>\n  <tr>\n    <td>Hello  {{ name }} </td>\t\n</table>", "subject": "News for {{ name }}, " * 10},
    "japanese": {"html": "<p>{{ name }}様、お知らせです。</p>", "subject": "お知らせ" * 30, "from_name": "緑茶堂"},
    "long lines": {"text": "word " * 2000, "headers": {"References": " ".join(["<" + "x" * 200 + "@example.com>"] * 10)}},
    "campaign": {
        "html": "<p>Hello</p>",
        "unsubscribe_base": UNSUBSCRIBE,
        "reply_to": "help@example.com",
        "headers": {"List-Id": "お知らせ <news.example.com>", "Precedence": "bulk", "Feedback-ID": "1:2:campaign:mailhub"},
    },
    "empty": {"text": ""},
}


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def signer(private: rsa.RSAPrivateKey) -> Signer:
    return Signer([dkim.Key("example.com", "s1", "rsa-sha256", private)])


@pytest.fixture(scope="module")
def records(private: rsa.RSAPrivateKey) -> Sequence[TextRecord]:
    return [record_of(private)]


def content(**changes: object) -> Content:
    return Content(**{"subject": "News", "text": "", "from_name": "Shop", "from_email": "shop@example.com", **changes})


def message(address: str = "taro@example.net", **data: object) -> Message:
    moment = datetime(2026, 11, 24, 9, 30, 15, tzinfo=UTC)
    return Message(pk=7, stream="campaign", batch_id=3, recipient_ref=5, address=address, data=data, created_at=moment)


def sign(compiled: prepare.Compiled, to: Message | None = None) -> Envelope:
    return compiled.envelope(to or message(name="太郎"), signed=True)


def attached() -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "Shop <shop@example.com>", "taro@example.net", "ご注文"
    mail.set_content("Your order\n")
    mail.add_attachment(bytes(range(256)) * 1000, maintype="application", subtype="pdf", filename="order.pdf")
    return mail.as_bytes()


@pytest.mark.parametrize("name", CONTENTS)
def test_what_leaves_verifies(signer: Signer, records: Sequence[TextRecord], name: str) -> None:
    compiled = prepare.Compiled(content(**CONTENTS[name]), signer)
    to = message(name="太郎")
    plain, sent = compiled.envelope(to), sign(compiled, to)
    assert sent.data.endswith(plain.data) and sent.data.startswith(b"DKIM-Signature: ")
    assert (sent.message, sent.mail_from, sent.rcpt_to) == (plain.message, plain.mail_from, plain.rcpt_to)
    assert max(map(len, sent.data.split(b"\r\n"))) <= 998
    assert sent.dotless and stuffed(sent.data) == sent.data + END
    assert_good(sent.data, records)
    assert_broken(sent.data.replace(b"\r\nFrom: ", b"\r\nFrom: evil@example.org\r\nFrom: "), *records)


@pytest.mark.parametrize(
    "raw",
    [
        attached(),
        b"From: shop@example.com\r\nX-Odd:   kept\r\nSubject: a\r\n\tb  \r\nsubject: c\r\n\r\n Body {{ name }} \t \r\n\r\n",
        b"From: shop@example.com\r\n\r\n",
        b"From: shop@example.com\r\n",
    ],
)
def test_finished_mail_keeps_its_bytes_below_the_signature(signer: Signer, records: Sequence[TextRecord], raw: bytes) -> None:
    sent = sign(prepare.Compiled(content(raw=memoryview(raw)), signer))
    assert sent.data.endswith(b"\r\n" + raw)
    assert_good(sent.data, records)


def test_finished_mail_is_signed_once_for_all_its_recipients(signer: Signer) -> None:
    compiled = prepare.Compiled(content(raw=attached()), signer)
    first = sign(compiled, message("taro@example.net"))
    compiled.signer = Signer([])
    second = sign(compiled, message("hanako@example.net"))
    assert first.data == second.data and second.rcpt_to == "hanako@example.net"


def test_finished_mail_that_we_signed_already_leaves_as_it_is(signer: Signer) -> None:
    raw = sign(prepare.Compiled(content(text="Hello"), signer)).data
    assert sign(prepare.Compiled(content(raw=raw), signer)).data == raw


def test_each_recipients_mail_has_a_signature_of_its_own(signer: Signer, records: Sequence[TextRecord]) -> None:
    compiled = prepare.Compiled(content(text="Hello {{ name }}"), signer)
    mails = [sign(compiled, message(name=name)).data for name in ("Taro", "Hanako")]
    for mail in mails:
        assert_good(mail, records)
    assert mails[0].partition(b"\r\nDate:")[0] != mails[1].partition(b"\r\nDate:")[0]


def test_the_unsubscribe_fields_are_signed_as_rfc_8058_wants(signer: Signer, records: Sequence[TextRecord]) -> None:
    mail = sign(prepare.Compiled(content(**CONTENTS["campaign"]), signer)).data
    for name in (
        b"List-Unsubscribe",
        b"List-Unsubscribe-Post",
        b"List-Id",
        b"Feedback-ID",
        b"Precedence",
        b"Reply-To",
        b"Message-ID",
        b"Date",
    ):
        line = b"\r\n%b: " % name
        assert mail.count(line) == 1
        assert_broken(mail.replace(line, line + b"x"), *records)
    assert_broken(b"List-Unsubscribe: <https://evil.example/>\r\n" + mail, *records)


def test_a_field_whose_name_begins_with_a_dot_is_stuffed() -> None:
    assert not prepare.Compiled(content(headers={".odd": "1"})).envelope(message()).dotless


def test_without_a_key_mail_leaves_unsigned() -> None:
    compiled, to = prepare.Compiled(content(text="Hello")), message()
    assert sign(compiled, to) == compiled.envelope(to)


def test_a_mail_that_no_two_hops_read_alike_is_refused(signer: Signer) -> None:
    with pytest.raises(Refused, match="CR LF") as refused:
        sign(prepare.Compiled(content(raw=b"From: shop@example.com\r\n\r\nHello\n.\r\n"), signer))
    assert refused.value.fault == Fault.CONTENT


@pytest.mark.django_db
def test_contents_are_loaded_with_the_signers_of_their_domains(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    DKIMKey.make(Domain.objects.create(name="example.com")).sign_from_now_on()
    DKIMKey.make(Domain.objects.create(name="example.net"))
    froms = ["shop@example.com", "news@shop.example.com", "shop@example.net", "shop@example.org"]
    made = [Content.objects.create(subject=sender, text="Hello", from_email=sender) for sender in froms]
    prepare.load([content.pk for content in made])
    with django_assert_num_queries(3):
        loaded = prepare.load([content.pk for content in made])
    assert {content.from_email: signer and [key.domain for key in signer.keys] for content, signer in loaded} == {
        "shop@example.com": ["example.com"], "news@shop.example.com": ["example.com"], "shop@example.net": None, "shop@example.org": None,
    }  # fmt: skip
    with django_assert_num_queries(0):
        for content, signer in loaded:
            sign(prepare.Compiled(content, signer))
    assert prepare.load([]) == []
