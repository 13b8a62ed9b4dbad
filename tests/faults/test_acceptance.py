"""F3: who hands mail in is killed before and after the commit. What was said to be accepted is, and what is repeated is no second mail."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailhub.delivery.models import Content, Message
from tests.faults.drains import order
from tests.faults.world import Hub
from tests.installation import until
from transactional import sending
from transactional.models import Submission


def killed_while_accepting(hub: Hub, points: int) -> None:
    hub.shop(hub.relay(hub.server()))
    log = hub.folder / "accepted"
    log.touch()
    for _ in range(points):
        before = len(numbers(log))
        site = hub.start(accepts=str(log), first=Message.objects.count())
        until(lambda before=before: len(numbers(log)) > before)
        time.sleep(hub.chance.uniform(0, 0.1))
        hub.kill(site)
    there = set(Message.objects.values_list("address", flat=True))
    said = numbers(log)
    assert {f"taro{number}@example.net" for number in said} <= there
    # As a client does that heard nothing.
    for number in range(max(said) + 3):
        sending.send(order(number))
    wanted = max(said) + 3
    assert Message.objects.count() == Submission.objects.count() == Content.objects.count() == wanted
    hub.finish()
    tally = hub.reckon()
    assert (tally.accepted, tally.unknown) == (wanted, 0)
    assert set(hub.servers[0].by_recipient().values()) == {1}


def numbers(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()]


def test_a_site_killed_while_it_hands_mail_in(hub: Hub) -> None:
    killed_while_accepting(hub, points=3)


@pytest.mark.long
def test_a_site_killed_often_while_it_hands_mail_in(hub: Hub, points: int) -> None:
    killed_while_accepting(hub, points=3 * points)


def test_a_site_killed_while_the_database_keeps_it_waiting_has_accepted_nothing(hub: Hub) -> None:
    hub.shop(hub.relay(hub.server()))
    log = hub.folder / "accepted"
    blocking = hub.connect()
    with blocking.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE delivery_message IN SHARE MODE")
        site = hub.start(accepts=str(log))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until(lambda: hub.rows(waits))
        hub.kill(site)
        cursor.execute("ROLLBACK")
    blocking.close()
    until(lambda: not hub.rows("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))
    assert not Message.objects.exists()
    assert not (Content.objects.exists() or Submission.objects.exists())
