"""Which relay serves which route at this moment, and for which destinations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.db.models import Exists, OuterRef, QuerySet

from mailhub.relays import shaping
from mailhub.relays.models import Destination, Relay, Route, RouteMember


@dataclass(frozen=True, slots=True)
class Share:
    """A relay's part of a route's mail to some destinations: messages whose id modulo `total` lies in [low, high)."""

    route: int
    low: int
    high: int
    total: int
    destinations: frozenset[str]


def serving(route: Route | int, at: datetime) -> list[RouteMember]:
    """The members that take the route's mail now, to whatever destination."""
    names_some = Exists(RouteMember.destinations.through.objects.filter(routemember=OuterRef("pk")))
    members = _members(RouteMember.objects.filter(route=route)).annotate(names_some=names_some)
    able = [member for member in members if member.relay.is_available(at)]
    return _first([member for member in able if not member.names_some]) + [member for member in able if member.names_some]


def shares(relay: Relay, at: datetime, destinations: Iterable[str] | None = None) -> list[Share]:
    """What `relay` takes now, of each route that it is a member of. `destinations`: all there are, where the caller knows their keys."""
    members = list(_members(RouteMember.objects.filter(route__members__relay=relay)).prefetch_related("destinations"))
    parked = shaping.closed([member.relay_id for member in members], at)
    keys = list(Destination.objects.values_list("pk", flat=True) if destinations is None else destinations)
    found: dict[tuple[int, int, int, int], set[str]] = {}
    for route, group in groupby(members, key=lambda member: member.route_id):
        able = [member for member in group if member.relay.is_available(at)]
        for key in keys:
            takers = _takers([member for member in able if _takes(member, key, relay, parked)], key)
            total = sum(member.weight for member in takers)
            low = 0
            for member in takers:
                if member.relay_id == relay.pk:
                    found.setdefault((route, low, low + member.weight, total), set()).add(key)
                low += member.weight
    return [Share(*place, frozenset(found[place])) for place in found]


def _members(rows: QuerySet[RouteMember]) -> QuerySet[RouteMember]:
    # Without their secrets, which not even a key that is lost for one of them may make a matter for the others.
    return rows.select_related("relay").defer("relay__secrets").order_by("route", "position", "id")


def _only(member: RouteMember) -> set[str]:
    """The destinations that it is for; none: it takes everything."""
    return {destination.pk for destination in member.destinations.all()}


def _takes(member: RouteMember, key: str, relay: Relay, parked: Mapping[int, Mapping[str, bool]]) -> bool:
    """Whether the member can be counted on for the destination, as `relay` sees it: one that is tried again takes a little, and until it
    has recovered the others take it all as well."""
    here = parked.get(member.relay_id, {})
    return not here[key] and member.relay_id == relay.pk if key in here else True


def _takers(able: Sequence[RouteMember], key: str) -> list[RouteMember]:
    """Those that share the destination's mail: who names it comes before who takes everything."""
    return _first([member for member in able if key in _only(member)]) or _first([member for member in able if not _only(member)])


def _first(able: Sequence[RouteMember]) -> list[RouteMember]:
    """Those of the lowest position."""
    return [member for member in able if member.position == able[0].position]
