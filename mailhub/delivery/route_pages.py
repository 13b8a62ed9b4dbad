"""Pages for staff about where mail goes: who uses which relays, what one mail would do, and how a sender moves to another relay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from mailhub.admin import badge
from mailhub.delivery import moves, rebinding, simulation
from mailhub.delivery.carried import Load
from mailhub.delivery.models import Move
from mailhub.delivery.pages import page
from mailhub.delivery.route_forms import MoveForm, PaceForm, SimulationForm
from mailhub.lib import clock, sentences
from mailhub.lib.charts import Part, grouped, shares
from mailhub.lib.states import WrongState
from mailhub.relays import limits
from mailhub.relays.limits import Standing
from mailhub.relays.models import Relay, Route, RouteMember, Stream
from mailhub.relays.pages import Way, demand, named_mail, quota_line, state_badge, state_words, ways
from mailhub.senders import readiness, verdicts
from mailhub.senders.models import Sender
from mailhub.senders.readiness import Lack

# Senders that a route's panel names; the others are counted.
NAMED = 12
# Opened where they are needed: those that no key opens must take no page away.
SECRETS = ("old_relay__secrets", "new_relay__secrets")

# ------------------------------------------------------------------------------------------------------------- who uses which


@dataclass(frozen=True, slots=True)
class User:
    """Those whose mail of one kind takes a route."""

    label: str
    is_default: bool
    senders: Sequence[Sender]
    more: int


@dataclass(frozen=True, slots=True)
class Line:
    """A relay of a route, with what it has left."""

    member: RouteMember
    mail: str
    share: int
    state: SafeString
    words: str
    quotas: Sequence[dict[str, Any]]

    @property
    def relay(self) -> Relay:
        return self.member.relay


@dataclass(frozen=True, slots=True)
class Panel:
    route: Route
    users: Sequence[User]
    ways: Sequence[Way]
    lines: Sequence[Line]
    lacks: Sequence[Lack]


@require_safe
def routes(request: HttpRequest) -> HttpResponse:
    demand(request, "relays.view_route")
    now = clock.now()
    found = panels(now)
    context = {
        "panels": [each for each in found if each.users],
        "idle": [each.route for each in found if not each.users],
        "moves": Move.objects.filter(status__in=["running", "held"]).select_related("sender", "old_relay", "new_relay").defer(*SECRETS),
    }
    return page(request, "admin/delivery/routes.html", _("Where mail goes"), Route, **context)


def panels(now: datetime) -> list[Panel]:
    members = RouteMember.objects.select_related("relay__pool").defer("relay__secrets").prefetch_related("destinations")
    all_routes = list(Route.objects.prefetch_related(Prefetch("members", members.order_by("position", "pk"))).order_by("name"))
    relays = {member.relay_id: member.relay for route in all_routes for member in route.members.all()}
    standings = {pk: limits.left(relay, now) for pk, relay in relays.items()}
    users = _users(all_routes)
    return [_panel(route, users[route.pk], standings, now) for route in all_routes]


def _users(all_routes: Sequence[Route]) -> dict[int, list[User]]:
    """By route; the same choice that Sender.route() makes, for all senders at once."""
    default = {route.default_for: route.pk for route in all_routes if route.default_for}
    senders = list(Sender.objects.exclude(status=Sender.Status.DISABLED).select_related("domain").order_by("email"))
    found: dict[int, list[User]] = {route.pk: [] for route in all_routes}
    for stream in Stream:
        by_route: dict[int, list[Sender]] = {}
        for sender in senders:
            own = sender.transactional_route_id if stream == Stream.TRANSACTIONAL else sender.campaign_route_id
            if pk := own or default.get(stream):
                by_route.setdefault(pk, []).append(sender)
        for pk, some in by_route.items():
            found[pk].append(User(str(stream.label), default.get(stream) == pk, some[:NAMED], max(len(some) - NAMED, 0)))
    return found


def _panel(route: Route, users: Sequence[User], standings: Mapping[int, Sequence[Standing]], now: datetime) -> Panel:
    quotas = {pk: [quota_line(each) for each in found] for pk, found in standings.items()}
    opens = {pk: max((each.opens_at for each in found if each.opens_at), default=None) for pk, found in standings.items()}
    members = list(route.members.all())
    for member in members:
        if (until := opens[member.relay_id]) and member.relay.is_available(now):
            # As the next claim will have it.
            member.relay.resting_until, member.relay.rest_reason = until, _("A quota is used up.")
    lines = []
    for member in members:
        total = sum(other.weight for other in members if other.position == member.position and named_mail(other) == named_mail(member))
        share = round(100 * member.weight / total)
        state, words = state_badge(member.relay, now), state_words(member.relay, now)
        if opens[member.relay_id] and member.relay.status == Relay.Status.ACTIVE:
            state, words = badge("resting", _("used up")), _("A quota is used up; its mail waits, or takes the next relay of its route.")
        lines.append(Line(member, named_mail(member), share, state, words, quotas[member.relay_id]))
    domains = {sender.domain_id: sender.domain for user in users for sender in user.senders}
    lacks = {(lack.words, lack.name): lack for domain in domains.values() for lack in readiness.of_route(domain, route)}
    return Panel(route, users, ways(members, now), lines, list(lacks.values()))


# ------------------------------------------------------------------------------------------------------------------ simulator


@require_safe
def simulate(request: HttpRequest) -> HttpResponse:
    demand(request, "relays.view_route")
    demand(request, "senders.view_sender")
    form = SimulationForm(request.GET if "to" in request.GET else None, initial={"sender": Sender.objects.order_by("email").first()})
    answer = None
    if form.is_valid():
        data = form.cleaned_data
        answer = simulation.ask(data["sender"], data["stream"], data["to"], data["route"])
    return page(request, "admin/delivery/simulate.html", _("Where would this mail go?"), Route, form=form, answer=answer)


# ---------------------------------------------------------------------------------------------------------------------- moves


def start(request: HttpRequest) -> HttpResponse:
    """Says what it comes to and asks, before it begins."""
    demand(request, "senders.change_sender")
    demand(request, "relays.change_route")
    chosen = {name: request.GET[name] for name in ("sender", "old", "new", "stream") if name in request.GET}
    form = MoveForm(request.POST or None, initial=chosen)
    asked = None
    if form.is_valid():
        data = form.cleaned_data
        if "look" in request.POST:
            verdicts.look(data["sender"].domain, data["new"])
        if "confirmed" in request.POST:
            try:
                move = moves.start(data["sender"], data["stream"], data["old"], data["new"], data["step"])
            except moves.NoWay as error:
                form.add_error(None, str(error))
            else:
                return _done(request, move, _("The move has begun: %(share)s %% go by “%(relay)s”."))
        else:
            asked = _asked(form, data)
    return page(request, "admin/delivery/move/start.html", _("Move a sender to another relay"), Move, form=form, asked=asked)


def _asked(form: MoveForm, data: dict[str, Any]) -> dict[str, Any] | None:
    """What staff should know before it begins; None where it cannot."""
    found = moves.sources(data["sender"], data["stream"], data["old"])
    try:
        moves.source_of(data["sender"], data["stream"], data["old"], data["new"])
    except moves.NoWay as error:
        form.add_error(None, str(error))
        return None
    waiting = sum(rebinding.waiting(route, stream=data["stream"] or None, sender=data["sender"]) for route in found)
    days = -(-100 // data["step"])
    return {
        "waiting": waiting,
        "days": days,
        "route": found[0],
        "lacks": readiness.lacks(data["sender"].domain, data["new"]),
        "checked_at": data["sender"].domain.checked_at,
        "quotas": [quota_line(each) for each in limits.left(data["new"], clock.now())],
        "state": state_badge(data["new"], clock.now()),
        **data,
    }


def overview(move: Move) -> dict[str, Any]:
    """What a move's own page shows."""
    now = clock.now()
    report = moves.report(move)
    most = max([load.tries for _relay, load in report] + [1])
    return {
        "move": move,
        "state_words": words(move),
        "report": [
            {
                "relay": relay,
                "load": load,
                "state": state_badge(relay, now),
                "share": move.share if relay == move.new_relay else 100 - move.share,
                "quotas": [quota_line(each) for each in limits.left(relay, now)],
                "parts": _bar(load, most),
            }
            for relay, load in report
        ],
        "lacks": readiness.lacks(move.sender.domain, move.new_relay) if move.is_open else [],
        "pace": PaceForm(initial={"step": move.step}),
    }


