"""Pictures of numbers over time, drawn as SVG by templates/admin/watching/chart.html."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.utils.formats import number_format
from django.utils.translation import gettext as _

WIDTH, HEIGHT = 40, 200
# Columns with words below them.
LABELS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """For SVG: text, because the language of a page has no say in how that writes numbers."""

    name: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Part:
    """Of a bar that lies and is 1000 wide; text, as with Bar."""

    #: class of the colour
    name: str
    x: str
    width: str


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


def stacked(
    label: str, parts: Sequence[tuple[str, str]], columns: Sequence[tuple[str, str, Sequence[int]]], *, every: int | None = None
) -> Chart:
    """A column for each of (words below it, its name, a number for each of `parts`); `parts`: class of the colour, and what it is. `every`:
    of how many columns one has its words below it; else as many as there is room for."""
    top = ceiling(max((sum(numbers) for _short, _name, numbers in columns), default=0))
    # Words below all of many columns would run into each other.
    every = every or -(-len(columns) // LABELS) or 1
    drawn = []
    for place, (short, name, numbers) in enumerate(columns):
        told = ", ".join(f"{grouped(number)} {words}" for (_tone, words), number in zip(parts, numbers, strict=True))
        heights = [(tone, HEIGHT * number / top) for (tone, _words), number in zip(parts, numbers, strict=True)]
        drawn.append(column(place, "" if place % every else short, f"{name}: {told}", heights))
    return Chart(label, drawn, [grouped(top), grouped(top // 2), "0"], legend=list(parts))


def column(place: int, label: str, title: str, heights: Iterable[tuple[str, float]]) -> Column:
    """Bars on each other from the bottom, those that can be seen: class of the colour, and how high of HEIGHT."""
    bars, y = [], float(HEIGHT)
    for tone, height in heights:
        y -= height
        if height:
            bars.append(Bar(tone, f"{y:.1f}", f"{height:.1f}"))
    return Column(place * WIDTH, label, title, bars)


def shares(parts: Sequence[tuple[str, int]], whole: int = 0) -> list[Part]:
    """Of the bar of a row (admin/mailhub/bar.html): class of the colour, and how many. `whole`: how many fill it, where that is not the
    sum."""
    found, x, whole = [], 0.0, whole or sum(number for _tone, number in parts) or 1
    for tone, number in parts:
        width = 1000 * number / whole
        if width:
            found.append(Part(tone, f"{x:.2f}", f"{width:.2f}"))
        x += width
    return found


def ceiling(most: int) -> int:
    """A round number that nothing exceeds."""
    size = 10 ** max(len(str(most)) - 1, 0)
    return next((round(step * size) for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= most), most) if most > 4 else 4


def grouped(number: float) -> str:
    """1234567 -> "1,234,567", as the language writes it."""
    return number_format(number, decimal_pos=0, force_grouping=True)


def percent(part: int, whole: int) -> str:
    if not whole:
        return "—"
    share = 100 * part / whole
    places = 0 if share in (0, 100) else 2 if share < 1 else 1
    # Rounded first: number_format() cuts off.
    return _("%(percent)s %%") % {"percent": number_format(round(share, places), decimal_pos=places)}
