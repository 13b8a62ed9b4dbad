from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from mailhub.delivery import progress
from mailhub.delivery.models import Message, Throughput, Worker
from mailhub.delivery.throughput import hour_of
from mailhub.lib import clock
from mailhub.relays.models import DedicatedIP, IPPool, Parking, Relay, Stream
from mailhub.senders.models import Sender
from mailhub.watching import rules, troubles
from mailhub.watching.models import Rule, Step, Trouble
from tests.delivery import world

pytestmark = pytest.mark.django_db


def tally(relay: Relay, at: datetime | None = None, destination: str = "gmail", source: str = "", **counts: int) -> None:
    key = {"hour": hour_of(at or clock.now()), "relay_key": relay.pk, "destination_key": destination, "source": source}
    Throughput.objects.update_or_create(counts, stream=Stream.CAMPAIGN, **key)


def open_troubles() -> list[tuple[str, str]]:
    """Those of rules."""
    rows = Trouble.objects.filter(closed_at__isnull=True, rule__isnull=False).order_by("kind", "subject")
    return [(row.kind, row.subject.split(" ")[0]) for row in rows]


def only(*keys: str) -> None:
    """The other rules are out of use."""
    Rule.objects.exclude(key__in=keys).update(active=False)


BROKEN = {
    "complaints": ({"accepted": 2_000, "complained": 3}, {"accepted": 2_000, "complained": 2}),
    "complaints-ip": ({"accepted": 2_000, "complained": 3}, {"accepted": 2_000, "complained": 1}),
    "complaints-pause": ({"accepted": 1_000, "complained": 4}, {"accepted": 1_000, "complained": 3}),
    "bounces": ({"accepted": 970, "bounced": 30}, {"accepted": 985, "bounced": 15}),
    "bounces-ip": ({"accepted": 1_000, "returned": 21}, {"accepted": 1_000, "returned": 20}),
    "bounces-pause": ({"accepted": 900, "bounced": 60}, {"accepted": 960, "bounced": 40}),
    "deferrals": ({"accepted": 800, "deferred": 200}, {"accepted": 950, "deferred": 50}),
    "deferrals-ip": ({"accepted": 800, "deferred": 200}, {"accepted": 400, "deferred": 90}),
    "unproven": ({"accepted": 90, "refused": 10, "unproven": 10}, {"accepted": 90, "refused": 10}),
    "unproven-pause": ({"accepted": 40, "refused": 60, "unproven": 60}, {"accepted": 60, "refused": 40, "unproven": 40}),
}


def test_each_shipped_rule_of_a_share_is_tried_here() -> None:
    assert set(BROKEN) | {"waiting"} == set(rules.SHIPPED) == set(Rule.objects.values_list("key", flat=True))


@pytest.mark.parametrize("key", BROKEN)
def test_a_rule_trips_past_its_threshold_and_clears_below_it(key: str, relays: tuple[Relay, Relay]) -> None:
    only(key)
    bad, good = BROKEN[key]
    pool = IPPool.objects.create(name="Own")
    ip = DedicatedIP.objects.create(pool=pool, address="192.0.2.1", ehlo_name="mail.tea.example")
    tally(relays[0], source="192.0.2.1", **good)
    troubles.evaluate()
    assert open_troubles() == []
    tally(relays[0], source="192.0.2.1", **bad)
    troubles.evaluate()
    troubles.evaluate()
    assert [subject for _kind, subject in open_troubles()] == [key]
    trouble = Trouble.objects.get(rule__isnull=False)
    assert (trouble.model, trouble.object_id) == (
        ("relays.DedicatedIP", str(ip.pk)) if key.endswith("-ip") else ("relays.Relay", str(relays[0].pk))
    )
    assert str(trouble) and "%(" not in str(trouble)
    if trouble.holds:
        assert troubles.resume(trouble)
    tally(relays[0], source="192.0.2.1", **{**dict.fromkeys(bad, 0), **good})
    troubles.evaluate()
    assert open_troubles() == []


def test_few_mails_trip_nothing_and_neither_do_old_hours_or_a_rule_out_of_use(relays: tuple[Relay, Relay]) -> None:
    only("bounces")
    tally(relays[0], accepted=400, bounced=90)
    tally(relays[0], clock.now() - timedelta(hours=30), bounced=900)
    troubles.evaluate()
    assert open_troubles() == []
    tally(relays[0], accepted=500, bounced=90)
    Rule.objects.update(active=False)
    troubles.evaluate()
    assert open_troubles() == []


def test_a_rule_of_one_relay_and_destination_looks_at_nothing_else(relays: tuple[Relay, Relay]) -> None:
    only()
    Rule.objects.create(name="Mine", measure="deferrals", threshold=50, least=10, relay=relays[1], destination_id="gmail")
    tally(relays[0], deferred=100)
    tally(relays[1], deferred=100, destination="yahoo")
    troubles.evaluate()
    assert open_troubles() == []
    tally(relays[1], deferred=100)
    troubles.evaluate()
    assert Trouble.objects.get().subject.endswith(f" {relays[1].pk} gmail -")


