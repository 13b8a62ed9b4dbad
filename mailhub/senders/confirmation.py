"""A sender shows that its address is ours: a mail goes to it, and whoever reads that confirms."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _

from mailhub.lib import clock, tokens
from mailhub.relays import routing
from mailhub.relays.models import Relay, Stream
from mailhub.senders import trial
from mailhub.senders.models import Sender

PURPOSE = "confirm-sender"
# How long a link works: as long as a mail may lie unread over a holiday.
HOLDS = timedelta(days=14)


class NoWay(Exception):
    """No relay takes the sender's mail at the moment."""


class Expired(Exception):
    """The link was good once. Holds the sender that it was for."""

    def __init__(self, sender: Sender) -> None:
        super().__init__(sender)
        self.sender = sender


def ask(sender: Sender) -> trial.Result:
    """Send the sender's own address a link. Raises NoWay."""
    subject = _("Confirm that MailHub may send as %(address)s") % {"address": sender.email}
    about = {"site": settings.PUBLIC_HOST, "address": sender.email}
    paragraphs = [
        _("Somebody wants MailHub at %(site)s to send mail that comes from %(address)s.") % about,
        _("If that is right, open this page and confirm it:"),
        link(sender),
        _("If you know nothing of it, do nothing: nothing is sent from your address."),
    ]
    words = "\n\n".join(paragraphs)
    return trial.send(_relay(sender), sender, sender.email, trial.Words(subject, words))


def _relay(sender: Sender) -> Relay:
    """The first that takes its mail now."""
    now = clock.now()
    for stream in (Stream.TRANSACTIONAL, Stream.CAMPAIGN):
        route = sender.route(stream)
        for member in routing.serving(route, now) if route else []:
            return Relay.objects.get(pk=member.relay_id)
    raise NoWay


def link(sender: Sender) -> str:
    token = tokens.sign(PURPOSE, f"{sender.pk}.{int(clock.now().timestamp())}")
    return settings.MAILHUB_PUBLIC_URL + reverse("confirm-sender", args=[token])


def read(token: str) -> Sender:
    """The sender that a link is for. Raises tokens.BadToken or Expired."""
    number, _dot, made = tokens.read(PURPOSE, token).partition(".")
    sender = Sender.objects.filter(pk=int(number)).first()
    if sender is None:
        raise tokens.BadToken
    if clock.now().timestamp() > int(made) + HOLDS.total_seconds():
        raise Expired(sender)
    return sender
