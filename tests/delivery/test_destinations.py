"""Each destination gets what it takes, from real drains, and no other is the worse for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Sum

from mailhub.delivery import engine, queue
from mailhub.delivery.models import Attempt, Event, Lease, Message, Slot, Suppression
from mailhub.delivery.shelf import AHEAD
from mailhub.lib import clock
from mailhub.relays import destinations, shaping
from mailhub.relays.base import Deferred, Envelope, Fault, Refused, Reply
from mailhub.relays.models import Destination, Parking, Relay, ResponseRule, Route, RouteMember, Slowdown, Stream
from mailhub.relays.parking import BREAKS, FIRST_TRY
from mailhub.relays.providers import memory
from mailhub.relays.providers.memory import Memory, MemorySession
from mailhub.senders.models import Sender
from tests import smtp_server
from tests.delivery.world import books, hold, make_batch, make_relay, make_route, make_sender, numbers, post, postgresql_only
from tests.smtp_server import Silence, SMTPServer

Status = Message.Status
Answer = Callable[[Envelope], Awaitable[None]]


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    destinations.forget()


@pytest.fixture
def direct(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Relay:
    """Mail leaves from addresses of our own: the limits of destinations hold."""
    monkeypatch.setattr(Memory, "uses_pool", True)
    return relay


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Have every session of a memory relay await a function before it takes a mail."""

    def answering(answer: Answer) -> None:
        take = MemorySession.send

        async def send(self: MemorySession, envelope: Envelope) -> Reply:
            await answer(envelope)
            return await take(self, envelope)

        monkeypatch.setattr(MemorySession, "send", send)

    return answering


def people(domain: str, count: int) -> list[str]:
    return [f"taro{next(numbers)}@{domain}" for _ in range(count)]


def park(relay: Relay, destination: str, seconds: float = 600, **fields: object) -> Parking:
    now = clock.now()
    given = {"since": now, "until": now + timedelta(seconds=seconds), "allowance": FIRST_TRY, "reason": "Rest", **fields}
    return Parking.objects.create(relay=relay, destination_id=destination, **given)


def taken(relay: Relay) -> list[str]:
    """Domains of the mails that the relay took, in order."""
    return [envelope.rcpt_to.partition("@")[2] for envelope in memory.taken[relay.pk]]


def by_domain(*statuses: str) -> Counter[str]:
    return Counter(address.partition("@")[2] for address in Message.objects.filter(status__in=statuses).values_list("address", flat=True))


# ------------------------------------------------------------------------------------------------------------------------- parked


@pytest.mark.parametrize("stream", ["campaign", "transactional"])
def test_a_parked_destination_costs_the_others_nothing_and_its_mail_is_not_touched(relay: Relay, sender: Sender, stream: str) -> None:
    many, few = people("gmail.com", 60), people("docomo.ne.jp", 5) + people("tea.example", 5)
    make_batch(sender, *many, *few) if stream == "campaign" else post(sender, *many, *few)
    park(relay, "gmail")
    before = list(Message.objects.filter(destination="gmail").order_by("pk").values())
    work = "bulk" if stream == "campaign" else "transactional"
    assert engine.drain(relay, work) == 10
    assert Counter(taken(relay)) == {"docomo.ne.jp": 5, "tea.example": 5}
    assert list(Message.objects.filter(destination="gmail").order_by("pk").values()) == before
    # Nobody is woken for it before its time.
    assert queue.due(relay) == []
    assert engine.drain(relay, work) == 0
    Parking.objects.all().delete()
    assert queue.due(relay) == [work]
    assert engine.drain(relay, work) == 60
    books()


def test_only_the_senders_mail_waits_where_it_is_the_senders_fault(relay: Relay, sender: Sender) -> None:
    other = make_sender("news@coffee.example")
    for each in (sender, other):
        make_batch(each, *people("gmail.com", 3), *people("yahoo.com", 3))
        post(each, *people("gmail.com", 1))
    park(relay, "gmail", sender_domain="tea.example")
    engine.drain(relay)
    assert by_domain("queued") == {"gmail.com": 4}
    assert set(Message.objects.filter(status="queued").values_list("sender", flat=True)) == {sender.pk}


