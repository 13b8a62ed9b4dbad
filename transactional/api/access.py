"""Who asks: bearer keys, and how often each may."""

from __future__ import annotations

import math
import threading
import time

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security import HttpBearer

from mailhub.lib import clients
from mailhub.lib.api import LARGEST_REQUEST, Problem
from transactional import credentials
from transactional.models import Credential, Project


class Rates:
    """So many requests a minute for each key, in one process: what a minute leaves unused is there for a burst."""

    #: keys
    MOST = 10_000

    def __init__(self) -> None:
        self._left: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, key: int, limit: int) -> float:
        """How many are left after this one; below 0 where there was none."""
        now = time.monotonic()
        with self._lock:
            if len(self._left) >= self.MOST:
                self._left.clear()
            left, at = self._left.get(key, (float(limit), now))
            left = min(left + (now - at) * limit / 60, limit) - 1
            self._left[key] = max(left, 0.0) if left >= 0 else left + 1, now
        return left


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
