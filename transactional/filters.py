"""The message log's filters by what only this package knows of a mail (delivery/filters.py says how)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from mailhub.delivery.filters import Beyond, WrittenBeyond
from transactional.models import Project, Submission, Template


class OfSubmission(Beyond):
    def everything(self) -> tuple[QuerySet[Any], str]:
        return Submission.objects.all(), "accepted_at"


class OfProject(OfSubmission):
    """Index transactional_submission_of."""

    title = _("project")
    parameter_name = "project"
    OWN = "none"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = [(str(pk), name) for pk, name in Project.objects.order_by("name").values_list("pk", "name")[:200]]
        return [*named, (self.OWN, gettext("MailHub itself"))]

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or ""
        if value == self.OWN:
            return rows.filter(project__isnull=True)
        return rows.filter(project=int(value)) if value.isascii() and value.isdigit() and len(value) < 19 else rows.none()


class OfTemplate(OfSubmission):
    """Index transactional_submission_by. Templates that are gone are found by writing their key into the address."""

    title = _("template")
    parameter_name = "template"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, key) for key in Template.objects.order_by("key").values_list("key", flat=True).distinct()[:200]]

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        # An empty key is no template, and has no index.
        return rows.exclude(template="").filter(template=self.value())


class Tagged(OfSubmission, WrittenBeyond):
    """Among the newest: tags have no index."""

    title = _("tag")
    parameter_name = "tag"
    indexed = False

    def narrowed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(tags__contains=f"\n{(self.value() or '').strip()}\n")
