"""`manage.py demo`, from an empty database to a report that adds up, or says what does not."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from pytest_django import Settings

from mailhub.delivery.models import Batch
from mailhub.demo import sample, story
from mailhub.demo.receiver import Books
from mailhub.demo.reckoning import Reckoning
from mailhub.demo.story import Demo, Failed, Report
from mailhub.management.commands.demo import Ticker
from mailhub.relays.models import Relay, RouteMember, Stream
from tests.installation import Installation, free_ports, installed

CONTACTS = 60
# Seconds that a busy machine may need for what takes some fifteen.
LONG = 240


class Machine:
    """A fresh machine: an empty database, and a folder for what the demo leaves."""

    def __init__(self, installation: Installation) -> None:
        self.folder = installation.folder
        self.rows = installation.rows
        # The demo sees to it itself that its workers may reach the receiver.
        self.environment = {name: value for name, value in installation.environment.items() if name != "MAILHUB_ALLOW_PRIVATE_ADDRESSES"}

    def demo(self, *options: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        arguments = ["--contacts", str(CONTACTS), "--port", str(port or free_ports(1)[0]), "--folder", str(self.folder), *options]
        command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "demo", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=LONG)  # noqa: S603


@pytest.fixture(scope="module")
def machine(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with installed("demo", tmp_path_factory.mktemp("demo"), django_db_blocker, empty=True) as installation:
        yield Machine(installation)


def numbers(said: str) -> dict[str, list[int]]:
    """The report's lines: name -> its numbers, in the order of the lines."""
    found: dict[str, list[int]] = {}
    for line in said.splitlines():
        name, number = line[2:24].strip(), line[24:31].strip().replace(",", "")
        if line.startswith("  ") and number.isdigit():
            found.setdefault(name, []).append(int(number))
    return found


