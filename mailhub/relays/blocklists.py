"""Own addresses as others see them: the blocklists that have them (RFC 5782), and whether their names lead back (PTR).

A list that cannot be asked says nothing: neither that an address is on it nor that it is not. What was found is stored, and each listing
with its beginning and end."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from mailhub.lib import dns
from mailhub.relays import shipping
from mailhub.relays.models import Blocklist, DedicatedIP, IPCheck, Listing

SHIPPED = Path(__file__).with_name("blocklists.toml")

Verdict = IPCheck.Verdict

ANSWERS = ip_network("127.0.0.0/8")
# By these a list refuses to answer: a name mistyped, a public resolver, too many questions (Spamhaus, "return codes").
REFUSALS = (ip_network("127.255.255.0/24"), ip_network("127.0.1.255/32"))
# Every list has the first of each pair on it, so that one sees that it lives, and never the second (RFC 5782 section 5).
TESTS = {4: ("127.0.0.2", "127.0.0.1"), 6: ("::ffff:127.0.0.2", "::ffff:127.0.0.1")}

# In English, for each reader's language.
REFUSES = gettext_noop("The list refuses to answer this resolver.")
NO_LIST = gettext_noop("The answer is none that a blocklist gives: the list is gone, or the resolver rewrites answers.")
DEAD = gettext_noop("The list does not know its own test address: it is gone, or does not answer this resolver.")
LISTS_ALL = gettext_noop("The list has every address on it: it was shut down.")
NO_IPV6 = gettext_noop("The list does not know IPv6.")
NOT_PUBLIC = gettext_noop("The address is not a public one: nobody lists it.")
OTHER_NAME = gettext_noop("The address's name leads back to it, but is not the one that MailHub greets with.")
ONE_WAY = gettext_noop("The address's name does not lead back to it.")
NO_NAME = gettext_noop("The address has no name.")


@dataclass(frozen=True, slots=True)
class Look:
    verdict: Verdict
    found: str = ""
    reason: str = ""


def load() -> None:
    """Bring the shipped rows into the database; what staff have changed stays."""
    with transaction.atomic():
        shipping.bring_in(Blocklist, shipped())


def shipped() -> dict[str, dict[str, Any]]:
    data = tomllib.loads(SHIPPED.read_text())
    as_of = data.pop("as_of")
    return {
        key: {**shipping.defaults(Blocklist), "as_of": as_of, **given, "meanings": given.get("meanings", "").strip()}
        for key, given in data.items()
    }


# ------------------------------------------------------------------------------------------------------------------- looking up


async def ask(blocklist: Blocklist, address: str) -> Look:
    """Whether the list has the address."""
    kind = ip_address(address).version
    if not ip_address(address).is_global:
        return Look(Verdict.UNKNOWN, reason=NOT_PUBLIC)
    if kind == 6 and not blocklist.covers_ipv6:  # noqa: PLR2004
        return Look(Verdict.UNKNOWN, reason=NO_IPV6)
    alive, never = TESTS[kind]
    try:
        found = (await dns.answers(name(address, blocklist.zone))).records
        problem = refusal(found)
        if problem:
            return Look(Verdict.UNKNOWN, " ".join(found)[:255], problem)
        if not found:
            lives = listed((await dns.answers(name(alive, blocklist.zone))).records)
            return Look(Verdict.GOOD) if lives else Look(Verdict.UNKNOWN, reason=DEAD)
        if listed((await dns.answers(name(never, blocklist.zone))).records):
            return Look(Verdict.UNKNOWN, " ".join(found)[:255], LISTS_ALL)
        words = (await dns.texts(name(address, blocklist.zone))).records
    except dns.Unanswered as error:
        return Look(Verdict.UNKNOWN, reason=str(error))
    meanings = filter(None, (blocklist.meaning(code) for code in sorted(found)))
    return Look(Verdict.BAD, " ".join(sorted(found))[:255], "\n".join([*meanings, *words]))


def refusal(found: Iterable[str]) -> str:
    """Why the answer is none; empty where it is one."""
    for code in map(IPv4Address, found):
        if any(code in network for network in REFUSALS):
            return REFUSES
        if code not in ANSWERS:
            return NO_LIST
    return ""


def listed(found: Iterable[str]) -> bool:
    return bool(found) and not refusal(found)


def name(address: str, zone: str) -> str:
    """Octets, or nibbles, in reverse order before the zone (RFC 5782 sections 2.1 and 2.4)."""
    return f"{ip_address(address).reverse_pointer.rsplit('.', 2)[0]}.{zone}"


async def ptr(ip: DedicatedIP) -> Look:
    """Whether the address's name leads back to it, and is the one that MailHub greets with."""
    try:
        names, back = await dns.names_back(ip.address)
    except dns.Unanswered as error:
        return Look(Verdict.UNKNOWN, reason=str(error))
    found = " ".join(names)[:255]
    if ip.ehlo_name in back:
        return Look(Verdict.GOOD, found)
    return Look(Verdict.BAD, found, OTHER_NAME if back else ONE_WAY if names else NO_NAME)


async def _look(ip: DedicatedIP, blocklists: list[Blocklist]) -> list[Look]:
    return await asyncio.gather(ptr(ip), *(ask(blocklist, ip.address) for blocklist in blocklists))


# --------------------------------------------------------------------------------------------------------------------- the books


def check(ip: DedicatedIP) -> None:
    """Look the address up everywhere, and write down what was found. Safe at once on several machines."""
    blocklists = list(Blocklist.objects.filter(active=True))
    looks = async_to_sync(_look)(ip, blocklists)
    now = timezone.now()
    for blocklist, look in zip([None, *blocklists], looks, strict=True):
        write(ip, blocklist, look, now)
    # Of lists that are asked no more nobody knows anything.
    IPCheck.objects.filter(ip=ip, blocklist__active=False).delete()
    Listing.objects.filter(ip=ip, blocklist__active=False, until=None).update(until=now)


@transaction.atomic
def write(ip: DedicatedIP, blocklist: Blocklist | None, look: Look, now: datetime) -> None:
    values = {"verdict": look.verdict, "found": look.found, "reason": look.reason, "checked_at": now}
    IPCheck.objects.update_or_create(ip=ip, blocklist=blocklist, defaults=values)
    if blocklist is None or look.verdict == Verdict.UNKNOWN:
        return
    if look.verdict == Verdict.GOOD:
        Listing.objects.filter(ip=ip, blocklist=blocklist, until=None).update(until=now)
        return
    said = {"codes": look.found, "reason": look.reason}
    Listing.objects.update_or_create(ip=ip, blocklist=blocklist, until=None, defaults=said, create_defaults={**said, "since": now})
