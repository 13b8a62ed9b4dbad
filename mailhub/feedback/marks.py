"""What tells one kind of mail from another, and one part of a bounce from the next. The words stand in marks.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TABLE: dict[str, list[str]] = tomllib.loads(Path(__file__).with_name("marks.toml").read_text())

MESSAGE = r"(?:message|mail|e-?mail|header|letter)s?"


def marked(name: str) -> re.Pattern[str]:
    return re.compile("|".join(TABLE[name]), re.IGNORECASE)


DAEMON = marked("daemon")
NOTIFIER = marked("notifier")
BOUNCE_SUBJECT = marked("bounce_subject")
AUTO_SUBJECT = marked("auto_subject")
CHALLENGE_SUBJECT = marked("challenge_subject")
READ_SUBJECT = marked("read_subject")
DELAYED_SUBJECT = marked("delayed_subject")
PASSED_ON = re.compile(rf"^\s*(?:\[[^\]]{{0,60}}\]\s*)?(?:{'|'.join(TABLE['passed_on'])})\s*(?:\[\d+\])?\s*[:：]", re.IGNORECASE)

INTRODUCTION = marked("introduction")
RECIPIENT_BEFORE = marked("recipient_before")
SENDER_BEFORE = marked("sender_before")
HELP = marked("help")
NOT_YET = marked("not_yet")
NO_ANSWER = marked("no_answer")
FOOTER = marked("footer")
ARRIVED = marked("arrived")
ARRIVED_SUBJECT = marked("arrived_subject")
REFUSED_BY_RULE = marked("refused_by_rule")

# A line that holds nothing else, drawn out with dashes or not.
RULE = r"[\s\-=_*#<>|+.:~。：]{0,80}"
RETURNED_BELOW = re.compile(rf"^{RULE}(?:{'|'.join(TABLE['returned_below'])}){RULE}$".replace("MESSAGE", MESSAGE), re.IGNORECASE)

# Headers that a mail which is returned begins with; of those, the ones that a notice does not have.
PROVING = r"Return-Path|Received|Message-ID|MIME-Version|X-[\w-]{1,60}"
COMMON = r"From|To|Cc|Subject|Date|Sender|Reply-To|Content-Type|Content-Transfer-Encoding|DKIM-Signature|Delivered-To|User-Agent"
HEADER_LINE = re.compile(rf"^(?:{PROVING}|{COMMON})[ \t]*:", re.IGNORECASE)
HEADER_PROOF = re.compile(rf"^(?:{PROVING})[ \t]*:", re.IGNORECASE)
