from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from mailhub.delivery import engine
from mailhub.delivery.models import Message, Worker
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.base import RelayDown, Reply
from mailhub.relays.models import Blocklist, DedicatedIP, IPCheck, IPPool, Listing, Quota, Relay, Route
from mailhub.relays.providers import memory
from mailhub.senders import verdicts
from mailhub.senders.models import Domain, Sender, Verdict
from mailhub.senders.records import Seen
from mailhub.watching import pages, sources, tasks, troubles
from mailhub.watching.models import Alert, Channel, Rule, Trouble
from mailhub.webhooks.models import Endpoint
from tests.delivery import world

pytestmark = pytest.mark.django_db
Kind = Trouble.Kind


def open_now() -> set[str]:
    return set(Trouble.objects.filter(closed_at__isnull=True).values_list("kind", flat=True))


def test_a_relay_that_dies_fails_over_alerts_and_resumes(relays: tuple[Relay, Relay], sender: Sender, channel: Channel) -> None:
    first, second = relays
    memory.script[first.pk] += [RelayDown(Reply(421, "", "closing")), *[RelayDown(Reply(535, "5.7.8", "Authentication failed"))] * 3]
    world.make_batch(sender, 3)
    engine.drain(first, "bulk")
    tasks.watch()
    assert open_now() == {"relay", "failover"}
    trouble = Trouble.objects.get(kind=Kind.RELAY)
    assert str(trouble) == "The relay “First” does not work"
    tasks.tell(channel.pk)
    subjects = [envelope.data.split(b"Subject: ")[1].split(b"\n")[0] for envelope in memory.taken[second.pk]]
    assert len(subjects) == 3 and memory.taken[first.pk] == []
    engine.drain(second, "bulk")
    assert world.books() == {"sent": 3}
    memory.script[first.pk].clear()
    first.refresh_from_db()
    first.recovered()
    tasks.watch()
    assert open_now() == set()
    assert Alert.objects.filter(kind="closed").count() == 3


def test_a_route_whose_relays_all_fail_stands_still(relays: tuple[Relay, Relay]) -> None:
    for relay in relays:
        relay.rest(timedelta(minutes=5), "connection refused")
    troubles.evaluate()
    assert open_now() == {"relay", "standstill"}
    assert Trouble.objects.filter(kind=Kind.STANDSTILL).count() == Route.objects.count() == 2


def test_what_staff_pause_is_no_trouble(relays: tuple[Relay, Relay]) -> None:
    relays[0].pause()
    troubles.evaluate()
    assert open_now() == set()


def test_a_used_up_quota_is_trouble_only_while_mail_waits_for_it(relays: tuple[Relay, Relay], sender: Sender) -> None:
    first, second = relays
    second.pause()
    Quota.objects.create(relay=first, limit=2, period="day")
    limits.take(first, 2, clock.now())
    first.rest_until(clock.now() + timedelta(hours=5), "A quota is used up.")
    troubles.evaluate()
    assert Kind.QUOTA not in open_now() and Kind.RELAY not in open_now()
    world.make_batch(sender, 1)
    troubles.evaluate()
    assert Kind.QUOTA in open_now()
    Quota.objects.update(limit=10)
    Relay.objects.update(resting_until=None)
    troubles.evaluate()
    assert Kind.QUOTA not in open_now()


def test_transactional_mail_that_waits_too_long_is_found_by_its_lane(relays: tuple[Relay, Relay], sender: Sender) -> None:
    other = world.make_sender()
    old, new = world.post(sender, 2), world.post(other, 3)
    world.make_batch(sender, 1)
    Message.objects.update(next_attempt_at=clock.now() - timedelta(minutes=9))
    Message.objects.filter(pk=new[0].pk).update(destination="gmail")
    Message.objects.filter(pk=new[1].pk).update(source_ref=7)
    lanes = [(sender.pk, 0, "other"), (other.pk, 0, "gmail"), (other.pk, 0, "other"), (other.pk, 7, "other")]
    assert [lane for *lane, _due in sources.lanes()] == [list(lane) for lane in lanes]
    troubles.evaluate()
    assert Kind.WAITING not in open_now()
    Message.objects.filter(pk=old[1].pk).update(next_attempt_at=clock.now() - timedelta(minutes=12))
    troubles.evaluate()
    assert str(Trouble.objects.get(kind=Kind.WAITING)) == "Transactional mail waits for 12 minutes"
    Message.objects.filter(pk=old[1].pk).update(next_attempt_at=clock.now())
    troubles.evaluate()
    assert Kind.WAITING not in open_now()


def test_work_that_nobody_does_is_found_once_workers_had_time_to_begin(relays: tuple[Relay, Relay]) -> None:
    now = clock.now()
    Worker.objects.create(node="here", queue="maintenance", started_at=now, beat_at=now)
    troubles.evaluate()
    assert open_now() == set()
    Worker.objects.update(started_at=now - timedelta(minutes=5))
    troubles.evaluate()
    assert set(Trouble.objects.values_list("subject", flat=True)) == {"queue bulk", "queue transactional"}
    Worker.objects.create(node="here", queue="bulk", started_at=now, beat_at=now)
    troubles.evaluate()
    assert Trouble.objects.filter(closed_at__isnull=True).get().subject == "queue transactional"


