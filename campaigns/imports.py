"""Contacts from a CSV file. Rows that cannot be used are listed; the others are taken, all of them or, after a crash, none."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils.translation import gettext as _

from campaigns import growth
from campaigns.models import Import, MailingList, is_attribute_name
from mailhub.lib import addresses, clock
from mailhub.lib.headers import one_line

MOST_BYTES = 200 * 1024 * 1024
MOST_ROWS = 2_000_000
MOST_COLUMNS = 100
# Characters. A field of more than 131,072, as an unclosed quotation mark makes it, ends the reading (csv.field_size_limit()).
LONGEST_LINE = 100_000
LONGEST_VALUE = 1_000
LONGEST_NAME = 200
# Rejected rows that are listed; the others are counted.
MOST_LISTED = 1_000

# How .xlsx and .xls files begin.
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

# Headings as people write them, in NFKC and lower case without spaces, - and _.
HEADINGS = {
    **dict.fromkeys(["email", "emailaddress", "mail", "mailaddress", "メールアドレス", "メール", "eメール", "eメールアドレス"], "email"),
    **dict.fromkeys(["name", "fullname", "氏名", "名前", "お名前"], "name"),
    **dict.fromkeys(["language", "lang", "言語"], "language"),
}
LANGUAGES = {"english": "en", "英語": "en", "japanese": "ja", "日本語": "ja"}
as_json = json.JSONEncoder(ensure_ascii=False).encode
# What addresses.normalise() would only put into lower case; most addresses, without its cost.
ORDINARY = re.compile(
    r"(?=[^@]{1,64}@[^@]{1,190}$)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:(?=[^.]{1,60}\.)[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,20}"
)


class Unreadable(Exception):
    """The file as a whole cannot be used, and nothing was taken from it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what grounds the file's people may be written to."""

    list: MailingList
    #: Consent.Basis
    basis: str
    #: how and from where the addresses came, in words
    source: str
    #: the text that the people agreed to
    text: str
    by: User | None


@dataclass(frozen=True, slots=True)
class Row:
    #: of the file, counted from 1
    line: int
    email: str
    name: str
    language: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    line: int
    #: the column's heading, or "" where the row as a whole is meant
    column: str
    value: str
    reason: str


def read(file: BinaryIO, name: str, terms: Terms) -> Import:
    """Take in the contacts of `file`, which must be seekable, and subscribe them. Raises Unreadable.

    What is known of a contact already stays where a cell is empty; who has unsubscribed stays so."""
    encoding = _encoding(file)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        with transaction.atomic():
            return _take(_Reader(text), name[:200], encoding, terms)
    finally:
        text.detach()


# -------------------------------------------------------------------------------------------------------------------- reading


