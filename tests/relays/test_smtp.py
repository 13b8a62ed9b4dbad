"""The SMTP provider against a real server on a socket that misbehaves as told (tests/smtp_server.py)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mailhub.relays import client, replies
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.client import stuffed
from mailhub.relays.models import Relay
from mailhub.relays.providers import smtp
from tests.certificates import Authority
from tests.relays.contract import CLOCK, Contract, envelope, hand_over, run
from tests.smtp_server import (
    EXTENSIONS,
    HOST,
    Action,
    Connection,
    Deaf,
    Drip,
    Drop,
    Endless,
    Garbage,
    Hangup,
    Reset,
    Silence,
    SMTPServer,
)
from tests.smtp_server import (
    Reply as Say,
)

WITHOUT_PIPELINING = tuple(name for name in EXTENSIONS if name != "PIPELINING")
# Longer than whatever answers may take on a busy machine. What does not answer puts the clock forward (tests/patience.py).
PATIENCE = 100


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


@pytest.fixture(params=[EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelining", "step by step"])
def either_server(request: pytest.FixtureRequest) -> Iterator[SMTPServer]:
    """One that offers PIPELINING, and one that does not: what comes out is the same."""
    with SMTPServer(extensions=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusted(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority is one that this machine trusts."""
    file = tmp_path / "authority.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(authority.issue("localhost").shown[1]))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return authority


def relay_to(server: SMTPServer, password: str = "", **options: object) -> Relay:
    server.falls_silent = lambda share: CLOCK.forward(PATIENCE, share)
    options = {"host": HOST, "port": server.port, "security": "none", "patience": PATIENCE, "final_timeout": PATIENCE, **options}
    return Relay(name="relay", kind="smtp", options=options, secrets={"password": password} if password else {})


def send(server: SMTPServer, *envelopes: Envelope, password: str = "", **options: object) -> list[Reply | SendError]:
    return hand_over(relay_to(server, password, **options).provider(), *envelopes or [envelope()])


