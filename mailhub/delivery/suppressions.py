"""Addresses that staff keep all mail, or campaigns, from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from mailhub.delivery.models import Suppression
from mailhub.lib import addresses

# Entered at once.
MOST = 10_000
# Bad lines that are named; the others are counted.
MOST_NAMED = 20
GROUP = 500
BETWEEN = re.compile(r"[,;\s]+")


@dataclass(frozen=True, slots=True)
class Added:
    new: list[Suppression]
    #: campaigns alone were kept from these until now
    widened: int
    #: suppressed as much already
    known: int


def read(text: str) -> list[str]:
    """The addresses that stand in `text`, one a line or several, as suppressions keep them. Raises ValidationError that names the bad."""
    found: dict[str, None] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in filter(None, BETWEEN.split(line)):
            try:
                found[addresses.key(addresses.normalise(word))] = None
            except ValidationError as error:
                problems.append(_("Line %(line)s: %(problem)s") % {"line": number, "problem": error.messages[0]})
    if len(found) > MOST:
        problems = [_("These are more than %(limit)s addresses. Enter them in parts.") % {"limit": MOST}]
    if len(problems) > MOST_NAMED:
        problems[MOST_NAMED:] = [_("And %(count)s more.") % {"count": len(problems) - MOST_NAMED}]
    if problems:
        raise ValidationError(problems)
    return list(found)


@transaction.atomic
def add(keys: Sequence[str], scope: str, detail: str) -> Added:
    """Suppress the addresses. What is known of one already stays, but its scope may grow."""
    new: list[Suppression] = []
    widened = 0
    # In one order, so that two who add the same addresses never wait for each other.
    ordered = sorted(keys)
    for start in range(0, len(ordered), GROUP):
        group = ordered[start : start + GROUP]
        known = dict(Suppression.objects.filter(address__in=group).values_list("address", "scope"))
        rows = [Suppression(address=key, scope=scope, detail=detail) for key in group if key not in known]
        Suppression.objects.bulk_create(rows, ignore_conflicts=True)
        new += Suppression.objects.filter(address__in=[row.address for row in rows])
        if scope == Suppression.Scope.ALL:
            widened += Suppression.objects.filter(address__in=known, scope=Suppression.Scope.CAMPAIGN).update(scope=scope)
    return Added(new, widened, len(keys) - len(new) - widened)
