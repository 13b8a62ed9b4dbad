"""Listening at a real Dovecot, and at servers that behave as one hopes they do not."""

from __future__ import annotations

import imaplib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mailhub.feedback import idle, mailboxes
from mailhub.feedback.models import Mailbox
from mailhub.lib import http
from mailhub.lib import tasks as wakes
from mailhub.supervisor import Listening
from tests.certificates import Authority
from tests.dovecot import PASSWORD, USER, Dovecot
from tests.installation import until


class Server(threading.Thread):
    """Speaks IMAP as told; `deeds` are what it does about one IDLE after the other, and it does the last again and again."""

    def __init__(self, *deeds: str, words: str = "IMAP4rev1 IDLE") -> None:
        super().__init__(daemon=True)
        self.deeds, self.words = list(deeds), words
        self.connections, self.idles, self.dones, self.logins = 0, 0, 0, list[str]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def run(self) -> None:
        while True:
            try:
                peer = self.socket.accept()[0]
            except OSError:
                return
            self.connections += 1
            with peer, peer.makefile("rwb", buffering=0) as stream:
                stream.write(b"* OK ready\r\n")
                while (line := stream.readline()) and self.answer(stream, line.decode().rstrip()):
                    pass

    def answer(self, stream: Any, line: str) -> bool:
        tag, _space, command = line.partition(" ")
        if command == "IDLE":
            self.idles += 1
            deed = self.deeds[min(self.idles, len(self.deeds)) - 1]
            if deed == "no":
                stream.write(f"{tag} NO not now\r\n".encode())
                return True
            # In one segment, so that the second line is read together with the first.
            said = {"mail": b"* 1 EXISTS\r\n", "bye": b"* BYE until later\r\n", "half": b"* 1 EXI"}.get(deed, b"")
            stream.write(b"+ idling\r\n" + said)
            return deed not in ("drop", "half")
        if tag == "DONE":
            self.dones += 1
            tag = "IDLE"
        elif command == "CAPABILITY":
            stream.write(f"* CAPABILITY {self.words}\r\n".encode())
        elif command.startswith("EXAMINE"):
            stream.write(b"* 0 EXISTS\r\n")
        elif command.startswith(("LOGIN", "AUTHENTICATE")):
            self.logins.append(command)
            if command.startswith("AUTHENTICATE"):
                stream.write(b"+ \r\n")
                stream.readline()
        stream.write(f"{tag} OK done\r\n".encode())
        return command != "LOGOUT"


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    polls: list[int] = []
    monkeypatch.setattr(wakes, "enqueue", lambda task, pk, *, queue: polls.append(pk))
    monkeypatch.setattr(idle, "FIRST", 0.01)
    return polls


def box(port: int, **fields: Any) -> Mailbox:
    given = {"pk": 7, "security": "none", "host": "localhost", "username": USER, "secrets": {"password": PASSWORD}, **fields}
    return Mailbox(port=port, **given)


@pytest.fixture
def listen() -> Iterator[Any]:
    begun: list[idle.Listener] = []

    def start(mailbox: Mailbox, folder: str = "INBOX") -> idle.Listener:
        begun.append(idle.Listener(mailbox, folder))
        begun[-1].start()
        return begun[-1]

    yield start
    for listener in begun:
        listener.finish()
        listener.join(60)
        assert not listener.is_alive(), "it ends when it is told to, whatever it waits for"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    with Dovecot(authority.issue("localhost")) as server:
        yield server


@pytest.mark.parametrize(("security", "folder"), [("none", "INBOX"), ("starttls", "Junk"), ("tls", "INBOX")])
def test_a_mail_that_arrives_is_told_at_once(
    dovecot: Dovecot, authority: Authority, listen: Any, woken: list[int], monkeypatch: pytest.MonkeyPatch, security: str, folder: str
) -> None:
    monkeypatch.setattr(http, "public_trust", lambda: authority.trust())
    with imaplib.IMAP4("127.0.0.1", dovecot.imap) as server:
        server.login(USER, PASSWORD)
        server.create(folder)
    for path in dovecot._maildir(folder).glob("*/*.test*"):
        path.unlink()
    waiting = threading.Event()

    def speaks(*args: Any) -> bool:
        waiting.set()
        return original(*args)

    original = idle._speaks
    monkeypatch.setattr(idle, "_speaks", speaks)
    listen(box(dovecot.imaps if security == "tls" else dovecot.imap, security=security), folder)
    assert waiting.wait(60)
    assert woken == []
    dovecot.put(b"Subject: hello\r\n\r\n", folder)
    until(lambda: woken == [7])


def test_a_mail_that_is_told_of_together_with_the_beginning_is_not_missed(listen: Any, woken: list[int]) -> None:
    with Server("mail", "wait") as server:
        listen(box(server.port))
        until(lambda: woken == [7])
        assert server.dones == 1


