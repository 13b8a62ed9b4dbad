"""Filters of the admin's lists that stay cheap however long the list is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property


class Written(admin.SimpleListFilter):
    """A narrowing that people write. The list itself applies it, since it knows what bounds the search."""

    template = "admin/delivery/written_filter.html"
    #: of the field
    kind = "text"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self.value() or "", self.value() or "")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """One: what is written, how to leave it, and what else was asked for, as lists of values."""
        others = [(name, values[-1]) for name, values in changelist.get_filters_params().items() if name != self.parameter_name and values]
        yield {
            "selected": True,
            "name": self.parameter_name,
            "kind": self.kind,
            "value": self.value() or "",
            "others": [*others, *([("q", changelist.query)] if changelist.query else [])],
            "query_string": changelist.get_query_string(remove=[self.parameter_name or ""]),
        }


class Beyond(admin.SimpleListFilter):
    """A narrowing of messages by what an upper package knows of their contents: by rows of its own, one a content.

    The upper package adds it to MessageAdmin.list_filter; the list applies it."""

    def everything(self) -> tuple[QuerySet[Any], str]:
        """All rows, and the name of the moment that grows with their keys. Each has a content."""
        raise NotImplementedError

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Those of `rows` that are asked for."""
        raise NotImplementedError

    #: an index has what is asked for, the newest first
    indexed = True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset


class WrittenBeyond(Written, Beyond):
    """Both."""


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