def _bar(load: Load, most: int) -> list[Part]:
    parts = [("sent", load.accepted), ("deferred", load.deferred), ("bounced", load.bounced), ("failed", load.refused + load.unanswered)]
    return shares(parts, most)


def words(move: Move) -> str:
    """The move's state as a sentence."""
    about = {"share": move.share, "old": move.old_relay, "new": move.new_relay, "step": move.step}
    match move.status:
        case Move.Status.RUNNING if not move.new_relay.is_available(clock.now()):
            return _("“%(new)s” takes no mail at the moment: its share grows no further until it does.") % about
        case Move.Status.RUNNING:
            return _("%(share)s %% go by “%(new)s”, the rest by “%(old)s”. Every day %(step)s %% more.") % about
        case Move.Status.HELD:
            return _("%(share)s %% go by “%(new)s”, the rest by “%(old)s”. It stays so until you let it go on.") % about
        case Move.Status.DONE:
            return _("All of it goes by “%(new)s”.") % about
        case _other:
            return _("It was turned back: the sender has its former route again.")


@require_POST
def act(request: HttpRequest, pk: int, deed: str) -> HttpResponse:
    """Hold, go on, take the next step now, or all that is left at once; or change the pace."""
    demand(request, "senders.change_sender")
    move = get_object_or_404(Move.objects.select_related("sender", "old_relay", "new_relay"), pk=pk)
    try:
        said = perform(move, deed, PaceForm(request.POST))
    except WrongState:
        return _too_late(request, move)
    return _done(request, move, said)


