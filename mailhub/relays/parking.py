"""What follows from what destinations say, or do not say: they are slowed down, or left alone and then tried again a little at a time.

One destination's trouble through one relay is no matter of any other. Rows of messages are never touched by it: what is parked simply is
not claimed.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_noop

from mailhub.lib import clock
from mailhub.relays.base import Fault, Held, Refused, Reply, SendError
from mailhub.relays.models import OTHER, Parking, Relay, ResponseRule, Sighting, Slowdown
from mailhub.relays.shaping import Pair

logger = logging.getLogger(__name__)

# The circuit breaker: so many mails in a row that a destination did not take, by no fault of their recipients; while it is tried again
# after a rest, so many.
BREAKS = 20
BREAKS_TRIED = 5
# The first rest after that. Each further one, whatever the reason, is twice as long as the one before, up to the longest.
REST = timedelta(minutes=5)
LONGEST = timedelta(hours=4)
# After a rest so many are tried at once, and twice as many each time that some were taken. At the last number it has recovered.
FIRST_TRY = 10
RECOVERED = 320

# RFC 3463: status of the address, and of the mailbox. What is .0 says no more than that something is wrong.
OF_RECIPIENT = re.compile(r"[245]\.[12]\.[1-9]\d*")


class Watch:
    """What one drain hears of each destination. Lives in memory; store() is the only part that speaks to the database."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        #: of many systems there is no one fact: only their own mails wait. A relay that is no direct one is a single system, though.
        self.blind_to = {OTHER} if relay.is_direct else set()
        self.rules = in_use()
        #: rules met since the last store(): with destination, sender's domain and the last reply
        self.met: Counter[tuple[ResponseRule, str, str]] = Counter()
        #: the last thing that was said
        self.said: dict[Pair, Reply] = {}
        #: mails in a row that were not taken, by destination; and destinations that are to be parked for that
        self.row: Counter[str] = Counter()
        self.broken: set[str] = set()
        #: destinations and senders' domains of mails that were taken since the last store()
        self.taken_by: set[Pair] = set()
        self.stored = time.monotonic()
        #: what is to be left alone from now on; the domain is "" for all mail to the destination
        self.closed: set[Pair] = set()

    def is_closed(self, destination: str, domain: str) -> bool:
        return (destination, "") in self.closed or (destination, domain) in self.closed

    def taken(self, destination: str, domain: str) -> None:
        self.row.pop(destination, None)
        self.taken_by.add((destination, domain))

    def heard(self, destination: str, domain: str, error: SendError) -> ResponseRule | None:
        """A mail from that domain was not taken. Returns the rule that its reply meets."""
        if destination in self.blind_to or isinstance(error, Held):
            return None
        reply = error.reply
        rule = first_of(self.rules, destination, str(reply))
        if rule:
            self.met[rule, destination, domain] += 1
            self.said[destination, domain] = reply
        if is_of_recipient(error):
            self.row.pop(destination, None)
        elif not isinstance(error, Refused):
            self.row[destination] += 1
            self.said[destination, ""] = reply
            if self.row[destination] == BREAKS:
                # At once: a thousand may be said before it is stored.
                self.broken.add(destination)
                self.closed.add((destination, ""))
        return rule

    @property
    def has_news(self) -> bool:
        """There is something to store: at once what is said against us, good news a second later."""
        if self.met or self.broken or any(count >= BREAKS_TRIED for count in self.row.values()):
            return True
        return bool(self.taken_by) and time.monotonic() - self.stored > 1

    def store(self) -> None:
        """Do what follows from all that was heard since the last time."""
        now = clock.now()
        self.stored = time.monotonic()
        met, self.met = self.met, Counter()
        taken_by, self.taken_by = self.taken_by, set()
        for (rule, destination, domain), count in met.items():
            self.meet(rule, (destination, domain), count, now)
        broken, self.broken = self.broken, set()
        for destination in broken | {key for key, count in self.row.items() if count >= BREAKS_TRIED and is_tried(self.relay, key)}:
            self.row.pop(destination, None)
            # Stored in English, as the rules' names are: each of the staff reads it in their own language.
            reason = gettext_noop("Mail after mail was not taken.")
            self.park((destination, ""), REST, reason, self.said[destination, ""], now)
        if taken_by:
            recover(self.relay, taken_by, now)

    def meet(self, rule: ResponseRule, pair: Pair, count: int, now: datetime) -> None:
        destination, domain = pair if rule.scope == ResponseRule.Scope.SENDER else (pair[0], "")
        if not sighted(rule, self.relay, (destination, domain), count, now):
            return
        reply, lasts = self.said[pair], timedelta(seconds=rule.lasts)
        if rule.scope == ResponseRule.Scope.RELAY:
            self.relay.rest_until(now + lasts, f"{rule.name}: {reply}")
            logger.warning("relay %s rests until %s: %s: %s", self.relay.pk, now + lasts, rule.key, reply)
        elif rule.action == ResponseRule.Action.PARK:
            self.park((destination, domain), lasts, rule.name, reply, now)
        else:
            slow_down(self.relay, destination, rule, reply, now)

    def park(self, pair: Pair, first: timedelta, reason: str, reply: Reply, now: datetime) -> None:
        self.closed.add(pair)
        park(self.relay, pair, first, reason, str(reply), now)


