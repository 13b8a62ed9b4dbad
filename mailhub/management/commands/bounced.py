from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from mailhub import bounced
from transactional.smtpd import opening


class Command(BaseCommand):
    help = "Takes mail that comes back, by SMTP or LMTP, for the bounce domains. Several may share the port; stop each with SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.MAILHUB_BOUNCED_PORT)
        parser.add_argument("--lmtp", action="store_true", help="speak LMTP, behind a mail server")

    def handle(self, *args: Any, **options: Any) -> None:
        hosts = settings.MAILHUB_SMTPD_ADDRESSES
        where = f"Port {options['port']} of {', '.join(hosts)}"
        with opening.explained(where, " is taken. Choose another with MAILHUB_BOUNCED_PORT."):
            bounced.serve(hosts, options["port"], lmtp=options["lmtp"])
