"""The life of messages, as hypothesis makes it up: workers that claim, answer and die in any order, reports, staff."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import timedelta

from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mailhub.delivery import events, queue
from mailhub.delivery.models import COUNTER_OF, COUNTERS, Batch, Lease, Message, Suppression
from mailhub.delivery.queue import LeaseLost, Outcome
from mailhub.lib import addresses, clock
from mailhub.relays.models import Relay, Stream
from tests.delivery.world import NOBODY, expire, make_batch, make_relay, make_route, make_sender, outcome, post

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
        self.reported: set[int] = set()
        #: must not be claimed any more
        self.kept_back: set[int] = set()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @initialize(campaign=st.integers(1, 5), single=st.integers(0, 3))
    def begin(self, campaign: int, single: int) -> None:
        self.relay = make_relay(max_connections=4)
        for stream in Stream:
            make_route(self.relay, default_for=stream)
        sender = make_sender()
        self.batch = make_batch(sender, campaign)
        post(sender, single) if single else None
        self.everybody = list(Message.objects.order_by("pk"))

    # One rule, because hypothesis leaves rules out at random, and without claims there is no life.
    @rule(data=st.data(), what=st.sampled_from(["claim"] * 4 + ["hand over", "hear", "end", "world", "staff"]))
    def happens(self, data: st.DataObject, what: str) -> None:
        if what == "claim":
            self.claim(data)
        elif what == "hand over" and (able := [worker for worker in self.workers if worker.claimed]):
            self.hand_over(data.draw(st.sampled_from(able)), data)
        elif what == "hear" and (able := [worker for worker in self.workers if worker.marked]):
            self.hear(data.draw(st.sampled_from(able)), data)
        elif what == "end" and self.workers:
            how = data.draw(st.sampled_from(["dies", "seems to die", "stops", "stumbles", "is slow"]))
            self.end(data.draw(st.sampled_from(self.workers)), how)
        elif what == "world":
            deeds = ["delivered", "bounced", "complained", "opened", "unsubscribed", "suppressed", "too old"]
            self.world(data.draw(st.sampled_from(self.everybody)), data.draw(st.sampled_from(deeds)))
        elif what == "staff":
            deeds = ["batch", "relay", "cancel", "suppress", "resend", "resend"]
            self.staff(data.draw(st.sampled_from(self.everybody)), data.draw(st.sampled_from(deeds)))

    # -- workers

    def claim(self, data: st.DataObject) -> None:
        """A worker takes some, perhaps a new one, perhaps after a while; and something becomes of it."""
        if data.draw(st.booleans()):
            Message.objects.update(next_attempt_at=clock.now())
        if lease := queue.take_lease(self.relay, data.draw(st.sampled_from(["bulk", "transactional"]))):
            self.workers.append(Worker(lease))
        worker = data.draw(st.sampled_from(self.workers))
        try:
            found = queue.claim(worker.lease, data.draw(st.integers(1, 5)))
        except LeaseLost:
            return
        for message in found:
            assert message.pk not in self.kept_back
            assert message.stream == "transactional" or worker.lease.queue == "bulk"
            self.claims[message.pk] += 1
        worker.claimed += found
        then = data.draw(st.sampled_from(["dies", "hears", "goes on", "waits"]))
        if then != "waits":
            self.hand_over(worker, data)
        if then == "hears" and worker.marked:
            self.hear(worker, data)
        elif then == "dies":
            self.end(worker, "dies")

    def hand_over(self, worker: Worker, data: st.DataObject) -> None:
        some = worker.claimed[: len(worker.claimed) - data.draw(st.integers(0, len(worker.claimed)))]
        try:
            marked = queue.mark(worker.lease, some)
        except LeaseLost:
            # Then nothing of it leaves.
            return
        for message in marked:
            allowed = self.resent[message.pk] + (1 if message.stream == "transactional" else 0)
            assert self.taken[message.pk] <= allowed, "handed over although it may have been taken"
            self.taken[message.pk] += 1
        worker.claimed = worker.claimed[len(some) :]
        worker.marked += marked

    def hear(self, worker: Worker, data: st.DataObject) -> None:
        """The relay has answered, or the connection has ended."""
        status = data.draw(st.sampled_from([Status.SENT, Status.UNKNOWN, *NOT_TAKEN]))
        told = worker.marked[: len(worker.marked) - data.draw(st.integers(0, len(worker.marked) - 1))]
        worker.marked = worker.marked[len(told) :]
        if status in NOT_TAKEN:
            # What has been reported was taken.
            told = [message for message in told if message.pk not in self.reported]
            self.taken.subtract(message.pk for message in told)
        outcomes = [self.told(message, status) for message in told]
        for _time in range(1 + data.draw(st.booleans())):
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

    def end(self, worker: Worker, how: str) -> None:
        if how in ("dies", "stops"):
            self.workers.remove(worker)
        if how == "stumbles" and worker.claimed:
            with suppress(LeaseLost):
                queue.settle(worker.lease, [outcome(worker.claimed.pop(), Status.FAILED, NOBODY)])
        elif how == "stops":
            with suppress(LeaseLost):
                queue.release(worker.lease, worker.claimed)
            queue.end_lease(worker.lease)
        else:
            # Whether it lives or not: nothing has been heard of it for too long.
            expire(worker.lease)
        if how in ("dies", "seems to die"):
            queue.reap()

    # -- others

    def world(self, message: Message, what: str) -> None:
        if what == "suppressed":
            Suppression.objects.get_or_create(address=addresses.key(message.address))
            self.kept_back.add(message.pk)
        elif what == "too old":
            Message.objects.filter(pk=message.pk).update(expires_at=clock.now() - timedelta(seconds=1))
        elif self.taken[message.pk] or what == "unsubscribed":  # nobody can report what never arrived
            events.record(message, what, at=clock.now(), detail="550 5.1.1 User unknown")
            self.reported.add(message.pk)
            if what in ("bounced", "complained") or (what == "unsubscribed" and message.stream == "campaign"):
                self.kept_back.add(message.pk)

    def staff(self, message: Message, what: str) -> None:
        messages = Message.objects.filter(pk=message.pk)
        if what == "resend":
            self.resent[message.pk] += queue.resend(messages)
        elif what in ("cancel", "suppress"):
            if queue.cancel(messages) if what == "cancel" else queue.suppress(messages, "no"):
                self.kept_back.add(message.pk)
        elif what == "batch":
            batch = Batch.objects.get()
            if batch.status == "running":
                batch.pause()
            elif batch.status == "paused":
                batch.resume()
                queue.finish([batch.pk])
        else:
            relay = Relay.objects.get()
            relay.pause() if relay.status == "active" else relay.resume()

    @invariant()
    def holds(self) -> None:
        messages = list(Message.objects.only("status", "batch", "lease", "attempts", "lost_leases"))
        batch = Batch.objects.get()
        leases = set(Lease.objects.values_list("pk", flat=True))
        # The books balance.
        rows = Counter(COUNTER_OF[Status(message.status)] for message in messages if message.batch_id)
        assert {name: getattr(batch, name) for name in COUNTERS} == {name: rows[name] for name in COUNTERS}
        assert batch.status != "done" or batch.waiting == batch.deferred == 0
        for message in messages:
            # Leases hold what is claimed, and nothing else.
            assert (message.lease_id in leases) == (message.status == "claimed")
            # Every try was a claim, and nobody is tried for ever.
            assert message.attempts <= self.claims[message.pk]
            assert message.lost_leases < len(queue.TOGETHER)
            # What is believed to have left has been handed over.
            if message.status in ("sent", "delivered", "complained"):
                assert self.taken[message.pk]


def test_the_life_of_messages(db: None) -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True),
    )
