"""What becomes of a mail's bytes on their way in, and what no trick with line ends makes of them."""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery import prepare
from mailhub.delivery.models import Content, Message
from tests.transactional.listener import MAIL, Client, Listener, envelope, hand_in, issue
from transactional.models import Credential, Project, Submission
from transactional.requests import Request
from transactional.smtpd import committer, mail

ARRIVAL = mail.Arrival(
    helo="web1.example",
    peer="192.0.2.1",
    name="mx.mailhub.example",
    encrypted=True,
    international=False,
    reference=UUID("0c9e9b0a-6a0e-4b52-9a0c-3a8b0d6f1c11"),
    at=datetime(2026, 11, 24, 9, 20, tzinfo=UTC),
    only_to="a@example.net",
)
TRACE = (
    b"Received: from web1.example ([192.0.2.1])\r\n"
    b"\tby mx.mailhub.example (MailHub) with ESMTPSA id 0c9e9b0a-6a0e-4b52-9a0c-3a8b0d6f1c11\r\n"
    b"\tfor <a@example.net>;\r\n"
    b"\tTue, 24 Nov 2026 09:20:00 +0000\r\n"
)
WHOLE = b"Date: Tue, 24 Nov 2026 18:20:00 +0900\r\nMessage-ID: <1@example.com>\r\n" + MAIL


@pytest.fixture
def client(mua: Client) -> Client:
    return mua


def fit(raw: bytes, **changes: object) -> bytes:
    return mail.fit(raw, replace(ARRIVAL, **changes)).raw


# ----------------------------------------------------------------------------------------------------------------------- trace


def test_a_mail_that_lacks_nothing_gets_its_trace_alone() -> None:
    assert fit(WHOLE) == TRACE + WHOLE


def test_the_trace_names_no_recipient_where_there_are_several() -> None:
    assert fit(WHOLE, only_to="") == TRACE.replace(b"\r\n\tfor <a@example.net>", b"") + WHOLE


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [({}, b"ESMTPSA"), ({"encrypted": False}, b"ESMTPA"), ({"international": True}, b"UTF8SMTPSA")],
)
def test_the_trace_tells_how_it_came(changes: dict[str, object], protocol: bytes) -> None:
    assert b" with " + protocol + b" id " in fit(WHOLE, **changes)


def test_an_ipv6_address_is_marked_as_one() -> None:
    assert fit(WHOLE, peer="2001:db8::1").startswith(b"Received: from web1.example ([IPv6:2001:db8::1])\r\n")


@pytest.mark.parametrize("helo", ["a\tb (evil) <x@y>;", "緑茶", "a" * 1000, ""])
def test_what_a_client_calls_itself_cannot_forge_the_trace(helo: str) -> None:
    first = fit(WHOLE, helo=helo).split(b"\r\n")[0]
    assert re.fullmatch(rb"Received: from [A-Za-z?.]{0,255} \(\[192\.0\.2\.1\]\)", first)


# --------------------------------------------------------------------------------------------------------------------- fix-ups


def test_date_and_message_id_are_added_where_they_are_missing() -> None:
    added = b"Date: Tue, 24 Nov 2026 09:20:00 +0000\r\nMessage-ID: <0c9e9b0a-6a0e-4b52-9a0c-3a8b0d6f1c11@example.com>\r\n"
    assert fit(MAIL) == TRACE + added + MAIL
    assert fit(b"date:\r\n x\r\nMESSAGE-ID: y\r\n" + MAIL) == TRACE + b"date:\r\n x\r\nMESSAGE-ID: y\r\n" + MAIL


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: secret@example.net\r\n",
        b"bcc:\r\n secret@example.net,\r\n\tsecret2@example.net\r\n",
        b"BCC : secret@example.net\r\n",
        b"Resent-Bcc: secret@example.net\r\n",
        b"Return-Path: <secret@example.net>\r\n",
    ],
)
def test_blind_copies_and_return_paths_stay_behind(field: bytes) -> None:
    assert fit(field + WHOLE) == fit(WHOLE.replace(b"To:", field + b"To:")) == TRACE + WHOLE
    assert fit(WHOLE.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)) == TRACE + WHOLE


def test_a_bcc_in_the_body_is_words() -> None:
    raw = WHOLE + b"Bcc: somebody\r\n\r\nBcc: else\r\n"
    assert fit(raw) == TRACE + raw


def test_a_mail_without_a_body_gets_the_line_below_its_header() -> None:
    head = WHOLE.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert fit(head) == TRACE + head + b"\r\n"


