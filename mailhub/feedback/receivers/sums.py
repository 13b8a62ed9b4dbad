"""What reports say, summed up over days. Index receivers_report_days leads to the reports of a range, and each to its own rows."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils.translation import gettext as _

from mailhub.feedback.receivers.models import HostName, Report, Source, TLSFailure
from mailhub.lib import clock, dns
from mailhub.relays.models import DedicatedIP

# Sources that are shown; addresses that are looked up in one go.
MOST = 100
LOOKED_UP = 40


@dataclass(frozen=True, slots=True)
class Place:
    """Whose an address is."""

    name: str
    #: own, known or strange
    whose: str
    host: str = ""


@dataclass(slots=True)
class Sender:
    """All that was seen from one address."""

    address: str
    total: int = 0
    failed: int = 0
    spf: int = 0
    dkim: int = 0
    quarantined: int = 0
    rejected: int = 0
    forwarded: int = 0
    domains: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)

    @property
    def passed(self) -> int:
        return self.total - self.failed


def reports(kind: str, since: datetime, until: datetime, domain: str = "") -> QuerySet[Report]:
    found = Report.objects.filter(kind=kind, begins_at__gte=since, begins_at__lt=until).order_by()
    if not domain:
        return found
    labels = domain.split(".")
    # Where a domain has no policy of its own, that of one above it holds, and the reports are about that.
    above = [".".join(labels[start:]) for start in range(len(labels) - 1)]
    return found.filter(Q(domain__in=above) | Q(domain__endswith=f".{domain}"))


def days(kind: str, since: datetime, until: datetime, domain: str = "") -> dict[object, tuple[int, int]]:
    """Day -> what was in order, and what was not."""
    rows = reports(kind, since, until, domain).annotate(day=TruncDate("begins_at")).values_list("day").annotate(Sum("good"), Sum("bad"))
    return {day: (good, bad) for day, good, bad in rows}


def senders(since: datetime, until: datetime, domain: str = "") -> list[Sender]:
    """Those of whom most mails failed first; then by number."""
    rows = Source.objects.filter(report__in=reports(Report.Kind.DMARC, since, until, domain)).order_by()
    found: dict[str, Sender] = {}
    columns = ("source_ip", "header_from", "disposition", "dkim", "spf", "dkim_domain", "reason")
    for address, header_from, disposition, dkim, spf, signer, reason, count in rows.values_list(*columns).annotate(n=Sum("count")):
        one = found.setdefault(address, Sender(address))
        one.total += count
        one.dkim += count * dkim
        one.spf += count * spf
        one.failed += count * (not dkim and not spf)
        one.quarantined += count * (disposition == "quarantine")
        one.rejected += count * (disposition == "reject")
        one.forwarded += count * (reason in ("forwarded", "mailing_list", "trusted_forwarder"))
        one.domains.add(header_from)
        one.signers |= {signer} - {""}
    return sorted(found.values(), key=lambda one: (-one.failed, -one.total))


def failures(since: datetime, until: datetime, domain: str = "") -> list[tuple[str, str, int]]:
    """Kind, server of ours and sessions: the most frequent first."""
    rows = TLSFailure.objects.filter(report__in=reports(Report.Kind.TLS, since, until, domain)).order_by()
    return sorted(rows.values_list("result", "mx").annotate(n=Sum("count")), key=lambda row: -row[2])[:MOST]


def remedy(result: str) -> str:
    """What to do about sessions that failed so (RFC 8460 section 4.3)."""
    return {
        "starttls-not-supported": _(
            "Your server does not offer STARTTLS to this sender: switch it on, and look for a firewall that takes it out."
        ),
        "certificate-host-mismatch": _(
            "The certificate does not hold the name of the MX host: get one that does, or correct the MX record."
        ),
        "certificate-expired": _("The certificate has expired: renew it, and have the server load the new one."),
        "certificate-not-trusted": _("No authority that senders trust has signed the certificate, or certificates in between are missing."),
        "validation-failure": _("The connection was refused for another reason: the detail says which, or the server's log of that time."),
        "tlsa-invalid": _("The TLSA records do not fit the certificate: publish those of the new one before you change it (DANE)."),
        "dnssec-invalid": _("The zone's DNSSEC signatures do not verify: sign the zone anew, or correct the DS record."),
        "dane-required": _("The sender wants DANE and could not use it: look at the DNSSEC of the domain and its MX hosts."),
        "sts-policy-fetch-error": _(
            "The MTA-STS policy could not be fetched: https://mta-sts.<domain>/.well-known/mta-sts.txt must answer."
        ),
        "sts-policy-invalid": _("The MTA-STS policy cannot be read: look at its lines version, mode, mx and max_age."),
        "sts-webpki-invalid": _("The host that has the MTA-STS policy shows a certificate that does not fit: renew it."),
    }.get(result, _("Look at the mail server's log of that time."))


# ------------------------------------------------------------------------------------------------------------------------ whose


def places(found: Sequence[Sender]) -> dict[str, Place]:
    """Whose the addresses are, as far as can be told."""
    addresses = [one.address for one in found]
    own = {str(row.address): row.ehlo_name for row in DedicatedIP.objects.filter(address__in=addresses)}
    hosts = {str(row.address): row.name for row in HostName.objects.filter(address__in=addresses)}
    return {one.address: _place(one, own, hosts.get(one.address, "")) for one in found}


def _place(one: Sender, own: dict[str, str], host: str) -> Place:
    if one.address in own:
        return Place(own[one.address], "own", host)
    name = service(host) or next(filter(None, map(service, sorted(one.signers))), "")
    return Place(name, "known", host) if name else Place("", "strange", host)


@lru_cache(maxsize=1)
def known() -> dict[str, str]:
    return tomllib.loads(Path(__file__).with_name("services.toml").read_text())


def service(host: str) -> str:
    """The service that a host name or a domain belongs to, or ""."""
    labels = host.lower().split(".")
    ends = (".".join(labels[start:]) for start in range(len(labels)))
    return next((known()[end] for end in ends if end in known()), "")


def look_up() -> int:
    """Find the host names of addresses that are new; returns of how many. Those that sent without passing first."""
    since = clock.now() - timedelta(days=30)
    named = HostName.objects.values("address")
    new = Source.objects.filter(report__in=reports(Report.Kind.DMARC, since, clock.now())).exclude(source_ip__in=named).order_by()
    counted = new.values_list("source_ip").annotate(bad=Sum("count", filter=Q(dkim=False, spf=False), default=0)).order_by("-bad")
    addresses = [address for address, _bad in counted[:LOOKED_UP]]
    if addresses:
        found = asyncio.run(_names(addresses))
        now = clock.now()
        HostName.objects.bulk_create(
            [HostName(address=address, name=name[:255], looked_up_at=now) for address, name in found.items()], ignore_conflicts=True
        )
    return len(addresses)


async def _names(addresses: Iterable[str]) -> dict[str, str]:
    """Those that nobody could say at the moment are asked for again."""

    async def name(address: str) -> tuple[str, str] | None:
        try:
            answer = await dns.names(address)
        except dns.Unanswered:
            return None
        return address, next(iter(answer.records), "")

    return dict(filter(None, await asyncio.gather(*map(name, addresses))))
