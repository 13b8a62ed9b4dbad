"""Where trouble is looked for, beside the rules: each source reads rows that others keep, and yields what is wrong at this moment.

A source of another package is plugged in by its dotted path in SOURCES; what only its own code can know is told by troubles.report()."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F, Q, QuerySet, Sum

from mailhub.delivery import workers
from mailhub.delivery.models import WAITING, Batch, Message, Worker
from mailhub.lib.counts import count_to
from mailhub.lib.lookups import in_turn
from mailhub.relays import limits, routing
from mailhub.relays.models import IPCheck, Listing, Quota, Relay, RouteMember, Stream
from mailhub.senders import verdicts
from mailhub.senders.models import Finding, Sender
from mailhub.watching.found import Found
from mailhub.watching.models import Channel, Rule, Trouble
from mailhub.webhooks.models import Endpoint

Kind, Tone = Trouble.Kind, Trouble.Tone
Source = Callable[[datetime], Iterable[Found]]

# So long workers that start have to give their first sign of life.
STARTING = timedelta(minutes=3)
# A quota that has room again sooner paces mail, as it is meant to.
SOON = timedelta(hours=1)
# Lanes of transactional mail that waits are looked at up to this number.
LANES = 500


# ---------------------------------------------------------------------------------------------------------------------- relays


def resting(now: datetime) -> Iterator[Found]:
    """Relays that failed when they were tried last, and those that something they said makes rest."""
    rows = Relay.objects.filter(status=Relay.Status.ACTIVE).filter(Q(failures__gt=0) | Q(resting_until__gt=now)).defer("secrets")
    for relay in rows:
        if relay.failures or not limits.opens_at(relay, now):
            about = {"relay": relay.name, "reason": relay.rest_reason, "failures": relay.failures}
            if relay.resting_until:
                about["until"] = relay.resting_until.isoformat()
            yield Found(Kind.RELAY, f"relay {relay.pk}", about, Tone.BAD, "relays.Relay", str(relay.pk), relay.pk)


def routes(now: datetime) -> Iterator[Found]:
    """Routes whose first relays take no mail, and that others serve instead, or none. What staff paused themselves, they know."""
    members: dict[int, list[RouteMember]] = {}
    for member in RouteMember.objects.select_related("route", "relay").defer("relay__secrets").order_by("route__name", "position", "pk"):
        members.setdefault(member.route_id, []).append(member)
    for route, found in members.items():
        everybody = [member for member in found if not (member.stream or member.senders)]
        first = [member.relay for member in everybody if member.position == everybody[0].position]
        down = [relay for relay in first if not relay.is_available(now)]
        if not first or len(down) < len(first) or not any(unasked(relay) for relay in down):
            continue
        able = [member for member in everybody if member.relay.is_available(now)]
        instead = [member.relay for member in able if member.position == able[0].position]
        about = {"route": str(found[0].route), "relays": names(first), "instead": names(instead), "reason": why(down)}
        kind, tone = (Kind.FAILOVER, Tone.WARN) if instead else (Kind.STANDSTILL, Tone.BAD)
        yield Found(kind, f"route {route}", about, tone, "relays.Route", str(route), down[0].pk)


def unasked(relay: Relay) -> bool:
    """It is not staff who stopped it."""
    return relay.status == Relay.Status.ACTIVE or bool(relay.pause_reason)


def why(relays: Iterable[Relay]) -> str:
    return next((reason for relay in relays if (reason := relay.pause_reason or relay.rest_reason)), "")


def names(relays: Iterable[Relay]) -> str:
    return ", ".join(relay.name for relay in relays)


def quotas(now: datetime) -> Iterator[Found]:
    """Relays whose quota has no room for an hour or more, while mail waits that nothing else takes."""
    active = Quota.objects.filter(relay__status=Relay.Status.ACTIVE).select_related("relay").defer("relay__secrets")
    empty = [standing for standing in limits.standing(active, now) if standing.opens_at and standing.opens_at > now + SOON]
    waiting = stuck_routes(now) if empty else set()
    for standing in empty:
        relay = standing.quota.relay
        if waiting & set(relay.memberships.values_list("route_id", flat=True)):
            about = {"relay": relay.name, "quota": str(standing.quota), "until": standing.opens_at and standing.opens_at.isoformat()}
            yield Found(Kind.QUOTA, f"quota {standing.quota.pk}", about, Tone.BAD, "relays.Relay", str(relay.pk))


def stuck_routes(now: datetime) -> set[int]:
    """Routes for whose mail, of which some waits, no relay is available."""
    found: set[int] = set()
    # Index delivery_batch_open.
    running = Batch.objects.filter(status=Batch.Status.RUNNING).filter(Q(waiting__gt=0) | Q(deferred__gt=0))
    for batch in running.select_related("sender__campaign_route", "route"):
        if route := batch.route or batch.sender.route(Stream.CAMPAIGN):
            found.add(route.pk)
    senders = {sender for sender, *_lane in lanes()}
    for sender in Sender.objects.filter(pk__in=senders).select_related("transactional_route"):
        if route := sender.route(Stream.TRANSACTIONAL):
            found.add(route.pk)
    return {route for route in found if not routing.serving(route, now)}


# ------------------------------------------------------------------------------------------------------------------------ queue


def waiting(now: datetime) -> Iterator[Found]:
    """Transactional mail that has been due for longer than a rule allows. Campaigns wait by nature: for quotas, and for their pace."""
    for rule in Rule.objects.filter(active=True, measure=Rule.Measure.WAITING):
        since = oldest(rule)
        if since and (now - since).total_seconds() > 60 * rule.threshold:
            about = {"rule": rule.name, "limit": float(rule.threshold), "minutes": int((now - since).total_seconds() // 60)}
            yield Found(Kind.WAITING, f"{rule.key} waiting", about, Tone.BAD, "delivery.Message", "", rule=rule)


def oldest(rule: Rule) -> datetime | None:
    """Since when the transactional mail is due that has been so for longest."""
    return min((due for *_lane, destination, due in lanes() if rule.destination_id in (None, destination)), default=None)


# What a lane of transactional mail is, and when the first of it is due, in the order of its index. Of keys the columns: a model's own order
# would be another.
LANE = ("sender_id", "source_ref", "destination_id", "next_attempt_at")


def lanes() -> list[tuple[int, int, str, datetime]]:
    """Senders, sites and destinations with transactional mail that waits, and since when it is due; the first LANES of them.

    Index delivery_message_lane: one probe for each, and none more for what waits behind it. On PostgreSQL in one statement."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"{IN_TURN} LIMIT %s", [LANES])
            return list(cursor.fetchall())
    found: list[tuple[int, int, str, datetime]] = []
    following = _first(transactional())
    while following and len(found) < LANES:
        found.append(following)
        sender, source, destination, _due = following
        rows = transactional().filter(sender=sender)
        following = (
            _first(rows.filter(source_ref=source, destination__gt=destination))
            or _first(rows.filter(source_ref__gt=source))
            or _first(transactional().filter(sender__gt=sender))
        )
    return found


