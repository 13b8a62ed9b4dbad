"""What mail costs a month, by the price rows of plans, and which services fit. Pure but for the rows that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.utils.translation import gettext as _

from mailhub.lib.charts import grouped
from mailhub.relays.models import Plan, Quota, Service, Stream

# The shortest month: what fits it fits the others.
DAYS = 28


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked of a service."""

    stream: str
    #: mails
    month: int
    day: int
    hour: int
    webhooks: bool = False
    dedicated_ip: bool = False
    #: us, eu, jp; "" where it does not matter
    region: str = ""
    japanese_support: bool = False
    yen_invoice: bool = False

    def within(self, period: str) -> int:
        """The most mails in such a period."""
        match period:
            case Quota.Period.MONTH:
                return self.month
            case Quota.Period.DAY:
                return self.day
            case Quota.Period.HOUR:
                return self.hour
            case _minute:
                return -(-self.hour // 60)


@dataclass(frozen=True, slots=True)
class Offer:
    """A service against a need."""

    service: Service
    #: why it does not do
    against: Sequence[str]
    #: what nobody publishes
    unknown: Sequence[str]
    #: the cheapest plan that carries it, and what it costs a month; None where no price is known
    plan: Plan | None
    cost: Decimal | None
    #: how many mails the price covers is not known: it is the least that it costs
    at_least: bool = False

    @property
    def fits(self) -> bool:
        return not self.against


def monthly(plan: Plan, mails: int) -> Decimal | None:
    """What so many mails a month cost; None when the plan does not carry them."""
    if plan.per_day is not None and mails > plan.per_day * DAYS:
        return None
    over = 0 if is_flat(plan) else max(mails - (plan.included or 0), 0)
    if not over:
        return plan.price
    if plan.per_thousand is None:
        return None
    return plan.price + (plan.per_thousand * over / 1000).quantize(Decimal("0.01"))


def is_flat(plan: Plan) -> bool:
    """One price, whatever is sent: or nobody says what it covers."""
    return plan.included is None and plan.per_thousand is None


def is_open(plan: Plan) -> bool:
    """Nobody says how much it carries."""
    return is_flat(plan) and plan.per_day is None


def carries(plan: Plan, need: Need) -> bool:
    return (plan.per_day is None or need.day <= plan.per_day) and monthly(plan, need.month) is not None


def offer(service: Service, plans: Iterable[Plan], need: Need) -> Offer:
    """The service against the need, with its cheapest plan that does. Plans of one service have one currency."""
    plans = list(plans)
    against, unknown = _limits(service, need), []
    if need.stream == Stream.CAMPAIGN and not service.bulk:
        against.append(_("It is an ordinary mail server, not made for campaigns."))
    wishes: list[tuple[bool, bool | None, str]] = [
        (need.webhooks, service.webhooks, _("bounces reported by callback")),
        (need.dedicated_ip, None if service.dedicated_ip_price is None else True, _("a dedicated IP")),
        (bool(need.region), need.region in service.regions.split() if service.regions else None, _("a data centre in the region")),
        (need.japanese_support, service.japanese_support, _("support in Japanese")),
        (need.yen_invoice, service.yen_invoice, _("an invoice in yen")),
    ]
    for wanted, there, name in wishes:
        if wanted and there is None:
            unknown.append(_("Whether it offers %(wish)s is not known.") % {"wish": name})
        elif wanted and not there:
            against.append(_("It does not offer %(wish)s.") % {"wish": name})
    able = [(is_open(plan), cost, plan) for plan in plans if carries(plan, need) and (cost := monthly(plan, need.month)) is not None]
    if plans and not able:
        against.append(_("No plan with a known price carries so much."))
    at_least, cost, plan = min(able, key=lambda found: found[:2]) if able else (False, None, None)
    if at_least:
        unknown.append(_("How many mails the price covers is not known."))
    if cost is not None and need.dedicated_ip and service.dedicated_ip_price is not None:
        cost += service.dedicated_ip_price
    return Offer(service, against, unknown, plan, cost, at_least)


def _limits(service: Service, need: Need) -> list[str]:
    against = [
        _("It takes %(limit)s a %(period)s, and %(asked)s are wanted.")
        % {"limit": grouped(limit), "period": Quota.Period(period).label, "asked": grouped(need.within(period))}
        for limit, period, _kind in service.limits
        if need.within(period) > limit
    ]
    if service.messages_per_second and need.hour > service.messages_per_second * 3600:
        words = _("It takes %(limit)s a second, and %(asked)s an hour are wanted.")
        against.append(words % {"limit": grouped(service.messages_per_second), "asked": grouped(need.hour)})
    return against


@dataclass(frozen=True, slots=True)
class Rates:
    """Yen for one unit; None where nobody said."""

    usd: Decimal | None = None
    eur: Decimal | None = None

    def yen(self, amount: Decimal, currency: str) -> Decimal | None:
        rate = {"JPY": Decimal(1), "USD": self.usd, "EUR": self.eur}[currency]
        return None if rate is None else amount * rate


def ranked(offers: Iterable[Offer], rates: Rates) -> list[Offer]:
    """What fits first, the cheapest before the dearer, unknown prices last. Without rates each currency stands by itself."""

    def place(found: Offer) -> tuple[bool, int, str, Decimal, str]:
        if found.cost is None or found.plan is None:
            return (not found.fits, 2, "", Decimal(0), found.service.name)
        yen = rates.yen(found.cost, found.plan.currency)
        currency = "" if yen is not None else found.plan.currency
        return (not found.fits, int(found.at_least), currency, found.cost if yen is None else yen, found.service.name)

    return sorted(offers, key=place)
