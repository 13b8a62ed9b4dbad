from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mailhub.feedback import bounces
from mailhub.feedback.mime import MOST_BYTES


class Command(BaseCommand):
    help = "Says what mails that came back report: one JSON line a mail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a mail as it came; - for standard input")

    def handle(self, *args: Any, files: list[str], **options: Any) -> None:
        for name in files:
            self.stdout.write(json.dumps({"file": name, "results": results(raw(name))}, ensure_ascii=False))


def raw(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(MOST_BYTES * 2)
    try:
        with Path(name).open("rb") as file:
            return file.read(MOST_BYTES * 2)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}") from None


def results(data: bytes) -> list[dict[str, str]]:
    return [
        {
            "recipient": report.recipient,
            "status": report.status,
            "kind": report.kind.value,
            "reason": report.category.value,
            "action": report.action,
        }
        for report in bounces.read(data).reports
    ]
