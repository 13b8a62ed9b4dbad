from __future__ import annotations

import os
import signal
from argparse import ArgumentParser
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mailhub.bench import report, surroundings
from mailhub.bench.rounds import Benchmark, Plan
from mailhub.bench.site import Failed
from mailhub.management.commands.demo import Ticker


class Command(BaseCommand):
    help = (
        "Measures what this machine can do: campaigns through MailHub's own workers, beside a bare loop of the same work and beside what"
        " others do. In databases of its own on DATABASE_URL's server, which are gone afterwards. docs/performance.md explains the figures."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--messages", type=int, default=40_000, help="recipients of each campaign that is compared (default: 40000)")
        parser.add_argument("--rounds", type=int, default=3, help="how often it is compared (default: 3)")
        parser.add_argument("--large", type=int, default=200_000, help="recipients of the large campaign (default: 200000)")
        parser.add_argument("--relays", type=int, choices=[1, 2], default=1, help="how many relays share each campaign (default: 1)")
        parser.add_argument("--receiver", metavar="HOST:PORT", help="a server that takes every mail (default: smtp-sink, started for this)")
        parser.add_argument("--alone", action="store_true", help="leave out what others do")

    def handle(self, *args: Any, **options: Any) -> None:
        # It would be shared with workers that are none of ours.
        if os.environ.get("REDIS_URL"):
            raise CommandError("It measures with the database alone. Try: REDIS_URL= manage.py benchmark")
        plan = Plan(**{name: options[name] for name in ("messages", "rounds", "large", "relays", "alone")})
        ticker = Ticker(self.stdout)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        try:
            with receiver(options["receiver"]) as server, surroundings.databases() as databases:
                figures = Benchmark(plan, databases, server, ticker.show).run()
        except (Failed, surroundings.Unable) as error:
            ticker.end()
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            ticker.end()
            raise CommandError("Stopped. Nothing of it is left.", returncode=130) from None
        ticker.end()
        self.stdout.write("\n".join(report.lines(plan, figures)))
        self.stdout.write(report.as_json(figures))


def stop(*args: object) -> None:
    """Once is enough: what has to be put away takes a moment."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def receiver(given: str | None) -> AbstractContextManager[tuple[str, int]]:
    if not given:
        return surroundings.sink()
    host, _colon, port = given.rpartition(":")
    if not host or not port.isdigit():
        raise CommandError("--receiver wants HOST:PORT, such as 127.0.0.1:2525")
    return nullcontext((host, int(port)))
