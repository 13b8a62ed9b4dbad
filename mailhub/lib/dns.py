"""Questions to the DNS, asked without waiting in line: dnspython underneath, answers kept for as long as they say, two ways to fail.

`Unanswered` is temporary, `Absent` is not. Host names go out as A-labels and come back as A-labels in lower case, without a final dot.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Generic, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.resolver
import dns.reversename
from django.conf import settings
from django.utils.translation import gettext as _

from mailhub.lib.notes import Notes

# One server is given this long, all of them together that long (seconds).
TRY = 3.0
LIFETIME = 10.0
# EDNS: what every path carries in one piece (the DNS flag day of 2020). More comes over TCP.
PAYLOAD = 1232
# Answers kept by one process, and for how long at most whatever their TTL says (seconds): a mistake in somebody's zone must not outlive
# its repair by much, above all when it says that a domain does not exist.
KEPT = 20_000
KEEP_ANSWER = 3600
KEEP_ABSENCE = 300
# A name whose servers fail is not asked about again for this long: each try would hold a connection up for LIFETIME.
KEEP_FAILURE = 30
# Of a domain's mail exchangers no more are looked at than this.
MOST_EXCHANGERS = 20

T = TypeVar("T")


class DNSError(Exception):
    """The DNS gave no answer that helps. The text is for people."""


class Unanswered(DNSError):
    """Nobody knows at the moment: no server answered in time, or those that did could not say (SERVFAIL, REFUSED)."""


class Absent(DNSError):
    """There is no such name, or nothing of the kind asked for under it."""


class NullMX(Absent):
    """The domain says that it takes no mail (RFC 7505)."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    records: tuple[T, ...]
    #: proven by DNSSEC, as told by a resolver that settings trust (MAILHUB_DNS_VALIDATES)
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One MX record (RFC 5321 section 5.1): lower preferences first."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class TLSA:
    """One TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


# ---------------------------------------------------------------------------------------------------------------- questions


async def exchangers(domain: str) -> Answer[Exchanger]:
    """Where mail for `domain` goes, best first, equals in an order of chance; the domain itself where it has no MX record.

    Raises NullMX, Absent (no such domain) or Unanswered. That the hosts have addresses is not looked at."""
    answer = await mx(domain)
    found = [exchanger for exchanger in answer.records if exchanger.host]
    if answer.records and not found:
        raise NullMX(_("%(domain)s takes no mail (null MX).") % {"domain": domain})
    if not found:
        return Answer((Exchanger(0, _text(_name(domain))),), answer.authenticated)
    random.shuffle(found)
    found.sort(key=lambda exchanger: exchanger.preference)
    return Answer(tuple(found[:MOST_EXCHANGERS]), answer.authenticated)


async def mx(domain: str) -> Answer[Exchanger]:
    """MX records as they stand: in no order, without a host for a null MX. None is an answer too; raises Absent (no such domain) or
    Unanswered."""
    return await _ask(domain, "MX", lambda record: Exchanger(record.preference, _text(record.exchange)))


async def addresses(host: str) -> Answer[str]:
    """IP addresses, those of version 6 first. Raises Absent when there are none, Unanswered when none could be learnt."""
    kinds = (_ask(host, kind, lambda record: str(record.address)) for kind in ("AAAA", "A"))
    answers = await asyncio.gather(*kinds, return_exceptions=True)
    told = [answer for answer in answers if isinstance(answer, Answer)]
    found = tuple(address for answer in told for address in answer.records)
    if not found:
        # One kind unanswered and the other empty: there may be an address.
        errors = sorted((answer for answer in answers if isinstance(answer, BaseException)), key=lambda error: isinstance(error, Absent))
        raise errors[0] if errors else Absent(_("%(host)s has no address.") % {"host": host})
    return Answer(found, len(told) == 2 and all(answer.authenticated for answer in told))


async def answers(name: str) -> Answer[str]:
    """A records alone, as lists that are kept in the DNS answer with (RFC 5782). None is an answer too; raises Unanswered."""
    return await _if_any(name, "A", lambda record: str(record.address))


async def texts(name: str) -> Answer[str]:
    """TXT records, the strings of each joined (RFC 7208 section 3.3). None is an answer too; raises Unanswered."""
    return await _if_any(name, "TXT", lambda record: b"".join(record.strings).decode("utf-8", "replace"))


async def tlsa(host: str, port: int) -> Answer[TLSA]:
    """TLSA records of a host's TCP port. None is an answer too; raises Unanswered."""
    return await _if_any(
        f"_{port}._tcp.{host}", "TLSA", lambda record: TLSA(int(record.usage), int(record.selector), int(record.mtype), bytes(record.cert))
    )


