"""The receiver over real sockets."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from mailhub.demo import receiver
from mailhub.demo.receiver import FULL, FULL_FOR_NOW, GREYLISTS, HABITS, NOBODY, PARTICULAR, Answer, Books, Habit
from tests.demo.conftest import Listening

SENDER = "news@shop.example.com"


def somebody(habit: Habit | None) -> str:
    """The first address that has this habit."""
    return next(address for n in count() if receiver.habit(address := f"somebody{n}@example.com") is habit)


def mail(number: int = 1) -> bytes:
    return f"From: {SENDER}\r\nSubject: Tea\r\nMessage-ID: <{number}@shop.example.com>\r\n\r\n.Hello\r\n".encode()


def offer(listening: Listening, address: str, data: bytes = mail()) -> str:
    """What the server says to it in the end."""
    with smtplib.SMTP("127.0.0.1", listening.port) as client:
        try:
            client.sendmail(SENDER, address, data)
        except smtplib.SMTPRecipientsRefused as error:
            code, words = error.recipients[address]
        except smtplib.SMTPDataError as error:
            code, words = error.smtp_code, bytes(error.smtp_error)
        else:
            return "250"
    return f"{code} {words.decode()}"


def facts(answers: list[Answer]) -> list[tuple[str, str, int]]:
    return [(answer.recipient, answer.message_id, answer.code) for answer in answers]


@pytest.mark.parametrize("habit", [NOBODY, FULL, PARTICULAR], ids=lambda habit: habit.reply)
def test_some_addresses_refuse_for_ever(listening: Listening, habit: Habit) -> None:
    address = somebody(habit)
    assert [offer(listening, address) for _ in range(4)] == [habit.reply] * 4


@pytest.mark.parametrize("habit", [GREYLISTS, FULL_FOR_NOW], ids=lambda habit: habit.reply)
def test_some_refuse_a_while_before_each_mail_that_they_take(listening: Listening, habit: Habit) -> None:
    address = somebody(habit)
    round_ = [habit.reply] * (habit.times or 0) + ["250"]
    assert [offer(listening, address) for _ in round_ * 2] == round_ * 2


def test_all_others_take_what_comes(listening: Listening) -> None:
    assert [offer(listening, somebody(None)) for _ in range(3)] == ["250"] * 3


def test_an_address_has_the_same_habit_always_and_however_it_is_written() -> None:
    # From the SHA-256 of the address, and so on every machine.
    assert [somebody(habit) for _share, habit in HABITS] == [f"somebody{n}@example.com" for n in (19, 17, 113, 40, 6)]
    assert [receiver.habit(f"SomeBody{n}@Example.COM") for n in (19, 17, 113, 40, 6)] == [habit for _share, habit in HABITS]


def test_most_mail_is_taken_and_every_habit_is_met_in_a_thousand() -> None:
    met = Counter(receiver.habit(f"somebody{n}@example.com") for n in range(10_000))
    assert met[None] > 8_500
    for share, habit in HABITS:
        assert 0.5 * share < met[habit] / 10 < 1.5 * share


def test_the_books_tell_each_answer_with_the_mail_it_was_about(listening: Listening, books: Books) -> None:
    taker, nobody, particular = somebody(None), somebody(NOBODY), somebody(PARTICULAR)
    offer(listening, taker, mail(1))
    before = books.last()
    offer(listening, taker, mail(2))
    offer(listening, taker, mail(2))
    offer(listening, nobody, mail(3))
    offer(listening, particular, mail(4))
    assert facts(books.after(before)) == [
        (taker, "2@shop.example.com", 250),
        (taker, "2@shop.example.com", 250),
        (nobody, "", 550),
        (particular, "4@shop.example.com", 550),
    ]
    assert [answer.message_id for answer in books.after(0)][0] == "1@shop.example.com"


def test_several_recipients_of_one_mail_are_each_in_the_books(listening: Listening, books: Books) -> None:
    takers = [address for n in range(20) if receiver.habit(address := f"somebody{n}@example.com") is None][:3]
    nobody = somebody(NOBODY)
    with smtplib.SMTP("127.0.0.1", listening.port) as client:
        client.sendmail(SENDER, [*takers, nobody], mail())
    assert sorted(facts(books.after(0))) == sorted([(taker, "1@shop.example.com", 250) for taker in takers] + [(nobody, "", 550)])


def test_the_newest_mails_are_kept_as_they_came(
    listening: Listening, books: Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Books, "KEPT", 3)
    for number in range(5):
        offer(listening, somebody(None), mail(number))
    assert list(books.mails()) == [(5, mail(4)), (4, mail(3)), (3, mail(2))]
    call_command("receiver", database=listening.path, export=tmp_path / "mails")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mails").iterdir()} == {f"{n + 1}.eml": mail(n) for n in (2, 3, 4)}


def test_a_message_id_on_a_line_of_its_own_is_read_and_one_in_the_body_is_not(listening: Listening, books: Books) -> None:
    offer(listening, somebody(None), b"Subject: Tea\r\nMessage-ID:\r\n <folded@shop.example.com>\r\n\r\nHello\r\n")
    offer(listening, somebody(None), b"Subject: Tea\r\n\r\nMessage-ID: <body@shop.example.com>\r\n")
    assert [answer.message_id for answer in books.after(0)] == ["folded@shop.example.com", ""]


def test_commands_may_come_all_at_once(listening: Listening, books: Books) -> None:
    taker, nobody = somebody(None), somebody(NOBODY)
    with socket.create_connection(("127.0.0.1", listening.port), timeout=60) as line, line.makefile("rb") as replies:
        assert replies.readline().startswith(b"220 ")
        line.sendall(b"EHLO mailhub.example\r\n")
        said: list[bytes] = []
        while not (said and said[-1].startswith(b"250 ")):
            said.append(replies.readline())
        assert b"250-PIPELINING\r\n" in said
        envelope = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{nobody}>\r\nRCPT TO:<{taker}>\r\nDATA\r\n"
        line.sendall(envelope.encode())
        assert [replies.readline()[:3] for _ in range(4)] == [b"250", b"550", b"250", b"354"]
        line.sendall(mail().replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n")
        assert [replies.readline()[:3] for _ in range(2)] == [b"250", b"221"]
    assert [data for _number, data in books.mails()] == [mail()]


# --------------------------------------------------------------------------------------------------------------------- command


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), "receiver", *arguments]


def test_the_command_receives_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "books.sqlite3"
    environment = {**os.environ, "DEBUG": "true"}
    with subprocess.Popen(command("--port", str(port), "--database", str(path)), env=environment) as process:  # noqa: S603
        try:
            for _ in range(600):
                try:
                    with smtplib.SMTP("127.0.0.1", port) as client:
                        client.sendmail(SENDER, somebody(None), mail())
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None
                    time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    with closing(Books(path)) as books:
        assert facts(books.after(0)) == [(somebody(None), "1@shop.example.com", 250)]


def test_a_port_that_is_taken_is_told_with_the_remedy(listening: Listening, tmp_path: Path) -> None:
    arguments = ["--port", str(listening.port), "--database", str(tmp_path / "other.sqlite3")]
    result = subprocess.run(command(*arguments), env={**os.environ, "DEBUG": "true"}, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 1
    assert f"Port {listening.port} of 127.0.0.1 is taken. Choose another: --port {listening.port + 1}" in result.stderr
