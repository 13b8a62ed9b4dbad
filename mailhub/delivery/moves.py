"""A sender's mail goes from one relay to another, at once or a little more every day. No message is touched: who claims reads the shares
anew each time, so what waits follows, and nothing is lost or sent twice."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta
from math import gcd

from django.db import transaction
from django.utils.translation import gettext as _

from mailhub.delivery import carried, queue, rebinding
from mailhub.delivery.carried import Load
from mailhub.delivery.models import Batch, Move
from mailhub.lib import clock, states
from mailhub.lib.states import WrongState
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.senders.models import Sender

DAY = timedelta(days=1)
FIELD_OF = {Stream.TRANSACTIONAL: "transactional_route", Stream.CAMPAIGN: "campaign_route"}
# What the share of the old relay is divided into.
WHOLE = 100
MOST_WEIGHT = 32_767


class NoWay(Exception):
    """It cannot be moved so; nothing was done. The message is for staff."""


def sources(sender: Sender, stream: str, old: Relay) -> list[Route]:
    """The routes by which the sender's mail of that kind ("": both) leaves through the relay."""
    streams = [stream] if stream else list(Stream.values)
    routes = {route.pk: route for each in streams if (route := sender.route(each))}
    return [route for route in routes.values() if route.members.filter(relay=old).exists()]


@transaction.atomic
def start(sender: Sender, stream: str, old: Relay, new: Relay, step: int) -> Move:
    """Begin to move; `step`: percent a day, 100 for all at once. Raises NoWay."""
    sender = Sender.objects.select_for_update(no_key=True).get(pk=sender.pk)
    source = source_of(sender, stream, old, new)
    streams = [each for each in ([stream] if stream else Stream.values) if sender.route(each) == source]
    now = clock.now()
    known = carried.of(sender.pk, [old.pk, new.pk], streams, now)
    move = Move.objects.create(
        sender=sender,
        stream=streams[0] if len(streams) == 1 else "",
        old_relay=old,
        new_relay=new,
        step=step,
        source=source,
        named={each: getattr(sender, f"{FIELD_OF[Stream(each)]}_id") for each in streams},
        before={str(relay): astuple(load) for relay, load in known.items()},
        started_at=now,
        next_at=now,
    )
    move.route = _divided(move, source)
    move.save(update_fields=["route", "beside"])
    _take(move, move.route, source)
    _grow(move, step)
    return move


def source_of(sender: Sender, stream: str, old: Relay, new: Relay) -> Route:
    """The route that is divided. Raises NoWay."""
    if old == new:
        raise NoWay(_("Choose two different relays."))
    found = sources(sender, stream, old)
    if not found:
        raise NoWay(_("This sender's mail does not leave through “%(relay)s”.") % {"relay": old})
    if len(found) > 1:
        raise NoWay(_("Its campaigns and its transactional mail leave by different routes. Move one kind at a time."))
    if Move.objects.filter(route=found[0], status__in=[Move.Status.RUNNING, Move.Status.HELD]).exists():
        raise NoWay(_("Another move of this sender is under way. Finish it or turn it back first."))
    there = found[0].members.filter(relay=new).first()
    if there and (there.stream or there.senders or there.destinations.exists()):
        raise NoWay(
            _("“%(relay)s” takes some mail of the route “%(route)s” by a condition of its own. Take it out of the route first.")
            % {"relay": new, "route": found[0]}
        )
    return found[0]


def _divided(move: Move, source: Route) -> Route:
    """The source anew, for this sender alone, with room for both relays where the old one stood."""
    route = Route.objects.create(name=_name(f"{move.sender.email} → {move.new_relay}"))
    members = list(source.members.exclude(relay=move.new_relay).prefetch_related("destinations").order_by("position", "pk"))
    old = next(member for member in members if member.relay_id == move.old_relay_id)
    for member in members:
        if member != old and member.position == old.position:
            move.beside[str(member.relay_id)] = _scaled(member.weight, old.weight)
        for relay in [member.relay_id, move.new_relay_id] if member == old else [member.relay_id]:
            copy = RouteMember.objects.create(
                route=route,
                relay_id=relay,
                position=member.position,
                weight=member.weight,
                stream=member.stream,
                senders=member.senders,
            )
            copy.destinations.set(member.destinations.all())
    return route


def _scaled(weight: int, whole: int) -> int:
    """Beside a share that is divided into WHOLE."""
    return min(max(round(weight * WHOLE / whole), 1), MOST_WEIGHT)


