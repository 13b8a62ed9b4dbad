"""How much an address of ours may send that receivers do not know yet: so much a day, and more after a day that went well.

Counted in the database, for all workers on all machines together, by the site's calendar. What an address may not carry today leaves from
another of the pool, or through the route's next relay, or waits for tomorrow.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from mailhub.lib.notes import Notes
from mailhub.lib.replies import classify
from mailhub.lib.replies.verdicts import Category
from mailhub.relays import shipping
from mailhub.relays.base import Fault, Refused, SendError
from mailhub.relays.models import DedicatedIP, Relay, WarmupPlan, WarmupUse
from mailhub.relays.shipping import bring_in

SHIPPED = Path(__file__).with_name("warmups.toml")

# A day was used when so much of its cap was taken; it went well below these parts of what was answered. From BACK on the address goes
# back a day. (Between the published plans, of which some stop at 3 % bounces.)
USED = 0.7
DEFERRED, BOUNCED, COMPLAINED, BACK, BACK_COMPLAINED = 0.10, 0.02, 0.001, 0.02, 0.003
# Fewer than this many say nothing.
FEW = 3
# Receivers forget an address that was silent so long: it begins again at a quarter of where it was.
SILENT = timedelta(days=30)
# Taken from the books at a time. A worker that dies leaves no more than this unused.
BLOCK = 20

# So that claims cost no question where nothing warms up. A plan that staff choose limits claims a few seconds later, and what leaves at
# once.
_nothing: Notes[str] = Notes(5, 1)


def forget() -> None:
    _nothing.clear()


class Outcome(StrEnum):
    """What became of a mail, as a sign of how the address stands; the names are those of WarmupUse's fields."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    BOUNCED = "bounced"


def outcome(error: SendError | None) -> Outcome | None:
    """None: nobody answered, which says nothing of us."""
    if error is None:
        return Outcome.ACCEPTED
    if not error.reply.code:
        return None
    if isinstance(error, Refused):
        return Outcome.BOUNCED if error.fault == Fault.RECIPIENT else Outcome.REFUSED
    said = classify.classify(error.reply.text, code=error.reply.code, enhanced=error.reply.enhanced).category
    # A rate that is too high by what they think of us (4.7), not by what they can take.
    distrusted = said in (Category.BLOCKED, Category.SPAM) or (said == Category.RATE_LIMITED and error.reply.enhanced.startswith("4.7."))
    return Outcome.REFUSED if distrusted else Outcome.DEFERRED


# --------------------------------------------------------------------------------------------------------------------- the plan


class Step(StrEnum):
    """What follows on a day, and why."""

    ON = "on"
    BACK = "back"
    COMPLAINED_BACK = "complained_back"
    HOLD_UNUSED = "hold_unused"
    HOLD_DEFERRED = "hold_deferred"
    HOLD_BOUNCED = "hold_bounced"
    HOLD_COMPLAINED = "hold_complained"
    WARM = "warm"


def step(plan: WarmupPlan, last: WarmupUse) -> Step:
    """What follows on `last`, a day on which the address sent."""
    answered = last.accepted + last.deferred + last.refused + last.bounced
    if _many(last.refused, answered, BACK):
        return Step.BACK
    if _many(last.complained, answered, BACK_COMPLAINED):
        return Step.COMPLAINED_BACK
    cap = plan.cap(last.day)
    if cap is None:
        return Step.WARM
    if _many(last.deferred, answered, DEFERRED):
        return Step.HOLD_DEFERRED
    if _many(last.bounced, answered, BOUNCED):
        return Step.HOLD_BOUNCED
    if _many(last.complained, answered, COMPLAINED):
        return Step.HOLD_COMPLAINED
    return Step.ON if last.taken >= USED * cap else Step.HOLD_UNUSED


