"""The message log as a table: facts alone, nothing of what mails say but the subject."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.text import format_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django_stubs_ext import StrPromise

from mailhub.delivery.models import Message
from mailhub.lib import sheets


class Format(models.TextChoices):
    CSV = "csv", "CSV"
    XLSX = "xlsx", gettext_lazy("Excel workbook (XLSX)")


@dataclass(frozen=True, slots=True)
class Column:
    name: StrPromise
    cell: Callable[[Message], object]
    #: a table of its own is read for it, and so only when it is asked for
    of: str = ""


# In their order from left to right.
COLUMNS: dict[str, Column] = {
    "accepted": Column(gettext_lazy("accepted at"), lambda row: row.created_at),
    "state": Column(gettext_lazy("state"), lambda row: row.get_status_display()),
    "recipient": Column(gettext_lazy("recipient"), lambda row: row.address),
    "subject": Column(gettext_lazy("subject"), lambda row: row.content.subject),
    "sender": Column(gettext_lazy("sender"), lambda row: row.sender.email),
    "stream": Column(gettext_lazy("stream"), lambda row: row.get_stream_display()),
    "relay": Column(pgettext_lazy("mail", "relay"), lambda row: row.relay.name if row.relay else ""),
    "tries": Column(gettext_lazy("tries"), lambda row: row.attempts),
    "reply": Column(gettext_lazy("last reply"), lambda row: row.reply),
    "settled": Column(gettext_lazy("settled"), lambda row: row.settled_at or ""),
    "message_id": Column(format_lazy("Message-ID"), lambda row: row.message_id),
    "batch": Column(gettext_lazy("batch"), lambda row: row.batch.name if row.batch else "", "batch"),
    "destination": Column(gettext_lazy("destination"), lambda row: str(row.destination), "destination"),
    "expires": Column(gettext_lazy("expires"), lambda row: row.expires_at),
    "id": Column(gettext_lazy("public id"), lambda row: row.public_id),
}
# Who asks for nothing else gets these.
USUAL = [name for name in COLUMNS if name not in ("batch", "destination", "expires", "id")]


def table(messages: QuerySet[Message], format: str, columns: Collection[str]) -> StreamingHttpResponse:
    """Read while it is sent; the columns come in their own order."""
    chosen = [column for name, column in COLUMNS.items() if name in columns]
    further = [column.of for column in chosen if column.of]
    rows: Any = messages.select_related("content", "sender", "relay", *further).iterator(chunk_size=2_000)
    make = sheets.workbook if format == Format.XLSX else sheets.sheet
    return make(_("messages"), [str(column.name) for column in chosen], ([column.cell(row) for column in chosen] for row in rows))
