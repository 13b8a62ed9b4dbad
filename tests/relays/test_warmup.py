from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery import engine, queue
from mailhub.delivery.models import Message
from mailhub.lib import clock
from mailhub.relays import warmup
from mailhub.relays.base import Deferred, Fault, Refused, Reply
from mailhub.relays.models import DedicatedIP, IPPool, Relay, RouteMember, WarmupPlan, WarmupUse
from mailhub.relays.warmup import Outcome
from tests.delivery import world as corridor
from tests.relays.test_mx import World, queued, world

__all__ = ["world"]

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.get_default_timezone())
SHIPPED = warmup.shipped()


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    warmup.forget()


@pytest.fixture
def plan() -> WarmupPlan:
    return WarmupPlan.objects.create(key="ours", name="Ours", caps="10\n20\n40")


@pytest.fixture
def ip(plan: WarmupPlan) -> DedicatedIP:
    return DedicatedIP.objects.create(pool=IPPool.objects.create(name="New"), address="192.0.2.1", ehlo_name="a.b", plan=plan)


def take(ip: DedicatedIP, wanted: int, now: datetime = NOW, destination: str = "gmail") -> int | None:
    return warmup.take(ip.pk, destination, wanted, now)


def went(ip: DedicatedIP, **counts: int) -> None:
    """What became of the newest day's mail."""
    newest = WarmupUse.objects.filter(ip=ip).latest("date")
    WarmupUse.objects.filter(pk=newest.pk).update(**counts)


# -------------------------------------------------------------------------------------------------------------------- the cap


def test_in_a_day_no_more_is_taken_than_its_cap_for_each_destination(ip: DedicatedIP) -> None:
    assert [take(ip, 4) for _ in range(4)] == [4, 4, 2, 0]
    assert take(ip, 99, destination="docomo") == 10


def test_a_plan_may_count_all_mails_of_an_address_together(ip: DedicatedIP, plan: WarmupPlan) -> None:
    plan.counts = "all"
    plan.save()
    assert [take(ip, 6, destination=key) for key in ("gmail", "docomo", "au")] == [6, 4, 0]


def test_an_address_without_a_plan_or_past_its_end_may_send_any_number(ip: DedicatedIP) -> None:
    DedicatedIP.objects.update(first_day=4)
    assert take(ip, 1_000_000) is None
    DedicatedIP.objects.update(plan=None)
    assert take(ip, 1_000_000) is None


def test_staff_choose_the_day_to_begin_with(ip: DedicatedIP) -> None:
    DedicatedIP.objects.update(first_day=3)
    assert take(ip, 99) == 40


def test_what_was_not_sent_can_be_taken_again_that_day_alone(ip: DedicatedIP) -> None:
    take(ip, 10)
    warmup.note(ip.pk, "gmail", 3, {Outcome.ACCEPTED: 7}, NOW.date(), NOW)
    assert take(ip, 99) == 3
    take(ip, 99, NOW + DAY)
    used = WarmupUse.objects.latest("date").taken
    # Yesterday's, which comes back too late.
    warmup.note(ip.pk, "gmail", 3, {}, NOW.date(), NOW + DAY)
    assert WarmupUse.objects.latest("date").taken == used


def test_a_clock_that_was_set_back_opens_no_other_day(ip: DedicatedIP) -> None:
    take(ip, 10)
    assert take(ip, 10, NOW - DAY) == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time anyway")
@pytest.mark.django_db(transaction=True)
def test_many_machines_together_keep_to_the_cap(ip: DedicatedIP) -> None:
    WarmupPlan.objects.update(caps="100")
    got: list[int] = []

    def taker() -> None:
        try:
            for _ in range(5):
                got.append(take(ip, 7) or 0)
        finally:
            connections.close_all()

    takers = [threading.Thread(target=taker) for _ in range(8)]
    for each in takers:
        each.start()
    for each in takers:
        each.join()
    assert sum(got) == 100 == WarmupUse.objects.get().taken


# -------------------------------------------------------------------------------------------------------------------- the days


@pytest.mark.parametrize(
    ("taken", "signs", "next_cap"),
    [
        (10, {"accepted": 10}, 20),  # went well
        (7, {"accepted": 7}, 20),
        (6, {"accepted": 6}, 10),  # too little to know
        (10, {"accepted": 7, "deferred": 3}, 10),
        (10, {"accepted": 7, "bounced": 3}, 10),
        (10, {"accepted": 8, "deferred": 2}, 20),  # fewer say nothing
        (10, {"accepted": 7, "refused": 3}, 10),  # there is none before the first
        (10, {"accepted": 10, "complained": 2}, 20),
        (10, {"accepted": 10, "complained": 3}, 10),
    ],
)
def test_the_next_day_comes_only_after_one_that_went_well(ip: DedicatedIP, taken: int, signs: dict[str, int], next_cap: int) -> None:
    take(ip, taken)
    went(ip, **signs)
    assert take(ip, 99, NOW + DAY) == next_cap


