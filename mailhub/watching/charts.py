"""Pictures of tallies (lib/charts.py): what became of mail, complaints, and the time that it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from mailhub.delivery import throughput
from mailhub.delivery.throughput import BOUNDS, Counts, hour_of
from mailhub.lib import charts
from mailhub.lib.charts import HEIGHT, Chart, ceiling, grouped, percent
from mailhub.watching.rules import plus

# Percent of complaints that Gmail and Yahoo want to see no more than, and from which on they act.
LIKED, BORNE = 0.1, 0.3


@dataclass(frozen=True, slots=True)
class Span:
    key: str
    columns: int
    hours: int

    @property
    def label(self) -> str:
        return {"day": _("24 hours"), "week": _("7 days"), "month": _("30 days")}[self.key]

    def starts(self, now: datetime) -> list[datetime]:
        """Of its columns. Days and their parts begin by the site's clock."""
        end = hour_of(now) + timedelta(hours=1)
        if self.hours > 1:
            local = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
            end = local - timedelta(hours=local.hour % self.hours) + timedelta(hours=self.hours)
        return [end - timedelta(hours=self.hours) * back for back in range(self.columns, 0, -1)]

    def title(self, start: datetime) -> str:
        local = timezone.localtime(start)
        if self.hours == 24:
            return date_format(local, "MONTH_DAY_FORMAT")
        time = date_format(local, "H:i")
        return time if self.hours == 1 else f"{date_format(local, 'MONTH_DAY_FORMAT')}, {time}"

    def short(self, start: datetime) -> str:
        """Below the column; most have nothing there, so that a phone has room for the others."""
        local = timezone.localtime(start)
        if self.hours == 1:
            return date_format(local, "H:i") if local.hour % 4 == 0 else ""
        marked = local.hour < self.hours if self.hours < 24 else local.toordinal() % 5 == 0
        return f"{local.month}/{local.day}" if marked else ""


SPANS = {span.key: span for span in (Span("day", 24, 1), Span("week", 28, 6), Span("month", 30, 24))}


def series(span: Span, now: datetime, **only: Any) -> list[tuple[datetime, Counts]]:
    """A Counts for each column. Index delivery_throughput_once: a range of it."""
    starts = span.starts(now)
    hours = throughput.between(starts[0], now + timedelta(hours=1), "hour", **only)
    found = [(start, Counts()) for start in starts]
    for (hour,), counts in hours.items():
        place = max((place for place, start in enumerate(starts) if start <= hour), default=0)
        found[place] = (starts[place], plus(found[place][1], counts))
    return found


def total(points: Sequence[tuple[datetime, Counts]]) -> Counts:
    found = Counts()
    for _start, counts in points:
        found = plus(found, counts)
    return found


# ------------------------------------------------------------------------------------------------------------------------- charts


def outcomes(span: Span, points: Sequence[tuple[datetime, Counts]]) -> Chart:
    words = {"sent": _("accepted"), "deferred": _("deferred"), "bounced": _("bounced"), "failed": _("refused or no reply")}
    columns = [(span.short(start), span.title(start), [number for _tone, number in by_tone(counts)]) for start, counts in points]
    return charts.stacked(_("What became of the tries"), list(words.items()), columns, every=1)


def by_tone(counts: Counts) -> list[tuple[str, int]]:
    """What became of the tries: class of the colour, and how many."""
    return [
        ("sent", counts.accepted),
        ("deferred", counts.deferred),
        ("bounced", counts.bounced),
        ("failed", counts.refused + counts.unanswered),
    ]


def complaints(span: Span, points: Sequence[tuple[datetime, Counts]]) -> Chart:
    shares = [100 * counts.complained / counts.accepted if counts.accepted else 0.0 for _start, counts in points]
    top = max(0.4, ceiling(round(max(shares) * 1000)) / 1000)
    columns = []
    for place, ((start, counts), share) in enumerate(zip(points, shares, strict=True)):
        words = _("%(time)s: %(complained)s of %(accepted)s accepted, %(percent)s") % {
            "time": span.title(start),
            "complained": grouped(counts.complained),
            "accepted": grouped(counts.accepted),
            "percent": percent(counts.complained, counts.accepted),
        }
        tone = "failed" if share > BORNE else "deferred" if share > LIKED else "sent"
        columns.append(charts.column(place, span.short(start), words, [(tone, HEIGHT * share / top)]))
    lines = [(f"{HEIGHT - HEIGHT * limit / top:.1f}", tone) for limit, tone in ((LIKED, "warn"), (BORNE, "bad"))]
    scale = [f"{number_format(value, decimal_pos=2)} %" for value in (top, top / 2)] + ["0 %"]
    legend = [("warn", _("0.1 %: Gmail and Yahoo want less")), ("bad", _("0.3 %: they act"))]
    return Chart(_("Complaints, by the hour in which the mail was accepted"), columns, scale, lines, legend)


# One step of the scale for each of BOUNDS, and one for what took longer.
STEPS = len(BOUNDS) + 1


def waits(span: Span, points: Sequence[tuple[datetime, Counts]]) -> Chart:
    columns = []
    for place, (start, counts) in enumerate(points):
        half, most = counts.within(0.5), counts.within(0.95)
        words = _("%(time)s: half within %(half)s, 95 %% within %(most)s") % {
            "time": span.title(start),
            "half": lasts(half, counts),
            "most": lasts(most, counts),
        }
        heights = [("plain", _height(half)), ("faint", _height(most) - _height(half))] if counts.accepted else []
        columns.append(charts.column(place, span.short(start), words, heights))
    scale = [_("longer"), *(brief(bound) for bound in reversed(BOUNDS)), ""]
    legend = [("plain", _("half of the mail")), ("faint", _("95 percent of the mail"))]
    return Chart(_("Time until it was accepted"), columns, scale, legend=legend)


def _height(bound: int | None) -> float:
    return HEIGHT * (BOUNDS.index(bound) + 1 if bound else STEPS) / STEPS


# ------------------------------------------------------------------------------------------------------------------------- numbers


def brief(seconds: int) -> str:
    if seconds < 60:
        return _("%(seconds)s s") % {"seconds": seconds}
    if seconds < 3600:
        return _("%(minutes)s min") % {"minutes": seconds // 60}
    return _("%(hours)s h") % {"hours": seconds // 3600}


def lasts(bound: int | None, counts: Counts) -> str:
    """As within() found it."""
    if not counts.accepted:
        return "—"
    return brief(bound) if bound else _("more than a day")
