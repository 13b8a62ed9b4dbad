"""Who asks: bearer keys, and how often each may."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import HttpBearer

from mailhub.lib import clients, clock
from mailhub.lib.api import LARGEST_REQUEST, Asker, Fault, Problem, normalised
from mailhub.senders.models import Sender
from transactional import credentials, sending
from transactional.models import Credential, Project
from transactional.requests import Forbidden


class Rates:
    """So many requests a minute for each key, for all processes together: what a minute leaves unused is there for a burst.

    What is left stands in the key's row. A process takes a part of it at a time and counts in memory, so a busy site costs a small write
    in a hundredth of its limit, and a quiet one a write a minute. Small limits are exact; of large ones each process may hold a hundredth
    that it does not use."""

    #: parts of a limit
    PARTS = 100
    #: seconds for which a part is good
    GOOD = 60.0
    #: keys
    MOST = 10_000

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()

    def take(self, key: int, limit: int) -> float:
        """How many are left after this one; below 0 where there was none: as much as is missing for the next."""
        with self._lock:
            held = self._held.get(key)
            now = time.monotonic()
            if held and held.count and held.at > now - self.GOOD:
                held.count -= 1
                return held.count + held.left
            if held and now < held.none_before:
                return held.left + (now - held.at) * limit / 60 - 1
        taken, left = take(key, limit, max(limit // self.PARTS, 1))
        with self._lock:
            if len(self._held) >= self.MOST:
                self._held.clear()
            self._held[key] = _Held(max(taken - 1, 0), left, now, 0.0 if taken else now + (1 - left) * 60 / limit)
        return left + taken - 1


@dataclass(slots=True)
class _Held:
    count: int
    #: in the row, when this was taken
    left: float
    at: float
    #: the row had none: until then nobody needs to ask it again
    none_before: float


@transaction.atomic
def take(key: int, limit: int, wanted: int) -> tuple[int, float]:
    """Take up to so many requests from the row of the key; how many they were, and how many are left there."""
    row = Credential.objects.select_for_update(no_key=True).filter(pk=key).values_list("requests_left", "requests_at").first()
    now = clock.now()
    before, at = row or (0.0, None)
    left = min(before + max((now - at).total_seconds(), 0.0) * limit / 60, float(limit)) if at else float(limit)
    taken = min(int(left), wanted)
    if taken:
        Credential.objects.filter(pk=key).update(requests_left=left - taken, requests_at=now)
    return taken, left - taken


class Key(HttpBearer):
    """An API key of a project. Sessions of the admin open nothing here."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = Rates()
        self.throttle = credentials.Throttle()
        self._lock = threading.Lock()

    def authenticate(self, request: HttpRequest, token: str) -> Credential | None:
        """Raises Problem for a client or a key that comes too often, and for a body that is too large."""
        client = clients.of(request)
        found = credentials.recognise(token, Credential.Kind.API_KEY, client)
        if found is None:
            self._slow_down(client)
            return None
        self._count(request, found)
        _read(request)
        request.asker = Asker(found.project_id, partial(own_sender, found.project))  # type: ignore[attr-defined]
        return found

    def _slow_down(self, client: str) -> None:
        """Who guesses. Who has a key is let in all the same: behind a proxy that we do not know of, all have one address."""
        keys = [("client", client)]
        with self._lock:
            wait = self.throttle.wait(keys)
            if not wait:
                self.throttle.failed(keys)
        if wait:
            raise too_many(_("Too many requests without a valid key."), math.ceil(wait))

    def _count(self, request: HttpRequest, credential: Credential) -> None:
        #: name, limit, seconds of the window, what is left, seconds until there is more: mailhub/api.py tells them in the answer
        request.rates = []  # type: ignore[attr-defined]
        limit = settings.MAILHUB_API_RATE
        if not limit:
            return
        left = self.rates.take(credential.pk, limit)
        wait = math.ceil(max(-left, 0) * 60 / limit)
        again = wait or math.ceil((limit - left) * 60 / limit)
        request.rates.append(("requests", limit, 60, max(int(left), 0), again))  # type: ignore[attr-defined]
        if left < 0:
            raise too_many(_("More than %(limit)s requests a minute with this key.") % {"limit": limit}, max(wait, 1))


def too_many(detail: str, seconds: int) -> Problem:
    return Problem("too-many", detail, headers={"Retry-After": str(seconds)})


def _read(request: HttpRequest) -> None:
    """The body, of somebody whom we know: larger than what DATA_UPLOAD_MAX_MEMORY_SIZE lets strangers send to pages."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length > LARGEST_REQUEST:
        raise Problem("too-large", _("The request is larger than %(limit)s MB.") % {"limit": LARGEST_REQUEST // 1024 // 1024})
    request._body = request.read()


def project_of(request: HttpRequest) -> Project:
    """Whose key it is."""
    return request.auth.project  # type: ignore[attr-defined, no-any-return]


def own_sender(project: Project, address: str, place: str) -> Sender:
    """The confirmed sender of this address, which is one of the project's. Raises Problem."""
    found = sending.permitted(project, normalised(address, place))
    if isinstance(found, Forbidden):
        raise Problem("forbidden", found.words, [Fault(place, found.words)])
    return found
