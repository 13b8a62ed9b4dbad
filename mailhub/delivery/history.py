"""What became of the mail to one address: for the pages that are about a person."""

from __future__ import annotations

from django.db.models import QuerySet
from django.db.models.functions import Lower

from mailhub.delivery.models import Event, Message
from mailhub.lib import addresses

# Of each address, the newest.
MOST_MESSAGES = 200
MOST_EVENTS = 50


def messages(address: str) -> QuerySet[Message]:
    """All to the address, however it is spelt. Index delivery_message_address."""
    return Message.objects.alias(key=Lower("address")).filter(key=addresses.key(address))


def of(address: str) -> list[Event]:
    """The newest first. The index above, and that of Event.message."""
    keys = list(messages(address).order_by("-pk").values_list("pk", flat=True)[:MOST_MESSAGES])
    return list(Event.objects.filter(message__in=keys).select_related("message__content").order_by("-pk")[:MOST_EVENTS])
