"""Two questions that load balancers and watchmen ask. The answers hold no secret, so they need no login."""

from __future__ import annotations

from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mailhub.delivery import workers
from mailhub.lib import clock

# Migrations are not taken back under a running process: once all are applied the question is settled.
_migrated = False


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Does this process live?"""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Can mail be taken in and sent? 503 when not, with what is missing."""
    try:
        problems = missing()
    except DatabaseError:
        problems = ["the database does not answer"]
    return JsonResponse({"status": "not ready" if problems else "ok", "problems": problems}, status=503 if problems else 200)


def missing() -> list[str]:
    if not migrated():
        return ["migrations are not applied"]
    served = workers.served(clock.now())
    return [f"no worker serves the {queue} queue" for queue in workers.QUEUES if queue not in served]


def migrated() -> bool:
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _migrated
