"""The week that is over, for those who want to know how it was: what became of mail, what was in trouble, and the campaigns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from mailhub.delivery import formats, html, throughput, timeline
from mailhub.delivery.models import Batch
from mailhub.delivery.search import Span, midnight
from mailhub.delivery.throughput import Counts
from mailhub.lib.charts import grouped
from mailhub.relays.models import Relay, Stream
from mailhub.watching import words
from mailhub.watching.models import Alert, Channel, Trouble
from mailhub.watching.rules import plus

# By the site's clock on Monday: most of Sunday's bounces have come back, and people begin to work.
HOUR = 7
WEEK = timedelta(days=7)
# Relays, troubles and campaigns that it names, and batches that are looked through for these.
NAMED, LOOKED_AT = 20, 500


def last(now: datetime) -> date:
    """The Monday with which the last week began of which it is time to tell."""
    day = (timezone.localtime(now) - timedelta(hours=HOUR)).date()
    return day - timedelta(days=day.weekday() + 7)


def make(now: datetime) -> None:
    """Whoever wants it gets it once a week, by the constraint watching_alert_week: late where nobody was at work on Monday."""
    week = last(now)
    without = Channel.objects.filter(active=True, wants_weekly=True).exclude(alerts__week=week)
    Alert.objects.bulk_create(
        [Alert(channel=channel, kind=Alert.Kind.WEEKLY, week=week, made_at=now, due_at=now) for channel in without.defer("url", "secret")],
        ignore_conflicts=True,
    )


def title(week: date) -> str:
    days = {"first": date_format(week, "DATE_FORMAT"), "last": date_format(week + timedelta(days=6), "DATE_FORMAT")}
    return _("The week from %(first)s to %(last)s") % days


@dataclass(frozen=True, slots=True)
class Row:
    """What became of some of the mail, in this week and in the one before."""

    name: str
    now: Counts
    before: Counts

    @property
    def cells(self) -> list[tuple[str, str]]:
        return [(grouped(one), grouped(other)) for one, other in zip(figures(self.now), figures(self.before), strict=True)]


def figures(counts: Counts) -> tuple[int, ...]:
    """In the order of labels()."""
    return counts.accepted, counts.bounced + counts.returned, counts.complained, counts.refused + counts.unanswered


def labels() -> list[str]:
    return [_("accepted"), _("bounced"), _("complaints"), _("refused or no reply")]


@dataclass(frozen=True, slots=True)
class Named:
    """A line with a page of its own, and what there is to say of it."""

    name: str
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Week:
    title: str
    #: all mail first, then each stream and each relay that sent
    rows: list[Row]
    troubles: list[Named]
    campaigns: list[Named]
    #: how many more of each there are than it names
    more_relays: int
    more_troubles: int
    more_campaigns: int
    #: something of it is in trouble still
    in_trouble: bool

    @classmethod
    def of(cls, week: date) -> Week:
        """In the language that is in force."""
        since, until = midnight(week), midnight(week + WEEK)
        # Index delivery_throughput_once: two ranges of it.
        counted = [throughput.between(start, end, "relay_key", "stream") for start, end in ((midnight(week - WEEK), since), (since, until))]
        relays = _relays(*counted)
        troubles = Trouble.objects.filter(Q(closed_at__isnull=True) | Q(closed_at__gte=since), opened_at__lt=until).select_related("rule")
        found = sorted(troubles, key=lambda trouble: (trouble.closed_at is not None, trouble.tone, -trouble.pk))
        batches = Span(since, until).within(Batch.objects.order_by("-pk"), "created_at")[:LOOKED_AT]
        # Those that are somebody's: tests of campaigns are not.
        campaigns = [batch for batch in batches if timeline.origin_of(batch)]
        return cls(
            title(week),
            [*_wholes(*counted), *relays[:NAMED]],
            [_trouble(trouble) for trouble in found[:NAMED]],
            [_campaign(batch) for batch in campaigns[:NAMED]],
            max(0, len(relays) - NAMED),
            max(0, len(found) - NAMED),
            max(0, len(campaigns) - NAMED),
            any(trouble.closed_at is None for trouble in found),
        )

    @property
    def url(self) -> str:
        return words.address("admin:watching_deliverability_changelist") + "?span=week"

    @property
    def tone(self) -> str:
        return "warn" if self.in_trouble else "good"

    @property
    def empty(self) -> bool:
        return not self.rows or not self.rows[0].now.tries

    def lines(self) -> list[str]:
        """Paragraphs for those who read text."""
        said = [_("No mail was sent in this week.")] if self.empty else []
        if self.rows:
            said += ["\n".join([*(_sentence(row) for row in self.rows), *_and_more(self.more_relays), _in_brackets()])]
        said += ["\n".join([_("Troubles of the week"), *_listed(self.troubles, self.more_troubles, _no_trouble())])]
        said += ["\n".join([_("Campaigns of the week"), *_listed(self.campaigns, self.more_campaigns, _no_campaign())])]
        return said

    def html(self) -> str:
        context = {
            "week": self,
            "labels": labels(),
            "parts": [
                (_("Troubles of the week"), self.troubles, _and_more(self.more_troubles), _no_trouble()),
                (_("Campaigns of the week"), self.campaigns, _and_more(self.more_campaigns), _no_campaign()),
            ],
            "more_relays": _and_more(self.more_relays),
            "troubles_url": words.address("admin:watching_trouble_changelist"),
        }
        return html.inlined(formats.SHELL.replace("<!-- content -->", render_to_string("watching/weekly.html", context)))


Counted = dict[tuple[Any, ...], Counts]


def _sum(counted: Iterable[Counts]) -> Counts:
    found = Counts()
    for counts in counted:
        found = plus(found, counts)
    return found


def _wholes(before: Counted, now: Counted) -> list[Row]:
    """All mail, and each stream of it; nothing where neither week had any."""
    streams = [
        Row(str(capfirst(stream.label)), *(_sum(counts for key, counts in part.items() if key[1] == stream) for part in (now, before)))
        for stream in Stream
    ]
    whole = Row(_("All mail"), _sum(now.values()), _sum(before.values()))
    return [row for row in (whole, *streams) if row.now.tries or row.before.tries]


def _relays(before: Counted, now: Counted) -> list[Row]:
    """Those that sent most come first."""
    known = {relay.pk: relay for relay in Relay.objects.only("name")}
    rows = [
        Row(
            _("Through %(relay)s") % {"relay": words.relay_name(known.get(key), key)},
            *(_sum(counts for (relay, _stream), counts in part.items() if relay == key) for part in (now, before)),
        )
        for key in {key[0] for key in (*now, *before)}
    ]
    return sorted(rows, key=lambda row: (-row.now.tries, -row.before.tries, row.name))


def _trouble(trouble: Trouble) -> Named:
    since = date_format(timezone.localtime(trouble.opened_at), "SHORT_DATETIME_FORMAT")
    if trouble.closed_at:
        until = date_format(timezone.localtime(trouble.closed_at), "SHORT_DATETIME_FORMAT")
        lasted = _("from %(since)s until %(until)s") % {"since": since, "until": until}
    else:
        lasted = _("since %(since)s, not good again yet") % {"since": since}
    return Named(words.title(trouble), lasted, words.address("admin:watching_trouble_change", trouble.pk))


def _campaign(batch: Batch) -> Named:
    said = ngettext("%(count)s recipient", "%(count)s recipients", batch.total) % {"count": grouped(batch.total)}
    counts = [
        # Whatever a report told later, a relay had taken these.
        (_("accepted"), batch.sent + batch.delivered + batch.complained),
        (_("delivered"), batch.delivered + batch.complained),
        (_("bounced"), batch.bounced),
        (_("complaints"), batch.complained),
        (_("failed"), batch.failed),
        (_("opened"), batch.opened),
        (_("clicked"), batch.clicked),
    ]
    text = _together([said, *(f"{label} {grouped(number)}" for label, number in counts if number)])
    return Named(batch.name, text, words.address("admin:delivery_batch_change", batch.pk))


# ---------------------------------------------------------------------------------------------------------------- as text


def _together(parts: Iterable[str]) -> str:
    return pgettext("between things", ", ").join(parts)


def _sentence(row: Row) -> str:
    pairs = zip(labels(), row.cells, strict=True)
    cells = (_("%(label)s %(now)s (%(before)s)") % {"label": label, "now": now, "before": before} for label, (now, before) in pairs)
    return _("%(name)s: %(text)s") % {"name": row.name, "text": _together(cells)}


def _listed(named: Sequence[Named], more: int, nothing: str) -> list[str]:
    lines = ["· " + _("%(name)s: %(text)s") % {"name": each.name, "text": each.text} for each in named]
    return [*lines, *_and_more(more)] or [nothing]


def _and_more(count: int) -> list[str]:
    return [_("and %(count)s more") % {"count": grouped(count)}] if count else []


def _in_brackets() -> str:
    return _("In brackets: the week before.")


def _no_trouble() -> str:
    return _("Nothing was in trouble.")


def _no_campaign() -> str:
    return _("None was sent.")