def test_a_dns_record_that_got_worse_is_trouble_and_one_that_was_never_right_is_not(relays: tuple[Relay, Relay]) -> None:
    domain = Domain.objects.create(name="tea.example")

    def seen(kind: str, verdict: Verdict) -> Seen:
        return Seen(kind=kind, name="tea.example", type="TXT", verdict=verdict)

    verdicts.keep(domain, [seen("spf", Verdict.PASS), seen("dmarc", Verdict.MISSING)])
    troubles.evaluate()
    assert open_now() == set()
    verdicts.keep(domain, [seen("spf", Verdict.WRONG), seen("dmarc", Verdict.MISSING)])
    troubles.evaluate()
    assert str(Trouble.objects.get()) == "A DNS record of tea.example got worse: SPF"
    verdicts.keep(domain, [seen("spf", Verdict.PASS), seen("dmarc", Verdict.MISSING)])
    troubles.evaluate()
    assert open_now() == set()


def test_an_own_address_on_a_blocklist_and_one_without_a_name_are_trouble(relays: tuple[Relay, Relay]) -> None:
    ip = DedicatedIP.objects.create(pool=IPPool.objects.create(name="Own"), address="192.0.2.1", ehlo_name="mail.tea.example")
    now = clock.now()
    heeded = Blocklist.objects.filter(alerts=True)[0]
    shown = Blocklist.objects.create(key="shown", name="Shown", zone="shown.example", alerts=False)
    Listing.objects.bulk_create(Listing(ip=ip, blocklist=each, since=now, codes="127.0.0.2") for each in (heeded, shown))
    IPCheck.objects.create(ip=ip, verdict=IPCheck.Verdict.BAD, reason="The address has no name.", checked_at=now)
    troubles.evaluate()
    assert open_now() == {"listing", "ptr"}
    assert str(Trouble.objects.get(kind=Kind.LISTING)) == f"192.0.2.1 is on the blocklist {heeded}"
    Listing.objects.update(until=now)
    IPCheck.objects.update(verdict=IPCheck.Verdict.UNKNOWN)
    troubles.evaluate()
    assert open_now() == set()


def test_a_webhook_that_was_switched_off_is_trouble(relays: tuple[Relay, Relay]) -> None:
    endpoint = Endpoint.objects.create(name="Shop", url="https://shop.example/hook")
    troubles.evaluate()
    assert open_now() == set()
    endpoint.disable("410 Gone")
    troubles.evaluate()
    assert open_now() == {"endpoint"}
    endpoint.resume()
    troubles.evaluate()
    assert open_now() == set()


def test_a_source_that_fails_closes_nothing_and_keeps_nobody_from_the_others(
    relays: tuple[Relay, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    relays[0].rest(timedelta(minutes=5), "connection refused")
    troubles.evaluate()

    def fail(now: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(sources, "resting", fail)
    Relay.objects.update(failures=0, resting_until=None)
    troubles.evaluate()
    assert open_now() == {"relay"}


def test_two_machines_that_look_at_once_find_one_trouble(relays: tuple[Relay, Relay], channel: Channel) -> None:
    relays[0].rest(timedelta(minutes=5), "connection refused")
    now = clock.now()
    found = list(sources.resting(now))
    assert troubles.open_(found[0], now)
    assert troubles.open_(found[0], now) is None
    assert Alert.objects.count() == Trouble.objects.count() == 1
    trouble = Trouble.objects.get()
    assert troubles.close(trouble, now)
    assert not troubles.close(trouble, now)


def test_looking_asks_as_much_of_the_database_whatever_the_number_of_mails(relays: tuple[Relay, Relay], sender: Sender) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as context:
            troubles.evaluate()
        return len(context)

    world.post(sender, 1)
    before = asked()
    world.post(sender, 300)
    assert asked() == before


@world.postgresql_only
def test_the_oldest_that_waits_is_found_by_its_index(relays: tuple[Relay, Relay], sender: Sender) -> None:
    world.post(sender, 50)
    with connection.cursor() as cursor:
        # In a table of fifty rows all ways are short; of millions the index has to give the order as well.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        with CaptureQueriesContext(connection) as context:
            assert sources.oldest(Rule())
            pages.health(clock.now())
        plans = []
        for query in context.captured_queries:
            if "delivery_message" in query["sql"]:
                cursor.execute(f"EXPLAIN (COSTS OFF) {query['sql']}")
                plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert plans and all("delivery_message_lane" in plan and "Sort" not in plan for plan in plans)


def test_old_troubles_are_forgotten(relays: tuple[Relay, Relay]) -> None:
    for days in (366, 364):
        troubles.report(Kind.LISTING, str(days))
        Trouble.objects.filter(subject=str(days)).update(closed_at=clock.now() - timedelta(days=days))
    tasks.prune()
    assert Trouble.objects.get().subject == "364"