def next_day(plan: WarmupPlan, last: WarmupUse, today: date) -> int:
    """The day of the plan that follows on `last`, the day on which the address last sent."""
    if today - last.date > SILENT:
        return max(last.day // 4, 1)
    over = plan.length + 1
    match step(plan, last):
        case Step.BACK | Step.COMPLAINED_BACK:
            return max(min(last.day, over) - 1, 1)
        case Step.ON:
            return last.day + 1
        case Step.WARM:
            return over
        case _:
            return last.day


def _many(count: int, of: int, part: float) -> bool:
    return count >= FEW and count > part * of


# -------------------------------------------------------------------------------------------------------------------- the books


@transaction.atomic
def take(ip: int, destination: str, wanted: int, now: datetime) -> int | None:
    """Set up to `wanted` mails from the address to the destination apart; None: it is warm, and may send any number. `now` is the
    database's time. One taker at a time, whatever the number of machines: the address's row is locked."""
    row = _locked(ip)
    if row is None or row.plan is None:
        return None
    use = _today(row, row.plan, destination, timezone.localdate(now))
    cap = row.plan.cap(use.day)
    if cap is None:
        return None
    granted = max(min(wanted, cap - use.taken), 0)
    if granted:
        WarmupUse.objects.filter(pk=use.pk).update(taken=F("taken") + granted)
    return granted


@transaction.atomic
def note(ip: int, destination: str, unused: int, outcomes: Mapping[Outcome, int], taken_on: date, now: datetime) -> None:
    """Give back what was taken on that day and not sent, and write down what became of the rest."""
    row = _locked(ip)
    if row is None or row.plan is None:
        return
    use = _today(row, row.plan, destination, timezone.localdate(now))
    changes: dict[str, Any] = {str(name): F(str(name)) + count for name, count in outcomes.items()}
    if use.date == taken_on:
        changes["taken"] = max(use.taken - unused, 0)
    if changes:
        WarmupUse.objects.filter(pk=use.pk).update(**changes)


def _locked(ip: int) -> DedicatedIP | None:
    return DedicatedIP.objects.select_related("plan").select_for_update(of=("self",), no_key=True).filter(pk=ip).first()


def _today(ip: DedicatedIP, plan: WarmupPlan, destination: str, today: date) -> WarmupUse:
    """The day's row; the address is locked. Should the clock have been set back, the newest row goes on."""
    key = None if plan.counts == WarmupPlan.Counts.ALL else destination
    last = WarmupUse.objects.filter(ip=ip, destination=key).order_by("-date").first()
    if last is not None and last.date >= today:
        return last
    day = next_day(plan, last, today) if last else ip.first_day
    return WarmupUse.objects.create(ip=ip, destination_id=key, date=today, day=day)


@transaction.atomic
def complained(address: str, destination: str, count: int, now: datetime) -> None:
    """So many recipients called mail spam that left from the address: a sign of the day on which it is told."""
    ip = DedicatedIP.objects.filter(address=address, plan__isnull=False).first()
    row = _locked(ip.pk) if ip else None
    if row is None or row.plan is None:
        return
    use = _today(row, row.plan, destination, timezone.localdate(now))
    WarmupUse.objects.filter(pk=use.pk).update(complained=F("complained") + count)


def rooms(relay: Relay, now: datetime, destinations: Iterable[str]) -> dict[int, dict[str, int]]:
    """How many more mails relays may send to destinations today, by the relay's key; what is missing has no limit. Only relays whose
    addresses all warm up; of `relay` itself only the addresses count that this machine holds.

    For who claims: what leaves is counted by take()."""
    if _nothing.read("") is not None:
        return {}
    ips: dict[int, list[DedicatedIP]] = {}
    for ip in DedicatedIP.objects.filter(pool__ips__plan__isnull=False).select_related("plan").distinct():
        ips.setdefault(ip.pool_id, []).append(ip)
    if not ips:
        _nothing.write("")
        return {}
    today = timezone.localdate(now)
    uses = {(use.ip_id, use.destination_id): use for use in WarmupUse.objects.filter(ip__pool__in=ips, date=today)}
    here = {ip.pk for ip in relay.pool.here()} if relay.pool_id in ips and relay.pool else set()
    keys = list(destinations)
    found: dict[int, dict[str, int]] = {}
    for other in Relay.objects.filter(pool__in=ips).defer("secrets"):
        if not other.is_direct or other.pool_id is None:
            continue
        mine = [ip for ip in ips[other.pool_id] if other.pk != relay.pk or ip.pk in here]
        for key in keys:
            lefts = [_left(ip, key, uses) for ip in mine]
            if None not in lefts:
                found.setdefault(other.pk, {})[key] = sum(left or 0 for left in lefts)
    return found


def _left(ip: DedicatedIP, destination: str, uses: Mapping[tuple[int, str | None], WarmupUse]) -> int | None:
    if ip.plan is None:
        return None
    use = uses.get((ip.pk, None if ip.plan.counts == WarmupPlan.Counts.ALL else destination))
    # Nothing was sent today: the first to leave find out which day it is.
    cap = ip.plan.cap(use.day) if use else BLOCK
    return None if cap is None else max(cap - (use.taken if use else 0), 0)


def prune(before: date) -> None:
    """Forget days before then, which must be longer ago than SILENT."""
    WarmupUse.objects.filter(date__lt=before).delete()


# ------------------------------------------------------------------------------------------------------------------- one drain


@dataclass(slots=True)
class Stock:
    """What a drain has set apart of one address and destination, and what it heard."""

    #: None: any number
    left: int | None
    taken_on: date
    heard: Counter[Outcome]
    #: set apart for mails that did not leave
    unsent: int = 0


class Allowances:
    """What one drain may send from addresses that warm up. Speaks to the database, a block at a time."""

    def __init__(self) -> None:
        self.stocks: dict[tuple[int, str], Stock] = {}

    def at_hand(self, ip: int, destination: str) -> bool:
        """Set one apart without asking the database; False when it has to be asked."""
        stock = self.stocks.get((ip, destination))
        if stock is None or stock.left == 0:
            return False
        if stock.left is not None:
            stock.left -= 1
        return True

    def fetch(self, ip: int, destination: str, now: datetime) -> bool:
        """Take another block, and set one of it apart; False when there is none."""
        if self.at_hand(ip, destination):
            return True
        today = timezone.localdate(now)
        stock = self.stocks.setdefault((ip, destination), Stock(0, today, Counter()))
        if today != stock.taken_on:
            # Of yesterday's nothing comes back.
            stock.unsent = 0
        stock.left, stock.taken_on = take(ip, destination, BLOCK, now), today
        return self.at_hand(ip, destination)

    def put_back(self, ip: int, destination: str) -> None:
        """Nothing left with it."""
        stock = self.stocks[ip, destination]
        if stock.left is not None:
            stock.unsent += 1

    def hear(self, ip: int, destination: str, error: SendError | None) -> None:
        if said := outcome(error):
            self.stocks[ip, destination].heard[said] += 1

    def store(self, now: datetime) -> None:
        stocks, self.stocks = self.stocks, {}
        for (ip, destination), stock in stocks.items():
            unused = (stock.left or 0) + stock.unsent
            if unused or stock.heard:
                note(ip, destination, unused, stock.heard, stock.taken_on, now)


# -------------------------------------------------------------------------------------------------------------- what is shipped


def load() -> None:
    """Bring the shipped plans into the database, as destinations.load() does its rows."""
    with transaction.atomic():
        bring_in(WarmupPlan, shipped())


def shipped() -> dict[str, dict[str, Any]]:
    data = tomllib.loads(SHIPPED.read_text())
    as_of = data.pop("as_of")
    return {
        key: {**shipping.defaults(WarmupPlan), "as_of": as_of, **given, "caps": "\n".join(map(str, given["caps"]))}
        for key, given in data.items()
    }