def test_a_hundred_servers_are_no_loop_and_one_more_is() -> None:
    assert fit(b"Received: by x\r\n" * 100 + WHOLE)
    with pytest.raises(mail.Unfit, match="circles") as caught:
        fit(b"Received: by x\r\n" * 101 + WHOLE)
    assert (caught.value.code, caught.value.enhanced) == (554, "5.4.6")


def test_words_in_utf8_that_were_not_announced_are_encoded() -> None:
    raw = WHOLE.replace(b"Order", "ご注文".encode())
    assert fit(raw) == TRACE + WHOLE.replace(b"Order", b"=?utf-8?b?44GU5rOo5paH?=")
    assert fit(raw, international=True).endswith(raw)


bodies = st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")), max_size=8)


@given(bodies)
def test_no_byte_of_a_body_is_touched(body: list[bytes]) -> None:
    raw = WHOLE + b"".join(line + b"\r\n" for line in body)
    assert fit(raw) == TRACE + raw


# --------------------------------------------------------------------------------------------------- bytes, over a real socket

ISO_2022_JP = (
    b"From: =?ISO-2022-JP?B?GyRCTlBDTkYyGyhC?= <shop@example.com>\r\nDate: Tue, 24 Nov 2026 18:20:00 +0900\r\nMessage-ID: <1@example.com>\r\n"
    b"Subject: =?ISO-2022-JP?B?GyRCQ21KOBsoQg==?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=ISO-2022-JP\r\n"
    b"Content-Transfer-Encoding: 7bit\r\n\r\n"
) + "ご注文ありがとうございます。\r\n".encode("iso-2022-jp")
EIGHT_BIT = (
    b"From: shop@example.com\r\nDate: Tue, 24 Nov 2026 18:20:00 +0900\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
) + "ご注文ありがとうございます。\r\n".encode()
DOTS = WHOLE + b".\r\n..\r\n.x\r\n\r\n. \r\n...\r\n"
LONG = WHOLE + b"x" * 998 + b"\r\n" + b"." * 998 + b"\r\n"
ODD = WHOLE.replace(b"Subject: Order", b"subject:Order \r\nX-Odd:\t a  b \r\n\tc") + b"\t \r\n\r\n\r\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("raw", [ISO_2022_JP, EIGHT_BIT, DOTS, LONG, ODD], ids=["ISO-2022-JP", "8-bit", "dots", "long", "odd"])
def test_bytes_that_went_in_come_out(client: Client, raw: bytes) -> None:
    assert hand_in(client, raw).startswith("250 ")
    message = Message.objects.select_related("content").get()
    data = prepare.Compiled(message.content).envelope(message).data
    trace, _break, rest = data.partition(b" +0000\r\n")
    assert trace.startswith(b"Received: ") and rest == raw


@pytest.mark.django_db(transaction=True)
def test_an_international_address_needs_smtputf8_and_is_kept(client: Client) -> None:
    raw = WHOLE.replace(b"To: a@", "To: 用户@".encode())
    assert hand_in(client, raw).startswith("550 5.6.7 ")
    assert hand_in(client, raw, "用户@例え.jp", parameters=" SMTPUTF8").startswith("250 ")
    message = Message.objects.select_related("content").get()
    assert message.address == "用户@xn--r8jz45g.jp"
    assert bytes(message.content.raw or b"").endswith(raw)


# ------------------------------------------------------------------------------------------------------------------- smuggling

SMUGGLED = b"MAIL FROM:<shop@example.com>\r\nRCPT TO:<evil@example.net>\r\nDATA\r\n" + MAIL + b"\r\n.\r\n"
ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\r\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n\xa0.\r\n",
    b"\r\n. \r\n",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\x85.\x85",
    b"\x0b.\x0b",
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ENDS, ids=ascii)
def test_nothing_but_crlf_dot_crlf_ends_a_mail(client: Client, end: bytes) -> None:
    """CVE-2023-51764, -51765, -51766, CVE-2024-27305, CVE-2024-27938: what is behind another end would be a second mail of anybody's.

    What a server further on could take for one is refused; the rest is words of the one mail."""
    envelope(client)
    client.send(WHOLE + b"words" + end + SMUGGLED)
    reply = client.hear()
    # Whatever was taken for an end by somebody, here there is one mail, up to the real one.
    content = Content.objects.first()
    if reply.startswith("250 "):
        assert content and bytes(content.raw or b"").endswith(SMUGGLED.removesuffix(b".\r\n"))
        assert b"\r" not in bytes(content.raw or b"").replace(b"\r\n", b"") and b"\0" not in bytes(content.raw or b"")
    else:
        assert reply[:9] in ("521 5.5.2", "554 5.6.0") and content is None
    if re.search(rb"\r(?!\n)|(?<!\r)\n", end):
        assert reply.startswith("521 5.5.2 ") and client.hear() == ""
    else:
        assert client.say("NOOP").startswith("250 2.0.0 "), "nothing of it was taken for a command"
    assert not Message.objects.filter(address="evil@example.net").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\r\r\n", b"NO\rOP\r\n", b"RSET\nNOOP\r\n"], ids=ascii)
