"""Two at once, on a database that lets them: one of them stopped in mid-transaction while the other does its work."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest
from django.db import IntegrityError, connection, connections
from django.db.models import ProtectedError
from django.db.models.deletion import Collector

from mailhub.delivery import engine, events, guard, queue, retention
from mailhub.delivery.models import Attempt, Batch, Event, Lease, Message, Suppression
from mailhub.delivery.queue import LeaseLost
from mailhub.lib import clock
from mailhub.relays import limits
from mailhub.relays.models import Quota, Relay
from mailhub.relays.providers import memory
from mailhub.senders.models import Sender
from tests.delivery.world import (
    LATER,
    NOBODY,
    books,
    expire,
    hold,
    make_batch,
    make_relay,
    make_route,
    outcome,
    post,
    postgresql_only,
)

pytestmark = [postgresql_only, pytest.mark.django_db(transaction=True)]

Status = Message.Status
T = TypeVar("T")
LONG = 30


class Stage:
    """Threads with connections of their own, of which one can be stopped where it calls a function."""

    def __init__(self, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads = threads
        self.monkeypatch = monkeypatch

    def start(self, function: Callable[..., T], *args: Any) -> Future[T]:
        def run() -> T:
            try:
                return function(*args)
            finally:
                connection.close()

        return self.threads.submit(run)

    @contextmanager
    def stopped(self, function: Callable[..., T], *args: Any, at: tuple[object, str], after: bool = False) -> Iterator[Future[T]]:
        """`function` in a thread that stands still, within the block, where it calls `at` (or has called it)."""
        reached, go = threading.Event(), threading.Event()
        owner, name = at
        original = getattr(owner, name)
        stopping: list[int] = []

        def stop(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() not in stopping:
                return original(*args, **kwargs)
            stopping.clear()
            result = original(*args, **kwargs) if after else None
            reached.set()
            assert go.wait(LONG)
            return result if after else original(*args, **kwargs)

        def run() -> T:
            stopping.append(threading.get_ident())
            return function(*args)

        self.monkeypatch.setattr(owner, name, stop)
        future = self.start(run)
        try:
            assert reached.wait(LONG)
            yield future
        finally:
            go.set()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with ThreadPoolExecutor() as threads:
        yield Stage(threads, monkeypatch)


def locks() -> int:
    """How many wait for another's lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return cursor.fetchone()[0]


def waits(future: Future[Any]) -> bool:
    """It has come to stand at another's lock."""
    while not future.done():
        if locks():
            return True
    return False


TALLY = (events.Tally, "write")


def test_a_claim_takes_others_than_one_that_is_under_way(stage: Stage, relay: Relay, sender: Sender) -> None:
    messages = post(sender, 6)
    first, second = hold(relay), hold(relay, "transactional")
    with stage.stopped(queue.claim, first, 3, at=TALLY) as claim:
        others = queue.claim(second, 10)
    assert claim.result() == messages[:3]
    assert others == messages[3:]


@pytest.mark.parametrize("verb", ["cancel", "suppress", "withdraw"])
def test_what_is_being_claimed_goes_and_the_rest_is_kept_back(stage: Stage, relay: Relay, sender: Sender, verb: str) -> None:
    batch = make_batch(sender, 6)
    lease = hold(relay)
    deeds: dict[str, Callable[[], int]] = {
        "cancel": lambda: queue.cancel(Message.objects.filter(batch=batch)),
        "suppress": lambda: queue.suppress(Message.objects.filter(batch=batch), "no"),
        "withdraw": lambda: queue.withdraw(batch),
    }
    with stage.stopped(queue.claim, lease, 2, at=TALLY) as claim:
        deed = stage.start(deeds[verb])
        # Withdrawing passes what others hold; the others must know what becomes of it.
        assert waits(deed) == (verb != "withdraw")
    assert len(claim.result()) == 2
    assert deed.result() == 4
    assert books() == {"claimed": 2, "suppressed" if verb == "suppress" else "canceled": 4}


