from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from mailhub.lib.replies import classify
from mailhub.lib.replies.verdicts import Advice


class Command(BaseCommand):
    help = "Says what replies of mail servers mean, and what to do about them: one JSON line a reply."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("replies", nargs="+", metavar="REPLY", help="as '550 5.1.1 user unknown'; - for one a line from standard input")
        parser.add_argument("--provider", default="", help="who said it: the name of a host, or of a provider")
        parser.add_argument(
            "--command", dest="answered", default="", choices=["", "CONNECT", "MAIL", "RCPT", "DATA"], help="what it answers"
        )

    def handle(self, *args: Any, replies: list[str], provider: str, answered: str, **options: Any) -> None:
        for reply in replies if replies != ["-"] else sys.stdin:
            verdict = classify.classify(reply.strip(), provider=provider, command=answered)
            line = {
                "reply": reply.strip(),
                "category": verdict.category.value,
                "kind": verdict.kind.value,
                "fault": verdict.fault.value,
                "advice": told(verdict.advice),
                "rule": verdict.rule,
            }
            self.stdout.write(json.dumps(line, ensure_ascii=False))


def told(advice: Advice) -> dict[str, Any]:
    seconds = int(advice.retry.total_seconds()) if advice.retry else None
    return {"suppress": advice.suppress, "retry_after": seconds, "pause": advice.pause.value}
