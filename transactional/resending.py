"""A mail sent again because its site asks for it: a copy, counted like any other mail of the project."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from mailhub.delivery import events, queue
from mailhub.delivery.models import Message
from mailhub.lib import clock
from transactional import limits, policies, sending
from transactional.models import Project, Resend, Submission
from transactional.requests import Conflict, Forbidden


@transaction.atomic
def resend(message: Message, address: str, project: Project, who: str, key: str = "", digest: str = "") -> Message | None:
    """The copy of the message to this address, that `who` asks for; None when what it said, or an earlier copy under the same key, has
    been forgotten. Raises Forbidden, Conflict or Limited.

    With a key, whoever asks at the same time waits for the first one's end, and is answered like it."""
    if not key:
        return _copy(message, address, project, who)
    Resend.objects.bulk_create([Resend(project=project, idempotency_key=key, digest=digest, made_at=clock.now())], ignore_conflicts=True)
    kept = Resend.objects.select_for_update().get(project=project, idempotency_key=key)
    if kept.digest != digest or Submission.objects.filter(project=project, idempotency_key=key).exists():
        raise Conflict("idempotency_key", _("This Idempotency-Key was used for another request."), _("Use a new one for each request."))
    if kept.message:
        return Message.objects.filter(pk=kept.message).first()
    if made := _copy(message, address, project, who):
        kept.message = made.pk
        kept.save(update_fields=["message"])
    else:
        kept.delete()
    return made


def _copy(message: Message, address: str, project: Project, who: str) -> Message | None:
    refusal = policies.not_its_stream(project) or sending.usable(project, message.sender)
    if isinstance(refusal, Forbidden):
        raise refusal
    fitting, window = limits.take(project, [1])
    if not fitting and window:
        raise sending.too_many(project, window)
    made = queue.copy(message, address)
    if made:
        words = _("A copy of the mail to %(address)s, asked for by %(who)s.") % {"address": message.address, "who": who}
        made.events.update(detail=words[: events.LONGEST_DETAIL])
    return made
