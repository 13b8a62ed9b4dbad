"""Rules: which thresholds of tallies are passed. Reads delivery/throughput.py alone, however many messages there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils.translation import gettext_noop

from mailhub.delivery import throughput
from mailhub.delivery.throughput import Counts, hour_of
from mailhub.relays import shipping
from mailhub.relays.models import DedicatedIP, Destination, Relay
from mailhub.watching.found import Found
from mailhub.watching.models import Rule, Trouble

Measure, Scope = Rule.Measure, Rule.Scope

GOOGLE = "https://support.google.com/a/answer/81126"
OWN = {"confidence": "own", "source": ""}
PUBLISHED = {"confidence": "high", "source": GOOGLE, "as_of": date(2026, 3, 1)}

# What is shipped: Gmail and Yahoo want less than 0.1 % complaints and act from 0.3 % on; the others are our own choice, after the signals
# on which warm-up plans advance. A pause takes what is smallest: one destination of a relay, unless the relay itself is at fault.
SHIPPED: dict[str, dict[str, Any]] = {
    "complaints": {
        "name": gettext_noop("Recipients call more mail spam than Gmail and Yahoo like"),
        "measure": Measure.COMPLAINTS, "scope": Scope.RELAY, "threshold": Decimal("0.10"), "hours": 72, "least": 1000, **PUBLISHED,
    },
    "complaints-ip": {
        "name": gettext_noop("Recipients call more mail from an own address spam than Gmail and Yahoo like"),
        "measure": Measure.COMPLAINTS, "scope": Scope.IP, "threshold": Decimal("0.10"), "hours": 72, "least": 1000, **PUBLISHED,
    },
    "complaints-pause": {
        "name": gettext_noop("Recipients call so much mail spam that Gmail and Yahoo act"),
        "measure": Measure.COMPLAINTS, "scope": Scope.DESTINATION, "threshold": Decimal("0.30"), "hours": 72, "least": 1000,
        "action": Rule.Action.PAUSE, **PUBLISHED,
    },
    "bounces": {
        "name": gettext_noop("Many addresses do not exist"),
        "measure": Measure.BOUNCES, "scope": Scope.RELAY, "threshold": Decimal("2.00"), "hours": 24, "least": 500, **OWN,
    },
    "bounces-ip": {
        "name": gettext_noop("Many addresses that an own address writes to do not exist"),
        "measure": Measure.BOUNCES, "scope": Scope.IP, "threshold": Decimal("2.00"), "hours": 24, "least": 500, **OWN,
    },
    "bounces-pause": {
        "name": gettext_noop("Too many addresses do not exist"),
        "measure": Measure.BOUNCES, "scope": Scope.DESTINATION, "threshold": Decimal("5.00"), "hours": 24, "least": 500,
        "action": Rule.Action.PAUSE, **OWN,
    },
    "deferrals": {
        "name": gettext_noop("A destination puts much mail off"),
        "measure": Measure.DEFERRALS, "scope": Scope.DESTINATION, "threshold": Decimal("10.00"), "hours": 2, "least": 500, **OWN,
    },
    "deferrals-ip": {
        "name": gettext_noop("Much mail from an own address is put off"),
        "measure": Measure.DEFERRALS, "scope": Scope.IP, "threshold": Decimal("10.00"), "hours": 2, "least": 500, **OWN,
    },
    "unproven": {
        "name": gettext_noop("Mail is refused since SPF, DKIM or DMARC do not show whose it is"),
        "measure": Measure.UNPROVEN, "scope": Scope.DESTINATION, "threshold": Decimal("1.00"), "hours": 2, "least": 50, **OWN,
    },
    "unproven-pause": {
        "name": gettext_noop("Nearly all mail is refused since SPF, DKIM or DMARC do not show whose it is"),
        "measure": Measure.UNPROVEN, "scope": Scope.RELAY, "threshold": Decimal("50.00"), "hours": 1, "least": 50,
        "action": Rule.Action.PAUSE, **OWN,
    },
    "waiting": {
        "name": gettext_noop("Transactional mail waits too long"),
        "measure": Measure.WAITING, "scope": Scope.RELAY, "threshold": Decimal("10.00"), "hours": 1, "least": 1, **OWN,
    },
}  # fmt: skip


def load() -> None:
    """Bring the shipped rows into the database; what staff have changed stays."""
    with transaction.atomic():
        shipping.bring_in(Rule, {key: {**shipping.defaults(Rule), **fields} for key, fields in SHIPPED.items()})


# -------------------------------------------------------------------------------------------------------------------- measures

# Measure -> how many are bad, and of how many.
MEASURES: dict[str, Callable[[Counts], tuple[int, int]]] = {
    Measure.COMPLAINTS: lambda counts: (counts.complained, counts.accepted),
    # Of what was answered for good; what came back later had been accepted.
    Measure.BOUNCES: lambda counts: (counts.bounced + counts.returned, counts.accepted + counts.bounced + counts.refused),
    Measure.DEFERRALS: lambda counts: (counts.deferred, counts.tries),
    Measure.UNPROVEN: lambda counts: (counts.unproven, counts.tries),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule is looked at: fields that are empty do not matter to it."""

    relay: int = 0
    destination: str = ""
    source: str = ""

    def only(self) -> dict[str, Any]:
        """The columns of Throughput that have to have these values."""
        given = {"relay_key": self.relay, "destination_key": self.destination, "source": self.source}
        return {name: value for name, value in given.items() if value}


