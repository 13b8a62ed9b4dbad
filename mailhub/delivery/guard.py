"""No message loses its sender, or the lease that holds it.

A foreign key would have the database look the sender up for every row. Who puts messages in asks once for all of them instead, and who
deletes a sender looks for its messages while nobody can put one in. A campaign's need neither: their batch has a foreign key, and no batch
is deleted.

A lease goes with its relay. Nobody would take back what it still holds, so a relay stays until its drains have ended.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import IntegrityError, connection
from django.db.models import Model, ProtectedError

from mailhub.delivery.models import Lease, Message
from mailhub.relays.models import Relay
from mailhub.senders.models import Sender

# What a foreign key's check takes, too: others may keep the same sender at the same time, and change what is no key.
KEEP = "SELECT id FROM senders_sender WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"


def keep(senders: Collection[int]) -> None:
    """Have these senders stay until the transaction ends. Raises IntegrityError when one is gone."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(KEEP, [[*senders]])
            found = len(cursor.fetchall())
    else:
        # One writer at a time.
        found = Sender.objects.filter(pk__in=senders).count()
    if found < len(senders):
        raise IntegrityError("A sender has just been deleted.")


def refuse(instance: Sender, **_others: object) -> None:
    """Called in the transaction that deletes a sender, after Django has looked for what needs it and before the row goes: messages that
    came in between keep it. Raises ProtectedError."""
    if needing := needed(instance):
        raise ProtectedError("The sender has messages.", needing)


def needed(sender: Sender) -> set[Model]:
    """A message of the sender's, if there is any: none comes until the transaction ends."""
    # Waits for those who keep it, and has those wait who would.
    Sender.objects.select_for_update().filter(pk=sender.pk).first()
    return set(Message.objects.filter(sender=sender).order_by()[:1])


def refuse_relay(instance: Relay, **_others: object) -> None:
    """The same for a relay at which drains are at work: none begins until the transaction ends, since queue.take_lease() locks the relay.
    Raises ProtectedError."""
    Relay.objects.select_for_update().only("pk").filter(pk=instance.pk).first()
    leases: set[Model] = {*Lease.objects.filter(relay=instance)}
    if leases:
        raise ProtectedError("The relay has drains.", leases)
