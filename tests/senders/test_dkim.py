from __future__ import annotations

import hashlib
import re
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from django.core.exceptions import ValidationError
from django.db import IntegrityError, close_old_connections, connection, connections
from dkim.canonicalization import Relaxed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from mailhub.lib.states import WrongState
from mailhub.senders import dkim
from mailhub.senders.dkim import Signer
from mailhub.senders.models import DKIMKey, Domain, TextRecord
from tests.senders.verifiers import assert_broken, assert_good, by_dkimpy, mail_dkim, record_of

Algorithm, Status = DKIMKey.Algorithm, DKIMKey.Status
HEAD = b"From: Shop <shop@example.com>\r\nTo: taro@example.net\r\nSubject: News\r\n"
RSA, ED25519 = "rsa-sha256", "ed25519-sha256"


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def record(private: rsa.RSAPrivateKey) -> TextRecord:
    return record_of(private)


@pytest.fixture(scope="module")
def signer(private: rsa.RSAPrivateKey) -> Signer:
    return Signer([dkim.Key("example.com", "s1", RSA, private)])


def received(mail: bytes) -> bytes:
    """What stands at the other end of an SMTP session."""
    return mail if mail.endswith(b"\r\n") else mail + b"\r\n"


def signed(signer: Signer, mail: bytes) -> bytes:
    return received(signer.fields(mail) + mail)


def tags(mail: bytes) -> dict[str, str]:
    """Of the topmost signature, without white space."""
    field = re.split(rb"\r\n(?![ \t])", mail, maxsplit=1)[0].decode()
    assert field.startswith("DKIM-Signature: ")
    pairs = (tag.partition("=") for tag in re.sub(r"\s", "", field.removeprefix("DKIM-Signature:")).split(";"))
    return {name: value for name, _equals, value in pairs}


def composed(charset: str = "utf-8", subject: str = "News", text: str = "Hello\n", html: str = "", file: bytes = b"") -> bytes:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "緑茶堂 <shop@example.com>", "taro@example.net", subject
    mail["Date"], mail["Message-ID"] = datetime(2026, 11, 24, tzinfo=UTC), "<1@example.com>"
    mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"] = "<https://hub.example/u/1>", "List-Unsubscribe=One-Click"
    mail.set_content(text, charset=charset)
    if html:
        mail.add_alternative(html, subtype="html")
    if file:
        mail.add_attachment(file, maintype="application", subtype="pdf", filename="注文.pdf")
    return mail.as_bytes()


MAILS = {
    "plain": HEAD + b"\r\nHello\r\n",
    "multipart": composed(html="<p>Hello</p>\n  <table>\n    <tr>\n"),
    "japanese": composed(subject="お知らせ" * 20, text="日本語の本文です。\n" * 30, html="<p>日本語</p>"),
    "iso-2022-jp": composed("iso-2022-jp", text="日本語の本文です。\n"),
    "attachment": composed(text="Your order\n", file=bytes(range(256)) * 400),
    "long lines": HEAD + b"X-Long: " + b"x" * 990 + b"\r\nReferences: <" + b"y" * 970 + b"@e>\r\n\r\n" + b"word " * 199 + b"\r\n",
    "very long lines": HEAD + b"Reply-To: " + b"a b," * 20_000 + b"\r\n\r\n" + b"word \t" * 200_000 + b"\r\n",
    "long paragraph": composed(text="A paragraph of one line. " * 400 + "\n"),
    "folded fields": HEAD + b"Reply-To:\r\n\t<a@example.com>\r\nCc: a@example.com,\r\n  b@example.com \t,\r\n\t\r\n c@example.com  \r\n\r\nHi\r\n",
    "odd names": b"FROM: a@example.com\r\nsUBJECT:no space\r\nTo:\r\nDate:   \r\nX-Empty:\r\n\r\nHi\r\n",
    "fields twice": b"Subject: one\r\n" + HEAD + b"To: hanako@example.net\r\nSubject: three\r\nReceived: a\r\nReceived: b\r\n\r\nHi\r\n",
    "no body": HEAD + b"\r\n",
    "no empty line": HEAD,
    "no end": HEAD + b"\r\nHello",
    "no end, white space": HEAD + b"\r\nHello \t ",
    "white space alone": HEAD + b"\r\n \t ",
    "empty lines alone": HEAD + b"\r\n\r\n\r\n\r\n",
    "empty lines at both ends": HEAD + b"\r\n\r\n\r\nHello\r\n \r\n\t\r\n\r\n",
    "white space in the body": HEAD + b"\r\n  Hello \t  world  \r\n\t \r\n.\r\n..\r\n Bye\t\r\n\r\n",
    "international": "From: shop@example.com\r\nTo: 用户@xn--fsqu00a.example\r\nSubject: 件\u3000名\r\n\r\n本\u3000文\u00a0\r\n".encode(),
    "any octet": HEAD + b"\r\n" + bytes(octet for octet in range(256) if octet not in b"\r\n") + b"\x0b\x0c \x85\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", MAILS)
