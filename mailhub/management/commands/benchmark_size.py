from __future__ import annotations

import os
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.test.utils import override_settings

from mailhub.bench import size, surroundings
from mailhub.bench.site import Failed
from mailhub.management.commands.benchmark import stop
from mailhub.management.commands.demo import Ticker

STATIC = "django.contrib.staticfiles.storage.StaticFilesStorage"


class Command(BaseCommand):
    help = (
        "Fills a database with millions of messages and contacts, and measures there: the queue, a campaign's filling and first mail, every"
        " list of the admin, searches, forgetting, an import. In a database of its own on DATABASE_URL's server, which is gone afterwards."
        " docs/performance.md explains the figures."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--messages", type=int, default=10_000_000, help="in the database (default: 10000000)")
        parser.add_argument("--contacts", type=int, default=2_000_000, help="in the database (default: 2000000)")
        parser.add_argument("--rows", type=int, default=1_000_000, help="of the file that is imported (default: 1000000)")

    def handle(self, *args: Any, **options: Any) -> None:
        if os.environ.get("REDIS_URL"):
            raise CommandError("It measures with the database alone. Try: REDIS_URL= manage.py benchmark_size")
        plan = size.Plan(options["messages"], options["contacts"], options["rows"])
        ticker = Ticker(self.stdout)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        try:
            with as_in_real_use(), surroundings.sink() as server, surroundings.databases() as (database, _peers):
                measuring = size.Measuring(plan, database, server, ticker.show)
                measuring.run()
        except (Failed, surroundings.Unable) as error:
            ticker.end()
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            ticker.end()
            raise CommandError("Stopped. Nothing of it is left.", returncode=130) from None
        ticker.end()
        self.stdout.write("\n".join(size.lines(plan, measuring.figures, measuring.pages)))
        self.stdout.write(size.as_json(measuring.figures))


def as_in_real_use() -> override_settings:
    """With DEBUG Django keeps every query in memory; the names of static files need not have been collected."""
    return override_settings(DEBUG=False, STORAGES={**settings.STORAGES, "staticfiles": {"BACKEND": STATIC}})