def test_an_address_that_is_refused_goes_back_a_day_even_when_it_was_warm(ip: DedicatedIP) -> None:
    DedicatedIP.objects.update(first_day=4)
    assert take(ip, 1) is None
    went(ip, accepted=50, refused=5)
    assert take(ip, 99, NOW + DAY) == 40
    went(ip, accepted=35, refused=5)
    assert take(ip, 99, NOW + 2 * DAY) == 20


def test_complaints_hold_an_address_and_many_take_it_back_a_day(ip: DedicatedIP) -> None:
    DedicatedIP.objects.update(first_day=2)
    take(ip, 20)
    went(ip, accepted=2000, complained=3)
    assert take(ip, 99, NOW + DAY) == 20
    went(ip, accepted=900, complained=3)
    assert take(ip, 99, NOW + 2 * DAY) == 10


def test_mail_that_is_called_spam_is_counted_where_its_address_warms_up(ip: DedicatedIP) -> None:
    warmup.complained("192.0.2.9", "gmail", 1, NOW)
    assert not WarmupUse.objects.exists()
    take(ip, 1)
    warmup.complained("192.0.2.1", "gmail", 2, NOW)
    DedicatedIP.objects.update(plan=None)
    warmup.complained("192.0.2.1", "gmail", 4, NOW)
    assert WarmupUse.objects.get().complained == 2


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address", Outcome.REFUSED),
        ("4.2.0 Greylisted, try again in five minutes", Outcome.DEFERRED),
        ("4.2.2 The mailbox is full", Outcome.DEFERRED),
    ],
)
def test_a_refusal_for_now_by_reputation_is_no_plain_deferral(text: str, sign: Outcome) -> None:
    enhanced, _space, words = text.partition(" ")
    assert warmup.outcome(Deferred(Reply(421, enhanced, words))) == sign


def test_days_without_mail_count_for_nothing_and_a_long_silence_takes_back(ip: DedicatedIP) -> None:
    DedicatedIP.objects.update(first_day=3)
    take(ip, 1)
    assert take(ip, 99, NOW + 30 * DAY) == 40
    DedicatedIP.objects.update(first_day=1)
    assert take(ip, 99, NOW + 61 * DAY) == 10


def test_each_destination_has_its_own_day(ip: DedicatedIP) -> None:
    take(ip, 10)
    went(ip, accepted=10)
    assert take(ip, 99, NOW + DAY) == 20
    assert take(ip, 99, NOW + DAY, "docomo") == 10


def test_after_the_last_day_it_is_warm_and_stays_so(ip: DedicatedIP) -> None:
    for number, cap in enumerate((10, 20, 40)):
        assert take(ip, 99, NOW + number * DAY) == cap
        went(ip, accepted=cap)
    assert take(ip, 99, NOW + 3 * DAY) is None
    assert take(ip, 99, NOW + 9 * DAY) is None


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (None, Outcome.ACCEPTED),
        (Deferred(Reply(451, "4.7.1", "later")), Outcome.DEFERRED),
        (Deferred(Reply(None, "4.4.1", "nobody there")), None),
        (Refused(Reply(550, "5.1.1", "unknown"), Fault.RECIPIENT), Outcome.BOUNCED),
        (Refused(Reply(550, "5.7.1", "blocked"), Fault.POLICY), Outcome.REFUSED),
    ],
)
def test_what_receivers_say_is_a_sign_of_how_the_address_stands(error: Deferred | Refused | None, sign: Outcome | None) -> None:
    assert warmup.outcome(error) == sign


# ----------------------------------------------------------------------------------------------------------- plans as shipped


@pytest.mark.parametrize("key", SHIPPED)
def test_a_shipped_plan_grows_and_says_where_it_is_from(key: str) -> None:
    plan = WarmupPlan.objects.get(key=key)
    plan.full_clean()
    caps = [plan.cap(day) or 0 for day in range(1, plan.length + 1)]
    assert plan.source and plan.as_of and caps == sorted(caps) and caps[0] <= 500
    assert plan.cap(plan.length + 1) is None


def test_a_plan_that_staff_edited_stays_and_others_follow_a_new_version() -> None:
    WarmupPlan.objects.filter(key="careful").update(caps="7")
    WarmupPlan.objects.filter(key="resend").delete()
    warmup.load()
    assert WarmupPlan.objects.get(key="careful").caps == "7"
    assert WarmupPlan.objects.filter(key="resend").exists()


@pytest.mark.parametrize("caps", ["", "many", "10\n0", "10\n-5", "1e3", "٣"])
def test_a_plan_of_anything_but_numbers_is_refused_at_its_field(plan: WarmupPlan, caps: str) -> None:
    plan.caps = caps
    with pytest.raises(ValidationError) as refusal:
        plan.full_clean()
    assert list(refusal.value.message_dict) == ["caps"]


