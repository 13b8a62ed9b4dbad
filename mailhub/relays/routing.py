"""Which relay serves which route at this moment, and for which destinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, TypedDict

from django.db.models import Exists, OuterRef, QuerySet, prefetch_related_objects

from mailhub.relays import shaping
from mailhub.relays.models import Relay, Route, RouteMember

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Names(TypedDict):
        #: the member is for some destinations alone
        names_some: bool

    Member = WithAnnotations[RouteMember, Names]


@dataclass(frozen=True, slots=True)
class Share:
    """A relay's part of a route's mail to some destinations: messages whose id modulo `total` lies in [low, high)."""

    route: int
    #: the stream whose default the route is
    default_for: str | None
    low: int
    high: int
    total: int
    destinations: frozenset[str]


def serving(route: Route | int, at: datetime) -> list[Member]:
    """The members that take the route's mail now, to whatever destination."""
    able = [member for member in _members(RouteMember.objects.filter(route=route)) if member.relay.is_available(at)]
    return _first([member for member in able if not member.names_some]) + [member for member in able if member.names_some]


def shares(relay: Relay, at: datetime, openings: shaping.Openings | None = None) -> list[Share]:
    """What `relay` takes now, of each route that it is a member of. `openings`: the relay's, where the caller has them."""
    known = openings or shaping.Openings(relay, at)
    members = list(_members(RouteMember.objects.filter(route__members__relay=relay)).select_related("route"))
    if any(member.names_some for member in members):
        prefetch_related_objects(members, "destinations")
    found: dict[tuple[int, str | None, int, int, int], set[str]] = {}
    for route, group in groupby(members, key=lambda member: member.route):
        able = [member for member in group if member.relay.is_available(at)]
        for key in known.terms:
            takers = _takers([member for member in able if _takes(member, key, relay, known.parked)], key)
            total = sum(member.weight for member in takers)
            low = 0
            for member in takers:
                if member.relay_id == relay.pk:
                    found.setdefault((route.pk, route.default_for, low, low + member.weight, total), set()).add(key)
                low += member.weight
    return [Share(*place, frozenset(found[place])) for place in found]


def _members(rows: QuerySet[RouteMember]) -> QuerySet[Member]:
    names_some = Exists(RouteMember.destinations.through.objects.filter(routemember=OuterRef("pk")))
    # Without their secrets, which not even a key that is lost for one of them may make a matter for the others.
    members = rows.select_related("relay").defer("relay__secrets").annotate(names_some=names_some)
    return members.order_by("route_id", "position", "id")


def _only(member: Member) -> set[str]:
    """The destinations that it is for; none: it takes everything."""
    return {destination.pk for destination in member.destinations.all()} if member.names_some else set()


def _takes(member: Member, key: str, relay: Relay, parked: Mapping[int, Mapping[str, bool]]) -> bool:
    """Whether the member can be counted on for the destination, as `relay` sees it: one that is tried again takes a little, and until it
    has recovered the others take it all as well."""
    here = parked.get(member.relay_id, {})
    return not here[key] and member.relay_id == relay.pk if key in here else True


def _takers(able: Sequence[Member], key: str) -> list[Member]:
    """Those that share the destination's mail: who names it comes before who takes everything."""
    return _first([member for member in able if key in _only(member)]) or _first([member for member in able if not _only(member)])


def _first(able: Sequence[Member]) -> list[Member]:
    """Those of the lowest position."""
    return [member for member in able if member.position == able[0].position]
