"""Counts that end somewhere, where there may be millions."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from mailhub.lib.charts import grouped

MANY = 1_000


def count_to(rows: QuerySet[Any], limit: int = MANY) -> int:
    """How many rows there are; limit + 1 when there are more. Keep the order of an index in `rows`, and that index is read."""
    return rows[: limit + 1].count()


def in_words(count: int, limit: int = MANY) -> str:
    return f"{grouped(limit)}+" if count > limit else grouped(count)
