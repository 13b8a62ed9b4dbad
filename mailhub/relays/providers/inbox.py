"""A relay that keeps its mail here, to be looked at in the admin: the sandbox for trying things out. Nothing leaves."""

from __future__ import annotations

from email import policy
from email.errors import MessageError
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING, ClassVar

from asgiref.sync import sync_to_async
from django import forms
from django.db import DatabaseError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mailhub.relays.base import Envelope, RelayDown, Reply

if TYPE_CHECKING:
    from mailhub.relays.models import Relay

KEPT = Reply(250, "2.0.0", "kept in the inbox")


class Inbox:
    label = gettext_lazy("Inbox (for trying things out: mail is kept here, to be looked at)")
    options_form: ClassVar[type[forms.Form]] = forms.Form
    secret_options: ClassVar[frozenset[str]] = frozenset()
    uses_pool: ClassVar[bool] = False

    def __init__(self, relay: Relay) -> None:
        self.relay = relay.pk

    async def open(self) -> InboxSession:
        return InboxSession(self.relay)


class InboxSession:
    spent = False

    def __init__(self, relay: int) -> None:
        self.relay = relay

    async def send(self, envelope: Envelope) -> Reply:
        try:
            await sync_to_async(keep, thread_sensitive=True)(self.relay, envelope)
        except DatabaseError as error:
            raise RelayDown(Reply(None, "", _("The mail could not be kept: %(error)s") % {"error": error})) from error
        return KEPT

    async def close(self) -> None:
        pass


def keep(relay: int, envelope: Envelope) -> None:
    # Not at import: the models name this module.
    from mailhub.relays.models import InboxMail

    InboxMail.objects.create(
        relay_id=relay,
        message=envelope.message,
        mail_from=envelope.mail_from[:320],
        rcpt_to=envelope.rcpt_to[:320],
        subject=subject(envelope.data)[:1000],
        data=envelope.data,
    )


def subject(data: bytes) -> str:
    """The mail's subject in plain letters; "" when it has none that can be read."""
    try:
        found = BytesHeaderParser(policy=policy.default).parsebytes(data[: data.find(b"\r\n\r\n") + 2])["Subject"]
    except (MessageError, ValueError, LookupError):
        return ""
    return "".join(letter for letter in str(found or "") if letter.isprintable())
