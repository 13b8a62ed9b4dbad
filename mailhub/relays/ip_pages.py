"""The page of an own address: what the world says of it, and how far its warm-up has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from mailhub.admin import badge
from mailhub.lib import charts, dns
from mailhub.lib.charts import Chart, grouped
from mailhub.relays import blocklists, warmup
from mailhub.relays.models import DedicatedIP, IPCheck, WarmupPlan, WarmupUse, shipped_words
from mailhub.relays.pages import demand
from mailhub.relays.warmup import Step

Verdict = IPCheck.Verdict

TONES = {Verdict.GOOD: "good", Verdict.BAD: "bad", Verdict.UNKNOWN: "quiet"}
# Days of the plan that are shown behind today.
AHEAD = 2
# Ended listings that are shown.
PAST = 20

STEPS = {
    Step.ON: gettext_lazy("As things stand, the next day is day %(next)s: %(cap)s."),
    Step.BACK: gettext_lazy(
        "It goes back to day %(next)s (%(cap)s): receivers refuse mail by the address's reputation. Send to those who read you most."
    ),
    Step.COMPLAINED_BACK: gettext_lazy("It goes back to day %(next)s (%(cap)s): too many called the mail spam."),
    Step.HOLD_UNUSED: gettext_lazy("It stays at day %(next)s (%(cap)s) until %(part)s %% of a day's cap is used."),
    Step.HOLD_DEFERRED: gettext_lazy("It stays at day %(next)s (%(cap)s): receivers put too much off."),
    Step.HOLD_BOUNCED: gettext_lazy("It stays at day %(next)s (%(cap)s): too many addresses do not exist. Clean the lists."),
    Step.HOLD_COMPLAINED: gettext_lazy("It stays at day %(next)s (%(cap)s): more than one in a thousand called the mail spam."),
    Step.WARM: gettext_lazy("It is warm: it may send any number."),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One look-up: a blocklist, or the PTR record."""

    check: IPCheck
    name: str
    badge: SafeString
    #: what is wrong, or why nobody knows
    words: list[str]
    #: where one asks to be taken off
    url: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Track:
    """The warm-up towards one destination, or all."""

    #: what follows on the last day, and why
    words: str
    picture: Chart


def state_badge(ip: DedicatedIP) -> SafeString:
    """Of all that was looked up; expects the checks to be there."""
    checks = list(ip.checks.all())
    listed = sum(check.verdict == Verdict.BAD and check.blocklist_id is not None for check in checks)
    if listed:
        return badge("bad", ngettext("on %(count)s blocklist", "on %(count)s blocklists", listed) % {"count": listed})
    if any(check.verdict == Verdict.BAD for check in checks):
        return badge("warn", _("PTR is wrong"))
    if not checks:
        return badge("quiet", _("not looked up yet"))
    return badge("good", _("in order")) if any(check.verdict == Verdict.GOOD for check in checks) else badge("quiet", _("unknown"))


def overview(ip: DedicatedIP) -> dict[str, Any]:
    checks = list(ip.checks.select_related("blocklist").order_by("blocklist__name"))
    since = dict(ip.listings.filter(until=None).values_list("blocklist_id", "since"))
    return {
        "state": state_badge(ip),
        "ptr": next((_line(check, ip, None) for check in checks if check.blocklist is None), None),
        "blocklists": [_line(check, ip, since.get(check.blocklist_id or 0)) for check in checks if check.blocklist],
        "past": ip.listings.filter(until__isnull=False).select_related("blocklist")[:PAST],
        "tracks": tracks(ip, ip.plan) if ip.plan else [],
    }


def _line(check: IPCheck, ip: DedicatedIP, since: datetime | None) -> Line:
    words = [shipped_words(line) for line in check.reason.splitlines()]
    if check.blocklist is None:
        said = {Verdict.GOOD: _("in order"), Verdict.BAD: _("wrong"), Verdict.UNKNOWN: _("unknown")}
        name, url = check.found or "—", ""
    else:
        said = {Verdict.GOOD: _("not listed"), Verdict.BAD: _("listed"), Verdict.UNKNOWN: _("unknown")}
        name, url = str(check.blocklist), check.blocklist.removal(ip.address) if check.verdict == Verdict.BAD else ""
    verdict = Verdict(check.verdict)
    return Line(check, name, badge(TONES[verdict], said[verdict]), words, url, since)


# --------------------------------------------------------------------------------------------------------------------- warm-up


def tracks(ip: DedicatedIP, plan: WarmupPlan) -> list[Track]:
    uses: dict[str | None, list[WarmupUse]] = {}
    for use in ip.warmups.select_related("destination").order_by("date"):
        uses.setdefault(use.destination_id, []).append(use)
    found = [_track(plan, days) for days in uses.values()]
    return sorted(found, key=lambda track: track.picture.label)


def _track(plan: WarmupPlan, days: Sequence[WarmupUse]) -> Track:
    last = days[-1]
    today = timezone.localdate()
    follows = warmup.step(plan, last)
    day = warmup.next_day(plan, last, max(today, last.date) + timedelta(days=1))
    cap = plan.cap(day)
    about = {"next": day, "cap": _mails(cap), "part": round(100 * warmup.USED)}
    words = _("It is silent for too long, and begins again at day %(next)s: %(cap)s.") % about if _silent(last) else STEPS[follows] % about
    stage = _("warm") if plan.cap(last.day) is None else _("day %(day)s of %(days)s") % {"day": last.day, "days": plan.length}
    name = str(last.destination or _("all together"))
    return Track(words, _picture(_("%(destination)s: %(stage)s") % {"destination": name, "stage": stage}, plan, days, day))


def _silent(last: WarmupUse) -> bool:
    return timezone.localdate() - last.date > warmup.SILENT


def _mails(cap: int | None) -> str:
    if cap is None:
        return _("without a cap")
    return ngettext("%(count)s mail", "%(count)s mails", cap) % {"count": grouped(cap)}


def _picture(label: str, plan: WarmupPlan, days: Sequence[WarmupUse], following: int) -> Chart:
    """What was sent each day, what was left of its cap, and the caps of the days that would follow."""
    parts = [("sent", _("accepted")), ("deferred", _("deferred")), ("bounced", _("refused or bounced")), ("waiting", _("room left"))]
    columns: list[tuple[str, str, Sequence[int]]] = []
    for use in days[-PAST:]:
        room = max((plan.cap(use.day) or 0) - use.taken, 0)
        numbers = (use.accepted, use.deferred, use.refused + use.bounced, room)
        columns.append((date_format(use.date, "j"), date_format(use.date, "DATE_FORMAT"), numbers))
    for day in range(following, min(following + AHEAD, plan.length + 1)):
        columns.append(("+", _("day %(day)s of %(days)s") % {"day": day, "days": plan.length}, (0, 0, 0, plan.cap(day) or 0)))
    return charts.stacked(label, parts, columns)


# ------------------------------------------------------------------------------------------------------------------------ deeds


@require_POST
def look(request: HttpRequest, pk: int) -> HttpResponse:
    """Look the address up now."""
    demand(request, "relays.change_dedicatedip")
    ip = get_object_or_404(DedicatedIP, pk=pk)
    dns.forget()
    blocklists.check(ip)
    messages.success(request, _("“%(address)s” was looked up.") % {"address": ip.address})
    return redirect("admin:relays_dedicatedip_change", pk)