def _first(rows: QuerySet[Message]) -> tuple[int, int, str, datetime] | None:
    return rows.order_by(*LANE).values_list(*LANE).first()


IN_TURN = in_turn("delivery_message", LANE, LANE[:3], "stream = 'transactional' AND status IN ('queued', 'deferred')")


def waiting_mails() -> tuple[int, int]:
    """Waiting mails of campaigns, exactly; and transactional ones, up to MANY + 1.

    Indexes delivery_batch_open: a handful of rows; and delivery_message_lane, in whose order PostgreSQL reads as many and sorts none."""
    open_batches = Batch.objects.filter(status__in=[Batch.Status.RUNNING, Batch.Status.PAUSED])
    campaign = open_batches.aggregate(n=Sum(F("waiting") + F("deferred")))["n"] or 0
    return campaign, count_to(transactional().order_by(*LANE))


def transactional() -> QuerySet[Message]:
    return Message.objects.filter(stream=Stream.TRANSACTIONAL, status__in=WAITING)


def missing_workers(now: datetime) -> Iterator[Found]:
    """Kinds of work that nobody does. Whoever looks is a worker, so at least one machine has been at work for a while."""
    if not Worker.objects.filter(started_at__lt=now - STARTING).exists():
        return
    served = workers.served(now)
    for queue in workers.QUEUES:
        if queue not in served:
            yield Found(Kind.WORKERS, f"queue {queue}", {"queue": queue}, Tone.BAD, "delivery.Worker", "")