def test_two_independent_verifiers_accept_the_signature(signer: Signer, record: TextRecord, name: str) -> None:
    mail = signed(signer, MAILS[name])
    assert mail.endswith(received(MAILS[name]))
    assert_good(mail, [record])


def test_anothers_signature_stays(signer: Signer, record: TextRecord) -> None:
    theirs = b"DKIM-Signature: v=1; a=rsa-sha256; d=else.example; s=s1; h=from; bh=AAAA; b=AAAA\r\n"
    mail = signed(signer, theirs + MAILS["plain"])
    assert theirs in mail
    assert by_dkimpy(mail, record, TextRecord("s1._domainkey.else.example", record.value)) == [True, False]
    assert mail_dkim(mail, record)[0] == "example.com s1 rsa-sha256 pass"


@pytest.mark.parametrize(
    "body", [b"Hello\r", b"\nHello\r\n", b"a\n.\r\n", b"a\r.\r\n", b"a\r\n.\n", b"\r\r\n", b"\n\r", b"a\r\n\r", b"\n\r\n\r"]
)
def test_a_line_break_of_half_a_pair_is_refused(signer: Signer, body: bytes) -> None:
    with pytest.raises(ValidationError, match="CR LF"):
        signer.fields(HEAD + b"\r\n" + body)
    with pytest.raises(ValidationError, match="CR LF"):
        signer.fields(HEAD + b"Cc: " + body + b"\r\n\r\nHello\r\n")


def test_a_mail_that_begins_in_the_middle_of_a_field_goes_unsigned(signer: Signer) -> None:
    """Our field would swallow the line, and with it break."""
    assert signer.fields(b" of a field\r\n" + HEAD + b"\r\nHi\r\n") == b""
    assert signer.fields(b"\t" + HEAD + b"\r\nHi\r\n") == b""


@pytest.mark.parametrize("mail", [b"", b"\r\n", b"\r\nTo: b\r\n\r\nFrom: a\r\n", b"no field\r\n more\r\nTo: a\r\n\r\nFrom: b\r\n"])
def test_what_is_hardly_a_mail_is_signed_without_the_fields_of_its_body(signer: Signer, mail: bytes) -> None:
    listed = tags(signer.fields(mail))["h"].split(":")
    assert listed.count("from") == 1
    assert listed.count("to") == 1 + (b"To: a" in mail)


# --------------------------------------------------------------------------------------------------------------- the field