async def names(address: str) -> Answer[str]:
    """Host names that the address's PTR records give. None is an answer too; raises Unanswered."""
    return await _if_any(dns.reversename.from_address(address).to_text(), "PTR", lambda record: _text(record.target))


async def names_back(address: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Host names that the address's PTR records give, and those of them that lead back to it: forward-confirmed. Raises Unanswered."""
    given = (await names(address)).records
    back = set()
    for name in given:
        try:
            if ip_address(address) in map(ip_address, (await addresses(name)).records):
                back.add(name)
        except Absent:
            continue
    return given, frozenset(back)


# ---------------------------------------------------------------------------------------------------------------- asking


class _Cache(dns.resolver.LRUCache):
    def put(self, key: Any, value: dns.resolver.Answer) -> None:
        longest = KEEP_ABSENCE if value.rrset is None else KEEP_ANSWER
        value.expiration = min(value.expiration, time.time() + longest)
        super().put(key, value)


_cache = _Cache(KEPT)
_failures: Notes[tuple[dns.name.Name, str]] = Notes(KEEP_FAILURE, KEPT)


def forget() -> None:
    """Drop all that is kept: tests begin so, and staff who have repaired a zone want to see it."""
    _cache.flush()
    _failures.clear()


@lru_cache(maxsize=4)
def _resolver(servers: tuple[tuple[str, int], ...]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in servers]
    resolver.timeout = TRY
    resolver.cache = _cache
    resolver.use_edns(0, 0, PAYLOAD)
    # AD in a question asks a validating resolver to say whether it could prove the answer (RFC 6840 section 5.7).
    resolver.set_flags(dns.flags.RD | dns.flags.AD)
    return resolver


async def _ask(name: str, kind: str, read: Callable[[Any], T]) -> Answer[T]:
    """The records of that kind, which may be none. Raises Absent when the name does not exist at all, or Unanswered."""
    question = _name(name)
    failure = _failures.read((question, kind))
    if failure is not None:
        raise Unanswered(failure)
    try:
        resolver = _resolver(tuple(settings.MAILHUB_DNS_SERVERS))
        answer = await resolver.resolve(question, kind, raise_on_no_answer=False, search=False, lifetime=LIFETIME)
    except dns.resolver.NXDOMAIN:
        raise Absent(_("%(name)s does not exist.") % {"name": name}) from None
    except (dns.exception.DNSException, OSError) as error:
        reason = _("%(name)s could not be looked up: %(reason)s") % {"name": name, "reason": _why(error)}
        _failures.write((question, kind), reason)
        raise Unanswered(reason) from None
    records = tuple(read(record) for record in answer.rrset or ())
    return Answer(records, settings.MAILHUB_DNS_VALIDATES and bool(answer.response.flags & dns.flags.AD))


async def _if_any(name: str, kind: str, read: Callable[[Any], T]) -> Answer[T]:
    try:
        return await _ask(name, kind, read)
    except Absent:
        return Answer((), False)


def _why(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return _("no server answered in time")
    if isinstance(error, dns.resolver.NoNameservers):
        return _("no server could say")
    return type(error).__name__


def _name(text: str) -> dns.name.Name:
    """Raises Absent for what cannot be a name."""
    try:
        name = dns.name.from_text(text.lower(), idna_codec=dns.name.IDNA_2008_UTS_46)
    except (dns.exception.DNSException, UnicodeError):
        name = dns.name.root
    if name == dns.name.root:
        raise Absent(_("“%(name)s” cannot be a host name.") % {"name": text[:255]})
    return name


def _text(name: dns.name.Name) -> str:
    """Empty for the root, which a null MX names."""
    return name.to_text().lower().removesuffix(".")
