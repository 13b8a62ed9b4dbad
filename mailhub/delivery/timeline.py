"""The way of one message, step by step, as its page tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mailhub.delivery import progress, simulation
from mailhub.delivery.models import WAITING, Attempt, Batch, Content, Event, Message
from mailhub.lib import clock
from mailhub.relays.models import Relay, Route
from mailhub.relays.routing import Choice

Status = Message.Status


@dataclass(frozen=True, slots=True)
class Step:
    at: datetime
    #: the state whose colour it has
    state: str
    words: str
    detail: str = ""
    #: the relay's answer
    reply: str = ""
    relay: Relay | None = None
    #: by which route the relay was chosen, and why it
    why: str = ""
    #: the address of ours that it left from
    source_ip: str = ""
    #: how long the relay was spoken to, for an attempt
    lasted: timedelta | None = None
    #: since the step before
    after: timedelta | None = None
    #: what is still to come, not what was
    ahead: bool = False


def of(message: Message) -> list[Step]:
    """The steps in the order of their time; needs four queries."""
    now = clock.now()
    # The outcome of an attempt is recorded as an event of the same moment: the two are one step.
    events = {(event.at, event.type): event for event in message.events.order_by("at", "pk")}
    made = list(message.attempts_made.select_related("relay").defer("relay__secrets"))
    keys = {attempt.route_key for attempt in made if attempt.route_key}
    routes = dict(Route.objects.filter(pk__in=keys).values_list("pk", "name")) if keys else {}
    attempts = [_attempt(attempt, events, routes) for attempt in made]
    steps = [*_arrival(message), *attempts, *map(_event, events.values()), *_withdrawal(message)]
    steps.sort(key=lambda step: step.at)
    passed = [replace(step, after=step.at - _end(before)) for before, step in pairwise(steps)]
    return [steps[0], *passed, *_future(message, now)]


def _end(step: Step) -> datetime:
    return step.at + (step.lasted or timedelta())


def _arrival(message: Message) -> Iterator[Step]:
    # Upper rows that know from whom the mail came say so.
    yield Step(message.created_at, "accepted", _("Accepted"), getattr(origin(message), "received", ""))
    yield Step(message.created_at, "accepted", _("Checked"), _("The sender may send, and the address is well formed."))
    lifetime = _("It is tried until %(time)s.") % {"time": progress.moment(message.expires_at)}
    yield Step(message.created_at, "accepted", _("Queued"), lifetime)


# The events that an attempt may have led to; without one the mail went back uncounted.
EVENTS_OF = {
    Attempt.Outcome.SENT: (Event.Type.SENT,),
    Attempt.Outcome.REFUSED: (Event.Type.BOUNCED, Event.Type.FAILED),
    Attempt.Outcome.DEFERRED: (Event.Type.DEFERRED, Event.Type.FAILED),
    Attempt.Outcome.UNKNOWN: (Event.Type.UNKNOWN, Event.Type.DEFERRED),
    Attempt.Outcome.RELAY_DOWN: (Event.Type.DEFERRED,),
}


# Why a relay took it, by routing.Choice.
WHY = {
    Choice.ONLY: gettext_lazy("Route “%(route)s”: no other relay of it is for such mail."),
    Choice.FIRST: gettext_lazy("Route “%(route)s”: this relay comes before the others."),
    Choice.MEANT: gettext_lazy("Route “%(route)s”: this relay is for such mail, and comes before those that take everything."),
    Choice.SHARE: gettext_lazy("Route “%(route)s”: this relay takes %(percent)s %% of such mail, by the number of the message."),
    Choice.STAND_IN: gettext_lazy("Route “%(route)s”: this relay stood in for one before it, or beside it, that took nothing then."),
}


def _why(attempt: Attempt, routes: Mapping[int, str]) -> str:
    """As it was when the mail was claimed; "" for what is not known."""
    if not attempt.route_key or not attempt.choice:
        return ""
    route = routes.get(attempt.route_key) or _("deleted since")
    return WHY[Choice(attempt.choice)] % {"route": route, "percent": attempt.percent}


def _attempt(attempt: Attempt, events: dict[tuple[datetime, str], Event], routes: Mapping[int, str]) -> Step:
    """Takes its event out of `events`."""
    types = EVENTS_OF[Attempt.Outcome(attempt.outcome)]
    event = next((found for type in types if (found := events.pop((attempt.finished_at, type), None))), None)
    code = " ".join(str(part) for part in (attempt.code, attempt.enhanced) if part)
    return Step(
        attempt.started_at,
        event.type if event else "waiting",
        _("Try %(number)s: %(outcome)s") % {"number": attempt.number, "outcome": attempt.get_outcome_display()},
        _("The address is bad: nothing is sent there any more.") if event and event.type == Event.Type.BOUNCED else "",
        reply=f"{code} {attempt.reply}".strip(),
        relay=attempt.relay,
        why=_why(attempt, routes),
        source_ip=attempt.source_ip or "",
        lasted=attempt.finished_at - attempt.started_at,
    )


def _event(event: Event) -> Step:
    return Step(event.at, event.type, event.get_type_display(), event.detail)


def _withdrawal(message: Message) -> Iterator[Step]:
    if message.status == Status.CANCELED and message.settled_at:
        yield Step(message.settled_at, "canceled", _("Withdrawn"), _("Staff withdrew it before it left."))


def _future(message: Message, now: datetime) -> Iterator[Step]:
    """What comes next, and what keeps it from coming."""
    if message.lease_id:
        yield Step(now, "waiting", message.get_status_display(), relay=message.relay, ahead=True)
    if message.status not in WAITING:
        return
    batch = message.batch
    route = batch.route if batch else None
    if batch and batch.status == Batch.Status.PAUSED:
        held = _("Its batch is paused.")
    else:
        held = progress.obstacle(message.sender, message.stream, route, now, message.destination_id or "")
    due = message.next_attempt_at
    words = _("Next try") if message.attempts else _("Waits for its turn")
    held = held or _next_relay(message)
    yield Step(max(due, now), "waiting", words, held, after=due - now if due > now else None, ahead=True)


def _next_relay(message: Message) -> str:
    """Which relay takes it next, and why: as things are now, since that is decided when it is claimed."""
    if message.batch and message.batch.route:
        return ""
    chosen = simulation.ask(message.sender, message.stream, message.address).chosen
    return " ".join(_("%(relay)s takes it next: %(why)s") % {"relay": way.relay.name, "why": way.why} for way in chosen[:1])


def words(message: Message) -> str:
    """The message's state as a sentence."""
    match message.status:
        case Status.DEFERRED:
            return _("It was refused for now, and is tried again on %(when)s.") % {"when": progress.moment(message.next_attempt_at)}
        case Status.FAILED:
            return _("It was given up, by no fault of the recipient: %(reason)s") % {"reason": message.reply or "—"}
        case Status.SUPPRESSED:
            return _("It was not sent: %(reason)s") % {"reason": message.reply or "—"}
        case _other:
            return str(SENTENCES[Status(message.status)])


