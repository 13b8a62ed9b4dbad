"""Rows that MailHub ships and staff edit: a new version brings new ones, and changes those that nobody has edited."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from mailhub.relays.models import Figures

R = TypeVar("R", bound=Figures)


def defaults(model: type[Figures]) -> dict[str, Any]:
    """Column -> its default, of what a file may say about a row."""
    return {field.attname: field.get_default() for field in model._meta.fields if field.name not in ("id", "key", "shipped_as")}


def bring_in(model: type[R], wanted: Mapping[str, dict[str, Any]], aside: Mapping[str, dict[str, Any]] | None = None) -> list[R]:
    """The rows that were made or changed, found by their `key`. `wanted`: key -> fields as shipped; `aside`: key -> fields as stored now,
    of those that are no columns."""
    columns = {field.attname for field in model._meta.fields}
    manager = model._default_manager
    present: dict[str, Any] = {row.key: row for row in manager.all()}  # type: ignore[attr-defined]
    made: list[R] = []
    changed: list[R] = []
    for key, fields in wanted.items():
        values = {name: value for name, value in fields.items() if name in columns}
        digest = _digest(fields)
        row = present.get(key)
        if row is None:
            made.append(model(key=key, shipped_as=digest, **values))
            continue
        other = (aside or {}).get(key, {})
        stored = {name: getattr(row, name) if name in columns else other.get(name, []) for name in fields}
        if row.shipped_as not in ("", digest) and row.shipped_as == _digest(stored):
            manager.filter(key=key).update(**values, shipped_as=digest)
            changed.append(row)
    manager.bulk_create(made)
    return made + changed


def _digest(fields: Mapping[str, Any]) -> str:
    plain = {name: _plain(value) for name, value in fields.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Numbers as the file and the database both have them: 0, 0.0 and 0.00 are one."""
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return format(Decimal(value).normalize(), "f") if is_number else value