def test_its_mail_takes_the_routes_next_relay(relay: Relay, sender: Sender) -> None:
    successor = make_relay()
    for route in Route.objects.all():
        RouteMember.objects.create(route=route, relay=successor, position=2)
    make_batch(sender, *people("gmail.com", 4), *people("docomo.ne.jp", 4))
    park(relay, "gmail")
    assert queue.due(successor) == ["bulk"]
    engine.drain(relay)
    engine.drain(successor)
    assert set(taken(relay)) == {"docomo.ne.jp"} and set(taken(successor)) == {"gmail.com"}
    assert books() == {"sent": 8}


def test_after_the_rest_a_few_are_tried_and_more_with_each_success(relay: Relay, sender: Sender) -> None:
    make_batch(sender, *people("gmail.com", 100))
    park(relay, "gmail", -1)
    lease = hold(relay)
    assert len(queue.claim(lease, 500)) == FIRST_TRY
    assert queue.claim(lease, 500) == [] and queue.due(relay) == []
    queue.end_lease(lease)
    Parking.objects.update(until=clock.now())
    # A drain learns of its successes while it goes on.
    engine.drain(relay)
    assert not Parking.objects.filter(allowance=FIRST_TRY).exists()
    assert len(taken(relay)) >= FIRST_TRY


def test_a_change_of_the_rests_holds_at_the_next_claim(relay: Relay, sender: Sender) -> None:
    make_batch(sender, *people("gmail.com", 20))
    lease = hold(relay)
    assert len(queue.claim(lease, 5)) == 5
    parked = park(relay, "gmail")
    assert queue.claim(lease, 5) == []
    parked.delete()
    assert len(queue.claim(lease, 5)) == 5


# ------------------------------------------------------------------------------------------------------------------------- routes


def test_a_destination_goes_through_the_relay_that_names_it(relay: Relay, route: Route, sender: Sender) -> None:
    japan = make_relay("Japan")
    for each in Route.objects.all():
        RouteMember.objects.create(route=each, relay=japan).destinations.add("docomo", "au", "softbank")
    make_batch(sender, *people("docomo.ne.jp", 3), *people("gmail.com", 3))
    post(sender, *people("ezweb.ne.jp", 1), *people("tea.example", 1))
    assert engine.drain(japan, "bulk") == 4
    assert Counter(taken(japan)) == {"docomo.ne.jp": 3, "ezweb.ne.jp": 1}
    assert engine.drain(relay) == 4
    # When it is away the others take over, for mail that waits already too.
    make_batch(sender, *people("docomo.ne.jp", 2))
    assert queue.due(relay) == []
    japan.pause()
    assert queue.due(relay) == ["bulk"]
    assert engine.drain(relay) == 2


# ----------------------------------------------------------------------------------------------------------------- connections


def test_no_more_connections_go_to_a_destination_than_it_allows_and_nobody_else_waits_for_them(
    direct: Relay, sender: Sender, answering: Callable[[Answer], None]
) -> None:
    Relay.objects.update(max_connections=12)
    Destination.objects.filter(pk="docomo").update(connections=3, rate=None)
    used = most = others = 0
    others_are_through = asyncio.Event()

    async def answer(envelope: Envelope) -> None:
        nonlocal used, most, others
        if envelope.rcpt_to.endswith("@tea.example"):
            others += 1
            if others == 200:
                others_are_through.set()
            return
        used += 1
        most = max(most, used)
        # Were anybody held up by it, this would never come.
        await asyncio.wait_for(others_are_through.wait(), 60)
        used -= 1

    answering(answer)
    # It has the head of the line, by far.
    make_batch(sender, *people("docomo.ne.jp", 60), *people("tea.example", 200))
    engine.drain(direct, seconds=60)
    assert books() == {"sent": 260}
    # One of its three is kept for urgent mail.
    assert most == 2


def test_all_drains_together_keep_to_a_destinations_connections(direct: Relay, sender: Sender) -> None:
    Relay.objects.update(max_connections=20)
    one, two = queue.take_lease(direct, "bulk"), queue.take_lease(direct, "transactional")
    assert one and two
    # gmail allows 5, docomo 2.
    assert {key: queue.slots(one)[key] for key in ("gmail", "docomo")} == {"gmail": {"": 4}, "docomo": {"": 1}}
    assert {key: queue.slots(two)[key] for key in ("gmail", "docomo")} == {"gmail": {"": 1}, "docomo": {"": 1}}
    assert "other" not in queue.slots(one)
    # Where none is left nobody is woken, and a drain takes none.
    post(sender, *people("gmail.com", 1))
    assert queue.due(direct) == []
    Relay.objects.update(max_connections=30)
    three = queue.take_lease(direct, "transactional")
    assert three and queue.slots(three)["gmail"] == {"": 0}
    queue.end_lease(one)
    assert queue.due(direct) == ["transactional"]
    assert Slot.objects.filter(lease__in=[two, three]).exists() and not Slot.objects.filter(lease=one.pk).exists()