def test_the_field_says_what_standards_want(signer: Signer) -> None:
    with time_machine.travel("2026-11-25T12:00:00Z", tick=False):
        found = tags(signer.fields(MAILS["multipart"]))
    listed = found.pop("h").split(":")
    body = MAILS["plain"].partition(b"\r\n\r\n")[2]
    assert len(b64decode(found.pop("b"))) == 256
    found.pop("bh")
    assert found == {"v": "1", "a": RSA, "c": "relaxed/relaxed", "d": "example.com", "s": "s1", "t": "1795608000"}
    assert tags(signer.fields(MAILS["plain"]))["bh"] == b64encode(hashlib.sha256(body).digest()).decode()
    # RFC 8058 section 4; RFC 6376 sections 5.4 and 8.15.
    for name in (
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "content-type",
        "list-unsubscribe",
        "list-unsubscribe-post",
    ):
        assert listed.count(name) == 2, name
    for name in ("cc", "reply-to"):
        assert listed.count(name) == 1, name
    assert not {"sender", "received", "dkim-signature", "list-id"} & set(listed)


def test_fields_that_relays_add_where_they_are_missing_stay_free(signer: Signer, record: TextRecord) -> None:
    mail = signed(signer, MAILS["plain"])
    added = b"Date: Tue, 24 Nov 2026 09:30:15 +0000\r\nMessage-ID: <1@relay.example>\r\nReceived: here\r\nList-Id: <l.example>\r\n"
    assert_good(added + mail, [record])


def test_every_line_is_short(signer: Signer, private: rsa.RSAPrivateKey, record: TextRecord) -> None:
    everything = b"".join(b"%b: x\r\n" % name for name in sorted(dkim.SIGNED))
    field = signer.fields(everything + b"\r\nHi\r\n")
    assert all(len(line) <= 78 and re.match(rb" ?[^ ]", line) for line in field.removesuffix(b"\r\n").split(b"\r\n"))
    far = ".".join(["x" * 60] * 4)
    longest = Signer([dkim.Key(far, "s" * 63, RSA, private)])
    mail = signed(longest, everything + b"\r\nHi\r\n")
    assert max(map(len, mail.split(b"\r\n"))) <= 998
    assert_good(mail, [TextRecord(f"{'s' * 63}._domainkey.{far}", record.value)])


def test_nothing_is_signed_twice_by_one_key(signer: Signer, private: rsa.RSAPrivateKey, record: TextRecord) -> None:
    once = signed(signer, MAILS["multipart"])
    assert signer.fields(once) == b""
    assert signer.fields(b"X-Later: 1\r\n" + once) == b""
    assert signer.fields(once.replace(b" d=example.com; s=s1;", b"\r\n\td = EXAMPLE.com ;\r\n s\t=S1;", 1)) == b""
    # Another of the domain's keys does not count, nor one of another domain.
    other = Signer([dkim.Key("example.com", "s2", RSA, private)])
    twice = signed(other, once)
    assert_good(twice, [record, TextRecord("s2._domainkey.example.com", record.value)])


def test_a_second_signature_of_ed25519_stands_below_that_of_rsa(signer: Signer, record: TextRecord) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    both = Signer([*signer.keys, dkim.Key("example.com", "e1", ED25519, private)])
    second = record_of(private, selector="e1")
    for mail in MAILS.values():
        assert by_dkimpy(signed(both, mail), record, second) == [True, True]
    assert_good(signed(both, MAILS["multipart"]), [record, second])
    assert by_dkimpy(signed(both, MAILS["plain"]).replace(b"Hello", b"Hullo"), record, second) == [False, False]
    assert by_dkimpy(b"Subject: More\r\n" + signed(both, MAILS["plain"]), record, second) == [False, False]
    # Only the missing one is added.
    assert tags(both.fields(signed(signer, MAILS["plain"])))["a"] == ED25519


