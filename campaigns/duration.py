"""How long a campaign would take if it were sent now."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from campaigns import audience
from campaigns.models import Campaign
from mailhub.delivery import forecast
from mailhub.delivery.forecast import Forecast
from mailhub.lib import addresses, clock
from mailhub.relays import destinations
from mailhub.relays.models import Route

# Recipients by whom the mix of destinations is told, where it matters.
LOOKED_AT = 2_000


def of(campaign: Campaign, recipients: int) -> Forecast | None:
    """None where there is nobody, or no route."""
    route = campaign.route_in_force
    if route is None or not recipients:
        return None
    sender = (campaign.sender.email, campaign.sender.pool_id)
    return forecast.of_route(route, recipients, clock.now(), sender, _mix(campaign) if _tells_apart(route) else {})


def _tells_apart(route: Route) -> bool:
    """Whether it matters to the route where mail goes."""
    return route.relays.filter(pool__ips__plan__isnull=False).exists() or route.members.filter(destinations__isnull=False).exists()


def _mix(campaign: Campaign) -> dict[str, float]:
    domains = [addresses.domain(contact.email) for contact in islice(audience.recipients(campaign), LOOKED_AT)]
    known = destinations.of(set(domains))
    counts = Counter(known[domain] for domain in domains)
    return {key: count / len(domains) for key, count in counts.items()}