# ----------------------------------------------------------------------------------------------------------------- deliveries


def warming(world: World, caps: str) -> None:
    plan = WarmupPlan.objects.create(key="ours", name="Ours", caps=caps)
    DedicatedIP.objects.filter(address="127.0.0.101").update(plan=plan)


def test_what_an_address_may_not_carry_today_leaves_from_a_warm_one(world: World) -> None:
    world.add_ip("127.0.0.102")
    warming(world, "3")
    server = world.server()
    world.domain()
    messages = queued(world, *(f"r{n}@example.test" for n in range(20)))
    engine.drain(world.relay, "transactional")
    assert corridor.states(*messages) == ["sent"] * 20
    sources = [mail.peer[0] for mail in server.mails]
    assert (sources.count("127.0.0.101"), sources.count("127.0.0.102")) == (3, 17)
    use = WarmupUse.objects.get()
    assert (use.taken, use.accepted, use.day) == (3, 3, 1)


def test_without_a_warm_one_the_rest_waits_for_the_next_day(world: World) -> None:
    warming(world, "5\n8")
    server = world.server()
    world.domain()
    messages = queued(world, *(f"r{n}@example.test" for n in range(20)))
    for _ in range(3):
        engine.drain(world.relay, "transactional")
    assert len(server.mails) == 5 and corridor.states(*messages).count("sent") == 5
    assert queue.due(world.relay) == []
    WarmupUse.objects.update(date=timezone.localdate(clock.now()) - DAY)
    Message.objects.filter(status="deferred").update(next_attempt_at=clock.now())
    for _ in range(3):
        engine.drain(world.relay, "transactional")
    assert len(server.mails) == 13


def test_a_mail_that_found_nobody_does_not_count(world: World) -> None:
    warming(world, "5")
    world.server()
    world.domain("dead.test", "mx.dead.test")
    world.names.add("mx.dead.test", "A", "127.0.0.3")
    queued(world, "a@dead.test")
    engine.drain(world.relay, "transactional")
    use = WarmupUse.objects.get()
    assert (use.taken, use.accepted, use.deferred) == (0, 0, 0)


def test_what_the_pool_may_not_carry_takes_the_routes_next_relay(world: World) -> None:
    warming(world, "5")
    server = world.server()
    world.domain()
    spare = Relay.objects.create(name="Spare", kind="memory")
    messages = queued(world, *(f"r{n}@example.test" for n in range(12)))
    RouteMember.objects.create(route=RouteMember.objects.get(relay=world.relay).route, relay=spare, position=2)
    engine.drain(spare, "transactional")
    assert corridor.states(*messages) == ["queued"] * 12
    for _ in range(2):
        engine.drain(world.relay, "transactional")
    Message.objects.filter(status="deferred").update(next_attempt_at=clock.now())
    engine.drain(spare, "transactional")
    assert corridor.states(*messages) == ["sent"] * 12
    assert len(server.mails) == 5


# ---------------------------------------------------------------------------------------------------------------------- admin


def test_staff_give_an_address_a_plan_and_see_its_days(admin_client: Client, ip: DedicatedIP, plan: WarmupPlan) -> None:
    url = reverse("admin:relays_dedicatedip_change", args=[ip.pk])
    given = {"pool": ip.pool_id, "address": ip.address, "ehlo_name": "mail1.example.com", "node": "", "plan": plan.pk}
    page = admin_client.post(url, {**given, "first_day": 4}).content.decode()
    assert "The plan has 3 days." in page
    admin_client.post(url, {**given, "first_day": 2})
    assert take(ip, 5) == 5
    days = admin_client.get(reverse("admin:relays_warmupuse_changelist")).content.decode()
    assert "2 of 3" in days and "5 of 20" in days


def test_a_plans_form_leaves_a_shipped_row_as_it_was_shipped(admin_client: Client) -> None:
    plan = WarmupPlan.objects.get(key="sendgrid")
    url = reverse("admin:relays_warmupplan_change", args=[plan.pk])
    form = admin_client.get(url).context["adminform"].form
    admin_client.post(url, {name: form[name].value() or "" for name in form.fields})
    after = WarmupPlan.objects.get(key="sendgrid")
    assert (after.caps, after.source, after.as_of) == (plan.caps, plan.source, plan.as_of)


def test_a_plan_that_an_address_follows_is_not_deleted(admin_client: Client, ip: DedicatedIP, plan: WarmupPlan) -> None:
    page = admin_client.post(reverse("admin:relays_warmupplan_delete", args=[plan.pk]), {"post": "yes"}).content.decode()
    assert "Give its addresses another plan" in page and WarmupPlan.objects.filter(pk=plan.pk).exists()
