from __future__ import annotations

import errno
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from transactional.smtpd import server
from transactional.smtpd.certificates import NoCertificate


class Command(BaseCommand):
    help = "Takes mail in by SMTP from sites and mail programs. Several may share the ports; stop each with SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.MAILHUB_SMTPD_PORT, help="with STARTTLS; 0: none")
        parser.add_argument("--tls-port", type=int, default=settings.MAILHUB_SMTPD_TLS_PORT, help="with TLS from the first byte; 0: none")

    def handle(self, *args: Any, **options: Any) -> None:
        hosts = settings.MAILHUB_SMTPD_ADDRESSES
        try:
            server.run(hosts, options["port"], options["tls_port"])
        except NoCertificate as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            where = f"Ports {options['port']} and {options['tls_port']} of {', '.join(hosts)}"
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"{where}: one is taken. Choose others with MAILHUB_SMTPD_PORT and MAILHUB_SMTPD_TLS_PORT.") from None
            if error.errno == errno.EACCES:
                remedy = "Those below 1024 need the capability CAP_NET_BIND_SERVICE; docs/operations.md has a unit for systemd."
                raise CommandError(f"{where} may not be opened. {remedy}") from None
            raise
