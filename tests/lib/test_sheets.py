from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import openpyxl
import pytest
from django.utils import timezone

from mailhub.lib import sheets


def opened(rows: list[list[object]], name: str = "messages", heading: tuple[str, ...] = ("a", "b")) -> Any:
    response = sheets.workbook(name, heading, rows)
    assert response["Content-Type"] == sheets.XLSX
    return openpyxl.load_workbook(io.BytesIO(b"".join(response)))


def test_what_would_be_a_formula_is_text_and_numbers_and_moments_are_what_they_are() -> None:
    moment = datetime(2026, 3, 1, 23, 30, 5, tzinfo=UTC)
    with timezone.override("Asia/Tokyo"):
        (sheet,) = opened([["=1+1", 7], ["＝cmd", moment], ["<&>\"'\x00 _x0041_\n緑茶", ""]]).worksheets
    assert [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2, max_row=3)] == [
        ["=1+1", 7],
        ["＝cmd", datetime(2026, 3, 2, 8, 30, 5)],
    ]
    assert sheet["A2"].data_type == sheet["A3"].data_type == "s" and sheet["A2"].quotePrefix and sheet["A3"].quotePrefix
    assert not sheet["A4"].quotePrefix and sheet["B2"].data_type == "n" and sheet["B3"].is_date
    assert sheet["A4"].value.replace("_x005F_", "_") == "<&>\"'\ufffd _x0041_\n緑茶" and sheet["B4"].value is None
    assert sheet["A1"].font.b and sheet.freeze_panes == "A2"


def test_an_empty_table_has_its_heading() -> None:
    book = opened([], name="メール: [all]/a?")
    assert [[cell.value for cell in row] for row in book.worksheets[0].iter_rows()] == [["a", "b"]]


def test_what_a_sheet_does_not_hold_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "ROWS", 3)
    book = opened([[number, "x"] for number in range(7)])
    assert book.sheetnames == ["messages", "messages 2", "messages 3"]
    rows = [[row[0] for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
    assert rows == [["a", 0, 1, 2], ["a", 3, 4, 5], ["a", 6]]
    assert len(opened([[number, "x"] for number in range(3)]).sheetnames) == 1


def test_it_is_sent_while_it_is_written() -> None:
    read = 0

    def rows() -> Iterator[list[object]]:
        nonlocal read
        for number in range(100 * sheets.TOGETHER):
            read = number
            yield [f"{number * 7919 % 10007} {number}", number]

    pieces = iter(sheets.workbook("messages", ["a", "b"], rows()))
    data = next(pieces)
    assert read < 2 * sheets.TOGETHER
    with zipfile.ZipFile(io.BytesIO(data + b"".join(pieces))) as archive:
        assert archive.testzip() is None and read == 100 * sheets.TOGETHER - 1


def test_a_csv_file_begins_no_cell_with_a_formula() -> None:
    text = b"".join(sheets.sheet("messages", ["a"], [["=1"], [datetime(2026, 3, 1, tzinfo=UTC)]])).decode("utf-8-sig")
    assert text == '"a"\r\n"\'=1"\r\n"2026-03-01T00:00:00+00:00"\r\n'