def kinds(outcomes: Sequence[object]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


class TestSMTP(Contract):
    kind = "smtp"
    answers = {
        "host": "smtp.example.com",
        "port": 587,
        "security": "starttls",
        "verify_certificate": True,
        "username": "shop",
        "password": "secret",
        "messages_per_connection": 100,
        "connection_age": 300,
        "patience": 30,
        "final_timeout": 60,
    }
    decisions = frozenset({"refuse", "defer", "down", "unknown"})

    @pytest.fixture
    def relay(self, either_server: SMTPServer) -> Relay:
        self.server = either_server
        return relay_to(either_server)

    def arrange(self, decision: str, relay: Relay) -> None:
        said: dict[str, tuple[str, Action]] = {
            "refuse": ("rcpt", Say("550 5.1.1 No such user")),
            "defer": ("rcpt", Say("451 4.7.1 Greylisted")),
            "down": ("dot", Say("550 5.4.5 Daily user sending limit exceeded")),
            "unknown": ("dot", Drop()),
        }
        self.server.answers(*said[decision], times=1)

    def taken(self, relay: Relay) -> Sequence[tuple[str, str, bytes]]:
        return [(mail.mail_from, *mail.rcpt_to, mail.data) for mail in self.server.mails]


# ------------------------------------------------------------------------------------------------------- faults, phase by phase

FAULTS: dict[str, Action] = {
    "4xx": Say("451 4.3.0 Not now"),
    "5xx": Say("554 5.0.0 No"),
    "421": Say("421 4.3.2 Going down", close=True),
    "drop": Drop(),
    "reset": Reset(),
    "timeout": Silence(),
    "drip": Drip(),
    "endless": Endless(),
    "endless line": Endless("250 and so on "),
    "garbage": Garbage(),
    "no code": Garbage(b"abc what?\r\n"),
    "strange code": Garbage(b"999 2.0.0 what?\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", ["connect", "ehlo"])
def test_trouble_before_the_first_mail_is_the_relays(server: SMTPServer, phase: str, fault: str) -> None:
    server.answers(phase, FAULTS[fault])
    [outcome] = send(server)
    assert type(outcome) is RelayDown
    assert outcome.rest > timedelta(0)
    assert server.mails == []
    server.behave()
    assert kinds(send(server)) == [Reply]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", ["starttls", "auth"])
def test_trouble_with_tls_or_login_is_the_relays(trusted: Authority, phase: str, fault: str) -> None:
    with SMTPServer(tls=trusted.issue("localhost").context(), users={"shop": "secret"}) as server:
        options = {"host": "localhost", "security": "starttls", "username": "shop", "password": "secret"}
        server.answers(phase, FAULTS[fault])
        [outcome] = send(server, **options)
        assert type(outcome) is RelayDown
        assert server.mails == []
        server.behave()
        assert kinds(send(server, **options)) == [Reply]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", ["mail", "rcpt", "data"])
def test_trouble_before_the_dot_never_counts_as_accepted_and_others_go_on(either_server: SMTPServer, phase: str, fault: str) -> None:
    server = either_server
    server.answers(phase, FAULTS[fault], times=1)
    first, second = send(server, envelope(1), envelope(2))
    assert type(first) is (Refused if fault == "5xx" else Deferred)
    assert type(second) is Reply
    assert [mail.message_id for mail in server.mails] == ["<2@example.com>"]


@pytest.mark.parametrize("accept", [True, False], ids=["taken", "not taken"])
@pytest.mark.parametrize("fault", FAULTS)
def test_trouble_after_the_dot_without_a_clear_reply_is_an_unknown_outcome(either_server: SMTPServer, fault: str, accept: bool) -> None:
    server = either_server
    expected = {"4xx": Deferred, "5xx": Refused, "421": Deferred}.get(fault, OutcomeUnknown)
    server.answers("dot", FAULTS[fault], times=1, accept=accept)
    first, second = send(server, envelope(1), envelope(2))
    assert type(first) is expected
    assert type(second) is Reply
    assert server.by_message_id()["<1@example.com>"] == accept
    assert server.by_message_id()["<2@example.com>"] == 1


@pytest.mark.parametrize("fault", ["drop", "reset", "timeout"])
def test_a_mail_that_had_not_left_whole_was_certainly_not_accepted(
    either_server: SMTPServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """More than sockets hold on the way: its end, and the dot, are still here when the connection ends."""
    server = either_server
    big = envelope(1, data=b"Message-ID: <1@example.com>\r\n\r\n" + b"x" * 76 + b"\r\n" + b"line of a big mail\r\n" * 800_000)
    server.answers("body", Deaf() if fault == "timeout" else FAULTS[fault], times=1)
    monkeypatch.setattr(client, "SLOWEST", 10**9)
    [outcome] = send(server, big)
    assert type(outcome) is Deferred
    assert server.mails == []


def test_a_server_that_answers_before_it_has_the_whole_mail_is_believed_when_it_refuses(server: SMTPServer) -> None:
    server.answers("body", Say("552 5.3.4 Too big, stop", close=True), times=1)
    big = envelope(1, data=b"\r\n" + b"line of a big mail\r\n" * 800_000)
    [outcome] = send(server, big)
    # The refusal may be overtaken by the reset of a connection that is closed with unread data: either way it was not accepted.
    assert type(outcome) in (Refused, Deferred)
    assert server.mails == []


@pytest.mark.parametrize("fault", ["drop", "reset"])
def test_a_session_that_broke_closes_without_a_word(server: SMTPServer, fault: str) -> None:
    async def break_and_close() -> None:
        session = await relay_to(server).provider().open()
        server.answers("rcpt", FAULTS[fault], times=1)
        with pytest.raises(Deferred):
            await session.send(envelope())
        await session.close()
        await session.close()

    run(break_and_close)


@pytest.mark.parametrize("fault", FAULTS)
def test_closing_never_raises_whatever_the_server_says_to_quit(server: SMTPServer, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(client, "FAREWELL", PATIENCE)
    server.answers("quit", FAULTS[fault])
    assert kinds(send(server)) == [Reply]


def test_a_session_says_goodbye(server: SMTPServer) -> None:
    send(server)
    assert server.commands[-1] == "QUIT"


def test_a_server_that_nobody_answers_at_is_down() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and does not listen
        [outcome] = hand_over(relay_to(SMTPServer(port=taken.getsockname()[1])).provider(), envelope())
    assert type(outcome) is RelayDown
    assert "refused" in outcome.reply.text


def test_a_name_that_does_not_resolve_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The system's resolver asks servers outside of this machine, which may take their time.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    [outcome] = send(SMTPServer(port=25), host="no-such-host.invalid")
    assert type(outcome) is RelayDown
    assert "no-such-host.invalid" in outcome.reply.text


def test_a_private_address_is_not_connected_to_unless_it_was_allowed(server: SMTPServer, settings: object) -> None:
    settings.MAILHUB_ALLOW_PRIVATE_ADDRESSES = []
    [outcome] = send(server)
    assert type(outcome) is RelayDown
    assert outcome.rest == replies.FOR_STAFF
    assert "MAILHUB_ALLOW_PRIVATE_ADDRESSES" in outcome.reply.text
    assert server.connections == []


def test_one_mail_that_makes_the_server_hang_up_does_not_stop_the_others_but_several_in_a_row_do(either_server: SMTPServer) -> None:
    server = either_server
    server.answers("rcpt", Drop(), only="r1@")
    outcomes = send(server, *[envelope(1), envelope(2)] * 4)
    assert kinds(outcomes) == [Deferred, Reply] * 4
    server.answers("rcpt", Drop())
    assert kinds(send(server, *map(envelope, range(4)))) == [Deferred, Deferred, RelayDown, RelayDown]


# ---------------------------------------------------------------------------------------------------------- kept connections


def test_a_connection_is_used_for_many_mails(either_server: SMTPServer) -> None:
    send(either_server, *map(envelope, range(20)))
    assert len(either_server.mails) == 20
    assert len(either_server.connections) == 1


def test_a_connection_is_left_after_so_many_mails(server: SMTPServer) -> None:
    send(server, *map(envelope, range(7)), messages_per_connection=3)
    assert len(server.mails) == 7
    assert len(server.connections) == 3


def test_a_connection_is_left_when_it_is_too_old(server: SMTPServer) -> None:
    send(server, *map(envelope, range(3)), connection_age=0)
    assert len(server.connections) == 3


@pytest.mark.parametrize("farewell", [Say("250 2.0.0 Taken", close=True), Say("250 2.0.0 Taken", "421 4.4.2 Idle")], ids=["close", "421"])
def test_a_connection_that_the_server_ended_meanwhile_is_noticed_before_it_is_used(server: SMTPServer, farewell: Say) -> None:
    if not farewell.close:
        server.answers("dot", Garbage(b"250 2.0.0 Taken\r\n421 4.4.2 Idle\r\n", code=250))
    else:
        server.answers("dot", farewell)
    outcomes = send(server, envelope(1), envelope(2))
    assert kinds(outcomes) == [Reply, Reply]
    assert [len(connection.commands) > 1 for connection in server.connections] == [True, True]
    assert server.by_message_id() == {"<1@example.com>": 1, "<2@example.com>": 1}


@pytest.mark.parametrize(
    "ended",
    [Drop(), Reset(), Say("421 4.7.0 Too many messages", close=True), Say("451 4.7.0 Too many messages on this connection")],
    ids=["drop", "reset", "421", "451"],
)
def test_a_mail_that_finds_its_kept_connection_ended_goes_at_once_on_another(either_server: SMTPServer, ended: Action) -> None:
    server = either_server
    server.answers("mail", ended, times=1, only="b+2@")
    outcomes = send(server, envelope(1), envelope(2))
    assert kinds(outcomes) == [Reply, Reply]
    assert server.by_message_id() == {"<1@example.com>": 1, "<2@example.com>": 1}
    assert len(server.connections) == 2


def test_a_server_that_says_more_than_it_was_asked_is_not_spoken_to(either_server: SMTPServer) -> None:
    either_server.answers("ehlo", Garbage(b"250-localhost\r\n250 PIPELINING\r\n250 Taken\r\n", code=250))
    assert kinds(send(either_server, envelope(1), envelope(2))) == [RelayDown, RelayDown]
    assert not [command for command in either_server.commands if command.startswith("MAIL")]


def test_a_server_that_lets_us_in_and_leaves_has_taken_nothing(either_server: SMTPServer) -> None:
    either_server.answers("ehlo", Say("250 localhost", close=True))
    assert set(kinds(send(either_server, envelope(1), envelope(2)))) <= {RelayDown, Deferred}


def test_on_a_fresh_connection_421_defers_the_mail(either_server: SMTPServer) -> None:
    either_server.answers("mail", Say("421 4.3.2 Shutting down", close=True))
    assert kinds(send(either_server)) == [Deferred]


def test_a_refused_transaction_is_forgotten_before_the_next(either_server: SMTPServer) -> None:
    either_server.answers("rcpt", Say("550 5.1.1 No"), times=1)
    outcomes = send(either_server, envelope(1), envelope(2))
    assert kinds(outcomes) == [Refused, Reply]
    assert len(either_server.connections) == 1
    assert "RSET" in either_server.commands


@pytest.mark.parametrize("fault", ["4xx", "5xx", "421", "drop", "reset", "timeout", "garbage"])
def test_a_server_that_does_not_forget_is_left(either_server: SMTPServer, fault: str) -> None:
    either_server.answers("rcpt", Say("550 5.1.1 No"), times=1)
    either_server.answers("rset", FAULTS[fault])
    outcomes = send(either_server, envelope(1), envelope(2))
    assert kinds(outcomes) == [Refused, Reply]
    assert len(either_server.mails) == 1


# ------------------------------------------------------------------------------------------------------------------ pipelining


class Hold:
    """Answer as usual, once this has come too."""

    code = 250

    def __init__(self, until: bytes) -> None:
        self.until = until
        self.seen = b""

    async def perform(self, connection: Connection, usual: Say) -> int | None:
        while self.until not in self.seen:
            await asyncio.sleep(0.001)
            self.seen = bytes(connection.reader._buffer)
        return await usual.perform(connection, usual)


def test_where_it_is_offered_the_commands_go_in_one_write_and_never_the_mail(server: SMTPServer) -> None:
    """The server holds the reply to MAIL back until it has the other commands, and by then has no byte of the mail."""
    hold = Hold(b"DATA\r\n")
    server.answers("mail", hold, times=1)
    assert kinds(send(server)) == [Reply]
    assert hold.seen == b"RCPT TO:<r1@example.net>\r\nDATA\r\n"


def test_a_mails_commands_leave_with_the_end_of_the_one_before(server: SMTPServer) -> None:
    """The server holds the reply to a mail back until it has the commands of the next, and by then has no byte of that one's text."""
    holds = [Hold(b"DATA\r\n"), Hold(b"DATA\r\n")]
    for hold in holds:
        server.answers("dot", hold, times=1)
    assert kinds(send(server, *map(envelope, range(3)))) == [Reply] * 3
    for number, hold in enumerate(holds, 1):
        mail, *others = hold.seen.decode().splitlines()
        assert mail.startswith(f"MAIL FROM:<b+{number}@example.com> ")
        assert others == [f"RCPT TO:<r{number}@example.net>", "DATA"]
    assert server.by_message_id() == {f"<{each}@example.com>": 1 for each in range(3)}


def test_an_announced_mail_that_is_refused_is_forgotten_before_the_next(either_server: SMTPServer) -> None:
    either_server.answers("rcpt", Say("550 5.1.1 No"), only="r2@")
    assert kinds(send(either_server, envelope(1), envelope(2), envelope(3))) == [Reply, Refused, Reply]
    assert len(either_server.connections) == 1
    assert "RSET" in either_server.commands


def test_of_an_announced_mail_that_does_not_come_nothing_is_taken(either_server: SMTPServer) -> None:
    provider = relay_to(either_server).provider()

    async def change_of_mind() -> None:
        session = await provider.open()
        session.announce(envelope(2))
        await session.send(envelope(1))
        # Then 2 was found to be unwanted.
        await session.send(envelope(3))
        session.announce(envelope(5))
        await session.send(envelope(4))
        await session.close()

    run(change_of_mind)
    assert either_server.by_message_id() == {f"<{each}@example.com>": 1 for each in (1, 3, 4)}
    offered = "PIPELINING" in either_server.extensions
    assert len(either_server.connections) == 1 + offered
    # The server may wait for a text, and would take this for it.
    assert ("QUIT" in either_server.commands) != offered


@pytest.mark.parametrize("first", [Say("451 4.3.0 Not now"), Say("554 5.6.0 Not such mail")], ids=["4xx", "5xx"])
def test_what_becomes_of_a_mail_is_nothing_to_the_one_that_was_announced(server: SMTPServer, first: Action) -> None:
    server.answers("dot", first, times=1)
    outcomes = send(server, envelope(1), envelope(2))
    assert [type(outcome) is Reply for outcome in outcomes] == [False, True]
    assert (server.by_message_id(), len(server.connections)) == ({"<2@example.com>": 1}, 1)


def test_a_mail_that_cannot_be_sent_is_not_announced(server: SMTPServer) -> None:
    outcomes = send(server, envelope(1), envelope(2, rcpt_to="two\r\nlines@example.net"), envelope(3))
    assert kinds(outcomes) == [Reply, Refused, Reply]
    assert len(server.connections) == 1


def test_a_large_mail_announces_none(server: SMTPServer) -> None:
    """Whether it left whole must be known, and commands behind it would hide that."""
    large = envelope(1, data=envelope(1).data + b"x" * 70 + b"\r\n" * client.SMALL)
    server.answers("dot", Drop(), times=1)
    assert kinds(send(server, large, envelope(2))) == [OutcomeUnknown, Reply]
    assert [command[:4] for command in server.connections[0].commands] == ["EHLO", "MAIL", "RCPT", "DATA"]


class Forgetful(Hold):
    """Answer as usual, and throw away what came with the mail's end, and all that comes after."""

    async def perform(self, connection: Connection, usual: Say) -> int | None:
        await super().perform(connection, usual)
        reader = connection.reader
        while not reader.at_eof() and not reader.exception():
            reader._buffer.clear()
            connection.server.falls_silent(1)
            await asyncio.sleep(0.1)
        raise Hangup


class Look:
    """Answer as usual. `seen` is what had come with the mail's end."""

    code = 250

    def __init__(self) -> None:
        self.seen = b""

    async def perform(self, connection: Connection, usual: Say) -> int | None:
        self.seen += bytes(connection.reader._buffer)
        return await usual.perform(connection, usual)


def test_a_server_that_does_not_take_commands_with_a_mail_is_waited_for(server: SMTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "unhurried", set())
    look = Look()
    server.answers("dot", Forgetful(b"DATA\r\n"), times=1)
    server.answers("dot", look)
    for _drain in range(2):
        assert kinds(send(server, *map(envelope, range(4)))) == [Reply] * 4
    assert server.by_message_id() == {f"<{each}@example.com>": 2 for each in range(4)}
    assert len(server.connections) == 3
    assert look.seen == b""


def test_where_it_is_not_offered_every_reply_is_awaited() -> None:
    with SMTPServer(extensions=WITHOUT_PIPELINING) as server:
        server.answers("rcpt", Say("550 5.1.1 No"))
        assert kinds(send(server)) == [Refused]
        assert "DATA" not in server.commands


def test_a_server_that_wants_a_mail_for_nobody_gets_an_empty_one(server: SMTPServer) -> None:
    server.answers("rcpt", Say("550 5.1.1 No such user"), times=1)
    server.answers("data", Say("354 Go on"), times=1)
    server.answers("dot", Say("250 2.0.0 Thrown away"), times=1, accept=True)
    first, second = send(server, envelope(1), envelope(2))
    assert type(first) is Refused
    assert first.fault == Fault.RECIPIENT
    assert type(second) is Reply
    assert [(mail.rcpt_to, mail.raw) for mail in server.mails][0] == ((), b".\r\n")
    assert server.mails[1].message_id == "<2@example.com>"
    assert len(server.connections) == 1


def test_a_server_that_wants_a_mail_whose_sender_it_refused_gets_none(server: SMTPServer) -> None:
    """It took the recipient: an empty mail would reach them."""
    server.answers("mail", Say("550 5.7.1 Not you"), times=1)
    server.answers("rcpt", Say("250 2.1.5 Fine"), times=1)
    server.answers("data", Say("354 Go on"), times=1)
    server.answers("dot", Say("250 2.0.0 Taken"), times=1, accept=True)
    first, second = send(server, envelope(1), envelope(2))
    assert kinds([first, second]) == [Refused, Reply]
    assert [mail.message_id for mail in server.mails] == ["<2@example.com>"]


@pytest.mark.parametrize("phase", ["mail", "rcpt"])
def test_the_first_reply_that_refuses_decides(server: SMTPServer, phase: str) -> None:
    server.answers(phase, Say("550 5.7.1 First"))
    server.answers("data", Say("554 5.5.1 Second"))
    [outcome] = send(server)
    assert outcome.reply == Reply(550, "5.7.1", "First")


def test_more_replies_than_commands_are_not_believed(either_server: SMTPServer) -> None:
    """Else the surplus would be read as the reply to the mail."""
    either_server.answers("data", Garbage(b"354 Go on\r\n250 2.0.0 Taken already\r\n", code=354), times=1)
    first, second = send(either_server, envelope(1), envelope(2))
    assert type(first) is Deferred
    assert type(second) is Reply
    assert [mail.message_id for mail in either_server.mails] == ["<2@example.com>"]


def test_a_reply_may_come_in_many_lines_and_pieces(either_server: SMTPServer) -> None:
    either_server.answers("dot", Say("250 2.0.0 Taken", "250 2.0.0 with", "250 2.0.0 thanks"))
    assert send(either_server) == [Reply(250, "2.0.0", "Taken with thanks")]


# -------------------------------------------------------------------------------------------------------------------- the mail


@effort(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", ".", "..", ".x", "x.", "..x", "text", " .", ".\t"]), max_size=8), st.booleans())
def test_what_is_stuffed_comes_out_as_it_was(lines: list[str], header: bool) -> None:
    data = "".join(f"{line}\r\n" for line in (["Subject: x", ""] if header else []) + lines).encode()
    raw = stuffed(data)
    assert raw.endswith(b"\r\n.\r\n" if data else b".\r\n")
    received = []
    for line in raw.split(b"\r\n")[:-1]:
        if line == b".":
            break
        received.append(line[1:] if line.startswith(b".") else line)
    else:
        pytest.fail("the mail does not end")
    assert b"".join(line + b"\r\n" for line in received) == (data or b"\r\n")
    assert raw.count(b"\r\n.\r\n") <= 1


@pytest.mark.parametrize(
    "body", [b".\r\n", b"..\r\n", b".x\r\n", b"a\r\n.\r\nb\r\n", b"a\r\n.\r\n.\r\n", b"\r\n" * 3, b"x" * 5000 + b"\r\n"]
)
def test_dots_arrive_as_they_were(either_server: SMTPServer, body: bytes) -> None:
    data = b"Subject: x\r\n\r\n" + body
    send(either_server, envelope(data=data))
    assert either_server.mails[0].data == data


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\n\r.\n\r"],
    ids=lambda end: end.hex(),
)
def test_no_mail_is_smuggled_within_another(either_server: SMTPServer, end: bytes) -> None:
    data = b"Subject: x\r\n\r\none" + end + b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<v@example.net>\r\nDATA\r\nbad\r\n"
    [outcome] = send(either_server, envelope(data=data))
    assert type(outcome) is Refused
    assert outcome.fault == Fault.CONTENT
    assert not [command for command in either_server.commands if command.startswith("MAIL")]


@pytest.mark.parametrize(
    "address",
    [
        "a@example.net>\r\nRCPT TO:<b@example.net",
        "a@example.net> NOTIFY=NEVER",
        "a\0@example.net",
        "a b@example.net",
        "<a@example.net>",
        '"a\r\nb"@example.net',
        "\ud800@example.net",
    ],
)
@pytest.mark.parametrize("field", ["mail_from", "rcpt_to"])
def test_no_command_is_smuggled_in_an_address(server: SMTPServer, field: str, address: str) -> None:
    [outcome] = send(server, envelope(**{field: address}))
    assert type(outcome) is Refused
    assert server.mails == []
    assert not [command for command in server.commands if command.startswith(("MAIL", "RCPT"))]


def test_addresses_go_as_they_must_on_the_wire(server: SMTPServer) -> None:
    send(server, envelope(mail_from="", rcpt_to='"a..b."@docomo.ne.jp'), envelope(rcpt_to='"with space"@example.net'))
    assert [(mail.mail_from, mail.rcpt_to) for mail in server.mails] == [
        ("", ('"a..b."@docomo.ne.jp',)),
        ("b+1@example.com", ('"with space"@example.net',)),
    ]


def test_extensions_are_asked_for_only_where_the_mail_needs_them(server: SMTPServer) -> None:
    plain = envelope(1)
    eight_bit = envelope(2, data=b"Subject: x\r\n\r\n\xe6\x97\xa5\r\n")
    header = envelope(3, data="Subject: 日本\r\n\r\nx\r\n".encode())
    recipient = envelope(4, rcpt_to="用户@example.net")
    send(server, plain, eight_bit, header, recipient)
    assert [[name for name in mail.parameters if not name.startswith("SIZE")] for mail in server.mails] == [
        [],
        ["BODY=8BITMIME"],
        ["BODY=8BITMIME", "SMTPUTF8"],
        ["SMTPUTF8"],
    ]
    assert server.mails[3].rcpt_to == ("用户@example.net",)


@pytest.mark.parametrize(
    ("changes", "fault", "words"),
    [
        ({"data": b"Subject: x\r\n\r\n\xe6\x97\xa5\r\n"}, Fault.CONTENT, "8-bit"),
        ({"rcpt_to": "用户@example.net"}, Fault.POLICY, "SMTPUTF8"),
        ({"mail_from": "用户@example.com"}, Fault.POLICY, "SMTPUTF8"),
    ],
)
def test_what_the_server_cannot_take_is_refused_before_it_hears_of_it(changes: dict[str, object], fault: Fault, words: str) -> None:
    with SMTPServer(extensions=()) as server:
        [outcome, after] = send(server, envelope(1, **changes), envelope(2))
        assert type(outcome) is Refused
        assert (outcome.fault, outcome.reply.code) == (fault, None)
        assert words in outcome.reply.text
        assert type(after) is Reply
        assert len(server.mails) == 1


def test_a_mail_larger_than_the_server_takes_is_refused_before_it_hears_of_it() -> None:
    with SMTPServer(extensions=("PIPELINING", "SIZE 1000")) as server:
        fits = envelope(1, data=b"Subject: x\r\n\r\n" + b"." * 984 + b"\r\n")
        too_large = envelope(2, data=b"Subject: x\r\n\r\n" + b"." * 985 + b"\r\n")
        assert len(fits.data) == 1000
        first, second = send(server, fits, too_large)
        assert type(first) is Reply
        assert server.mails[0].parameters == ("SIZE=1000",)
        assert type(second) is Refused
        assert (second.fault, second.reply.enhanced) == (Fault.CONTENT, "5.3.4")


@pytest.mark.parametrize("extension", ["SIZE", "SIZE 0", "SIZE lots"])
def test_a_size_without_a_number_limits_nothing(extension: str) -> None:
    with SMTPServer(extensions=(extension,)) as server:
        assert kinds(send(server)) == [Reply]


class Late:
    """Go on after more time than any reply may take."""

    code = None

    async def perform(self, connection: Connection, usual: Say) -> None:
        connection.server.falls_silent(3)
        await asyncio.sleep(0.1)


def test_a_mail_that_the_server_reads_slowly_arrives_whole(server: SMTPServer) -> None:
    server.answers("body", Late())
    big = envelope(1, data=b"Message-ID: <1@example.com>\r\n\r\n" + b"line of a big mail\r\n" * 400_000)
    assert kinds(send(server, big)) == [Reply]
    assert server.mails[0].data == big.data


# ----------------------------------------------------------------------------------------------------------------- introductions


def test_a_server_that_only_knows_helo_gets_plain_smtp(server: SMTPServer) -> None:
    server.answers("ehlo", Say("502 5.5.2 What?"), only="EHLO")
    assert kinds(send(server)) == [Reply]
    assert [command.partition(" ")[0] for command in server.commands] == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert server.mails[0].parameters == ()


def test_it_introduces_itself_by_the_name_that_it_was_given(server: SMTPServer) -> None:
    send(server, ehlo_name="mail.example.com")
    assert server.mails[0].ehlo == "mail.example.com"


@pytest.mark.parametrize(
    ("name", "said"), [("mx1.example.com", "mx1.example.com"), ("laptop", "[127.0.0.1]"), ("odd name.x", "[127.0.0.1]")]
)
def test_without_a_name_it_is_the_machines_or_its_address(
    server: SMTPServer, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    send(server)
    assert server.mails[0].ehlo == said


@pytest.mark.parametrize(
    ("greeting", "rest"),
    [
        ("554 5.7.1 Your address is on our list", replies.FOR_STAFF),
        ("421 4.7.0 Try again later", timedelta(seconds=30)),
        ("421 4.7.0 Too many concurrent connections from you", replies.FOR_PACE),
        ("421 4.7.0 Daily message limit reached", replies.FOR_PERIOD),
    ],
)
def test_how_long_a_relay_rests_depends_on_what_it_says_at_the_door(server: SMTPServer, greeting: str, rest: timedelta) -> None:
    server.answers("connect", Say(greeting, close=True))
    [outcome] = send(server)
    assert type(outcome) is RelayDown
    assert outcome.rest == rest
    assert str(outcome.reply) == greeting


# ---------------------------------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
def test_with_a_proven_certificate_mail_and_password_go_encrypted(trusted: Authority, implicit: bool) -> None:
    with SMTPServer(tls=trusted.issue("localhost").context(), implicit_tls=implicit, users={"shop": "secret"}) as server:
        outcomes = send(
            server,
            envelope(1),
            envelope(2),
            host="localhost",
            security="tls" if implicit else "starttls",
            username="shop",
            password="secret",
        )
        assert kinds(outcomes) == [Reply, Reply]
        assert [(mail.tls, mail.user, mail.mechanism) for mail in server.mails] == [(True, "shop", "PLAIN")] * 2
        assert len(server.connections) == 1
        assert [command.partition(" ")[0] for command in server.commands].count("EHLO") == (1 if implicit else 2)


def unsound(trusted: Authority) -> dict[str, ssl.SSLContext]:
    return {
        "expired": trusted.issue("localhost", expired=True).context(),
        "wrong name": trusted.issue("other.example.com").context(),
        "unknown authority": Authority("Another").issue("localhost").context(),
    }


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("flaw", ["expired", "wrong name", "unknown authority"])
def test_with_a_certificate_that_proves_nothing_not_even_a_name_is_told(trusted: Authority, flaw: str, security: str) -> None:
    with SMTPServer(tls=unsound(trusted)[flaw], implicit_tls=security == "tls", users={"shop": "secret"}) as server:
        [outcome] = send(server, host="localhost", security=security, username="shop", password="secret")
        assert type(outcome) is RelayDown
        assert outcome.rest == replies.FOR_STAFF
        assert "certificate" in outcome.reply.text
        assert [command for command in server.commands if not command.startswith(("EHLO", "STARTTLS"))] == []
        assert server.mails == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
def test_versions_of_tls_that_are_known_to_be_weak_are_not_spoken(trusted: Authority) -> None:
    context = trusted.issue("localhost").context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with SMTPServer(tls=context) as server:
        [outcome] = send(server, host="localhost", security="starttls")
        assert type(outcome) is RelayDown
        assert server.mails == []


def test_a_server_whose_starttls_was_stripped_on_the_way_gets_nothing(server: SMTPServer) -> None:
    server.users = {"shop": "secret"}
    server.auth_needs_tls = False
    [outcome] = send(server, security="starttls", username="shop", password="secret")
    assert type(outcome) is RelayDown
    assert "STARTTLS" in outcome.reply.text
    assert [command.partition(" ")[0] for command in server.commands] == ["EHLO"]


def test_an_unproven_server_gets_mail_where_staff_chose_so(trusted: Authority) -> None:
    with SMTPServer(tls=unsound(trusted)["wrong name"]) as server:
        assert kinds(send(server, host="localhost", security="starttls", verify_certificate=False)) == [Reply]
        assert server.mails[0].tls


def test_what_came_in_plain_text_before_tls_is_forgotten(trusted: Authority) -> None:
    """Someone on the way adds offers and replies to the server's own (CVE-2011-0411)."""
    with SMTPServer(tls=trusted.issue("localhost").context(), extensions=(), users={"shop": "secret"}) as server:
        injected = b"220 2.0.0 Go ahead\r\n250-localhost\r\n250-PIPELINING\r\n250 AUTH LOGIN\r\n235 2.7.0 Welcome\r\n"
        server.answers("starttls", Garbage(injected, code=220))
        assert kinds(send(server, host="localhost", security="starttls", username="shop", password="secret")) == [Reply]
        assert server.mails[0].mechanism == "PLAIN"
        assert server.mails[0].tls


def test_what_was_offered_before_tls_is_asked_again(trusted: Authority) -> None:
    with SMTPServer(tls=trusted.issue("localhost").context(), extensions=()) as server:
        server.answers("ehlo", Say("250 localhost", "250 SIZE 1", "250 STARTTLS"), times=1)
        assert kinds(send(server, host="localhost", security="starttls")) == [Reply]


@pytest.mark.parametrize(
    "options", [{"security": "none"}, {"security": "starttls", "verify_certificate": False}], ids=["plain", "unproven"]
)
def test_where_a_password_could_be_read_it_is_sent_only_to_this_machine_or_where_staff_allowed_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    with SMTPServer(tls=authority.issue("x.example").context(), users={"shop": "secret"}, auth_needs_tls=False) as server:
        login = {"username": "shop", "password": "secret", **options}
        assert kinds(send(server, **login)) == [Reply]
        monkeypatch.setattr(smtp, "is_loopback", lambda host: False)
        [outcome] = send(server, **login)
        assert type(outcome) is RelayDown
        assert outcome.rest == replies.FOR_STAFF
        assert len([command for command in server.commands if command.startswith("AUTH")]) == 1
        assert kinds(send(server, **login, allow_insecure_auth=True)) == [Reply]


# ------------------------------------------------------------------------------------------------------------------------ log-in


def login_server(**changes: object) -> SMTPServer:
    return SMTPServer(**{"users": {"shop@example.com": "sécret 秘密"}, "auth_needs_tls": False, **changes})


@pytest.mark.parametrize(
    ("offered", "method", "used"),
    [
        (("PLAIN", "LOGIN"), "auto", "PLAIN"),
        (("LOGIN", "CRAM-MD5"), "auto", "LOGIN"),
        (("PLAIN", "LOGIN"), "login", "LOGIN"),
        (("PLAIN", "LOGIN", "XOAUTH2"), "plain", "PLAIN"),
        (("PLAIN", "XOAUTH2"), "xoauth2", "XOAUTH2"),
    ],
)
def test_it_logs_in_by_a_way_that_is_wanted_and_offered(offered: tuple[str, ...], method: str, used: str) -> None:
    with login_server(mechanisms=offered) as server:
        assert kinds(send(server, username="shop@example.com", password="sécret 秘密", auth_method=method)) == [Reply]
        assert (server.mails[0].user, server.mails[0].mechanism) == ("shop@example.com", used)


def test_old_servers_write_their_ways_with_an_equals_sign() -> None:
    with login_server(mechanisms=(), extensions=("AUTH=LOGIN",)) as server:
        assert kinds(send(server, username="shop@example.com", password="sécret 秘密")) == [Reply]
        assert server.mails[0].mechanism == "LOGIN"


@pytest.mark.parametrize("method", ["plain", "login", "xoauth2"])
def test_a_wrong_password_rests_the_relay_until_staff_have_looked(method: str) -> None:
    with login_server() as server:
        [outcome] = send(server, username="shop@example.com", password="wrong", auth_method=method)
        assert type(outcome) is RelayDown
        assert (outcome.reply.code, outcome.rest) == (535, replies.FOR_STAFF)
        assert "wrong" not in str(outcome.reply).replace("Wrong name or password", "")
        assert not [command for command in server.commands if command.startswith("MAIL")]


@pytest.mark.parametrize("method", ["plain", "login", "xoauth2"])
def test_a_server_that_cannot_check_passwords_now_is_asked_again_soon(method: str) -> None:
    with login_server() as server:
        server.answers("auth", Say("454 4.7.0 Temporary authentication failure"))
        [outcome] = send(server, username="shop@example.com", password="sécret 秘密", auth_method=method)
        assert type(outcome) is RelayDown
        assert outcome.rest < replies.FOR_STAFF


@pytest.mark.parametrize(("offered", "method"), [((), "auto"), (("CRAM-MD5",), "auto"), (("PLAIN",), "xoauth2")])
def test_without_a_way_to_log_in_nothing_is_sent_and_the_ways_are_named(offered: tuple[str, ...], method: str) -> None:
    with login_server(mechanisms=offered) as server:
        [outcome] = send(server, username="shop@example.com", password="sécret 秘密", auth_method=method)
        assert type(outcome) is RelayDown
        assert all(name in outcome.reply.text for name in (*offered, *smtp.MECHANISMS[method]))
        assert not [command for command in server.commands if command.startswith("AUTH")]


@pytest.mark.parametrize("method", ["plain", "xoauth2"])
def test_a_token_too_long_for_a_command_line_follows_the_servers_go_ahead(method: str) -> None:
    token = "t" * 2000
    with login_server(users={"shop@example.com": token}) as server:
        assert kinds(send(server, username="shop@example.com", password=token, auth_method=method)) == [Reply]
        assert max(len(command) for command in server.commands if command.startswith("AUTH")) <= 510


def test_a_server_that_wants_a_login_where_none_was_given_rests() -> None:
    with login_server() as server:
        [outcome] = send(server)
        assert type(outcome) is RelayDown
        assert (outcome.reply.code, outcome.rest) == (530, replies.FOR_STAFF)


def test_relaying_denied_is_about_the_account_until_a_mail_was_taken_and_then_about_the_recipient(either_server: SMTPServer) -> None:
    either_server.answers("rcpt", Say("554 5.7.1 <r1@example.net>: Relay access denied"), only="r1@")
    [outcome] = send(either_server)
    assert type(outcome) is RelayDown
    _taken, outcome = send(either_server, envelope(2), envelope(1))
    assert type(outcome) is Refused
    assert outcome.fault == Fault.SENDER


# ------------------------------------------------------------------------------------------------------------------------ options

SOUND = {key: value for key, value in TestSMTP.answers.items() if key not in ("username", "password")}
LOGIN = {"username": "shop", "password": "secret"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": ""}, "host"),
        ({"host": "smtp.example.com:587"}, "host"),
        ({"host": "https://smtp.example.com/"}, "host"),
        ({"host": "smtp example.com"}, "host"),
        ({"host": "-x.example.com"}, "host"),
        ({"host": "メール.jp"}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"security": "ssl3"}, "security"),
        ({"username": "shop"}, "password"),
        ({"password": "secret"}, "username"),
        ({**LOGIN, "security": "none"}, "security"),
        ({**LOGIN, "verify_certificate": False}, "verify_certificate"),
        ({"username": "shop\r\nMAIL", "password": "x"}, "username"),
        ({"username": "shop", "password": "line\nbreak"}, "password"),
        ({"username": "shop", "password": "nul\0"}, "password"),
        ({"auth_method": "cram-md5"}, "auth_method"),
        ({"ehlo_name": "not a name"}, "ehlo_name"),
        ({"ehlo_name": "x\r\nMAIL"}, "ehlo_name"),
        ({"messages_per_connection": 0}, "messages_per_connection"),
        ({"connection_age": 0}, "connection_age"),
        ({"patience": 0}, "patience"),
        ({"final_timeout": 3600}, "final_timeout"),
    ],
)
def test_what_cannot_work_is_said_at_its_field(changes: dict[str, object], field: str) -> None:
    form = smtp.SMTPForm({**SOUND, **changes})
    assert list(form.errors) == [field]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        LOGIN,
        {"host": "192.0.2.1"},
        {"host": "2001:db8::1"},
        {"host": "[2001:db8::1]"},
        {"host": "xn--eckwd4c7c.jp."},
        {"host": "mail_1.internal"},
        {"security": "none"},
        {"verify_certificate": False},
        {**LOGIN, "security": "none", "host": "127.0.0.1"},
        {**LOGIN, "security": "none", "host": "localhost"},
        {**LOGIN, "security": "none", "allow_insecure_auth": True},
        {**LOGIN, "verify_certificate": False, "allow_insecure_auth": True},
        {"username": "shop", "password": " spaces are letters "},
        {"ehlo_name": "mail.example.com"},
        {"ehlo_name": "[192.0.2.1]"},
    ],
)
def test_what_can_work_is_taken(changes: dict[str, object]) -> None:
    form = smtp.SMTPForm({**SOUND, **changes})
    assert form.is_valid(), form.errors
    if "password" in changes:
        assert form.cleaned_data["password"] == changes["password"]


def test_a_hosts_brackets_are_only_for_the_form() -> None:
    form = smtp.SMTPForm({**SOUND, "host": "[2001:db8::1]"})
    assert form.is_valid()
    assert form.cleaned_data["host"] == "2001:db8::1"


def test_what_the_form_answers_is_what_a_relay_without_options_does() -> None:
    form = smtp.SMTPForm()
    given = {name: field.initial for name, field in form.fields.items() if name not in ("host", "password")}
    defaults = smtp.Options(host="x")
    assert {name: value for name, value in given.items() if value is not None} == {
        name: getattr(defaults, name) for name, value in given.items() if value is not None
    }


def test_options_that_a_later_version_stored_do_no_harm() -> None:
    assert smtp.Options.of({"host": "x", "port": 25, "of_tomorrow": 1, "patience": None}) == smtp.Options(host="x", port=25)