def test_a_relay_that_is_a_service_has_no_slots(relay: Relay) -> None:
    assert queue.slots(hold(relay)) == {}


def test_fewer_connections_where_a_reply_asked_for_them(relay: Relay, sender: Sender) -> None:
    rule = ResponseRule.objects.get(key="microsoft-connections")
    now = clock.now()
    Slowdown.objects.create(relay=relay, destination_id="microsoft", rule=rule, connections=1, since=now, until=now + timedelta(hours=1))
    assert queue.slots(hold(relay)) == {"microsoft": {"": 1}}


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_slots_are_shared_by_drains_that_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "uses_pool", True)
    relay = make_relay(max_connections=100)
    barrier = threading.Barrier(8)

    def work(name: str) -> None:
        barrier.wait()
        queue.take_lease(relay, "transactional" if name == "urgent" else "bulk")
        connection.close()

    workers = [threading.Thread(target=work, args=[name]) for name in ["urgent", "bulk"] * 4]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Lease.objects.count() > 1
    sums = dict(Slot.objects.values_list("destination").annotate(Sum("connections")))
    assert sums["gmail"] <= 5 and sums["docomo"] <= 2 and sums["comcast"] <= 25


def test_what_is_claimed_ahead_of_few_connections_is_little(direct: Relay, sender: Sender) -> None:
    Destination.objects.filter(pk="docomo").update(rate=None)
    make_batch(sender, *people("docomo.ne.jp", 200))
    held: list[int] = []
    run = engine.Drain.pass_on

    def pass_on(self: engine.Drain, *args: object) -> None:
        held.append(len(self.held))
        run(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Drain, "pass_on", pass_on)
        engine.drain(direct, seconds=1)
    assert 0 < max(held) <= AHEAD


# --------------------------------------------------------------------------------------------------------------------------- rates


def test_a_rate_is_kept_to_and_the_others_go_at_once(direct: Relay, sender: Sender) -> None:
    Destination.objects.filter(pk="docomo").update(rate=20, per="second", connections=None)
    make_batch(sender, *people("docomo.ne.jp", 300), *people("tea.example", 100))
    began = time.monotonic()
    engine.drain(direct, seconds=2)
    while Counter(taken(direct))["tea.example"] < 100 or Counter(taken(direct))["docomo.ne.jp"] < 21:
        engine.drain(direct, seconds=1)
    passed = time.monotonic() - began
    assert Counter(taken(direct))["docomo.ne.jp"] <= 21 + 20 * passed
    # What has no room now is not claimed, so nothing of it is handed back and counted again.
    assert Message.objects.filter(status="queued", attempts=0).count() == 300 - Counter(taken(direct))["docomo.ne.jp"]


def test_a_drain_does_not_wait_for_a_slow_rate(relay: Relay, sender: Sender) -> None:
    now = clock.now()
    rule = ResponseRule.objects.get(key="any-deferred")
    Slowdown.objects.create(relay=relay, destination_id="gmail", rule=rule, rate=1, per="hour", since=now, until=now + timedelta(hours=5))
    make_batch(sender, *people("gmail.com", 20))
    assert engine.drain(relay, seconds=600) == 2
    assert queue.due(relay) == []
    assert engine.drain(relay) == 0


# ------------------------------------------------------------------------------------------------------------------- what is heard


def test_a_storm_of_temporary_refusals_parks_the_destination_and_burns_no_mail(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None]
) -> None:
    async def answer(envelope: Envelope) -> None:
        if envelope.rcpt_to.endswith("@gmail.com"):
            raise Deferred(Reply(451, "4.3.2", "System not accepting network messages"))

    answering(answer)
    make_batch(sender, *people("gmail.com", 400), *people("tea.example", 100))
    engine.drain(relay)
    assert Counter(taken(relay)) == {"tea.example": 100}
    row = Parking.objects.get()
    assert (row.destination_id, row.reply) == ("gmail", "451 4.3.2 System not accepting network messages")
    # Not all was tried that was claimed: the rest went back as if nothing had been.
    tried = Attempt.objects.filter(outcome="deferred").count()
    assert BREAKS <= tried < BREAKS + 10
    assert by_domain("queued") == {"gmail.com": 400 - tried}
    assert set(Message.objects.filter(status="queued").values_list("attempts", flat=True)) == {0}
    assert queue.due(relay) == []
    relay.refresh_from_db()
    assert relay.resting_until is None


