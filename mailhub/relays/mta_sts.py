"""MTA-STS (RFC 8461): a domain says which hosts take its mail, and that they do so under TLS with a certificate that proves their name.

What a domain once said holds for as long as it said, on every machine and after every restart: someone who can meddle with the DNS or
block the policy's host must not be able to make us forget. So policies are rows; a process keeps a copy of those it has met.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.utils import timezone

from mailhub.lib import dns, http
from mailhub.lib.notes import Notes
from mailhub.relays.models import MTASTSPolicy

logger = logging.getLogger(__name__)

# RFC 8461 sections 3.2 and 3.3: the longest that a policy may hold, and the most that one may weigh.
LONGEST = timedelta(seconds=31_557_600)
WEIGHT = 65_536
# Fetching a policy may take this long (seconds); the mail waits for it.
FETCH = 15.0
# After a failure the next try waits this long (section 3.3); a policy is fetched anew at this age, before it runs out.
RETRY = timedelta(minutes=5)
REFRESH = timedelta(days=1)
# Domains that a process remembers.
KEPT = 10_000


class Mode(StrEnum):
    ENFORCE = "enforce"  # mail waits when a host cannot prove itself
    TESTING = "testing"  # it goes all the same
    NONE = "none"  # as if there were no policy


class Malformed(ValueError):
    """The page is no policy."""


@dataclass(frozen=True, slots=True)
class Policy:
    mode: Mode
    #: host names in lower case, perhaps with "*." in place of the first label
    mx: tuple[str, ...]
    max_age: timedelta

    def names(self, host: str) -> bool:
        """The host may take the domain's mail (section 4.1)."""
        return any(
            host == pattern or (pattern.startswith("*.") and host.partition(".")[2] == pattern.removeprefix("*.")) for pattern in self.mx
        )


def parse(text: str) -> Policy:
    """Raises Malformed."""
    fields: dict[str, str] = {}
    mx = []
    for line in text.replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if name == "mx" and colon:
            mx.append(value.lower())
        elif colon:
            # Of fields that stand twice the first counts; those we do not know are for others.
            fields.setdefault(name, value)
    age = fields.get("max_age", "")
    if fields.get("version") != "STSv1" or fields.get("mode") not in list(Mode) or not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise Malformed("version, mode or max_age is missing or wrong")
    if not mx and fields["mode"] != Mode.NONE:
        raise Malformed("no mx is named")
    return Policy(Mode(fields["mode"]), tuple(mx), min(timedelta(seconds=int(age)), LONGEST))


def url(domain: str) -> str:
    """Where the policy stands (section 3.3)."""
    return f"https://mta-sts.{domain}/.well-known/mta-sts.txt"


def identifier(texts: tuple[str, ...]) -> str | None:
    """The id that the domain's TXT records give (section 3.1), or None where they announce no policy."""
    announcements = [text for text in texts if text.split(";")[0].strip() == "v=STSv1"]
    if len(announcements) != 1:
        return None
    for part in announcements[0].split(";")[1:]:
        name, _equals, value = part.partition("=")
        if name.strip() == "id" and value.strip().isalnum() and len(value.strip()) <= 32:
            return value.strip()
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """What we have from a domain."""

    identifier: str
    policy: Policy
    fetched_at: datetime

    def holds(self, at: datetime) -> bool:
        return at < self.fetched_at + self.policy.max_age

    def is_fresh(self, at: datetime) -> bool:
        return at < self.fetched_at + min(REFRESH, self.policy.max_age / 2)


# What this process has met, None for a domain that never had a policy; and domains whose policy could not be fetched.
_known: dict[str, Known | None] = {}
_failed: Notes[str] = Notes(RETRY.total_seconds(), KEPT)


def forget() -> None:
    """Start anew from the rows."""
    _known.clear()
    _failed.clear()


class Policies:
    """Looked up for mail that is about to go. One event loop's; what is learnt is shared by the process and, through rows, by all."""

    def __init__(self, connect: http.Connect = http.connect, trust: Callable[[], ssl.SSLContext] = http.public_trust) -> None:
        self.connect = connect
        self.trust = trust
        self.fetching: dict[str, asyncio.Lock] = {}

    async def policy(self, domain: str) -> Policy | None:
        """What holds for mail to `domain` now; None where nothing does. Never raises: with no policy to be had, mail goes without."""
        try:
            announced = identifier((await dns.texts(f"_mta-sts.{domain}")).records)
        except dns.DNSError:
            announced = None
        now = timezone.now()
        known = await self.remembered(domain)
        if announced and not self.is_current(known, announced, now):
            lock = self.fetching.setdefault(domain, asyncio.Lock())
            async with lock:
                # Another mail may have fetched it while this one waited.
                known = _known.get(domain)
                if not self.is_current(known, announced, now):
                    known = await self.fetch(domain, announced) or known
            self.fetching.pop(domain, None)
        return known.policy if known and known.holds(now) and known.policy.mode != Mode.NONE else None

    def is_current(self, known: Known | None, announced: str, at: datetime) -> bool:
        return known is not None and known.identifier == announced and known.is_fresh(at)

    async def remembered(self, domain: str) -> Known | None:
        if domain not in _known:
            if len(_known) >= KEPT:
                _known.clear()
            try:
                _known[domain] = await sync_to_async(_load)(domain)
            except DatabaseError:
                logger.exception("the MTA-STS policy of %s could not be looked up", domain)
                return None
        return _known[domain]

    async def fetch(self, domain: str, announced: str) -> Known | None:
        """The policy from its host, kept; None when there is none to be had, or there was none a moment ago."""
        if _failed.read(domain) is not None:
            return None
        try:
            page = await http.get(url(domain), most=WEIGHT, seconds=FETCH, connect=self.connect, trust=self.trust)
            if page.status != 200 or page.media_type != "text/plain":
                raise Malformed(f"it answered {page.status} {page.media_type}")
            text = page.body.decode("utf-8", "replace")
            known = Known(announced, parse(text), timezone.now())
        except (http.HTTPError, Malformed) as error:
            logger.warning("the MTA-STS policy of %s could not be fetched: %s", domain, error)
            _failed.write(domain)
            return None
        _known[domain] = known
        try:
            await sync_to_async(_keep)(domain, known, text)
        except DatabaseError:
            logger.exception("the MTA-STS policy of %s could not be kept", domain)
        return known


def _load(domain: str) -> Known | None:
    row = MTASTSPolicy.objects.filter(domain=domain).first()
    return Known(row.identifier, parse(row.text), row.fetched_at) if row else None


def _keep(domain: str, known: Known, text: str) -> None:
    MTASTSPolicy.objects.filter(expires_at__lt=known.fetched_at).delete()
    MTASTSPolicy.objects.update_or_create(
        domain=domain,
        defaults={
            "identifier": known.identifier,
            "text": text.replace("\0", ""),
            "fetched_at": known.fetched_at,
            "expires_at": known.fetched_at + known.policy.max_age,
        },
    )
