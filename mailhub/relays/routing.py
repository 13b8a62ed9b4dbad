"""Which relay serves which route at this moment, for whose mail, and for which destinations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, product
from typing import TYPE_CHECKING, TypedDict

from django.db.models import Exists, OuterRef, QuerySet, prefetch_related_objects

from mailhub.lib import addresses
from mailhub.relays import shaping
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
    found: dict[tuple[int, str | None, int, int, int, Kind], set[str]] = {}
    for route, group in groupby(members, key=lambda member: member.route):
        whole = list(group)
        able = [member for member in whole if member.relay.is_available(at)]
        for kind, key in product(kinds(whole), known.terms):
            takers = _takers([member for member in able if _may(member, kind, key) and _takes(member, key, relay, known.parked)])
            total = sum(member.weight for member in takers)
            low = 0
            for member in takers:
                if member.relay_id == relay.pk:
                    found.setdefault((route.pk, route.default_for, low, low + member.weight, total, kind), set()).add(key)
                low += member.weight
    return [Share(*place[:-1], frozenset(keys), place[-1]) for place, keys in found.items()]


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


def _may(member: Member, kind: Kind, key: str) -> bool:
    """Whether the member is for such mail to the destination."""
    names = member.sender_names
    return (
        member.stream in ("", kind.stream)
        and (not names or not kind.meant.isdisjoint(names))
        and (not _is_dedicated(member.relay) or member.relay.pool_id == kind.pool)
        and (not member.names_some or any(destination.pk == key for destination in member.destinations.all()))
    )


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
