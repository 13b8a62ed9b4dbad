"""Tables to be opened in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _

from campaigns.models import Consent

# What spreadsheets take for the beginning of a formula; and some formulas reach out.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def consents(rows: QuerySet[Consent]) -> StreamingHttpResponse:
    """Who agreed or withdrew, when, how and to what."""
    heading = [_("address"), _("list"), _("basis"), _("source"), _("text agreed to"), _("IP address"), _("recorded by"), _("at")]
    found = rows.select_related("contact", "list", "recorded_by").order_by("pk").iterator(chunk_size=2_000)
    return sheet(
        _("consents"),
        heading,
        (
            [
                consent.contact.email,
                consent.list.name,
                consent.get_basis_display(),
                consent.source,
                consent.text,
                consent.ip_address or "",
                consent.recorded_by or "",
                consent.at.isoformat(),
            ]
            for consent in found
        ),
    )


def sheet(name: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """A CSV file that spreadsheets read as UTF-8."""
    response = StreamingHttpResponse(_lines(heading, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}.csv"
    return response


class _Echo:
    def write(self, line: str) -> str:
        return line


def _lines(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    yield "\ufeff"
    yield writer.writerow(heading)
    for row in rows:
        yield writer.writerow([_harmless(str(cell)) for cell in row])


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text
