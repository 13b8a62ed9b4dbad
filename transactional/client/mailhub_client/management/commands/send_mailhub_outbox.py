from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from mailhub_client import outbox


class Command(BaseCommand):
    help = "Sends the mails that MailHub could not take when they were made. Run it every minute."

    def handle(self, *args: Any, **options: Any) -> None:
        taken, refused = outbox.send()
        if taken or refused:
            self.stdout.write(f"taken: {taken}, refused: {refused}")
