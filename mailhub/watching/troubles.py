"""Troubles are opened when something is newly broken and closed when it is good again; each is told once (alerts.py).

What is wrong is either found by a source (sources.py), which alone opens and closes its kinds, or told by whoever knows it:

troubles.report(Trouble.Kind.LISTING, "192.0.2.1 zen.spamhaus.org", about={...}, model="relays.DedicatedIP", object_id="7")
troubles.clear(Trouble.Kind.LISTING, "192.0.2.1 zen.spamhaus.org")
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.utils.module_loading import import_string

from mailhub.lib import clock
from mailhub.watching import alerts, pausing, rules
from mailhub.watching.found import Found
from mailhub.watching.models import Alert, Rule, Step, Trouble
from mailhub.watching.sources import SOURCES

logger = logging.getLogger(__name__)

KEPT = timedelta(days=365)


def evaluate() -> None:
    """Look at everything. Any number of machines may do it at once, and as often as they like."""
    for path, kinds in SOURCES.items():
        now = clock.now()
        try:
            found = list(import_string(path)(now))
        except Exception:  # noqa: BLE001  one that fails keeps nobody from the others
            logger.exception("nothing is known of %s for now", ", ".join(kinds))
            continue
        settle(kinds, found, now)


def settle(kinds: Collection[str], found: Iterable[Found], now: datetime) -> None:
    """`found`: all that is wrong of those kinds."""
    present = {
        (row.kind, row.subject): row for row in Trouble.objects.filter(closed_at__isnull=True, kind__in=kinds).select_related("rule")
    }
    for row in list(present.values()):
        if row.holds and not pausing.is_held(row, now):
            # By the page of the relay, or of what is parked.
            resume(row)
            present.pop((row.kind, row.subject))
    for one in found:
        known = present.pop((one.kind, one.subject), None)
        if known is None:
            open_(one, now)
            continue
        Trouble.objects.filter(pk=known.pk, closed_at__isnull=True).update(seen_at=now, about=one.about, tone=one.tone)
        if known.holds:
            pausing.renew(known, now)
    for row in present.values():
        # What a rule has stopped stays so until a person has looked.
        if row.holds:
            pausing.renew(row, now)
        else:
            close(row, now)


def open_(found: Found, now: datetime) -> Trouble | None:
    """None when it was open already."""
    trouble = Trouble(
        kind=found.kind, subject=found.subject, tone=found.tone, about=found.about, model=found.model, object_id=found.object_id,
        relay_id=found.relay, rule=found.rule, opened_at=now, seen_at=now,
    )  # fmt: skip
    try:
        with transaction.atomic():
            if resumed_since(found, now):
                return None
            trouble.save(force_insert=True)
            Step.objects.create(trouble=trouble, deed=Step.Deed.OPENED, at=now)
            if found.rule and found.rule.action == Rule.Action.PAUSE:
                trouble.holds = pausing.hold(trouble, now)
                if trouble.holds:
                    Trouble.objects.filter(pk=trouble.pk).update(holds=trouble.holds)
                    Step.objects.create(trouble=trouble, deed=Step.Deed.PAUSED, at=now)
            alerts.announce(trouble, now)
    except IntegrityError:
        # Another machine was quicker.
        return None
    logger.warning("in trouble: %s, %s: %s", found.kind, found.subject, found.about)
    return trouble


def resumed_since(found: Found, now: datetime) -> bool:
    """Somebody resumed it after it was looked at."""
    return bool(found.rule) and Trouble.objects.filter(kind=found.kind, subject=found.subject, closed_at__gte=now).exists()


@transaction.atomic
def close(trouble: Trouble, now: datetime, deed: str = Step.Deed.CLOSED, user: AbstractBaseUser | None = None) -> bool:
    """False when it was closed already."""
    if not Trouble.objects.filter(pk=trouble.pk, closed_at__isnull=True).update(closed_at=now):
        return False
    trouble.closed_at = now
    Step.objects.create(trouble=trouble, deed=deed, at=now, user_id=user.pk if user else None)
    alerts.announce(trouble, now)
    logger.warning("good again: %s, %s", trouble.kind, trouble.subject)
    return True


@transaction.atomic
def resume(trouble: Trouble, user: AbstractBaseUser | None = None) -> bool:
    """Let go what a rule has stopped, and do not hold against it what was counted until now. False when it is over already."""
    now = clock.now()
    forgiven = rules.pardon(trouble.rule, rules.place_of(trouble.subject), now) if trouble.rule else None
    if not close(trouble, now, Step.Deed.RESUMED, user):
        return False
    pausing.let_go(trouble)
    Trouble.objects.filter(pk=trouble.pk).update(forgiven=forgiven)
    return True


# -------------------------------------------------------------------------------------------------------- told by other packages


def report(kind: str, subject: str, about: dict[str, Any] | None = None, **fields: Any) -> Trouble | None:
    """Something is wrong that no source finds by itself; `fields`: the others of Found. None when that was known."""
    found, now = Found(Trouble.Kind(kind), subject, about or {}, **fields), clock.now()
    known = Trouble.objects.filter(kind=kind, subject=subject, closed_at__isnull=True).update(seen_at=now, about=found.about)
    return None if known else open_(found, now)


def clear(kind: str, subject: str) -> bool:
    """It is good again. False when it was so already."""
    trouble = Trouble.objects.filter(kind=kind, subject=subject, closed_at__isnull=True).first()
    return trouble is not None and close(trouble, clock.now())


def forget() -> int:
    """Troubles that were over a year ago, with all that was told of them."""
    before = clock.now() - KEPT
    Alert.objects.filter(trouble__isnull=True, made_at__lt=before).delete()
    return Trouble.objects.filter(closed_at__lt=before).delete()[0]