# ------------------------------------------------------------------------------------------------------------------------ others


def records(now: datetime) -> Iterator[Found]:
    """DNS records that were in order once, and are not any more."""
    rows = Finding.objects.filter(was_good=True, verdict__in=verdicts.TROUBLE).select_related("domain")
    for row in rows:
        about = {"domain": row.domain.name, "record": row.kind, "name": row.name, "verdict": row.verdict}
        yield Found(Kind.DNS, f"record {row.domain_id} {row.kind} {row.name}"[:200], about, Tone.WARN, "senders.Domain", str(row.domain_id))


def host_names(now: datetime) -> Iterator[Found]:
    """Own addresses whose PTR record is missing, or does not lead back."""
    for row in IPCheck.objects.filter(blocklist__isnull=True, verdict=IPCheck.Verdict.BAD).select_related("ip"):
        about = {"address": row.ip.address, "reason": row.reason, "name": row.ip.ehlo_name}
        yield Found(Kind.PTR, f"ptr {row.ip_id}", about, Tone.WARN, "relays.DedicatedIP", str(row.ip_id))


def channels(now: datetime) -> Iterator[Found]:
    for channel in Channel.objects.filter(active=True).exclude(problem=""):
        about = {"channel": channel.name, "reason": channel.problem}
        yield Found(Kind.CHANNEL, f"channel {channel.pk}", about, Tone.WARN, "watching.Channel", str(channel.pk))


def listings(now: datetime) -> Iterator[Found]:
    """Own addresses on blocklists by which receivers go."""
    for listing in Listing.objects.filter(until=None, blocklist__alerts=True).select_related("ip", "blocklist"):
        about = {"address": listing.ip.address, "list": listing.blocklist.name, "reason": listing.reason or listing.codes}
        subject = f"{listing.ip.address} {listing.blocklist.zone}"
        yield Found(Kind.LISTING, subject, about, Tone.BAD, "relays.DedicatedIP", str(listing.ip_id))


def endpoints(now: datetime) -> Iterator[Found]:
    """Webhooks that we stopped posting to."""
    for endpoint in Endpoint.objects.filter(status=Endpoint.Status.DISABLED).defer("secret", "old_secret"):
        about = {"endpoint": endpoint.name, "reason": endpoint.problem}
        yield Found(Kind.ENDPOINT, f"endpoint {endpoint.pk}", about, Tone.BAD, "webhooks.Endpoint", str(endpoint.pk))


# Dotted path -> the kinds that the source alone opens and closes.
SOURCES: Mapping[str, tuple[Trouble.Kind, ...]] = {
    "mailhub.watching.rules.judge": (Kind.COMPLAINTS, Kind.BOUNCES, Kind.DEFERRALS, Kind.UNPROVEN),
    "mailhub.watching.sources.resting": (Kind.RELAY,),
    "mailhub.watching.sources.routes": (Kind.FAILOVER, Kind.STANDSTILL),
    "mailhub.watching.sources.quotas": (Kind.QUOTA,),
    "mailhub.watching.sources.waiting": (Kind.WAITING,),
    "mailhub.watching.sources.missing_workers": (Kind.WORKERS,),
    "mailhub.watching.sources.records": (Kind.DNS,),
    "mailhub.watching.sources.endpoints": (Kind.ENDPOINT,),
    "mailhub.watching.sources.listings": (Kind.LISTING,),
    "mailhub.watching.sources.host_names": (Kind.PTR,),
    "mailhub.watching.sources.channels": (Kind.CHANNEL,),
}
