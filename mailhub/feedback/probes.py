"""A test mail to a bad address shows what a relay does with our return paths, which no documentation says reliably.

It goes straight over the relay, with a return path of its own. What comes back, and how, is the answer: the bounce at that return path (the
relay keeps them), a callback of the service alone (it puts an address of its own in their place, and tells), or nothing in time.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta

from mailhub.feedback.models import Probe
from mailhub.lib import addresses, clock
from mailhub.lib.states import WrongState, move
from mailhub.relays.models import Relay
from mailhub.senders import return_path, trial
from mailhub.senders.models import Domain, Sender

Status = Probe.Status

# Most bounces take a minute; a server that is busy tries longer.
IN_TIME = timedelta(hours=24)
# Where nobody is bothered: Amazon's own address for this counts as no bounce of the account.
SIMULATORS = {"amazon_ses": "bounce@simulator.amazonses.com"}


def bad_address(relay: Relay, sender: Sender | None) -> str:
    """One that surely nobody has. At the sender's own domain, whose server is ours to bother, and says at once that there is no such
    mailbox; it must not be one that takes mail for whatever name."""
    name = f"no-such-mailbox-{secrets.token_hex(8)}"
    domain = addresses.domain(sender.email) if sender else ""
    return SIMULATORS.get(relay.kind) or (f"{name}@{domain}" if domain else "")


def bounce_address(sender: Sender) -> str:
    """Below which its return paths are made; "" where its domain has none."""
    found = Domain.objects.filter(name=addresses.domain(sender.email)).values_list("bounce_address", flat=True).first()
    return found or ""


def send(relay: Relay, sender: Sender, to: str) -> Probe:
    """`to`: a normalised address; the sender's domain has a bounce address."""
    path = return_path.make(bounce_address(sender), uuid.uuid4(), return_path.PROBE)
    # The row first: the bounce may be quicker than the relay's answer.
    probe = Probe.objects.create(relay=relay, sender=sender, to=to, return_path=path, sent_at=clock.now())
    result = trial.send(relay, sender, to, mail_from=path)
    probe.accepted, probe.reply = result.accepted, (result.reply or result.words)[:500]
    probe.save(update_fields=["accepted", "reply"])
    if not result.accepted:
        _to(probe, Status.REFUSED)
    return probe


def came_back(probe: Probe, now: datetime) -> None:
    """Its bounce came to the return path that it had: the relay keeps those."""
    if _to(probe, Status.KEPT, came_back_at=now):
        Relay.objects.filter(pk=probe.relay_id).update(keeps_return_path=True)


def heard(relay: int, number: int | None, recipient: str, now: datetime) -> bool:
    """A service tells about a test mail, which has the number of no message."""
    if number != 0:
        return False
    waiting = Probe.objects.filter(relay=relay, status=Status.WAITING, called_back_at=None)
    found = [probe.pk for probe in waiting if addresses.key(probe.to) == addresses.key(recipient)]
    Probe.objects.filter(pk__in=found).update(called_back_at=now)
    return True


def close() -> int:
    """Those that nothing came of in time; returns how many. What a relay does not keep is not switched off: staff may know better."""
    overdue = list(Probe.objects.filter(status=Status.WAITING, sent_at__lt=clock.now() - IN_TIME))
    for probe in overdue:
        _to(probe, Status.CALLBACK if probe.called_back_at else Status.SILENT)
    return len(overdue)


def _to(probe: Probe, status: Probe.Status, **fields: datetime) -> bool:
    try:
        move(probe, status, moves=Probe.MOVES, **fields)
    except WrongState:
        return False
    return True