def _encoding(file: BinaryIO) -> str:
    """UTF-8 with or without its mark, or else what Japanese Windows calls Shift_JIS. Raises Unreadable."""
    if file.seek(0, io.SEEK_END) > MOST_BYTES:
        raise Unreadable(_("The file is larger than %(limit)s MB. Divide it.") % {"limit": MOST_BYTES // 1024 // 1024})
    file.seek(0)
    if file.read(4) in WORKBOOKS:
        raise Unreadable(_("This is an Excel workbook. Save it as “CSV UTF-8” and choose that file."))
    for encoding in ("utf-8-sig", "cp932"):
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while piece := file.read(1 << 20):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        file.seek(0)
        return encoding
    raise Unreadable(_("The file is neither UTF-8 nor Shift_JIS. Save it as “CSV UTF-8”."))


class _Reader:
    """The rows of a file, one at a time."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        """Reads the heading. Raises Unreadable."""
        self.lines = self._lines(text)
        heading = next(self.lines, "")
        delimiter = max(",;\t", key=heading.count)
        self.parsed = csv.reader(self._and(heading), delimiter=delimiter, strict=True)
        #: the heading as it stands in the file, and what each column is for us ("" for one without a heading)
        self.headings = [heading.strip() for heading in self._next() or []]
        self.columns = _columns(self.headings)

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        number = 0
        while line := text.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise Unreadable(_("Line %(line)s is longer than %(limit)s characters.") % {"line": number, "limit": LONGEST_LINE})
            if "\0" in line:
                raise Unreadable(_("Line %(line)s holds a NUL character: this is no CSV file.") % {"line": number})
            yield line

    def _and(self, heading: str) -> Iterator[str]:
        yield heading
        yield from self.lines

    def _next(self) -> list[str] | None:
        try:
            return next(self.parsed, None)
        except csv.Error as error:
            raise Unreadable(
                _("Line %(line)s cannot be read (%(problem)s). Perhaps a quotation mark is missing there or before.")
                % {"line": self.parsed.line_num, "problem": error}
            ) from None

    def __iter__(self) -> Iterator[Row | Rejection]:
        """Raises Unreadable."""
        count = 0
        while True:
            line = self.parsed.line_num + 1
            cells = self._next()
            if cells is None:
                return
            if not any(cells):
                continue
            count += 1
            if count > MOST_ROWS:
                raise Unreadable(_("The file has more than %(limit)s rows. Divide it.") % {"limit": MOST_ROWS})
            yield self._row(line, [cell.strip() for cell in cells])

    def _row(self, line: int, cells: Sequence[str]) -> Row | Rejection:
        known: dict[str, str] = {}
        attributes: dict[str, str] = {}
        for place, cell in enumerate(cells):
            if not cell:
                continue
            column = self.columns[place] if place < len(self.columns) else ""
            try:
                if column in PARSERS:
                    known[column] = PARSERS[column](cell)
                elif column:
                    attributes[column] = _short(cell, LONGEST_VALUE)
                else:
                    raise ValidationError(_("There is no heading over this cell."))
            except ValidationError as error:
                heading = self.headings[place] if place < len(self.headings) else ""
                return Rejection(line, heading, cell[:100], error.messages[0])
        if "email" not in known:
            return Rejection(line, self.headings[self.columns.index("email")], "", _("The address is missing."))
        return Row(line, known["email"], known.get("name", ""), known.get("language", ""), attributes)


def _columns(headings: Sequence[str]) -> list[str]:
    """What each column is for us. Raises Unreadable."""
    if len(headings) > MOST_COLUMNS:
        raise Unreadable(_("The file has more than %(limit)s columns.") % {"limit": MOST_COLUMNS})
    columns = [_column(heading) if heading else "" for heading in headings]
    if "email" not in columns:
        raise Unreadable(
            _("No column is headed “email” or “メールアドレス”. The first line has: %(headings)s") % {"headings": ", ".join(headings)[:300]}
        )
    named = [column for column in columns if column]
    for column in named:
        if named.count(column) > 1:
            raise Unreadable(_("More than one column is headed “%(heading)s”.") % {"heading": headings[columns.index(column)]})
    return columns


def _column(heading: str) -> str:
    plain = unicodedata.normalize("NFKC", heading).strip()
    if known := HEADINGS.get(re.sub(r"[\s_-]", "", plain.lower())):
        return known
    # As templates can say it: "Postal code" -> {{ Postal_code }}.
    name = re.sub(r"\W+", "_", plain).strip("_")
    if not is_attribute_name(name):
        raise Unreadable(
            _("A column cannot be headed “%(heading)s”: begin with a letter, and use no name that mails have already.")
            % {"heading": heading[:100]}
        )
    return name


def _address(cell: str) -> str:
    plain = cell.lower()
    if ORDINARY.fullmatch(plain):
        return plain
    return addresses.key(addresses.normalise(unicodedata.normalize("NFKC", cell)))


def _name(cell: str) -> str:
    one_line(cell)
    return _short(cell, LONGEST_NAME)


def _language(cell: str) -> str:
    plain = unicodedata.normalize("NFKC", cell).lower()
    code = LANGUAGES.get(plain) or re.split("[-_]", plain)[0]
    if code not in dict(settings.LANGUAGES):
        raise ValidationError(_("“%(value)s” is none of: %(known)s.") % {"value": cell[:100], "known": ", ".join(dict(settings.LANGUAGES))})
    return code


def _short(cell: str, limit: int) -> str:
    if len(cell) > limit:
        raise ValidationError(_("This is longer than %(limit)s characters.") % {"limit": limit})
    return cell


PARSERS = {"email": _address, "name": _name, "language": _language}


# ------------------------------------------------------------------------------------------------------------------- taking in


def _take(reader: _Reader, name: str, encoding: str, terms: Terms) -> Import:
    rejections = _Rejections()
    with connection.cursor() as cursor:
        cursor.execute(CREATE[connection.vendor])
        _stage(cursor, rejections.weeded(reader))
        _leave_out_repeated(cursor, reader, rejections)
        result = _merge(cursor, terms, name)
        cursor.execute("DROP TABLE staged")
    return Import.objects.create(
        name=name,
        list=terms.list,
        basis=terms.basis,
        source=terms.source,
        encoding="UTF-8" if encoding == "utf-8-sig" else "Shift_JIS",
        rows=result["created"] + result["updated"] + rejections.count,
        rejected=rejections.count,
        rejections=[[each.line, each.column, each.value, each.reason] for each in sorted(rejections.first, key=lambda each: each.line)],
        by=terms.by,
        at=clock.now(),
        **result,
    )


class _Rejections:
    def __init__(self) -> None:
        self.first: list[Rejection] = []
        self.count = 0

    def weeded(self, rows: Iterable[Row | Rejection]) -> Iterator[Row]:
        for row in rows:
            if isinstance(row, Rejection):
                self.add([row], 1)
            else:
                yield row

    def add(self, rejections: Sequence[Rejection], count: int) -> None:
        """`count` more, the first of which these are."""
        self.count += count
        self.first += rejections[: MOST_LISTED - len(self.first)]


def _stage(cursor: CursorWrapper, rows: Iterable[Row]) -> None:
    values = ((row.line, row.email, row.name, row.language, as_json(row.attributes)) for row in rows)
    if connection.vendor == "postgresql":
        with cursor.copy("COPY staged FROM STDIN") as copy:
            for value in values:
                copy.write_row(value)
        cursor.execute("ANALYZE staged")
        return
    while group := list(islice(values, 5_000)):
        cursor.executemany("INSERT INTO staged VALUES (%s, %s, %s, %s, %s)", group)


def _leave_out_repeated(cursor: CursorWrapper, reader: _Reader, rejections: _Rejections) -> None:
    """Of an address that stands in several rows the first is taken."""
    heading = reader.headings[reader.columns.index("email")]
    cursor.execute(REPEATED, [MOST_LISTED])
    listed = [
        Rejection(line, heading, email[:100], _("The same address stands in line %(line)s.") % {"line": first})
        for line, email, first in cursor.fetchall()
    ]
    if listed:
        cursor.execute(REMOVE_REPEATED)
        rejections.add(listed, cursor.rowcount)


def _merge(cursor: CursorWrapper, terms: Terms, name: str) -> dict[str, int]:
    """Contacts, consents and subscriptions, a statement each; returns the counts that Import has fields for."""
    now = connection.ops.adapt_datetimefield_value(clock.now())
    spoken = DIALECT[connection.vendor]

    def number(sql: str, *params: Any) -> int:
        cursor.execute(sql, params)
        (found,) = cursor.fetchone()
        return int(found)

    staged = number("SELECT COUNT(*) FROM staged")
    newest_contact = number("SELECT COALESCE(MAX(id), 0) FROM campaigns_contact")
    cursor.execute(CONTACTS.format(**spoken), [now])
    created = number(CREATED, newest_contact, now)
    before = number("SELECT COALESCE(MAX(id), 0) FROM campaigns_consent")
    source = f"{terms.source} ({name[:60]}:"
    cursor.execute(CONSENTS, [terms.list.pk, terms.basis, source, terms.text, terms.by.pk if terms.by else None, now, terms.list.pk])
    newest_subscription = number("SELECT COALESCE(MAX(id), 0) FROM campaigns_subscription")
    cursor.execute(SUBSCRIPTIONS, [before, terms.list.pk, now])
    subscribed = cursor.rowcount
    unsubscribed = number(UNSUBSCRIBED, terms.list.pk)
    joined = number(JOINED, newest_subscription, terms.list.pk, now)
    if connection.vendor == "postgresql":
        # Seconds of looking up what rows point to would come with the commit, and growth.add() keeps others waiting until then.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    growth.add(terms.list.pk, joined=joined)
    return {"created": created, "updated": staged - created, "subscribed": subscribed, "unsubscribed": unsubscribed}


CREATE = {
    "postgresql": "CREATE TEMPORARY TABLE staged (line integer, email text, name text, language text, attributes jsonb)",
    "sqlite": "CREATE TEMPORARY TABLE staged (line integer, email text, name text, language text, attributes text)",
}
REPEATED = """
SELECT line, email, first FROM (SELECT line, email, MIN(line) OVER (PARTITION BY email) AS first FROM staged) AS numbered
WHERE line <> first ORDER BY line LIMIT %s
"""
REMOVE_REPEATED = """
DELETE FROM staged WHERE line IN (
    SELECT line FROM (SELECT line, MIN(line) OVER (PARTITION BY email) AS first FROM staged) AS numbered WHERE line <> first
)
"""

DIALECT = {
    "postgresql": {
        # RFC 9562 version 7: its index grows at one end, in half the time that it takes to grow everywhere.
        "public_id": """encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1),
            'hex')::uuid""",
        "merged": "contact.attributes || excluded.attributes",
        "differs": "NOT contact.attributes @> excluded.attributes",
    },
    "sqlite": {
        "public_id": "lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || 'a' || substr(hex(randomblob(8)), 2))",
        "merged": "json_patch(contact.attributes, excluded.attributes)",
        "differs": "json_patch(contact.attributes, excluded.attributes) <> json(contact.attributes)",
    },
}

# By the unique index on addresses. In order of address, so that two imports of the same people never wait for each other.
CONTACTS = """
INSERT INTO campaigns_contact AS contact (public_id, email, name, language, attributes, created_at)
SELECT {public_id}, email, name, language, attributes, %s FROM staged WHERE TRUE ORDER BY email
ON CONFLICT (email) DO UPDATE SET
    name = CASE WHEN excluded.name <> '' THEN excluded.name ELSE contact.name END,
    language = CASE WHEN excluded.language <> '' THEN excluded.language ELSE contact.language END,
    attributes = {merged}
