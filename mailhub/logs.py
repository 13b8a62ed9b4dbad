"""What must never stand in a log: a secret or a mail's body. MailHub's own code logs ids; this handler is the second lock."""

from __future__ import annotations

import logging
import re
from typing import TextIO

# "password=...", "'api_key': '...", "\"server_token\": \"...", "Authorization: Bearer ...", "AUTH PLAIN ..."
NAMED = r"""
    ( (?: \b AUTH [ ] (?: PLAIN | LOGIN | XOAUTH2 ) [ ]
        | (?: password | passwd | secret | token | api[-_]?key | encryption_keys? | authorization ) [\w-]* \\?["']? \s* [:=] \s*
      )
      (?: (?: Bearer | Basic ) \s+ )?
    )
"""
SECRETS = re.compile(
    NAMED + r"""(?: (?P<quote> \\?" ) [^"\\]+ | (?P<single> ' ) [^'\\]+ | [^\s"',;&}\\]+ )""",
    re.IGNORECASE | re.VERBOSE,
)
# "postgres://user:...@host"
IN_URLS = re.compile(r"(\w://[^\s:/@\"']*:)[^\s@/\"']+(?=@)")


def redact(text: str) -> str:
    text = SECRETS.sub(lambda found: f"{found[1]}{found['quote'] or found['single'] or ''}[redacted]", text)
    return IN_URLS.sub(r"\1[redacted]", text)


class Handler(logging.StreamHandler[TextIO]):
    """Redacts what is written, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
