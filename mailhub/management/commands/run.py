from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from mailhub.run import EndedByItself, Everything, is_free


class Command(BaseCommand):
    help = "Runs pages, workers and a receiving mail server together, for trying MailHub out. Ctrl-C ends them all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where the pages are (default: 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        port = options["port"]
        if not is_free(port):
            raise CommandError(f"Port {port} of 127.0.0.1 is taken. Choose another: manage.py run --port {port + 1}")
        call_command("migrate", verbosity=0, interactive=False)
        everything = Everything(port)
        try:
            if everything.ready():
                self.stdout.write(self.style.SUCCESS(f"MailHub is at {everything.address}/admin/"))
                self.stdout.write("Ctrl-C ends it.")
            everything.wait()
        except EndedByItself as error:
            raise CommandError(str(error)) from None
        finally:
            everything.stop()
