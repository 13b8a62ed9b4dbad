from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from transactional import samples


class Command(BaseCommand):
    help = "Add the sample templates for transactional mail (order confirmation, purchase details, registration) that are missing."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{samples.load()} templates added.")