def _name(wanted: str) -> str:
    """The same, or with a number where another route has it."""
    number = 1
    name = wanted[:90]
    while Route.objects.filter(name=name).exists():
        number += 1
        name = f"{wanted[:90]} ({number})"
    return name


def _take(move: Move, to: Route, of: Route) -> None:
    """The sender's mail, that which waits and that which is to come, takes another route."""
    for stream in move.named:
        rebinding.rebind(of, to, stream=stream, sender=move.sender, pinned=True)
        Sender.objects.filter(pk=move.sender_id).update(**{FIELD_OF[Stream(stream)]: to})


# ---------------------------------------------------------------------------------------------------------------------- steps


def advance() -> int:
    """Take the steps whose time has come; returns how many. One a move, even after a time in which nothing ran."""
    due = Move.objects.filter(status=Move.Status.RUNNING, next_at__lte=clock.now())
    return sum(step(move, due_only=True) for move in due.order_by("pk"))


@transaction.atomic
def step(move: Move, percent: int | None = None, *, due_only: bool = False) -> bool:
    """Let the new relay carry so much more (the step that the move takes every day, where that is not given). False when it was not due any
    more, or the new relay takes no mail at this moment: then the share stays until it does. Raises WrongState once it is over."""
    move = _locked(move)
    if due_only and (move.status != Move.Status.RUNNING or move.next_at is None or move.next_at > clock.now()):
        return False
    if not move.is_open:
        raise WrongState(f"move {move.pk} is over")
    if due_only and not move.new_relay.is_available(clock.now()):
        return False
    _grow(move, percent or move.step)
    return True


def _locked(move: Move) -> Move:
    return (
        Move.objects.select_for_update(of=("self",), no_key=True).select_related("new_relay", "sender", "source", "route").get(pk=move.pk)
    )


def _grow(move: Move, percent: int) -> None:
    share = min(move.share + percent, WHOLE)
    weights = {move.old_relay_id: WHOLE - share, move.new_relay_id: share, **{int(key): weight for key, weight in move.beside.items()}}
    # As small as they can be: relays then take turns after few mails.
    parts = gcd(*weights.values())
    members = RouteMember.objects.filter(route=move.route)
    for relay, weight in weights.items():
        if weight:
            members.filter(relay=relay).update(weight=weight // parts)
    now = clock.now()
    Move.objects.filter(pk=move.pk).update(share=share, next_at=None if share == WHOLE else now + DAY)
    if share == WHOLE:
        members.filter(relay=move.old_relay).delete()
        states.move(move, Move.Status.DONE, moves=Move.MOVES, ended_at=now)
    move.refresh_from_db()
    _wake(move)


def change_pace(move: Move, percent: int) -> None:
    """So many percent a day from the next step on. Raises WrongState once it is over."""
    if not Move.objects.filter(pk=move.pk, status__in=[Move.Status.RUNNING, Move.Status.HELD]).update(step=percent):
        raise WrongState(f"move {move.pk} is over")


@transaction.atomic
def turn_back(move: Move) -> None:
    """Give the sender its former route again; what waits follows. Raises WrongState, or NoWay when there is none to go back to."""
    move = _locked(move)
    if move.status == Move.Status.BACK:
        raise WrongState(f"move {move.pk} is turned back already")
    if move.source is None or move.route is None:
        raise NoWay(_("The former route was deleted. Choose another on the sender's page."))
    if any(getattr(move.sender, f"{FIELD_OF[Stream(stream)]}_id") != move.route_id for stream in move.named):
        raise NoWay(_("The sender takes another route by now. Change it on the sender's page."))
    states.move(move, Move.Status.BACK, moves=Move.MOVES, ended_at=clock.now(), next_at=None)
    _take(move, move.source, move.route)
    for stream, named in move.named.items():
        Sender.objects.filter(pk=move.sender_id).update(**{f"{FIELD_OF[Stream(stream)]}_id": named})
    _wake(move)


def _wake(move: Move) -> None:
    sender = Sender.objects.get(pk=move.sender_id)
    queue.wake(sender)
    for batch in Batch.objects.filter(sender=sender, status=Batch.Status.RUNNING).select_related("sender", "route"):
        queue.wake_batch(batch)


# --------------------------------------------------------------------------------------------------------------------- report


def report(move: Move) -> list[tuple[Relay, Load]]:
    """What each of the two relays carried for the sender since the start."""
    relays = [move.old_relay, move.new_relay]
    found = carried.of(move.sender_id, [relay.pk for relay in relays], move.streams, move.started_at)
    return [(relay, found[relay.pk] - Load(*move.before.get(str(relay.pk), ()))) for relay in relays]
