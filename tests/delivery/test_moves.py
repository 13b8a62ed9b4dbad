"""A sender moves from one relay to another: what waits follows, and nothing is lost or sent twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mailhub.delivery import carried, engine, moves, queue
from mailhub.delivery.carried import Load
from mailhub.delivery.models import Attempt, CarriedUpTo, Lease, Message, Move
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.relays.providers import memory
from mailhub.senders.models import Sender
from tests.delivery.world import (
    LATER,
    NOBODY,
    Status,
    books,
    hold,
    make_batch,
    make_relay,
    make_route,
    make_sender,
    outcome,
    post,
    postgresql_only,
)
from tests.installation import until

pytestmark = pytest.mark.django_db


@pytest.fixture
def new(db: None) -> Relay:
    return make_relay("New")


def claimed(relay: Relay, limit: int = 1000) -> list[Message]:
    return queue.claim(Lease.objects.filter(relay=relay).first() or hold(relay), limit)


def weights(route: Route | None) -> dict[str, int]:
    assert route
    return dict(route.members.order_by("position", "pk").values_list("relay__name", "weight"))


def test_all_at_once_takes_what_waits_along_and_leaves_others_alone(relay: Relay, new: Relay, sender: Sender) -> None:
    stranger = make_sender()
    single, batch = post(sender, 3), make_batch(sender, 5)
    pinned = make_batch(sender, 2, route=Route.objects.get(default_for=Stream.CAMPAIGN))
    odd = post(stranger, 2)
    with pytest.raises(moves.NoWay, match="One kind at a time|one kind at a time"):
        moves.start(sender, "", relay, new, 100)
    both = [moves.start(sender, stream, relay, new, 100) for stream in Stream]
    assert [move.status for move in both] == [Move.Status.DONE] * 2
    assert set(claimed(new)) == {*single, *batch.messages.all(), *pinned.messages.all()}
    assert claimed(relay) == odd
    later = post(sender, 1)
    assert claimed(new) == later


def test_a_share_grows_every_day_and_never_twice(relay: Relay, new: Relay, sender: Sender) -> None:
    move = moves.start(sender, Stream.CAMPAIGN, relay, new, 40)
    assert weights(move.route) == {"Dry run": 3, "New": 2}
    assert moves.advance() == 0
    for expected in (80, 100):
        Move.objects.update(next_at=clock.now())
        assert moves.advance() == 1 and moves.advance() == 0
        move.refresh_from_db()
        assert move.share == expected
    assert move.status == Move.Status.DONE and weights(move.route) == {"New": 1}
    with pytest.raises(WrongState):
        moves.step(move)


def test_while_the_new_relay_takes_no_mail_its_share_stays(relay: Relay, new: Relay, sender: Sender) -> None:
    move = moves.start(sender, Stream.CAMPAIGN, relay, new, 10)
    Move.objects.update(next_at=clock.now())
    new.pause()
    assert moves.advance() == 0
    new.resume()
    assert moves.advance() == 1
    move.refresh_from_db()
    move.hold()
    Move.objects.update(next_at=clock.now())
    assert moves.advance() == 0
    move.go_on()
    assert moves.advance() == 1


def test_the_other_relays_of_the_route_keep_their_places_and_shares(new: Relay) -> None:
    old, beside, behind = make_relay("Old"), make_relay("Beside"), make_relay("Behind")
    route = make_route()
    for relay, position, weight in ((old, 1, 3), (beside, 1, 6), (behind, 2, 5), (new, 2, 1)):
        RouteMember.objects.create(route=route, relay=relay, position=position, weight=weight)
    sender = make_sender(campaign_route=route, transactional_route=route)
    move = moves.start(sender, "", old, new, 25)
    assert weights(move.route) == {"Old": 3, "New": 1, "Beside": 8, "Behind": 5}
    assert weights(route) == {"Old": 3, "Beside": 6, "Behind": 5, "New": 1}
    with pytest.raises(moves.NoWay, match="under way"):
        moves.start(sender, "", old, behind, 25)
    moves.turn_back(move)
    sender.refresh_from_db()
    assert sender.campaign_route == sender.transactional_route == route


def test_turned_back_the_sender_follows_the_default_again(relay: Relay, new: Relay, sender: Sender) -> None:
    move = moves.start(sender, Stream.TRANSACTIONAL, relay, new, 100)
    waiting = post(sender, 3)
    moves.turn_back(move)
    sender.refresh_from_db()
    assert sender.transactional_route is None
    assert claimed(new) == [] and set(claimed(relay)) == set(waiting)
    with pytest.raises(WrongState):
        moves.turn_back(move)


def test_what_cannot_be_moved_is_said(relay: Relay, new: Relay, sender: Sender) -> None:
    with pytest.raises(moves.NoWay, match="different relays"):
        moves.start(sender, Stream.CAMPAIGN, relay, relay, 10)
    with pytest.raises(moves.NoWay, match="does not leave"):
        moves.start(sender, Stream.CAMPAIGN, new, relay, 10)
    member = RouteMember.objects.create(route=Route.objects.get(default_for=Stream.CAMPAIGN), relay=new, stream=Stream.CAMPAIGN)
    with pytest.raises(moves.NoWay, match="condition of its own"):
        moves.start(sender, Stream.CAMPAIGN, relay, new, 10)
    member.delete()
    assert not Move.objects.exists()


def test_nothing_is_lost_or_doubled_while_drains_hold_mail_and_the_share_changes(relay: Relay, new: Relay, sender: Sender) -> None:
    chance = random.Random(7)
    batch = make_batch(sender, 300)
    post(sender, 60)
    leases = {each: hold(each) for each in (relay, new)}
    held: dict[Relay, list[Message]] = {relay: [], new: []}
    left: Counter[int] = Counter()
    deeds = iter(
        [
            lambda: moves.start(sender, Stream.CAMPAIGN, relay, new, 20),
            lambda: moves.start(sender, Stream.TRANSACTIONAL, relay, new, 50),
            lambda: moves.step(Move.objects.get(stream=Stream.CAMPAIGN)),
            lambda: moves.step(Move.objects.get(stream=Stream.TRANSACTIONAL), 100),
            lambda: moves.turn_back(Move.objects.get(stream=Stream.CAMPAIGN)),
            lambda: moves.turn_back(Move.objects.get(stream=Stream.TRANSACTIONAL)),
        ]
    )
    while Message.objects.exclude(status=Status.SENT).exists():
        for each in (relay, new):
            # What a drain holds when the share changes still goes its old way.
            held[each] += queue.claim(leases[each], chance.randint(1, 40))
        if deed := next(deeds, None):
            deed()
        for each in (relay, new):
            gone = queue.mark(leases[each], held[each])
            held[each] = []
            left.update(message.pk for message in gone)
            queue.settle(leases[each], [outcome(message) for message in gone])
    assert len(left) == 360 and set(left.values()) == {1}
    assert Attempt.objects.count() == 360
    batch.refresh_from_db()
    assert batch.sent == 300 and books() == {Status.SENT: 360}
    assert {attempt["relay"] for attempt in Attempt.objects.values("relay").distinct()} == {relay.pk, new.pk}


@pytest.mark.django_db(transaction=True)
def test_drains_follow_a_move(relay: Relay, new: Relay, sender: Sender) -> None:
    make_batch(sender, 200)
    move = moves.start(sender, Stream.CAMPAIGN, relay, new, 50)
    engine.drain(relay, "bulk")
    engine.drain(new, "bulk")
    carried_now = dict(moves.report(move))
    assert sum(load.accepted for load in carried_now.values()) == 200
    assert all(60 <= load.accepted <= 140 for load in carried_now.values())


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_or_doubled_while_drains_run(relay: Relay, new: Relay, sender: Sender) -> None:
    make_batch(sender, 600)
    post(sender, 100)
    over = threading.Event()

    def drain(each: Relay) -> None:
        try:
            while not over.wait(0.05):
                engine.drain(each, "bulk")
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        drains = [threads.submit(drain, each) for each in (relay, new)]
        try:
            campaigns, single = (moves.start(sender, stream, relay, new, 20) for stream in (Stream.CAMPAIGN, Stream.TRANSACTIONAL))
            moves.step(campaigns)
            moves.step(single, 100)
            moves.turn_back(campaigns)
            until(lambda: not Message.objects.exclude(status=Status.SENT).exists())
        finally:
            over.set()
    for each in drains:
        each.result()
    took = Counter(envelope.rcpt_to for mails in memory.taken.values() for envelope in mails)
    assert len(took) == 700 and set(took.values()) == {1}
    assert books() == {Status.SENT: 700}


def test_every_verb_from_every_state(relay: Relay, new: Relay) -> None:
    verbs = {"held": Move.hold, "running": Move.go_on, "done": lambda move: moves.step(move, 100), "back": moves.turn_back}
    seen = set()
    for source in Move.Status.values:
        for target, verb in verbs.items():
            move = moves.start(make_sender(), Stream.CAMPAIGN, relay, new, 10)
            Move.objects.filter(pk=move.pk).update(status=source)
            with suppress(WrongState):
                verb(Move.objects.get(pk=move.pk))
            move.refresh_from_db()
            if move.status != source:
                assert move.status == target
                seen.add((source, target))
    assert seen == {(str(source), str(target)) for source, targets in Move.MOVES.items() for target in targets}


# --------------------------------------------------------------------------------------------------------------------- report


def hold_of(relay: Relay) -> Lease:
    return Lease.objects.filter(relay=relay).first() or hold(relay)


def test_the_report_tells_what_each_carried_since_the_start(relay: Relay, new: Relay, sender: Sender) -> None:
    before = post(sender, 2)
    assert claimed(relay) == before
    queue.settle(hold_of(relay), [outcome(message) for message in before])
    move = moves.start(sender, Stream.TRANSACTIONAL, relay, new, 50)
    mails = post(sender, 40)
    one, other = claimed(relay), claimed(new)
    assert {*one, *other} == set(mails)
    queue.settle(hold_of(relay), [outcome(message) for message in one])
    later = clock.now() + timedelta(hours=1)
    fates = [(Status.BOUNCED, NOBODY), (Status.DEFERRED, LATER), *[(Status.SENT, None)] * len(other)]
    queue.settle(
        hold_of(new),
        [
            outcome(message, status, **({"reply": reply} if reply else {}), next_attempt_at=later if status == Status.DEFERRED else None)
            for message, (status, reply) in zip(other, fates, strict=False)
        ],
    )
    expected = {relay: Load(accepted=len(one)), new: Load(accepted=len(other) - 2, deferred=1, bounced=1)}
    assert dict(moves.report(move)) == expected
    # The same once they are counted, and however often that is done.
    count_all()
    assert CarriedUpTo.objects.get().read >= Attempt.objects.order_by("pk").last().pk  # type: ignore[union-attr]
    assert dict(moves.report(move)) == expected
    count_all()
    assert dict(moves.report(move)) == expected
    month = timezone.localtime().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert carried.months([month])[month, sender.pk, relay.pk].accepted == len(one) + 2


def count_all() -> None:
    """As if minutes had passed between the runs of the task."""
    for _round in range(2):
        carried.count()
        CarriedUpTo.objects.update(seen_at=timezone.now() - timedelta(minutes=5))
        carried.count()


# ---------------------------------------------------------------------------------------------------------------------- pages


def test_staff_move_a_sender_and_see_both_relays(admin_client: Client, relay: Relay, new: Relay, sender: Sender) -> None:
    make_batch(sender, 4)
    url = reverse("admin:delivery_move_start")
    given = {"sender": sender.pk, "stream": "campaign", "old": relay.pk, "new": new.pk, "step": 10}
    asked = admin_client.post(url, given).content.decode()
    assert "10 days" in asked and "Begin the move" in asked and not Move.objects.exists()
    page = admin_client.post(url, {**given, "confirmed": "1"}, follow=True).content.decode()
    move = Move.objects.get()
    assert move.share == 10 and "10 % go by “New”" in page and "Dry run" in page
    for deed, expected in (("hold", "held"), ("go_on", "running"), ("step", "running"), ("finish", "done")):
        admin_client.post(reverse(f"admin:delivery_move_{deed}", args=[move.pk]))
        move.refresh_from_db()
        assert move.status == expected
    assert move.share == 100
    back = reverse("admin:delivery_move_back", args=[move.pk])
    assert "4 mails that wait follow" in admin_client.get(back).content.decode()
    admin_client.post(back)
    move.refresh_from_db()
    assert move.status == Move.Status.BACK
    assert "by now" in admin_client.post(back, follow=True).content.decode()


def test_the_pace_is_changed_and_a_wrong_one_is_not(admin_client: Client, relay: Relay, new: Relay, sender: Sender) -> None:
    move = moves.start(sender, Stream.CAMPAIGN, relay, new, 10)
    for step, expected in (("25", 25), ("0", 25), ("x", 25)):
        admin_client.post(reverse("admin:delivery_move_pace", args=[move.pk]), {"step": step})
        move.refresh_from_db()
        assert move.step == expected


def test_the_routes_page_says_who_uses_what_and_what_is_left(admin_client: Client, relay: Relay, sender: Sender) -> None:
    relay.quotas.create(limit=500, period="day")
    page = admin_client.get(reverse("admin:delivery_move_routes")).content.decode()
    for said in (sender.email, "Dry run", "500 in any day", "100 %", "It takes mail."):
        assert said in page
    Route.objects.update(default_for=None)
    assert "No mail goes anywhere yet" in admin_client.get(reverse("admin:delivery_move_routes")).content.decode()


def test_the_simulator_answers_on_its_page(admin_client: Client, relay: Relay, sender: Sender) -> None:
    url = reverse("admin:delivery_move_simulate")
    assert "Find out" in admin_client.get(url).content.decode()
    page = admin_client.get(url, {"sender": sender.pk, "stream": "campaign", "to": "taro@example.net"}).content.decode()
    assert "it would leave" in page and "Dry run" in page
    assert "errorlist" in admin_client.get(url, {"sender": sender.pk, "stream": "campaign", "to": "nobody"}).content.decode()
