from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from mailhub.demo import receiver, sample
from mailhub.run import EndedByItself, Everything, is_free


class Command(BaseCommand):
    help = "Runs pages, workers and a receiving mail server together, for trying MailHub out. Ctrl-C ends them all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where the pages are (default: 8000)")
        parser.add_argument("--receiver-port", type=int, default=receiver.PORT, help=f"where mail is received (default: {receiver.PORT})")
        parser.add_argument("--receiver-database", type=Path, default=receiver.BOOKS, help="where the receiver keeps what it answered")

    def handle(self, *args: Any, **options: Any) -> None:
        port, receiver_port = options["port"], options["receiver_port"]
        for option, taken in {"--port": port, "--receiver-port": receiver_port}.items():
            if not is_free(taken):
                raise CommandError(f"Port {taken} of 127.0.0.1 is taken. Choose another: manage.py run {option} {taken + 1}")
        call_command("migrate", verbosity=0, interactive=False)
        demo = sample.is_loaded()
        if demo:
            sample.lead_to(receiver_port)
        everything = Everything(port, receiver_port, options["receiver_database"])
        try:
            if everything.ready():
                self.stdout.write(self.style.SUCCESS(f"MailHub is at {everything.address}/admin/"))
                if settings.DEBUG:
                    name, port, tls_port = settings.MAILHUB_SMTPD_NAME, settings.MAILHUB_SMTPD_PORT, settings.MAILHUB_SMTPD_TLS_PORT
                    self.stdout.write(f"It takes mail in by SMTP at {name}, port {port} with STARTTLS or {tls_port} with TLS.")
                for line in hints(demo):
                    self.stdout.write(line)
                self.stdout.write("Ctrl-C ends it.")
            everything.wait()
        except EndedByItself as error:
            raise CommandError(str(error)) from None
        finally:
            everything.stop()


def hints(demo: bool) -> Iterator[str]:
    """How to get in."""
    if demo:
        yield f"Log in as {sample.LOGIN} with the password {sample.password()} (of the demo; it is never told in production)."
    elif not User.objects.exists():
        yield "Nobody can log in yet. “manage.py createsuperuser” makes a login."
        if settings.DEBUG:
            yield "“make demo” does too, fills in a sample shop and sends its first campaign."
