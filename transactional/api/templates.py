"""The templates that sites can name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import Field

from mailhub.lib.api import Paging, Schema, Scope, cursor, needs, no_cursor, read_cursor
from transactional import variables
from transactional.models import Template

router = Router(tags=["Templates"])


class LanguageOut(Schema):
    language: str
    version: int
    published_at: datetime
    subject: str
    variables: list[str] = Field(description="Names that have to be given; those of a list's items end the list's with [].")
    optional: list[str] = Field(description="Those of them that may be left out.")
    sample: dict[str, Any]


class TemplateOut(Schema):
    key: str
    languages: list[LanguageOut]


class TemplatesOut(Schema):
    templates: list[TemplateOut]
    next: str | None


def _published(**only: Any) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {}
    rows = Template.objects.filter(published__isnull=False, **only).select_related("published").order_by("key", "language")
    for row in rows:
        if version := row.published:
            said = {name: getattr(version, name) for name in ("published_at", "subject", "sample")}
            names = {
                "variables": [name for name, _sample in variables.names(version.sample)],
                "optional": sorted(variables.optional(version.optional)),
            }
            found.setdefault(row.key, []).append({"language": row.language, "version": version.number, **said, **names})
    return [{"key": key, "languages": languages} for key, languages in found.items()]


@router.get("/templates", response=TemplatesOut, summary="List templates")
@needs(Scope.TEMPLATES_READ)
def find(request: HttpRequest, paging: Query[Paging]) -> dict[str, Any]:
    """Those that are published, by key, with what has to be given for them; a page at a time."""
    (last,) = read_cursor(paging.cursor, str) if paging.cursor else ("",)
    if "\0" in last:
        raise no_cursor()
    used = Template.objects.filter(published__isnull=False, key__gt=last).order_by("key").values_list("key", flat=True).distinct()
    keys = list(used[: paging.limit + 1])
    shown = keys[: paging.limit]
    return {"templates": _published(key__in=shown), "next": cursor(shown[-1]) if len(keys) > paging.limit else None}


@router.get("/templates/{slug:key}", response=TemplateOut, summary="Look at a template")
@needs(Scope.TEMPLATES_READ)
def get(request: HttpRequest, key: str) -> dict[str, Any]:
    for template in _published(key=key):
        return template
    raise Http404(_("There is no published template with this key."))
