"""The one way in for a site's mail: the Django backend, the HTTP API and SMTP submission all end in send()."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from mailhub.delivery import queue
from mailhub.delivery.models import Content
from mailhub.lib import addresses, clock
from mailhub.relays.models import Stream
from mailhub.senders.models import Sender
from transactional import contents
from transactional.models import Project, Submission
from transactional.requests import Conflict, Forbidden, Invalid, Request

MOST_RECIPIENTS = 1_000


def send(request: Request) -> Submission:
    """Accept one mail for each recipient, all or none. Raises Invalid, Forbidden or Conflict.

    When this returns, the mails are committed and will not be lost. Called inside a transaction of the caller's, they are accepted
    with its commit, and a rollback takes them back."""
    if len(request.idempotency_key) > 100:
        raise Invalid("idempotency_key", _("The key is longer than 100 characters."), _("A UUID does."))
    data = contents.snapshot(request.data)
    digest = _digest(request, data)
    if earlier := _earlier(request, digest):
        return earlier
    sender = _sender(request)
    recipients = _recipients(request.recipients)
    content = contents.finished(request, sender) if request.raw else contents.filled_in(request, sender, recipients[0], data)
    try:
        return _accept(request, digest, content, sender, recipients, {} if request.raw else data)
    except IntegrityError:
        # The same key came twice at once, and the other was first.
        if earlier := _earlier(request, digest):
            return earlier
        raise


@transaction.atomic
def _accept(request: Request, digest: str, content: Content, sender: Sender, recipients: Sequence[str], data: dict[str, Any]) -> Submission:
    content.save()
    submission = Submission.objects.create(
        project=request.project,
        content=content,
        via=request.via,
        idempotency_key=request.idempotency_key,
        digest=digest if request.idempotency_key else "",
        accepted_at=clock.now(),
    )
    queue.enqueue([queue.new(Stream.TRANSACTIONAL, content=content, sender=sender, address=address, data=data) for address in recipients])
    return submission


# --------------------------------------------------------------------------------------------------------------- idempotency


def _digest(request: Request, data: dict[str, Any]) -> str:
    asked = [request.sender, list(request.recipients), request.template, data, request.language]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + b"\0" + request.raw).hexdigest()


def _earlier(request: Request, digest: str) -> Submission | None:
    if not request.idempotency_key:
        return None
    found = Submission.objects.filter(project=request.project, idempotency_key=request.idempotency_key).first()
    if found and found.digest != digest:
        raise Conflict(
            "idempotency_key",
            _("This key was used for another mail on %(when)s.") % {"when": f"{found.accepted_at:%Y-%m-%d %H:%M:%S %Z}"},
            _("Use a new key for each mail, and the same one only to repeat the same request."),
        )
    return found


# ------------------------------------------------------------------------------------------------------- sender and recipients


def _sender(request: Request) -> Sender:
    """The confirmed sender that the request may use. Raises Invalid or Forbidden."""
    if not request.sender:
        raise Invalid("sender", _("The mail has no sender."), _("Give the From address of a confirmed sender."))
    try:
        address = addresses.normalise(request.sender)
    except ValidationError as error:
        raise Invalid("sender", error.messages[0]) from None
    found = Sender.objects.filter(email__iexact=address).first()
    if found is None:
        raise Forbidden("sender", _("%(address)s is not a sender of this MailHub.") % {"address": address}, _allowed(request.project))
    if found.status != Sender.Status.CONFIRMED:
        raise Forbidden(
            "sender",
            _("The sender %(address)s is %(status)s.") % {"address": address, "status": found.get_status_display()},
            _("Have it confirmed in MailHub's admin, under Senders."),
        )
    if request.project and not request.project.senders.filter(pk=found.pk).exists():
        raise Forbidden(
            "sender",
            _("The project %(project)s may not send from %(address)s.") % {"project": request.project, "address": address},
            _allowed(request.project),
        )
    return found


def _allowed(project: Project | None) -> str:
    senders = project.senders if project else Sender.objects
    usable = list(senders.filter(status=Sender.Status.CONFIRMED).values_list("email", flat=True)[:10])
    if not usable:
        return _("Add it in MailHub's admin, under Senders, and confirm it.")
    return _("These can be used: %(addresses)s. More are added in MailHub's admin.") % {"addresses": ", ".join(usable)}


def _recipients(given: Sequence[str]) -> list[str]:
    """The normalised addresses, each once. Raises Invalid."""
    if not given:
        raise Invalid("recipients", _("The mail has no recipient."), _("Give at least one address."))
    if len(given) > MOST_RECIPIENTS:
        raise Invalid(
            "recipients",
            _("The mail has more than %(limit)s recipients.") % {"limit": MOST_RECIPIENTS},
            _("Send it in parts, or as a campaign."),
        )
    found: dict[str, str] = {}
    for position, text in enumerate(given):
        try:
            address = addresses.normalise(text)
        except ValidationError as error:
            raise Invalid(f"recipients[{position}]", error.messages[0]) from None
        found.setdefault(addresses.key(address), address)
    return list(found.values())