def test_who_unsubscribes_while_their_mail_is_being_claimed_is_known_to_the_next_claim(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, "taro@example.net")
    lease = hold(relay)
    with stage.stopped(queue.claim, lease, 1, at=TALLY) as claim:
        Suppression.objects.create(address="taro@example.net")
    (message,) = claim.result()
    queue.release(lease, [message])
    assert queue.claim(lease, 1) == []
    assert books() == {"suppressed": 1}


def test_a_claim_and_a_release_do_not_wait_for_each_other(stage: Stage, relay: Relay, sender: Sender) -> None:
    """The one wants the quota and then the batch, and so must the other."""
    Quota.objects.create(relay=relay, limit=100, period="hour")
    make_batch(sender, 4)
    Suppression.objects.bulk_create(Suppression(address=message.address) for message in Message.objects.order_by("pk")[2:3])
    first, second = hold(relay), hold(relay, "transactional")
    held = queue.claim(first, 2)
    # They go back as deferred, which the batch counts otherwise.
    Message.objects.filter(pk__in=[message.pk for message in held]).update(attempts=3)
    Lease.objects.filter(pk=second.pk).update(queue="bulk")
    second.queue = "bulk"
    with stage.stopped(queue.claim, second, 2, at=(limits, "take")) as claim:
        release = stage.start(queue.release, first, held)
        waits(release)
    release.result()
    assert len(claim.result()) >= 1
    books()


