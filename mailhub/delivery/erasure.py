"""A person is forgotten (GDPR article 17): what is kept of their mail tells nobody who they were, and what kept mail from them still
does."""

from __future__ import annotations

import secrets

from django.db import transaction
from django.db.models.functions import Lower

from mailhub.delivery import queue, suppressions
from mailhub.delivery.models import WAITING, Attempt, Content, Event, Message, Suppression
from mailhub.lib import addresses
from mailhub.relays.models import Stream

GROUP = 1_000


def erase(address: str) -> int:
    """Withdraw what waits for the address, and make its messages, with all that others said about them, nobody's; returns how many. The
    counts of batches stay as they are. What a worker holds at this moment still goes, and is forgotten when this is called again.

    Index delivery_message_address."""
    key = addresses.key(address)
    mine = Message.objects.alias(key=Lower("address")).filter(key=key)
    queue.cancel(mine.filter(status__in=WAITING))
    count = 0
    while pks := list(mine.filter(lease__isnull=True).order_by("pk").values_list("pk", flat=True)[:GROUP]):
        _make_nobodys(pks)
        count += len(pks)
    _hash(key)
    return count


@transaction.atomic
def _make_nobodys(pks: list[int]) -> None:
    held = list(Message.objects.filter(pk__in=pks).order_by("pk").select_for_update(no_key=True))
    for message in held:
        # Unique in its batch, and told from others by nothing.
        message.address, message.data, message.reply, message.recipient_ref = f"{secrets.token_hex(12)}@erased.invalid", {}, "", None
    Message.objects.bulk_update(held, ["address", "data", "reply", "recipient_ref"])
    Event.objects.filter(message__in=pks).update(detail="")
    Attempt.objects.filter(message__in=pks).update(reply="")
    own = {message.content_id for message in held if message.stream == Stream.TRANSACTIONAL}
    shared = set(
        Message.objects.filter(content__in=own, stream=Stream.TRANSACTIONAL).exclude(pk__in=pks).values_list("content_id", flat=True)
    )
    Content.objects.filter(pk__in=own - shared).update(subject="", html="", text="", raw=None, links=None)


@transaction.atomic
def _hash(key: str) -> None:
    """The suppressions of the address, known from now on by its keyed hash alone."""
    hashed = suppressions.erased_key(key)
    rows = list(Suppression.objects.filter(address=key).order_by("project").select_for_update(no_key=True))
    known = set(Suppression.objects.filter(address=hashed).values_list("project", flat=True))
    for row in rows:
        if row.project in known:
            row.delete()
        else:
            Suppression.objects.filter(pk=row.pk).update(address=hashed, erased=True, detail="", event=None)
