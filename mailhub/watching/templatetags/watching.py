from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Model
from django.urls import reverse

from mailhub.relays.models import DedicatedIP, Destination, Relay
from mailhub.watching import pages
from mailhub.watching.models import Trouble

register = template.Library()

# What of a row the page of deliverability knows it by.
KNOWN_BY = {Relay: ("relay", "pk"), Destination: ("destination", "pk"), DedicatedIP: ("source", "address")}


@register.simple_tag
def open_troubles(row: Model | None) -> list[dict[str, Any]]:
    """Of the row whose page is shown."""
    if row is None or row.pk is None:
        return []
    found = Trouble.objects.filter(closed_at__isnull=True, model=row._meta.label, object_id=str(row.pk)).select_related("rule")
    # That a relay rests, and that a channel does not work, its own page says.
    said = [Trouble.Kind.RELAY, Trouble.Kind.CHANNEL]
    return [pages.line(trouble) for trouble in found.exclude(kind__in=said).order_by("tone", "-pk")[:5]]


@register.simple_tag
def deliverability_of(row: Model | None) -> str:
    """Where the row's pictures are; "" where it has none."""
    if row is None or type(row) not in KNOWN_BY or row.pk is None:
        return ""
    name, attribute = KNOWN_BY[type(row)]
    return f"{reverse('admin:watching_deliverability_changelist')}?{name}={getattr(row, attribute)}"