def in_use() -> dict[str | None, list[ResponseRule]]:
    """By destination, those for any under None, in the order in which they are tried."""
    found: dict[str | None, list[ResponseRule]] = {}
    for rule in ResponseRule.objects.filter(active=True).order_by("position", "key"):
        found.setdefault(rule.destination_id, []).append(rule)
    return found


def first_of(rules: Mapping[str | None, Sequence[ResponseRule]], destination: str | None, reply: str) -> ResponseRule | None:
    """The rule that decides what follows from a reply."""
    tried = [*(rules.get(destination, []) if destination else []), *rules.get(None, [])]
    return next((rule for rule in tried if rule.expression.search(reply)), None)


def first_met(destination: str | None, reply: str) -> ResponseRule | None:
    """The same, of the rules that are in use now."""
    return first_of(in_use(), destination, reply)


def is_of_recipient(error: SendError) -> bool:
    """It says nothing about how we stand with the destination: this address does not exist, its mailbox is full."""
    return (isinstance(error, Refused) and error.fault == Fault.RECIPIENT) or bool(OF_RECIPIENT.fullmatch(error.reply.enhanced))


def is_tried(relay: Relay, destination: str) -> bool:
    return Parking.objects.filter(relay=relay, destination=destination, sender_domain="", probing=True).exists()


@transaction.atomic
def sighted(rule: ResponseRule, relay: Relay, pair: Pair, count: int, now: datetime) -> bool:
    """Count the rule as met so many times more, by all drains together; whether that is often enough to act."""
    if count >= rule.trigger:
        return True
    key = {"rule": rule, "relay": relay, "destination_id": pair[0], "sender_domain": pair[1]}
    Sighting.objects.bulk_create([Sighting(**key, since=now, count=0)], ignore_conflicts=True)
    row = Sighting.objects.select_for_update(no_key=True).get(**key)
    if row.since <= now - timedelta(seconds=rule.within):
        row.since, row.count = now, 0
    row.count += count
    enough = row.count >= rule.trigger
    Sighting.objects.filter(pk=row.pk).update(since=row.since, count=0 if enough else row.count)
    return enough


@transaction.atomic
def park(relay: Relay, pair: Pair, first: timedelta, reason: str, reply: str, now: datetime) -> None:
    """Leave a destination alone through the relay: for `first`, twice as long each time that trying it again has failed. Of what others in
    flight say meanwhile, nothing more follows."""
    key = {"relay": relay, "destination_id": pair[0], "sender_domain": pair[1]}
    Parking.objects.bulk_create([Parking(**key, since=now, until=now, strikes=0, allowance=FIRST_TRY, reason="")], ignore_conflicts=True)
    row = Parking.objects.select_for_update(no_key=True).get(**key)
    if row.until > now and not row.probing:
        return
    lasts = min(first * 2 ** min(row.strikes, 20), max(first, LONGEST))
    # So that not all that was parked at once comes back at once.
    until = now + lasts * random.uniform(1, 1.1)  # noqa: S311  spreads load, guards nothing
    Parking.objects.filter(pk=row.pk).update(
        until=until, strikes=row.strikes + 1, allowance=FIRST_TRY, probing=False, reason=reason[:200], reply=reply[:500]
    )
    logger.warning("relay %s leaves %s alone until %s (%s): %s: %s", relay.pk, pair[0], until, pair[1] or "all", reason, reply)


def slow_down(relay: Relay, destination: str, rule: ResponseRule, reply: Reply, now: datetime) -> None:
    until = now + timedelta(seconds=rule.lasts)
    pace = {"rate": rule.rate, "per": rule.per, "connections": rule.connections}
    Slowdown.objects.update_or_create(
        {**pace, "until": until, "reply": str(reply)[:500]},
        relay=relay,
        destination_id=destination,
        rule=rule,
        create_defaults={**pace, "until": until, "reply": str(reply)[:500], "since": now},
    )
    logger.warning("relay %s slows %s down until %s: %s: %s", relay.pk, destination, until, rule.key, reply)


@transaction.atomic
def recover(relay: Relay, taken_by: Collection[Pair], now: datetime) -> None:
    """Some of what was tried after a rest was taken: more may be tried at once, and after enough all."""
    everybody = {(destination, "") for destination, _domain in taken_by}
    for row in Parking.objects.filter(relay=relay, probing=True).order_by("pk").select_for_update(no_key=True):
        if (row.destination_id, row.sender_domain) not in everybody | set(taken_by):
            continue
        if row.allowance * 2 > RECOVERED:
            row.delete()
            logger.warning("relay %s: %s has recovered", relay.pk, row.destination_id)
        else:
            Parking.objects.filter(pk=row.pk).update(allowance=row.allowance * 2, until=now, probing=False)


def release(held: QuerySet[Parking] | QuerySet[Slowdown]) -> int:
    """Staff have mended what was wrong: as if nothing had been. Returns how many."""
    return held.delete()[0]
