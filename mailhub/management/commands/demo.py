from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from mailhub.demo import receiver, sample
from mailhub.demo.story import Demo, Failed
from mailhub.run import EndedByItself, is_free

# How many of the things that do not add up are told.
TOLD = 10


class Command(BaseCommand):
    help = (
        "Sends a campaign and a few single mails for real, through workers and a mail server on this machine, and tells what became of"
        " each. Ends with an error unless every number adds up. Each run sends another campaign. For trying MailHub out, with DEBUG=true."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--contacts", type=int, default=sample.CONTACTS, help=f"how many may get it (default: {sample.CONTACTS})")
        parser.add_argument("--port", type=int, default=receiver.PORT, help=f"where mail is received (default: {receiver.PORT})")
        parser.add_argument("--folder", type=Path, default=receiver.FOLDER, help="for the log and what the server kept")
        parser.add_argument("--seconds", type=float, default=300, help="after which it gives up waiting (default: 300)")

    def handle(self, *args: Any, **options: Any) -> None:
        port, folder = options["port"], options["folder"]
        if not settings.DEBUG:
            raise CommandError(f"{sample.InProduction()} Try: DEBUG=true manage.py demo")
        if not is_free(port):
            raise CommandError(
                f"Port {port} of 127.0.0.1 is taken. End “make run” first if it is running; or choose another: --port {port + 1}"
            )
        ticker = Ticker(self.stdout)
        ticker.show("The database and the sample shop are set up …")
        call_command("migrate", verbosity=0, interactive=False)
        demo = Demo(sample.load(options["contacts"], port), port, folder, options["seconds"], ticker.show)
        try:
            report = demo.run()
        except (Failed, EndedByItself) as error:
            ticker.end()
            raise CommandError(f"{error} The log is {demo.log}") from None
        ticker.end()
        self.stdout.write("\n".join(report.lines()))
        if report.problems:
            told = "\n".join(f"  {problem}" for problem in report.problems[:TOLD])
            more = f"\n  and {len(report.problems) - TOLD} more" if len(report.problems) > TOLD else ""
            raise CommandError(f"It does not add up:\n{told}{more}\nThe log is {demo.log}")
        self.stdout.write(self.style.SUCCESS("Every number adds up."))
        self.stdout.write(
            f"\nWhat became of each mail: make run, then http://127.0.0.1:8000/admin/ ({sample.LOGIN}, password {sample.password()})"
            f"\nThe newest mails as the server got them: manage.py receiver --export {folder / 'mails'}"
            f"\nThe workers' log: {demo.log}"
        )


class Ticker:
    """Tells where things stand: on a terminal in one line that is written over, elsewhere in a line now and then."""

    def __init__(self, out: OutputWrapper, every: float = 2) -> None:
        self.out = out
        self.every = every
        self.told = ""
        self.at = -every

    def show(self, line: str) -> None:
        if line == self.told:
            return
        if self.out.isatty():
            self.out.write(f"\r\x1b[K{line}", ending="")
            self.out.flush()
        elif time.monotonic() - self.at < self.every:
            return
        else:
            self.out.write(line)
            self.out.flush()
        self.told, self.at = line, time.monotonic()

    def end(self) -> None:
        if self.out.isatty():
            self.out.write("")
