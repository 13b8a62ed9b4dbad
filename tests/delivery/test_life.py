"""The life of messages, as hypothesis makes it up: workers that claim, answer and die in any order, reports, staff."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from mailhub.delivery import events, queue
from mailhub.delivery.models import Batch, Lease, Message, Suppression
from mailhub.delivery.queue import LeaseLost, Outcome
from mailhub.lib import addresses, clock
from mailhub.relays.models import Relay, Stream
from tests.delivery.world import NOBODY, books, expire, make_batch, make_relay, make_route, make_sender, outcome, post

Status = Message.Status
NOT_TAKEN = (Status.BOUNCED, Status.FAILED, Status.DEFERRED, Status.QUEUED)


class Worker:
    """A drain, with what it believes to hold; it may have lost its lease and not know yet."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.claimed: list[Message] = []
        #: handed over, as far as anybody outside can tell
        self.marked: list[Message] = []


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.workers: list[Worker] = []
        # By message: how often it was claimed, how often it may have been taken by the relay, how often staff sent it again.
        self.claims: Counter[int] = Counter()
        self.taken: Counter[int] = Counter()
        self.resent: Counter[int] = Counter()
        #: must not be claimed any more
        self.kept_back: set[int] = set()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @initialize(campaign=st.integers(1, 5), single=st.integers(0, 3))
    def world(self, campaign: int, single: int) -> None:
        self.relay = make_relay(max_connections=4)
        for stream in Stream:
            make_route(self.relay, default_for=stream)
        sender = make_sender()
        self.batch = make_batch(sender, campaign)
        post(sender, single) if single else None
        self.everybody = list(Message.objects.order_by("pk"))

    def one(self, data: st.DataObject) -> Message:
        return data.draw(st.sampled_from(self.everybody))

    def worker(self, data: st.DataObject) -> Worker:
        return self.workers[data.draw(st.integers(0, len(self.workers) - 1))]

    # -- workers

    @rule(work=st.sampled_from(["bulk", "transactional"]))
    def begins(self, work: Any) -> None:
        if lease := queue.take_lease(self.relay, work):
            self.workers.append(Worker(lease))

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def claims_some(self, data: st.DataObject, limit: int) -> None:
        worker = self.worker(data)
        try:
            found = queue.claim(worker.lease, limit)
        except LeaseLost:
            return
        for message in found:
            assert message.pk not in self.kept_back
            assert message.stream == "transactional" or worker.lease.queue == "bulk"
            self.claims[message.pk] += 1
        worker.claimed += found

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def hands_over(self, data: st.DataObject) -> None:
        worker = self.worker(data)
        some = worker.claimed[: data.draw(st.integers(0, len(worker.claimed)))]
        try:
            marked = queue.mark(worker.lease, some)
        except LeaseLost:
            # Then nothing of it leaves.
            return
        for message in marked:
            before = self.taken[message.pk]
            allowed = self.resent[message.pk] + (1 if message.stream == "transactional" else 0)
            assert before <= allowed, "handed over although it may have been taken"
            self.taken[message.pk] += 1
        worker.claimed = worker.claimed[len(some) :]
        worker.marked += marked

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), status=st.sampled_from([Status.SENT, Status.UNKNOWN, *NOT_TAKEN]), twice=st.booleans())
    def hears(self, data: st.DataObject, status: Message.Status, twice: bool) -> None:
        """The relay has answered, or the connection has ended."""
        worker = self.worker(data)
        told = worker.marked[: data.draw(st.integers(0, len(worker.marked)))]
        worker.marked = worker.marked[len(told) :]
        outcomes = [self.told(message, status) for message in told]
        if status in NOT_TAKEN:
            self.taken.subtract(message.pk for message in told)
        for _time in range(1 + twice):
            try:
                queue.settle(worker.lease, outcomes)
            except LeaseLost:
                assert not Lease.objects.filter(pk=worker.lease.pk).exists()

    def told(self, message: Message, status: Message.Status) -> Outcome:
        """As the drain decides."""
        if status == Status.UNKNOWN and message.stream == "transactional" and not message.repeated:
            message.repeated = True
            again = clock.now() + queue.REPEAT_AFTER
            return outcome(message, Status.DEFERRED, NOBODY, next_attempt_at=again)
        return outcome(message, status, NOBODY, next_attempt_at=clock.now() + timedelta(minutes=1), counted=status != Status.QUEUED)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def stumbles(self, data: st.DataObject) -> None:
        """A mail cannot be made."""
        worker = self.worker(data)
        if worker.claimed:
            with suppress(LeaseLost):
                queue.settle(worker.lease, [outcome(worker.claimed.pop(), Status.FAILED, NOBODY)])

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def stops(self, data: st.DataObject) -> None:
        """Hands back what has not left, and ends."""
        worker = self.worker(data)
        self.workers.remove(worker)
        with suppress(LeaseLost):
            queue.release(worker.lease, worker.claimed)
        queue.end_lease(worker.lease)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), lives=st.booleans())
    def is_not_heard_of(self, data: st.DataObject, lives: bool) -> None:
        """It dies; or it only seems so, and goes on with what it has."""
        worker = self.worker(data)
        expire(worker.lease)
        if not lives:
            self.workers.remove(worker)

    @rule()
    def reaper(self) -> None:
        queue.reap()

    @rule()
    def time_passes(self) -> None:
        Message.objects.update(next_attempt_at=clock.now())

    @rule(data=st.data())
    def expires(self, data: st.DataObject) -> None:
        Message.objects.filter(pk=self.one(data).pk).update(expires_at=clock.now() - timedelta(seconds=1))

    # -- the world outside

    @rule(data=st.data(), report=st.sampled_from(["delivered", "bounced", "complained", "opened", "unsubscribed"]))
    def is_reported(self, data: st.DataObject, report: str) -> None:
        message = self.one(data)
        if not self.taken[message.pk] and report != "unsubscribed":
            return  # nobody can report what never arrived
        events.record(message, report, at=clock.now())
        if report == "unsubscribed" and message.stream == "campaign":
            self.kept_back.add(message.pk)
        if report in ("bounced", "complained"):
            self.kept_back.add(message.pk)

    @rule(data=st.data())
    def is_suppressed(self, data: st.DataObject) -> None:
        message = self.one(data)
        Suppression.objects.get_or_create(address=addresses.key(message.address))
        self.kept_back.add(message.pk)

    # -- staff

    @rule(data=st.data(), verb=st.sampled_from([queue.cancel, lambda messages: queue.suppress(messages, "no")]))
    def keep_back(self, data: st.DataObject, verb: Any) -> None:
        messages = Message.objects.filter(pk=self.one(data).pk)
        if verb(messages):
            self.kept_back.add(messages.get().pk)

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        message = self.one(data)
        if queue.resend(Message.objects.filter(pk=message.pk)):
            self.resent[message.pk] += 1

    @rule()
    def turn_the_batch(self) -> None:
        batch = Batch.objects.get()
        if batch.status == "running":
            batch.pause()
        elif batch.status == "paused":
            batch.resume()
            queue.finish([batch.pk])

    @rule()
    def turn_the_relay(self) -> None:
        relay = Relay.objects.get()
        relay.pause() if relay.status == "active" else relay.resume()

    # -- what holds at any time

    @invariant()
    def the_books_balance(self) -> None:
        books()
        for batch in Batch.objects.all():
            assert batch.total == batch.messages.count()
            assert (batch.status == "done") <= (batch.waiting == batch.deferred == 0)

    @invariant()
    def leases_hold_what_is_claimed_or_being_sent(self) -> None:
        held = Message.objects.filter(lease__isnull=False)
        assert set(held.values_list("status", flat=True)) <= {"claimed", "sending"}
        assert set(held.values_list("lease", flat=True)) <= set(Lease.objects.values_list("pk", flat=True))
        assert not Message.objects.filter(status__in=["claimed", "sending"], lease__isnull=True).exists()

    @invariant()
    def attempts_are_claims_at_most(self) -> None:
        for pk, attempts, lost in Message.objects.values_list("pk", "attempts", "lost_leases"):
            assert attempts <= self.claims[pk]
            assert lost < len(queue.TOGETHER)

    @invariant()
    def what_has_left_is_not_forgotten(self) -> None:
        """Whatever the relay may have taken is known as such, or is a single mail that is about to be repeated."""
        for message in Message.objects.all():
            if message.status in ("sent", "delivered", "complained", "unknown"):
                assert self.taken[message.pk] or message.status == "unknown"


def test_the_life_of_messages(db: None) -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True),
    )