def test_nobody_reaps_a_lease_that_is_being_settled(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease = hold(relay)
    messages = queue.mark(lease, queue.claim(lease, 1))
    expire(lease)
    with stage.stopped(queue.settle, lease, [outcome(messages[0])], at=TALLY) as settle:
        assert queue.reap() == 0
    settle.result()
    assert queue.reap() == 0
    assert books() == {"sent": 1}


def test_who_settles_a_lease_that_is_being_reaped_comes_too_late_and_is_heard(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease = hold(relay)
    messages = queue.mark(lease, queue.claim(lease, 1))
    expire(lease)
    with stage.stopped(queue.reap, at=TALLY) as reap:
        settle = stage.start(queue.settle, lease, [outcome(messages[0])])
        assert waits(settle)
    assert reap.result() == 1
    with pytest.raises(LeaseLost):
        settle.result()
    assert books() == {"sent": 1}


@pytest.mark.parametrize("verb", ["mark", "claim", "renew"])
def test_nothing_is_taken_or_marked_under_a_lease_that_is_being_reaped(stage: Stage, relay: Relay, sender: Sender, verb: str) -> None:
    make_batch(sender, 2)
    lease = hold(relay)
    messages = queue.claim(lease, 1)
    expire(lease)
    arguments: dict[str, tuple[object, ...]] = {"mark": (lease, messages), "claim": (lease, 1), "renew": (lease,)}
    with stage.stopped(queue.reap, at=TALLY) as reap:
        deed = stage.start(getattr(queue, verb), *arguments[verb])
        # Its time had run out before.
        with pytest.raises(LeaseLost):
            deed.result()
    assert reap.result() == 1
    assert books() == {"queued": 2}


def test_two_reapers_take_back_once(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease = hold(relay)
    queue.claim(lease, 2)
    expire(lease)
    with stage.stopped(queue.reap, at=TALLY) as reap:
        assert queue.reap() == 0
    assert reap.result() == 2
    assert set(Message.objects.values_list("lost_leases", flat=True)) == {1}


def test_a_report_and_an_outcome_at_once_agree(stage: Stage, relay: Relay, sender: Sender) -> None:
    batch = make_batch(sender, 1)
    lease = hold(relay)
    messages = queue.mark(lease, queue.claim(lease, 1))
    with stage.stopped(queue.settle, lease, [outcome(messages[0])], at=TALLY):
        report = stage.start(lambda: events.record(messages[0], "bounced", at=clock.now()))
        assert waits(report)
    report.result()
    assert books() == {"bounced": 1}
    batch.refresh_from_db()
    assert batch.status == "done"


def test_what_is_reported_while_it_is_handed_back_stands(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 1)
    lease = hold(relay)
    messages = queue.claim(lease, 1)
    with stage.stopped(queue.release, lease, messages, at=(limits, "give_back")) as release:
        report = stage.start(lambda: events.record(messages[0], "delivered", at=clock.now()))
        assert waits(report)
    release.result()
    report.result()
    assert books() == {"delivered": 1}


def test_mail_is_sent_again_once_however_many_ask(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 3)
    lease = hold(relay)
    messages = queue.mark(lease, queue.claim(lease, 3))
    queue.settle(lease, [outcome(message, Status.FAILED, NOBODY) for message in messages])
    with stage.stopped(queue.resend, Message.objects.all(), at=TALLY) as resend:
        again = stage.start(queue.resend, Message.objects.all())
        assert waits(again)
    assert (resend.result(), again.result()) == (3, 0)
    assert books() == {"queued": 3}
    assert Batch.objects.get().status == "running"


def test_a_batch_that_ends_while_staff_send_some_of_it_again_goes_on(stage: Stage, relay: Relay, sender: Sender) -> None:
    make_batch(sender, 2)
    lease = hold(relay)
    one, other = queue.mark(lease, queue.claim(lease, 2))
    queue.settle(lease, [outcome(one, Status.FAILED, NOBODY)])
    with stage.stopped(queue.settle, lease, [outcome(other)], at=(events, "finish"), after=True) as settle:
        again = stage.start(queue.resend, Message.objects.filter(pk=one.pk))
        assert waits(again)
    settle.result()
    assert again.result() == 1
    assert books() == {"sent": 1, "queued": 1}
    assert Batch.objects.get().status == "running"


def test_relays_that_find_the_same_addresses_bad_do_not_wait_for_each_other(stage: Stage, relay: Relay, sender: Sender) -> None:
    other = make_relay()
    addresses = [f"gone{number}@example.net" for number in range(9)]
    make_batch(sender, *addresses, route=make_route(other))
    make_batch(sender, *reversed(addresses))
    work = []
    for each in (relay, other):
        lease = hold(each)
        messages = queue.mark(lease, queue.claim(lease, 500))
        work.append((lease, [outcome(message, Status.BOUNCED, NOBODY) for message in messages]))
    third = connections.create_connection("default")
    third.set_autocommit(False)
    with third.cursor() as cursor:
        # Both come to stand at the one in the middle, each behind half of the others.
        cursor.execute(
            "INSERT INTO delivery_suppression (address, scope, reason, detail, created_at) VALUES (%s, 'all', 'manual', '', now())",
            [addresses[4]],
        )
    settles = [stage.start(queue.settle, *arguments) for arguments in work]
    while locks() < 2 and not any(settle.done() for settle in settles):
        pass
    third.rollback()
    third.close()
    for settle in settles:
        settle.result()
    assert books() == {"bounced": 18}
    assert Suppression.objects.count() == 9


def test_a_mail_sent_again_while_words_are_forgotten_keeps_its_words(stage: Stage, relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1, data={"name": "Taro"})
    Message.objects.update(status="failed")
    with stage.stopped(queue.resend, Message.objects.all(), at=(events, "write")) as again:
        forgotten = stage.start(retention.forget_bodies, clock.now())
        assert waits(forgotten)
    assert (again.result(), forgotten.result()) == (1, 0)
    message.refresh_from_db()
    assert (message.status, message.data, bool(message.content.text)) == ("queued", {"name": "Taro"}, True)


def test_a_report_about_a_message_that_is_being_forgotten_leaves_nothing_behind(stage: Stage, relay: Relay, sender: Sender) -> None:
    (message,) = post(sender, 1)
    Message.objects.update(status="sent")
    events.record(message, "opened", at=clock.now())
    with stage.stopped(retention.forget_messages, clock.now(), at=(Collector, "delete")) as forgotten:
        report = stage.start(lambda: events.record(message, "bounced", at=clock.now()))
        assert waits(report)
    assert forgotten.result() == 1
    with suppress(Message.DoesNotExist):
        report.result()
    assert not Message.objects.exists() and not Event.objects.exists() and not Suppression.objects.exists()


@pytest.mark.parametrize("how", ["one", "all"])
def test_a_sender_for_whom_mail_is_being_put_in_stays(stage: Stage, relay: Relay, sender: Sender, how: str) -> None:
    delete: Callable[[], object] = sender.delete if how == "one" else Sender.objects.all().delete
    with stage.stopped(post, sender, 2, at=(queue, "wake")) as putting:
        # Django finds no message that needs the sender, as none is committed.
        deletion = stage.start(delete)
        assert waits(deletion)
    assert len(putting.result()) == 2
    with pytest.raises(ProtectedError):
        deletion.result()
    assert Message.objects.filter(sender=Sender.objects.get()).count() == 2


def test_no_mail_is_put_in_for_a_sender_that_is_being_deleted(stage: Stage, relay: Relay, sender: Sender) -> None:
    with stage.stopped(sender.delete, at=(guard, "needed"), after=True) as deletion:
        putting = stage.start(post, sender, 2)
        assert waits(putting)
    deletion.result()
    with pytest.raises(IntegrityError):
        putting.result()
    assert not Message.objects.exists() and not Sender.objects.exists()


def test_mail_of_one_sender_is_put_in_by_many_at_once(stage: Stage, relay: Relay, sender: Sender) -> None:
    with stage.stopped(post, sender, 1, at=(queue, "wake")):
        assert len(stage.start(post, sender, 2).result(LONG)) == 2
        # Nor does who changes the sender wait.
        assert stage.start(lambda: Sender.objects.update(name="Changed")).result(LONG) == 1


@pytest.mark.parametrize("seed", range(3))
def test_everybody_at_once(stage: Stage, relay: Relay, sender: Sender, seed: int) -> None:
    """Drains that come and die, reapers, reports, staff: the books balance, nobody meets an error, nothing is handed over twice."""
    Relay.objects.update(max_connections=10)
    batches = [make_batch(sender, 60) for _batch in range(3)]
    post(sender, 40)
    end = threading.Event()

    def drains(chance: random.Random) -> None:
        while not end.is_set():
            memory.script[relay.pk].extend(chance.choices([memory.ACCEPTED, engine.Deferred(LATER)], weights=[9, 1], k=5))
            engine.drain(relay, chance.choice(["bulk", "transactional"]), seconds=0.3)

    def dies(chance: random.Random) -> None:
        while not end.is_set():
            lease = queue.take_lease(relay, chance.choice(["bulk", "transactional"]))
            if lease:
                found = queue.claim(lease, 5)
                # Sometimes before the mark and sometimes after it.
                marked = queue.mark(lease, found[: chance.choice([0, 3])])
                if chance.random() < 0.5:
                    queue.settle(lease, [outcome(message) for message in marked[:1]])
                expire(lease)
                queue.reap()

    def reports(chance: random.Random) -> None:
        while not end.is_set():
            tried = Message.objects.exclude(attempts=0).order_by("?").first()
            if tried:
                events.record(tried, chance.choice(["delivered", "opened", "complained"]), at=clock.now())

    def meddles(chance: random.Random) -> None:
        while not end.is_set():
            some = Message.objects.filter(pk__in=list(Message.objects.order_by("?").values_list("pk", flat=True)[:5]))
            if chance.random() < 0.5:
                queue.cancel(some)
            else:
                queue.suppress(some, "no")
            queue.withdraw_some(chance.choice(batches), group=3)
            end.wait(0.1)

    work = [drains, drains, dies, reports, meddles]
    futures = [stage.start(each, random.Random(f"{seed}.{number}")) for number, each in enumerate(work)]
    end.wait(3)
    end.set()
    for future in futures:
        future.result()
    books()
    Lease.objects.update(expires_at=clock.now())
    queue.reap()
    books()
    assert not Message.objects.filter(status="claimed").exists()
    # Of those that the relay took, no campaign's twice.
    taken = [envelope.message for envelope in memory.taken[relay.pk]]
    twice = {message for message in taken if taken.count(message) > 1}
    assert set(Message.objects.filter(pk__in=twice).values_list("stream", flat=True)) <= {"transactional"}
    assert Attempt.objects.exists() and Event.objects.exists()
