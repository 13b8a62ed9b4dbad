"""Pages for staff about which relay to use: the advisor, and what was carried month by month."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext
from django.views.decorators.http import require_safe

from mailhub.delivery import advice
from mailhub.delivery.advice import Present
from mailhub.delivery.pages import page
from mailhub.delivery.route_forms import AdviceForm
from mailhub.lib import clock
from mailhub.lib.charts import grouped
from mailhub.relays.costs import Offer, Rates
from mailhub.relays.models import Figures, Plan, Relay, Service, Stream
from mailhub.relays.pages import demand, quota_title, state_badge
from mailhub.relays.services import limits_in_words, money


@require_safe
def advisor(request: HttpRequest) -> HttpResponse:
    demand(request, "relays.view_service")
    demand(request, "relays.view_relay")
    now = clock.now()
    stream = request.GET.get("stream", Stream.CAMPAIGN)
    counted = advice.volume(stream if stream in Stream.values else Stream.CAMPAIGN, now)
    initial = {"stream": stream, "month": counted.month, "day": counted.day, "hour": counted.hour}
    form = AdviceForm(request.GET if "month" in request.GET else None, initial=initial)
    need = form.need() if form.is_valid() else None
    rates = form.rates() if need else Rates()
    offers = advice.offers(need, rates) if need else []
    context: dict[str, Any] = {
        "form": form,
        "counted": counted,
        "present": [_present(found, now) for found in advice.present(need, now)],
        "fit": [_offer(found, rates) for found in offers if found.fits],
        "unfit": [_offer(found, rates) for found in offers if not found.fits],
        "need": need,
    }
    return page(request, "admin/delivery/advisor.html", _("Which relay to use"), Service, **context)


def _present(found: Present, now: Any) -> dict[str, Any]:
    passed = pgettext("between things", ", ").join(quota_title(quota) for quota in found.passed)
    return {
        "relay": found.relay,
        "state": state_badge(found.relay, now),
        "current": found.current,
        "capacity": found.capacity,
        "passed": _("Too little: %(quotas)s.") % {"quotas": passed} if passed else "",
        "until": date_format(found.until, "YEAR_MONTH_FORMAT") if found.until else "",
        "plan": found.plan,
        "cost": money(found.cost, found.plan.currency) if found.plan and found.cost is not None else "",
        "figures": figures(found.plan) if found.plan else "",
        "trend": trend(found.history),
    }


def _offer(found: Offer, rates: Rates) -> dict[str, Any]:
    plan, cost = found.plan, found.cost
    yen = rates.yen(cost, plan.currency) if plan and cost is not None and plan.currency != Plan.Currency.JPY else None
    return {
        "service": found.service,
        "fits": found.fits,
        # What else it may lack does not matter where it does not do anyway.
        "reasons": found.against or found.unknown,
        "at_least": found.at_least,
        "limits": limits_in_words(found.service),
        "plan": plan,
        "cost": money(cost, plan.currency) if plan and cost is not None else "",
        "yen": money(yen.quantize(Decimal(1)), "JPY") if yen is not None else "",
        "figures": figures(plan or found.service),
    }


def figures(row: Figures) -> str:
    """Where a number is from, when it was read, and how far to trust it."""
    as_of = date_format(row.as_of, "DATE_FORMAT") if row.as_of else _("no date")
    words = {"source": row.source or _("no source"), "as_of": as_of, "confidence": row.get_confidence_display()}
    return _("%(source)s; %(as_of)s; confidence: %(confidence)s") % words


def trend(counts: Sequence[int]) -> list[dict[str, str]]:
    """Bars of a picture that is 120 wide and 24 high."""
    top, width = max([*counts, 1]), 120 / len(counts)
    heights = [22 * count / top for count in counts]
    return [
        {"x": f"{at * width + 2:.1f}", "y": f"{24 - height:.1f}", "width": f"{width - 4:.1f}", "height": f"{height:.1f}"}
        for at, height in enumerate(heights)
    ]


@require_safe
def report(request: HttpRequest) -> HttpResponse:
    demand(request, "relays.view_relay")
    now = clock.now()
    starts, rows = advice.report(now)
    known = {found.relay.name: _present(found, now) for found in advice.present(None, now)}
    return page(
        request,
        "admin/delivery/report.html",
        _("Mails a month"),
        Relay,
        months=[(date_format(start, "Y"), date_format(start, "M")) for start in map(timezone.localtime, starts)],
        rows=[
            {
                "row": row,
                "counts": [grouped(load.accepted) for load in row.loads],
                "trend": trend([load.accepted for load in row.loads]),
                "relay": known.get(row.relay),
            }
            for row in rows
        ],
        present=list(known.values()),
    )
