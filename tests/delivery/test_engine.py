from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection, connections

from mailhub.delivery import engine, prepare, queue, tasks, workers
from mailhub.delivery.models import Attempt, Content, Event, Lease, Message
from mailhub.lib import clock
from mailhub.lib.tasks import Queue
from mailhub.relays.base import Deferred, Envelope, Fault, OutcomeUnknown, Refused, RelayDown, Reply, SendError
from mailhub.relays.models import Quota, Relay, Route, RouteMember, Stream
from mailhub.relays.providers import memory
from mailhub.relays.providers.memory import Memory, MemorySession
from mailhub.relays.routing import Choice
from mailhub.senders.models import Sender
from tests.delivery.world import (
    LATER,
    NOBODY,
    books,
    expire,
    make_batch,
    make_content,
    make_relay,
    marked,
    post,
    postgresql_only,
    states,
)
from tests.installation import LONG

Status = Message.Status
Asked = list[tuple[str, tuple[int, ...], str]]
Capture = Callable[..., object]
DOWN = RelayDown(Reply(421, "4.3.2", "Closing"), rest=timedelta(seconds=40))
LOST = OutcomeUnknown(Reply(None, "", "the connection ended before the reply"))

Answer = Callable[[Envelope], Awaitable[None]]


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


def taken(relay: Relay) -> list[int]:
    """The messages that the relay took, by key, in order."""
    return [envelope.message for envelope in memory.taken[relay.pk]]


def script(relay: Relay, *answers: Reply | Exception) -> None:
    memory.script[relay.pk].extend(answers)


# --------------------------------------------------------------------------------------------------------------- the straight road


def test_a_drain_hands_over_all_that_is_due(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 60)
    single = post(sender, 3, data={"name": "Taro"})
    assert engine.drain(relay) == 63
    assert books() == {"sent": 63}
    assert sorted(taken(relay)) == sorted(Message.objects.values_list("pk", flat=True))
    assert Attempt.objects.count() == Event.objects.filter(type="sent").count() == 63
    batch.refresh_from_db()
    assert (batch.status, batch.sent) == ("done", 60)
    assert not Lease.objects.exists()
    envelope = next(envelope for envelope in memory.taken[relay.pk] if envelope.message == single[0].pk)
    assert (envelope.mail_from, envelope.rcpt_to) == (sender.email, single[0].address)
    assert b"Dear Taro, it is ready." in envelope.data
    assert f"Message-ID: <{single[0].message_id}>".encode() in envelope.data


def test_a_drain_with_nothing_to_do_takes_no_connection(relay: Relay, sender: Sender) -> None:
    assert engine.drain(relay) == engine.drain(relay, "transactional") == 0
    post(sender, 1)
    relay.pause()
    assert engine.drain(relay, "transactional") == 0
    assert taken(relay) == []


def test_a_drain_ends_at_once_when_others_use_all_connections(relay: Relay, sender: Sender) -> None:
    post(sender, 1)
    queue.take_lease(relay, "bulk")
    Lease.objects.update(connections=relay.max_connections)
    assert engine.drain(relay, "transactional") == 0
    assert books() == {"queued": 1}


def test_each_queue_has_its_own_drains(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 3)
    post(sender, 2)
    assert engine.drain(relay, "transactional") == 2
    assert books() == {"sent": 2, "queued": 3}
    post(sender, 1)
    # A drain of the bulk queue takes urgent mail along, first.
    assert engine.drain(relay, "bulk") == 4
    assert books() == {"sent": 6}


