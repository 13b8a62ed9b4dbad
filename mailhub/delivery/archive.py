"""Mails as files in an archive, written piece by piece, so that no more than one is in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator

from django.db.models import QuerySet

from mailhub.delivery import reading
from mailhub.delivery.models import Message
from mailhub.lib.pieces import Pieces
from mailhub.relays.base import Refused


def files(messages: QuerySet[Message]) -> Iterator[bytes]:
    """A ZIP archive with an .eml for each message; of one whose words are forgotten, or that cannot be made, a .txt that says so."""
    pieces = Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for message in messages.select_related("content", "sender", "batch").order_by("pk").iterator(chunk_size=20):
            name, data = _file(message)
            archive.writestr(f"{message.created_at:%Y%m%d-%H%M%S}-{message.public_id}.{name}", data)
            yield pieces.taken()
    yield pieces.taken()


def _file(message: Message) -> tuple[str, bytes]:
    if reading.forgotten(message.content):
        return "txt", f"{message.address}: its words have been forgotten.\n".encode()
    try:
        return "eml", reading.source(message)
    except Refused as refusal:
        return "txt", f"{message.address}: {refusal.reply.text}\n".encode()
