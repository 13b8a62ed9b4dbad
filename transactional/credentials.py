"""Who is let in: secrets recognised, failures slowed down."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q

from mailhub.lib import clock
from transactional.models import Credential, Project

# How old the moment of last use that is kept may be: a busy site costs no write a mail.
USE_NOTED = timedelta(minutes=1)
# Compared with where there is no such credential, so that the answer takes as long.
NOBODY = "0" * 64


def recognise(secret: str, kind: str, client: str) -> Credential | None:
    """The credential in force with this secret for this IP address, its project with it. Notes that it was used."""
    # Ours are ASCII; the database would not even be asked for some others.
    prefix = secret[:11] if secret.isascii() and secret.isprintable() else ""
    row = Credential.objects.select_related("project__default_sender").filter(prefix=prefix, kind=kind).first()
    digest = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
    if not hmac.compare_digest(digest, row.digest if row else NOBODY) or row is None:
        return None
    now = clock.now()
    if (row.expires_at and row.expires_at <= now) or not row.is_for(client):
        return None
    if row.last_used_at is None or row.last_used_at < now - USE_NOTED:
        Credential.objects.filter(pk=row.pk).update(last_used_at=now)
    return row


def in_force(keys: Collection[int]) -> dict[int, Project]:
    """Those of the credentials with these keys that are neither revoked nor expired, and their projects as they are now. Notes that they
    were used."""
    now = clock.now()
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    rows = list(Credential.objects.filter(good, pk__in=keys).select_related("project__default_sender"))
    if stale := [row.pk for row in rows if row.last_used_at is None or row.last_used_at < now - USE_NOTED]:
        Credential.objects.filter(pk__in=stale).update(last_used_at=now)
    return {row.pk: row.project for row in rows}


# -------------------------------------------------------------------------------------------------------------------- failures


@dataclass(slots=True)
class _Failures:
    count: int
    #: of the last one, on this machine's clock that never jumps
    at: float


class Throttle:
    """Failures to log in, remembered by one process: after a few, the next try has to wait, longer each time.

    They are counted for each key, such as an address and a user name. It is for one thread."""

    #: failures that cost nothing: people mistype
    FREE = 5
    #: seconds
    LONGEST = 900.0
    FORGET = 3600.0
    #: keys
    MOST = 20_000

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failures] = {}

    def wait(self, keys: Collection[Hashable]) -> float:
        """Seconds until the next try is looked at; 0.0: now."""
        now = time.monotonic()
        return max((self._wait(key, now) for key in keys), default=0.0)

    def _wait(self, key: Hashable, now: float) -> float:
        failures = self._failures.get(key)
        if failures is None or failures.count < self.FREE:
            return 0.0
        pause = min(2.0 ** min(failures.count - self.FREE + 1, 20), self.LONGEST)
        return max(failures.at + pause - now, 0.0)

    def failed(self, keys: Collection[Hashable]) -> None:
        now = time.monotonic()
        if len(self._failures) >= self.MOST:
            self._forget(now)
        for key in keys:
            before = self._failures.get(key)
            count = before.count if before and now - before.at < self.FORGET else 0
            self._failures[key] = _Failures(count + 1, now)

    def succeeded(self, keys: Collection[Hashable]) -> None:
        for key in keys:
            self._failures.pop(key, None)

    def _forget(self, now: float) -> None:
        """The old ones; all of them where there are too many, which a flood of addresses would make: then it begins anew."""
        recent = {key: failures for key, failures in self._failures.items() if now - failures.at < self.LONGEST}
        self._failures = recent if len(recent) < self.MOST // 2 else {}
