from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from transactional.smtpd import opening, server


class Command(BaseCommand):
    help = "Takes mail in by SMTP from sites and mail programs. Several may share the ports; stop each with SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.MAILHUB_SMTPD_PORT, help="with STARTTLS; 0: none")
        parser.add_argument("--tls-port", type=int, default=settings.MAILHUB_SMTPD_TLS_PORT, help="with TLS from the first byte; 0: none")

    def handle(self, *args: Any, **options: Any) -> None:
        hosts = settings.MAILHUB_SMTPD_ADDRESSES
        where = f"Ports {options['port']} and {options['tls_port']} of {', '.join(hosts)}"
        with opening.explained(where, ": one is taken. Choose others with MAILHUB_SMTPD_PORT and MAILHUB_SMTPD_TLS_PORT."):
            server.run(hosts, options["port"], options["tls_port"])
