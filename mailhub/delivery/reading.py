"""What one message says, for staff who may read it."""

from __future__ import annotations

from mailhub.delivery import prepare
from mailhub.delivery.models import Content, Message
from mailhub.relays.base import Refused
from mailhub.relays.reading import Mail

# Characters of the source that the page shows; the file has all of it.
MOST_SOURCE = 60_000


def forgotten(content: Content) -> bool:
    """Its words have been kept long enough (retention.py)."""
    return not content.html and not content.text and content.raw is None


def source(message: Message) -> bytes:
    """The mail as it is handed over, signatures apart. Raises Refused when none can be made."""
    return prepare.Compiled(message.content).envelope(message).data


class Reading:
    """A message's mail, taken apart; `problem` says why there is none."""

    def __init__(self, message: Message) -> None:
        self.mail: Mail | None = None
        self.subject = self.source = self.problem = ""
        try:
            data = source(message)
        except Refused as refusal:
            self.problem = refusal.reply.text
            return
        self.mail = Mail(data)
        self.subject = next((value for name, value in self.mail.fields if name.lower() == "subject"), "")
        self.source = data[:MOST_SOURCE].decode(errors="replace")
        self.cut = len(data) > MOST_SOURCE
