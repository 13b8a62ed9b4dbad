"""Every state machine, walked from every state by every verb: what is in MOVES happens, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, models, transaction

from campaigns.models import Campaign
from mailhub.delivery import events, queue
from mailhub.delivery.models import COUNTER_OF, COUNTERS, Batch, Lease, Message
from mailhub.delivery.queue import LeaseLost
from mailhub.lib import clock
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender
from tests.delivery.world import NOBODY, books, expire, hold, make_batch, make_content, make_relay, make_sender, outcome, post

Status = Message.Status
Edges = set[tuple[str, str]]


def edges(moves: dict[Any, set[Any]]) -> Edges:
    return {(str(source), str(target)) for source, targets in moves.items() for target in targets}


# ----------------------------------------------------------------------------------------------------------- one row, one verb


def batch() -> Batch:
    return make_batch(make_sender(), filled=True)


def campaign() -> Campaign:
    return Campaign.objects.create(name="Spring", sender=make_sender(), language="en", subject="Tea", html="<p>Tea</p>")


def launched(campaign: Campaign) -> None:
    campaign.launched(batch(), None)


Verb = Callable[[Any], object]
VERBS: list[tuple[type[models.Model], Callable[[], Any], dict[str, Verb], dict[str, dict[str, Any]]]] = [
    (
        Batch,
        batch,
        {
            "paused": Batch.pause,
            "running": Batch.resume,
            "canceled": Batch.cancel,
            # Which nobody asks for: it comes of itself.
            "done": lambda batch: queue.finish([batch.pk]),
        },
        {},
    ),
    (Relay, make_relay, {"paused": Relay.pause, "active": Relay.resume}, {}),
    (Sender, lambda: Sender.objects.create(email="a@tea.example"), {"confirmed": Sender.confirm, "disabled": Sender.disable}, {}),
    (
        Campaign,
        campaign,
        {
            "draft": Campaign.unschedule,
            "scheduled": lambda campaign: campaign.schedule(clock.now() + timedelta(days=1)),
            "launched": launched,
        },
        # What the database wants of a row in that state.
        {"scheduled": {"scheduled_at": "2030-01-01T00:00Z"}, "launched": {"batch": batch}},
    ),
]


@pytest.mark.parametrize(("model", "make", "verbs", "needs"), VERBS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_verb_from_every_state(
    db: None, model: Any, make: Callable[[], Any], verbs: dict[str, Verb], needs: dict[str, dict[str, Any]]
) -> None:
    row = make()
    seen: Edges = set()
    for source in model.Status.values:
        for target, verb in verbs.items():
            fields = {name: value() if callable(value) else value for name, value in needs.get(source, {}).items()}
            cleared = {name: None for other in needs.values() for name in other}
            model.objects.filter(pk=row.pk).update(status=source, **{**cleared, **fields})
            stale = model.objects.get(pk=row.pk)
            try:
                verb(stale)
            except WrongState:
                assert stale.status == source
            fresh = model.objects.get(pk=row.pk)
            if fresh.status != source:
                assert fresh.status == target
                assert target == "done" or stale.status == target
                seen.add((source, target))
    # A batch leaves "done" only by Batch.resume(), which upper doors forbid and queue.resend() does on its own.
    assert seen == edges(model.MOVES)


@pytest.mark.parametrize(("model", "make", "verbs", "needs"), VERBS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_database_knows_no_other_state(db: None, model: Any, make: Callable[[], Any], verbs: object, needs: object) -> None:
    row = make()
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.filter(pk=row.pk).update(status="lost")


def test_of_two_who_want_the_same_move_one_is_told_so(db: None) -> None:
    relay = make_relay()
    mine, theirs = Relay.objects.get(pk=relay.pk), Relay.objects.get(pk=relay.pk)
    theirs.pause()
    with pytest.raises(WrongState):
        mine.pause()
    assert mine.status == "active"


# ------------------------------------------------------------------------------------------------------------------- messages


def test_every_state_of_a_message_is_counted_once() -> None:
    assert set(COUNTER_OF) == set(Status)
    # Besides the states it counts what people did.
    deeds = {"opened", "clicked"}
    assert {*COUNTERS, *deeds} == {field.name for field in Batch._meta.get_fields() if isinstance(field, models.PositiveIntegerField)}
    assert set(Message.MOVES) == set(Status)


@pytest.mark.parametrize(
    ("state", "leased", "allowed"),
    [(state, leased, leased == (state == "claimed")) for state in Status.values for leased in (True, False)],
)
def test_the_database_wants_a_lease_exactly_where_a_worker_holds_the_message(
    relay: Relay, sender: Sender, state: str, leased: bool, allowed: bool
) -> None:
    post(sender, 1)
    lease = hold(relay) if leased else None
    if allowed:
        Message.objects.update(status=state, lease=lease)
    else:
        with pytest.raises(IntegrityError), transaction.atomic():
            Message.objects.update(status=state, lease=lease)


@pytest.mark.parametrize("change", [{"status": "lost"}, {"stream": "both"}, {"stream": "campaign", "batch": None}])
def test_the_database_takes_no_nonsense(sender: Sender, change: dict[str, object]) -> None:
    post(sender, 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.update(**change)


def test_nobody_gets_a_batch_twice(sender: Sender) -> None:
    batch = make_batch(sender, "taro@example.net")
    with pytest.raises(IntegrityError), transaction.atomic():
        queue.enqueue([queue.new("campaign", batch=batch, content=make_content(sender), sender=sender, address="taro@example.net")])


class Walk:
    """A message in a state, and all that can befall it there."""

    def __init__(self, relay: Relay, sender: Sender, state: str, life: Life) -> None:
        if life.stream == "transactional":
            (self.message,) = post(sender, 1)
        else:
            self.message = make_batch(sender, 1).messages.get()
        self.state = state
        self.lease = hold(relay)
        self.all = Message.objects.filter(pk=self.message.pk)
        self.all.update(
            status=state,
            lease=self.lease if self.held else None,
            lost_leases=life.lost,
            repeated=life.repeated,
            attempts=life.attempts,
            next_attempt_at=clock.now(),
        )
        if batch := self.message.batch:
            Batch.objects.filter(pk=batch.pk).update(**{"waiting": 0, COUNTER_OF[Status(state)]: 1})
        self.message.refresh_from_db()
        if life.marked:
            queue.mark(self.lease, [self.message])

    @property
    def held(self) -> bool:
        return self.state == "claimed"

    def settle(self, status: Message.Status) -> None:
        later = clock.now() + timedelta(minutes=1)
        queue.settle(self.lease, [outcome(self.message, status, NOBODY, next_attempt_at=later, counted=status != Status.QUEUED)])

    def settle_late(self, status: Message.Status) -> None:
        Lease.objects.filter(pk=self.lease.pk).delete()
        with pytest.raises(LeaseLost):
            self.settle(status)

    def die(self) -> None:
        expire(self.lease)
        queue.reap()

    def expire(self) -> None:
        self.all.update(expires_at=clock.now() - timedelta(seconds=1))
        queue.claim(self.lease, 1)

    def befall(self) -> dict[str, Callable[[], object]]:
        outcomes = [Status.BOUNCED, Status.FAILED, Status.DEFERRED, Status.SENT, Status.QUEUED, Status.UNKNOWN]
        return {
            "claim": lambda: queue.claim(self.lease, 1),
            "expire": self.expire,
            "mark": lambda: queue.mark(self.lease, [self.message]),
            "release": lambda: queue.release(self.lease, [self.message]),
            "die": self.die,
            "suppress": lambda: queue.suppress(self.all, "no"),
            "cancel": lambda: queue.cancel(self.all),
            "resend": lambda: queue.resend(self.all),
            **{f"settle {status}": partial(self.settle, status) for status in outcomes},
            **{f"settle late {status}": partial(self.settle_late, status) for status in outcomes if not self.held},
            **{
                f"report {type}": partial(events.record, self.message, type, at=clock.now())
                for type in ("delivered", "bounced", "complained", "opened", "clicked", "unsubscribed", "deferred", "failed")
            },
        }


@dataclass(frozen=True)
class Life:
    stream: str
    lost: int = 0
    repeated: bool = False
    attempts: int = 1
    marked: bool = True


# Where what happens depends on more than the state.
LIVES = [
    Life("campaign"),
    Life("campaign", marked=False),
    Life("transactional"),
    Life("transactional", lost=len(queue.TOGETHER) - 1, repeated=True, attempts=2),
    Life("transactional", lost=len(queue.TOGETHER) - 1, marked=False),
]


class Undo(Exception):
    pass


def test_everything_that_can_befall_a_message_in_every_state(relay: Relay, sender: Sender) -> None:
    seen: dict[tuple[str, str], str] = {}
    for state in Status.values:
        for life in LIVES:
            with suppress(Undo), transaction.atomic():
                walk = Walk(relay, sender, state, life)
                for name, deed in walk.befall().items():
                    with suppress(Undo), transaction.atomic():
                        deed()
                        after = walk.all.get().status
                        if after != state:
                            seen[state, after] = f"{name} ({life})"
                        books()
                        raise Undo
                raise Undo
    allowed = edges(Message.MOVES)
    assert {edge: how for edge, how in seen.items() if edge not in allowed} == {}
    # Every move that is allowed has something that makes it.
    assert allowed - set(seen) == set()