def test_many_mails_make_one_poll_in_a_while(listen: Any, woken: list[int]) -> None:
    with Server("mail") as server:
        listener = listen(box(server.port))
        until(lambda: woken)
        listener.finish()
        listener.join(60)
        assert (woken, server.idles) == ([7], 1)


@pytest.mark.parametrize("deed", ["drop", "bye", "no", "half", "hang"])
def test_a_connection_that_is_lost_is_opened_anew(listen: Any, woken: list[int], monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    if deed == "hang":
        # It is asked soon whether it is still there, and never answers.
        monkeypatch.setattr(idle, "RENEW", 0.0)
        monkeypatch.setattr(mailboxes, "PATIENCE", 0.2)
        monkeypatch.setattr(Server, "answer", hanging(Server.answer))
    with Server(deed, "mail", "wait") as server:
        listen(box(server.port))
        until(lambda: woken == [7])
        assert server.connections == 2


def hanging(answer: Any) -> Any:
    def hangs(self: Server, stream: Any, line: str) -> bool:
        return True if line == "DONE" and self.idles == 1 else bool(answer(self, stream, line))

    return hangs


def test_losses_in_a_row_are_followed_by_longer_and_longer_waits(listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "LONGEST", 0.04)
    with Server("drop") as server:
        listener = listen(box(server.port))
        until(lambda: server.connections > 3)
        assert listener.delay == 0.04


def test_one_that_is_silent_is_asked_again_on_the_same_connection(listen: Any, woken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert idle.RENEW < 29 * 60
    monkeypatch.setattr(idle, "RENEW", 0.0)
    with Server("wait") as server:
        listen(box(server.port))
        until(lambda: server.idles > 2)
        assert (server.connections, woken) == (1, [])


def test_a_server_that_cannot_is_left_to_the_clock(listen: Any, woken: list[int]) -> None:
    with Server("mail", words="IMAP4rev1") as server:
        listener = listen(box(server.port))
        until(lambda: listener.delay == idle.LONGEST)
        assert (server.idles, woken) == (0, [])


def test_it_gets_in_by_oauth_as_polls_do(listen: Any, woken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "_token", lambda mailbox: "fresh")
    with Server("mail", "wait", words="IMAP4rev1 IDLE AUTH=XOAUTH2") as server:
        listen(box(server.port, login="oauth"))
        until(lambda: woken == [7])
        assert server.logins == ["AUTHENTICATE XOAUTH2"]


@pytest.mark.django_db
def test_mailboxes_are_listened_at_as_their_rows_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle.Listener, "run", lambda self: self.over.wait() and self.bell.close())
    fields = {"host": "localhost", "username": USER, "polled_at": "2026-01-01T00:00Z"}
    kinds: dict[str, dict[str, Any]] = {
        "good": {}, "changed": {}, "paused later": {}, "deleted": {}, "paused": {"status": "paused"}, "failing": {"failures": 1},
        "never polled": {"polled_at": None}, "pop3": {"protocol": "pop3"},
    }  # fmt: skip
    rows = {name: Mailbox.objects.create(name=name, **{**fields, **changes}) for name, changes in kinds.items()}
    listeners = idle.Listeners()
    listeners.follow()
    before = dict(listeners.at)
    assert {listener.mailbox.name for listener in before.values()} == {"good", "changed", "paused later", "deleted"}
    keys = {name: row.pk for name, row in rows.items()}
    Mailbox.objects.filter(name="changed").update(folders="Junk")
    Mailbox.objects.filter(name="paused later").update(status="paused")
    Mailbox.objects.filter(name="deleted").delete()
    listeners.follow()
    good, changed = (keys["good"], "INBOX"), keys["changed"]
    assert set(listeners.at) == {good, (changed, "Junk")}
    assert listeners.at[good] is before[good]
    # One that is added takes nothing away, and one that is named twice is one; of very many the first are listened at.
    Mailbox.objects.filter(name="changed").update(folders="INBOX\nJunk\nINBOX\nBounces\nMore")
    junk = listeners.at[changed, "Junk"]
    listeners.follow()
    assert {folder for key, folder in listeners.at if key == changed} == {"INBOX", "Junk", "Bounces"}
    assert listeners.at[changed, "Junk"] is junk
    everyone = {*before.values(), *listeners.at.values()}
    listeners.finish()
    for listener in everyone:
        listener.join(60)
        assert not listener.is_alive()


def test_the_supervisor_follows_the_rows_and_ends_the_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening()
    assert listening.every <= 60
    followed, finished = threading.Event(), threading.Event()
    monkeypatch.setattr(listening.listeners, "follow", followed.set)
    monkeypatch.setattr(listening.listeners, "finish", finished.set)
    listening.start()
    assert followed.wait(60)
    listening.finish()
    listening.join(60)
    assert finished.is_set()
