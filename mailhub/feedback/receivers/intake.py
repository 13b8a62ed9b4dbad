"""Reports taken in: from a mail, or from files that staff upload. Each counts once, by its reporter and number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import PurePath

from django.db import transaction
from django.utils.translation import gettext as _

from mailhub.feedback import mime
from mailhub.feedback.receivers import dmarc, tls, unpack
from mailhub.feedback.receivers.models import HostName, Report, Source, TLSFailure
from mailhub.feedback.receivers.unpack import Unreadable
from mailhub.lib import clock
from mailhub.senders.models import Domain

# Long enough to hold a quarter against the same one of the year before.
KEPT_DAYS = 460
TYPES = re.compile(r"application/(?:x-)?(?:gzip|zip|zip-compressed)|(?:application|text)/xml|application/(?:tlsrpt\+(?:gzip|json)|json)")
NAMES = re.compile(r"\.(?:xml|json|gz|zip)$", re.IGNORECASE)


@dataclass(slots=True)
class Taken:
    """What became of the files of a mail or an upload."""

    new: int = 0
    #: were here already
    known: int = 0
    #: why the others could not be read
    problems: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return self.new + self.known


def of_mail(raw: bytes) -> Taken:
    """The reports that a mail brings; nothing at all where none of its parts looks like one."""
    data = raw.replace(b"\r\n", b"\n").lstrip(b"\n")
    taken = Taken()
    for leaf in mime.part(data, mime.DEEPEST, [mime.MOST_PARTS]).leaves():
        if may_be_report(leaf):
            take(leaf.data, taken)
    return taken


def may_be_report(part: mime.Part) -> bool:
    name = part.parameter("name") or part.raw("content-disposition")
    return bool(TYPES.match(part.type) or (part.type in ("application/octet-stream", "") and NAMES.search(name.strip('"'))))


def take(data: bytes, taken: Taken | None = None, name: str = "") -> Taken:
    """The reports in a file, each stored in a transaction of its own. Never raises for what is in the file."""
    taken = taken or Taken()
    found = 0
    about = f"{PurePath(name).name}: " if name else ""
    try:
        for pieces in unpack.documents(data):
            found += 1
            try:
                _take(pieces, taken)
            except Unreadable as error:
                taken.problems.append(f"{about}{error}")
    except Unreadable as error:
        taken.problems.append(f"{about}{error}")
    else:
        if not found:
            taken.problems.append(f"{about}an empty archive")
    return taken


def _take(pieces: Iterator[bytes], taken: Taken) -> None:
    first = next((piece for piece in pieces if piece.strip(b"\xef\xbb\xbf \t\r\n")), b"")
    whole = chain([first], pieces)
    stored = store_tls(tls.read(whole)) if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else [store_dmarc(dmarc.read(whole))]
    taken.new += sum(stored)
    taken.known += len(stored) - sum(stored)


def ours(domain: str, names: Iterable[str] | None = None) -> bool:
    """It is one of ours, above one or below one."""
    known = Domain.objects.values_list("name", flat=True) if names is None else names
    return any(domain == name or domain.endswith(f".{name}") or name.endswith(f".{domain}") for name in known)


@transaction.atomic
def store_dmarc(found: dmarc.Report) -> bool:
    """Whether it is new. Raises Unreadable for a domain that is not ours."""
    if not ours(found.domain):
        raise Unreadable(_("It is about %(domain)s, which is no domain of yours here.") % {"domain": found.domain})
    good = sum(count for row, count in found.rows.items() if row.dkim or row.spf)
    report, is_new = Report.objects.get_or_create(
        kind=Report.Kind.DMARC,
        organisation=_storable(found.organisation),
        report_id=_storable(found.report_id),
        domain=_storable(found.domain),
        defaults={
            "policy": _storable(found.policy),
            "begins_at": found.begins,
            "ends_at": found.ends,
            "good": good,
            "bad": found.rows.total() - good,
        },
    )
    if is_new:
        rows = (
            Source(
                report=report,
                source_ip=row.source_ip,
                header_from=_storable(row.header_from),
                disposition=row.disposition,
                dkim=row.dkim,
                spf=row.spf,
                dkim_domain=_storable(row.dkim_domain),
                dkim_result=_storable(row.dkim_result),
                spf_domain=_storable(row.spf_domain),
                spf_result=_storable(row.spf_result),
                reason=_storable(row.reason),
                count=count,
            )
            for row, count in found.rows.items()
        )
        Source.objects.bulk_create(rows, batch_size=500)
    return is_new


@transaction.atomic
def store_tls(found: tls.Report) -> list[bool]:
    """For each domain of ours whether it is new. Raises Unreadable where there is none."""
    names = list(Domain.objects.values_list("name", flat=True))
    domains = [domain for domain in found.policies if ours(domain, names)]
    if not domains:
        raise Unreadable(_("It is about no domain of yours here."))
    stored = []
    for domain in domains:
        report, is_new = Report.objects.get_or_create(
            kind=Report.Kind.TLS,
            organisation=found.organisation,
            report_id=found.report_id,
            domain=domain,
            defaults={
                "policy": found.policies[domain],
                "begins_at": found.begins,
                "ends_at": found.ends,
                "good": found.good[domain],
                "bad": found.bad[domain],
            },
        )
        stored.append(is_new)
        if is_new:
            TLSFailure.objects.bulk_create(
                TLSFailure(report=report, result=row.result, mx=row.mx, sending_ip=row.sending_ip, reason=row.reason, count=count)
                for row, count in found.failures.items()
                if row.domain == domain and count
            )
    return stored


def forget() -> int:
    """Delete reports whose days are long over; returns how many. Index receivers_report_days."""
    now = clock.now()
    old = Report.objects.filter(kind__in=Report.Kind.values, begins_at__lt=now - timedelta(days=KEPT_DAYS))
    HostName.objects.filter(looked_up_at__lt=now - timedelta(days=90)).delete()
    return old.delete()[1].get("receivers.Report", 0)


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()