def test_ed25519_signs_what_rfc_8463_shows() -> None:
    """Appendix A."""
    mail = (
        b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
        b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
    )
    field = (
        b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
        b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
        b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
    )
    head, _blank, body = mail.partition(b"\r\n\r\n")
    assert b64encode(hashlib.sha256(dkim.relaxed_body(body)).digest()) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    canonical = b"\r\n".join(b"%b:%b" % pair for pair in [*dkim.relaxed_fields(head), *dkim.relaxed_fields(field)])
    private = ed25519.Ed25519PrivateKey.from_private_bytes(b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    assert b64encode(dkim.Key("football.example.com", "brisbane", ED25519, private).sign(canonical)) == (
        b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )


def test_threads_share_a_signer(signer: Signer, record: TextRecord) -> None:
    with ThreadPoolExecutor(4) as threads:
        mails = list(threads.map(lambda number: signed(signer, b"X-%d: 1\r\n" % number + MAILS["japanese"]), range(200)))
    assert all(by_dkimpy(mail, record) == [True] for mail in mails[::20])
    assert len({tags(mail)["b"] for mail in mails}) <= len({tags(mail)["t"] for mail in mails})


# --------------------------------------------------------------------------------------------------------------- tampering


@pytest.mark.parametrize("name", ["plain", "multipart", "japanese", "attachment", "white space in the body"])
def test_a_change_to_the_body_breaks_the_signature(signer: Signer, record: TextRecord, name: str) -> None:
    mail = signed(signer, MAILS[name])
    head, _blank, body = mail.partition(b"\r\n\r\n")
    for changed in (body + b"More\r\n", b"More\r\n" + body, body.replace(body.split()[-1], b"x"), b"\r\n" + body):
        assert changed != body
        assert_broken(head + b"\r\n\r\n" + changed, record)


def test_a_change_to_any_signed_field_breaks_the_signature(signer: Signer, record: TextRecord) -> None:
    mail = signed(
        signer, b"".join(b"%b: some words\r\n" % name.title() for name in sorted(dkim.SIGNED)) + b"X-Free: some words\r\n\r\nHi\r\n"
    )
    assert_good(mail, [record])
    assert_good(mail.replace(b"X-Free: some words", b"X-Free: other words"), [record])
    for name in dkim.SIGNED:
        line = b"\r\n%b: some words\r\n" % name.title()
        assert mail.count(line) == 1
        assert_broken(mail.replace(line, b"\r\n%b: other words\r\n" % name.title()), record)
        assert_broken(mail.replace(line, b"\r\n"), record)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" t=1", b" t=0"), (b" d=example.com;", b" d=example.org;"), (b" s=s1;", b" s=s2;"), (b":from:from:", b":from:date:"),
        (b" c=relaxed/relaxed;", b" c=relaxed/simple;"), (b" v=1;", b" v=1; x=1999999999;"),
    ],
)  # fmt: skip
def test_a_change_to_the_signature_breaks_it(signer: Signer, record: TextRecord, old: bytes, new: bytes) -> None:
    mail = signed(signer, MAILS["white space in the body"])
    assert mail.count(old) == 1
    others = [TextRecord(name, record.value) for name in ("s1._domainkey.example.org", "s2._domainkey.example.com")]
    assert_broken(mail.replace(old, new), record, *others)


@pytest.mark.parametrize("where", ["above", "below"])
@pytest.mark.parametrize("name", [*dkim.SEALED, *dkim.SEALED_WHERE_GIVEN])
def test_a_second_field_breaks_the_signature(signer: Signer, record: TextRecord, name: str, where: str) -> None:
    mail = signed(signer, b"".join(b"%b: some words\r\n" % name for name in sorted(dkim.SIGNED)) + b"\r\nHi\r\n")
    head, _blank, body = mail.partition(b"\r\n\r\n")
    added = f"{name.title()}: evil@example.org".encode()
    tampered = added + b"\r\n" + mail if where == "above" else head + b"\r\n" + added + b"\r\n\r\n" + body
    assert by_dkimpy(tampered, record) == [False]
    if name in ("from", "list-unsubscribe"):
        assert_broken(tampered, record)


@pytest.mark.parametrize("name", dkim.SEALED)
def test_a_field_that_the_mail_lacked_cannot_be_added(signer: Signer, record: TextRecord, name: str) -> None:
    mail = signed(signer, b"Date: today\r\n\r\nHi\r\n")
    assert_broken(f"{name.title()}: evil@example.org\r\n".encode() + mail, record)