def test_commands_end_in_crlf_and_nothing_else(client: Client, line: bytes) -> None:
    client.send(line + b"NOOP\r\n")
    assert client.hear().startswith("521 5.5.2 ")
    assert client.hear() == ""


@pytest.mark.django_db(transaction=True)
def test_the_end_may_come_in_any_pieces(client: Client) -> None:
    for cut in range(1, 5):
        envelope(client)
        whole = MAIL + b".\r\n"
        client.send(whole[:-cut])
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(30)
        client.send(whole[-cut:])
        assert client.hear().startswith("250 ")
    assert Submission.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_a_dot_at_once_is_an_empty_mail(client: Client) -> None:
    envelope(client)
    assert client.say(".").startswith("554 5.6.0 ")
    envelope(client)
    client.send(b".\r\nNOOP\r\n")
    assert client.hear().startswith("554 5.6.0 ") and client.hear().startswith("250 ")


# -------------------------------------------------------------------------------------------------------------------- together


@pytest.mark.django_db(transaction=True)
def test_what_waits_is_committed_together(client: Client, listener: Listener, credential: Credential) -> None:
    """Behind a commit that takes its time, all others become one."""
    groups: list[int] = []
    first = threading.Event()
    go_on = threading.Event()
    send = committer.send

    def slow(group: list[committer.Waiting]) -> list[committer.Outcome]:
        groups.append(len(group))
        first.set()
        assert go_on.wait(30)
        return send(group)

    others = []
    try:
        committer.send = slow  # type: ignore[assignment]
        envelope(client)
        client.send(MAIL + b".\r\n")
        assert first.wait(30)
        for _ in range(5):
            other = Client(listener.tls_port, tls=True)
            others.append(other)
            other.hear()
            other.say("EHLO a.example")
            other.log_in(credential.prefix, credential.secret)
            envelope(other)
            other.send(MAIL + b".\r\n")
        for _ in range(200):
            if len(listener.server.committer.waiting) == 5:
                break
            listener.thread.join(0.05)
        go_on.set()
        assert all(each.hear().startswith("250 ") for each in [client, *others])
    finally:
        go_on.set()
        committer.send = send
        for other in others:
            other.socket.close()
    assert groups == [1, 5]
    assert Submission.objects.count() == 6


# ----------------------------------------------------------------------------------------------------------------------- again


@pytest.mark.django_db(transaction=True)
def test_the_very_same_mail_again_is_answered_as_before_and_is_there_once(client: Client, project: Project, listener: Listener) -> None:
    """Its client did not hear the reply."""
    both = ("a@example.net", "b@example.net")
    first = hand_in(client, WHOLE, *both)
    assert first.startswith("250 2.0.0 queued as ") and hand_in(client, WHOLE, *reversed(both)) == first
    assert Submission.objects.count() == 1 and Message.objects.count() == 2
    # All else is another mail: by a byte, a recipient, a password, or since nothing tells it from one that was meant to come again.
    others = {hand_in(client, WHOLE + b"\r\n", *both), hand_in(client, WHOLE), *(hand_in(client, MAIL) for _ in range(2))}
    others |= {hand_in(client, WHOLE.split(b"\r\n", part)[part], "c@example.net") for part in (1, 1, 2)}
    credential, secret = issue(project)
    with Client(listener.tls_port, tls=True) as other:
        other.hear()
        other.say("EHLO web1.example")
        other.log_in(credential.prefix, secret)
        others.add(hand_in(other, WHOLE, *both))
    assert len(others - {first}) == 8 == Submission.objects.count() - 1


@pytest.mark.django_db
def test_the_very_same_mail_twice_at_once_is_there_once(credential: Credential) -> None:
    key = mail.same(WHOLE, ["a@example.net"], credential.pk, ARRIVAL.at)
    asked = Request(
        sender="shop@example.com", recipients=["a@example.net"], via=Submission.Via.SMTP, raw=WHOLE, idempotency_key=key, digest=key
    )
    loop = asyncio.new_event_loop()
    group = [committer.Waiting(asked, credential.pk, loop.create_future()) for _ in range(2)]
    first, second = committer.send(group)
    loop.close()
    assert first == second == Submission.objects.get()


def test_the_same_mail_on_another_day_is_another() -> None:
    day = timedelta(days=1)
    assert mail.same(WHOLE, ["a@example.net"], 1, ARRIVAL.at) != mail.same(WHOLE, ["a@example.net"], 1, ARRIVAL.at + day)
