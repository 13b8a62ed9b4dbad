"""Filters of the admin's lists that stay cheap however long the list is."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property


class Linked(admin.SimpleListFilter):
    """A narrowing that other pages link to by key. It offers no choice but the way out of it, and so reads one row."""

    model: type[Model]
    parameter_name: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.value() or "", str(self.row or "—"))] if self.value() is not None else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(**{self.parameter_name: self.row}) if self.row else queryset.none()

    @cached_property
    def row(self) -> Model | None:
        key = self.value() or ""
        return self.model._default_manager.filter(pk=key).first() if key.isascii() and key.isdigit() and len(key) < 19 else None