# ------------------------------------------------------------------------------------------------- whatever anybody thinks of

WHITE = st.sampled_from([" ", "\t", "  ", " \t", "\r\n ", "\r\n\t", " \r\n  ", "\r\n \r\n\t"])
# dkimpy takes other white space at the ends of a value for white space as RFC 5322 means it.
WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)
VALUE = st.lists(st.one_of(WHITE, WORD, st.sampled_from(":;=")), max_size=12).map("".join)
NAME = st.one_of(
    st.sampled_from(sorted(name.decode() for name in dkim.SIGNED)).flatmap(
        lambda name: st.sampled_from([name, name.upper(), name.title()])
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12),
)
BODY = st.lists(
    st.one_of(st.sampled_from([" ", "\t", "   ", "\r\n", "\r\n\r\n", ".", "a", "\x0b", "\x0c", "\xa0"]), WORD), max_size=30
).map("".join)


@settings(max_examples=300)
@given(fields=st.lists(st.tuples(NAME, VALUE), max_size=12), body=BODY, blank=st.sampled_from(["\r\n", ""]))
@example(fields=[("To", "\r\n a"), ("to", " ")], body="\r\n \r\n", blank="\r\n")
@example(fields=[], body="", blank="")
def test_however_a_mail_is_folded_the_signature_is_good(
    signer: Signer, record: TextRecord, fields: list[tuple[str, str]], body: str, blank: str
) -> None:
    head = "".join(f"{name}:{value}\r\n" for name, value in [("From", "a@example.com"), *fields])
    mail = signed(signer, (head + (blank + body if blank else "")).encode())
    assert by_dkimpy(mail, record)[0]


@given(body=BODY)
def test_the_canonical_body_is_the_one_that_others_find(body: str) -> None:
    octets = body.encode()
    assert dkim.relaxed_body(octets) == Relaxed.canonicalize_body(received(octets) if octets else b"\r\n")


@given(
    mail=st.binary(max_size=200),
    lines=st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"From", b"DKIM-Signature", b"a=b;"])),
)
def test_no_octets_at_all_are_too_odd(signer: Signer, mail: bytes, lines: list[bytes]) -> None:
    octets = mail + b"".join(lines)
    try:
        field = signer.fields(octets)
    except ValidationError:
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
    else:
        assert field.startswith(b"DKIM-Signature: v=1;") or octets[:1] in (b" ", b"\t")


# ---------------------------------------------------------------------------------------------------------------- the keys


@pytest.fixture
def domain(db: None) -> Domain:
    return Domain.objects.create(name="example.com")


def in_status(domain: Domain, status: str) -> DKIMKey:
    key = DKIMKey.make(domain, Algorithm.ED25519)
    if status != Status.NEW:
        key.sign_from_now_on()
    if status == Status.RETIRED:
        key.retire()
    return key


