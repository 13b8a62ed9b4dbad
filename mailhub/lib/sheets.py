"""Tables to be opened in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from django.http import StreamingHttpResponse

# What spreadsheets take for the beginning of a formula; and some formulas reach out.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


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
