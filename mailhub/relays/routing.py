"""Which relay serves which route at this moment, for whose mail, and for which destinations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from itertools import groupby, product
from typing import TYPE_CHECKING, TypedDict

from django.db.models import Exists, OuterRef, QuerySet, prefetch_related_objects

from mailhub.lib import addresses
from mailhub.relays import limits, shaping
from mailhub.relays.models import IPPool, Relay, Route, RouteMember, Stream

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Names(TypedDict):
        #: the member is for some destinations alone
        names_some: bool

    Member = WithAnnotations[RouteMember, Names]


@dataclass(frozen=True, slots=True)
class Kind:
    """Mail that all members of a route treat alike, whatever its destination."""

    #: "": either
    stream: str = ""
    #: addresses and domains of senders that any member names; and those of them that this mail's sender is meant by
    named: frozenset[str] = frozenset()
    meant: frozenset[str] = frozenset()
    #: dedicated pools that any member leaves from; and the one of them that this mail's sender may use
    pools: frozenset[int] = frozenset()
    pool: int | None = None

    def covers(self, stream: str, sender: str, pool: int | None) -> bool:
        """Whether a mail of that stream, from that address, whose sender names that pool, is of this kind."""
        if self.stream not in ("", stream) or (pool if pool in self.pools else None) != self.pool:
            return False
        return not self.named or self.named & {sender.lower(), addresses.domain(sender)} == self.meant


EVERYTHING = Kind()


class Choice(IntEnum):
    """Why a relay of a route takes a mail; stored with each attempt."""

    ONLY = 1  # no other of the route is for such mail
    FIRST = 2  # it comes before others
    MEANT = 3  # it is for such mail, and comes before those that take everything
    SHARE = 4  # several share such mail by weight: the message's number fell to it
    STAND_IN = 5  # one that comes before it, or shares with it, takes nothing now


@dataclass(frozen=True, slots=True)
class Share:
    """A relay's part of a route's mail of one kind to some destinations: messages whose id modulo `total` lies in [low, high)."""

    route: int
    #: the stream whose default the route is
    default_for: str | None
    low: int
    high: int
    total: int
    destinations: frozenset[str]
    kind: Kind = EVERYTHING
    choice: Choice = field(default=Choice.ONLY, compare=False)

    @property
    def percent(self) -> int:
        """Of such mail."""
        return round(100 * (self.high - self.low) / self.total)


class Bar(StrEnum):
    """Why a relay of the route does not take a mail."""

    STREAM = "stream"  # it is for the other kind of mail
    SENDER = "sender"  # it is for other senders
    POOL = "pool"  # it leaves from a dedicated pool that the sender does not name
    DESTINATION = "destination"  # it is for other destinations
    PAUSED = "paused"
    QUOTA = "quota"  # nothing is left of one
    RESTING = "resting"
    PARKED = "parked"  # it leaves the destination alone, or tries it a little at a time
    BEHIND = "behind"  # others come before it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a relay of a route stands for one mail."""

    member: Member
    #: its part of such mail, of `total`; 0 where it takes none
    weight: int
    total: int
    #: why it takes none; None where it takes some
    bar: Bar | None
    #: when a quota that is used up has room again
    opens_at: datetime | None


def serving(route: Route | int, at: datetime) -> list[Member]:
    """The members that take the route's mail now, whosever it is, and then those that take some of it."""
    able = [member for member in _members(RouteMember.objects.filter(route=route)) if member.relay.is_available(at)]
    return _first([member for member in able if not _is_choosy(member)]) + [member for member in able if _is_choosy(member)]


def shares(relay: Relay, at: datetime, openings: shaping.Openings | None = None) -> list[Share]:
    """What `relay` takes now, of each route that it is a member of. `openings`: the relay's, where the caller has them."""
    known = openings or shaping.Openings(relay, at)
    members = list(_members(RouteMember.objects.filter(route__members__relay=relay)).select_related("route"))
    if any(member.names_some for member in members):
        prefetch_related_objects(members, "destinations")
    found: dict[tuple[int, str | None, int, int, int, Kind, Choice], set[str]] = {}
    for route, group in groupby(members, key=lambda member: member.route):
        whole = list(group)
        able = [member for member in whole if member.relay.is_available(at)]
        for kind, key in product(kinds(whole), known.terms):
            meant = _meant(whole, kind, key)
            takers = _sharing(meant, able, key, relay, known.parked)
            total = sum(member.weight for member in takers)
            low = 0
            for member in takers:
                if member.relay_id == relay.pk:
                    choice = _choice(member, takers, meant)
                    found.setdefault((route.pk, route.default_for, low, low + member.weight, total, kind, choice), set()).add(key)
                low += member.weight
    return [Share(*place[:5], frozenset(keys), *place[5:]) for place, keys in found.items()]


def _choice(member: Member, takers: Sequence[Member], meant: Sequence[Member]) -> Choice:
    """Why it is one of the takers among the members meant."""
    if any(one not in takers for one in _takers(meant)):
        return Choice.STAND_IN
    if _is_choosy(member):
        return Choice.MEANT
    if len(takers) > 1:
        return Choice.SHARE
    return Choice.ONLY if len(meant) == 1 else Choice.FIRST


