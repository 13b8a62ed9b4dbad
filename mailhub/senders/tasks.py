"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

import logging

from django.db.models import Q, QuerySet

from mailhub.lib import tasks
from mailhub.senders import verdicts
from mailhub.senders.models import DKIMKey, Domain, Sender

logger = logging.getLogger(__name__)


def check_domains() -> None:
    """Every domain that mail leaves from."""
    _each(Domain.objects.filter(Q(senders__isnull=False) | Q(dkim_keys__isnull=False)))


def check_waiting() -> None:
    """The domains where a key waits to be published, or a sender to be confirmed."""
    _each(Domain.objects.filter(Q(dkim_keys__status=DKIMKey.Status.NEW) | Q(senders__status=Sender.Status.UNCONFIRMED)))


def _each(domains: QuerySet[Domain]) -> None:
    # A task each: name servers that hang hold their own domain up, and no other.
    for pk in domains.values_list("pk", flat=True).distinct():
        tasks.enqueue("mailhub.senders.tasks.check_domain", pk, queue="maintenance")


def check_domain(domain_id: int) -> int:
    domain = Domain.objects.filter(pk=domain_id).first()
    worse = verdicts.look(domain) if domain else []
    for finding in worse:
        logger.warning("the DNS of %s got worse: %s %s is %s", domain, finding.type, finding.name, finding.verdict)
    return len(worse)
