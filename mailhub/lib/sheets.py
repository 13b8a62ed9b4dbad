"""Tables to be opened in a spreadsheet: CSV, and workbooks (XLSX, ECMA-376). Both are written row by row, however many there are."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from urllib.parse import quote
from xml.sax.saxutils import escape

from django.http import StreamingHttpResponse
from django.utils import timezone

from mailhub.lib.pieces import Pieces

# What spreadsheets take for the beginning of a formula; and some formulas reach out.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# Excel reads 1,048,576 rows of a sheet, and no part of 2 GiB or more; what is beyond goes on in a further sheet.
ROWS = 500_000
# Characters that Excel reads of a cell.
LONGEST = 32_767
# Rows between two pieces of the answer.
TOGETHER = 500


def sheet(name: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """A CSV file that spreadsheets read as UTF-8."""
    return _file(f"{name}.csv", "text/csv; charset=utf-8", _lines(heading, rows))


def workbook(name: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> StreamingHttpResponse:
    """An XLSX file: moments by the site's clock, numbers as numbers, all else as text that is never a formula."""
    return _file(f"{name}.xlsx", XLSX, _parts(name, heading, rows))


def _file(name: str, content_type: str, pieces: Iterator[str] | Iterator[bytes]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(pieces, content_type=content_type)
    response["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
    return response


# ---------------------------------------------------------------------------------------------------------------------- CSV


class _Echo:
    def write(self, line: str) -> str:
        return line


def _lines(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    yield "\ufeff"
    yield writer.writerow(heading)
    for row in rows:
        yield writer.writerow([_harmless(cell.isoformat() if isinstance(cell, datetime) else str(cell)) for cell in row])


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


# --------------------------------------------------------------------------------------------------------------------- XLSX

HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
KINDS = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# How many sheets there are is known last: what is named nowhere is one.
TYPES = f"""{HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Default Extension="xml" ContentType="{KINDS}.worksheet+xml"/>\
<Override PartName="/xl/workbook.xml" ContentType="{KINDS}.sheet.main+xml"/>\
<Override PartName="/xl/styles.xml" ContentType="{KINDS}.styles+xml"/></Types>"""
ROOT = f"""{HEAD}<Relationships xmlns="{RELATIONS}">\
<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>"""
# Of cells: plain, heading, moment, and text that would be a formula if somebody wrote it there.
PLAIN, BOLD, MOMENT, QUOTED = range(4)
STYLES = f"""{HEAD}<styleSheet xmlns="{MAIN}">\
<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>\
<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/><name val="Calibri"/></font></fonts>\
<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>\
<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>\
<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>\
<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>\
<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>\
<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>\
<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0" quotePrefix="1"/></cellXfs>\
<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"""
# The first row stays in sight.
BEGIN = f"""{HEAD}<worksheet xmlns="{MAIN}"><sheetViews><sheetView workbookViewId="0">\
<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>\
<cols><col min="1" max="%d" width="24" customWidth="1"/></cols><sheetData>"""
END = "</sheetData></worksheet>"
# What XML cannot hold.
UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# What Excel would read as the number of a character.
NUMBERED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
# What a name of a sheet may not hold.
UNNAMEABLE = re.compile(r"[\[\]:*?/\\']")
# Day 0 of spreadsheets, by which 1 March 1900 and all later days come right.
DAY_0 = datetime(1899, 12, 30, tzinfo=UTC)


def _parts(name: str, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    pieces, left, count = Pieces(), iter(rows), 0
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.writestr("[Content_Types].xml", TYPES)
        archive.writestr("_rels/.rels", ROOT)
        archive.writestr("xl/styles.xml", STYLES)
        # The first sheet is there without rows too.
        first: list[Sequence[object]] = list(islice(left, 1))
        while first or not count:
            count += 1
            with archive.open(f"xl/worksheets/sheet{count}.xml", "w") as part:
                part.write((BEGIN % max(1, len(heading)) + _row(heading, BOLD)).encode())
                some = islice(chain(first, left), ROWS)
                while group := list(islice(some, TOGETHER)):
                    part.write("".join(_row(row) for row in group).encode())
                    yield pieces.taken()
                part.write(END.encode())
            first = list(islice(left, 1))
        archive.writestr("xl/workbook.xml", _book(UNNAMEABLE.sub(" ", name)[:20], count))
        archive.writestr("xl/_rels/workbook.xml.rels", _relations(count))
    yield pieces.taken()


def _book(name: str, count: int) -> str:
    named = "".join(
        f'<sheet name="{escape(name if number == 1 else f"{name} {number}", QUOTES)}" sheetId="{number}" r:id="rId{number}"/>'
        for number in range(1, count + 1)
    )
    return f'{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{named}</sheets></workbook>'


QUOTES = {'"': "&quot;"}


def _relations(count: int) -> str:
    sheets = "".join(
        f'<Relationship Id="rId{number}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, count + 1)
    )
    styles = f'<Relationship Id="rId{count + 1}" Type="{OFFICE}/styles" Target="styles.xml"/>'
    return f'{HEAD}<Relationships xmlns="{RELATIONS}">{sheets}{styles}</Relationships>'


def _row(row: Sequence[object], style: int = PLAIN) -> str:
    return f"<row>{''.join(_cell(cell, style) for cell in row)}</row>"


def _cell(cell: object, style: int) -> str:
    match cell:
        case datetime():
            moment = timezone.localtime(cell).replace(tzinfo=UTC) - DAY_0
            return f'<c s="{MOMENT}"><v>{moment.total_seconds() / 86400:.8f}</v></c>'
        case int() if not isinstance(cell, bool):
            return f"<c><v>{cell}</v></c>"
    text = str(cell)
    if not text:
        return "<c/>"
    style = QUOTED if text.startswith(FORMULA) else style
    words = escape(NUMBERED.sub("_x005F_", UNSPEAKABLE.sub("\ufffd", text[:LONGEST])))
    return f'<c s="{style}" t="inlineStr"><is><t xml:space="preserve">{words}</t></is></c>'
