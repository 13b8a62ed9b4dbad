from __future__ import annotations

import errno
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mailhub.demo import receiver


class Command(BaseCommand):
    help = "Plays the world's mail servers on this machine: answers as they do and delivers nothing. For trying MailHub out."
    # It uses neither MailHub's database nor its pages.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=receiver.PORT, help=f"of 127.0.0.1 (default: {receiver.PORT})")
        parser.add_argument("--database", type=Path, default=receiver.BOOKS, help="the SQLite file that keeps what it answered")
        parser.add_argument("--export", type=Path, metavar="FOLDER", help="only put the newest mails there, as .eml files")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["export"]:
            self.stdout.write(f"{receiver.export(options['database'], options['export'])} mails")
            return
        port = options["port"]
        try:
            receiver.run(port, options["database"])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise CommandError(f"Port {port} of 127.0.0.1 is taken. Choose another: --port {port + 1}") from None
