"""Whose mail it was, for those who cannot know and call these by name (mailhub/webhooks/outbox.py, mailhub/delivery/suppressions.py)."""

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


def apart(projects: Collection[int]) -> set[int]:
    """Those of them whose complaints hold for their own mail alone."""
    own = Project.objects.filter(pk__in=projects, suppression_scope=Project.SuppressionScope.PROJECT)
    return set(own.values_list("pk", flat=True))
