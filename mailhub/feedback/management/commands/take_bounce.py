from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error

from mailhub.feedback import incoming
from mailhub.feedback.mime import MOST_BYTES
from mailhub.feedback.models import IncomingMail


class Command(BaseCommand):
    help = "Takes a mail that came back, as a mail server's pipe hands it over. Where it cannot be stored, the server is to try later."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--recipient", default="", help="envelope recipient: ${original_recipient} in Postfix")
        parser.add_argument("--sender", default="", help="envelope sender: ${sender} in Postfix")

    def handle(self, *args: Any, recipient: str, sender: str, **options: Any) -> None:
        raw = sys.stdin.buffer.read(MOST_BYTES * 2)
        try:
            incoming.take(raw, IncomingMail.Source.PIPE, rcpt_to=recipient, mail_from=sender)
        except Error:
            sys.exit(os.EX_TEMPFAIL)
