"""What must never stand in a log: a secret or a mail's body. MailHub's own code logs ids; this filter is the second lock."""

from __future__ import annotations

import logging
import re

SECRETS = re.compile(
    r"(?i)\b(AUTH\s+(?:PLAIN|LOGIN|XOAUTH2)\s+|(?:password|secret|token|api[-_]?key|authorization)[\"']?\s*[:=]\s*[\"']?)([^\s\"',}]+)"
)


class Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = SECRETS.sub(r"\1[redacted]", message)
        if redacted != message:
            record.msg, record.args = redacted, None
        return True
