"""Mail that waits takes another route. No row of a message is touched: routing is decided when a message is claimed."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from mailhub.delivery import queue
from mailhub.delivery.models import WAITING, Batch, Message
from mailhub.relays.models import Route, Stream
from mailhub.senders.models import Sender


def waiting(source: Route, *, stream: str | None = None, sender: Sender | None = None, batch: Batch | None = None) -> int:
    """How many mails wait on the route; only those of the stream, the sender or the batch, where one is given."""
    sums = _batches(source, stream, sender, batch).aggregate(n=Sum(F("waiting") + F("deferred")))
    # Index delivery_message_lane.
    single = Message.objects.filter(
        sender__in=_senders(source, stream, sender, batch), stream=Stream.TRANSACTIONAL, status__in=WAITING, batch__isnull=True
    )
    return (sums["n"] or 0) + single.count()


@transaction.atomic
def rebind(
    source: Route,
    target: Route,
    *,
    stream: str | None = None,
    sender: Sender | None = None,
    batch: Batch | None = None,
    pinned: bool = False,
) -> int:
    """Have what waits on `source` (of the stream, the sender or the batch, where one is given) take `target` from the next claim on.
    Returns how many mails that is. What a drain has claimed already still goes its old way.

    A campaign takes the other route alone; the sender's next one goes as before. Transactional mail has no such group: what the senders
    send from now on takes the other route, too. `pinned`: of the batches only those that name the route themselves; others follow their
    sender, which the caller gives another."""
    count = waiting(source, stream=stream, sender=sender, batch=batch)
    batches = list(_batches(source, stream, sender, batch).order_by("pk"))
    senders = list(_senders(source, stream, sender, batch).order_by("pk"))
    if pinned:
        batches = [each for each in batches if each.route_id == source.pk]
    for each in batches:
        each.route = target
    for every in senders:
        every.transactional_route = target
    Batch.objects.bulk_update(batches, ["route"])
    Sender.objects.bulk_update(senders, ["transactional_route"])
    if batches:
        # They all take the same route now.
        queue.wake_batch(batches[0])
    queue.wake(*senders)
    return count


def _batches(source: Route, stream: str | None, sender: Sender | None, batch: Batch | None) -> QuerySet[Batch]:
    """Those that go on and whose route in force is `source`."""
    if stream == Stream.TRANSACTIONAL:
        return Batch.objects.none()
    by_sender = Q(sender__campaign_route=source)
    if source.default_for == Stream.CAMPAIGN:
        by_sender |= Q(sender__campaign_route__isnull=True)
    found = Batch.objects.filter(Q(route=source) | Q(by_sender, route__isnull=True), status__in=[Batch.Status.RUNNING, Batch.Status.PAUSED])
    if sender:
        found = found.filter(sender=sender)
    return found.filter(pk=batch.pk) if batch else found


def _senders(source: Route, stream: str | None, sender: Sender | None, batch: Batch | None) -> QuerySet[Sender]:
    """Those whose transactional mail takes `source`."""
    if batch or stream == Stream.CAMPAIGN:
        return Sender.objects.none()
    mine = Q(transactional_route=source)
    if source.default_for == Stream.TRANSACTIONAL:
        mine |= Q(transactional_route__isnull=True)
    return Sender.objects.filter(mine, **({"pk": sender.pk} if sender else {}))