WHERE excluded.name NOT IN ('', contact.name) OR excluded.language NOT IN ('', contact.language) OR {differs}
"""

# Nobody else's have the time of this import.
CREATED = "SELECT COUNT(*) FROM campaigns_contact WHERE id > %s AND created_at = %s"

# For who is new on the list, or on it without any. Who has unsubscribed gets none.
CONSENTS = """
INSERT INTO campaigns_consent (contact_id, list_id, basis, source, text, recorded_by_id, at)
SELECT contact.id, %s, %s, CAST(%s AS text) || staged.line || ')', %s, %s, %s
FROM staged
JOIN campaigns_contact contact ON contact.email = staged.email
LEFT JOIN campaigns_subscription subscription ON subscription.contact_id = contact.id AND subscription.list_id = %s
WHERE subscription.id IS NULL OR (subscription.status = 'subscribed' AND subscription.consent_id IS NULL)
ORDER BY contact.id
"""

# Only the consents of this import have its time.
SUBSCRIPTIONS = """
INSERT INTO campaigns_subscription AS subscription (contact_id, list_id, status, consent_id, changed_at)
SELECT contact_id, list_id, 'subscribed', id, at FROM campaigns_consent WHERE id > %s AND list_id = %s AND at = %s ORDER BY contact_id
ON CONFLICT (contact_id, list_id) DO UPDATE SET consent_id = excluded.consent_id
WHERE subscription.status = 'subscribed' AND subscription.consent_id IS NULL
"""

# Without those who were on the list already, and lacked the consent.
JOINED = "SELECT COUNT(*) FROM campaigns_subscription WHERE id > %s AND list_id = %s AND changed_at = %s"

UNSUBSCRIBED = """
SELECT COUNT(*) FROM staged
JOIN campaigns_contact contact ON contact.email = staged.email
JOIN campaigns_subscription subscription ON subscription.contact_id = contact.id
WHERE subscription.list_id = %s AND subscription.status = 'unsubscribed'
"""