def test_a_paused_relay_says_why_wherever_its_mail_waits_and_goes_on_by_one_click(
    relays: tuple[Relay, Relay], sender: Sender, admin_client: object
) -> None:
    only("unproven-pause")
    Worker.objects.create(node="here", queue="bulk", started_at=clock.now(), beat_at=clock.now())
    relays[1].pause()
    batch = world.make_batch(sender, 1)
    tally(relays[0], refused=100, unproven=100)
    troubles.evaluate()
    relays[0].refresh_from_db()
    assert relays[0].status == "paused"
    reason = "Nearly all mail is refused since SPF, DKIM or DMARC do not show whose it is"
    route = relays[0].routes.filter(default_for="campaign").get()
    message = Message.objects.get()
    for path in (
        f"relays/relay/{relays[0].pk}",
        f"relays/route/{route.pk}",
        f"delivery/batch/{batch.pk}",
        f"delivery/message/{message.pk}",
    ):
        assert reason in admin_client.get(f"/admin/{path}/change/").content.decode(), path
    trouble = Trouble.objects.get(rule__isnull=False)
    assert trouble.holds == "relay"
    assert admin_client.post(f"/admin/watching/trouble/{trouble.pk}/resume/").status_code == 302
    relays[0].refresh_from_db()
    assert (relays[0].status, relays[0].pause_reason) == ("active", "")
    step = trouble.steps.get(deed=Step.Deed.RESUMED)
    assert step.user and step.user.username == "admin"
    troubles.evaluate()
    assert open_troubles() == []
    assert progress.obstacle(sender, "campaign", None, clock.now()) == ""


def test_what_was_resumed_is_judged_by_what_came_after(relays: tuple[Relay, Relay]) -> None:
    only("bounces-pause")
    tally(relays[0], accepted=900, bounced=100)
    troubles.evaluate()
    assert troubles.resume(Trouble.objects.get())
    tally(relays[0], accepted=1_300, bounced=110)
    troubles.evaluate()
    assert open_troubles() == []
    tally(relays[0], accepted=1_400, bounced=150)
    troubles.evaluate()
    assert [kind for kind, _subject in open_troubles()] == ["bounces"]


def test_a_paused_destination_stays_so_until_somebody_lets_it_go(relays: tuple[Relay, Relay], sender: Sender) -> None:
    only("bounces-pause")
    tally(relays[0], accepted=900, bounced=100)
    troubles.evaluate()
    relays[1].pause()
    world.make_batch(sender, 1)
    Worker.objects.create(node="here", queue="bulk", started_at=clock.now(), beat_at=clock.now())
    assert "Mail to Gmail is left alone until" in progress.obstacle(sender, "campaign", None, clock.now())
    assert "Too many addresses do not exist" in progress.obstacle(sender, "campaign", None, clock.now(), "gmail")
    assert progress.obstacle(sender, "campaign", None, clock.now(), "yahoo") == ""
    relays[1].resume()
    assert progress.obstacle(sender, "campaign", None, clock.now(), "gmail") == ""
    parking = Parking.objects.get()
    assert (parking.relay, parking.destination_id, parking.reason) == (relays[0], "gmail", "Too many addresses do not exist")
    Throughput.objects.all().delete()
    Parking.objects.update(until=clock.now() + timedelta(hours=2))
    troubles.evaluate()
    assert Trouble.objects.get().closed_at is None
    assert Parking.objects.get().until > clock.now() + timedelta(hours=20)
    Parking.objects.all().delete()
    troubles.evaluate()
    assert Trouble.objects.get().closed_at
    assert [step.deed for step in Trouble.objects.get().steps.all()] == ["opened", "paused", "resumed"]


def test_a_paused_address_sends_nothing(relays: tuple[Relay, Relay]) -> None:
    only("deferrals-ip")
    Rule.objects.filter(key="deferrals-ip").update(action="pause")
    pool = IPPool.objects.create(name="Own")
    DedicatedIP.objects.create(pool=pool, address="127.0.0.1", ehlo_name="mail.tea.example")
    assert pool.here()
    tally(relays[0], source="127.0.0.1", deferred=600)
    troubles.evaluate()
    assert pool.here() == []
    assert troubles.resume(Trouble.objects.get())
    assert pool.here()


def test_what_staff_paused_themselves_is_theirs(relays: tuple[Relay, Relay]) -> None:
    only("unproven-pause")
    relays[0].pause()
    tally(relays[0], refused=100, unproven=100)
    troubles.evaluate()
    assert Trouble.objects.get(kind="unproven").holds == ""
    relays[0].refresh_from_db()
    assert relays[0].pause_reason == ""
