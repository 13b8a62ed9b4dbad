from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from mailhub import schedule, supervisor
from mailhub.delivery import workers


class Command(BaseCommand):
    help = "Does the work: hands mail over, fills campaigns, keeps house. Start one on each machine; stop it with SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--node", default="", help="its name on the workers page (default: host name and process number)")
        parser.add_argument("--cluster", action="store_true", help="what it starts itself with: be one of the clusters")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["cluster"]:
            schedule.load()
            workers.serve()
        else:
            supervisor.Supervisor(options["node"]).run()
