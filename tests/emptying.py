"""The database after a test that committed (transaction=True): as empty as Django makes it, for a tenth of the price.

Django truncates every table, and has permissions and shipped rows made anew. Most tests write to a handful of tables, and to none of those
that are filled from the start.
"""

from __future__ import annotations

from typing import Any

from django.db import connections, transaction
from django.test import TransactionTestCase

Rows = list[tuple[Any, ...]]

truncate = TransactionTestCase._fixture_teardown
#: what Django left when it last did the work: the tables that were not empty, and what was in them
filled: dict[str, Rows] = {}


def empty(case: TransactionTestCase) -> None:
    """In place of TransactionTestCase's method."""
    connection = connections["default"]
    usual = (
        case.available_apps is None and not case.serialized_rollback and list(case._databases_names(include_mirrors=False)) == ["default"]
    )
    if not usual or not filled or any(rows(connection, table) != kept for table, kept in filled.items()):
        truncate(case)
        filled.clear()
        filled.update((table, rows(connection, table)) for table in not_empty(connection, tables(connection)))
        return
    with transaction.atomic(), connection.cursor() as cursor:
        # In any order: all references are looked at when the transaction ends.
        for table in not_empty(connection, [table for table in tables(connection) if table not in filled]):
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")  # noqa: S608


def tables(connection: Any) -> list[str]:
    return sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))


def not_empty(connection: Any, names: list[str]) -> list[str]:
    looks = [f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {connection.ops.quote_name(name)})" for name in names]  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(looks))
        return [name for (name,) in cursor.fetchall()]


def rows(connection: Any, table: str) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)} ORDER BY 1")  # noqa: S608
        return list(cursor.fetchall())
