from __future__ import annotations

import errno
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from mailhub import bounced
from transactional.smtpd.certificates import NoCertificate


class Command(BaseCommand):
    help = "Takes mail that comes back, by SMTP or LMTP, for the bounce domains. Several may share the port; stop each with SIGTERM."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.MAILHUB_BOUNCED_PORT)
        parser.add_argument("--lmtp", action="store_true", help="speak LMTP, behind a mail server")

    def handle(self, *args: Any, **options: Any) -> None:
        hosts = settings.MAILHUB_SMTPD_ADDRESSES
        try:
            bounced.serve(hosts, options["port"], lmtp=options["lmtp"])
        except NoCertificate as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            where = f"Port {options['port']} of {', '.join(hosts)}"
            if error.errno == errno.EADDRINUSE:
                raise CommandError(f"{where} is taken. Choose another with MAILHUB_BOUNCED_PORT.") from None
            if error.errno == errno.EACCES:
                remedy = "Those below 1024 need the capability CAP_NET_BIND_SERVICE; docs/operations.md has a unit for systemd."
                raise CommandError(f"{where} may not be opened. {remedy}") from None
            raise
