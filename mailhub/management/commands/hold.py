from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand

from mailhub.delivery.models import OPEN, Message
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay


class Command(BaseCommand):
    help = (
        "Pauses every relay, so that nothing leaves until staff resume them one by one: for a database that was restored from a backup,"
        " before workers start on it."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Safe to run twice."""
        held = []
        for relay in Relay.objects.filter(status=Relay.Status.ACTIVE).defer("secrets"):
            # Somebody else may pause it at the same moment.
            with suppress(WrongState):
                relay.pause()
                held.append(relay.name)
        self.stdout.write(f"Paused: {', '.join(held)}." if held else "No relay was active.")
        self.stdout.write(f"{Message.objects.filter(status__in=OPEN).count()} messages wait and will leave when their relays are resumed.")
