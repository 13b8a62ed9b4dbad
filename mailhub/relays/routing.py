"""Which relay serves which route at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from mailhub.relays.models import Relay, Route, RouteMember


@dataclass(frozen=True, slots=True)
class Share:
    """A relay's part of a route: messages whose id modulo `total` lies in [low, high)."""

    route: int
    low: int
    high: int
    total: int


def serving(route: Route | int, at: datetime) -> list[RouteMember]:
    """The members that take the route's mail now: those of the lowest position at which any relay is available."""
    # Without their secrets, which not even a key that is lost for one of them may make a matter for the others.
    members = RouteMember.objects.filter(route=route).select_related("relay").defer("relay__secrets").order_by("position", "id")
    for _position, group in groupby(members, key=lambda member: member.position):
        available = [member for member in group if member.relay.is_available(at)]
        if available:
            return available
    return []


def shares(relay: Relay, at: datetime) -> list[Share]:
    """What `relay` takes now, of each route that it is a member of."""
    found = []
    for route in Route.objects.filter(members__relay=relay):
        low = 0
        members = serving(route, at)
        total = sum(member.weight for member in members)
        for member in members:
            if member.relay_id == relay.pk:
                found.append(Share(route.pk, low, low + member.weight, total))
            low += member.weight
    return found