@pytest.mark.once
def test_it_sends_for_real_and_every_number_adds_up_the_second_time_too(machine: Machine) -> None:
    first = machine.demo()
    assert first.returncode == 0, first.stdout + first.stderr + (machine.folder / "log").read_text()
    found = numbers(first.stdout)
    assert found["contacts on the lists"] == [CONTACTS + sample.LEFT_OUT]
    assert found["left out"] == [sample.LEFT_OUT]
    assert found["accepted"] == [CONTACTS, 6]
    assert found["lost"] == found["doubled"] == [0]
    sent, single = found["sent"]
    assert single == 6
    assert sent + found["bounced"][0] + found["failed"][0] == CONTACTS
    with closing(Books(machine.folder / "receiver.sqlite3")) as books:
        answers = books.after(0)
    # The same from the server's side, with nothing of MailHub in between.
    taken = Counter(answer.recipient for answer in answers if answer.code == 250)
    assert sum(taken.values()) == sent + 6 == found["received"][0]
    assert all(count == 1 for recipient, count in taken.items() if recipient not in sample.CUSTOMERS.values())
    assert [taken[customer] for customer in sample.CUSTOMERS.values()] == [3, 3]
    greylisted = {answer.recipient for answer in answers if answer.code // 100 == 4}
    assert greylisted and greylisted <= taken.keys()
    assert found["deferred, then sent"] == [len(greylisted)]
    refused = {answer.recipient for answer in answers if answer.code // 100 == 5}
    assert refused and not refused & taken.keys()
    assert f"password {sample.password()}" in first.stdout and "make run" in first.stdout

    second = machine.demo()
    assert second.returncode == 0, second.stdout + second.stderr + (machine.folder / "log").read_text()
    again = numbers(second.stdout)
    # Whom the first run found to be nobody is left out now.
    assert again["accepted"][0] + again["left out"][0] == CONTACTS + sample.LEFT_OUT
    assert again["accepted"][0] == CONTACTS - found["bounced"][0]
    assert again["bounced"] == [0]
    assert again["sent"] == found["sent"] and again["received"] == found["received"]
    assert machine.rows("SELECT count(*), count(DISTINCT batch_id) FROM delivery_message WHERE stream = 'campaign'") == [
        (CONTACTS + again["accepted"][0], 2)
    ]


@pytest.mark.once
def test_it_gives_up_in_time_and_says_where_the_log_is(machine: Machine) -> None:
    result = machine.demo("--seconds", "0.1")
    assert result.returncode == 1
    assert "Not finished after 0 s." in result.stderr
    assert f"The log is {machine.folder / 'log'}" in result.stderr


@pytest.mark.once
def test_a_port_that_is_taken_is_told_with_the_remedy(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = machine.demo(port=port)
    assert result.returncode == 1
    assert (
        f"Port {port} of 127.0.0.1 is taken. End “make run” first if it is running; or choose another: --port {port + 1}" in result.stderr
    )


# ---------------------------------------------------------------------------------------------------- what cannot go on, or add up


@pytest.fixture
def debug(settings: Settings) -> None:
    # pytest-django turns it off.
    settings.DEBUG = True


Run = Callable[..., str]


@pytest.fixture
def run(db: None, debug: None, tmp_path: Path) -> Run:
    """The command in this process; returns what it says."""

    def run() -> str:
        out = io.StringIO()
        call_command("demo", contacts=5, port=free_ports(1)[0], folder=tmp_path, stdout=out)
        return out.getvalue()

    return run


@pytest.fixture
def report(db: None, debug: None) -> Report:
    shop = sample.load(5)
    campaign = sample.campaign(shop, "First flush")
    reckoning = Reckoning(received=5, others=0, replies={2: 5}, lost=0, doubled=0, problems=[])
    return Report(
        campaign=campaign,
        batch=Batch(sent=5),
        contacts=29,
        left_out={"unsubscribed": 24},
        single=6,
        single_sent=6,
        came_back=0,
        reckoning=reckoning,
        rate=100,
        first=0.5,
        slowest_single=0.5,
        problems=[],
    )


def test_what_does_not_add_up_ends_it_with_an_error_that_says_what(run: Run, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Demo, "run", lambda self: report)
    assert "Every number adds up." in run()
    wrong = [f"lost: mail {number}" for number in range(12)]
    monkeypatch.setattr(Demo, "run", lambda self: replace(report, problems=wrong))
    with pytest.raises(CommandError, match=r"(?s)does not add up.*lost: mail 0.*lost: mail 9\n.*and 2 more\n.*The log is ") as raised:
        run()
    assert raised.value.returncode == 1


def test_a_route_that_leads_elsewhere_is_not_used(run: Run, report: Report) -> None:
    shop = sample.load(5)
    real = Relay.objects.create(name="The real one", kind="smtp", options={"host": "smtp.provider.example"})
    RouteMember.objects.create(route=shop.news.route(Stream.CAMPAIGN), relay=real, position=2)
    with pytest.raises(CommandError, match="Nothing was sent: .*“The real one”"):
        run()


def test_a_campaign_that_cannot_be_sent_is_told_with_the_remedy(db: None, debug: None) -> None:
    shop = sample.load(5)
    shop.news.disable()
    with pytest.raises(Failed, match="Confirm it on its page"):
        story.hand_in(shop)


def test_it_does_not_run_in_production(run: Run, settings: Settings) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="DEBUG=true manage.py demo"):
        run()


# -------------------------------------------------------------------------------------------------------------------- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_is_written_over() -> None:
    out = Terminal()
    ticker = Ticker(OutputWrapper(out))
    for line in ("1 %", "1 %", "2 %"):
        ticker.show(line)
    ticker.end()
    assert out.getvalue() == "\r\x1b[K1 %\r\x1b[K2 %\n"


def test_elsewhere_it_tells_now_and_then_and_nothing_twice() -> None:
    out = io.StringIO()
    ticker = Ticker(OutputWrapper(out), every=0)
    for line in ("1 %", "1 %", "2 %"):
        ticker.show(line)
    assert out.getvalue() == "1 %\n2 %\n"
    seldom = Ticker(OutputWrapper(out), every=1000)
    for line in ("3 %", "4 %"):
        seldom.show(line)
    assert out.getvalue() == "1 %\n2 %\n3 %\n"


def test_the_standing_names_what_there_is() -> None:
    batch = Batch(waiting=30, sent=68, bounced=2)
    assert story.standing(batch, 0) == " 70 %  30 waiting, 68 sent, 2 bounced"
    assert story.standing(batch, 2).endswith(", 2 single mails waiting")