SENTENCES = {
    Status.QUEUED: gettext_lazy("It waits for its turn."),
    Status.CLAIMED: gettext_lazy("It is being handed to the relay at this moment."),
    Status.SENT: gettext_lazy("The relay accepted it. Whether it reached the inbox is not known."),
    Status.DELIVERED: gettext_lazy("The recipient's server has it."),
    Status.BOUNCED: gettext_lazy("The recipient's address refused it."),
    Status.COMPLAINED: gettext_lazy("The recipient called it spam."),
    Status.UNKNOWN: gettext_lazy("It was handed over, and no reply was stored: perhaps it was accepted, perhaps not."),
    Status.CANCELED: gettext_lazy("Staff withdrew it before it left."),
}


# ---------------------------------------------------------------------------------------------------------------- the door


def origin(message: Message) -> Model | None:
    """The upper package's row that the message is part of."""
    return (origin_of(message.batch) if message.batch else None) or origin_of(message.content)


def origin_of(thing: Batch | Content) -> Model | None:
    """Whatever hangs on a batch or a content, one to one: so this package need not know who there is."""
    for relation in thing._meta.related_objects:
        if relation.one_to_one and (found := getattr(thing, relation.get_accessor_name() or "", None)):
            owner: Model = found
            return owner
    return None