def judge(now: datetime) -> Iterator[Found]:
    """What passes a rule that is in use."""
    rules = [rule for rule in Rule.objects.filter(active=True) if rule.measure in MEASURES]
    names = Names()
    spans = {hours: sums(now, hours) for hours in {rule.hours for rule in rules}}
    pardons = forgiven(now, max(spans, default=0))
    for rule in rules:
        for place, counts in places(rule, spans[rule.hours]).items():
            bad, total = pardoned(rule, place, counts, pardons, now)
            if total >= rule.least and bad * 100 > rule.threshold * total:
                yield names.found(rule, place, bad, total)


def sums(now: datetime, hours: int) -> Mapping[tuple[Any, ...], Counts]:
    """By relay, destination and source. Index delivery_throughput_once: some hundred rows an hour at most."""
    return throughput.between(start(now, hours), now + timedelta(hours=1), "relay_key", "destination_key", "source")


def start(now: datetime, hours: int) -> datetime:
    return hour_of(now - timedelta(hours=hours))


def places(rule: Rule, counted: Mapping[tuple[Any, ...], Counts]) -> dict[Place, Counts]:
    found: dict[Place, Counts] = {}
    for (relay, destination, source), counts in counted.items():
        if rule.relay_id not in (None, relay) or rule.destination_id not in (None, destination):
            continue
        if rule.scope == Scope.IP:
            if not source:
                continue
            place = Place(source=source, destination=rule.destination_id or "", relay=rule.relay_id or 0)
        else:
            place = Place(relay, destination if rule.scope == Scope.DESTINATION else rule.destination_id or "")
        found[place] = plus(found.get(place, Counts()), counts)
    return found


def plus(one: Counts, other: Counts) -> Counts:
    fields = {name: getattr(one, name) + getattr(other, name) for name in (*throughput.OUTCOMES, *throughput.FATES, "seconds")}
    return Counts(**fields, spread=tuple(a + b for a, b in zip(one.spread, other.spread, strict=True)))


# ------------------------------------------------------------------------------------------------------------------- forgiving


def subject(rule: Rule, place: Place) -> str:
    return f"{rule.key} {place.relay or '-'} {place.destination or '-'} {place.source or '-'}"


def place_of(subject: str) -> Place:
    _key, relay, destination, source = ("" if part == "-" else part for part in subject.split(" "))
    return Place(int(relay or 0), destination, source)


def forgiven(now: datetime, hours: int) -> dict[str, dict[str, Any]]:
    """Subject -> what was counted there until somebody resumed it, of those that were resumed not longer ago."""
    rows = Trouble.objects.filter(closed_at__gt=start(now, hours), forgiven__isnull=False).order_by("pk")
    return {row.subject: row.forgiven for row in rows if row.forgiven}


def pardon(rule: Rule, place: Place, now: datetime) -> dict[str, Any]:
    """To be kept with a trouble that is resumed: from this hour on it is counted anew, without what this hour has had."""
    bad, total = MEASURES[rule.measure](throughput.between(hour_of(now), now + timedelta(hours=1), **place.only())[()])
    return {"hour": hour_of(now).isoformat(), "bad": bad, "of": total}


def pardoned(rule: Rule, place: Place, counts: Counts, pardons: Mapping[str, dict[str, Any]], now: datetime) -> tuple[int, int]:
    pardon = pardons.get(subject(rule, place))
    if pardon is None:
        return MEASURES[rule.measure](counts)
    since = datetime.fromisoformat(pardon["hour"])
    if since < start(now, rule.hours):
        return MEASURES[rule.measure](counts)
    bad, total = MEASURES[rule.measure](throughput.between(since, now + timedelta(hours=1), **place.only())[()])
    return bad - pardon["bad"], total - pardon["of"]


# ----------------------------------------------------------------------------------------------------------------------- naming


class Names:
    """What keys of tallies are called; a relay that is gone is called by its number."""

    def __init__(self) -> None:
        self.relays = dict(Relay.objects.values_list("pk", "name"))
        self.destinations = dict(Destination.objects.values_list("pk", "name"))
        self.addresses = dict(DedicatedIP.objects.values_list("address", "pk"))

    def found(self, rule: Rule, place: Place, bad: int, total: int) -> Found:
        about = {
            "rule": rule.name, "limit": float(rule.threshold), "hours": rule.hours, "bad": bad, "of": total,
            "percent": round(100 * bad / total, 2), "relay": self.relays.get(place.relay, ""),
            "destination": self.destinations.get(place.destination, place.destination), "source": place.source,
        }  # fmt: skip
        model, key = "relays.Relay", str(place.relay or "")
        if rule.scope == Scope.IP:
            model, key = "relays.DedicatedIP", str(self.addresses.get(place.source, ""))
        return Found(
            Trouble.Kind(rule.measure),
            subject(rule, place),
            about,
            tone=Trouble.Tone.BAD if rule.action == Rule.Action.PAUSE else Trouble.Tone.WARN,
            model=model if key else "",
            object_id=key,
            relay=place.relay if place.relay in self.relays else None,
            rule=rule,
        )