def perform(move: Move, deed: str, form: PaceForm) -> str:
    """What was done, in words. Raises WrongState."""
    match deed:
        case "hold":
            move.hold()
            return _("Held: the share of “%(relay)s” stays at %(share)s %%.")
        case "go_on":
            move.go_on()
            return _("It goes on: the share of “%(relay)s” grows again.")
        case "step":
            moves.step(move)
        case "finish":
            moves.step(move, 100)
        case _other:
            if form.is_valid():
                moves.change_pace(move, form.cleaned_data["step"])
                return _("From now on %(step)s %% more each day.")
    return _("Now %(share)s %% go by “%(relay)s”.")


def back(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks first, and says how many mails wait."""
    demand(request, "senders.change_sender")
    move = get_object_or_404(Move.objects.select_related("sender", "old_relay", "new_relay", "route", "source"), pk=pk)
    if request.method == "POST":
        try:
            moves.turn_back(move)
        except WrongState:
            return _too_late(request, move)
        except moves.NoWay as error:
            messages.error(request, str(error))
            return redirect("admin:delivery_move_change", pk)
        return _done(request, move, _("Turned back: the mail leaves by “%(old)s” again."))
    waiting = rebinding.waiting(move.route, sender=move.sender) if move.route else 0
    said = _("All mail of %(sender)s takes its former route again, by “%(relay)s”.") % {
        "sender": move.sender.email,
        "relay": move.old_relay,
    }
    if waiting:
        follow = ngettext("%(n)s mail that waits follows.", "%(n)s mails that wait follow.", waiting) % {"n": grouped(waiting)}
        said = sentences.joined(said, follow)
    url = reverse("admin:delivery_move_change", args=[pk])
    title = _("Turn the move back?")
    return page(request, "admin/mailhub/confirm.html", title, Move, words=said, button=_("Turn back"), danger=True, back=url)


def _done(request: HttpRequest, move: Move, said: str) -> HttpResponse:
    move.refresh_from_db()
    told = said % {"share": move.share, "relay": move.new_relay, "old": move.old_relay, "step": move.step}
    admin.site.get_model_admin(Move).log_change(request, move, told)
    messages.success(request, told)
    return redirect("admin:delivery_move_change", move.pk)


def _too_late(request: HttpRequest, move: Move) -> HttpResponse:
    move.refresh_from_db()
    messages.warning(request, _("Nothing was done: the move is %(state)s by now.") % {"state": move.get_status_display()})
    return redirect("admin:delivery_move_change", move.pk)
