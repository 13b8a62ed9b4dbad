from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from mailhub import schedule


class Command(BaseCommand):
    help = "Brings the table of scheduled tasks in line with this version. `manage.py worker` does so too when it starts."

    def handle(self, *args: Any, **options: Any) -> None:
        schedule.install()
        for path in schedule.SCHEDULE:
            self.stdout.write(path)
