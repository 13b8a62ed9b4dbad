"""What a rule stops, and how it goes on."""

from __future__ import annotations

from datetime import datetime, timedelta

from mailhub.lib.states import WrongState
from mailhub.relays.models import DedicatedIP, Parking, Relay
from mailhub.relays.parking import FIRST_TRY
from mailhub.watching import rules
from mailhub.watching.models import Rule, Trouble

Scope = Rule.Scope

# A destination is left alone for so long at a time; as long as the trouble is open, troubles.py renews it.
WHILE = timedelta(days=1)


def hold(trouble: Trouble, now: datetime) -> str:
    """Stop what the trouble's rule is about. Returns what is held: a Scope; "" where staff had stopped it before."""
    rule, place = trouble.rule, rules.place_of(trouble.subject)
    assert rule  # noqa: S101  only rules pause
    match rule.scope:
        case Scope.RELAY:
            relay = Relay.objects.defer("secrets").filter(pk=place.relay).first()
            try:
                if relay:
                    relay.pause(rule.name)
                return Scope.RELAY if relay else ""
            except WrongState:
                return ""
        case Scope.DESTINATION:
            return Scope.DESTINATION if park(place, rule.name, now) else ""
        case _ip:
            return Scope.IP if DedicatedIP.objects.filter(address=place.source, pause_reason="").update(pause_reason=rule.name) else ""


def park(place: rules.Place, reason: str, now: datetime) -> bool:
    if not Relay.objects.filter(pk=place.relay).exists():
        return False
    values = {"until": now + WHILE, "reason": reason, "probing": False, "allowance": FIRST_TRY, "reply": ""}
    Parking.objects.update_or_create(
        values, relay_id=place.relay, destination_id=place.destination, sender_domain="", create_defaults={**values, "since": now}
    )
    return True


def is_held(trouble: Trouble, now: datetime) -> bool:
    """Nobody has let it go meanwhile, by whatever page."""
    place = rules.place_of(trouble.subject)
    match trouble.holds:
        case Scope.RELAY:
            return Relay.objects.filter(pk=place.relay, status=Relay.Status.PAUSED).exclude(pause_reason="").exists()
        case Scope.DESTINATION:
            rows = Parking.objects.filter(relay=place.relay, destination=place.destination, sender_domain="")
            return rows.filter(until__gt=now).exists()
        case _ip:
            return DedicatedIP.objects.filter(address=place.source).exclude(pause_reason="").exists()


def renew(trouble: Trouble, now: datetime) -> None:
    if trouble.holds == Scope.DESTINATION:
        place = rules.place_of(trouble.subject)
        rows = Parking.objects.filter(relay=place.relay, destination=place.destination, sender_domain="", until__lt=now + WHILE / 2)
        rows.update(until=now + WHILE)


def let_go(trouble: Trouble) -> None:
    place = rules.place_of(trouble.subject)
    match trouble.holds:
        case Scope.RELAY:
            for relay in Relay.objects.filter(pk=place.relay, status=Relay.Status.PAUSED).defer("secrets"):
                try:
                    relay.resume()
                except WrongState:
                    continue
        case Scope.DESTINATION:
            Parking.objects.filter(relay=place.relay, destination=place.destination, sender_domain="").delete()
        case _ip:
            DedicatedIP.objects.filter(address=place.source).update(pause_reason="")
