"""What was found of a domain's records, kept: pages show it, and what got worse can be told."""

from __future__ import annotations

from collections.abc import Iterable

from asgiref.sync import async_to_sync
from django.db import transaction

from mailhub.lib import clock, dns
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay
from mailhub.senders import records
from mailhub.senders.models import DKIMKey, Domain, Finding, Kind, Sender, Verdict
from mailhub.senders.records import Seen

# Verdicts that staff have to do something about.
TROUBLE = (Verdict.MISSING, Verdict.WRONG)


def look(domain: Domain, also: Relay | None = None) -> list[Finding]:
    """Look everything up anew, keep it, and do what follows from it: keys whose record is seen begin to sign, senders of a domain that is
    shown to be ours are confirmed. Returns the findings that got worse. Takes seconds; no transaction is open meanwhile.

    `also`: a relay that its mail is to leave by and does not yet."""
    dns.forget()
    seen = async_to_sync(records.check)(domain, also)
    worse = keep(domain, seen)
    _sign(domain, seen)
    _own(domain, seen)
    return worse


@transaction.atomic
def keep(domain: Domain, seen: Iterable[Seen]) -> list[Finding]:
    """Returns the findings that are in trouble and were not before."""
    # Of two at once, one waits here.
    Domain.objects.select_for_update().get(pk=domain.pk)
    now = clock.now()
    before = {(finding.kind, finding.name): finding for finding in domain.findings.all()}
    blind = {one.kind for one in seen if one.verdict == Verdict.UNKNOWN}
    worse = []
    for one in seen:
        finding = before.pop((one.kind, one.name), None) or Finding(domain=domain, kind=one.kind, name=one.name, verdict="", since=now)
        if one.verdict == Verdict.UNKNOWN and finding.pk and finding.verdict != Verdict.UNKNOWN:
            # Name servers that are away for a moment undo nothing that was seen.
            Finding.objects.filter(pk=finding.pk).update(stale=True)
            continue
        if one.verdict != finding.verdict:
            if one.verdict in TROUBLE and finding.verdict not in TROUBLE:
                worse.append(finding)
            finding.since = now
        finding.type, finding.wanted, finding.found, finding.verdict = one.type, one.wanted, one.found, one.verdict
        finding.problem, finding.about, finding.stale = one.problem, one.about, False
        finding.was_good = finding.was_good or one.verdict in (Verdict.PASS, Verdict.ADVICE)
        finding.save()
    # Keys and addresses that are gone.
    gone = [finding for finding in before.values() if finding.kind not in blind]
    Finding.objects.filter(pk__in=[finding.pk for finding in gone]).delete()
    Finding.objects.filter(pk__in=[finding.pk for finding in before.values() if finding.kind in blind]).update(stale=True)
    Domain.objects.filter(pk=domain.pk).update(checked_at=now)
    return worse


def _sign(domain: Domain, seen: Iterable[Seen]) -> None:
    """The newest key of each algorithm takes over once receivers can see its record."""
    published = {one.name for one in seen if one.kind == Kind.DKIM and one.verdict == Verdict.PASS}
    done = set()
    for key in domain.dkim_keys.filter(status=DKIMKey.Status.NEW).order_by("-pk"):
        if str(key) in published and key.algorithm not in done:
            done.add(key.algorithm)
            try:
                key.sign_from_now_on()
            except WrongState:
                # Staff did, or retired it, a moment ago.
                continue


def _own(domain: Domain, seen: Iterable[Seen]) -> None:
    if not any(one.kind == Kind.OWNERSHIP and one.verdict == Verdict.PASS for one in seen):
        return
    Domain.objects.filter(pk=domain.pk, verified_at__isnull=True).update(verified_at=clock.now())
    for sender in domain.senders.filter(status=Sender.Status.UNCONFIRMED):
        try:
            sender.confirm()
        except WrongState:
            continue
