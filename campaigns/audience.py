"""Who gets a campaign: from lists to messages.

A contact of several lists gets one mail. A subscription with consent to any of them is enough; who has none is left out, with the reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from django.db import connection, transaction
from django.db.models import Case, Exists, F, Max, OuterRef, Q, QuerySet, Value, When

from campaigns.models import Campaign, Contact, LeftOut, MailingList, Subscription
from mailhub.delivery import queue, workers
from mailhub.delivery.models import Batch, Message, Suppression
from mailhub.lib import clock, tasks
from mailhub.relays.models import Stream

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Judgement(TypedDict):
        #: LeftOut.Reason, or "" for who gets the campaign
        reason: str

    Judged = WithAnnotations[Contact, Judgement]

# How many contacts are looked at in one transaction. At first few, so that the first mail leaves at once. While a transaction lasts, who
# unsubscribes waits (and on SQLite everybody who writes).
FIRST = 200
CHUNK = {"postgresql": 10_000, "sqlite": 1_000}
FILLING = (Batch.Status.RUNNING, Batch.Status.PAUSED)

Status = Subscription.Status
Reason = LeftOut.Reason


class _Over(Exception):
    """The batch was canceled meanwhile."""


@dataclass(frozen=True, slots=True)
class Count:
    """What a campaign would come to if it were sent now."""

    recipients: int
    #: LeftOut.Reason -> contacts; reasons that nobody has are absent
    left_out: dict[str, int]


def count(campaign: Campaign) -> Count:
    """Reads all of its subscriptions, from their index alone, and of contacts those that are suppressed."""
    if not (lists := _lists(campaign)):
        return Count(recipients=0, left_out={})
    suppressed = Contact.objects.filter(email__in=Suppression.covering(Stream.CAMPAIGN).values("address"))
    found = _reasons(lists)
    kept_back = _reasons(lists, contact__in=suppressed.values("pk"))
    found -= kept_back
    found[Reason.SUPPRESSED] = kept_back.total()
    recipients = found.pop("", 0)
    return Count(recipients=recipients, left_out={reason: number for reason, number in found.items() if number > 0})


def _reasons(lists: Sequence[int], **only: object) -> Counter[str]:
    """How many contacts of the lists have each reason, "" for none, suppressed or not. Index campaigns_subscription_walk."""
    rows: QuerySet[Subscription, Any] = Subscription.objects.filter(list__in=lists, **only).order_by()
    agreed = Q(status=Status.SUBSCRIBED, consent__isnull=False)
    withdrew = Q(status=Status.UNSUBSCRIBED)
    if len(lists) > 1:
        rows = rows.values("contact").annotate(agreed=Max(Case(When(agreed, then=1), default=0)))
        rows = rows.annotate(withdrew=Max(Case(When(withdrew, then=1), default=0)))
        agreed, withdrew = Q(agreed=1), Q(withdrew=1)
    reason = Case(
        When(agreed, then=Value("")), When(withdrew, then=Value(Reason.UNSUBSCRIBED.value)), default=Value(Reason.NO_CONSENT.value)
    )
    sql, params = rows.annotate(reason=reason).values("reason").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT reason, COUNT(*) FROM ({sql}) AS judged GROUP BY reason", params)  # noqa: S608  built by Django
        return Counter(dict(cursor.fetchall()))


def recipients(campaign: Campaign) -> Iterator[Contact]:
    """Those who would get the campaign now, in the order in which they would."""
    lists = _lists(campaign)
    upto: int | None = 0
    while upto is not None:
        after, upto = upto, _bound(lists, upto, FIRST)
        yield from (contact for contact in _judged(lists, after, upto) if not contact.reason)


def expand(batch_id: int, seconds: float = 10) -> None:
    """Put a launched campaign's recipients into its batch until all are in; when the time is over, ask to be called again.

    Safe to call twice, at once, anywhere."""
    until = time.monotonic() + seconds
    campaign = Campaign.objects.get(batch=batch_id)
    size = FIRST
    while grow(campaign, size):
        size = CHUNK[connection.vendor]
        if not workers.beat() or time.monotonic() > until:
            tasks.enqueue("campaigns.tasks.expand", batch_id, queue="bulk")
            return


def grow(campaign: Campaign, size: int) -> bool:
    """Take in the next contacts, some `size` of each list: messages, those left out, counters and cursor in one transaction.
    False when there is nothing left to do."""
    try:
        with transaction.atomic():
            lists = _lists(campaign)
            hold(lists)
            batch = Batch.objects.select_related("sender", "route").get(campaign=campaign)
            if batch.filled or batch.status not in FILLING:
                return False
            upto = _bound(lists, batch.cursor, size)
            insert = _insert_select if connection.vendor == "postgresql" else _insert
            _count_in(campaign, batch, insert(campaign, batch, _judged(lists, batch.cursor, upto)), upto)
            return upto is not None
    except _Over:
        return False


def hold(lists: Sequence[int]) -> None:
    """Be alone with the lists' audience until the transaction ends: expansions and unsubscriptions wait for one another.

    Rows of lists and not of batches, because whoever holds a batch must not ask for messages (see delivery/queue.py), which
    unsubscribing does; and because that covers the batches that are launched meanwhile, too."""
    list(MailingList.objects.select_for_update(no_key=True).filter(pk__in=lists).order_by("pk").values_list("pk"))


def _lists(campaign: Campaign) -> list[int]:
    return list(campaign.lists.order_by("pk").values_list("pk", flat=True))


def _bound(lists: Sequence[int], after: int, size: int) -> int | None:
    """A contact's key, with at least `size` contacts of one of the lists up to it and at most that many of each; None when no list has
    that many left.

    Index campaigns_subscription_walk, an index-only scan of `size` rows a list."""
    bounds: list[int] = []
    for pk in lists:
        left = Subscription.objects.filter(list=pk, contact_id__gt=after).order_by("contact_id").values_list("contact_id", flat=True)
        bounds += left[size - 1 : size]
    return min(bounds, default=None)


def _judged(lists: Sequence[int], after: int, upto: int | None) -> QuerySet[Judged]:
    """The lists' contacts from beyond `after` up to `upto`, each with the `reason` why it is left out, or "".

    Index campaigns_subscription_walk, an index-only scan by list and range of contacts; contacts by range of the primary key;
    suppressions by their unique address, or all at once where they are few. 1.6 us a contact (PostgreSQL 15, 200,000 contacts, 300,000
    subscriptions, 20,000 suppressions), 1.1 us where only reasons are counted."""
    member = Q(subscriptions__list__in=lists, subscriptions__contact__gt=after)
    if upto is not None:
        # The same twice, because PostgreSQL does not conclude the one from the other and would read all contacts.
        member &= Q(subscriptions__contact__lte=upto, pk__gt=after, pk__lte=upto)
    agreed = When(subscriptions__status=Status.SUBSCRIBED, subscriptions__consent__isnull=False, then=1)
    suppressed = Suppression.covering(Stream.CAMPAIGN).filter(address=OuterRef("email"))
    judged = Contact.objects.filter(member).annotate(
        agreed=Max(Case(agreed, default=0)),
        withdrew=Max(Case(When(subscriptions__status=Status.UNSUBSCRIBED, then=1), default=0)),
    )
    reason = Case(
        When(Exists(suppressed), then=Value(Reason.SUPPRESSED.value)),
        When(agreed=1, then=Value("")),
        When(withdrew=1, then=Value(Reason.UNSUBSCRIBED.value)),
        default=Value(Reason.NO_CONSENT.value),
    )
    return judged.annotate(reason=reason).order_by("pk")


def _insert(campaign: Campaign, batch: Batch, judged: QuerySet[Judged]) -> int:
    """Returns how many messages were made."""
    messages = []
    left_out = []
    for contact in judged:
        if contact.reason:
            left_out.append(LeftOut(campaign=campaign, contact=contact, reason=contact.reason))
        else:
            messages.append(
                queue.new(
                    Stream.CAMPAIGN,
                    batch=batch,
                    content_id=batch.content_id,
                    sender=batch.sender,
                    address=contact.email,
                    recipient_ref=contact.pk,
                    data=contact.data,
                )
            )
    queue.label(messages)
    Message.objects.bulk_create(messages, batch_size=500)
    LeftOut.objects.bulk_create(left_out, batch_size=500)
    return len(messages)


def _insert_select(campaign: Campaign, batch: Batch, judged: QuerySet[Judged]) -> int:
    """What _insert() does, without a row leaving the database (PostgreSQL)."""
    sql, judged_params = judged.values("pk", "email", "name", "language", "attributes", "reason").query.sql_with_params()
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT_SELECT.format(judged=sql),
            [
                *judged_params,
                *(campaign.pk,),
                *(_beginning(now), batch.pk, batch.content_id, batch.sender_id, now, now + queue.LIFETIME[Stream.CAMPAIGN], now),
            ],
        )
        found: tuple[int] = cursor.fetchone()
    return found[0]


def _beginning(now: datetime) -> str:
    """Of a UUID of version 7 (RFC 9562): with the same one, those of a chunk lie side by side in their index, however large that is."""
    time = f"{int(now.timestamp() * 1000):012x}"
    return f"{time[:8]}-{time[8:]}-7"


# The rows of _judged() are read once and written as messages or as left out. 11 us of PostgreSQL's time a message (docs/performance.md),
# most of it for five indexes: no foreign key is checked here, as what a message names is kept by its batch.
INSERT_SELECT = """
WITH judged (id, email, name, language, attributes, reason) AS MATERIALIZED ({judged}),
left_out AS (
    INSERT INTO campaigns_leftout (campaign_id, contact_id, reason) SELECT %s, id, reason FROM judged WHERE reason <> ''
),
queued AS (
    INSERT INTO delivery_message (
        public_id, stream, status, batch_id, content_id, sender_id, address, destination_id, recipient_ref, data,
        next_attempt_at, expires_at, attempts, lost_leases, repeated, reply, created_at
    )
    SELECT
        (%s || substr(gen_random_uuid()::text, 16))::uuid, 'campaign', 'queued', %s, %s, %s,
        email, COALESCE(known.destination_id, 'other'), judged.id,
        attributes || jsonb_build_object('email', email, 'name', name, 'language', language),
        %s, %s, 0, 0, FALSE, '', %s
    FROM judged LEFT JOIN relays_knowndomain AS known ON known.domain = split_part(email, '@', -1)
    WHERE reason = ''
    RETURNING 1
)
SELECT COUNT(*) FROM queued
"""


def _count_in(campaign: Campaign, batch: Batch, queued: int, upto: int | None) -> None:
    """Raises _Over when the batch was canceled since: what was inserted would never be withdrawn."""
    place = {"filled": True} if upto is None else {"cursor": upto}
    if not Batch.objects.filter(pk=batch.pk, status__in=FILLING).update(waiting=F("waiting") + queued, **place):
        raise _Over
    Campaign.objects.filter(pk=campaign.pk).update(filling_at=clock.now())
    if upto is None:
        queue.finish([batch.pk])
    queue.wake_batch(batch)
