"""The tests' own SMTP server keeps its promises: what others conclude rests on it."""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.installation import LONG
from tests.smtp_server import HOST, Action, Delay, Drop, Reply, Reset, SMTPServer

PROGRAM = Path(__file__).parent / "smtp_server.py"
MAIL = b"Message-ID: <1@example.com>\r\n\r\n.dot\r\n"


@contextmanager
def process(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, str(PROGRAM), "--log", str(log), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603
        assert running.stdout
        try:
            yield running, int(running.stdout.readline())
        finally:
            running.kill()


def send(port: int, recipient: str = "r@example.net") -> None:
    with smtplib.SMTP(HOST, port, timeout=LONG) as session:
        session.sendmail("s@example.com", [recipient], MAIL)


def test_as_a_process_it_has_written_a_line_before_it_answers(tmp_path: Path) -> None:
    log = tmp_path / "mails.jsonl"
    with process(log) as (running, port):
        send(port, "a@example.net")
        send(port, "b@example.net")
        running.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["rcpt_to"], line["message_id"]) for line in lines] == [
        (["a@example.net"], "<1@example.com>"),
        (["b@example.net"], "<1@example.com>"),
    ]


def test_as_a_process_it_takes_a_script_and_ends_when_asked(tmp_path: Path) -> None:
    log = tmp_path / "mails.jsonl"
    with process(log, "--answer", "rcpt", "1", "451 4.7.1 Greylisted", "--delay", "dot", "0.01") as (running, port):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(port)
        send(port)
        running.terminate()
        assert running.wait(10) == 0
    assert len(log.read_text().splitlines()) == 1


def test_a_script_is_followed_in_order_and_so_often_as_it_says() -> None:
    with SMTPServer() as server:
        server.answers("rcpt", Reply("451 4.7.1 first"), times=1)
        server.answers("rcpt", Reply("452 4.7.1 then"), times=1, only="r@")
        codes = []
        for recipient in ("x@example.net", "x@example.net", "r@example.net", "r@example.net"):
            try:
                send(server.port, recipient)
                codes.append(250)
            except smtplib.SMTPRecipientsRefused as refused:
                codes.append(refused.recipients[recipient][0])
        assert codes == [451, 250, 452, 250]


@pytest.mark.parametrize("accept", [True, False])
def test_a_mail_is_taken_or_not_whatever_the_client_hears(accept: bool) -> None:
    with SMTPServer() as server:
        server.answers("dot", Drop(), accept=accept)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(server.port)
        assert len(server.mails) == accept


def test_a_mail_is_kept_as_it_came_and_as_it_is() -> None:
    with SMTPServer() as server:
        send(server.port)
        [mail] = server.mails
        assert (mail.data, mail.raw) == (MAIL, MAIL.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (server.by_recipient(), server.by_message_id()) == ({"r@example.net": 1}, {"<1@example.com>": 1})


@pytest.mark.parametrize(
    ("action", "expected"), [(Drop(), b""), (Reset(), ConnectionResetError), (Delay(0.01, Reply("220 late")), b"220 late\r\n")]
)
def test_connections_end_as_told(action: Action, expected: bytes | type[Exception]) -> None:
    with SMTPServer() as server:
        server.answers("connect", action)
        address = HOST, server.port
        # A reset may come as early as while connecting.
        with (
            nullcontext() if isinstance(expected, bytes) else pytest.raises(expected),
            socket.create_connection(address, timeout=LONG) as client,
        ):
            assert client.recv(100) == expected