def test_urgent_mail_overtakes_what_a_drain_has_made_already(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    Relay.objects.update(max_connections=1)
    make_batch(sender, 150)
    urgent: list[Message] = []

    def waits() -> bool:
        return Message.objects.filter(pk=urgent[0].pk, status="queued").exists()

    async def answer(envelope: Envelope) -> None:
        if not urgent:
            urgent.extend(await engine.in_database(post, sender, 1))
        # However quick the relay is beside the database.
        while len(taken(relay)) == 30 and await engine.in_database(waits):
            await asyncio.sleep(0.01)

    answering(answer)
    engine.drain(relay, seconds=LONG)
    assert books() == {"sent": 151}
    assert taken(relay).index(urgent[0].pk) < 100


def test_no_more_connections_are_used_than_the_relay_allows(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    Relay.objects.update(max_connections=4)
    make_batch(sender, 40)
    most = used = 0

    async def opened(self: Memory) -> Session:
        return Session(self.relay)

    class Session(MemorySession):
        async def send(self, envelope: Envelope) -> Reply:
            nonlocal most, used
            used += 1
            most = max(most, used)
            await asyncio.sleep(0.005)
            used -= 1
            return await super().send(envelope)

    monkeypatch.setattr(Memory, "open", opened)
    engine.drain(relay)
    assert books() == {"sent": 40}
    assert most == 3


def test_a_single_mail_needs_a_single_connection(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    opening = Memory.open

    async def counted(self: Memory) -> MemorySession:
        nonlocal opened
        opened += 1
        await asyncio.sleep(0.05)
        return await opening(self)

    monkeypatch.setattr(Memory, "open", counted)
    post(sender, 1)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 1}
    assert opened == 1


def test_a_spent_connection_is_replaced(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    Relay.objects.update(max_connections=1)
    make_batch(sender, 7)
    opened: list[Session] = []

    class Session(MemorySession):
        count = 0
        closed = False

        async def send(self, envelope: Envelope) -> Reply:
            assert not self.spent and not self.closed
            self.count += 1
            self.spent = self.count == 3
            return await super().send(envelope)

        async def close(self) -> None:
            assert not self.closed
            self.closed = True

    async def open_(self: Memory) -> Session:
        opened.append(Session(self.relay))
        return opened[-1]

    monkeypatch.setattr(Memory, "open", open_)
    engine.drain(relay)
    assert books() == {"sent": 7}
    assert [session.count for session in opened] == [3, 3, 1]
    assert all(session.closed for session in opened)


def test_a_drain_ends_with_its_time_and_hands_the_rest_back(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    batch = make_batch(sender, 200)

    async def answer(envelope: Envelope) -> None:
        await asyncio.sleep(0.15)

    answering(answer)
    with django_capture_on_commit_callbacks(execute=True):
        settled = engine.drain(relay, seconds=1)
    assert 0 < settled == len(taken(relay)) < 200
    assert books() == {"sent": settled, "queued": 200 - settled}
    assert set(batch.messages.filter(status="queued").values_list("attempts", "lost_leases")) == {(0, 0)}
    assert asked == [("mailhub.delivery.tasks.drain", (relay.pk,), "bulk")]


# ------------------------------------------------------------------------------------------------------------------- decisions


@pytest.mark.parametrize(
    ("answer", "state", "attempt"),
    [
        (Refused(NOBODY, Fault.RECIPIENT), "bounced", "refused"),
        (Refused(Reply(554, "5.7.1", "Blocked"), Fault.SENDER), "failed", "refused"),
        (Refused(Reply(554, "5.6.0", "Bad"), Fault.CONTENT), "failed", "refused"),
        (Refused(Reply(554, "5.7.1", "No"), Fault.POLICY), "failed", "refused"),
        (Deferred(LATER), "deferred", "deferred"),
    ],
)
@pytest.mark.parametrize("stream", ["transactional", "campaign"])
def test_each_answer_has_its_consequence(relay: Relay, sender: Sender, stream: str, answer: SendError, state: str, attempt: str) -> None:
    if stream == "transactional":
        post(sender, 1)
    else:
        make_batch(sender, 1)
    script(relay, answer)
    engine.drain(relay, queue_of(stream))
    assert books() == {state: 1}
    assert Attempt.objects.get().outcome == attempt
    assert Message.objects.get().reply == str(answer.reply)
    assert taken(relay) == []
    relay.refresh_from_db()
    assert relay.resting_until is None


@pytest.mark.parametrize("answer", [None, Deferred(LATER)])
def test_an_attempt_says_by_which_route_and_why_its_relay_was_chosen(relay: Relay, sender: Sender, answer: SendError | None) -> None:
    post(sender, 1)
    if answer:
        script(relay, answer)
    engine.drain(relay, "transactional")
    found = Attempt.objects.get()
    assert (found.route_key, found.choice, found.percent) == (relay.routes.get(default_for="transactional").pk, Choice.ONLY, 100)


@pytest.mark.parametrize("answer", [LOST, RuntimeError("a bug of the provider")])
def test_a_campaigns_mail_with_an_unknown_outcome_is_not_sent_again(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], answer: Exception
) -> None:
    answering(failing(answer))
    batch = make_batch(sender, 2)
    engine.drain(relay)
    assert books() == {"unknown": 2}
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {"unknown"}
    batch.refresh_from_db()
    assert batch.status == "done"
    assert engine.drain(relay) == 0


@pytest.mark.parametrize("answer", [LOST, RuntimeError("a bug of the provider")])
def test_transactional_mail_with_an_unknown_outcome_is_sent_once_more(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], answer: Exception
) -> None:
    answering(failing(answer))
    (message,) = post(sender, 1)
    engine.drain(relay, "transactional")
    message.refresh_from_db()
    assert (message.status, message.repeated) == ("deferred", True)
    assert message.next_attempt_at > clock.now() + queue.REPEAT_AFTER - timedelta(seconds=10)
    Message.objects.update(next_attempt_at=clock.now())
    engine.drain(relay, "transactional")
    assert books() == {"unknown": 1}
    assert [event.type for event in message.events.order_by("pk")] == ["deferred", "unknown"]
    Message.objects.update(next_attempt_at=clock.now())
    assert engine.drain(relay, "transactional") == 0


def failing(error: Exception) -> Answer:
    async def answer(envelope: Envelope) -> None:
        raise error

    return answer


def queue_of(stream: str) -> Queue:
    return "transactional" if stream == "transactional" else "bulk"


def test_one_bad_mail_costs_the_others_nothing(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    batch = make_batch(sender, 30)
    victim = batch.messages.order_by("pk")[5]

    async def answer(envelope: Envelope) -> None:
        if envelope.message == victim.pk:
            raise RuntimeError("a bug of the provider")

    answering(answer)
    engine.drain(relay)
    assert books() == {"sent": 29, "unknown": 1}
    assert states(victim) == ["unknown"]


def test_a_temporary_refusal_waits_longer_each_time_until_the_mail_expires(relay: Relay, sender: Sender) -> None:
    Relay.objects.update(first_retry=100)
    relay.refresh_from_db()
    (message,) = post(sender, 1)
    for nth in range(4):
        script(relay, Deferred(LATER))
        before = clock.now()
        engine.drain(relay, "transactional")
        message.refresh_from_db()
        wait = (message.next_attempt_at - before).total_seconds()
        assert 80 * 2**nth <= wait <= 120 * 2**nth + 5
        Message.objects.update(next_attempt_at=clock.now())
    script(relay, Deferred(LATER, retry_after=timedelta(hours=5)))
    engine.drain(relay, "transactional")
    message.refresh_from_db()
    assert message.next_attempt_at > clock.now() + timedelta(hours=4)
    Message.objects.update(next_attempt_at=clock.now(), expires_at=clock.now() + timedelta(hours=4))
    script(relay, Deferred(LATER, retry_after=timedelta(hours=5)))
    engine.drain(relay, "transactional")
    assert books() == {"failed": 1}
    assert message.attempts_made.count() == 6


# ----------------------------------------------------------------------------------------------------------- relays that are down


def test_a_relay_that_goes_down_rests_and_its_mail_goes_back_uncounted(relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 50)
    script(relay, *[memory.ACCEPTED] * 7, DOWN)
    engine.drain(relay)
    sent = len(taken(relay))
    # Those that were on their way on other connections as well.
    assert 7 <= sent <= 7 + 3
    assert books() == {"sent": sent, "queued": 50 - sent}
    assert set(batch.messages.filter(status="queued").values_list("attempts", "lost_leases")) == {(0, 0)}
    relay.refresh_from_db()
    assert relay.rest_reason == "421 4.3.2 Closing"
    assert relay.resting_until
    assert timedelta(seconds=30) < relay.resting_until - clock.now() <= timedelta(seconds=40)
    assert engine.drain(relay) == 0
    assert Attempt.objects.filter(outcome="relay_down").count() == 1


def test_it_rests_longer_each_time_until_it_takes_a_mail(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    make_batch(sender, 1)
    rests = []
    for _nth in range(3):
        script(relay, DOWN)
        engine.drain(relay)
        relay.refresh_from_db()
        assert relay.resting_until
        rests.append(round((relay.resting_until - clock.now()).total_seconds() / 40))
        Relay.objects.update(resting_until=clock.now())
        relay.refresh_from_db()
    assert rests == [1, 2, 4]
    engine.drain(relay)
    relay.refresh_from_db()
    assert (relay.failures, relay.resting_until) == (0, None)
    # It took a mail before it went down: so it was well until then.
    Relay.objects.update(failures=5, max_connections=1)
    relay.refresh_from_db()
    make_batch(sender, 2)
    script(relay, memory.ACCEPTED, DOWN)
    engine.drain(relay)
    relay.refresh_from_db()
    assert relay.failures == 1


def test_a_relay_that_takes_no_connection_rests_and_nothing_is_lost(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    async def closed(self: Memory) -> MemorySession:
        raise DOWN

    monkeypatch.setattr(Memory, "open", closed)
    batch = make_batch(sender, 50)
    assert engine.drain(relay) == 0
    assert books() == {"queued": 50}
    assert set(batch.messages.values_list("attempts", "lost_leases")) == {(0, 0)}
    relay.refresh_from_db()
    assert relay.rest_reason == "421 4.3.2 Closing"
    assert not Attempt.objects.exists()


@pytest.mark.parametrize("allowed", [1, 2])
@pytest.mark.parametrize("slow", ["to accept", "to refuse"])
def test_a_relay_that_wants_fewer_connections_gets_fewer(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch, allowed: int, slow: str
) -> None:
    """Whichever it answers first."""
    Relay.objects.update(max_connections=6)
    make_batch(sender, 60)
    opened = 0

    async def limited(self: Memory) -> MemorySession:
        nonlocal opened
        opened += 1
        fine = opened <= allowed
        await asyncio.sleep(0.05 if fine == (slow == "to accept") else 0)
        if not fine:
            raise DOWN
        return MemorySession(self.relay)

    monkeypatch.setattr(Memory, "open", limited)
    engine.drain(relay)
    assert books() == {"sent": 60}
    relay.refresh_from_db()
    assert relay.resting_until is None


def test_a_relay_that_cannot_be_opened_by_our_own_fault_rests_and_says_why(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Memory) -> MemorySession:
        raise KeyError("host")

    monkeypatch.setattr(Memory, "open", broken)
    make_batch(sender, 3)
    engine.drain(relay)
    assert books() == {"queued": 3}
    relay.refresh_from_db()
    assert relay.rest_reason == "KeyError: 'host'"


def test_a_relay_whose_secrets_no_key_opens_rests_and_says_why(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    class Secretive(Memory):
        def __init__(self, relay: Relay) -> None:
            super().__init__(relay)
            assert relay.secrets == {}

    monkeypatch.setattr("mailhub.relays.providers.memory.Memory", Secretive)
    connection.cursor().execute("UPDATE relays_relay SET secrets = 'x'")
    post(sender, 1)
    assert tasks.drain_transactional(relay.pk) == 0
    assert books() == {"queued": 1}
    found = Relay.objects.defer("secrets").get()
    assert "MAILHUB_ENCRYPTION_KEYS" in found.rest_reason
    assert not Lease.objects.exists()


def test_its_mail_wakes_the_relay_that_takes_over(
    relay: Relay, route: Route, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    successor = make_relay()
    RouteMember.objects.create(route=route, relay=successor, position=2)
    post(sender, 2)
    script(relay, DOWN, DOWN)
    with django_capture_on_commit_callbacks(execute=True):
        engine.drain(relay, "transactional")
    assert asked == [("mailhub.delivery.tasks.drain_transactional", (successor.pk,), "transactional")]
    assert engine.drain(successor, "transactional") == 2
    assert books() == {"sent": 2}


def test_a_used_up_quota_wakes_the_relay_that_takes_over(
    relay: Relay, sender: Sender, asked: Asked, django_capture_on_commit_callbacks: Capture
) -> None:
    Quota.objects.create(relay=relay, limit=5, period="hour")
    successor = make_relay()
    RouteMember.objects.create(route=Route.objects.get(default_for=Stream.CAMPAIGN), relay=successor, position=2)
    make_batch(sender, 12)
    with django_capture_on_commit_callbacks(execute=True):
        assert engine.drain(relay) == 5
    assert asked == [("mailhub.delivery.tasks.drain", (successor.pk,), "bulk")]
    assert engine.drain(successor) == 7
    assert books() == {"sent": 12}


def test_mail_that_comes_while_a_drain_ends_wakes_another(
    relay: Relay, sender: Sender, asked: Asked, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Capture
) -> None:
    Relay.objects.update(max_connections=1)
    make_batch(sender, 1)
    end = queue.end_lease

    def end_lease(lease: Lease) -> None:
        # Its own drain finds no free connection.
        post(sender, 1)
        assert engine.drain(relay, "transactional") == 0
        end(lease)

    monkeypatch.setattr(queue, "end_lease", end_lease)
    with django_capture_on_commit_callbacks(execute=True):
        engine.drain(relay)
    assert ("mailhub.delivery.tasks.drain_transactional", (relay.pk,), "transactional") in asked
    assert books() == {"sent": 1, "queued": 1}


# ------------------------------------------------------------------------------------------------------------------ bad content


def test_a_content_of_which_no_mail_can_be_made_fails_and_the_others_go(relay: Relay, sender: Sender) -> None:
    bad = make_content(sender, text="{{ name")
    queue.enqueue([queue.new(Stream.TRANSACTIONAL, content=bad, sender=sender, address=f"a{n}@example.net") for n in range(2)])
    fine = post(sender, 3)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 3, "failed": 2}
    assert taken(relay) == [message.pk for message in fine]
    assert "Line 1" in Message.objects.filter(status="failed")[0].reply


def test_a_mail_on_which_we_stumble_is_tried_later_and_the_others_go(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, *others = post(sender, 30)
    envelope = prepare.Compiled.envelope

    def stumbling(self: prepare.Compiled, message: Message, *, own_path: bool = False, signed: bool = False) -> Envelope:
        if message == victim:
            raise RuntimeError
        return envelope(self, message, own_path=own_path, signed=signed)

    monkeypatch.setattr(prepare.Compiled, "envelope", stumbling)
    engine.drain(relay, "transactional")
    assert states(victim) == ["deferred"]
    assert books() == {"sent": 29, "deferred": 1}


def test_mails_with_which_workers_died_are_made_while_nothing_else_is_held(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = post(sender, 40)
    suspects = {mails[number].pk: losses for number, losses in ((5, 2), (6, 2), (20, 1), (21, 1), (30, 3))}
    for pk, losses in suspects.items():
        Message.objects.filter(pk=pk).update(lost_leases=losses)
    make_group = engine.Drain.make_group
    held: set[frozenset[int]] = set()

    def watching(self: engine.Drain, messages: list[Message], contents: engine.Contents) -> Any:
        if suspects.keys() & self.held.keys():
            held.add(frozenset(self.held))
        return make_group(self, messages, contents)

    monkeypatch.setattr(engine.Drain, "make_group", watching)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 40}
    assert sorted(map(len, held)) == [1, 1, 1, 2]
    assert frozenset().union(*held) == suspects.keys()


def test_what_is_urgent_passes_what_waits_to_be_made(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 3)
    drain = engine.Drain(relay, queue.take_lease(relay, "bulk"), LONG)
    mass = queue.claim(drain.lease, 2)
    drain.take_in(mass)
    urgent = post(sender, 2)
    drain.take_in(queue.claim(drain.lease, 10))
    assert [message.pk for message in drain.claimed][:4] == [*(message.pk for message in urgent), *(message.pk for message in mass)]
    assert len(drain.claimed) == 5


def test_large_mails_are_loaded_few_at_a_time(relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HELD_READY", 1000 * engine.MAKERS)
    for size in (300, 300, 500, 2000, 100):
        content = Content.objects.create(from_email=sender.email, raw=b"Subject: x\r\n\r\n" + b"x" * size + b"\r\n")
        queue.enqueue([queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address="taro@example.net")])
    load = prepare.load
    loaded = []

    def counted(contents: set[int]) -> Any:
        found = load(contents)
        loaded.append(sum(len(content.raw) for content, _signer in found))
        return found

    monkeypatch.setattr(prepare, "load", counted)
    engine.drain(relay, "transactional")
    assert books() == {"sent": 5}
    assert [size // 100 for size in loaded] == [6, 5, 20, 1]


# --------------------------------------------------------------------------------------------------------------------- promises


def test_nothing_is_handed_over_that_is_not_marked(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    seen = []

    def look(message: int) -> None:
        seen.append(message in marked())

    async def answer(envelope: Envelope) -> None:
        await engine.in_database(look, envelope.message)

    answering(answer)
    make_batch(sender, 30)
    engine.drain(relay)
    assert seen == [True] * 30


def test_a_connection_begins_with_the_next_mail_while_one_is_on_its_way(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    Relay.objects.update(max_connections=4)
    make_batch(sender, 40)
    urgent = {message.pk for message in post(sender, 10)}
    announced: dict[MemorySession, int] = {}
    kept: list[bool] = []
    take = MemorySession.send

    def announce(self: MemorySession, envelope: Envelope) -> None:
        announced[self] = envelope.message

    async def send(self: MemorySession, envelope: Envelope) -> Reply:
        if expected := due.pop(self, None):
            kept.append(envelope.message == expected)
        if self in announced:
            due[self] = announced.pop(self)
        # Whichever connection is free first takes what is urgent.
        assert due.get(self) not in urgent
        await asyncio.sleep(0.001)
        return await take(self, envelope)

    due: dict[MemorySession, int] = {}
    monkeypatch.setattr(MemorySession, "announce", announce, raising=False)
    monkeypatch.setattr(MemorySession, "send", send)
    engine.drain(relay)
    assert books() == {"sent": 50}
    assert all(kept) and len(kept) > 10
    assert sorted(taken(relay)) == sorted(Message.objects.values_list("pk", flat=True))


def test_an_announced_mail_goes_on_another_connection_when_its_own_breaks(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    Relay.objects.update(max_connections=2)
    make_batch(sender, 30)
    broken: set[MemorySession] = set()
    take = MemorySession.send

    async def send(self: MemorySession, envelope: Envelope) -> Reply:
        assert self not in broken
        if len(broken) < 5:
            broken.add(self)
        return await take(self, envelope)

    monkeypatch.setattr(MemorySession, "announce", lambda self, envelope: None, raising=False)
    monkeypatch.setattr(MemorySession, "spent", property(lambda self: self in broken))
    monkeypatch.setattr(MemorySession, "send", send)
    engine.drain(relay)
    assert books() == {"sent": 30}
    assert len(broken) == 5
    assert len(set(taken(relay))) == 30


def test_no_more_is_marked_than_the_relay_takes_soon(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    """So few outcomes are unknown when a worker is killed."""
    Relay.objects.update(max_connections=4)
    make_batch(sender, 60)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(marked()))

    async def answer(envelope: Envelope) -> None:
        await asyncio.sleep(0.05)
        await engine.in_database(look)

    answering(answer)
    engine.drain(relay)
    assert books() == {"sent": 60}
    # Those on the three connections, two a connection that wait for one, and what was not settled within a tenth of a second.
    assert 3 <= most <= 3 + 6 + 9


def test_a_rate_is_known_from_the_first_messages_on(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 3.0, 3.1, 3.2, 3.7, 9.0])
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    rate = engine.Rate()
    said = []
    for count in (0, 100, 200, 500, 0):
        rate.note(count)
        said.append(round(rate.value))
    # Nothing is said of the time before the first; then half counts what half a second has passed over.
    assert said[:2] == [0, 1000]
    assert 1500 < said[2] < 1600 and 1050 < said[3] < 1200 and said[4] < 5


def test_claims_grow_while_outcomes_come_without_a_break(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Relay.objects.update(max_connections=4)
    make_batch(sender, 400)
    settle, claim = queue.settle, queue.claim
    sizes: list[int] = []

    def slow(lease: Lease, outcomes: list[queue.Outcome]) -> None:
        settle(lease, outcomes)
        time.sleep(0.02)

    def counted(lease: Lease, size: int, *more: Any) -> list[Message]:
        sizes.append(size)
        return claim(lease, size, *more)

    async def answer(envelope: Envelope) -> None:
        await asyncio.sleep(0.005)

    monkeypatch.setattr(queue, "settle", slow)
    monkeypatch.setattr(queue, "claim", counted)
    answering(answer)
    engine.drain(relay, seconds=LONG)
    assert max(sizes) > 2 * engine.CLAIM_LEAST


def test_never_more_than_the_window_is_marked(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WINDOW", 10)
    make_batch(sender, 200)
    most = 0
    mark = queue.mark

    def counted(lease: Lease, messages: list[Message]) -> list[Message]:
        nonlocal most
        found = mark(lease, messages)
        most = max(most, len(marked()))
        return found

    monkeypatch.setattr(queue, "mark", counted)
    engine.drain(relay)
    assert books() == {"sent": 200}
    assert 5 <= most <= 10


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_relay_is_spoken_to(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    seen = []

    async def answer(envelope: Envelope) -> None:
        seen.append(await engine.in_database(lambda: connection.in_atomic_block))

    answering(answer)
    make_batch(sender, 10)
    engine.drain(relay)
    assert seen == [False] * 10


@pytest.mark.parametrize("how", ["paused", "canceled", "suppressed"])
def test_what_staff_do_while_a_drain_runs_holds_from_the_next_claim_on(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], how: str
) -> None:
    batch = make_batch(sender, 300)
    done = False

    def act() -> None:
        if how == "paused":
            batch.pause()
        elif how == "canceled":
            batch.cancel()
            queue.withdraw(batch)
        else:
            queue.suppress(Message.objects.filter(batch=batch), "No more.")

    async def answer(envelope: Envelope) -> None:
        nonlocal done
        if not done:
            done = True
            await engine.in_database(act)

    answering(answer)
    engine.drain(relay)
    rest = {"paused": "queued", "canceled": "canceled", "suppressed": "suppressed"}[how]
    counts = books()
    # The first claim takes 20, and the second may have been made by then.
    assert 20 <= counts["sent"] <= 40
    assert counts == {"sent": counts["sent"], rest: 300 - counts["sent"]}


def test_a_worker_that_is_to_stop_hands_back_what_it_holds(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch, asked: Asked,
    django_capture_on_commit_callbacks: Capture,
) -> None:  # fmt: skip
    batch = make_batch(sender, 300)
    monkeypatch.setattr(workers, "beat", lambda: not memory.taken[relay.pk])

    async def answer(envelope: Envelope) -> None:
        await asyncio.sleep(0.1)

    answering(answer)
    with django_capture_on_commit_callbacks(execute=True):
        engine.drain(relay)
    sent = len(taken(relay))
    assert 0 < sent < 300
    assert books() == {"sent": sent, "queued": 300 - sent}
    assert set(batch.messages.filter(status="queued").values_list("attempts", "lost_leases")) == {(0, 0)}
    # Others are to do it, if there are any: their tick wakes them.
    assert asked == []


def test_a_drain_that_lost_its_lease_hands_over_nothing_more(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    make_batch(sender, 300)
    reaped = False

    def reap() -> None:
        expire(Lease.objects.get())
        queue.reap()

    async def answer(envelope: Envelope) -> None:
        nonlocal reaped
        if len(taken(relay)) > 10 and not reaped:
            reaped = True
            await engine.in_database(reap)

    answering(answer)
    engine.drain(relay)
    first = set(taken(relay))
    assert len(first) < 100
    while engine.drain(relay):
        pass
    assert Counter(taken(relay)).most_common(1)[0][1] == 1
    counts = books()
    # What had left and was settled too late is known after all.
    assert counts["sent"] == len(taken(relay))
    assert counts["sent"] + counts["unknown"] == 300


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    relay: Relay, sender: Sender, answering: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "GRACE", timedelta(seconds=1))
    batch = make_batch(sender, 20)
    victim = batch.messages.order_by("pk")[3]

    async def answer(envelope: Envelope) -> None:
        if envelope.message == victim.pk:
            await asyncio.sleep(3600)

    answering(answer)
    engine.drain(relay)
    assert states(victim) == ["unknown"]
    assert books() == {"sent": 19, "unknown": 1}


# ---------------------------------------------------------------------------------------------------------- the database goes away


def failing_once(function: Callable[..., Any], *, after: int = 0, done: bool = False) -> Callable[..., Any]:
    """`function`, which fails as if the connection broke at its `after`-th call: before its commit, or after it (`done`)."""
    calls = 0

    def called(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != after + 1:
            return function(*args)
        if done:
            function(*args)
        raise OperationalError("server closed the connection unexpectedly")

    return called


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("step", ["claim", "mark", "settle", "release"])
def test_a_connection_that_breaks_loses_and_doubles_nothing(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch, step: str, done: bool, after: int
) -> None:
    make_batch(sender, 60)
    post(sender, 20)
    with monkeypatch.context() as patch:
        patch.setattr(queue, step, failing_once(getattr(queue, step), after=after, done=done))
        engine.drain(relay)
        books()
    while any(engine.drain(relay, name) for name in ("transactional", "bulk")):
        pass
    assert books() == {"sent": 80}
    assert Counter(taken(relay)) == Counter(Message.objects.values_list("pk", flat=True))
    assert Attempt.objects.count() == 80


def test_outcomes_that_cannot_be_stored_are_named_and_become_unknown(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("no route to host")

    monkeypatch.setattr(engine, "STORE_FOR", timedelta(0))
    make_batch(sender, 3)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "settle", away)
        engine.drain(relay)
    assert "could not be stored" in caplog.text
    assert books() == {"unknown": 3}


def test_an_outcome_that_the_database_does_not_take_costs_the_others_nothing(
    relay: Relay, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(sender, 30)
    victim = batch.messages.order_by("pk")[5]
    settle = queue.settle

    def picky(lease: Lease, outcomes: list[queue.Outcome]) -> None:
        if any(outcome.message == victim for outcome in outcomes):
            raise DataError("value out of range")
        settle(lease, outcomes)

    monkeypatch.setattr(queue, "settle", picky)
    engine.drain(relay)
    assert states(victim) == ["unknown"]
    assert books() == {"sent": 29, "unknown": 1}


def test_a_reply_may_hold_anything(relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    script(relay, Reply(250, "2.0.0", "OK\0 \ud83d \u7dd1" + "x" * 1000), Deferred(Reply(451, "4." + "9" * 40, "\0")))
    engine.drain(relay)
    assert books() == {"sent": 1, "deferred": 1}


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_a_killed_database_connection_loses_and_doubles_nothing(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    make_batch(sender, 200)
    post(sender, 20)
    killed: list[int] = []

    def kill() -> None:
        other = connections.create_connection("default")
        # Two of these may kill each other.
        with suppress(OperationalError), other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        other.close()

    async def answer(envelope: Envelope) -> None:
        if len(taken(relay)) == 40 * (len(killed) + 1) and len(killed) < 3:
            killed.append(envelope.message)
            await asyncio.to_thread(kill)

    answering(answer)
    give_up = time.monotonic() + LONG
    while (len(killed) < 3 or Message.objects.exclude(status="sent").exists()) and time.monotonic() < give_up:
        # A connection that is being killed may hold the lease for a moment.
        tasks.drain(relay.pk)
        connection.close()
        time.sleep(0.02)
    assert len(killed) == 3
    assert books() == {"sent": 220}
    assert Counter(taken(relay)) == Counter(Message.objects.values_list("pk", flat=True))


@postgresql_only
@pytest.mark.django_db(transaction=True)
def test_drains_at_once_share_the_work_and_double_nothing(relay: Relay, sender: Sender, answering: Callable[[Answer], None]) -> None:
    Relay.objects.update(max_connections=8)
    for _batch in range(3):
        make_batch(sender, 100)
    post(sender, 30)

    async def answer(envelope: Envelope) -> None:
        await asyncio.sleep(0.001)

    answering(answer)

    def work(name: Queue) -> None:
        for _time in range(5):
            engine.drain(relay, name)
        connection.close()

    with ThreadPoolExecutor() as threads:
        list(threads.map(work, ["bulk", "transactional", "transactional", "bulk"]))
    while engine.drain(relay):
        pass
    assert books() == {"sent": 330}
    assert Counter(taken(relay)) == Counter(Message.objects.values_list("pk", flat=True))
    assert not Lease.objects.exists()


# ------------------------------------------------------------------------------------------------------------------------ tasks


def test_tasks_for_what_is_no_longer_there_do_nothing(db: None) -> None:
    assert tasks.drain(4711) == tasks.drain_transactional(4711) == tasks.withdraw(4711) == 0