def places(route: Route, stream: str, sender: str, pool: int | None, destination: str, at: datetime) -> list[Place]:
    """Where each relay of the route stands for a mail of that stream, from that address, whose sender names that pool: as shares() sees it
    for who claims, which lets a relay rest whose quota it finds used up."""
    members = list(_members(RouteMember.objects.filter(route=route)))
    prefetch_related_objects(members, "destinations")
    opens = {member.relay_id: limits.opens_at(member.relay, at) for member in members}
    for member in members:
        if until := opens[member.relay_id]:
            member.relay.resting_until = max(until, member.relay.resting_until or until)
    kind = next(kind for kind in kinds(members) if kind.covers(stream, sender, pool))
    able = [member for member in members if member.relay.is_available(at)]
    meant = _meant(members, kind, destination)
    found = []
    for member in members:
        # A relay has its own view of what is left alone, and claims by that.
        parked = shaping.Openings(member.relay, at).parked
        takers = _sharing(meant, able, destination, member.relay, parked)
        total = sum(taker.weight for taker in takers)
        if member in takers:
            found.append(Place(member, member.weight, total, None, None))
        else:
            until = opens[member.relay_id]
            found.append(Place(member, 0, total, _bar(member, kind, destination, at, parked, until), until))
    return found


def _bar(member: Member, kind: Kind, key: str, at: datetime, parked: Mapping[int, Mapping[str, bool]], opens_at: datetime | None) -> Bar:
    if unmet := _unmet(member, kind, key):
        return unmet
    if member.relay.status == Relay.Status.PAUSED:
        return Bar.PAUSED
    if not member.relay.is_available(at):
        return Bar.QUOTA if opens_at else Bar.RESTING
    return Bar.BEHIND if _takes(member, key, member.relay, parked) else Bar.PARKED


def kinds(members: Iterable[RouteMember]) -> list[Kind]:
    """The kinds of mail that a route's members tell apart: every mail is of exactly one. One, where none of them makes conditions."""
    members = list(members)
    streams = Stream.values if any(member.stream for member in members) else [""]
    named = frozenset(name for member in members for name in member.sender_names)
    # Whoever an address is for is meant by its domain, too.
    meant: set[frozenset[str]] = {frozenset()} | {named & {name, addresses.domain(name)} for name in named}
    pools = frozenset(member.relay.pool_id for member in members if _is_dedicated(member.relay) and member.relay.pool_id)
    return [Kind(stream, named, some, pools, pool) for stream, some, pool in product(streams, meant, [None, *pools])]


def _is_dedicated(relay: Relay) -> bool:
    return relay.pool is not None and relay.is_direct and relay.pool.kind == IPPool.Kind.DEDICATED


def _members(rows: QuerySet[RouteMember]) -> QuerySet[Member]:
    names_some = Exists(RouteMember.destinations.through.objects.filter(routemember=OuterRef("pk")))
    # Without their secrets, which not even a key that is lost for one of them may make a matter for the others.
    members = rows.select_related("relay__pool").defer("relay__secrets").annotate(names_some=names_some)
    return members.order_by("route_id", "position", "id")


def _is_choosy(member: Member) -> bool:
    return bool(member.names_some or member.stream or member.senders)


def _meant(members: Iterable[Member], kind: Kind, key: str) -> list[Member]:
    """Those that are for such mail to the destination, whether they take any now or not."""
    return [member for member in members if not _unmet(member, kind, key)]


def _sharing(
    meant: Iterable[Member], able: Collection[Member], key: str, relay: Relay, parked: Mapping[int, Mapping[str, bool]]
) -> list[Member]:
    """Those of the members meant, of which `able` are those whose relays take mail at all, that share this mail, as `relay` sees it."""
    return _takers([member for member in meant if member in able and _takes(member, key, relay, parked)])


def _unmet(member: Member, kind: Kind, key: str) -> Bar | None:
    """Why the member is not for such mail to the destination; None when it is."""
    names = member.sender_names
    if member.stream not in ("", kind.stream):
        return Bar.STREAM
    if names and kind.meant.isdisjoint(names):
        return Bar.SENDER
    if _is_dedicated(member.relay) and member.relay.pool_id != kind.pool:
        return Bar.POOL
    if member.names_some and not any(destination.pk == key for destination in member.destinations.all()):
        return Bar.DESTINATION
    return None


def _takes(member: Member, key: str, relay: Relay, parked: Mapping[int, Mapping[str, bool]]) -> bool:
    """Whether the member can be counted on for the destination, as `relay` sees it: one that is tried again takes a little, and until it
    has recovered the others take it all as well."""
    here = parked.get(member.relay_id, {})
    return not here[key] and member.relay_id == relay.pk if key in here else True


def _takers(able: Sequence[Member]) -> list[Member]:
    """Those that share the mail: who is for some mail alone comes before who takes everything."""
    return _first([member for member in able if _is_choosy(member)]) or _first(able)


def _first(able: Sequence[Member]) -> list[Member]:
    """Those of the lowest position."""
    return [member for member in able if member.position == able[0].position]
