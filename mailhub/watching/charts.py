"""Pictures of tallies, drawn as SVG by templates/admin/watching/chart.html: what became of mail, complaints, and the time that it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from mailhub.delivery import throughput
from mailhub.delivery.throughput import BOUNDS, Counts, hour_of
from mailhub.watching.rules import plus

WIDTH, HEIGHT = 40, 200
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


@dataclass(frozen=True, slots=True)
class Bar:
    """For SVG: text, because the language of a page has no say in how that writes numbers."""

    name: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Column:
    x: int
    label: str
    title: str
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    label: str
    columns: list[Column]
    #: words at the left, from the top
    scale: list[str]
    #: limits: height and class
    lines: list[tuple[str, str]] = field(default_factory=list)
    #: class of the colour, and what it stands for
    legend: list[tuple[str, str]] = field(default_factory=list)

    @property
    def width(self) -> int:
        return WIDTH * len(self.columns)


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
    top = ceiling(max(counts.tries for _start, counts in points))
    parts: list[tuple[str, str, Callable[[Counts], int]]] = [
        ("sent", _("accepted"), lambda counts: counts.accepted),
        ("deferred", _("deferred"), lambda counts: counts.deferred),
        ("bounced", _("bounced"), lambda counts: counts.bounced),
        ("failed", _("refused or no reply"), lambda counts: counts.refused + counts.unanswered),
    ]
    columns = []
    for place, (start, counts) in enumerate(points):
        words = [f"{grouped(of(counts))} {label}" for _name, label, of in parts]
        bars, y = [], float(HEIGHT)
        for name, _label, of in parts:
            height = HEIGHT * of(counts) / top
            y -= height
            if height:
                bars.append(Bar(name, f"{y:.1f}", f"{height:.1f}"))
        columns.append(Column(place * WIDTH, span.short(start), f"{span.title(start)}: {', '.join(words)}", bars))
    legend = [(name, label) for name, label, _of in parts]
    return Chart(_("What became of the tries"), columns, [grouped(top), grouped(top // 2), "0"], legend=legend)


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
        height = HEIGHT * share / top
        name = "failed" if share > BORNE else "deferred" if share > LIKED else "sent"
        bars = [Bar(name, f"{HEIGHT - height:.1f}", f"{height:.1f}")] if share else []
        columns.append(Column(place * WIDTH, span.short(start), words, bars))
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
        bars, y = [], float(HEIGHT)
        for name, height in heights:
            y -= height
            if height:
                bars.append(Bar(name, f"{y:.1f}", f"{height:.1f}"))
        columns.append(Column(place * WIDTH, span.short(start), words, bars))
    scale = [_("longer"), *(brief(bound) for bound in reversed(BOUNDS)), ""]
    legend = [("plain", _("half of the mail")), ("faint", _("95 percent of the mail"))]
    return Chart(_("Time until it was accepted"), columns, scale, legend=legend)


def _height(bound: int | None) -> float:
    return HEIGHT * (BOUNDS.index(bound) + 1 if bound else STEPS) / STEPS


def parts(counts: Counts) -> list[dict[str, str]]:
    """Of the bar of a row (admin/mailhub/bar.html), which is 1000 wide."""
    found, x = [], 0.0
    whole = counts.tries or 1
    for name, count in (
        ("sent", counts.accepted),
        ("deferred", counts.deferred),
        ("bounced", counts.bounced),
        ("failed", counts.refused + counts.unanswered),
    ):
        width = 1000 * count / whole
        if width:
            found.append({"name": name, "x": f"{x:.2f}", "width": f"{width:.2f}"})
        x += width
    return found


# ------------------------------------------------------------------------------------------------------------------------- numbers


def ceiling(most: int) -> int:
    """A round number that nothing exceeds."""
    size = 10 ** max(len(str(most)) - 1, 0)
    return next((round(step * size) for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= most), most) if most > 4 else 4


def grouped(number: int) -> str:
    return number_format(number, force_grouping=True)


def percent(part: int, whole: int) -> str:
    if not whole:
        return "—"
    share = 100 * part / whole
    places = 0 if share in (0, 100) else 2 if share < 1 else 1
    # Rounded first: number_format() cuts off.
    return _("%(percent)s %%") % {"percent": number_format(round(share, places), decimal_pos=places)}


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
