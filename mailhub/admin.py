"""The admin site and the two kinds of ModelAdmin that most of ours are. Registers no model."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString

M = TypeVar("M", bound=Model)


class MailHubAdminSite(admin.AdminSite):
    pass


def badge(state: str, words: object) -> SafeString:
    """A coloured label: `state` chooses the colour (static/mailhub/admin.css), `words` are what it says."""
    return format_html('<span class="badge {}">{}</span>', state, words)


class ReadOnlyAdmin(admin.ModelAdmin[M]):
    """Rows that MailHub writes: to be read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


class EstimatingPaginator(Paginator[Any]):
    """Counts up to LIMIT exactly; past that, the planner's estimate of an unfiltered table will do (pg_class.reltuples)."""

    LIMIT = 10_000
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        counted = self.object_list.order_by()[: self.LIMIT].count()
        if counted < self.LIMIT or connection.vendor != "postgresql" or self.object_list.query.where:
            return counted
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [self.object_list.model._meta.db_table])
            estimate: int = cursor.fetchone()[0]
        return max(counted, estimate)


class BigTableAdmin(ReadOnlyAdmin[M]):
    """Rows that MailHub writes by the million: nothing here may count or sort them all."""

    paginator = EstimatingPaginator
    show_full_result_count = False
    list_per_page = 50
    # The newest first, by the primary key's index alone.
    ordering = ("-pk",)
    sortable_by = ()
