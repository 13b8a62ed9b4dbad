"""How much may go to each destination through a relay at this moment, for all workers on all machines together.

Limits of destinations hold for mail that leaves from addresses of our own: a service that we relay through keeps to them by itself. What
replies have asked for (parking.py) holds for every relay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailhub.relays import warmup
from mailhub.relays.models import Destination, Pace, Parking, Relay, Sighting, Slowdown, spacing

# A bucket holds what flows in within this time, a mail at least, and one more: so a wake-up that is a little late costs nothing, and in any
# time hardly more leaves than the rate allows.
BURST = timedelta(seconds=1)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# What was taken to be tried after a rest is waited for this long; then others are tried.
PROBE_FOR = timedelta(seconds=90)

#: a destination's key and a sender's domain, "" for all mail to the destination
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a destination through one relay. None: no limit."""

    #: at once, from each address that mail leaves from
    connections: int | None = None
    #: from one mail to the next
    spacing: timedelta | None = None


def terms(relay: Relay, now: datetime) -> dict[str, Terms]:
    """For every destination there is, by key."""
    direct = relay.is_direct
    columns = ("pk", "connections", "rate", "per")
    found = {
        key: Terms(connections if direct else None, spacing(rate, per) if direct else None)
        for key, connections, rate, per in Destination.objects.order_by().values_list(*columns)
    }
    for slowed in Slowdown.objects.filter(relay=relay, until__gt=now).order_by():
        before = found[slowed.destination_id]
        found[slowed.destination_id] = Terms(
            least(before.connections, slowed.connections), most(before.spacing, spacing(slowed.rate, slowed.per))
        )
    return found


def least(one: int | None, other: int | None) -> int | None:
    return min((number for number in (one, other) if number is not None), default=None)


def most(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return max((time for time in (one, other) if time is not None), default=None)


class Openings:
    """What may be taken of each destination now. `hold`: in the caller's transaction, which then has the books to itself until it ends."""

    def __init__(self, relay: Relay, now: datetime, *, hold: bool = False) -> None:
        self.relay = relay
        self.now = now
        self.terms = terms(relay, now)
        #: at most so many; a pair that is missing has no limit
        self.room: dict[Pair, int] = {}
        #: when the next may go, of destinations that a rate limits and nothing else closes
        self.opens: dict[str, datetime] = {}
        self.paces = self._paces(hold)
        #: destinations that are parked for all senders, by key of the relay, the others' too: True while none may go, False where some may
        self.parked: dict[int, dict[str, bool]] = {}
        self.probes = self._probes(hold)
        self._warm_up()

    def _paces(self, hold: bool) -> dict[str, Pace]:
        limited = [key for key, each in self.terms.items() if each.spacing]
        if not limited:
            return {}
        rows = Pace.objects.filter(relay=self.relay, destination__in=limited).order_by("pk")
        found = {row.destination_id: row for row in (rows.select_for_update(no_key=True) if hold else rows)}
        if hold and len(found) < len(limited):
            missing = [Pace(relay=self.relay, destination_id=key, next_at=LONG_AGO) for key in limited if key not in found]
            Pace.objects.bulk_create(missing, ignore_conflicts=True)
            return self._paces(hold)
        for key in limited:
            every = self.terms[key].spacing
            assert every  # noqa: S101  those without were left out above
            earliest = self._earliest(found.get(key), every)
            self.room[key, ""] = (self.now - earliest) // every + 1 if earliest <= self.now else 0
            self.opens[key] = earliest
        return found

    def _earliest(self, pace: Pace | None, every: timedelta) -> datetime:
        """When the next mail would leave if all had left evenly: not so long ago that more than a bucket came together since."""
        full = self.now - max(BURST // every, 1) * every
        return max(pace.next_at, full) if pace else full

    def _probes(self, hold: bool) -> dict[Pair, Parking]:
        """Those that are to be tried again; others stay closed."""
        parked = {}
        for row in Parking.objects.order_by():
            if row.relay_id == self.relay.pk:
                parked[row.destination_id, row.sender_domain] = row
            if not row.sender_domain:
                self.parked.setdefault(row.relay_id, {})[row.destination_id] = row.until > self.now
        ripe = {pair: row for pair, row in parked.items() if row.until <= self.now}
        if hold and ripe:
            # Who else looks at this moment tries none.
            rows = Parking.objects.select_for_update(skip_locked=True, no_key=True).order_by("pk")
            mine = rows.filter(pk__in=[row.pk for row in ripe.values()], until__lte=self.now)
            ripe = {(row.destination_id, row.sender_domain): row for row in mine}
        for pair in parked:
            self.limit(pair, ripe[pair].allowance if pair in ripe else 0)
        return ripe

    def _warm_up(self) -> None:
        """What addresses that warm up have had today is for others."""
        for relay, rooms in warmup.rooms(self.relay, self.now, self.terms).items():
            for key, left in rooms.items():
                if relay == self.relay.pk:
                    self.limit((key, ""), left)
                if not left:
                    self.parked.setdefault(relay, {})[key] = True

    def limit(self, pair: Pair, count: int) -> None:
        """No more than so many, whatever else holds."""
        self.room[pair] = min(count, self.room.get(pair, count))
        if not count and not pair[1]:
            self.opens.pop(pair[0], None)

    def of(self, destination: str, sender_domain: str) -> int | None:
        """How many mails from that domain may be taken; None: any number."""
        return least(self.room.get((destination, "")), self.room.get((destination, sender_domain)))

    def take(self, destination: str, sender_domain: str, count: int) -> None:
        """Set so many apart; a negative number puts them back."""
        for pair in {(destination, ""), (destination, sender_domain)} & self.room.keys():
            self.room[pair] -= count

    @property
    def has_books(self) -> bool:
        """Something is noted when mails leave."""
        return bool(self.paces or self.probes)

    def write(self, taken: Mapping[Pair, int]) -> None:
        """Note in the books that these leave, by destination and sender's domain. In the transaction that began with `hold`."""
        counts: dict[str, int] = {}
        for (destination, _domain), count in taken.items():
            counts[destination] = counts.get(destination, 0) + count
        for key, pace in self.paces.items():
            every = self.terms[key].spacing
            if every and counts.get(key):
                Pace.objects.filter(pk=pace.pk).update(next_at=self._earliest(pace, every) + every * counts[key])
        tried = [row.pk for pair, row in self.probes.items() if (taken.get(pair) if pair[1] else counts.get(pair[0]))]
        if tried:
            Parking.objects.filter(pk__in=tried).update(probing=True, until=self.now + PROBE_FOR)


def prune(before: datetime) -> None:
    """Forget what ended before then."""
    Slowdown.objects.filter(until__lt=before).delete()
    # Nobody has had mail for it since: it begins anew.
    Parking.objects.filter(until__lt=before).delete()
    Sighting.objects.filter(since__lt=before).delete()
    warmup.prune((before - timedelta(days=90)).date())
