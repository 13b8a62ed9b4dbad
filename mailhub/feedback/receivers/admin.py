from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from mailhub.admin import ReadOnlyAdmin
from mailhub.feedback.receivers import pages
from mailhub.feedback.receivers.models import Report


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin[Report]):
    """A page of pictures in place of the list."""

    def get_urls(self) -> list[URLPattern]:
        return [path("upload/", self.admin_site.admin_view(pages.upload), name="receivers_report_upload"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return pages.overview(request)