def test_a_new_key_signs_nothing_and_lies_encrypted(domain: Domain) -> None:
    key = DKIMKey.make(domain)
    assert (key.algorithm, key.status, key.private().key_size) == (RSA, "new", 2048)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM senders_dkimkey")
        stored = str(cursor.fetchall())
    assert key.private_key.startswith("-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE KEY" not in stored and key.private_key.split("\n")[5] not in stored
    again = DKIMKey.objects.get()
    assert again.private().private_numbers() == key.private().private_numbers()
    assert dkim.signers(["example.com"]) == {}


@pytest.mark.parametrize(("algorithm", "strings"), [(RSA, [255, 155]), (ED25519, [66])])
def test_the_record_is_what_verifiers_look_up(domain: Domain, algorithm: str, strings: list[int]) -> None:
    key = DKIMKey.make(domain, algorithm, selector="2026-11.s1")
    key.sign_from_now_on()
    record = key.record()
    assert record.name == str(key) == "2026-11.s1._domainkey.example.com"
    assert record.value.startswith(f"v=DKIM1; k={algorithm.partition('-')[0]}; p=")
    assert [len(string) for string in record.strings] == strings and "".join(record.strings) == record.value
    mail = signed(dkim.signers(["example.com"])["example.com"], MAILS["multipart"])
    assert_good(mail, [record])


def test_selectors_of_our_own_differ_and_say_when(domain: Domain) -> None:
    keys = [DKIMKey.make(domain, Algorithm.ED25519) for _ in range(5)]
    assert len({key.selector for key in keys}) == 5
    assert all(re.fullmatch(r"mh20\d{6}-[0-9a-f]{6}", key.selector) for key in keys)


@pytest.mark.parametrize("selector", ["a", "s1", "2026", "a-b", "mail.2026-11", "a" * 63, "a.b.c"])
def test_a_selector_may_be_any_name_of_the_dns(domain: Domain, selector: str) -> None:
    assert DKIMKey.make(domain, Algorithm.ED25519, selector).selector == selector


@pytest.mark.parametrize(
    "selector", ["S1", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "a;b", "a\n", "日本", "a" * 64, ".".join(["a" * 60] * 4), "a=b"]
)
def test_a_selector_that_the_dns_cannot_hold_is_refused(domain: Domain, selector: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DKIMKey.make(domain, Algorithm.ED25519, selector)
    assert set(refused.value.message_dict) == {"selector"}
    assert not DKIMKey.objects.exists()


def test_a_name_longer_than_the_dns_allows_is_refused() -> None:
    far = Domain(pk=1, name=".".join(["x" * 60] * 3 + ["y" * 20, "example"]))
    with pytest.raises(ValidationError, match="too long"):
        DKIMKey(domain=far, selector="a" * 60).clean()
    DKIMKey(domain=far, selector="a" * 20).clean()


def test_a_selector_belongs_to_one_key_of_a_domain(domain: Domain) -> None:
    DKIMKey.make(domain, Algorithm.ED25519, "s1")
    with pytest.raises(ValidationError):
        DKIMKey.make(domain, Algorithm.RSA, "s1")
    DKIMKey.make(Domain.objects.create(name="example.org"), Algorithm.ED25519, "s1")


@pytest.mark.parametrize("target", Status)
@pytest.mark.parametrize("source", Status)
def test_every_move_is_legal_or_refused(domain: Domain, source: str, target: str) -> None:
    key = in_status(domain, source)
    verbs: dict[str, Callable[[], None]] = {Status.SIGNING: key.sign_from_now_on, Status.RETIRED: key.retire}
    if target not in verbs:
        assert all(target not in targets for targets in DKIMKey.MOVES.values())
        return
    if target in DKIMKey.MOVES[source]:
        verbs[target]()
    else:
        with pytest.raises(WrongState):
            verbs[target]()
        target = source
    assert key.status == DKIMKey.objects.get().status == target
    assert (key.signing_since is not None) == (Status.SIGNING in (source, target) or source == Status.RETIRED)
    assert (key.retired_at is not None) == (target == Status.RETIRED)


def test_a_key_that_begins_to_sign_retires_the_one_before(domain: Domain) -> None:
    old, new, second = DKIMKey.make(domain), DKIMKey.make(domain), DKIMKey.make(domain, Algorithm.ED25519)
    elsewhere = DKIMKey.make(Domain.objects.create(name="example.org"))
    for key in (old, second, elsewhere, new):
        key.sign_from_now_on()
    for key in (old, second, elsewhere):
        key.refresh_from_db()
    assert [key.status for key in (old, new, second, elsewhere)] == ["retired", "signing", "signing", "signing"]
    assert old.retired_at == new.signing_since
    # One that may not sign any more takes nobody's place.
    with pytest.raises(WrongState):
        old.sign_from_now_on()
    new.refresh_from_db()
    assert new.status == "signing"


def test_the_database_lets_one_key_of_an_algorithm_sign(domain: Domain) -> None:
    in_status(domain, Status.SIGNING)
    other = in_status(domain, Status.NEW)
    with pytest.raises(IntegrityError):
        DKIMKey.objects.filter(pk=other.pk).update(status=Status.SIGNING)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_of_two_keys_that_begin_at_once_the_later_one_signs() -> None:
    domain = Domain.objects.create(name="example.com")
    in_status(domain, Status.SIGNING)
    keys = [in_status(domain, Status.NEW) for _ in range(4)]
    together = threading.Barrier(len(keys))

    def begin(key: DKIMKey) -> None:
        try:
            together.wait(10)
            key.sign_from_now_on()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(keys)) as threads:
        list(threads.map(begin, keys))
    assert sorted(DKIMKey.objects.values_list("status", flat=True)) == ["retired"] * 4 + ["signing"]
    close_old_connections()


# ------------------------------------------------------------------------------------------------------------- who signs


def test_a_domain_signs_with_its_own_keys_or_those_of_the_nearest_above(domain: Domain) -> None:
    shop = Domain.objects.create(name="shop.example.com")
    for owner, algorithm in [(domain, RSA), (shop, ED25519), (shop, RSA)]:
        DKIMKey.make(owner, algorithm).sign_from_now_on()
    asked = [
        "example.com",
        "news.example.com",
        "shop.example.com",
        "a.b.shop.example.com",
        "notexample.com",
        "com",
        "example.net",
        "localhost",
    ]
    found = dkim.signers(asked)
    assert {name: [(key.domain, key.algorithm) for key in signer.keys] for name, signer in found.items()} == {
        "example.com": [("example.com", RSA)],
        "news.example.com": [("example.com", RSA)],
        "shop.example.com": [("shop.example.com", RSA), ("shop.example.com", ED25519)],
        "a.b.shop.example.com": [("shop.example.com", RSA), ("shop.example.com", ED25519)],
    }


def test_a_top_level_signs_for_nobody_but_itself(db: None) -> None:
    DKIMKey.make(Domain.objects.create(name="localhost"), Algorithm.ED25519).sign_from_now_on()
    assert set(dkim.signers(["localhost", "mail.localhost", "example.com"])) == {"localhost"}


def test_a_private_key_is_read_once(domain: Domain, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    DKIMKey.make(domain).sign_from_now_on()
    DKIMKey.make(domain, Algorithm.ED25519).sign_from_now_on()
    with django_assert_num_queries(3):
        first = dkim.signers(["example.com", "example.org"])
    with django_assert_num_queries(1):
        second = dkim.signers(["a.example.com", "example.com", "b.example.com"])
    assert [key.private for key in first["example.com"].keys] == [key.private for key in second["b.example.com"].keys]


def test_a_new_key_is_used_at_once_and_a_retired_one_no_more(domain: Domain) -> None:
    old, new = DKIMKey.make(domain, Algorithm.ED25519), DKIMKey.make(domain, Algorithm.ED25519)
    old.sign_from_now_on()
    assert [key.selector for key in dkim.signers(["example.com"])["example.com"].keys] == [old.selector]
    new.sign_from_now_on()
    assert [key.selector for key in dkim.signers(["example.com"])["example.com"].keys] == [new.selector]
    new.retire()
    assert dkim.signers(["example.com"]) == {}


def test_a_key_with_the_number_of_a_deleted_one_is_not_taken_for_it(domain: Domain) -> None:
    old = DKIMKey.make(domain, Algorithm.ED25519, "s1")
    old.sign_from_now_on()
    assert dkim.signers(["example.com"])
    number = old.pk
    old.delete()
    new = DKIMKey.make(domain, Algorithm.ED25519, "s1")
    DKIMKey.objects.filter(pk=new.pk).update(id=number)
    new = DKIMKey.objects.get(pk=number)
    new.sign_from_now_on()
    assert_good(signed(dkim.signers(["example.com"])["example.com"], MAILS["plain"]), [new.record()])
