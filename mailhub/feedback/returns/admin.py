from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from mailhub.admin import ReadOnlyAdmin
from mailhub.feedback.returns import pages
from mailhub.feedback.returns.models import Count


@admin.register(Count)
class CountAdmin(ReadOnlyAdmin[Count]):
    """A page of pictures in place of the list."""

    def get_urls(self) -> list[URLPattern]:
        return [
            path("mails/", self.admin_site.admin_view(pages.mails), name="returns_count_mails"),
            path("export/", self.admin_site.admin_view(pages.export), name="returns_count_export"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return pages.overview(request)
