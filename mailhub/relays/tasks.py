"""What workers are woken for. Ids only; each may run twice, late or never."""

from __future__ import annotations

from mailhub.lib import tasks
from mailhub.relays import blocklists
from mailhub.relays.models import DedicatedIP


def check_addresses() -> None:
    """Every own address: its name, and the blocklists."""
    # A task each: a name server that hangs holds one address up, and no other.
    for pk in DedicatedIP.objects.values_list("pk", flat=True):
        tasks.enqueue("mailhub.relays.tasks.check_address", pk, queue="maintenance")


def check_address(ip_id: int) -> None:
    ip = DedicatedIP.objects.filter(pk=ip_id).first()
    if ip:
        blocklists.check(ip)
