"""Where a mail would go at this moment, and why: found by the functions that a claim goes by, and by no rules of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from mailhub.delivery import queue
from mailhub.delivery.models import Message
from mailhub.delivery.progress import moment
from mailhub.lib import addresses, clock, sentences
from mailhub.relays import destinations, routing, shaping
from mailhub.relays.models import Destination, Parking, Relay, Route, Stream, shipped_words
from mailhub.relays.routing import Bar, Place
from mailhub.senders.models import Sender


@dataclass(frozen=True, slots=True)
class Way:
    """One relay of the route, and what it is to the mail."""

    place: Place
    #: why it takes the mail, or why not, in a sentence
    why: str
    #: addresses of ours of which one would be used; empty where the relay chooses
    sources: Sequence[str]
    #: takes some of such mail, but none at this moment
    waits: bool

    @property
    def relay(self) -> Relay:
        return self.place.member.relay

    @property
    def percent(self) -> int:
        return round(100 * self.place.weight / self.place.total) if self.place.weight else 0


@dataclass(frozen=True, slots=True)
class Answer:
    sender: Sender
    stream: str
    address: str
    destination: Destination
    route: Route | None
    #: how the mail came to the route, in a sentence
    by: str
    #: why it would not be sent at all, or ""
    refused: str
    #: of each relay of the route, those that take it first
    ways: Sequence[Way]

    @property
    def chosen(self) -> list[Way]:
        """Relays that would take it now; of several each takes its part of such mail, by the number of the message."""
        return [way for way in self.ways if way.place.weight and not way.waits]

    @property
    def waits(self) -> bool:
        return not self.refused and not self.chosen


def ask(sender: Sender, stream: str, address: str, own: Route | None = None) -> Answer:
    """Changes nothing. `own`: the route that a campaign names."""
    now = clock.now()
    domain = addresses.domain(address)
    destination = Destination.objects.get(pk=destinations.of([domain])[domain])
    route = own or sender.route(stream)
    ways = _ways(route, sender, stream, destination, now) if route else []
    by = _("The campaign names this route.") if own else _by(route, sender, stream)
    return Answer(sender, stream, address, destination, route, by, _refused(sender, stream, address, now), ways)


def _by(route: Route | None, sender: Sender, stream: str) -> str:
    if route is None:
        return _("The sender names no route, and there is no default one: the mail waits.")
    own = sender.transactional_route_id if stream == Stream.TRANSACTIONAL else sender.campaign_route_id
    return _("The sender names this route.") if own else _("The sender names no route: this is the default one.")


def _refused(sender: Sender, stream: str, address: str, now: datetime) -> str:
    if sender.status != Sender.Status.CONFIRMED:
        words = _("The sender %(address)s is %(status)s.") % {"address": sender.email, "status": sender.get_status_display()}
        return sentences.joined(words, _("Nothing is sent from it."))
    message = Message(pk=0, stream=stream, address=address, expires_at=now + queue.LIFETIME[Stream(stream)])
    unfit = queue.unfit_of([message], now).get(0)
    return str(unfit.why) if unfit else ""


def _ways(route: Route, sender: Sender, stream: str, destination: Destination, now: datetime) -> list[Way]:
    places = routing.places(route, stream, sender.email, sender.pool_id, destination.pk, now)
    found = [_way(place, sender, destination, now) for place in places]
    return sorted(found, key=lambda way: (not way.place.weight, way.waits, way.place.member.position))


def _way(place: Place, sender: Sender, destination: Destination, now: datetime) -> Way:
    relay = place.member.relay
    if place.bar:
        return Way(place, why_not(place, sender, destination), (), False)
    openings = shaping.Openings(relay, now)
    if openings.of(destination.pk, sender.domain.name) == 0:
        return Way(place, _closed(relay, sender, destination, openings), (), True)
    sources = [ip.address for ip in relay.pool.here()] if relay.is_direct and relay.pool else []
    return Way(place, _why(place), sources, False)


def _why(place: Place) -> str:
    member = place.member
    if place.weight < place.total:
        words = _("It takes %(percent)s %% of such mail: by the number of the message.")
        said = words % {"percent": round(100 * place.weight / place.total)}
    elif member.stream or member.senders or member.names_some:
        said = _("It is for such mail, and comes before relays that take everything.")
    else:
        said = _("It is the first that takes such mail.")
    if member.relay.sends_nothing:
        said = sentences.joined(said, _("It sends nothing, though: the mail would be kept in the inbox."))
    if member.relay.is_elsewhere():
        said = sentences.joined(said, _("Its addresses are on another machine, which sends it."))
    return said


def why_not(place: Place, sender: Sender, destination: Destination) -> str:
    """Why a relay does not take the mail, in a sentence."""
    relay = place.member.relay
    match place.bar:
        case Bar.STREAM:
            return _("In this route it is for the other kind of mail only.")
        case Bar.SENDER:
            names = pgettext("between things", ", ").join(sorted(place.member.sender_names))
            return _("In this route it is for mail from %(names)s only.") % {"names": names}
        case Bar.POOL:
            return _("It leaves from the dedicated pool “%(pool)s”, which this sender does not name.") % {"pool": relay.pool}
        case Bar.DESTINATION:
            names = pgettext("between things", ", ").join(str(each) for each in place.member.destinations.all())
            return _("In this route it is for mail to %(names)s only.") % {"names": names}
        case Bar.PAUSED:
            reason = shipped_words(relay.pause_reason)
            return _("A rule paused it: %(reason)s") % {"reason": reason} if reason else _("It is paused.")
        case Bar.QUOTA:
            return _("A quota is used up; it has room again on %(until)s.") % {"until": moment(place.opens_at)}
        case Bar.RESTING:
            words = _("It rests until %(until)s: %(reason)s") % {"until": moment(relay.resting_until), "reason": relay.rest_words or "—"}
            return str(words)
        case Bar.PARKED:
            return _left_alone(relay, sender, destination)
        case _other:
            return _("Relays that come before it take such mail.")


def _closed(relay: Relay, sender: Sender, destination: Destination, openings: shaping.Openings) -> str:
    """Of a relay that is to take the mail and may take none at this moment."""
    if opens := openings.opens.get(destination.pk):
        return _("So many mails a moment may go to %(destination)s; the next at %(until)s.") % {
            "destination": destination,
            "until": moment(opens),
        }
    return _left_alone(relay, sender, destination)


def _left_alone(relay: Relay, sender: Sender, destination: Destination) -> str:
    rows = Parking.objects.filter(relay=relay, destination=destination, sender_domain__in=["", sender.domain.name])
    row = rows.order_by("-until").first()
    if row is None:
        return _("Its addresses are warming up, and have sent today's share to %(destination)s.") % {"destination": destination}
    if row.until > clock.now():
        words = _("It leaves %(destination)s alone until %(until)s: %(reason)s")
        return words % {"destination": destination, "until": moment(row.until), "reason": row.words}
    return _("After a rest it tries %(destination)s again a little at a time; until that goes well the others take the rest.") % {
        "destination": destination
    }
