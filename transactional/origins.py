"""Whose mail it was, for webhooks, which cannot know (mailhub/webhooks/outbox.py calls these by name)."""

from __future__ import annotations

from collections.abc import Collection

from mailhub.lib.lookups import among
from mailhub.webhooks.outbox import Origin
from transactional.models import Project, Submission


def of(contents: Collection[int]) -> dict[int, Origin]:
    """By the key of the content; contents that no site handed in are left out. One query, by its unique index."""
    rows = Submission.objects.filter(among("content_id", contents)).order_by()
    return {row.content_id: Origin(row.project_id, row.labels, row.metadata) for row in rows.only("content", "project", "tags", "metadata")}


def projects() -> list[tuple[int, str]]:
    return list(Project.objects.order_by("name").values_list("pk", "name"))