def test_after_a_storm_mail_flows_again_by_and_by(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    storm = True

    async def answer(envelope: Envelope) -> None:
        if storm:
            raise Deferred(Reply(451, "4.3.2", "No"))

    answering(answer)
    make_batch(sender, *people("gmail.com", 300))
    engine.drain(relay)
    assert Parking.objects.exists() and books()["sent"] == 0
    storm = False
    rounds = 0
    while Message.objects.exclude(status="sent").exists():
        Parking.objects.filter(probing=False).update(until=clock.now())
        Message.objects.filter(status="deferred").update(next_attempt_at=clock.now())
        if not engine.drain(relay, seconds=0.5):
            # On a slow machine those that were to be tried may have been handed back as they were.
            Parking.objects.update(until=clock.now())
        rounds += 1
        # How many it takes is the machine's affair; that it ends is ours.
        assert rounds < 600
    assert books() == {"sent": 300}


def test_what_the_sender_can_mend_waits_and_suppresses_nobody(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    unsigned = Reply(550, "5.7.26", "This mail has been blocked because the sender is unauthenticated.")

    async def answer(envelope: Envelope) -> None:
        if envelope.rcpt_to.endswith("@gmail.com") and envelope.mail_from.endswith("@tea.example"):
            raise Refused(unsigned, Fault.SENDER)

    answering(answer)
    other = make_sender("news@coffee.example")
    for each in (sender, other):
        make_batch(each, *people("gmail.com", 100), *people("yahoo.com", 20))
    engine.drain(relay)
    row = Parking.objects.get()
    assert (row.destination_id, row.sender_domain, row.reply) == ("gmail", "tea.example", str(unsigned))
    assert by_domain("sent") == {"gmail.com": 100, "yahoo.com": 40}
    assert by_domain("queued", "deferred") == {"gmail.com": 100}
    assert not Suppression.objects.exists() and not Event.objects.filter(type__in=["bounced", "failed"]).exists()
    late = Message.objects.filter(status="deferred").values_list("next_attempt_at", flat=True)
    assert min(late) > clock.now() + timedelta(minutes=50)


def test_a_recipient_that_does_not_exist_bounces_whatever_the_rule(relay: Relay, sender: Sender) -> None:
    ResponseRule.objects.filter(key="docomo-unknown").update(keeps_mail=True)
    make_batch(sender, *people("docomo.ne.jp", 1))
    memory.script[relay.pk].append(Refused(Reply(550, "5.1.1", "Unknown user"), Fault.RECIPIENT))
    engine.drain(relay)
    assert books() == {"bounced": 1}


def test_what_is_heard_slows_a_destination_down_at_the_next_claim(relay: Relay, sender: Sender) -> None:
    make_batch(sender, *people("gmail.com", 100))
    unusual = Deferred(Reply(421, "4.7.28", "Gmail has detected an unusual rate of unsolicited mail"))
    memory.script[relay.pk].extend([unusual, unusual])
    Slowdown.objects.all().delete()
    lease = hold(relay)
    assert len(queue.claim(lease, 10)) == 10
    queue.end_lease(lease)
    while not Slowdown.objects.exists():
        engine.drain(relay, seconds=0.5)
    assert Slowdown.objects.get().destination_id == "gmail"
    assert shaping.Openings(relay, clock.now()).terms["gmail"].spacing == timedelta(seconds=6)


def test_a_rule_that_fails_costs_no_outcome(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mailhub.relays.parking.park", fail)
    make_batch(sender, *people("gmail.com", 60))
    memory.script[relay.pk].extend([Deferred(Reply(451, "4.3.2", "No")) for _ in range(BREAKS)])
    engine.drain(relay)
    counts = books()
    # Nothing is left in between, although nobody learns that the destination is to be left alone.
    assert counts["deferred"] == BREAKS and counts.keys() <= {"deferred", "sent", "queued"}
    assert Attempt.objects.count() == counts["deferred"] + counts["sent"]


# ------------------------------------------------------------------------------------------------------- what was learnt meanwhile


def test_mail_of_a_domain_that_was_found_to_be_gmails_goes_gmails_way(direct: Relay, sender: Sender) -> None:
    make_batch(sender, *people("school.example", 20), *people("tea.example", 5))
    assert set(Message.objects.values_list("destination", flat=True)) == {"other"}
    destinations.learn({"school.example": "gmail"})
    park(direct, "gmail")
    engine.drain(direct)
    assert Counter(taken(direct)) == {"tea.example": 5}
    assert Message.objects.filter(destination="gmail", status="queued", attempts=0).count() == 20
    assert queue.due(direct) == []
    books()


# ---------------------------------------------------------------------------------------------------------------- over real sockets


@pytest.fixture
def server() -> Iterator[SMTPServer]:
    with SMTPServer() as server:
        yield server


def over_smtp(server: SMTPServer, **fields: object) -> Relay:
    return make_relay(kind="smtp", options={"host": server.host, "port": server.port, "security": "none", "patience": 5}, **fields)


def test_a_destination_that_is_refused_for_now_leaves_the_server_to_the_others(server: SMTPServer, sender: Sender) -> None:
    relay = over_smtp(server)
    make_batch(sender, *people("gmail.com", 200), *people("yahoo.com", 50), route=make_route(relay))
    server.answers("rcpt", smtp_server.Reply("451 4.3.2 Not now"), only="@gmail.com")
    engine.drain(relay)
    assert Parking.objects.get().destination_id == "gmail"
    assert Counter(mail.rcpt_to[0].partition("@")[2] for mail in server.mails) == {"yahoo.com": 50}
    said = [command for command in server.commands if "@gmail.com" in command]
    # No more than were on their way.
    assert BREAKS <= len(said) < BREAKS + 10
    # The server is well again: first a few, and all of them soon.
    server.behave()
    Parking.objects.update(until=clock.now())
    Message.objects.update(next_attempt_at=clock.now())
    engine.drain(relay)
    assert Parking.objects.count() <= 1
    assert {mail.rcpt_to[0].partition("@")[2] for mail in server.mails} == {"yahoo.com", "gmail.com"}


@pytest.mark.django_db(transaction=True)
def test_a_dead_relay_does_not_slow_the_others() -> None:
    """It listens and says nothing, which is worse than refusing: its drain hangs while the others' go on."""
    with SMTPServer() as dead, SMTPServer() as living:
        dead.answers("connect", Silence())
        hung, well = over_smtp(dead), over_smtp(living)
        sender = make_sender()
        make_batch(sender, *people("tea.example", 50), route=make_route(hung))
        make_batch(sender, *people("tea.example", 50), route=make_route(well))

        def hang() -> None:
            engine.drain(hung)
            connection.close()

        thread = threading.Thread(target=hang)
        thread.start()
        while not dead.connections:
            time.sleep(0.01)
        assert engine.drain(well) == 50
        assert thread.is_alive()
        assert len(living.mails) == 50
        thread.join()
    hung.refresh_from_db()
    assert hung.resting_until and hung.resting_until > clock.now()
    assert books() == {"sent": 50, "queued": 50}


@pytest.mark.django_db(transaction=True)
def test_the_mail_of_a_dead_relay_takes_the_next_of_its_route() -> None:
    with SMTPServer() as dead, SMTPServer() as living:
        dead.answers("connect", smtp_server.Reply("421 4.3.2 Closed", close=True))
        first, second = over_smtp(dead), over_smtp(living)
        route = make_route(first, default_for=Stream.CAMPAIGN)
        RouteMember.objects.create(route=route, relay=second, position=2)
        make_batch(make_sender(), *people("tea.example", 20))
        engine.drain(first)
        assert queue.due(second) == ["bulk"]
        engine.drain(second)
        assert len(living.mails) == 20
    assert books() == {"sent": 20}


def test_a_quota_reply_rests_the_relay_with_its_reason_and_suppresses_nobody(server: SMTPServer, sender: Sender) -> None:
    relay = over_smtp(server)
    make_batch(sender, *people("gmail.com", 5), route=make_route(relay))
    server.answers("mail", smtp_server.Reply("550 5.4.5 Daily user sending limit exceeded."))
    engine.drain(relay)
    relay.refresh_from_db()
    assert "Daily user sending limit exceeded." in relay.rest_reason
    assert books() == {"queued": 5}
    assert not Suppression.objects.exists() and not Parking.objects.exists()
    assert set(Message.objects.values_list("attempts", flat=True)) == {0}
